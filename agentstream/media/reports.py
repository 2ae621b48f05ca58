"""RTCP of all rows (RFC 3550 section 6): reports that leave when they are due, and what the far ends report.

No row has a timer. The tick compares its time with the earliest deadline, and only when that has passed are the rows
that are due looked for. Deadlines are random, so that they spread over the ticks by themselves.

RTCP is believed only from the host whose RTP is heard (before any is: from the hosts that the description names);
everything else is counted. The round trip is measured by our own clock, from when the report left to when the answer to
it was found by a tick, so it is up to 20 ms too long; nothing depends on wall clocks that agree.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

import attrs
import numpy as np

from agentstream.errors import RemoteProtocolError
from agentstream.media.egress import Egress, Sender
from agentstream.media.ports import PACKET_CAPACITY, Address
from agentstream.media.reception import Reception
from agentstream.rtp.emodel import impairment_of, mean_opinion_score, opinion, rating
from agentstream.rtp.interval import next_interval
from agentstream.rtp.rtcp import (
    Bye,
    ExtendedReport,
    ReceiverReport,
    ReportBlock,
    RtcpPacket,
    SenderReport,
    SourceDescription,
    VoipMetrics,
    compound,
    parse,
)
from agentstream.sdp.negotiation import UNSPECIFIED, MediaPlan

NTP_EPOCH_S = 2_208_988_800
"""Seconds from 1900, where NTP time begins, to 1970."""

READ_A_TICK = 4
"""RTCP packets of one row that one tick reads; more are a flood, and counted."""

REMEMBERED_REPORTS = 4
"""Sender reports of ours that an answer may still refer to."""

TOO_MANY = "More RTCP packets than a tick reads."
OVERSIZE = "The RTCP packet fills the receive row: it may have been cut."

SLOT_MS = 20

CNAME_BITS = 96
"""Random and new for each call, so that it links no two of them (RFC 7022 section 4.2)."""

CONCEALMENT = 3 << 6
"""In the configuration of VoIP metrics: losses are concealed by an ordinary algorithm (RFC 3611 section 4.7.6)."""


@attrs.frozen
class FarReport:
    """What the far end says about what it hears of us.

    :ivar lost: packets, over the whole call. :ivar jitter_ms: interarrival jitter there.
    :ivar loss_percent: ``lost`` of what we had sent by then.
    """

    lost: int
    jitter_ms: float
    loss_percent: float


@attrs.frozen
class Quality:
    """How a leg's sound fares; None where nothing is known yet.

    :ivar round_trip_ms: network and far end, as last measured.
    :ivar remote_lost: packets of ours that the far end has missed. :ivar remote_jitter_ms: its interarrival jitter.
    :ivar mos_heard: mean opinion score of what we hear (E-model), 1 to 4.5.
    :ivar mos_remote: of what the far end hears: as it says itself in VoIP metrics, else the E-model on its reports.
    """

    round_trip_ms: float | None = None
    remote_lost: int | None = None
    remote_jitter_ms: float | None = None
    mos_heard: float | None = None
    mos_remote: float | None = None
    rtcp_sent: int = 0
    rtcp_received: int = 0
    rtcp_foreign: int = 0


@attrs.define
class _Session:
    """RTCP of one leg.

    :ivar learnt: where its RTCP comes from (RFC 4961: ours goes there).
    :ivar left: (middle of the NTP time, monotonic s) of sender reports that have left.
    :ivar ssrc_began: packets and octets that had been sent, and packets that the far end had missed, before the present
        SSRC.
    :ivar sent_before: packets sent until the last report and until the one before it.
    :ivar heard_before: packets received until the last report.
    :ivar last_sr: (SSRC, middle of the NTP time, arrival) of the far end's last sender report.
    :ivar read_tick: the last tick that read RTCP, ``read``: how many packets it read.
    """

    ssrc: int
    cname: str
    to_rtp: Sender
    to_rtcp: Sender
    plan: MediaPlan
    signalling_host: str
    learnt: Address | None = None
    left: deque[tuple[int, float]] = attrs.Factory(lambda: deque(maxlen=REMEMBERED_REPORTS))
    ssrc_began: tuple[int, int, int] = (0, 0, 0)
    sent_before: tuple[int, int] = (0, 0)
    heard_before: int = 0
    last_sr: tuple[int, int, float] | None = None
    far: FarReport | None = None
    far_metrics: VoipMetrics | None = None
    round_trip_ms: float | None = None
    read_tick: int = -1
    read: int = 0
    sent: int = 0
    received: int = 0
    foreign: int = 0


class Reports:
    """The RTCP of every leg.

    :param wall_clock: seconds since 1970, for the NTP time of sender reports.
    :param random_bits: ``random_bits(n)`` gives n unpredictable bits.
    :param playout_ms: of a row: how long what it hears is held back. :param late: packets that came too late for that.
    """

    def __init__(
        self,
        rows: int,
        reception: Reception,
        egress: Egress,
        wall_clock: Callable[[], float],
        random_bits: Callable[[int], int],
        playout_ms: Callable[[int], int],
        late: Callable[[int], int],
    ) -> None:
        self._reception = reception
        self._egress = egress
        self._wall_clock = wall_clock
        self._random_bits = random_bits
        self._playout_ms = playout_ms
        self._late = late
        self._sessions: dict[int, _Session] = {}
        self._due = np.full(rows, np.inf)
        self._earliest = float("inf")
        self.heard_tick = np.zeros(rows, np.int64)
        # Somebody reports as this SSRC, from this host: why that is not believed, or None.
        self.on_source: Callable[[int, int, str, float], str | None] = lambda row, ssrc, host, now: None
        # What is to leave of a row's packet.
        self.protect: Callable[[int, bytes], bytes] = lambda row, packet: packet

    def describe(
        self, row: int, plan: MediaPlan, signalling_host: str, senders: tuple[Sender, Sender], now: float
    ) -> None:
        """What a description says; the first one starts the reports.

        :param senders: what sends from the row's RTP port and from its RTCP port.
        """
        session = self._sessions.get(row)
        if session is None:
            cname = f"{self._random_bits(CNAME_BITS):0{CNAME_BITS // 4}x}"
            ssrc = self._egress.ssrc(row)
            self._sessions[row] = _Session(ssrc, cname, *senders, plan, signalling_host)
            self._schedule(row, now + next_interval(self._random_bits, is_first=True))
            return
        before = session.plan
        if _described_address(before) != _described_address(plan) or before.is_muxed != plan.is_muxed:
            session.learnt = None
        session.plan, session.signalling_host = plan, signalling_host

    def close(self, row: int, now: float) -> None:
        """Say goodbye, as far as anything was said before (RFC 3550 section 6.3.7)."""
        session = self._sessions.pop(row, None)
        if session is None:
            return
        if session.sent or self._egress.sent[row]:
            self._send(row, session, now, (Bye((session.ssrc,)),))
        self._due[row] = np.inf
        self._earliest = float(self._due.min())

    def leave_ssrc(self, row: int, other: int, now: float) -> None:
        """Say goodbye for the row's SSRC and go on with another one, whose counts begin at 0 (RFC 3550 section 8.2)."""
        session = self._sessions.get(row)
        if session is None:
            return
        if session.sent or self._egress.sent[row]:
            self._send(row, session, now, (Bye((session.ssrc,)),))
        missed = session.far.lost if session.far is not None else 0
        session.ssrc_began = int(self._egress.sent[row]), int(self._egress.octets[row]), missed
        session.ssrc = other
        session.left.clear()

    def _schedule(self, row: int, due: float) -> None:
        self._due[row] = due
        self._earliest = min(self._earliest, due)

    # Out

    def send_due(self, now: float) -> None:
        """Send the reports whose time has come. Behind the tick's RTP: then the RTP clock is that of ``now``."""
        if now < self._earliest:
            return
        for row in np.flatnonzero(self._due <= now).tolist():
            self._due[row] = now + next_interval(self._random_bits)
            session = self._sessions[row]
            self._send(row, session, now)
        self._earliest = float(self._due.min())

    def _send(self, row: int, session: _Session, now: float, rest: tuple[RtcpPacket, ...] = ()) -> None:
        address = self._destination(row, session)
        if address is None:
            return
        blocks = self._block(row, session, now)
        names = SourceDescription.of_cname(session.ssrc, session.cname)
        report, middle = self._report(row, session, blocks)
        metrics = self._metrics(row, session) if session.plan.wants_voip_metrics and blocks else ()
        send = session.to_rtp if session.plan.is_muxed else session.to_rtcp
        session.sent_before = (int(self._egress.sent[row]), session.sent_before[0])
        try:
            send(memoryview(self.protect(row, compound(report, names, *metrics, *rest))), address)
        except OSError:  # a full socket buffer, or ICMP's answer to an earlier packet
            self._egress.refused[row] += 1
            return
        session.sent += 1
        if middle:
            session.left.append((middle, now))

    def _report(
        self, row: int, session: _Session, blocks: tuple[ReportBlock, ...]
    ) -> tuple[SenderReport | ReceiverReport, int]:
        """A sender report if anything was sent since the report before the last one (section 6.4), and the middle of
        its NTP time."""
        egress = self._egress
        packets = int(egress.sent[row])
        if packets == session.sent_before[1]:
            return ReceiverReport(session.ssrc, blocks), 0
        ntp_time = int((self._wall_clock() + NTP_EPOCH_S) * (1 << 32)) & 0xFFFFFFFFFFFFFFFF
        packets_before, octets_before, _ = session.ssrc_began
        packets -= packets_before
        octets = (int(egress.octets[row]) - octets_before) & 0xFFFFFFFF
        # The row's clock already stands at the next slot.
        timestamp = (egress.timestamp(row) - egress.units(row)) & 0xFFFFFFFF
        report = SenderReport(session.ssrc, ntp_time, timestamp, packets & 0xFFFFFFFF, octets, blocks)
        return report, ntp_time >> 16 & 0xFFFFFFFF

    def _block(self, row: int, session: _Session, now: float) -> tuple[ReportBlock, ...]:
        """The block about who has been heard since the last report, if anybody has."""
        reception = self._reception
        received = int(reception.statistics.received[row])
        if received == session.heard_before:
            return ()
        session.heard_before = received
        ssrc = int(reception.ssrc[row])
        if session.last_sr is None or session.last_sr[0] != ssrc:
            return (reception.statistics.report(row, ssrc),)
        _, middle, arrived = session.last_sr
        delay = min(0xFFFFFFFF, int((now - arrived) * 65536))
        return (reception.statistics.report(row, ssrc, middle, delay),)

    def _metrics(self, row: int, session: _Session) -> tuple[ExtendedReport, ...]:
        """What we hear, as VoIP metrics. Losses are not told apart into bursts and gaps: the whole is one gap."""
        lost, late, expected = self._losses(row)
        playout_ms = self._playout_ms(row)
        percent = 100.0 * (lost + late) / expected
        codec = session.plan.codec
        r = rating(self._delay_ms(row, session), percent, impairment_of(codec))
        density = min(255, 256 * (lost + late) // expected)
        metrics = VoipMetrics(
            int(self._reception.ssrc[row]),
            loss_rate=min(255, 256 * lost // expected),
            discard_rate=min(255, 256 * late // expected),
            gap_density=density,
            gap_ms=min(65535, expected * SLOT_MS),
            round_trip_ms=min(65535, round(session.round_trip_ms or 0.0)),
            end_system_ms=min(65535, playout_ms + SLOT_MS),
            r_factor=round(max(0.0, min(100.0, r))),
            mos_listening=round(10 * mean_opinion_score(0.0, percent, codec)),
            mos_conversational=round(10 * opinion(r)),
            configuration=CONCEALMENT,
            jitter_buffer_ms=playout_ms,
            jitter_buffer_maximum_ms=playout_ms,
            jitter_buffer_absolute_ms=playout_ms,
        )
        return (ExtendedReport(session.ssrc, (metrics,)),)

    def _destination(self, row: int, session: _Session) -> Address | None:
        """Where RTCP goes now; None where it may not go anywhere."""
        plan = session.plan
        if not plan.remote_port or plan.remote_host in UNSPECIFIED:
            return None
        if plan.is_muxed:
            return self._egress.address(row)
        if session.learnt is not None:
            return session.learnt
        latched = self._reception.latched[row]
        if latched is None or latched[:2] == (plan.remote_host, plan.remote_port) or plan.control_port:
            return _described_address(plan)
        return latched[0], min(65535, latched[1] + 1)

    # In

    def receive(self, arrived: Sequence[tuple[int, bytes, Address]], tick: int, now: float) -> None:
        """Read the RTCP that a pass brought: (row, datagram, source) each."""
        for row, data, source in arrived:
            session = self._sessions.get(row)
            if session is None:
                continue
            if not self._is_known(row, session, source[0]):
                session.foreign += 1
                continue
            session.received += 1
            if session.read_tick != tick:
                session.read_tick, session.read = tick, 0
            session.read += 1
            if session.read > READ_A_TICK:
                self._reception.refused[row][TOO_MANY] += 1
                continue
            if len(data) >= PACKET_CAPACITY:
                self._reception.refused[row][OVERSIZE] += 1
                continue
            try:
                packets = parse(data)
            except RemoteProtocolError as error:
                self._reception.refused[row][error.sentence] += 1
                continue
            session.learnt = source
            self.heard_tick[row] = tick
            report = packets[0]
            if isinstance(report, SenderReport | ReceiverReport):
                reason = self.on_source(row, report.ssrc, source[0], now)
                if reason is not None:
                    self._reception.refused[row][reason] += 1
                    continue
            for packet in packets:
                self._take(row, session, packet, now)

    def _is_known(self, row: int, session: _Session, host: str) -> bool:
        plan, latched = session.plan, self._reception.latched[row]
        if plan.control_host == host:
            return True
        return host == latched[0] if latched is not None else host in (plan.remote_host, session.signalling_host)

    def _take(self, row: int, session: _Session, packet: RtcpPacket, now: float) -> None:
        if isinstance(packet, SenderReport | ReceiverReport):
            if isinstance(packet, SenderReport):
                session.last_sr = (packet.ssrc, packet.ntp_time >> 16 & 0xFFFFFFFF, now)
            for block in packet.blocks:
                if block.ssrc == session.ssrc:
                    self._take_block(row, session, block, now)
        elif isinstance(packet, ExtendedReport):
            for metrics in packet.blocks:
                if metrics.ssrc == session.ssrc:
                    session.far_metrics = metrics
        elif isinstance(packet, Bye):
            session.last_sr = None

    def _take_block(self, row: int, session: _Session, block: ReportBlock, now: float) -> None:
        lost = session.ssrc_began[2] + block.cumulative_lost
        percent = 100.0 * max(0, lost) / max(1, int(self._egress.sent[row]))
        session.far = FarReport(lost, block.jitter * 1000 / session.plan.clock_hz, min(100.0, percent))
        for middle, left in session.left:
            if middle == block.last_sr:
                session.round_trip_ms = 1000 * max(0.0, now - left - block.delay_since_last_sr / 65536)

    # What is known

    def quality(self, row: int) -> Quality:
        """What is known of a row's sound by now."""
        session = self._sessions.get(row)
        if session is None:
            return Quality()
        lost, late, expected = self._losses(row)
        mos_heard = None
        if self._reception.statistics.received[row]:
            percent = 100.0 * (lost + late) / expected
            mos_heard = mean_opinion_score(self._delay_ms(row, session), percent, session.plan.codec)
        return Quality(
            _rounded(session.round_trip_ms, 1),
            session.far.lost if session.far is not None else None,
            _rounded(session.far.jitter_ms if session.far is not None else None, 2),
            _rounded(mos_heard, 2),
            _rounded(self._remote_score(session), 2),
            session.sent,
            session.received,
            session.foreign,
        )

    def _losses(self, row: int) -> tuple[int, int, int]:
        """Packets lost, too late, and expected (at least 1) of a row."""
        statistics = self._reception.statistics
        expected = max(1, statistics.expected(row))
        lost = min(expected, max(0, statistics.lost(row)))
        return lost, min(expected - lost, self._late(row)), expected

    def _delay_ms(self, row: int, session: _Session) -> float:
        """One way, to us: half the round trip, one packet's length and what we hold back."""
        return (session.round_trip_ms or 0.0) / 2 + session.plan.ptime_ms + self._playout_ms(row)

    @staticmethod
    def _remote_score(session: _Session) -> float | None:
        metrics, far = session.far_metrics, session.far
        if metrics is not None and 10 <= metrics.mos_conversational <= 50:
            return metrics.mos_conversational / 10
        if far is None:
            return None
        # How long the far end holds our sound back it does not say: as long as twice its jitter, and a packet.
        delay_ms = (session.round_trip_ms or 0.0) / 2 + 2 * SLOT_MS + 2 * far.jitter_ms
        return mean_opinion_score(delay_ms, far.loss_percent, session.plan.codec)


def _described_address(plan: MediaPlan) -> Address:
    """Where a description wants RTCP, unless it shares RTP's port: RFC 3605, or the next port."""
    return plan.control_host or plan.remote_host, plan.control_port or min(65535, plan.remote_port + 1)


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)
