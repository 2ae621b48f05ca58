"""Messages out of a stream of bytes (RFC 3261 section 18.3): what TCP needs and datagrams do not. Pure.

A stream is not trusted: a message has a largest size and a longest time, and whatever makes it impossible to tell where
the next one begins ends the stream.
"""

from __future__ import annotations

import re

import attrs

from agentstream.sip.grammar import parse_number

HEAD_LIMIT = 16_384
"""Octets of start line and headers."""
MESSAGE_LIMIT = 65_536
"""Octets of a whole message."""
MESSAGE_S = 10.0
"""Seconds from a message's first byte to its last."""

_LENGTH = re.compile(rb"\r\n(?:content-length|l)[ \t]*:[ \t]*([^\r\n]*)", re.IGNORECASE)


@attrs.frozen
class Unframed:
    """Why the stream cannot go on.

    :ivar head: as much of the message as there is and is looked at, to answer it; b"" where there is nothing to answer.
    :ivar status: the SIP status for that answer.
    """

    head: bytes
    status: int
    sentence: str


class Framer:
    """One stream.

    :ivar messages: whole messages, oldest first; the owner takes them out.
    :ivar pings: keepalives (RFC 5626 section 4.4.1) that are still to be answered with a CRLF each.
    :ivar failure: set once, after which nothing is read any more.
    :ivar deadline: monotonic seconds by which the message that has begun must be whole; None between messages.
    """

    __slots__ = ("_buffer", "_is_half_ping", "_needed", "_searched", "deadline", "failure", "messages", "pings")

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self.pings = 0
        self.failure: Unframed | None = None
        self.deadline: float | None = None
        self._buffer = bytearray()
        self._is_half_ping = False
        self._needed = 0
        self._searched = 0

    def receive(self, data: bytes, now: float) -> None:
        """Some bytes, cut anywhere."""
        if self.failure is not None:
            return
        self._buffer += data
        while self._buffer and self.failure is None and self._take_one():
            # What follows a whole message is the beginning of another one, with a time of its own.
            self.deadline = None
        if not self._buffer or self.failure is not None:
            self.deadline = None
        elif self.deadline is None:
            self.deadline = now + MESSAGE_S

    def _take_one(self) -> bool:
        """Take one message or keepalive off the buffer; False when it is not whole yet."""
        buffer = self._buffer
        if not self._needed:
            if buffer[0] in b"\r\n":
                return self._take_line_end()
            self._is_half_ping = False
            end = buffer.find(b"\r\n\r\n", self._searched)
            if (end if end >= 0 else len(buffer)) > HEAD_LIMIT:
                self._fail(bytes(buffer[:HEAD_LIMIT]), 513, "the headers are longer than 16 kB")
                return False
            if end < 0:
                # The four octets may be cut by the edge of a segment.
                self._searched = max(0, len(buffer) - 3)
                return False
            self._searched = 0
            if not self._measure(bytes(buffer[: end + 4])):
                return False
        if len(buffer) < self._needed:
            return False
        self.messages.append(bytes(buffer[: self._needed]))
        del buffer[: self._needed]
        self._needed = 0
        return True

    def _take_line_end(self) -> bool:
        # RFC 3261 section 7.5: "Implementations processing SIP messages over stream-oriented transports MUST ignore any
        # CRLF appearing before the start-line". RFC 5626 section 4.4.1: two of them are a ping, which is answered with
        # one, and one alone is that answer.
        buffer = self._buffer
        if len(buffer) == 1 and buffer == b"\r":
            return False
        if not buffer.startswith(b"\r\n"):
            self._fail(b"", 400, "a bare line break stands where a message must begin")
            return False
        del buffer[:2]
        self._is_half_ping = not self._is_half_ping
        self.pings += not self._is_half_ping
        return True

    def _measure(self, head: bytes) -> bool:
        """Find the message's length in its headers; False when the stream fails here."""
        # 18.3: for stream-oriented transports the Content-Length "MUST" be present (20.14), and it says where the
        # message ends.
        lengths = {value.strip() for value in _LENGTH.findall(head)}
        if not lengths:
            self._fail(head, 400, "a message on a stream has no Content-Length")
            return False
        length = parse_number(lengths.pop().decode("latin-1"), 2**31)
        if length is None or lengths:
            self._fail(head, 400, "the Content-Length is not one number")
            return False
        if len(head) + length > MESSAGE_LIMIT:
            # 21.5.7: 513, "the message length exceeded its capabilities".
            self._fail(head, 513, "the message is longer than 64 kB")
            return False
        self._needed = len(head) + length
        return True

    def _fail(self, head: bytes, status: int, sentence: str) -> None:
        self._buffer.clear()
        self.failure = Unframed(head, status, sentence)
