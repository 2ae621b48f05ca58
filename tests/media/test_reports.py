"""RTCP of legs: when reports leave, where they go, what they say, and what is believed of the far end's."""

from __future__ import annotations

import itertools
from typing import Any

import attrs
import pytest

from agentstream.media.ports import Address
from agentstream.media.reports import READ_A_TICK
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
from tests.media.kit import SERVER, FarEnd, World, make_plan, make_world, ulaw_noise

pytestmark = pytest.mark.rfc(3550)

FRAME = ulaw_noise(1, 5)[0]
STRANGER = ("10.9.9.9", 4001)


@attrs.define
class Control:
    """A far end's RTCP port."""

    world: World
    far: FarEnd
    address: Address
    got: list[tuple[float, tuple[RtcpPacket, ...]]] = attrs.Factory(list)

    def __attrs_post_init__(self) -> None:
        self.world.network.bind(self.address, self.take)

    def take(self, data: bytes, source: Address) -> None:
        assert source == (SERVER, self.far.leg.port + 1)
        self.got.append((self.world.clock.seconds(), parse(data)))

    def send(self, *packets: RtcpPacket, source: Address | None = None) -> None:
        self.send_raw(compound(*packets), source)

    def send_raw(self, data: bytes, source: Address | None = None) -> None:
        self.world.network.send(data, source or self.address, (SERVER, self.far.leg.port + 1))

    @property
    def reports(self) -> list[Any]:
        return [packets[0] for _, packets in self.got]


def next_port(far: FarEnd) -> Address:
    return far.address[0], far.address[1] + 1


def make_call(world: World, **changes: Any) -> tuple[FarEnd, Control]:
    far = world.call(**changes)
    return far, Control(world, far, next_port(far))


def talk(world: World, far: FarEnd, seconds: float) -> None:
    """Let time pass while the far end speaks."""
    for _ in range(round(seconds * 50)):
        far.say(FRAME)
        world.ticks(1)


class TestTiming:
    def test_the_first_comes_soon_and_the_others_by_the_compensated_interval(self) -> None:
        """RFC 3550 section 6.3.1: 0.5 to 1.5 times 5 s, by e - 3/2; half of that before the first."""
        world = make_world()
        _, control = make_call(world)
        world.ticks(6000)
        times = [at for at, _ in control.got]
        steps = [after - before for before, after in itertools.pairwise(times)]
        slot = 0.021  # what is due waits for its tick
        assert 1.25 / 1.21829 <= times[0] <= 3.75 / 1.21828 + slot
        assert all(2.5 / 1.21829 <= step <= 7.5 / 1.21828 + slot for step in steps)
        assert len({round(step, 1) for step in steps}) > len(steps) / 2
        world.plane.stop()

    def test_calls_that_begin_together_do_not_report_together(self) -> None:
        world = make_world(rows=50)
        controls = [make_call(world)[1] for _ in range(50)]
        world.ticks(500)
        ticks = [round(at / 0.02) for control in controls for at, _ in control.got]
        assert max(ticks.count(tick) for tick in ticks) <= 5
        world.plane.stop()

    def test_nobody_is_sent_anything_before_a_description(self) -> None:
        world = make_world()
        leg = world.plane.open_leg()
        world.ticks(500)
        leg.close()
        assert not world.network.unreachable
        world.plane.stop()


class TestWhatIsSaid:
    def test_a_sender_report_and_a_name(self) -> None:
        world = make_world()
        far, control = make_call(world)
        talk(world, far, 20)
        names = set()
        for at, (report, name, *rest) in control.got:
            assert isinstance(report, SenderReport)
            assert isinstance(name, SourceDescription)
            assert not rest
            assert report.ssrc == far.got[0].ssrc
            last = far.got[report.packet_count - 1]
            assert report.octet_count == 160 * report.packet_count
            # Both clocks are of the tick that sent this packet.
            assert report.rtp_timestamp == last.timestamp
            assert report.ntp_time / (1 << 32) - 2_208_988_800 == pytest.approx(at, abs=1e-6)
            names.add(name.cnames[report.ssrc])
        assert len(names) == 1
        world.plane.stop()

    def test_what_was_heard(self) -> None:
        world = make_world()
        far, control = make_call(world)
        for number in range(500):
            packet = far.packet(FRAME)
            if number % 10:
                far.send(packet)
            world.ticks(1)
        (block,) = control.reports[-1].blocks
        assert block.ssrc == far.ssrc
        assert block.fraction_lost == pytest.approx(25, abs=2)
        assert block.highest_sequence_number > 0x10000
        assert control.reports[-1].blocks[0].cumulative_lost > control.reports[0].blocks[0].cumulative_lost
        world.plane.stop()

    def test_a_source_that_is_silent_has_no_block(self) -> None:
        """Section 6.4: of sources from which packets have been received since the last report."""
        world = make_world()
        far, control = make_call(world)
        talk(world, far, 7)
        world.ticks(750)
        assert control.reports[0].blocks
        assert control.reports[-1].blocks == ()
        world.plane.stop()

    def test_who_may_not_send_says_what_it_hears(self) -> None:
        """On hold, with nothing sent in the last two intervals, reports are receiver reports (section 6.4)."""
        world = make_world()
        far, control = make_call(world)
        talk(world, far, 7)
        far.leg.describe(make_plan(far.address, may_send=False), "10.0.0.2", "host")
        talk(world, far, 25)
        kinds = [type(report) for report in control.reports]
        assert kinds[0] is SenderReport
        assert kinds[-1] is ReceiverReport
        assert control.reports[-1].blocks
        world.plane.stop()

    def test_digits_count_with_their_own_length(self) -> None:
        world = make_world()
        far, control = make_call(world)
        far.leg.send_digits("1")
        world.ticks(400)
        report = control.reports[-1]
        sent = far.got[: report.packet_count]
        assert report.octet_count == sum(len(packet.payload) for packet in sent) < 160 * len(sent)
        world.plane.stop()

    def test_goodbye_at_the_close(self) -> None:
        world = make_world()
        far, control = make_call(world)
        world.ticks(3)
        far.leg.close()
        ((_, (report, name, bye)),) = control.got
        assert isinstance(report, SenderReport)
        assert isinstance(name, SourceDescription)
        assert bye == Bye((report.ssrc,))
        world.ticks(500)
        assert len(control.got) == 1
        world.plane.stop()

    def test_no_goodbye_where_nothing_was_said(self) -> None:
        """Section 6.3.7: who never sent anything "MUST NOT send a BYE packet"."""
        world = make_world()
        far, control = make_call(world, may_send=False)
        far.leg.close()
        assert control.got == []
        world.plane.stop()

    def test_the_next_call_in_the_row_has_a_name_of_its_own(self) -> None:
        world = make_world(rows=1)
        far, first = make_call(world)
        talk(world, far, 8)
        first.send(ReceiverReport(far.ssrc, (ReportBlock(far.got[0].ssrc, cumulative_lost=9),)))
        world.ticks(1)
        assert far.leg.statistics().remote_lost == 9
        far.leg.close()
        again, second = make_call(world)
        assert again.leg.statistics().remote_lost is None
        world.ticks(400)
        (one,), (two,) = (set(packets[1].cnames.values()) for packets in (first.got[0][1], second.got[0][1]))
        assert one != two
        assert second.reports[0].blocks == ()
        world.plane.stop()


class TestWhereItGoes:
    @pytest.mark.rfc(3605)
    def test_to_the_port_that_the_description_names(self) -> None:
        world = make_world()
        far = world.call(control_host="10.0.0.8", control_port=5005)
        control = Control(world, far, ("10.0.0.8", 5005))
        world.ticks(300)
        assert control.got
        # And from there it may come.
        control.send(ReceiverReport(1, (ReportBlock(control.reports[0].ssrc, cumulative_lost=3),)))
        world.ticks(1)
        assert far.leg.statistics().remote_lost == 3
        world.plane.stop()

    def test_behind_a_nat_to_the_port_next_to_where_rtp_comes_from_and_then_to_where_rtcp_does(self) -> None:
        world = make_world()
        far = world.call(described=("10.0.0.2", 61000))
        guessed = Control(world, far, next_port(far))
        talk(world, far, 8)
        assert guessed.got
        elsewhere = Control(world, far, (far.address[0], 7777))
        elsewhere.send(ReceiverReport(far.ssrc))
        talk(world, far, 8)
        assert elsewhere.got
        world.plane.stop()

    @pytest.mark.parametrize("changes", [{"remote_host": "0.0.0.0"}, {"remote_port": 0}], ids=str)
    def test_nowhere_on_the_hold_of_rfc_2543_or_without_a_port(self, changes: dict[str, Any]) -> None:
        world = make_world()
        far, control = make_call(world)
        far.leg.describe(make_plan(far.address, may_send=False, **changes), "10.0.0.2", "host")
        world.ticks(500)
        assert control.got == []
        world.plane.stop()

    @pytest.mark.rfc(5761)
    def test_both_ways_on_the_port_of_rtp(self) -> None:
        world = make_world()
        far = world.call(is_muxed=True)
        world.network.unbind(far.address)
        got: list[bytes] = []
        world.network.bind(far.address, lambda data, source: got.append(data))
        talk(world, far, 5)
        reports = [parse(data) for data in got if 192 <= data[1] <= 223]
        assert reports
        assert not world.network.unreachable
        far.send_raw(compound(ReceiverReport(far.ssrc, (ReportBlock(reports[0][0].ssrc, cumulative_lost=4),))))
        world.ticks(1)
        statistics = far.leg.statistics()
        assert (statistics.remote_lost, statistics.rtcp_received, statistics.refused) == (4, 1, {})
        world.plane.stop()

    @pytest.mark.rfc(5761)
    def test_what_was_learnt_on_one_port_does_not_hold_on_two(self) -> None:
        world = make_world()
        far = world.call(is_muxed=True)
        far.send_raw(compound(ReceiverReport(far.ssrc)))
        world.ticks(1)
        far.leg.describe(make_plan(far.address), "10.0.0.2", "host")
        control = Control(world, far, next_port(far))
        world.ticks(400)
        assert control.got
        world.plane.stop()

    @pytest.mark.rfc(5761)
    def test_rtcp_on_the_port_of_rtp_that_nobody_agreed_on_is_counted(self) -> None:
        world = make_world()
        far, _ = make_call(world)
        far.send_raw(compound(ReceiverReport(far.ssrc)))
        world.ticks(1)
        assert far.leg.statistics().refused == {"The packet is RTCP and came on the RTP port.": 1}
        world.plane.stop()


class TestWhatIsBelieved:
    def test_the_round_trip(self) -> None:
        """Section 6.4.1: what our report took there and the answer back, without the wait between."""
        world = make_world()
        far, control = make_call(world)
        wait_s, way_s = 0.5, 0.03
        for address in (control.address, (SERVER, far.leg.port + 1)):
            world.network.path(address).delay_s = way_s

        def answer() -> None:
            report = control.reports[0]
            middle = report.ntp_time >> 16 & 0xFFFFFFFF
            block = ReportBlock(report.ssrc, 0, 7, 0, 80, middle, int(wait_s * 65536))
            control.send(ReceiverReport(far.ssrc, (block,)))

        while not control.got:
            world.ticks(1)
        world.clock.callLater(wait_s - (world.clock.seconds() - control.got[0][0]), answer)
        talk(world, far, 1)
        statistics = far.leg.statistics()
        assert statistics.round_trip_ms is not None
        assert 2000 * way_s <= statistics.round_trip_ms <= 2000 * way_s + 20.1
        assert statistics.remote_lost == 7
        assert statistics.remote_jitter_ms == 10.0
        assert statistics.mos_heard is not None
        assert 4.2 < statistics.mos_heard < 4.41
        assert statistics.mos_remote is not None
        assert statistics.mos_remote < statistics.mos_heard
        world.plane.stop()

    def test_their_sender_report_is_answered(self) -> None:
        world = make_world()
        far, control = make_call(world)
        talk(world, far, 5)
        sent_at = world.clock.seconds()
        control.send(SenderReport(far.ssrc, 0x1122334455667788, 0, 1, 160))
        count = len(control.got)
        while len(control.got) == count:
            talk(world, far, 0.02)
        at, (report, *_) = control.got[-1]
        (block,) = report.blocks
        assert block.last_sr == 0x33445566
        assert block.delay_since_last_sr / 65536 == pytest.approx(at - sent_at, abs=0.025)
        world.plane.stop()

    def test_an_answer_to_no_report_of_ours_measures_nothing(self) -> None:
        world = make_world()
        far, control = make_call(world)
        world.ticks(300)
        ssrc = control.reports[0].ssrc
        control.send(ReceiverReport(far.ssrc, (ReportBlock(ssrc, last_sr=0xDEADBEEF), ReportBlock(ssrc + 1, 0, 99))))
        world.ticks(1)
        statistics = far.leg.statistics()
        assert (statistics.round_trip_ms, statistics.remote_lost) == (None, 0)
        world.plane.stop()

    def test_nobody_else(self) -> None:
        world = make_world()
        far, control = make_call(world)
        talk(world, far, 4)
        before = far.leg.statistics()
        lie = ReceiverReport(7, (ReportBlock(far.got[0].ssrc, 255, 9999),))
        control.send(lie, source=STRANGER)
        talk(world, far, 8)
        after = far.leg.statistics()
        assert (after.remote_lost, after.rtcp_foreign, after.rtcp_received) == (None, 1, before.rtcp_received)
        assert all(destination != STRANGER for _, destination in world.network.unreachable)
        world.plane.stop()

    def test_any_bytes_are_counted(self) -> None:
        world = make_world()
        far, control = make_call(world)
        for data in (b"", b"\x80", b"\x80\xc8\xff\xff", bytes(2000)):
            control.send_raw(data)
            talk(world, far, 0.02)
        statistics = far.leg.statistics()
        assert statistics.rtcp_received == sum(statistics.refused.values()) == 4
        assert statistics.received == 4
        world.plane.stop()

    def test_a_flood_is_read_in_part(self) -> None:
        world = make_world()
        far, control = make_call(world)
        for _ in range(8):
            control.send(ReceiverReport(1))
        world.ticks(1)
        assert far.leg.statistics().refused == {"More RTCP packets than a tick reads.": 8 - READ_A_TICK}
        world.plane.stop()

    def test_no_score_without_sound(self) -> None:
        world = make_world()
        far, _ = make_call(world)
        world.ticks(10)
        assert far.leg.statistics().mos_heard is None
        world.plane.stop()

    def test_loss_costs_score(self) -> None:
        world = make_world()
        ends = [make_call(world)[0] for _ in range(2)]
        for number in range(200):
            for far, every in zip(ends, (1000, 5), strict=True):
                packet = far.packet(FRAME)
                if number % every != 1:
                    far.send(packet)
            world.ticks(1)
        good, bad = (far.leg.statistics().mos_heard for far in ends)
        assert good is not None
        assert bad is not None
        assert good > 4.2 > 3.0 > bad
        world.plane.stop()


@pytest.mark.rfc(3611)
class TestVoipMetrics:
    def test_ours_where_they_are_wanted(self) -> None:
        world = make_world()
        far, control = make_call(world, wants_voip_metrics=True)
        for number in range(400):
            packet = far.packet(FRAME)
            if number % 20:
                far.send(packet)
            world.ticks(1)
        found = [packet for _, packets in control.got for packet in packets if isinstance(packet, ExtendedReport)]
        metrics = found[-1].blocks[0]
        assert metrics.ssrc == far.ssrc
        assert metrics.loss_rate == pytest.approx(0.05 * 256, abs=2)
        assert 70 < metrics.r_factor < 90
        assert 30 < metrics.mos_conversational <= metrics.mos_listening < 45
        assert metrics.jitter_buffer_ms == far.leg.statistics().playout_ms
        world.plane.stop()

    def test_none_where_they_are_not(self) -> None:
        world = make_world()
        far, control = make_call(world)
        talk(world, far, 10)
        assert not any(isinstance(packet, ExtendedReport) for _, packets in control.got for packet in packets)
        world.plane.stop()

    def test_theirs_are_their_score(self) -> None:
        world = make_world()
        far, control = make_call(world)
        talk(world, far, 0.1)
        ssrc = far.got[0].ssrc
        control.send(ReceiverReport(far.ssrc), ExtendedReport(far.ssrc, (VoipMetrics(ssrc, mos_conversational=37),)))
        world.ticks(1)
        assert far.leg.statistics().mos_remote == 3.7
        world.plane.stop()
