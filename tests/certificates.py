"""Certificates made on the spot: an authority, and what it signs."""

from __future__ import annotations

import datetime
import ipaddress
from pathlib import Path

import attrs
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

NOW = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
DAY = datetime.timedelta(days=1)


@attrs.frozen
class Signed:
    """A certificate with its key, in PEM.

    :ivar authority: the certificate of who signed it.
    """

    certificate: bytes
    key: bytes = attrs.field(repr=False)
    authority: bytes

    def write(self, folder: Path) -> tuple[Path, Path]:
        """The files of both, with the authority's certificate behind ours."""
        certificate, key = folder / "cert.pem", folder / "key.pem"
        certificate.write_bytes(self.certificate + self.authority)
        key.write_bytes(self.key)
        return certificate, key


class Authority:
    """Signs certificates."""

    def __init__(self, name: str = "an authority") -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        extension = x509.BasicConstraints(ca=True, path_length=None)
        self.pem = self._sign(self._name, self._key, 365 * DAY, extension).public_bytes(Encoding.PEM)

    def sign(self, *names: str, valid: datetime.timedelta = 90 * DAY) -> Signed:
        """A certificate for these names and addresses; a negative ``valid`` has expired."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, names[0])])
        certificate = self._sign(subject, key, valid, x509.SubjectAlternativeName([_name(name) for name in names]))
        written = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return Signed(certificate.public_bytes(Encoding.PEM), written, self.pem)

    def _sign(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, valid: datetime.timedelta, extension: object
    ) -> x509.Certificate:
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(self._name).public_key(key.public_key())
        builder = builder.serial_number(x509.random_serial_number())
        builder = builder.not_valid_before(NOW - 100 * DAY).not_valid_after(NOW + valid)
        assert isinstance(extension, x509.ExtensionType)
        return builder.add_extension(extension, critical=False).sign(self._key, hashes.SHA256())


def _name(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)
