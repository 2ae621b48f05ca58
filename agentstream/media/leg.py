"""One leg's media, as the rooms above hold it: its port, its playback queues, its listeners."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import attrs
from twisted.internet.defer import Deferred

from agentstream.errors import ResourceError
from agentstream.media.chunk_waits import Counts
from agentstream.media.ears import ChunkFn
from agentstream.media.egress import digit_slots
from agentstream.media.measure import LegStatistics
from agentstream.media.playback import Playback
from agentstream.media.ports import Address
from agentstream.media.recording import Tape
from agentstream.media.silence import RtpChange
from agentstream.media.speech import SpeechChange
from agentstream.media.track import INBOUND
from agentstream.sdp.negotiation import MediaPlan

if TYPE_CHECKING:
    from agentstream.media.plane import MediaPlane

RATE_HZ = 8000
"""Samples a second of what every leg hears and plays, whatever its codec has."""


class MediaLeg:
    """One leg's media.

    :ivar port: its RTP port.
    :ivar rate_hz: samples a second of what is heard and played.
    :ivar playback: what it has yet to say at its own rate; see :meth:`voice` for others.
    :ivar on_digit: called with each DTMF digit and its duration in ms.
    :ivar on_speech: called when its far end begins to speak, and when it stops.
    :ivar on_rtp: called when RTP stops though it may come, when it is back, and when it has been away for too long.
    """

    rate_hz = RATE_HZ

    def __init__(self, plane: MediaPlane, row: int, port: int, playback: Playback) -> None:
        self._plane = plane
        self._row = row
        self.port = port
        self.playback = playback
        self._voices = {RATE_HZ: playback}
        self._tell_nobody()
        self._plan: MediaPlan | None = None
        self._listening: list[Callable[[], None]] = []
        self._recorded: list[Tape] = []
        self._digits_sent: Deferred[None] | None = None
        self._final: LegStatistics | None = None
        self._final_chunk_waits: Counts | None = None

    def _tell_nobody(self) -> None:
        self.on_digit: Callable[[str, int], None] = lambda digit, duration_ms: None
        self.on_speech: Callable[[SpeechChange], None] = lambda change: None
        self.on_rtp: Callable[[RtpChange], None] = lambda change: None

    def describe(self, plan: MediaPlan, signalling_host: str, nat: str) -> None:
        """What offer and answer agreed on: from now on the leg sends every 20 ms, if it may, and hears its source."""
        self._plan = plan
        self._plane.describe(self._row, plan, signalling_host, nat)

    @property
    def is_open(self) -> bool:
        """It hears and sends."""
        return self._final is None

    @property
    def remote(self) -> Address | None:
        """The address in the far end's SDP."""
        return None if self._plan is None else (self._plan.remote_host, self._plan.remote_port)

    @property
    def heard_ms(self) -> int:
        """Milliseconds of sound, silence included, that it has heard since it was opened."""
        return self._plane.heard_ms(self._row) if self.is_open else 0

    @property
    def quiet_ms(self) -> int:
        """How long ago its far end was loud enough for speech; never more than the hang-over."""
        return self._plane.quiet_ms(self._row)

    def voice(self, rate_hz: int) -> Playback:
        """The queue for what is said at this rate; it waits until the queues of other rates are empty."""
        if rate_hz not in self._voices:
            self._voices[rate_hz] = self._plane.voice(self._row, rate_hz)
            if self._digits_sent is not None:
                self._voices[rate_hz].hold("digits", True)
        voice = self._voices[rate_hz]
        if voice.is_silent:
            # One that is still at work goes on; the others wait for it already.
            for other_hz, other in self._voices.items():
                if other is not voice:
                    self._wait_for(voice, other, f"{other_hz} Hz")
        return voice

    def _wait_for(self, voice: Playback, other: Playback, reason: str) -> None:
        """Hold ``voice`` until ``other`` is empty, however much is still written to it."""
        if other.is_silent:
            voice.hold(reason, False)
        else:
            voice.hold(reason, True)
            other.mark(lambda is_played: self._wait_for(voice, other, reason))

    def hear(self, chunk_ms: int, fn: ChunkFn, rate_hz: int = RATE_HZ, track: str = INBOUND) -> Callable[[], None]:
        """Hand every whole chunk to ``fn``, at this rate; returns a function that ends it.

        :param track: ``inbound`` is what the far end says, ``outbound`` what it is sent.
        """
        if self._final is not None:
            return lambda: None
        stop = self._plane.hear(self._row, chunk_ms, fn, rate_hz, track)
        self._listening.append(stop)

        def end() -> None:
            if stop in self._listening:
                self._listening.remove(stop)
                stop()

        return end

    def join(self, other: MediaLeg) -> Callable[[], None]:
        """From the next tick on each is sent what the other hears, beside what is played to it; returns what ends it.

        Raises LocalProtocolError where one of them is joined already.
        """
        if not self.is_open or not other.is_open:
            return lambda: None
        bridges = self._plane.bridges
        bridges.join(self._row, other._row)
        is_joined = True

        def end() -> None:
            nonlocal is_joined
            # Behind the end of either leg its row may be somebody else's, and the pair is no more.
            if is_joined and self.is_open and other.is_open:
                bridges.part(self._row)
            is_joined = False

        return end

    def record(self) -> Tape:
        """Record both sides from the next tick on; see :class:`agentstream.media.recording.Tapes`."""
        if self._final is not None:
            raise ResourceError("the leg is closed")
        tape = self._plane.tapes.start(self._row)
        self._recorded.append(tape)
        return tape

    def send_digits(self, digits: str, duration_ms: int = 100, gap_ms: int = 60) -> Deferred[None]:
        """Send DTMF digits, by RFC 4733 where the far end takes that and else as tones; fires when the last one has
        left.

        Raises ResourceError when nothing was agreed on yet, or digits are on their way already.
        """
        plan = self._plan
        if plan is None or self._final is not None:
            raise ResourceError("there is nobody to send digits to")
        if self._digits_sent is not None:
            raise ResourceError("digits are being sent already")
        if plan.send_digit_payload_type is None:
            self._plane.say_digits(self._row, digits, duration_ms, gap_ms)
        else:
            slots = digit_slots(digits, duration_ms, gap_ms, plan.clock_hz)
            self._plane.send_digits(self._row, plan.send_digit_payload_type, slots)
        self._digits_sent = Deferred()
        for voice in self._voices.values():
            voice.hold("digits", True)
        return self._digits_sent

    def digits_left(self) -> None:
        """The tick has sent the last packet of :meth:`send_digits`."""
        sent, self._digits_sent = self._digits_sent, None
        for voice in self._voices.values():
            voice.hold("digits", False)
        if sent is not None:
            sent.callback(None)

    def statistics(self) -> LegStatistics:
        """What this leg's wire has seen; goes on to answer when it is closed."""
        return self._final or self._plane.statistics(self._row)

    def chunk_waits(self) -> Counts:
        """What its listeners were handed so far, by how long it waited; see media/chunk_waits.py."""
        if self._final_chunk_waits is not None:
            return self._final_chunk_waits
        counts: Counts = self._plane.chunk_waits.counts[self._row].copy()
        return counts

    def close(self) -> None:
        """Stop hearing and sending, and give the ports back. Harmless when repeated."""
        if self._final is not None:
            return
        self._final = self._plane.statistics(self._row)
        self._plane.ended_waits += self._plane.waits(self._row)
        self._final_chunk_waits = self.chunk_waits()
        self._plane.ended_chunk_waits += self._final_chunk_waits
        self._plane.ended_chunk_waits_s += float(self._plane.chunk_waits.sums_s[self._row])
        self._plane.ended.add(attrs.asdict(self._final))
        listening, self._listening = self._listening, []
        for stop in listening:
            stop()
        for tape in self._recorded:
            tape.stop()
        for voice in self._voices.values():
            voice.close()
        self._plane.close_row(self._row)
        if self._digits_sent is not None:
            self.digits_left()
        self._recorded.clear()
        self._tell_nobody()  # whoever was told holds this leg
