"""Bots in memory as real ones are on a bad day: they hang, refuse, drop, flood, and say what is no message."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from autobahn.websocket.types import ConnectionDeny

from agentstream.testing.bots import RawSession, Session

BYTES_PER_MS = 16
"""16-bit samples at 8 kHz."""


class Hangs(RawSession):
    """Takes the connection and never answers the handshake."""


class ClosesInHandshake(RawSession):
    """Closes the connection when the handshake has come."""

    def __init__(self) -> None:
        super().__init__(then_close=True)


class NotWebSocket(RawSession):
    """A web server that knows no WebSocket."""

    def __init__(self) -> None:
        super().__init__(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


class Refuses(Session):
    """Answers the handshake with a status of 400 or more."""

    def __init__(self, status: int = 403) -> None:
        super().__init__()
        self.status = status

    def on_connect(self, request: Any) -> None:
        raise ConnectionDeny(self.status, "refused")


class ClosesEarly(Session):
    """Sends a close frame as soon as it may: at the handshake's end, or when ``start`` has come.

    :param code: of the close frame; None sends one without.
    """

    def __init__(self, code: int | None = 1000, before_start: bool = False) -> None:
        super().__init__()
        self.code = code
        self.before_start = before_start

    def on_open(self) -> None:
        if self.before_start:
            self.close(self.code)

    def on_start(self, start: dict[str, Any]) -> None:
        if not self.before_start:
            self.close(self.code)


class SlowReader(Session):
    """Reads nothing behind ``start`` until the test calls ``resume``."""

    def on_start(self, start: dict[str, Any]) -> None:
        self.pause()


class DropsTcp(Session):
    """Resets the connection after this many media messages, without a close frame."""

    def __init__(self, after_media: int = 1) -> None:
        super().__init__()
        self.after_media = after_media

    def on_media(self, pcm: bytes, body: dict[str, Any]) -> None:
        if len(self.bodies("media")) == self.after_media:
            self.drop()


class NeverCloses(Session):
    """Neither ends the stream nor answers a close frame."""

    def answers_close(self) -> bool:
        return False


class NeverPongs(Session):
    """Leaves pings without an answer: its program hangs and its kernel does not."""

    def on_start(self, start: dict[str, Any]) -> None:
        self.wire.onPing = lambda payload: None


class EarlySpeaker(Session):
    """Speaks before it has read ``start``, without a stream id."""

    def __init__(self, pcm: bytes) -> None:
        super().__init__()
        self.pcm = pcm

    def on_open(self) -> None:
        self.say(self.pcm)
        self.mark("early")


class Burst(Session):
    """Says a minute at once, in messages of 100 ms.

    :param seconds: how much.
    """

    def __init__(self, seconds: float = 60.0) -> None:
        super().__init__()
        self.seconds = seconds

    def on_start(self, start: dict[str, Any]) -> None:
        tone = bytes(range(0, 200, 2)) * 16
        chunks = int(self.seconds * 1000 * BYTES_PER_MS) // len(tone)
        self.say(tone * chunks, len(tone))
        self.mark("burst")


class OddBytes(Session):
    """Says its samples in messages of an odd number of bytes, so that every second one begins inside a sample."""

    def __init__(self, pcm: bytes, chunk_bytes: int = 321) -> None:
        super().__init__()
        self.pcm = pcm
        self.chunk_bytes = chunk_bytes | 1

    def on_start(self, start: dict[str, Any]) -> None:
        self.say(self.pcm, self.chunk_bytes)


GARBAGE: tuple[bytes, ...] = (
    b"",
    b"{",
    b"hello",
    b"[]",
    b"null",
    b"17",
    b"{}",
    b'{"event":17}',
    b'{"event":"media"}',
    b'{"event":"media","media":[]}',
    b'{"event":"media","media":{}}',
    b'{"event":"media","media":{"payload":17}}',
    b'{"event":"media","media":{"payload":"***"}}',
    b'{"event":"media","media":{"payload":"AAA"}}',
    b'{"event":"mark"}',
    b'{"event":"mark","mark":{"name":null}}',
    b'{"event":"no such event"}',
    b'{"event":"start","start":{}}',
    b'{"event":"stop"}',
    b'{"event":"dtmf","dtmf":{"digit":"5"}}',
    b'{"event":"connected"}',
    b"[" * 100_000,
)
"""Text messages that are no message, each in its own way."""


class Garbage(Session):
    """Sends what is no message, as text and as binary, and then behaves as an echo.

    :param messages: what it sends.
    """

    def __init__(self, messages: Iterable[bytes] = GARBAGE) -> None:
        super().__init__()
        self.messages = tuple(messages)

    def on_start(self, start: dict[str, Any]) -> None:
        for message in self.messages:
            self.send(message)
            self.send_binary(message)

    def on_media(self, pcm: bytes, body: dict[str, Any]) -> None:
        self.say(pcm)


class NotUtf8(Session):
    """Sends a text frame that is no UTF-8."""

    def on_start(self, start: dict[str, Any]) -> None:
        self.send(b'{"event":"clear","why":"\xff\xfe"}')


class BreaksFraming(Session):
    """Writes bytes into the connection that are no WebSocket frame."""

    def on_start(self, start: dict[str, Any]) -> None:
        self.wire.transport.write(b"\xff" * 64)
