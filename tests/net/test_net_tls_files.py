"""The files of [tls]: each way in which they cannot be used is one sentence that says what to do, here and in check."""

from __future__ import annotations

import argparse
import datetime
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from agentstream.cli import check
from agentstream.net.tls import Identity, UnusableFile, read_identity
from tests.certificates import DAY, NOW, Authority, Signed

CONFIG = """\
[sip]
listen = ["tls:5061:interface=127.0.0.1"]
[tls]
certificate = "cert.pem"
key = "key.pem"
"""


@pytest.fixture(scope="module")
def signed() -> Signed:
    return Authority().sign("sip.example.com")


def protected(folder: Path, signed: Signed) -> None:
    key = load_pem_private_key(signed.key, None)
    form = PrivateFormat.PKCS8
    (folder / "key.pem").write_bytes(key.private_bytes(Encoding.PEM, form, BestAvailableEncryption(b"secret words")))


def foreign(folder: Path, signed: Signed) -> None:
    (folder / "key.pem").write_bytes(Authority().sign("sip.example.com").key)


def garbled(folder: Path, signed: Signed) -> None:
    (folder / "key.pem").write_bytes(signed.key[:60] + b"\n-----END PRIVATE KEY-----\n")


def turned_round(folder: Path, signed: Signed) -> None:
    (folder / "cert.pem").write_bytes(signed.authority + signed.certificate)


def no_certificate(folder: Path, signed: Signed) -> None:
    (folder / "cert.pem").write_bytes(signed.key)


def missing(folder: Path, signed: Signed) -> None:
    os.unlink(folder / "key.pem")


def a_folder(folder: Path, signed: Signed) -> None:
    os.unlink(folder / "key.pem")
    (folder / "key.pem").mkdir()


def short(folder: Path, signed: Signed) -> None:
    key = rsa.generate_private_key(65537, 1024)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "sip.example.com")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(NOW - DAY).not_valid_after(NOW + 90 * DAY)
    (folder / "cert.pem").write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM))
    (folder / "key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


@pytest.mark.parametrize(
    ("spoil", "setting", "sentence"),
    [
        (protected, "key", "which a passphrase protects; give a key without one, readable for this user alone"),
        (
            foreign,
            "key",
            "which does not belong to the first certificate in {cert}; give the key",
        ),
        (
            turned_round,
            "key",
            "which does not belong to the first certificate in {cert}; give the key",
        ),
        (garbled, "key", "which holds no private key that can be read; give a PEM file"),
        (no_certificate, "certificate", "which holds no certificate that can be read; give a PEM file"),
        (missing, "key", "which cannot be read"),
        (a_folder, "key", "which cannot be read"),
        (
            short,
            "key",
            "which TLS does not use, or not with this certificate; give RSA of 2048 bits or more, or EC",
        ),
    ],
)
def test_what_cannot_be_used(
    tmp_path: Path,
    signed: Signed,
    capsys: pytest.CaptureFixture[str],
    spoil: Callable[[Path, Signed], None],
    setting: str,
    sentence: str,
) -> None:
    signed.write(tmp_path)
    spoil(tmp_path, signed)
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    with pytest.raises(UnusableFile) as caught:
        read_identity(certificate, key)
    named = certificate if setting == "certificate" else key
    assert str(caught.value).startswith(f"tls.{setting} names {named}, {sentence.format(cert=certificate)}")
    # check says it once, with the config's name before it, and nothing of what the files hold.
    (tmp_path / "flows").mkdir()
    (tmp_path / "agentstream.toml").write_text(CONFIG)
    parser = argparse.ArgumentParser()
    check.add_arguments(parser)
    assert check.run(parser.parse_args([str(tmp_path / "agentstream.toml")])) == 1
    printed = capsys.readouterr().out
    errors = [line for line in printed.splitlines() if line.startswith("error:")]
    assert len(errors) == 1
    assert f"agentstream.toml: tls.{setting}: names {named}, which " in errors[0]
    secret = signed.key.decode().splitlines()[1]
    assert secret not in printed
    assert secret not in str(caught.value)


@pytest.mark.parametrize(
    ("valid", "remark"),
    [
        (90 * DAY, ""),
        (15 * DAY, ""),
        (13 * DAY, "names a certificate that expires on {end}; renew it, which needs no restart"),
        (
            -DAY,
            "names a certificate that expired on {end}: most peers refuse it; put a renewed one there, which needs no"
            " restart",
        ),
    ],
)
def test_dates(tmp_path: Path, capsys: pytest.CaptureFixture[str], valid: datetime.timedelta, remark: str) -> None:
    """An expired certificate is said, and keeps no node from serving calls that need none."""
    identity = read_identity(*Authority().sign("sip.example.com", valid=valid).write(tmp_path))
    sentence = remark.format(end=f"{NOW + valid:%Y-%m-%d %H:%M} UTC")
    assert identity.remark(NOW) == sentence
    (tmp_path / "flows").mkdir()
    (tmp_path / "agentstream.toml").write_text(CONFIG)
    parser = argparse.ArgumentParser()
    check.add_arguments(parser)
    assert check.run(parser.parse_args([str(tmp_path / "agentstream.toml")])) == 0
    warnings = [line for line in capsys.readouterr().out.splitlines() if "tls." in line]
    assert warnings == ([f"warning: {tmp_path}/agentstream.toml: tls.certificate: {sentence}"] if sentence else [])


def test_one_from_the_future(tmp_path: Path, signed: Signed) -> None:
    identity = read_identity(*signed.write(tmp_path))
    assert "is not valid before" in identity.remark(NOW - 200 * DAY)


def test_an_identity_shows_no_key(tmp_path: Path, signed: Signed) -> None:
    identity = read_identity(*signed.write(tmp_path))
    assert isinstance(identity, Identity)
    assert "PKey" not in repr(identity)
