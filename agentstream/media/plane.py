"""The media plane: one 20 ms tick for all calls.

``MediaPlane`` owns the matrices in which a leg is a row, and the one LoopingCall that moves them. A tick sends first
and receives second: the packets of this slot leave on time whatever has arrived. No Python call in a tick grows with
the number of legs except the socket calls and the listeners whose chunk is whole; tests/media/test_growth.py counts.

What the rooms above hold of it is a :class:`agentstream.media.leg.MediaLeg` each.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator

import attrs
import numpy as np
import numpy.typing as npt
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from agentstream.audio.activity import ActivitySettings
from agentstream.audio.codecs import Codec, codec_named
from agentstream.errors import LocalProtocolError, ResourceError
from agentstream.media.arrivals import LEAST_MS, MOST_MS, STRAY
from agentstream.media.bridges import Bridges, add_passed, add_wide
from agentstream.media.chunk_waits import EDGES_S, ChunkWaits, percentile_ms
from agentstream.media.collisions import Collisions
from agentstream.media.delay import BINS, wait_ms
from agentstream.media.ears import ChunkFn
from agentstream.media.egress import Egress
from agentstream.media.latch import Latch
from agentstream.media.leg import RATE_HZ, MediaLeg
from agentstream.media.measure import LegStatistics, LegTotals, TimeHistogram
from agentstream.media.playback import Playback, PlaybackBudget
from agentstream.media.playback_bank import PlaybackBank
from agentstream.media.ports import READS_A_TICK, Address, DatagramPorts, Pass
from agentstream.media.protection import Protection
from agentstream.media.rates import STREAM_RATES_HZ, StreamRate
from agentstream.media.reception import Reception
from agentstream.media.recording import Tapes
from agentstream.media.reports import Reports
from agentstream.media.ring import Rings
from agentstream.media.silence import SilenceWatch
from agentstream.media.silero import Judge
from agentstream.media.slack import SlackCollector
from agentstream.media.speech import SpeechWatch
from agentstream.media.tones import Tones
from agentstream.media.track import INBOUND, OUTBOUND, Track
from agentstream.media.wide import WIDE_HZ, WideRows
from agentstream.rtp.events import EventPacket
from agentstream.sdp.negotiation import MediaPlan

SLOT_S = 0.020
MOST_SENT_SLOTS = 5
"""Frames that a late tick sends a row at the most; beyond them the RTP timestamp jumps."""

MOST_HEARD_SLOTS = 50
"""Frames that a late tick plays towards listeners at the most."""

LATE_S = 0.010
LATE_TICKS = 50
"""A second of ticks that were all late: the node takes no more calls."""

HOUSEKEEPING_TICKS = 50
UNKNOWN_RATE = "a stream's rate is 8000, 16000 or 24000 samples a second"


@attrs.frozen
class MediaSettings:
    """What the plane is told.

    :ivar rows: legs at once.
    :ivar playout_ms: how long a caller's sound is held back for late packets, to begin with.
    :ivar playout_min_ms: and ``playout_max_ms``: the bounds within which that follows the arrivals.
    :ivar playback_ms: what one bot may queue.
    :ivar playback_memory: bytes that all bots together may queue.
    :ivar silence_event_s: seconds without RTP after which that is told; 0 for never.
    :ivar rtp_timeout_s: seconds without RTP and RTCP after which the far end is given up; 0 for never.
    :ivar codecs: what will be negotiated, so that all that it takes is there before the first call.
    :ivar inband_dtmf: hear digits as tones where telephone-event was not negotiated.
    :ivar speech: when a caller speaks.
    """

    rows: int = 200
    playout_ms: int = 60
    playout_min_ms: int = LEAST_MS
    playout_max_ms: int = MOST_MS
    playback_ms: int = 600_000
    playback_memory: int = 1 << 30
    silence_event_s: int = 10
    rtp_timeout_s: int = 0
    codecs: tuple[str, ...] = ("PCMU", "PCMA")
    inband_dtmf: bool = True
    speech: ActivitySettings = attrs.field(factory=ActivitySettings)


class MediaPlane:
    """All legs of this node.

    :param random_bits: ``random_bits(n)`` gives n unpredictable bits, for SSRCs, first sequence numbers and the like.
    :param wall_clock: seconds since 1970, for the NTP time in RTCP; without it that counts from an epoch of its own.
    :ivar tick_begins: called before anything moves in a tick, and bound to be short.
    :ivar tick_follows: called behind each tick with the time at which the next one is due, monotonic seconds.
    :param judge: the neural network that confirms who speaks; whoever made it starts and stops it.
    """

    log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        ports: DatagramPorts,
        settings: MediaSettings,
        random_bits: Callable[[int], int],
        collector: SlackCollector | None = None,
        wall_clock: Callable[[], float] | None = None,
        judge: Judge | None = None,
    ) -> None:
        rows = settings.rows
        self.settings = settings
        self._clock = clock
        self._ports = ports
        self._random_bits = random_bits
        self._collector = collector
        self._rings = Rings(rows, least_ms=settings.playout_min_ms, most_ms=settings.playout_max_ms)
        self._reception = Reception(rows, self._rings)
        self._playback = PlaybackBank(rows, RATE_HZ)
        self._egress = Egress(rows)
        self._speech = SpeechWatch(rows, RATE_HZ, settings.speech, judge)
        self._reports = Reports(
            rows,
            self._reception,
            self._egress,
            wall_clock or clock.seconds,
            random_bits,
            self._playout_ms,
            self._late,
        )
        self.protection = Protection(rows, self._reception.inbox, self._reception.views, self._reception.refused)
        self._reports.protect = self.protection.protect_control
        self._collisions = Collisions(self._egress, self._leave_ssrc, random_bits)
        self._reception.on_source = self._reports.on_source = self._collisions.meet
        self._silence = SilenceWatch(rows, settings.silence_event_s, settings.rtp_timeout_s)
        self._tracks = {INBOUND: Track(rows, RATE_HZ), OUTBOUND: Track(rows, RATE_HZ)}
        self.tapes = Tapes(rows, RATE_HZ)
        self._rates: dict[int, StreamRate] = {}
        self._tones = Tones(rows, RATE_HZ)
        self.bridges = Bridges(rows, RATE_HZ // 50, WIDE_HZ // 50)
        self._wide: WideRows | None = None
        self._rings_now: dict[int, Rings] = {}
        self._outgoing = np.zeros((rows, RATE_HZ // 50), np.int16)
        self._heard = np.zeros((rows, RATE_HZ // 50), np.int16)
        self._arrived = Pass()
        self._free = list(range(rows))
        self._high = 0
        self._legs: dict[int, MediaLeg] = {}
        self._digits: list[tuple[MediaLeg, str, int]] = []
        self._digits_left: list[MediaLeg] = []
        self._tick_number = 0
        self._late_in_a_row = 0
        self._due_at = 0.0
        self.budget = PlaybackBudget(settings.playback_memory)
        self.tick_duration = TimeHistogram()
        self.tick_lateness = TimeHistogram()
        self.ended = LegTotals()
        self.ended_waits = np.zeros(BINS, np.int64)
        self.chunk_waits = ChunkWaits(rows)
        self.ended_chunk_waits = np.zeros(len(EDGES_S), np.int64)
        self.ended_chunk_waits_s = 0.0
        self.tick_begins: Callable[[], None] = lambda: None
        self.tick_follows: Callable[[float], None] = _nothing
        self.late_slots = 0
        self.skipped_slots = 0
        self._loop = LoopingCall.withCount(self._run_tick)
        self._loop.clock = clock
        self._reception.on_digit = self._keep_digit
        self._reception.on_latched = self._follow_source
        self._reception.on_control = lambda row, data, source: self._arrived.control.append((row, data, source))
        self._egress.on_digits_sent = self._end_digits
        for codec in map(codec_named, settings.codecs):
            if codec is not None and codec.rate_hz == WIDE_HZ:
                wide = self._wide or self._make_wide()
                wide.rings_for(codec, settings.playout_ms)
                self._reception.packets = wide.packets

    # Start and stop

    def start(self) -> None:
        """Begin to tick; every 20 ms from now."""
        self._due_at = self._clock.seconds()
        self._loop.start(SLOT_S, now=False).addErrback(
            lambda failure: self.log.failure("the media tick died: every call is silent now", failure)
        )

    def stop(self) -> None:
        """Close every leg and every port."""
        if self._loop.running:
            self._loop.stop()
        for leg in list(self._legs.values()):
            leg.close()
        self._ports.stop()

    @property
    def legs(self) -> int:
        """Legs that are open."""
        return len(self._legs)

    @property
    def open_legs(self) -> list[MediaLeg]:
        """Those themselves."""
        return list(self._legs.values())

    @property
    def is_running(self) -> bool:
        """The tick goes on."""
        return self._loop.running

    @property
    def is_overloaded(self) -> bool:
        """Every tick of the last second was late: take no more calls."""
        return self._late_in_a_row >= LATE_TICKS

    def open_leg(self, *, is_v6: bool = False) -> MediaLeg:
        """A new leg with ports of its own, of this IP family. Raises ResourceError when there is no row or no port
        pair."""
        if not self._free:
            raise ResourceError(f"all {self.settings.rows} calls that [media] max_calls allows are up")
        now = self._clock.seconds()
        row = heapq.heappop(self._free)
        try:
            port = self._ports.open(row, now, is_v6=is_v6)
        except ResourceError:
            heapq.heappush(self._free, row)
            raise
        bits = self._random_bits
        self._rings.open(row, self.settings.playout_ms)
        self._reception.open(row)
        self._speech.open(row)
        self.chunk_waits.open(row)
        # RFC 3711 section 3.3.1: a first number in the lower half leaves no doubt about the rollover counter.
        self._egress.open(row, self._ports.sender(row), bits(32), bits(15), bits(32))
        playback = self._playback.open(row, self.budget, self.settings.playback_ms)
        leg = MediaLeg(self, row, port, playback)
        self._legs[row] = leg
        self._high = max(self._high, row + 1)
        return leg

    # The tick

    def _run_tick(self, slots: int) -> None:
        began = self._clock.seconds()
        self._due_at += slots * SLOT_S
        lateness = began - self._due_at + (slots - 1) * SLOT_S
        self.tick_lateness.add(lateness)
        self._late_in_a_row = self._late_in_a_row + 1 if lateness > LATE_S else 0
        self._tick_number += slots
        if slots > 1:
            self.late_slots += slots - 1
        try:
            self.tick_begins()
            self.tick(slots, began)
        except Exception:
            self.log.failure("a media tick failed; the next one goes on")
        took = self._clock.seconds() - began
        self.tick_duration.add(took)
        if self._collector is not None:
            self._collector.after_tick(took, len(self._legs))
        self.tick_follows(self._due_at + SLOT_S)

    def tick(self, slots: int, now: float) -> None:
        """Move every leg on by this many 20 ms slots."""
        high = self._high
        if high:
            self.tapes.begin_tick()
            self._send(high, slots)
            self._receive(now)
            self._reports.send_due(now)
            if self._digits or self._digits_left:
                self._tell_digits()
            self._hear(high, slots)
            self.tapes.end_tick(slots - MOST_HEARD_SLOTS)
            if self._digits:
                self._tell_digits()
            self._tell_speech()
        if self._legs:
            self._settle_sources()
        if self._tick_number % HOUSEKEEPING_TICKS < slots:
            self._ports.release(now)
            for row in list(self._legs):
                self._reception.expire_digits(row, now)
            self._tell_digits()
            self._tell_silence()

    def _send(self, high: int, slots: int) -> None:
        outgoing, rates = self._outgoing[:high], list(self._rates.values())
        track, wide = self._tracks[OUTBOUND], self._wide
        exact = self._rates.get(WIDE_HZ) if wide is not None and len(wide.rows) else None
        for _ in range(min(slots, MOST_SENT_SLOTS)):
            self._playback.take(high, outgoing)
            passed = self.bridges.take(wide, is_late=slots > 1)
            if passed is not None:
                add_passed(passed, outgoing)
            said = self._tones.speak(outgoing)
            for rate in rates:
                if rate is not exact:
                    rate.speak(high, outgoing)
            sent = wide.speak(high, outgoing, exact) if wide is not None and len(wide.rows) else None
            if passed is not None and wide is not None:
                add_wide(passed, outgoing, wide, self._tones.rows)
            self._egress.send(high, outgoing, None if sent is None else sent.frames)
            for row in said:
                self._end_digits(row)
            self.tapes.say(outgoing, self._egress.sends)
            is_sent = self._egress.sends[:high]
            self._playback.withhold(high, is_sent)
            self._playback.settle(high)
            for rate in rates:
                rate.bank.withhold(high, is_sent)
                rate.bank.settle(high)
            track.hear(outgoing, sent)
        if slots > MOST_SENT_SLOTS:
            self.skipped_slots += slots - MOST_SENT_SLOTS
            self._egress.jump(high, slots - MOST_SENT_SLOTS)
            outgoing[:] = 0
            for _ in range(min(slots, MOST_HEARD_SLOTS) - MOST_SENT_SLOTS):
                track.hear(outgoing)  # both tracks of a call keep one time

    def _receive(self, now: float) -> None:
        arrived, views = self._arrived, self._reception.views
        for _ in range(READS_A_TICK):
            if not self._ports.receive(views, arrived):
                return
            if not self.protection.is_idle:
                self.protection.open(arrived, now)
            self._reception.take(arrived, self._tick_number, now)
            if arrived.control:
                self._reports.receive(arrived.control, self._tick_number, now)
        self._ports.discard()

    def _tell(self, fn: Callable[..., object], *news: object) -> None:
        """Somebody's mistake about their news is their own: the tick and every other call go on."""
        try:
            fn(*news)
        except Exception:
            self.log.failure("what the media plane told a call failed there")

    def _tell_digits(self) -> None:
        # Told behind the receive pass and not in it: what a digit sets off may close a leg and open another in its row.
        left, self._digits_left = self._digits_left, []
        for leg in left:
            self._tell(leg.digits_left)
        digits, self._digits = self._digits, []
        for leg, digit, duration_ms in digits:
            if leg.is_open:
                self._tell(leg.on_digit, digit, duration_ms)

    def _tell_speech(self) -> None:
        # Whom it is about is settled first: what one is told may close a leg and open another in its row.
        for leg, change in [(self._legs.get(row), change) for row, change in self._speech.take()]:
            if leg is not None and leg.is_open:
                self._tell(leg.on_speech, change)

    def heard_ms(self, row: int) -> int:
        """Milliseconds of sound, silence included, that a row has heard since its leg was opened."""
        return self._speech.heard_ms(row)

    @property
    def speech_alone_s(self) -> float:
        """Seconds of loud sound, of all legs, that energy alone judged because the neural network did not answer."""
        return self._speech.alone_s

    def quiet_ms(self, row: int) -> int:
        """How long ago a row's far end was loud enough for speech; never more than the hang-over."""
        return self._speech.quiet_ms(row)

    def _tell_silence(self) -> None:
        heard, reported = self._reception.heard_tick, self._reports.heard_tick
        changes = self._silence.look(self._high, self._tick_number, heard, reported)
        for leg, change in [(self._legs[row], change) for row, change in changes]:
            if leg.is_open:  # what the one before was told may have closed it
                self._tell(leg.on_rtp, change)

    def _hear(self, high: int, slots: int) -> None:
        heard, track, wide = self._heard[:high], self._tracks[INBOUND], self._wide
        for _ in range(min(slots, MOST_HEARD_SLOTS)):
            self._rings.play(high, heard)
            raised = wide.hear(high, heard) if wide is not None and len(wide.rows) else None
            self._speech.hear(heard)
            self.bridges.hear(heard, wide)
            told = track.hear(heard, raised)
            if len(told):
                self._note_waits(told)
            for digit in self._tones.hear(heard):
                if digit.row in self._legs:
                    self._keep_digit(digit.row, digit.digit, digit.duration_ms)
            self.tapes.hear(heard)

    def _note_waits(self, told: npt.NDArray[np.int64]) -> None:
        """The listeners of these rows were just handed a chunk."""
        now = self._clock.seconds()
        waits_s = self._rings.waited_s(told, now)
        if self._wide is not None and len(self._wide.rows):
            waits_s = np.minimum(waits_s, self._wide.rings.waited_s(told, now))
        self.chunk_waits.add(told, waits_s)

    def _follow_source(self, row: int, source: Address | None) -> None:
        self._ports.unsettle(row)
        if source is not None:
            self._egress.move(row, source)

    def _settle_sources(self) -> None:
        """Each row once a second, a few in every tick: connecting a socket takes as long as three packets."""
        for row in range(self._tick_number % HOUSEKEEPING_TICKS, self._high, HOUSEKEEPING_TICKS):
            source = self._reception.latched[row]
            if source is not None and row in self._legs:
                send = self._ports.settle(row, source)
                if send is not None:
                    self._egress.connect(row, send, source)

    # What legs ask for

    def _keep_digit(self, row: int, digit: str, duration_ms: int) -> None:
        self._digits.append((self._legs[row], digit, duration_ms))

    def _end_digits(self, row: int) -> None:
        leg = self._legs.get(row)
        if leg is not None:
            self._digits_left.append(leg)

    def describe(self, row: int, plan: MediaPlan, signalling_host: str, nat: str) -> None:
        """Point a row at what its far end described."""
        codec = codec_named(plan.codec)
        if codec is None:
            raise LocalProtocolError(f"{plan.codec} is no codec that is served here")
        address = (plan.remote_host, plan.remote_port)
        if self._reception.described(row) != address or not self._reception.is_heard(row):
            # From elsewhere, or behind a hold: nothing of the stream before says when this one's sound is due.
            # Otherwise the ring finds out by itself whether the stream goes on.
            self._reception.forget_source(row)
        self._choose_rings(row, codec, plan.parameters)
        self._reception.describe(
            row,
            Latch(address, signalling_host, nat),
            plan.receive_payload_type,
            plan.receive_digit_payload_type,
            codec,
            plan.may_receive,
            plan.receive_noise_payload_type,
        )
        self._tones.watch(row, self.settings.inband_dtmf and plan.receive_digit_payload_type is None)
        (self._reception.muxed.add if plan.is_muxed else self._reception.muxed.discard)(row)
        senders = (self._ports.sender(row), self._ports.control_sender(row))
        self._reports.describe(row, plan, signalling_host, senders, self._clock.seconds())
        self._silence.describe(row, plan.may_receive and plan.remote_port > 0, self._tick_number)
        is_halved = plan.maxptime_ms is not None and plan.maxptime_ms < 20
        context = self.protection.describe(row, plan.keys, self._clock.seconds())
        self._egress.direct(
            row, address, plan.send_payload_type, codec, plan.may_send, is_halved, plan.parameters, context
        )

    def _leave_ssrc(self, row: int, other: int, now: float) -> None:
        self._reports.leave_ssrc(row, other, now)
        self.protection.forget_ssrc(row, self._egress.ssrc(row))

    def _make_wide(self) -> WideRows:
        settings = self.settings
        self._wide = WideRows(settings.rows, settings.playout_min_ms, settings.playout_max_ms)
        self._reception.coded = self._wide.rings
        return self._wide

    def _choose_rings(self, row: int, codec: Codec, parameters: str) -> None:
        """Packets of this codec go to its own rings; those that another codec leaves play what they have."""
        rings: Rings = self._rings
        if codec.decode is None:
            wide = self._wide or self._make_wide()
            rings = wide.open(row, codec, self.settings.playout_ms, parameters)
            self._reception.packets = wide.packets
        if self._rings_now.get(row, rings) is not rings:
            rings.forget_source(row)
        self._rings_now[row] = rings

    def hear(self, row: int, chunk_ms: int, fn: ChunkFn, rate_hz: int, track: str) -> Callable[[], None]:
        """Add a listener; returns what removes it."""
        if rate_hz not in STREAM_RATES_HZ:
            raise ValueError(UNKNOWN_RATE)
        return self._tracks[track].listen(row, chunk_ms, fn, rate_hz)

    def voice(self, row: int, rate_hz: int) -> Playback:
        """A queue at a stream's rate, beside the row's own."""
        if rate_hz not in STREAM_RATES_HZ:
            raise ValueError(UNKNOWN_RATE)
        if rate_hz not in self._rates:
            self._rates[rate_hz] = StreamRate(self.settings.rows, rate_hz, RATE_HZ)
        return self._rates[rate_hz].open(row, self.budget, self.settings.playback_ms)

    def send_digits(self, row: int, payload_type: int, slots: Iterator[EventPacket | None]) -> None:
        """Send RFC 4733 packets in place of a row's audio."""
        self._egress.send_digits(row, payload_type, slots)

    def say_digits(self, row: int, digits: str, duration_ms: int, gap_ms: int) -> None:
        """Send tones in place of a row's audio."""
        self._tones.say(row, digits, duration_ms, gap_ms)

    def _rings_of(self, row: int) -> list[Rings]:
        # A call may have been in several banks; the delay is that of the one that it is in.
        is_narrow = self._wide is None or row not in self._wide.rows
        return [self._rings] if self._wide is None or is_narrow else [self._rings, *self._wide.all_rings]

    def _late(self, row: int) -> int:
        return sum(int(ring.late[row]) for ring in self._rings_of(row))

    def _playout_ms(self, row: int) -> int:
        return self._rings_now.get(row, self._rings).delay_ms(row)

    def waits(self, row: int) -> npt.NDArray[np.int64]:
        """Packets of a row by the blocks that they had to spare; see :class:`agentstream.media.delay.PlayoutDelay`."""
        waited = np.zeros(BINS, np.int64)
        for rings in self._rings_of(row):
            waited += rings.delay.waited[row]
        return waited

    def all_waits(self) -> npt.NDArray[np.int64]:
        """The same of every leg there has been."""
        rows = list(self._legs)
        total: npt.NDArray[np.int64] = self.ended_waits + self._rings.delay.waited[rows].sum(axis=0)
        if self._wide is not None:
            wide_rows = [row for row in rows if row in self._wide.rows]
            for rings in self._wide.all_rings:
                total += rings.delay.waited[wide_rows].sum(axis=0)
        return total

    def all_chunk_waits(self) -> tuple[npt.NDArray[np.int64], float]:
        """The chunks of every leg there has been, by EDGES_S, and the seconds that they waited together."""
        rows = list(self._legs)
        counts: npt.NDArray[np.int64] = self.ended_chunk_waits + self.chunk_waits.counts[rows].sum(axis=0)
        return counts, self.ended_chunk_waits_s + float(self.chunk_waits.sums_s[rows].sum())

    def statistics(self, row: int) -> LegStatistics:
        """What a row's wire has seen so far."""
        wire, refused = self._reception.statistics, dict(self._reception.refused[row])
        rings = self._rings_of(row)
        if stray := sum(int(ring.stray[row]) for ring in rings):
            refused[STRAY] = stray
        waited = self.waits(row)
        return LegStatistics(
            received=int(wire.received[row]),
            lost=max(0, wire.lost(row)),
            misplaced=int(wire.discarded[row]),
            late=self._late(row),
            duplicate=sum(int(ring.duplicate[row]) for ring in rings),
            jitter_ms=round(wire.jitter_ms(row), 2),
            concealed_ms=sum(int(ring.concealed[row]) for ring in rings) * 10,
            playout_ms=self._playout_ms(row),
            waited_p50_ms=wait_ms(waited, 50),
            waited_p95_ms=wait_ms(waited, 95),
            to_bot_p50_ms=percentile_ms(self.chunk_waits.counts[row], 50),
            to_bot_p95_ms=percentile_ms(self.chunk_waits.counts[row], 95),
            stretched_ms=sum(int(ring.stretched[row]) for ring in rings) * 10,
            left_out_ms=sum(int(ring.left_out[row]) for ring in rings) * 10,
            foreign=int(self._reception.foreign[row]),
            discarded=self._ports.discarded[row],
            refused=refused,
            sent=int(self._egress.sent[row]),
            send_errors=int(self._egress.refused[row]),
            underruns=int(self._playback.underruns[row] + sum(r.bank.underruns[row] for r in self._rates.values())),
            **attrs.asdict(self._reports.quality(row)),
        )

    def close_row(self, row: int) -> None:
        """Give a row and its ports back."""
        del self._legs[row]
        self.bridges.part(row)
        self._reports.close(row, self._clock.seconds())
        self._collisions.close(row)
        self.protection.close(row)
        self._silence.close(row)
        self._egress.close(row)
        self._reception.close(row)
        self._reception.forget_source(row)
        self._speech.close(row)
        self._rings_now.pop(row, None)
        self._tones.close(row)
        if self._wide is not None:
            self._wide.close(row)
        for rate in self._rates.values():
            rate.close(row)
        self._ports.close(row, self._clock.seconds())
        heapq.heappush(self._free, row)
        self._high = max(self._legs) + 1 if self._legs else 0


def _nothing(due: float) -> None:
    pass
