"""Header fields: the ordered collection of a message, and the parsed form of those that the stack reads.

Values are parsed when somebody asks, never at arrival (see :mod:`agentstream.sip.message`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import attrs

from agentstream.errors import RemoteProtocolError
from agentstream.sip.grammar import (
    end_of_quoted,
    format_host,
    is_token,
    parse_host_port,
    parse_number,
    parse_parameters,
    quote,
    split_outside,
    unquote,
)
from agentstream.sip.uri import Uri, parse_uri

COMPACT = {
    "a": "accept-contact",
    "b": "referred-by",
    "c": "content-type",
    "d": "request-disposition",
    "e": "content-encoding",
    "f": "from",
    "i": "call-id",
    "j": "reject-contact",
    "k": "supported",
    "l": "content-length",
    "m": "contact",
    "n": "identity-info",
    "o": "event",
    "r": "refer-to",
    "s": "subject",
    "t": "to",
    "u": "allow-events",
    "v": "via",
    "x": "session-expires",
    "y": "identity",
}
"""Compact forms (RFC 3261 section 7.3.3 and the registry) to lower-case long names."""

_USUAL = (
    "Via Max-Forwards From To Call-ID CSeq Contact Content-Type Content-Length Allow Supported Require User-Agent"
    " Server Record-Route Route Accept Expires Reason Warning Timestamp Authorization Proxy-Authorization"
    " P-Asserted-Identity Allow-Events Content-Disposition Content-Encoding Date Diversion Min-SE Privacy"
    " Session-Expires Subject"
)
KEYS = COMPACT | {spelling: name.lower() for name in _USUAL.split() for spelling in (name, name.lower())}
"""The look-up key of names as they are written most often; :func:`key_of` makes those of the others."""


def key_of(name: str) -> str:
    """What a header name is looked up by: lower case, in its long form."""
    key = KEYS.get(name)
    if key is None:
        key = name.lower()
        key = COMPACT.get(key, key)
    return key


class Headers:
    """The header fields of one message in order, with names as received; look-ups ignore case, know short forms."""

    __slots__ = ("_index", "_items")

    def __init__(self, items: Iterable[tuple[str, str]] = ()) -> None:
        self._items: list[tuple[str, str]] = []
        self._index: dict[str, list[str]] = {}
        for name, value in items:
            self.add(name, value)

    def add(self, name: str, value: str) -> None:
        """Append one field."""
        self._items.append((name, value))
        key = key_of(name)
        values = self._index.get(key)
        if values is None:
            self._index[key] = [value]
        else:
            values.append(value)

    def get(self, name: str, default: str | None = None) -> str | None:
        """The first field of that name, unparsed."""
        values = self._index.get(key_of(name))
        return values[0] if values else default

    def get_all(self, name: str) -> list[str]:
        """Every field of that name, in order, unparsed."""
        return list(self._index.get(key_of(name), ()))

    def values_of(self, name: str) -> list[str]:
        """The members of a comma-separated list header over all its fields; empty members are left out."""
        values = self._index.get(key_of(name), ())
        return [part for value in values for part in split_outside(value, ",") if part]

    def tokens_of(self, name: str) -> list[str]:
        """The members of a list header in lower case, without their parameters."""
        return [part.partition(";")[0].strip().lower() for part in self.values_of(name)]

    def items(self) -> list[tuple[str, str]]:
        """(name as received, value) in order."""
        return list(self._items)

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self._items)

    def __contains__(self, name: str) -> bool:
        return key_of(name) in self._index

    def __len__(self) -> int:
        return len(self._items)


@attrs.frozen
class NameAddr:
    """The value of From, To, Contact, Route (RFC 3261 section 20.10).

    :ivar display: the display name, unquoted.
    :ivar parameters: the header's parameters, not the URI's.
    """

    uri: Uri
    display: str = ""
    parameters: dict[str, str | None] = attrs.field(factory=dict)

    @property
    def tag(self) -> str:
        """The tag; "" where there is none."""
        return self.parameters.get("tag") or ""

    def __str__(self) -> str:
        name = f"{quote(self.display)} " if self.display else ""
        tail = "".join(f";{key}" if value is None else f";{key}={value}" for key, value in self.parameters.items())
        return f"{name}<{self.uri}>{tail}"


def parse_name_addr(text: str) -> NameAddr:
    """``"name" <uri>;parameters``, ``name <uri>`` or ``uri;parameters``.

    Two liberties of RFC 4475 are taken: spaces inside the brackets (3.1.2.14), and a display name that ought to have
    been quoted (3.1.2.15). Both are what phones send.
    """
    text = text.strip()
    if text.startswith('"'):
        end = end_of_quoted(text, 0)
        display = unquote(text[:end])
        rest = text[end:].lstrip()
        if not rest.startswith("<"):
            raise RemoteProtocolError("a display name is not followed by a URI in angle brackets", 400)
        opening = 0
    else:
        display = ""
        rest = text
        opening = text.find("<")
        semicolon = text.find(";")
        if opening >= 0 and 0 <= semicolon < opening:
            opening = -1
        if opening < 0:
            uri_text, semi, tail = text.partition(";")
            if "?" in uri_text or "," in uri_text:
                # RFC 3261 section 20.10: "if the URI contains a comma, question mark or semicolon, the URI MUST be
                # enclosed in angle brackets".
                raise RemoteProtocolError("a URI that needs angle brackets has none", 400)
            return NameAddr(parse_uri(uri_text.strip()), "", _checked(parse_parameters(semi + tail)))
        display = text[:opening].strip()
    closing = rest.find(">", opening)
    if closing < 0:
        raise RemoteProtocolError("an angle bracket is not closed", 400)
    uri = parse_uri(rest[opening + 1 : closing].strip())
    return NameAddr(uri, display, _checked(parse_parameters(rest[closing + 1 :].strip())))


def _checked(parameters: dict[str, str | None]) -> dict[str, str | None]:
    """Tags become keys of tables and come back on the wire, so they must be tokens."""
    if "tag" in parameters and not is_token(parameters["tag"] or ""):
        raise RemoteProtocolError("a tag is not a token", 400)
    return parameters


@attrs.frozen
class Via:
    """One Via value (RFC 3261 section 20.42)."""

    transport: str
    host: str
    port: int | None
    parameters: dict[str, str | None]

    @property
    def branch(self) -> str:
        """The branch; "" where there is none (RFC 2543)."""
        return self.parameters.get("branch") or ""

    @property
    def sent_by(self) -> str:
        """Host and port as one key."""
        return f"{format_host(self.host.lower())}:{self.port or ''}"


def parse_via(text: str) -> Via:
    """One Via value; white space is allowed around every slash (RFC 3261 section 25.1, RFC 4475 3.1.1.1)."""
    protocol, parameters = text, ""
    semicolon = text.find(";")
    if semicolon >= 0:
        protocol, parameters = text[:semicolon], text[semicolon:]
    pieces = protocol.split("/")
    if len(pieces) != 3 or pieces[0].strip().upper() != "SIP" or pieces[1].strip() != "2.0":
        raise RemoteProtocolError("a Via does not begin with SIP/2.0 and a transport", 400)
    words = pieces[2].split(None, 1)
    if len(words) != 2 or not is_token(words[0]):
        raise RemoteProtocolError("a Via has no transport and sent-by", 400)
    host, port = parse_host_port(words[1].strip())
    return Via(words[0].upper(), host, port, parse_parameters(parameters))


def stamp_via(text: str, host: str, port: int) -> str:
    """The Via value with ``received`` and ``rport`` as RFC 3261 section 18.2.1 and RFC 3581 section 4 want them.

    ``received`` always says what we saw, also where the client wrote one of its own.
    """
    pieces = split_outside(text, ";")
    kept = [pieces[0]]
    wants_port = False
    for piece in pieces[1:]:
        name = piece.partition("=")[0].strip().lower()
        if name == "rport":
            wants_port = True
        elif name != "received":
            kept.append(piece)
    kept.append(f"received={host}")
    if wants_port:
        kept.append(f"rport={port}")
    return ";".join(kept)


@attrs.frozen
class CSeq:
    """Sequence number (below 2**31) and method."""

    number: int
    method: str


def parse_cseq(text: str) -> CSeq:
    """RFC 3261 section 20.16."""
    words = text.split()
    number = parse_number(words[0], 2**31 - 1) if len(words) == 2 else None
    if number is None:
        raise RemoteProtocolError("the CSeq is not a number below 2**31 and a method", 400)
    return CSeq(number, words[1])


@attrs.frozen
class Reason:
    """Why a request was sent (RFC 3326).

    :ivar protocol: ``SIP`` or ``Q.850``, as received.
    :ivar cause: the status or cause number; 0 where there is none.
    """

    protocol: str
    cause: int = 0
    text: str = ""

    def __str__(self) -> str:
        """The sentence for the operator."""
        return self.text or f"{self.protocol} {self.cause}".strip()


def parse_reason(text: str) -> Reason:
    """One Reason value."""
    protocol, semicolon, tail = text.partition(";")
    parameters = parse_parameters(semicolon + tail)
    cause = parse_number(parameters.get("cause") or "", 999) or 0
    return Reason(protocol.strip(), cause, unquote(parameters.get("text") or ""))


def format_reason(text: str, protocol: str = "Q.850", cause: int = 16) -> str:
    """A Reason value of ours; 16 is Q.850's normal call clearing."""
    return f"{protocol};cause={cause};text={quote(text)}"


def format_warning(text: str, agent: str, code: int = 399) -> str:
    """A Warning value (RFC 3261 section 20.43)."""
    return f"{code} {agent} {quote(text)}"
