"""One stream of one call: a leg's media on one side, a bot's WebSocket on the other.

The only place where media and ws meet. What the caller says goes straight from the tick to the connection; what the bot
says goes straight into the leg's playback queue.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer

from agentstream.errors import StreamFailed
from agentstream.interfaces import ICall, IStream, StreamEnd, StreamSpec
from agentstream.media.plane import MediaLeg
from agentstream.wire.exotel import ExotelSession
from agentstream.wire.messages import StreamStart
from agentstream.wire.parameters import read_query
from agentstream.ws.connect import connect_stream
from agentstream.ws.connection import IStreamPeer, StreamConnection
from agentstream.ws.url import split_url

PLAYED_OUT_CODES = frozenset({1000, 1001, 1005})
"""Close codes behind which the bot's queued audio is still played: normal, going away, and a close without a code."""


@implementer(IStream, IStreamPeer)
class Stream:
    """One WebSocket session to a bot.

    :ivar sid: 32 lower-case characters.
    """

    def __init__(self, media: MediaLeg, spec: StreamSpec, rate_hz: int, sid: str, call: ICall) -> None:
        self.sid = sid
        self._media = media
        self._rate_hz = rate_hz
        self._voice = media.voice(rate_hz)
        self._spec = spec
        self._call = call
        self._connection: StreamConnection | None = None
        self._stop_listening: list[Callable[[], None]] = []
        self._end: StreamEnd | None = None
        self._is_over = False
        self._waiting: list[Deferred[StreamEnd]] = []

    def connected(self, connection: StreamConnection, digits: Callable[[Callable[[str, int], None]], Any]) -> None:
        """The bot has been told ``connected`` and ``start``: audio flows from here on."""
        self._connection = connection
        if self._end is not None:
            return  # it came and went before anybody could listen
        if self._spec.two_way:
            self._stop_listening.append(digits(connection.send_digit))
            playback = self._voice
            playback.on_full, playback.on_room = connection.pause_reading, connection.resume_reading
        self._stop_listening.append(self._media.hear(self._spec.chunk_ms, connection.send_media, self._rate_hz))

    # What the bot says (IStreamPeer)

    def media_received(self, pcm: bytes) -> None:
        """Queue what the bot says."""
        if self._end is None:
            self._voice.write(pcm)

    def mark_received(self, name: str) -> None:
        """Echo this mark when everything before it has been played or dropped."""
        if self._end is None:
            self._voice.mark(lambda is_played: self._echo(name))

    def _echo(self, name: str) -> None:
        if self._connection is not None and self._end is None:
            self._connection.send_mark(name)

    def clear_received(self) -> None:
        """The bot takes back what has not been played."""
        if self._end is None:
            dropped = self._voice.clear()
            self._call.event("playback_cleared", dropped_ms=dropped * 1000 // self._rate_hz)

    def stream_closed(self, end: StreamEnd) -> None:
        """The connection is over, by whatever side."""
        if self._end is not None:
            return
        self._end = end
        self._listen_no_more()
        counters = {} if self._connection is None else attrs.asdict(self._connection.counters)
        self._call.event(
            "stream_ended",
            stream_sid=self.sid,
            by=end.by,
            code=end.code,
            clean=end.clean,
            reason=end.reason,
            **counters,
        )
        playback = self._voice
        if self._spec.two_way and end.clean and self._spec.play_out and end.code in PLAYED_OUT_CODES:
            playback.mark(lambda is_played: self._finish())
        else:
            if self._spec.two_way:
                playback.clear()
            self._finish()

    # What the applet asks (IStream)

    def ended(self) -> Deferred[StreamEnd]:
        """Fires when the stream is over and what may be played out has been played."""
        if self._is_over and self._end is not None:
            return succeed(self._end)
        waiting: Deferred[StreamEnd] = Deferred(self._waiting.remove)
        self._waiting.append(waiting)
        return waiting

    def stop(self, reason: str) -> None:
        """Send ``stop`` and close; what is queued is dropped."""
        if self._end is None:
            by = "user" if reason == "callended" else "NA"
            if self._connection is not None:
                self._connection.stop(reason)
            self.stream_closed(StreamEnd(True, by, 1000, f"the server stopped the stream: {reason}"))
        if not self._is_over:
            self._voice.clear()
            self._finish()

    def _listen_no_more(self) -> None:
        for stop in self._stop_listening:
            stop()
        self._stop_listening.clear()
        playback = self._voice
        playback.on_full = playback.on_room = _nothing

    def _finish(self) -> None:
        if self._is_over or self._end is None:
            return
        self._is_over = True
        waiting, self._waiting = self._waiting, []
        for deferred in waiting:
            deferred.callback(self._end)


def _nothing() -> None:
    pass


@attrs.frozen
class StreamOpener:
    """Opens the streams of one node.

    :ivar account_sid: the account's name, as bots are told.
    :ivar new_sid: makes an id.
    """

    reactor: Any
    account_sid: str
    new_sid: Callable[[], str]

    def open(
        self,
        media: MediaLeg,
        spec: StreamSpec,
        call: ICall,
        digits: Callable[[Callable[[str, int], None]], Any],
    ) -> Deferred[IStream]:
        """Connect a bot to a leg. Errbacks with StreamFailed; cancelling gives up."""
        try:
            url = split_url(spec.url)
        except StreamFailed as error:
            call.event("stream_failed", reason=error.reason)
            return fail(error)
        parameters = read_query(url.query)
        stream = Stream(media, spec, parameters.sample_rate, self.new_sid(), call)
        call.event("stream_connecting", stream_sid=stream.sid, url=url.public)
        if parameters.left_out:
            call.event("custom_parameters_left_out", stream_sid=stream.sid, names=list(parameters.left_out))
        start = StreamStart(
            stream_sid=stream.sid,
            call_sid=call.sid,
            account_sid=self.account_sid,
            caller=call.caller,
            callee=call.callee,
            sample_rate=parameters.sample_rate,
            custom_parameters=parameters.custom_parameters,
        )
        dialect = ExotelSession(start, spec.two_way)

        def connected(connection: StreamConnection) -> IStream:
            call.event("stream_started", stream_sid=stream.sid, chunk_ms=spec.chunk_ms, rate_hz=start.sample_rate)
            stream.connected(connection, digits)
            return stream

        def failed(failure: Any) -> Any:
            call.event("stream_failed", stream_sid=stream.sid, reason=failure.getErrorMessage())
            return failure

        return connect_stream(self.reactor, url, dialect, stream, ca_file=spec.ca_file).addCallbacks(
            connected, failed
        )
