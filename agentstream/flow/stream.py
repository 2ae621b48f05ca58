"""One stream of one call: a leg's media on one side, a bot's WebSocket on the other.

The only place where media and ws meet. What the caller says goes straight from the tick to the connection; what the bot
says goes straight into the leg's playback queue.
"""

from __future__ import annotations

import datetime
import zoneinfo
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import attrs
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.interfaces import IDelayedCall
from zope.interface import implementer

from agentstream.config.model import Config
from agentstream.config.node import Account
from agentstream.flow.barge_in import BargeInWatch
from agentstream.flow.call import utc_now
from agentstream.flow.chunk_advice import ChunkAdvice
from agentstream.flow.dynamic_url import ask_for_url, call_query
from agentstream.flow.ledger import NodeLedger, StreamLedger
from agentstream.interfaces import ICall, IStream, StreamEnd, StreamSpec
from agentstream.media.leg import MediaLeg
from agentstream.media.playback import BARGE_IN, Position
from agentstream.media.speech import SpeechChange
from agentstream.wire.exotel import NOTHING, ExotelSession, Spelling
from agentstream.wire.messages import StreamStart
from agentstream.wire.numbering import Numbering
from agentstream.wire.parameters import read_query
from agentstream.wire.payload import PAYLOADS
from agentstream.ws.connect import EndpointFactory, connect_stream, public_endpoint, tcp_endpoint
from agentstream.ws.connection import IStreamPeer, StreamConnection
from agentstream.ws.reads import Reads
from agentstream.ws.url import StreamUrl, is_http_url, split_http_url, split_url

PLAYED_OUT_CODES = frozenset({1000, 1001, 1005})
"""Close codes behind which the bot's queued audio is still played: normal, going away, and a close without a code."""

WITHHELD_HEADERS = ("x-exotel-", "x-veeno-")
"""Beginnings of the names of SIP headers that are between carriers and no business of a bot."""

BOTH = ("inbound", "outbound")


@implementer(IStream, IStreamPeer)
class Stream:
    """One WebSocket session to a bot.

    :ivar sid: 32 lower-case characters.
    """

    def __init__(
        self,
        reactor: Any,
        media: MediaLeg,
        spec: StreamSpec,
        rate_hz: int,
        sid: str,
        call: ICall,
        ledger: NodeLedger,
        is_odd_chunk: Callable[[bytes], bool],
    ) -> None:
        self.sid = sid
        self._reactor = reactor
        self._media = media
        self._rate_hz = rate_hz
        # Who only listens has no voice, and must not take another bot's away.
        self._voice = media.voice(rate_hz) if spec.two_way else None
        self._position_before = self._voice.position if self._voice is not None else Position()
        self._ledger = StreamLedger(reactor.seconds, ledger, media.chunk_waits)
        self._barge_in: BargeInWatch | None = None
        self._is_odd_chunk = is_odd_chunk
        self._is_advised = False
        self._refused_samples = 0
        self._began_ms: int | None = None
        self._limit: IDelayedCall | None = None
        self._stopping: StreamEnd | None = None
        self._spec = spec
        self._call = call
        self._connection: StreamConnection | None = None
        self._stop_listening: list[Callable[[], None]] = []
        self._end: StreamEnd | None = None
        self._is_over = False
        self._waiting: list[Deferred[StreamEnd]] = []

    def connected(self, connection: StreamConnection, digits: Digits, speech: Speech) -> None:
        """The bot has been told ``connected`` and ``start``: audio flows from here on."""
        self._connection = connection
        if self._end is not None:
            return  # it came and went before anybody could listen
        self._limit = self._reactor.callLater(self._spec.max_s, self._too_long)
        if self._voice is not None:
            self._stop_listening.append(digits(connection.send_digit))
            self._voice.on_full, self._voice.on_room = connection.pause_reading, connection.resume_reading
            self._voice.be_live(self._spec.live_ms)
            self._listen_for_speech(speech)
            self._hear("inbound", self._send_timed if self._spec.speech_events else connection.send_media)
        elif self._spec.track == "both":
            for track in BOTH:
                self._hear(track, partial(connection.send_media, track=track))
        else:
            self._hear(self._spec.track, connection.send_media)

    def _listen_for_speech(self, speech: Speech) -> None:
        voice, media = self._voice, self._media
        if voice is not None and self._spec.barge_in.mode in ("clear", "pause"):
            self._barge_in = BargeInWatch(
                self._reactor,
                self._spec.barge_in,
                is_audible=lambda: not voice.is_silent,
                quiet_s=lambda: media.quiet_ms / 1000,
                interrupt=self._interrupt,
                release=self._release,
            )
        if self._spec.speech_events or self._barge_in is not None:
            self._stop_listening.append(speech(self._speech_changed))

    def _send_timed(self, chunk: Any, timestamp_ms: int) -> None:
        if self._began_ms is None:
            self._began_ms = self._media.heard_ms - self._spec.chunk_ms - timestamp_ms
        if self._connection is not None:
            self._connection.send_media(chunk, timestamp_ms)

    def _hear(self, track: str, fn: Callable[[Any, int], None]) -> None:
        self._stop_listening.append(self._media.hear(self._spec.chunk_ms, fn, self._rate_hz, track))

    def _too_long(self) -> None:
        self._limit = None
        self._call.event("stream_limit_reached", stream_sid=self.sid, max_s=self._spec.max_s)
        self.stop("stopped")

    # What the caller's speech does

    def _speech_changed(self, change: SpeechChange) -> None:
        if self._spec.speech_events:
            # Before the first chunk the stream's time has not begun.
            at_ms = 0 if self._began_ms is None else max(0, change.at_ms - self._began_ms)
            kind = "speech_started" if change.is_speaking else "speech_stopped"
            self._tell(kind, {"timestamp": at_ms, "level": change.level_dbov})
        if self._barge_in is not None:
            ago_s = (self._media.heard_ms - change.at_ms) / 1000
            (self._barge_in.speech_started if change.is_speaking else self._barge_in.speech_stopped)(ago_s)

    def _interrupt(self) -> None:
        """The caller speaks over the bot."""
        if self._voice is None:
            return
        if self._spec.barge_in.mode == "clear":
            self._clear("caller")
        else:
            self._voice.hold(BARGE_IN, True)
            self._report("playback_paused", {**self._heard_ms(), "queued_ms": self._voice.queued_ms})

    def _release(self, why: str) -> None:
        """The bot is heard again."""
        if self._voice is None:
            return
        if self._spec.barge_in.mode == "clear":
            self._call.event("barge_in_ended", by=why, refused_ms=self._ms(self._refused_samples))
        else:
            self._voice.hold(BARGE_IN, False)
            self._report("playback_resumed", {"by": why, **self._heard_ms(), "queued_ms": self._voice.queued_ms})

    # What was heard of the bot

    def _ms(self, samples: int) -> int:
        return samples * 1000 // self._rate_hz

    def _heard_ms(self) -> dict[str, int]:
        """Of everything that the bot has said on this stream."""
        if self._voice is None:
            return {}
        position = self._voice.position.since(self._position_before)
        return {"played_ms": self._ms(position.played), "held_ms": self._ms(position.held)}

    def _dropped_samples(self) -> int:
        if self._voice is None:
            return 0
        return self._voice.position.since(self._position_before).dropped + self._refused_samples

    def _all_ms(self) -> dict[str, int]:
        return {**self._heard_ms(), "dropped_ms": self._ms(self._dropped_samples())}

    def _report(self, kind: str, fields: dict[str, Any]) -> None:
        """To the timeline, and to a bot that wants to know."""
        self._call.event(kind, stream_sid=self.sid, **fields)
        if self._spec.playout_events:
            self._tell(kind, fields)

    def _tell(self, kind: str, fields: dict[str, Any]) -> None:
        if self._connection is not None and self._end is None and self._stopping is None:
            self._connection.send_extension(kind, fields)

    def _clear(self, by: str) -> None:
        if self._voice is not None:
            before = self._dropped_samples()
            if by == "caller" and self._spec.barge_in.tells_clear and self._connection is not None:
                # Before the marks of what is dropped come back, so that none is taken for one that was played.
                self._connection.send_clear()
            self._voice.clear()
            dropped_ms = self._ms(self._dropped_samples() - before)
            self._report("playback_cleared", {"by": by, "dropped_ms": dropped_ms, **self._heard_ms()})

    # What the bot says (IStreamPeer)

    @property
    def _is_speaking(self) -> bool:
        """What the bot says is for the caller."""
        return self._end is None and self._stopping is None and self._voice is not None

    def media_received(self, pcm: bytes) -> None:
        """Queue what the bot says."""
        if not self._is_speaking or self._voice is None:
            return
        if not self._is_advised:
            self._is_advised = self._is_odd_chunk(pcm)
        watch = self._barge_in
        if watch is None:
            self._ledger.write(self._voice, pcm)
        elif watch.is_dropping:
            self._refused_samples += len(pcm) // 2
            watch.media_dropped()
        else:
            self._ledger.write(self._voice, pcm)
            watch.media_queued(self._voice.queued_ms / 1000)

    def mark_received(self, name: str) -> None:
        """Echo this mark when everything before it has been played or dropped."""
        if not self._is_speaking or self._voice is None:
            return
        if self._barge_in is not None and self._barge_in.is_dropping:
            self._echo(name, is_played=False)
        else:
            self._voice.mark(lambda is_played: self._echo(name, is_played=is_played))

    def _echo(self, name: str, *, is_played: bool) -> None:
        if self._connection is not None and self._end is None and self._stopping is None:
            more = {"played": is_played, **self._heard_ms()} if self._spec.playout_events else NOTHING
            self._connection.send_mark(name, more)

    def clear_received(self) -> None:
        """The bot takes back what has not been played."""
        if self._is_speaking:
            self._clear("bot")
            if self._barge_in is not None:
                self._barge_in.clear_received()

    def stream_closed(self, end: StreamEnd) -> None:
        """The connection is over, by whatever side."""
        if self._end is not None:
            return
        end = self._stopping or end
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
            **self._ledger.fields(),
        )
        if self._voice is not None and end.clean and self._spec.play_out and end.code in PLAYED_OUT_CODES:
            self._voice.mark(lambda is_played: self._finish())
        else:
            self._fall_silent()
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
            # A call that the server ends is over, too, and yet it was not the caller who hung up.
            by = "user" if reason == "callended" and self._call.ended_by != "server" else "NA"
            self._stopping = StreamEnd(True, by, 1000, f"the server stopped the stream: {reason}")
            if self._voice is not None:
                self._voice.on_full = self._voice.on_room = _nothing
            self._fall_silent()
            if self._connection is not None:
                self._connection.stop(reason, self._all_ms() if self._spec.playout_events else NOTHING)
            self.stream_closed(self._stopping)
        if not self._is_over:
            self._fall_silent()
            self._finish()

    def _fall_silent(self) -> None:
        if self._voice is not None:
            self._voice.clear()

    def _listen_no_more(self) -> None:
        if self._limit is not None:
            self._limit.cancel()
            self._limit = None
        for stop in self._stop_listening:
            stop()
        self._stop_listening.clear()
        if self._barge_in is not None:
            self._barge_in.close()
            self._barge_in = None
        if self._voice is not None:
            self._voice.on_full = self._voice.on_room = _nothing
            self._voice.be_live(0)

    def _finish(self) -> None:
        if self._is_over or self._end is None:
            return
        self._is_over = True
        heard = self._all_ms()
        if any(heard.values()):
            self._call.event("playback_ended", stream_sid=self.sid, **heard)
        waiting, self._waiting = self._waiting, []
        for deferred in waiting:
            deferred.callback(self._end)


def _nothing() -> None:
    pass


Digits = Callable[[Callable[[str, int], None]], Callable[[], None]]
"""``digits(fn)`` has ``fn(digit, duration_ms)`` called for each digit, until what it returns is called."""

Speech = Callable[[Callable[[SpeechChange], None]], Callable[[], None]]
"""``speech(fn)`` has ``fn(change)`` called when the caller begins and stops to speak, until what it returns is
called."""


@attrs.frozen
class StreamOpener:
    """Opens the streams of one node.

    :ivar config: gives the settings as they are now.
    :ivar new_sid: makes an id.
    :ivar wall_clock: the time of day, in UTC.
    :ivar trusted_endpoint: the way to hosts that the operator named.
    :ivar public_endpoint: the way to hosts that an HTTP answer named.
    :ivar ledger: what the sound of all bots waited for.
    :ivar chunk_advice: who has been told of bots whose chunks are of other sizes than asked for.
    :ivar reads: reads their sockets once a tick; without it the reactor does, as bytes come.
    """

    reactor: Any
    config: Callable[[], Config]
    new_sid: Callable[[], str]
    wall_clock: Callable[[], datetime.datetime] = utc_now
    trusted_endpoint: EndpointFactory = tcp_endpoint
    public_endpoint: EndpointFactory = public_endpoint
    ledger: NodeLedger = attrs.Factory(NodeLedger)
    chunk_advice: ChunkAdvice = attrs.Factory(ChunkAdvice)
    reads: Reads | None = None

    def open(self, media: MediaLeg, spec: StreamSpec, call: ICall, digits: Digits, speech: Speech) -> Deferred[IStream]:
        """Connect a bot to a leg. Errbacks with StreamFailed; cancelling gives up."""
        sid = self.new_sid()

        def failed(failure: Any) -> Any:
            if not failure.check(CancelledError):
                call.event("stream_failed", stream_sid=sid, reason=failure.getErrorMessage())
            return failure

        return Deferred.fromCoroutine(self._open(sid, media, spec, call, digits, speech)).addErrback(failed)

    async def _open(
        self, sid: str, media: MediaLeg, spec: StreamSpec, call: ICall, digits: Digits, speech: Speech
    ) -> IStream:
        config = self.config()
        endpoint = self.trusted_endpoint
        if is_http_url(spec.url):
            url = await self._ask(sid, spec, call, config)
            if not config.stream.allow_private:
                endpoint = self.public_endpoint
        else:
            url = split_url(spec.url)
        parameters = read_query(url.query)
        payload = PAYLOADS[spec.codec]
        rate_hz = payload.rate(parameters.sample_rate)

        def is_odd_chunk(pcm: bytes) -> bool:
            return self.chunk_advice.look(pcm, f"{url.host}:{url.port}", sid, self.reactor.seconds())

        stream = Stream(self.reactor, media, spec, rate_hz, sid, call, self.ledger, is_odd_chunk)
        call.event("stream_connecting", stream_sid=sid, url=url.shown)
        if rate_hz != parameters.sample_rate:
            call.event("sample_rate_not_taken", stream_sid=sid, asked_hz=parameters.sample_rate, codec=payload.name)
        if parameters.left_out:
            call.event("custom_parameters_left_out", stream_sid=sid, names=list(parameters.left_out))
        numbering = _numbering(config.account)
        start = StreamStart(
            stream_sid=sid,
            call_sid=call.sid,
            account_sid=config.account.sid,
            caller=numbering.write(call.caller),
            callee=numbering.write(call.callee),
            sample_rate=rate_hz,
            custom_parameters=with_headers(parameters.custom_parameters, call.sip_headers),
        )
        encoding, bit_rate = spec.encoding or payload.encoding, spec.bit_rate or payload.bit_rate
        spelling = Spelling(spec.counters, spec.keys, encoding, bit_rate)
        dialect = ExotelSession(start, spec.two_way, spelling, payload)
        connection = await connect_stream(
            self.reactor,
            url,
            dialect,
            stream,
            ca_file=spec.ca_file,
            endpoint_factory=endpoint,
            reads=self.reads,
        )
        call.event("stream_started", stream_sid=sid, chunk_ms=spec.chunk_ms, rate_hz=rate_hz)
        stream.connected(connection, digits, speech)
        return stream

    async def _ask(self, sid: str, spec: StreamSpec, call: ICall, config: Config) -> StreamUrl:
        """The bot's URL from who knows it."""
        zone, numbering = zoneinfo.ZoneInfo(config.account.time_zone), _numbering(config.account)
        items = call_query(
            call.sid,
            numbering.write(call.caller),
            numbering.write(call.callee),
            call.created_at.astimezone(zone),
            self.wall_clock().astimezone(zone),
        )
        call.event("stream_url_asked", stream_sid=sid, url=split_http_url(spec.url).shown)
        return await ask_for_url(
            self.reactor,
            spec.url,
            items,
            ca_file=spec.ca_file,
            allow_private=config.stream.allow_private,
            trusted_endpoint=self.trusted_endpoint,
            public_endpoint=self.public_endpoint,
        )


def _numbering(account: Account) -> Numbering:
    return Numbering(account.numbering, account.country_code, account.number_length)


def with_headers(parameters: dict[str, str], headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Custom parameters, and behind them the SIP headers by their names as received; of repeated ones all values.

    A bot may look at the first key, and what the operator's URL says is not for a caller to change.
    """
    passed: dict[str, str] = {}
    for name, value in headers:
        if name not in parameters and not name.lower().startswith(WITHHELD_HEADERS):
            passed[name] = f"{passed[name]}, {value}" if name in passed else value
    return parameters | passed
