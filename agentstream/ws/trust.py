"""Whom a ``wss`` connection believes: the system's certificates or those of one file, and the host's name always."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

from OpenSSL.crypto import FILETYPE_PEM, load_certificate
from twisted.internet.ssl import Certificate, optionsForClientTLS, platformTrust, trustRootFromCertificates

from agentstream.errors import StreamFailed

NO_CA_FILE = "The file with the certificates to trust cannot be read."
BAD_CA_FILE = "The file with the certificates to trust holds no certificate in PEM format."
BAD_TLS_HOST = "The host in the URL is not a name that a certificate can be for."

_BEGIN = b"-----BEGIN CERTIFICATE-----"
_END = b"-----END CERTIFICATE-----"


def client_tls(host: str, ca_file: Path | None) -> Any:
    """An IOpenSSLClientConnectionCreator that verifies the chain and the host, be it a name or an address.

    It is kept for each host, because reading certificates would hold up the tick at every call; a file that changes is
    read anew, the system's certificates are not.

    :raises StreamFailed: with one of this module's sentences.
    """
    if ca_file is None:
        return _options(host, None, 0)
    try:
        changed = ca_file.stat().st_mtime_ns
    except OSError:
        raise StreamFailed(NO_CA_FILE) from None
    return _options(host, ca_file, changed)


@lru_cache(maxsize=64)
def _options(host: str, ca_file: Path | None, changed: int) -> Any:
    root = platformTrust() if ca_file is None else trustRootFromCertificates(_certificates(ca_file))
    try:
        return optionsForClientTLS(host, trustRoot=root)
    except (UnicodeError, ValueError):
        raise StreamFailed(BAD_TLS_HOST) from None


def _certificates(ca_file: Path) -> list[Certificate]:
    try:
        text = ca_file.read_bytes()
    except OSError:
        raise StreamFailed(NO_CA_FILE) from None
    blocks = [block.partition(_END)[0] for block in text.split(_BEGIN)[1:]]
    try:
        found = [Certificate(load_certificate(FILETYPE_PEM, _BEGIN + block + _END + b"\n")) for block in blocks]
    except Exception:
        raise StreamFailed(BAD_CA_FILE) from None
    if not found:
        raise StreamFailed(BAD_CA_FILE)
    return found
