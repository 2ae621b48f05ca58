"""Far ends with our own SSRC (RFC 3550 section 8.2)."""

from __future__ import annotations

import numpy as np
import pytest

from agentstream.media.collisions import COLLISION, FORGOTTEN_AFTER_S, LOOP
from agentstream.rtp.packet import Packet
from agentstream.rtp.rtcp import Bye, ReceiverReport, ReportBlock, SenderReport, SourceDescription
from tests.media.kit import FarEnd, World, decode, ulaw_noise
from tests.media.test_reports import Control, next_port

pytestmark = pytest.mark.rfc(3550)


def ssrcs(far: FarEnd) -> list[int]:
    """Those of what we send, in order, each once."""
    return list(dict.fromkeys(packet.ssrc for packet in far.got))


def byes(control: Control) -> list[tuple[int, ...]]:
    return [packet.sources for _, packets in control.got for packet in packets if isinstance(packet, Bye)]


class TestChance:
    """The far end has drawn the number that we have."""

    def test_we_take_another_one_and_say_goodbye_for_the_old(self, world: World) -> None:
        far = world.call()
        control = Control(world, far, next_port(far))
        chunks = world.record(far.leg)
        world.ticks(5)
        (ours,) = ssrcs(far)
        far.ssrc = ours
        frames = ulaw_noise(20, seed=1)
        for frame in frames:
            far.say(frame)
            world.ticks(1)
        world.ticks(10)
        assert ssrcs(far)[0] == ours and len(ssrcs(far)) == 2
        assert byes(control) == [(ours,)]
        report, names, _ = control.got[0][1]
        assert isinstance(report, SenderReport) and report.ssrc == ours
        assert isinstance(names, SourceDescription) and ours in names.cnames
        assert decode(b"".join(frames[1:])).tobytes() in np.concatenate(chunks).tobytes(), "they are heard"
        assert far.leg.statistics().refused == {COLLISION: 1}
        numbers = [packet.sequence_number for packet in far.got]
        assert set(np.diff(np.array(numbers, np.uint16)).tolist()) == {1}

    def test_reports_go_on_with_counts_of_their_own(self, world: World) -> None:
        far = world.call()
        control = Control(world, far, next_port(far))
        world.ticks(400)
        (ours,) = ssrcs(far)
        control.send(ReceiverReport(77, (ReportBlock(ours, 0, 9),)))
        world.ticks(1)
        assert far.leg.statistics().remote_lost == 9
        far.ssrc = ours
        far.say(ulaw_noise(1, seed=1)[0])
        world.ticks(1)
        world.ticks(500)
        other = ssrcs(far)[1]
        last = control.reports[-1]
        assert isinstance(last, SenderReport) and last.ssrc == other
        at = max(at for at, packet in enumerate(far.got) if packet.timestamp == last.rtp_timestamp)
        assert last.packet_count == sum(packet.ssrc == other for packet in far.got[: at + 1])
        assert last.octet_count == 160 * last.packet_count
        control.send(ReceiverReport(77, (ReportBlock(other, 0, 2),)))
        world.ticks(1)
        assert far.leg.statistics().remote_lost == 11, "the call's, and not the SSRC's"

    def test_in_rtcp_alone(self, world: World) -> None:
        far = world.call()
        control = Control(world, far, next_port(far))
        world.ticks(5)
        (ours,) = ssrcs(far)
        control.send(ReceiverReport(ours))
        world.ticks(5)
        assert len(ssrcs(far)) == 2
        assert byes(control) == [(ours,)]
        assert far.leg.statistics().refused == {COLLISION: 1}


class TestLoops:
    """What we send comes back."""

    def loop(self, world: World, far: FarEnd, ticks: int) -> None:
        for _ in range(ticks):
            before = len(far.got)
            world.ticks(1)
            for packet in far.got[before:]:
                far.send(packet)

    def test_our_own_packets_are_not_heard(self, world: World) -> None:
        far = world.call()
        control = Control(world, far, next_port(far))
        chunks = world.record(far.leg)
        far.leg.playback.write(decode(b"".join(ulaw_noise(50, seed=2))).tobytes())
        self.loop(world, far, 50)
        assert len(ssrcs(far)) == 2, "one change, and not one for each packet"
        assert len(byes(control)) == 1
        heard = sum(bool(chunk.any()) for chunk in chunks)
        assert heard <= 10, "what was under way when we changed, and its concealment"
        assert not np.concatenate(chunks[-30:]).any()
        refused = far.leg.statistics().refused
        assert refused[COLLISION] == 1 and refused[LOOP] > 40

    def test_what_the_far_end_says_between_them_is_heard(self, world: World) -> None:
        far = world.call()
        chunks = world.record(far.leg)
        frames = ulaw_noise(50, seed=3)
        for frame in frames:
            far.say(frame)
            self.loop(world, far, 1)
        world.ticks(10)
        assert decode(b"".join(frames)).tobytes() in np.concatenate(chunks).tobytes()
        assert (far.leg.statistics().lost, far.leg.statistics().concealed_ms) == (0, 0)

    def test_a_host_is_forgotten(self, world: World) -> None:
        far = world.call()
        self.loop(world, far, 5)
        assert len(ssrcs(far)) == 2
        world.ticks(int(FORGOTTEN_AFTER_S * 50) + 1)
        self.loop(world, far, 5)
        assert len(ssrcs(far)) == 3

    def test_the_next_call_in_the_row_begins_anew(self, world: World) -> None:
        far = world.call()
        self.loop(world, far, 5)
        far.leg.close()
        again = world.call()
        self.loop(world, again, 5)
        assert again.leg.statistics().refused[COLLISION] == 1


def test_of_two_strangers_with_one_ssrc_the_first_is_heard(world: World) -> None:
    far = world.call()
    chunks = world.record(far.leg)
    frames = ulaw_noise(10, seed=4)
    for number, frame in enumerate(frames):
        far.say(frame)
        far.send(Packet(0, 900 + number, 160 * number, far.ssrc, b"\x31" * 160), source=("10.0.0.2", 9))
        world.ticks(1)
    world.ticks(10)
    assert decode(b"".join(frames)).tobytes() in np.concatenate(chunks).tobytes()
    assert far.leg.statistics().foreign == 10
