"""Recordings in the tick: two channels on one timeline, sample for sample what came out of the ring and what left."""

from __future__ import annotations

import sys
from collections import Counter
from typing import Any

import attrs
import numpy as np
import pytest

from agentstream.audio import g711
from agentstream.media import recording
from agentstream.media.plane import MediaPlane
from agentstream.media.recording import BLOCK_FRAMES, Sound, Tape
from tests.media.kit import World, decode, make_plan, make_world, ulaw_noise

FRAME = 160
SILENCE = bytes([g711.ULAW_SILENCE])


@attrs.define
class Shelf:
    """Keeps what tapes hand over."""

    plane: MediaPlane
    sounds: dict[Tape, list[Sound]] = attrs.Factory(dict)
    calls: int = 0

    def __attrs_post_init__(self) -> None:
        self.plane.tapes.on_sound = self.take

    def take(self, whole: list[tuple[Tape, Sound]]) -> None:
        self.calls += 1
        for tape, sound in whole:
            self.sounds.setdefault(tape, []).append(sound)

    def both(self, tape: Tape, rest: Sound = b"") -> tuple[np.ndarray, np.ndarray]:
        """(heard, said) of a tape."""
        parts = [bytes(one) if isinstance(one, int) else one for one in [*self.sounds.get(tape, ()), rest]]
        samples = np.frombuffer(b"".join(parts), np.int16).reshape(-1, 2)
        return samples[:, 0], samples[:, 1]


@pytest.fixture
def shelf(world: World) -> Shelf:
    return Shelf(world.plane)


def test_both_channels_are_what_was_heard_and_what_left(world: World, shelf: Shelf) -> None:
    far = world.call()
    frames = ulaw_noise(100, seed=1)
    bot = ulaw_noise(60, seed=2)
    chunks = world.record(far.leg)
    tape = far.leg.record()
    for number, frame in enumerate(frames):
        far.say(frame)
        if number == 20:
            far.leg.playback.write(decode(b"".join(bot)).astype("<i2").tobytes())
        world.ticks(1)
    heard, said = shelf.both(tape, tape.stop())
    assert len(heard) == 100 * FRAME
    np.testing.assert_array_equal(heard, np.concatenate(chunks))
    assert b"".join(frames[:90]) in g711_of(heard)
    assert g711_of(said) == far.heard()
    # The same moment is at the same sample on both sides: packet 20 left in slot 20.
    assert g711_of(said)[20 * FRAME :][: 60 * FRAME] == b"".join(bot)


def g711_of(samples: np.ndarray) -> bytes:
    """Samples as they leave."""
    return g711.PCM_TO_ULAW[np.ascontiguousarray(samples).view(np.uint16)].tobytes()


@pytest.mark.parametrize("slots", [2, 5, 7, 49, 50, 51, 400])
def test_a_late_tick_moves_both_channels_by_its_slots(world: World, shelf: Shelf, slots: int) -> None:
    far = world.call()
    tape = far.leg.record()
    bot = ulaw_noise(30, seed=3)
    far.leg.playback.write(decode(b"".join(bot)).astype("<i2").tobytes())
    world.ticks(3)
    world.slots(slots)
    world.ticks(30)
    heard, said = shelf.both(tape, tape.stop())
    assert len(heard) == len(said) == (33 + slots) * FRAME
    assert tape.frames <= 33 + slots
    sent = g711_of(said)
    assert sent[: 3 * FRAME] == b"".join(bot[:3])
    # What a late tick could not send is silence on the timeline, and what came behind it is in its slot.
    late = min(slots, 5)
    assert sent[3 * FRAME :][: late * FRAME] == b"".join(bot[3 : 3 + late])
    assert set(sent[(3 + late) * FRAME : (3 + slots) * FRAME]) <= set(SILENCE)
    assert sent[(3 + slots) * FRAME :][: (27 - late) * FRAME] == b"".join(bot[3 + late :])


def test_what_is_not_sent_is_not_recorded(world: World, shelf: Shelf) -> None:
    """While the far end holds the call, the bot's sound goes nowhere."""
    far = world.call()
    tape = far.leg.record()
    bot = decode(b"".join(ulaw_noise(40, seed=4)))
    far.leg.playback.write_samples(bot)
    world.ticks(10)
    far.leg.describe(make_plan(far.address, may_send=False), "10.0.0.2", "host")
    world.ticks(10)
    far.leg.describe(make_plan(far.address), "10.0.0.2", "host")
    world.ticks(10)
    _, said = shelf.both(tape, tape.stop())
    expected = bot[: 30 * FRAME].copy()
    expected[10 * FRAME : 20 * FRAME] = 0
    np.testing.assert_array_equal(said, expected)


def test_a_pause_is_silence_on_both_sides(world: World, shelf: Shelf) -> None:
    far = world.call()
    for frame in ulaw_noise(10, seed=5):  # until the ring plays
        far.say(frame)
        world.ticks(1)
    tape = far.leg.record()
    far.leg.playback.write_samples(decode(b"".join(ulaw_noise(45, seed=6))))
    for number, frame in enumerate(ulaw_noise(45, seed=7)):
        if number == 10:
            tape.pause()
        if number == 30:
            tape.resume()
        far.say(frame)
        world.ticks(1)
    heard, said = shelf.both(tape, tape.stop())
    for side in (heard, said):
        frames = side.reshape(45, FRAME)
        assert frames[:10].all() and frames[30:].all()
        assert not frames[10:30].any()


def test_recordings_begin_and_end_with_each_other_and_nobody_hears_anybody_else(world: World, shelf: Shelf) -> None:
    """Rows and places are used again; a recording holds its own call's sound and no other's."""
    tapes: list[tuple[Tape, Sound, int, int]] = []
    for turn in range(6):
        ends = [world.call(may_receive=False) for _ in range(3)]
        begun = []
        for number, far in enumerate(ends):
            level = 1 + 10 * turn + number
            far.leg.playback.write_samples(np.full(120 * FRAME, level * 100, np.int16))
            world.ticks(number)
            begun.append((far.leg.record(), level))
        world.ticks(17 + 9 * turn)
        for number, (tape, level) in enumerate(begun):
            tapes.append((tape, tape.stop(), level, 17 + 9 * turn + (3, 2, 0)[number]))
        for far in ends:
            far.leg.close()
            world.network.unbind(far.address)
        world.legs.clear()
    for tape, rest, level, frames in tapes:
        heard, said = shelf.both(tape, rest)
        assert set(said.tolist()) == {level * 100}
        assert not heard.any()
        assert len(said) == frames * FRAME
    assert all(not tape.is_running and tape.stop() == b"" for tape, _, _, _ in tapes)


def test_blocks_of_many_rows_are_whole_in_different_ticks() -> None:
    world = make_world(50)
    shelf = Shelf(world.plane)
    for _ in range(50):
        world.call().leg.record()
    due: Counter[int] = Counter()
    for _ in range(4 * BLOCK_FRAMES):
        before = sum(map(len, shelf.sounds.values()))
        world.ticks(1)
        due[sum(map(len, shelf.sounds.values())) - before] += 1
    world.plane.stop()
    assert due == {2: 4 * BLOCK_FRAMES}


def test_a_crash_costs_at_most_half_a_second(world: World, shelf: Shelf) -> None:
    far = world.call()
    tape = far.leg.record()
    for tick in range(1, 60):
        world.ticks(1)
        assert tape.ms == 20 * tick
        assert tick - tape.frames <= BLOCK_FRAMES


def test_a_leg_that_is_closed_ends_its_recording(world: World, shelf: Shelf) -> None:
    far = world.call()
    tape = far.leg.record()
    never = far.leg.record()
    world.ticks(2)
    late = far.leg.record()
    far.leg.close()
    assert not tape.is_running and not never.is_running and late.stop() == b""
    told = shelf.calls
    world.call()
    world.ticks(2 * BLOCK_FRAMES)
    assert shelf.calls == told
    with pytest.raises(Exception, match="the leg is closed"):
        far.leg.record()


def test_a_tick_makes_the_same_calls_for_ten_recordings_and_for_two_hundred() -> None:
    """But for those whose block is whole in it."""

    def calls_of(rows: int) -> Counter[str]:
        world = make_world(rows)
        shelf = Shelf(world.plane)
        ends = [world.call() for _ in range(rows)]
        world.plane.tapes._load = [1] * (BLOCK_FRAMES - 1) + [
            0
        ]  # all blocks are whole in one tick, and not in this one
        for far in ends:
            far.leg.record()
            world.plane.tapes._load = [1] * (BLOCK_FRAMES - 1) + [0]
            world.plane.tapes.begin_tick()
        world.ticks(2)
        calls: Counter[str] = Counter()

        def count(frame: Any, event: str, argument: Any) -> None:
            if event == "call" and frame.f_code.co_filename == recording.__file__:
                calls[frame.f_code.co_qualname] += 1
            elif event == "c_call" and frame.f_code.co_filename == recording.__file__:
                calls[argument.__qualname__] += 1

        told = shelf.calls
        sys.setprofile(count)
        try:
            world.plane.tick(1, world.clock.seconds())
        finally:
            sys.setprofile(None)
        assert shelf.calls == told
        world.plane.stop()
        return calls

    few = calls_of(10)
    assert few["Tapes.hear"] == few["Tapes.say"] == 1
    assert few == calls_of(200)


def test_a_call_in_g722_is_recorded_at_the_rate_of_telephones(world: World, shelf: Shelf) -> None:
    """Both sides are what a listener at 8 kHz hears."""
    far = world.call(codec="G722", send_payload_type=9, receive_payload_type=9)
    inbound, outbound = world.record(far.leg), []
    far.leg.hear(20, lambda chunk, timestamp_ms: outbound.append(chunk.copy()), track="outbound")
    tape = far.leg.record()
    far.leg.playback.write_samples(decode(b"".join(ulaw_noise(30, seed=8))))
    for frame in ulaw_noise(40, seed=9):  # any bytes are sound in G.722
        far.send(far.packet(frame, 9))
        world.ticks(1)
    heard, said = shelf.both(tape, tape.stop())
    np.testing.assert_array_equal(heard, np.concatenate(inbound))
    np.testing.assert_array_equal(said, np.concatenate(outbound))
    assert np.count_nonzero(heard) > 30 * FRAME and np.count_nonzero(said) > 25 * FRAME
