"""TLS for SIP (RFC 3261 section 26.2, RFC 5922): our certificate, and whom we believe.

:class:`Credentials` makes the TLS side of every connection. The files are looked at again for each new connection and
at SIGHUP, so that a renewed certificate needs no restart; connections that are up keep what they began with. What
cannot be used any more changes nothing and is said once.

No message here holds anything that a file holds but names and dates of certificates.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import attrs
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from OpenSSL import SSL
from OpenSSL.crypto import X509
from service_identity import VerificationError
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.internet.ssl import (
    Certificate,
    CertificateOptions,
    TLSVersion,
    optionsForClientTLS,
    platformTrust,
    trustRootFromCertificates,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from agentstream.errors import StartError

SOON = datetime.timedelta(days=14)
"""How long before its end a certificate is spoken of."""


class UnusableFile(StartError):
    """A file of ``[tls]`` that cannot be used.

    :ivar setting: which one. :ivar sentence: why, and what to do, without the setting's name.
    """

    def __init__(self, setting: str, sentence: str) -> None:
        super().__init__(f"tls.{setting} {sentence}")
        self.setting = setting
        self.sentence = sentence


@attrs.frozen
class TlsFiles:
    """The files of ``[tls]``.

    :ivar certificate: our certificate and those between it and its authority, in PEM; None without listeners for TLS.
    :ivar key: its private key, in PEM.
    :ivar ca_file: the authorities that sign for whom we connect to; None is the system's.
    :ivar client_ca_file: those that sign for who connects to us; None asks nobody for a certificate.
    """

    certificate: Path | None = None
    key: Path | None = None
    ca_file: Path | None = None
    client_ca_file: Path | None = None

    def stamp(self) -> tuple[object, ...]:
        """What changes when one of the files does."""
        return tuple(_stamp(path) for path in (self.certificate, self.key, self.ca_file, self.client_ca_file))


def _stamp(path: Path | None) -> object:
    try:
        seen = path.stat() if path is not None else None
    except OSError:
        return None
    return None if seen is None else (seen.st_mtime_ns, seen.st_ino, seen.st_size)


@attrs.frozen
class Identity:
    """A certificate that fits its key.

    :ivar chain: ours first.
    """

    key: Any = attrs.field(repr=False)
    chain: tuple[x509.Certificate, ...]

    def remark(self, now: datetime.datetime) -> str:
        """What an operator should know of its dates, to stand behind its name; "" for nothing."""
        ours = self.chain[0]
        begin, end = ours.not_valid_before_utc, ours.not_valid_after_utc
        if now < begin:
            return f"names a certificate that is not valid before {begin:%Y-%m-%d %H:%M} UTC; look at the clock"
        if now >= end:
            return (
                f"names a certificate that expired on {end:%Y-%m-%d %H:%M} UTC: most peers refuse it;"
                " put a renewed one there, which needs no restart"
            )
        if now + SOON >= end:
            return f"names a certificate that expires on {end:%Y-%m-%d %H:%M} UTC; renew it, which needs no restart"
        return ""


def read_identity(certificate: Path, key: Path) -> Identity:
    """Our certificate with its chain and key; raises UnusableFile."""
    chain = read_certificates("certificate", certificate)
    try:
        # Never asks on a terminal, as OpenSSL by itself does.
        private: Any = load_pem_private_key(_read("key", key), None)
    except TypeError:
        raise UnusableFile(
            "key", f"names {key}, which a passphrase protects; give a key without one, readable for this user alone"
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        raise UnusableFile(
            "key", f"names {key}, which holds no private key that can be read; give a PEM file"
        ) from None
    if not _is_pair(chain[0], private):
        raise UnusableFile(
            "key",
            f"names {key}, which does not belong to the first certificate in {certificate}; give the key that it was"
            " made with, and our own certificate first in its file",
        )
    try:
        context = SSL.Context(SSL.TLS_METHOD)
        context.use_certificate(chain[0])
        context.use_privatekey(private)
    except (TypeError, SSL.Error):
        raise UnusableFile(
            "key",
            f"names {key}, which TLS does not use, or not with this certificate; give RSA of 2048 bits or more, or EC",
        ) from None
    return Identity(private, chain)


def _is_pair(certificate: x509.Certificate, private: Any) -> bool:
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    try:
        theirs = certificate.public_key().public_bytes(*form)
    except (ValueError, UnsupportedAlgorithm):
        return False
    return theirs == bytes(private.public_key().public_bytes(*form))


def read_certificates(setting: str, file: Path) -> tuple[x509.Certificate, ...]:
    """Every certificate in a PEM file, in its order; raises UnusableFile."""
    try:
        return tuple(x509.load_pem_x509_certificates(_read(setting, file)))
    except ValueError:
        raise UnusableFile(
            setting, f"names {file}, which holds no certificate that can be read; give a PEM file"
        ) from None


def _read(setting: str, file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise UnusableFile(
            setting, f"names {file}, which cannot be read ({error.strerror}); let the user of this process read it"
        ) from None


@attrs.frozen(slots=False, eq=False)
class _Read:
    """The files as they were at one moment, made ready for use.

    :ivar identity: None without a certificate of ours.
    """

    identity: Identity | None
    authorities: Any
    client_authorities: Any

    @classmethod
    def read(cls, files: TlsFiles) -> _Read:
        """Raises UnusableFile."""
        identity = None
        if files.certificate is not None and files.key is not None:
            identity = read_identity(files.certificate, files.key)
        return cls(
            identity,
            _trust("ca_file", files.ca_file) or platformTrust(),
            _trust("client_ca_file", files.client_ca_file),
        )

    @cached_property
    def server(self) -> Any:
        """The OpenSSL context of connections that are accepted."""
        made = CertificateOptions(**self._ours(), trustRoot=self.client_authorities, raiseMinimumTo=TLSVersion.TLSv1_2)
        return made.getContext()

    def client(self, name: str) -> Any:
        """The IOpenSSLClientConnectionCreator of a connection to whom this name or address belongs."""
        more: dict[str, Any] = {"raiseMinimumTo": TLSVersion.TLSv1_2}
        if self.identity is not None:
            # Who accepts may want to know who we are.
            more.update(self._ours())
        return optionsForClientTLS(name, self.authorities, extraCertificateOptions=more)

    def _ours(self) -> dict[str, Any]:
        assert self.identity is not None
        ours, *between = self.identity.chain
        return {"privateKey": self.identity.key, "certificate": ours, "extraCertChain": between}


def _trust(setting: str, file: Path | None) -> Any:
    if file is None:
        return None
    found = read_certificates(setting, file)
    return trustRootFromCertificates([Certificate(X509.from_cryptography(one)) for one in found])


def why_not_secured(failure: Failure) -> str:
    """Why a connection ended before it was secured, in a few words for the log."""
    if failure.check(VerificationError):
        return "its certificate is for another name"
    error = failure.value
    if isinstance(error, SSL.Error):
        reasons = error.args[0] if error.args else ()
        # The last of OpenSSL's own words is what it came to; those before it differ from release to release.
        words = reasons[-1][-1] if isinstance(reasons, list) and reasons else ""
        return f"TLS failed ({words})" if words else "TLS failed"
    return "it was closed within the TLS handshake"


@implementer(IOpenSSLServerConnectionCreator)
class Credentials:
    """The TLS of every SIP connection of one node.

    :param said: told, as one sentence, what a changed file is no good for.
    :ivar reads: how often the files have been read.
    """

    def __init__(self, files: TlsFiles, said: Callable[[str], None]) -> None:
        """Raises UnusableFile."""
        self._files = files
        self._said = said
        self._stamp = files.stamp()
        self._use(_Read.read(files))
        self.reads = 1

    def _use(self, read: _Read) -> None:
        self._read = read
        if read.identity is not None:
            _ = read.server  # now, and not within somebody's handshake
        self._client = lru_cache(maxsize=256)(read.client)

    @property
    def identity(self) -> Identity | None:
        """Ours, as the next connection shows it."""
        return self._read.identity

    def refresh(self) -> bool:
        """Read the files again where one of them has changed; whether there is something new."""
        stamp = self._files.stamp()
        if stamp == self._stamp:
            return False
        self._stamp = stamp
        try:
            read = _Read.read(self._files)
        except UnusableFile as error:
            self._said(f"{error}; what was read before goes on")
            return False
        self.reads += 1
        self._use(read)
        return True

    def serverConnectionForTLS(self, protocol: Any) -> SSL.Connection:
        """IOpenSSLServerConnectionCreator."""
        self.refresh()
        return SSL.Connection(self._read.server, None)

    def client(self, name: str) -> Any:
        """The IOpenSSLClientConnectionCreator for a connection to this name or address. ValueError for what no
        certificate can be for."""
        self.refresh()
        return self._client(name)
