"""The URL of a bot, or of who knows it: split here and not by a library, which drops credentials without a word.

Every refusal is a fixed sentence without any part of the URL in it, because a URL may hold a password.
"""

from __future__ import annotations

import base64
from urllib.parse import unquote_to_bytes

import attrs

from agentstream.config.hidden import without_secrets
from agentstream.errors import StreamFailed

NOT_ASCII = "The URL holds characters beyond ASCII: write them percent-encoded."
CONTROL_OR_SPACE = "The URL holds a space or a control character: write it percent-encoded."
FRAGMENT = "The URL has a fragment (#...), which it may not have."
BAD_SCHEME = "The URL must begin with ws:// or wss://."
BAD_HTTP_SCHEME = "The URL must begin with http:// or https://."
NO_HOST = "The URL names no host."
BAD_HOST = "The host in the URL is not a host name or an address."
BAD_PORT = "The port in the URL is not a number from 1 to 65535."
BAD_USERINFO = "The user name and password in the URL may hold neither control characters nor a colon in the user name."

_DEFAULT_PORTS = {"ws": 80, "wss": 443, "http": 80, "https": 443}
_HOST_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~")
_IPV6_CHARACTERS = frozenset("0123456789abcdefABCDEF:.")


@attrs.frozen
class StreamUrl:
    """Where a bot listens, or a server that answers with where.

    :ivar scheme: ``ws``, ``wss``, ``http`` or ``https``.
    :ivar host: a name or an address, an IPv6 address without its brackets.
    :ivar port: 1 to 65535.
    :ivar resource: path and query, byte for byte as they were written; a missing path is ``/``.
    :ivar query: the query alone, without its question mark.
    :ivar authorization: the value of the Authorization header, "" without credentials. Never to be logged.
    """

    scheme: str
    host: str
    port: int
    resource: str = attrs.field(repr=False)
    query: str = attrs.field(repr=False)
    authorization: str = attrs.field(default="", repr=False)

    @property
    def is_secure(self) -> bool:
        """TLS is spoken."""
        return self.scheme in ("wss", "https")

    @property
    def host_header(self) -> str:
        """The host as the Host header and a URL write it."""
        return f"[{self.host}]" if ":" in self.host else self.host

    @property
    def public(self) -> str:
        """The URL without credentials, as its server is asked for it. Not for logs: its query may hold a key."""
        port = "" if self.port == _DEFAULT_PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{self.host_header}{port}{self.resource}"

    @property
    def shown(self) -> str:
        """What logs and reports may say of it."""
        return without_secrets(self.public)


def split_url(url: str) -> StreamUrl:
    """Split a bot's URL (RFC 6455 section 3).

    :raises StreamFailed: with one of this module's sentences.
    """
    return _split(url, ("ws", "wss"), BAD_SCHEME)


def split_http_url(url: str) -> StreamUrl:
    """Split the URL of a server that is asked for a bot's URL.

    :raises StreamFailed: with one of this module's sentences.
    """
    return _split(url, ("http", "https"), BAD_HTTP_SCHEME)


def is_http_url(url: str) -> bool:
    """It is to be asked for the bot's URL, and is none itself."""
    return url.partition("://")[0].lower() in ("http", "https")


def _split(url: str, schemes: tuple[str, ...], wrong_scheme: str) -> StreamUrl:
    if not url.isascii():
        raise StreamFailed(NOT_ASCII)
    if any(character <= " " or character == "\x7f" for character in url):
        raise StreamFailed(CONTROL_OR_SPACE)
    if "#" in url:
        raise StreamFailed(FRAGMENT)
    scheme, separator, rest = url.partition("://")
    scheme = scheme.lower()
    if not separator or scheme not in schemes:
        raise StreamFailed(wrong_scheme)
    end = min((at for at in (rest.find("/"), rest.find("?")) if at >= 0), default=len(rest))
    authority, resource = rest[:end], rest[end:]
    if not resource.startswith("/"):
        resource = "/" + resource
    userinfo, at_sign, host_port = authority.rpartition("@")
    host, port = _split_host(host_port, _DEFAULT_PORTS[scheme])
    return StreamUrl(
        scheme=scheme,
        host=host,
        port=port,
        resource=resource,
        query=resource.partition("?")[2],
        authorization=_basic(userinfo) if at_sign else "",
    )


def _split_host(host_port: str, default_port: int) -> tuple[str, int]:
    if host_port.startswith("["):
        host, bracket, rest = host_port[1:].partition("]")
        allowed = _IPV6_CHARACTERS
        if not bracket or (rest and not rest.startswith(":")):
            raise StreamFailed(BAD_HOST)
        port = rest[1:]
    else:
        host, _, port = host_port.partition(":")
        allowed = _HOST_CHARACTERS
    if not host:
        raise StreamFailed(NO_HOST)
    if not allowed.issuperset(host):
        raise StreamFailed(BAD_HOST)
    if not port:
        return host, default_port
    if not port.isdigit() or len(port) > 5 or not 1 <= int(port) <= 65535:
        raise StreamFailed(BAD_PORT)
    return host, int(port)


def _basic(userinfo: str) -> str:
    """The value of a Basic Authorization header (RFC 7617) for ``user:password``, percent-encoded as URLs have it."""
    user, _, password = userinfo.partition(":")
    name, secret = unquote_to_bytes(user), unquote_to_bytes(password)
    if b":" in name or any(byte < 0x20 or byte == 0x7F for byte in name + secret):
        raise StreamFailed(BAD_USERINFO)
    return "Basic " + base64.b64encode(name + b":" + secret).decode("ascii")
