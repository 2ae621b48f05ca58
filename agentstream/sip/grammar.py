"""The lexical rules of RFC 3261 section 25 that more than one file needs.

Everything here is linear in its input: no expression that can backtrack, no recursion. What does not fit raises
:class:`~agentstream.errors.RemoteProtocolError` with status 400 and nothing else.
"""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache

from agentstream.errors import RemoteProtocolError

_TOKEN = re.compile(r"[A-Za-z0-9\-.!%*_+`'~]+")
_HOST_NAME = re.compile(r"[A-Za-z0-9\-._]+")
_THREE_COLONS = re.compile(r":::(\d+\.\d+\.\d+\.\d+)\Z", re.ASCII)
"""What the grammar of RFC 3261 makes of an IPv4 address behind "::"; RFC 5118 section 4.10: "an implementation must
tolerate both"."""
_WARNING_UNSAFE = re.compile(r"[\x00-\x1f\x7f]")


def is_token(text: str) -> bool:
    """Whether the text is a ``token`` (RFC 3261 section 25.1)."""
    return _TOKEN.fullmatch(text) is not None


def parse_number(text: str, limit: int) -> int | None:
    """The decimal number in the text if it is one and at most ``limit``, else None.

    ``str.isdigit`` alone would let other alphabets' digits through, and ``int`` refuses thousands of digits.
    """
    if not text.isascii() or not text.isdigit():
        return None
    text = text.lstrip("0") or "0"
    if len(text) > 20:
        return None
    number = int(text)
    return number if number <= limit else None


def quote(text: str) -> str:
    """The text as a ``quoted-string`` of one line."""
    text = _WARNING_UNSAFE.sub(" ", text)
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def unquote(text: str) -> str:
    """The content of a ``quoted-string``; any other text as it is."""
    if len(text) < 2 or text[0] != '"' or text[-1] != '"':
        return text
    text = text[1:-1]
    if "\\" not in text:
        return text
    out: list[str] = []
    is_escaped = False
    for character in text:
        if not is_escaped and character == "\\":
            is_escaped = True
            continue
        is_escaped = False
        out.append(character)
    return "".join(out)


def end_of_quoted(text: str, start: int) -> int:
    """The index behind the closing quote of the quoted string that opens at ``start``."""
    index = start + 1
    while True:
        close = text.find('"', index)
        if close < 0:
            raise RemoteProtocolError("a quoted string has no closing quote", 400)
        backslashes = 0
        while close - 1 - backslashes > start and text[close - 1 - backslashes] == "\\":
            backslashes += 1
        if backslashes % 2 == 0:
            return close + 1
        index = close + 1


def split_outside(text: str, separator: str) -> list[str]:
    """Split at the separator where it stands outside quoted strings and angle brackets; parts are stripped."""
    if '"' not in text and "<" not in text:
        return [part.strip() for part in text.split(separator)]
    parts: list[str] = []
    start = index = 0
    length = len(text)
    while index < length:
        character = text[index]
        if character == '"':
            index = end_of_quoted(text, index)
            continue
        if character == "<":
            close = text.find(">", index)
            if close < 0:
                raise RemoteProtocolError("an angle bracket is not closed", 400)
            index = close + 1
            continue
        if character == separator:
            parts.append(text[start:index].strip())
            start = index + 1
        index += 1
    parts.append(text[start:].strip())
    return parts


def parse_parameters(text: str) -> dict[str, str | None]:
    """``;name=value;name`` as a dict with lower-case names; values raw, None where there is no ``=``.

    The first of two parameters with one name counts.
    """
    parameters: dict[str, str | None] = {}
    if not text:
        return parameters
    pieces = split_outside(text, ";")
    if pieces[0]:
        raise RemoteProtocolError("a parameter list does not begin with a semicolon", 400)
    for piece in pieces[1:]:
        name, equals, value = piece.partition("=")
        name = name.strip().lower()
        if not is_token(name):
            raise RemoteProtocolError("a parameter has no valid name", 400)
        parameters.setdefault(name, value.strip() if equals else None)
    return parameters


def parse_host_port(text: str) -> tuple[str, int | None]:
    """``host``, ``host:port``, ``[v6]:port``; an IPv6 address comes back without brackets."""
    if text.startswith("["):
        literal, bracket, rest = text[1:].partition("]")
        if not bracket:
            raise RemoteProtocolError("an IPv6 address has no closing bracket", 400)
        try:
            host = str(ipaddress.IPv6Address(_THREE_COLONS.sub(r"::\1", literal)))
        except ValueError:
            raise RemoteProtocolError("the brackets hold no IPv6 address", 400) from None
        if "%" in host:
            raise RemoteProtocolError("an IPv6 address has a zone", 400)
        rest = rest.strip()
    else:
        host, colon, port_text = text.partition(":")
        host = host.strip()
        rest = colon + port_text
        if _HOST_NAME.fullmatch(host) is None:
            raise RemoteProtocolError("the host is neither a name nor an address", 400)
    if not rest:
        return host, None
    port = parse_number(rest[1:].strip(), 65535) if rest[0] == ":" else None
    if not port:
        raise RemoteProtocolError("the port is not a number from 1 to 65535", 400)
    return host, port


def format_host(host: str) -> str:
    """The host as URIs and Via spell it: IPv6 addresses in brackets."""
    return f"[{host}]" if ":" in host else host


@lru_cache(maxsize=1024)
def parse_address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The IPv4 or IPv6 literal (without brackets or zone), None where it is none. The same few come again and again."""
    try:
        return ipaddress.ip_address(host) if "%" not in host else None
    except ValueError:
        return None


def is_ip_address(host: str) -> bool:
    """Whether the host is an IPv4 or IPv6 literal (without brackets)."""
    return parse_address(host) is not None


def plain_host(host: str) -> str:
    """An IPv4 address that came by an IPv6 socket, as IPv4: that is how address lists say it."""
    return host[7:] if host.startswith("::ffff:") and "." in host else host


def printable(text: str, most: int = 128) -> str:
    """What a peer chose, for a line of a log: no control characters, and not too much of it."""
    shown = "".join(character if character.isprintable() else "?" for character in text[:most])
    return shown if len(text) <= most else f"{shown}..."
