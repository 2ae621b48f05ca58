"""One open stream: what is written when, what is read, and how it ends.

The connection tells an :class:`IStreamPeer` what the bot said, and ``stream_closed`` exactly once. Sequence numbers are
given at the write, so what a slow bot never got is missing from no count.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Protocol

import attrs
from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import Interface, implementer

from agentstream.errors import RemoteProtocolError
from agentstream.interfaces import StreamEnd
from agentstream.wire.exotel import NOTHING, Fields
from agentstream.wire.messages import Clear, Mark, Media, Message, StreamStart
from agentstream.wire.payload import Pcm
from agentstream.ws.protocol import BotProtocol

log = Logger()

QUEUE_S = 2.0
"""Seconds of audio that wait for a bot that reads slowly, beyond what the kernel holds."""

MAX_QUEUED_MESSAGES = 1000
"""Marks, digits and messages of ours that wait for it. A bot that asks for more without reading one is cut off."""

LOG_EVERY_S = 60.0

LEAST_CHUNK = 3200
"""Bytes of 16-bit samples in one media message of a bot, as the documentation of the interface asks of it."""

CHUNK_STEP = 320
"""Bytes of which a chunk should be a multiple, likewise. Other chunks are played like any."""

BINARY = "A binary message was ignored."
BOT_CLOSED = "The bot closed the stream."
CUT = "The connection to the bot broke without a close frame."
NO_PONG = "The bot did not answer a ping."
NOT_READING = "The bot does not read what it is sent."
STOPPED = "The server stopped the stream."
CALL_ENDED = "The caller hung up."


class IStreamPeer(Interface):
    """Who hears what the bot says. Nothing is called after ``stream_closed``."""

    def media_received(pcm: bytes) -> None:
        """Audio: any number of bytes, odd or none."""

    def mark_received(name: str) -> None:
        """The bot wants ``send_mark(name)`` when everything before has been played."""

    def clear_received() -> None:
        """The bot drops what has not been played."""

    def stream_closed(end: StreamEnd) -> None:
        """The stream is over; called once, possibly from within ``stop``."""


class Dialect(Protocol):
    """One stream's messages in one WebSocket message format; see :class:`agentstream.wire.exotel.ExotelSession`."""

    @property
    def stream_start(self) -> StreamStart: ...
    def connected(self) -> bytes: ...
    def start(self) -> bytes: ...
    def media(self, pcm: Pcm, timestamp_ms: int, track: str = "") -> bytes: ...
    def digit(self, digit: str, duration_ms: int) -> bytes: ...
    def mark(self, name: str, more: Fields = NOTHING) -> bytes: ...
    def clear(self) -> bytes: ...
    def stop(self, reason: str, more: Fields = NOTHING) -> bytes: ...
    def extension(self, event: str, fields: Fields) -> bytes: ...
    def receive(self, data: bytes) -> Message: ...


@attrs.define
class StreamCounters:
    """What passed on one stream, counted at the socket's edge.

    :ivar media_sent: media messages written.
    :ivar media_dropped: media messages that a slow bot never got.
    :ivar dropped_ms: their audio in milliseconds.
    :ivar media_received: media messages taken.
    :ivar small_received: those of them that are smaller than LEAST_CHUNK; nothing comes of it.
    :ivar uneven_received: those of them that are no multiple of CHUNK_STEP, likewise.
    :ivar bytes_received: bytes of audio in them, as 16-bit samples.
    :ivar marks_received: marks asked for.
    :ivar clears_received: clears.
    :ivar ignored: messages that change nothing, such as unknown events.
    :ivar invalid: messages that are none: no JSON, no payload, wrong base64.
    :ivar binary: binary messages.
    """

    media_sent: int = 0
    media_dropped: int = 0
    dropped_ms: float = 0.0
    media_received: int = 0
    small_received: int = 0
    uneven_received: int = 0
    bytes_received: int = 0
    marks_received: int = 0
    clears_received: int = 0
    ignored: int = 0
    invalid: int = 0
    binary: int = 0


@implementer(IPushProducer)
class _Writability:
    """Hears from the transport whether the bot reads fast enough."""

    def __init__(self, connection: StreamConnection) -> None:
        self._connection = connection

    def pauseProducing(self) -> None:
        self._connection._writing_paused()

    def resumeProducing(self) -> None:
        self._connection._writing_resumed()

    def stopProducing(self) -> None:
        """The transport is gone, which it tells the protocol too."""


@attrs.frozen
class _Media:
    pcm: bytes
    timestamp_ms: int
    track: str


@attrs.frozen
class _Digit:
    digit: str
    duration_ms: int


@attrs.frozen
class _Mark:
    name: str
    more: Fields


@attrs.frozen
class _Extension:
    event: str
    fields: Fields


@attrs.frozen
class _Clear:
    """Our own."""


_Item = _Media | _Digit | _Mark | _Clear | _Extension


class StreamConnection:
    """One open stream to one bot, made by :func:`agentstream.ws.connect.connect_stream`.

    :ivar counters: what passed so far.
    :ivar end: how the stream ended; None while it is open.
    """

    def __init__(
        self,
        clock: IReactorTime,
        protocol: BotProtocol,
        dialect: Dialect,
        peer: object,
        ping_interval_s: float,
        ping_timeout_s: float,
    ) -> None:
        self.counters = StreamCounters()
        self.end: StreamEnd | None = None
        self._clock = clock
        self._protocol = protocol
        self._dialect = dialect
        self._peer: Any = IStreamPeer(peer)  # until the end: it holds this connection
        self._ping_interval_s = ping_interval_s
        self._ping_timeout_s = ping_timeout_s
        self._ping_timer: IDelayedCall | None = None
        self._awaits_life = False
        self._is_reading = True
        self._is_paused = False
        self._queue: deque[_Item] = deque()
        self._queued_bytes = 0
        self._bytes_per_ms = 2.0 * dialect.stream_start.sample_rate / 1000.0
        self._max_queued_bytes = int(QUEUE_S * 1000.0 * self._bytes_per_ms)
        self._pong: bytes | None = None
        self._next_log = -LOG_EVERY_S
        self._unlogged = 0

    def open(self) -> None:
        """Send ``connected`` and ``start``; called once, by connect_stream."""
        self._protocol.registerProducer(_Writability(self), True)
        self._protocol.send_text(self._dialect.connected())
        self._protocol.send_text(self._dialect.start())
        self._schedule_ping()

    # Towards the bot

    def send_media(self, pcm: Pcm, timestamp_ms: int, track: str = "") -> None:
        """One chunk of what the caller says; the buffer is the caller's again on return.

        :param pcm: contiguous 16-bit samples at the stream's rate, such as a row of an int16 matrix.
        :param timestamp_ms: the stream's milliseconds at the chunk's first sample.
        :param track: ``inbound`` or ``outbound`` where the stream has both, else nothing.
        """
        if self.end is not None:
            return
        if not self._is_paused:
            self.counters.media_sent += 1
            self._protocol.send_text(self._dialect.media(pcm, timestamp_ms, track))
            return
        item = _Media(bytes(pcm), timestamp_ms, track)
        self._queue.append(item)
        self._queued_bytes += len(item.pcm)
        while self._queued_bytes > self._max_queued_bytes:
            self._drop_oldest_media()

    def send_digit(self, digit: str, duration_ms: int) -> None:
        """A key that the caller pressed."""
        self._send_in_order(_Digit(digit, duration_ms))

    def send_mark(self, name: str, more: Fields = NOTHING) -> None:
        """The echo of a mark of the bot's, with fields of ours where it asked for them."""
        self._send_in_order(_Mark(name, more))

    def send_clear(self) -> None:
        """What the bot said was dropped by us, for a bot that asked to be told so."""
        self._send_in_order(_Clear())

    def send_extension(self, event: str, fields: Fields) -> None:
        """A message of ours, for a bot that asked for it."""
        self._send_in_order(_Extension(event, fields))

    def stop(self, reason: str, more: Fields = NOTHING) -> None:
        """Send what waits and ``stop``, close with 1000 and take nothing more; harmless when the stream is over.

        :param reason: ``stopped``, or ``callended`` when the caller hung up.
        :param more: fields of ours, where the bot asked for them.
        """
        if self.end is not None:
            return
        # A bot that is behind may still catch up before the connection is dropped, so all of it is written.
        for item in self._queue:
            self._write(item)
        self._queue.clear()
        self._protocol.send_text(self._dialect.stop(reason, more))
        caller_left = reason == "callended"
        end = StreamEnd(True, "user" if caller_left else "NA", 1000, CALL_ENDED if caller_left else STOPPED)
        self._finish(end)
        self._protocol.close(1000)

    # From the bot

    def pause_reading(self) -> None:
        """Take nothing from the bot until resume_reading; it is not expected to answer pings meanwhile."""
        if self._is_reading and self.end is None:
            self._is_reading = False
            self._cancel_ping()
            self._protocol.hold(True)

    def resume_reading(self) -> None:
        """Read again."""
        if not self._is_reading and self.end is None:
            self._is_reading = True
            self._schedule_ping()
            self._protocol.hold(False)

    # agentstream.ws.protocol.Listener

    def opened(self, protocol: BotProtocol) -> None:
        """Was told to the attempt."""

    def handshake_failed(self, sentence: str) -> None:
        """Was told to the attempt."""

    def life_shown(self) -> None:
        if self._awaits_life:
            self._schedule_ping()

    def message(self, payload: bytes, is_binary: bool) -> None:
        if self.end is not None:
            return
        if is_binary:
            self.counters.binary += 1
            self._log(BINARY)
            return
        try:
            message = self._dialect.receive(payload)
        except RemoteProtocolError as error:
            self.counters.invalid += 1
            self._log(error.sentence)
            return
        try:
            self._tell(message)
        except Exception:
            log.failure("The receiver of a bot's message failed ({sid}).", sid=self._dialect.stream_start.stream_sid)

    def ping(self, payload: bytes) -> None:
        # RFC 6455 5.5.3 allows to answer only the latest ping, so a bot that pings and never reads costs nothing.
        if self._is_paused:
            self._pong = payload
        else:
            self._protocol.send_pong(payload)

    def close_frame(self, code: int, reason: str) -> None:
        self._finish(StreamEnd(True, "bot", code, reason or BOT_CLOSED))
        self._protocol.drop_soon()

    def violated(self, code: int, sentence: str) -> None:
        self._finish(StreamEnd(False, "NA", code, sentence))

    def lost(self, reason: Failure) -> None:
        self._finish(StreamEnd(False, "NA", 1006, CUT))

    def _tell(self, message: Message) -> None:
        counters = self.counters
        if isinstance(message, Media):
            counters.media_received += 1
            counters.small_received += len(message.pcm) < LEAST_CHUNK
            counters.uneven_received += len(message.pcm) % CHUNK_STEP > 0
            counters.bytes_received += len(message.pcm)
            self._peer.media_received(message.pcm)
        elif isinstance(message, Mark):
            counters.marks_received += 1
            self._peer.mark_received(message.name)
        elif isinstance(message, Clear):
            counters.clears_received += 1
            self._peer.clear_received()
        else:
            counters.ignored += 1
            self._log(message.reason, message.event)

    def _log(self, sentence: str, event: str = "") -> None:
        """Once a minute, with the number of those that were not logged."""
        now = self._clock.seconds()
        if now < self._next_log:
            self._unlogged += 1
            return
        self._next_log = now + LOG_EVERY_S
        sid = self._dialect.stream_start.stream_sid
        log.warn(
            "{sentence} ({sid} {name!r}, and {unlogged} more before)",
            sentence=sentence,
            sid=sid,
            name=event,
            unlogged=self._unlogged,
        )
        self._unlogged = 0

    # The slow reader

    def _send_in_order(self, item: _Digit | _Mark | _Clear | _Extension) -> None:
        if self.end is not None:
            return
        if not self._is_paused:
            self._write(item)
            return
        self._queue.append(item)
        if len(self._queue) > MAX_QUEUED_MESSAGES:
            self._break(NOT_READING)

    def _write(self, item: _Item) -> None:
        if type(item) is _Media:
            self.counters.media_sent += 1
            self._protocol.send_text(self._dialect.media(item.pcm, item.timestamp_ms, item.track))
        elif type(item) is _Digit:
            self._protocol.send_text(self._dialect.digit(item.digit, item.duration_ms))
        elif type(item) is _Mark:
            self._protocol.send_text(self._dialect.mark(item.name, item.more))
        elif type(item) is _Clear:
            self._protocol.send_text(self._dialect.clear())
        elif type(item) is _Extension:
            self._protocol.send_text(self._dialect.extension(item.event, item.fields))

    def _drop_oldest_media(self) -> None:
        for index, item in enumerate(self._queue):
            if type(item) is _Media:
                del self._queue[index]
                self._queued_bytes -= len(item.pcm)
                self.counters.media_dropped += 1
                self.counters.dropped_ms += len(item.pcm) / self._bytes_per_ms
                return

    def _writing_paused(self) -> None:
        self._is_paused = True

    def _writing_resumed(self) -> None:
        self._is_paused = False
        if self._pong is not None:
            pong, self._pong = self._pong, None
            self._protocol.send_pong(pong)
        while self._queue and not self._is_paused:
            item = self._queue.popleft()
            if type(item) is _Media:
                self._queued_bytes -= len(item.pcm)
            self._write(item)

    # Pings

    def _schedule_ping(self) -> None:
        self._cancel_ping()
        if self._is_reading and self.end is None:
            self._ping_timer = self._clock.callLater(self._ping_interval_s, self._ping)

    def _cancel_ping(self) -> None:
        self._awaits_life = False
        if self._ping_timer is not None:
            self._ping_timer.cancel()
            self._ping_timer = None

    def _ping(self) -> None:
        self._awaits_life = True
        self._ping_timer = self._clock.callLater(self._ping_timeout_s, self._no_pong)
        self._protocol.send_ping()

    def _no_pong(self) -> None:
        self._ping_timer = None
        self._break(NO_PONG)

    # The end

    def _break(self, sentence: str) -> None:
        self._finish(StreamEnd(False, "NA", 1006, sentence))
        self._protocol.abort()

    def _finish(self, end: StreamEnd) -> None:
        if self.end is not None:
            return
        self.end = end
        self._cancel_ping()
        for item in self._queue:
            if type(item) is _Media:
                self.counters.media_dropped += 1
                self.counters.dropped_ms += len(item.pcm) / self._bytes_per_ms
        self._queue.clear()
        if not self._is_reading:
            self._protocol.hold(False)
        peer, self._peer = self._peer, None
        try:
            peer.stream_closed(end)
        except Exception:
            log.failure("The receiver of a stream's end failed ({sid}).", sid=self._dialect.stream_start.stream_sid)
