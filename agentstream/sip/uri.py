"""SIP, SIPS and tel URIs (RFC 3261 section 19, RFC 3966); URIs of other schemes are kept whole."""

from __future__ import annotations

import re
from functools import lru_cache
from urllib.parse import unquote_to_bytes

import attrs

from agentstream.errors import RemoteProtocolError
from agentstream.sip.grammar import format_host, parse_host_port

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*")
_FORBIDDEN = re.compile(r"[^!#$%&'()*+,\-./0-9:;=?@A-Z\[\]_a-z~]")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")


REMEMBERED_LENGTH = 128
"""Characters of the longest URI that is kept: a peer decides what is remembered, so it must be little."""


@attrs.frozen
class Uri:
    """One URI.

    :ivar scheme: lower case.
    :ivar user: as received, with its escapes; a tel URI's number. "" where there is none.
    :ivar host: without brackets; "" for schemes other than sip and sips.
    :ivar parameters: (lower-case name, raw value or None), in order.
    :ivar headers: what stands behind ``?``, raw.
    :ivar opaque: all behind the colon, for schemes other than sip, sips and tel.
    """

    scheme: str
    user: str = ""
    host: str = ""
    port: int | None = None
    password: str = ""
    parameters: tuple[tuple[str, str | None], ...] = ()
    headers: str = ""
    opaque: str = ""

    @property
    def user_text(self) -> str:
        """The user part with its escapes undone: what a route is matched against and a bot is told."""
        if "%" not in self.user:
            return self.user
        return unquote_to_bytes(self.user).decode("utf-8", "replace")

    @property
    def is_sip(self) -> bool:
        """Whether the scheme is sip or sips."""
        return self.scheme in ("sip", "sips")

    def parameter(self, name: str) -> str | None:
        """The parameter's value; "" for one without a value, None for one that is not there."""
        for have, value in self.parameters:
            if have == name:
                return value or ""
        return None

    def __str__(self) -> str:
        if self.opaque:
            return f"{self.scheme}:{self.opaque}"
        tail = "".join(f";{name}" if value is None else f";{name}={value}" for name, value in self.parameters)
        if self.scheme == "tel":
            return f"tel:{self.user}{tail}"
        user = self.user + (f":{self.password}" if self.password else "")
        at = "@" if user else ""
        port = "" if self.port is None else f":{self.port}"
        query = f"?{self.headers}" if self.headers else ""
        return f"{self.scheme}:{user}{at}{format_host(self.host)}{port}{tail}{query}"


def parse_uri(text: str) -> Uri:
    """The URI in the text; raises RemoteProtocolError (400) where it is none."""
    # The messages of a call, and the calls of a trunk, say the same few URIs again and again.
    return _remembered(text) if len(text) <= REMEMBERED_LENGTH else _parse(text)


@lru_cache(maxsize=2048)
def _remembered(text: str) -> Uri:
    return _parse(text)


def _parse(text: str) -> Uri:
    scheme, colon, rest = text.partition(":")
    if not colon or not rest or _SCHEME.fullmatch(scheme) is None:
        raise RemoteProtocolError("a URI has no valid scheme", 400)
    if _FORBIDDEN.search(rest) is not None:
        raise RemoteProtocolError("a URI holds a character that URIs must escape", 400)
    scheme = scheme.lower()
    if scheme not in ("sip", "sips", "tel"):
        return Uri(scheme, opaque=rest)
    if "%" in rest and _BAD_ESCAPE.search(rest) is not None:
        raise RemoteProtocolError("a URI holds an escape that is not two hexadecimal digits", 400)
    if scheme == "tel":
        number, _, tail = rest.partition(";")
        if not number:
            raise RemoteProtocolError("a tel URI has no number", 400)
        return Uri(scheme, user=number, parameters=_parse_uri_parameters(tail))
    # The user part may hold ";" and "?" unescaped, what follows it may not hold "@": so the "@" comes first.
    userinfo, at, where = rest.rpartition("@")
    if at and (not userinfo or "@" in userinfo):
        raise RemoteProtocolError("a URI has no valid user part", 400)
    user, _, password = userinfo.partition(":")
    where, _, headers = where.partition("?")
    host_port, _, tail = where.partition(";")
    host, port = parse_host_port(host_port)
    return Uri(scheme, user, host, port, password, _parse_uri_parameters(tail), headers)


def _parse_uri_parameters(text: str) -> tuple[tuple[str, str | None], ...]:
    if not text:
        return ()
    parameters: list[tuple[str, str | None]] = []
    for piece in text.split(";"):
        name, equals, value = piece.partition("=")
        if not name:
            raise RemoteProtocolError("a URI has a parameter without a name", 400)
        parameters.append((name.lower(), value if equals else None))
    return tuple(parameters)
