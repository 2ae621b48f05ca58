"""Whole legs on a Clock: what is heard, what is sent, and when."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentstream.audio import g711
from agentstream.errors import ResourceError
from agentstream.media.plane import MOST_SENT_SLOTS
from agentstream.media.ports import DISCARDS_A_TICK, READS_A_TICK, Pass
from agentstream.rtp.events import TelephoneEvent
from agentstream.rtp.packet import Packet
from tests.conftest import LoggedFailures
from tests.media.kit import SERVER, SLOT_S, World, decode, make_plan, make_world, ulaw_noise


def test_a_leg_sends_every_20_ms_silence_included(world: World) -> None:
    far = world.call()
    world.ticks(50)
    assert len(far.got) == 50
    assert far.got[0].marker and not any(packet.marker for packet in far.got[1:])
    assert {packet.payload for packet in far.got} == {b"\xff" * 160}
    for before, after in zip(far.got, far.got[1:], strict=False):
        assert (after.sequence_number - before.sequence_number) & 0xFFFF == 1
        assert (after.timestamp - before.timestamp) & 0xFFFFFFFF == 160
    assert len({packet.ssrc for packet in far.got}) == 1


def test_silence_in_a_law(world: World) -> None:
    far = world.call(codec="PCMA", send_payload_type=8, receive_payload_type=8)
    plain = world.call()
    world.ticks(3)
    assert {packet.payload for packet in far.got} == {b"\xd5" * 160}
    assert {packet.payload_type for packet in far.got} == {8}
    assert {packet.payload for packet in plain.got} == {b"\xff" * 160}


def test_nothing_is_sent_before_the_answer_or_on_hold(world: World) -> None:
    leg = world.plane.open_leg()
    far = world.call(may_send=False)
    told: list[bool] = []
    far.leg.playback.write(np.full(1600, 5000, np.int16).tobytes())
    far.leg.playback.mark(told.append)
    world.ticks(9)
    assert told == []
    world.ticks(1)
    assert told == [True]  # the queue is consumed in real time into nothing
    assert far.got == []
    assert world.network.unreachable == []
    leg.close()


def test_the_echo_is_byte_equal(world: World) -> None:
    """Every frame that was said comes back, for three calls at once, in both laws."""
    mu = [world.call(), world.call()]
    a_law = world.call(codec="PCMA", send_payload_type=8, receive_payload_type=8)
    ends = [*mu, a_law]
    said = [ulaw_noise(50, seed) for seed in range(3)]
    for far in ends:
        far.leg.hear(100, lambda chunk, at, leg=far.leg: leg.playback.write(chunk.tobytes()))
    for number in range(50):
        for far, frames in zip(ends, said, strict=True):
            far.send(far.packet(frames[number], 8 if far is a_law else 0))
        world.ticks(1)
    world.ticks(30)
    for far, frames in zip(ends, said, strict=True):
        assert far.heard().find(b"".join(frames[:44])) > 0
        others = [frame for other in said if other is not frames for frame in other]
        assert not any(packet.payload in others for packet in far.got)
        assert far.leg.statistics().received == 50
        assert far.leg.statistics().lost == 0
        assert far.leg.statistics().underruns == 0


def test_digits_come_in_once(world: World) -> None:
    far = world.call()
    digits: list[tuple[str, int]] = []
    far.leg.on_digit = lambda digit, duration_ms: digits.append((digit, duration_ms))
    heard = world.record(far.leg)
    far.say(b"\x10" * 160)
    far.timestamp += 160
    for duration in (160, 320, 480, 640):
        packet = far.packet(TelephoneEvent(5, False, 10, duration).serialise(), 101, marker=duration == 160)
        far.timestamp -= 4
        far.send(packet)
        world.ticks(1)
    for _ in range(3):
        far.send(far.packet(TelephoneEvent(5, True, 10, 800).serialise(), 101))
        far.timestamp -= 4
        world.ticks(1)
    far.timestamp += 800 + 160
    far.say(b"\x20" * 160)
    world.ticks(20)
    assert digits == [("5", 100)]
    assert far.leg.statistics().lost == 0
    assert far.leg.statistics().concealed_ms == 0
    levels = {int(value) for chunk in heard for value in chunk}
    assert levels == {0, int(decode(b"\x10")[0]), int(decode(b"\x20")[0])}


def test_a_digit_whose_end_was_lost_is_reported(world: World) -> None:
    far = world.call()
    digits: list[str] = []
    far.leg.on_digit = lambda digit, duration_ms: digits.append(digit)
    far.send(far.packet(TelephoneEvent(11, False, 10, 160).serialise(), 101, marker=True))
    world.ticks(120)
    assert digits == ["#"]


def test_digits_go_out_as_events_and_audio_waits(world: World) -> None:
    far = world.call()
    world.ticks(2)
    far.leg.playback.write(decode(b"\x15" * 320).tobytes())
    done: list[None] = []
    far.leg.send_digits("1#", duration_ms=60).addCallback(done.append)
    with pytest.raises(ResourceError):
        far.leg.send_digits("2")
    world.ticks(20)
    events = [packet for packet in far.got if packet.payload_type == 101]
    first = [TelephoneEvent.parse(packet.payload)[0] for packet in events]
    assert [event.event for event in first] == [1] * 5 + [11] * 5
    assert [event.is_end for event in first] == [False, False, True, True, True] * 2
    assert [event.duration for event in first] == [160, 320, 480, 480, 480] * 2
    assert [packet.marker for packet in events] == [True, False, False, False, False] * 2
    assert len({packet.timestamp for packet in events}) == 2
    numbers = [packet.sequence_number for packet in far.got]
    assert [(number - numbers[0]) & 0xFFFF for number in numbers] == list(range(22))
    assert done == [None]
    assert b"\x15" * 320 in far.heard()


def test_nobody_to_send_digits_to(world: World) -> None:
    with pytest.raises(ResourceError, match="nobody"):
        world.plane.open_leg().send_digits("1")


def test_a_far_end_of_10_ms_packets_gets_two(world: World) -> None:
    far = world.call(maxptime_ms=10)
    frames = ulaw_noise(5, 1)
    far.leg.playback.write(decode(b"".join(frames)).tobytes())
    world.ticks(5)
    assert far.heard() == b"".join(frames)
    assert [len(packet.payload) for packet in far.got] == [80] * 10
    numbers = [packet.sequence_number for packet in far.got]
    assert [(number - numbers[0]) & 0xFFFF for number in numbers] == list(range(10))
    stamps = [packet.timestamp for packet in far.got]
    assert [(stamp - stamps[0]) & 0xFFFFFFFF for stamp in stamps] == [80 * n for n in range(10)]


@pytest.mark.parametrize("slots", [2, MOST_SENT_SLOTS, MOST_SENT_SLOTS + 4])
def test_a_late_tick_catches_up(world: World, slots: int) -> None:
    far = world.call()
    heard = world.record(far.leg)
    world.ticks(1)
    before = len(heard)
    world.slots(slots)
    assert len(far.got) == 1 + min(slots, MOST_SENT_SLOTS)
    assert len(heard) == before + slots
    assert world.plane.late_slots == slots - 1
    world.ticks(1)
    jumped = slots > MOST_SENT_SLOTS
    assert far.got[-1].marker == jumped
    assert (far.got[-1].timestamp - far.got[0].timestamp) & 0xFFFFFFFF == 160 * (slots + 1)
    assert (far.got[-1].sequence_number - far.got[0].sequence_number) & 0xFFFF == len(far.got) - 1


def test_a_second_of_late_ticks_is_overload(world: World) -> None:
    world.clock.advance(0.012)  # from here on every tick runs 12 ms behind its grid
    for number in range(50):
        assert not world.plane.is_overloaded, number
        world.clock.advance(SLOT_S)
    assert world.plane.is_overloaded
    assert world.plane.tick_lateness.percentile_ms(99) >= 12
    world.clock.advance(0.009)  # one on time
    assert not world.plane.is_overloaded


def test_only_the_latched_source_is_heard(world: World) -> None:
    """RTPbleed: a third party's packets are counted, change nothing, and get nothing."""
    far = world.call()
    heard = world.record(far.leg)
    stranger = ("203.0.113.66", 5555)
    for _ in range(20):
        far.say(b"\x30" * 160)
        far.send(Packet(0, far.sequence, far.timestamp, far.ssrc, b"\x31" * 160), source=stranger)
        world.ticks(1)
    world.ticks(5)
    assert int(decode(b"\x31")[0]) not in {int(value) for chunk in heard for value in chunk}
    assert far.leg.statistics().foreign == 20
    assert far.leg.statistics().received == 20
    assert all(destination != stranger for _, destination in world.network.unreachable)


@pytest.mark.rfc(4961)
def test_symmetric_rtp_follows_the_host(world: World) -> None:
    """A phone behind NAT sends from another port than its SDP says: it is heard, and answered there."""
    far = world.call(described=("10.0.0.2", 9), nat="host")
    world.ticks(2)
    assert far.got == []
    far.say(b"\x30" * 160)
    world.ticks(3)
    assert len(far.got) == 2
    assert far.leg.statistics().foreign == 0


def test_a_new_description_learns_the_source_anew(world: World) -> None:
    far = world.call()
    far.say(b"\x30" * 160)
    world.ticks(2)
    moved = ("10.0.0.9", 7000)
    far.leg.describe(make_plan(moved), "10.0.0.2", "strict")
    far.say(b"\x30" * 160)
    world.ticks(1)
    assert far.leg.statistics().foreign == 1
    far.send(far.packet(b"\x32" * 160), source=moved)
    world.ticks(1)
    assert far.leg.statistics().received == 2


def test_rows_and_ports_come_back(world: World) -> None:
    first = [world.plane.open_leg() for _ in range(16)]
    with pytest.raises(ResourceError, match="max_calls"):
        world.plane.open_leg()
    for leg in first:
        leg.close()
        leg.close()
    assert world.plane.legs == 0
    assert {world.plane.open_leg().port for _ in range(16)} == {leg.port for leg in first}


def test_a_callback_may_close_its_leg(world: World) -> None:
    """Listeners, marks and digits run inside a tick; what they set off must not harm it."""
    by_chunk, by_mark, by_digit, other = (world.call() for _ in range(4))
    by_chunk.leg.hear(20, lambda chunk, at: by_chunk.leg.close())
    by_mark.leg.playback.write(bytes(320))
    by_mark.leg.playback.mark(lambda is_played: by_mark.leg.close())
    by_digit.leg.on_digit = lambda digit, duration_ms: by_digit.leg.close()
    by_digit.send(by_digit.packet(TelephoneEvent(1, True, 10, 800).serialise(), 101))
    world.ticks(5)
    assert world.plane.legs == 1
    assert len(other.got) == 5
    assert by_chunk.leg.statistics().sent == 1


def test_what_is_told_of_digits_that_have_left_may_close_others(world: World) -> None:
    """Both have digits on their way in the same tick, and the one ends the other's leg."""
    first, second, other = (world.call() for _ in range(3))
    second.leg.send_digits("1", duration_ms=20)
    first.leg.send_digits("1", duration_ms=20).addCallback(lambda _: second.leg.close())
    world.ticks(20)
    assert world.plane.legs == 2
    assert [len(far.got) for far in (first, other)] == [20, 20]
    numbers = [packet.timestamp for packet in other.got]
    assert [(number - numbers[0]) & 0xFFFFFFFF for number in numbers] == list(range(0, 20 * 160, 160))


def test_a_mistake_about_a_digit_is_its_makers_own(world: World, logged_failures: LoggedFailures) -> None:
    bad, good = world.call(), world.call()
    told: list[str] = []
    bad.leg.on_digit = lambda digit, duration_ms: 1 // 0
    good.leg.on_digit = lambda digit, duration_ms: told.append(digit)
    heard = world.record(good.leg)
    for far in (bad, good):
        far.send(far.packet(TelephoneEvent(7, True, 10, 800).serialise(), 101))
    world.ticks(1)
    assert told == ["7"] and len(heard) == 1
    assert len(logged_failures.take(ZeroDivisionError)) == 1


@given(st.lists(st.binary(max_size=300), max_size=30))
def test_any_bytes_on_an_rtp_port(packets: list[bytes]) -> None:
    world = make_world(2)
    far, other = world.call(), world.call()
    for data in packets:
        far.send_raw(data)
        world.ticks(1)
    world.ticks(2)
    assert len(other.got) == len(packets) + 2
    counts = far.leg.statistics()
    assert counts.received + counts.foreign + sum(counts.refused.values()) >= len(packets)
    world.plane.stop()


def test_a_flood_costs_its_own_row(world: World) -> None:
    far, other = world.call(), world.call()
    heard = world.record(other.leg)
    for _ in range(10):
        for _ in range(100):
            far.say(b"\x30" * 160)
        other.say(b"\x31" * 160)
        world.ticks(1)
    world.ticks(5)
    counts = far.leg.statistics()
    assert counts.discarded > 0
    assert counts.received + counts.discarded <= 1000
    assert sum(int(chunk[0]) == int(decode(b"\x31")[0]) for chunk in heard) == 10
    assert len(other.got) == 15


def test_what_comes_to_others_while_a_flood_is_read_is_theirs(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their packet is there when the eighth pass is over, where only the flood is thrown away."""
    far, other = world.call(), world.call()
    heard = world.record(other.leg)
    ports = world.plane._ports
    receive, passes = ports.receive, itertools.count(1)

    def receive_and_wait(inbox: list[memoryview], into: Pass) -> bool:
        found = receive(inbox, into)
        if next(passes) % READS_A_TICK == 0:
            other.say(b"\x31" * 160)
        return found

    monkeypatch.setattr(ports, "receive", receive_and_wait)
    for _ in range(20):
        for _ in range(100):
            far.say(b"\x30" * 160)
        far.network.send(b"no RTCP", far.address, (SERVER, far.leg.port + 1))
        world.ticks(1)
    monkeypatch.undo()
    assert far.leg.statistics().discarded == 20 * DISCARDS_A_TICK
    world.ticks(4)
    counts = other.leg.statistics()
    assert (counts.received, counts.lost, counts.discarded, counts.concealed_ms) == (20, 0, 0, 0)
    assert sum(int(chunk[0]) == int(decode(b"\x31")[0]) for chunk in heard) == 20


def test_encode_tables_are_what_is_sent(world: World) -> None:
    far = world.call()
    samples = np.arange(-32768, 32768, 41, dtype=np.int32).astype(np.int16)[:1440]
    far.leg.playback.write(samples.tobytes())
    world.ticks(9)
    assert far.heard() == g711.PCM_TO_ULAW[samples.view(np.uint16)].tobytes()
