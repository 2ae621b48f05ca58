"""Session descriptions: bytes to values and back (RFC 4566, RFC 8866).

Kept is what offer/answer needs; lines of other types are read over. Numbers of payload types mean nothing here but
what their own ``a=rtpmap`` says (:mod:`agentstream.sdp.negotiation` knows the static ones).
"""

from __future__ import annotations

import ipaddress

import attrs

from agentstream.errors import RemoteProtocolError

SIZE_LIMIT = 16_384
MEDIA_LIMIT = 32

Attributes = tuple[tuple[str, str | None], ...]
UNBOUNDED = "0 0"
DIRECTIONS = ("sendrecv", "sendonly", "recvonly", "inactive")


@attrs.frozen
class Connection:
    """A ``c=`` line.

    :ivar address: as written, without TTL; an IPv4 or IPv6 address, or a name.
    :ivar address_type: ``IP4`` or ``IP6``.
    """

    address: str
    address_type: str = "IP4"


@attrs.frozen
class Origin:
    """The ``o=`` line; what others' contains besides the numbers is kept as it came."""

    session_id: int
    version: int
    address: str
    username: str = "-"
    address_type: str = "IP4"


@attrs.frozen
class MediaDescription:
    """One ``m=`` line with what belongs to it.

    :ivar kind: ``audio``, ``video``, ...
    :ivar formats: as written, in order of preference; payload types for RTP.
    :ivar attributes: (name, value or None) in order.
    """

    kind: str
    port: int
    protocol: str
    formats: tuple[str, ...]
    connection: Connection | None = None
    attributes: Attributes = ()

    def attribute(self, name: str) -> str | None:
        """The first attribute's value; "" for one without a value, None where there is none."""
        return _find(self.attributes, name)

    def payload_attribute(self, name: str, payload_type: str) -> str | None:
        """The value of ``a=rtpmap`` or ``a=fmtp`` for one payload type, without the number."""
        for have, value in self.attributes:
            if have == name and value is not None:
                number, _, rest = value.partition(" ")
                if number == payload_type:
                    return rest.strip()
        return None

    @property
    def direction(self) -> str | None:
        """The direction at media level, None where it is not said."""
        return _direction(self.attributes)


@attrs.frozen
class SessionDescription:
    """One session description.

    :ivar time: the first ``t=`` line: two numbers, "0 0" for a session without bounds.
    """

    origin: Origin
    media: tuple[MediaDescription, ...] = ()
    name: str = "-"
    connection: Connection | None = None
    attributes: Attributes = ()
    time: str = UNBOUNDED

    @property
    def direction(self) -> str | None:
        """The direction at session level, None where it is not said."""
        return _direction(self.attributes)

    def serialise(self) -> bytes:
        """The description's bytes, in the order of RFC 8866 section 5."""
        origin = self.origin
        lines = [
            "v=0",
            f"o={origin.username} {origin.session_id} {origin.version} IN {origin.address_type} {origin.address}",
            f"s={self.name}",
        ]
        if self.connection is not None:
            lines.append(f"c=IN {self.connection.address_type} {self.connection.address}")
        lines.append(f"t={self.time}")
        lines += [_format_attribute(name, value) for name, value in self.attributes]
        for media in self.media:
            lines.append(f"m={media.kind} {media.port} {media.protocol} {' '.join(media.formats)}")
            if media.connection is not None:
                lines.append(f"c=IN {media.connection.address_type} {media.connection.address}")
            lines += [_format_attribute(name, value) for name, value in media.attributes]
        return ("\r\n".join(lines) + "\r\n").encode("utf-8", "replace")


def parse(data: bytes) -> SessionDescription:
    """Read a session description; raises RemoteProtocolError (400) and nothing else.

    Read generously, as phones write: bare line feeds, a missing ``s=``, no ``t=``, spaces at line ends.
    """
    if len(data) > SIZE_LIMIT:
        raise RemoteProtocolError("the session description is longer than 16 kB", 400)
    lines = data.decode("utf-8", "replace").replace("\r\n", "\n").split("\n")
    if lines[0].strip() != "v=0":
        raise RemoteProtocolError("the session description does not begin with v=0", 400)
    origin: Origin | None = None
    name = "-"
    time = ""
    connection: Connection | None = None
    attributes: list[tuple[str, str | None]] = []
    media: list[_OpenMedia] = []
    for line in lines[1:]:
        line = line.rstrip()
        if not line:
            continue
        if line[1:2] != "=":
            raise RemoteProtocolError("a line of the session description is not a letter and an equals sign", 400)
        kind, value = line[0], line[2:]
        if kind == "m":
            if len(media) == MEDIA_LIMIT:
                raise RemoteProtocolError("the session description has more than 32 media", 400)
            media.append(_OpenMedia(_parse_media(value)))
        elif kind == "a":
            attribute, colon, content = value.partition(":")
            target = media[-1].attributes if media else attributes
            target.append((attribute.strip().lower(), content.strip() if colon else None))
        elif kind == "c":
            if media:
                # RFC 8866 section 5.7: several c= lines of one m= are layered multicast; the first counts here.
                media[-1].connection = media[-1].connection or _parse_connection(value)
            else:
                connection = _parse_connection(value)
        elif media:
            continue
        elif kind == "o":
            origin = _parse_origin(value)
        elif kind == "s":
            name = value.strip() or "-"
        elif kind == "t":
            time = time or _parse_time(value)
    if origin is None:
        raise RemoteProtocolError("the session description has no o= line", 400)
    closed = tuple(
        attrs.evolve(one.media, connection=one.connection, attributes=tuple(one.attributes)) for one in media
    )
    return SessionDescription(origin, closed, name, connection, tuple(attributes), time or UNBOUNDED)


@attrs.define
class _OpenMedia:
    """An ``m=`` line while the lines below it are read."""

    media: MediaDescription
    connection: Connection | None = None
    attributes: list[tuple[str, str | None]] = attrs.field(factory=list)


def number(text: str, limit: int) -> int | None:
    """The decimal number from 0 to limit in the text, None where it is none."""
    if not text.isascii() or not text.isdigit() or len(text) > 20:
        return None
    value = int(text)
    return value if value <= limit else None


def _parse_origin(text: str) -> Origin:
    words = text.split()
    if len(words) != 6:
        raise RemoteProtocolError("the o= line has not six words", 400)
    # RFC 8866 wants numbers; some gateways write more digits than 64 bits hold, or letters. Only equality matters to
    # others' origins.
    session_id = number(words[1], 2**64 - 1)
    version = number(words[2], 2**64 - 1)
    return Origin(session_id or 0, version or 0, words[5], words[0], words[4].upper())


def _parse_time(text: str) -> str:
    words = text.split()
    return " ".join(words) if len(words) == 2 and all(word.isascii() and word.isdigit() for word in words) else ""


def _parse_connection(text: str) -> Connection:
    words = text.split()
    address = words[2].partition("/")[0] if len(words) == 3 else ""
    if not address or words[0].upper() != "IN" or words[1].upper() not in ("IP4", "IP6"):
        raise RemoteProtocolError("a c= line is not IN, IP4 or IP6 and an address", 400)
    return Connection(address, words[1].upper())


def _parse_media(text: str) -> MediaDescription:
    words = text.split()
    if len(words) < 4:
        raise RemoteProtocolError("an m= line has not four words", 400)
    # RFC 8866 section 5.14: "<port>/<number of ports>" is for hierarchical streams; the first port counts here.
    port = number(words[1].partition("/")[0], 65535)
    if port is None:
        raise RemoteProtocolError("an m= line's port is not a number below 65536", 400)
    return MediaDescription(words[0].lower(), port, words[2], tuple(words[3:]))


def _direction(attributes: Attributes) -> str | None:
    for name, value in attributes:
        if name in DIRECTIONS and value is None:
            return name
    return None


def _find(attributes: Attributes, name: str) -> str | None:
    for have, value in attributes:
        if have == name:
            return value or ""
    return None


def _format_attribute(name: str, value: str | None) -> str:
    return f"a={name}" if value is None else f"a={name}:{value}"


def address_type(host: str) -> str:
    """``IP6`` for an IPv6 address, else ``IP4``."""
    try:
        return "IP6" if ipaddress.ip_address(host).version == 6 else "IP4"
    except ValueError:
        return "IP4"
