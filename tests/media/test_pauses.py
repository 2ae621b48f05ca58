"""Comfort noise between talk spurts (RFC 3389): packets of it are neither lost nor concealed, and it is heard."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from agentstream.audio.level import level_dbov
from tests.media.kit import FarEnd, World, decode, make_world, ulaw_noise

pytestmark = pytest.mark.rfc(3389)

CN = 13
LEVEL = 50


@pytest.fixture
def steady() -> Iterator[World]:
    """The delay stays, so that each block's place is known."""
    world = make_world(playout_min_ms=60, playout_max_ms=60)
    yield world
    world.plane.stop()


def pause(far: FarEnd, noise: bytes = bytes([LEVEL])) -> None:
    """A comfort noise packet; the RTP clock goes on with the time, and not with its payload."""
    packet = far.packet(noise, CN)
    far.timestamp = packet.timestamp
    far.send(packet)


def levels(chunks: list[np.ndarray]) -> list[float]:
    return [round(level_dbov(chunk)) for chunk in chunks]


def talk(world: World, far: FarEnd, frames: int, seed: int) -> list[bytes]:
    said = ulaw_noise(frames, seed)
    for frame in said:
        far.say(frame)
        world.ticks(1)
    return said


def be_silent(world: World, far: FarEnd, slots: int) -> None:
    world.ticks(slots)
    far.timestamp = (far.timestamp + 160 * slots) & 0xFFFFFFFF


def test_from_the_last_word_to_the_next(steady: World) -> None:
    far = steady.call(receive_noise_payload_type=CN)
    chunks = steady.record(far.leg)
    before = talk(steady, far, 10, seed=1)
    pause(far)
    be_silent(steady, far, 30)
    after = talk(steady, far, 10, seed=2)
    steady.ticks(10)
    first = next(at for at, chunk in enumerate(chunks) if chunk.any())
    heard = chunks[first:]
    assert np.array_equal(np.concatenate(heard[:10]), decode(b"".join(before)))
    assert all(abs(level + LEVEL) <= 3 for level in levels(heard[10:40])), "noise to the block"
    assert np.array_equal(np.concatenate(heard[40:50]), decode(b"".join(after)))
    assert not np.concatenate(heard[50:]).any(), "behind the next word nothing is known of a pause"
    statistics = far.leg.statistics()
    assert (statistics.lost, statistics.concealed_ms, statistics.late, statistics.refused) == (0, 0, 0, {})
    assert statistics.received == 21


def test_a_later_packet_changes_the_noise(steady: World) -> None:
    far = steady.call(receive_noise_payload_type=CN)
    chunks = steady.record(far.leg)
    talk(steady, far, 5, seed=1)
    pause(far)
    be_silent(steady, far, 10)
    pause(far, bytes([30, 90, 140]))
    be_silent(steady, far, 20)
    heard = levels(chunks)
    assert -LEVEL - 3 <= heard[12] <= -LEVEL + 3
    assert all(abs(level + 30) <= 3 for level in heard[-15:])
    assert -127 not in heard[5:], "without a gap between"


def test_a_call_that_begins_with_it(steady: World) -> None:
    far = steady.call(receive_noise_payload_type=CN)
    chunks = steady.record(far.leg)
    pause(far)
    be_silent(steady, far, 10)
    assert all(abs(level + LEVEL) <= 3 for level in levels(chunks)[1:])
    said = talk(steady, far, 10, seed=3)
    steady.ticks(10)
    assert decode(b"".join(said)).tobytes() in np.concatenate(chunks).tobytes()
    assert far.leg.statistics().lost == 0


def test_sound_that_overtook_it_goes_on(steady: World) -> None:
    far = steady.call(receive_noise_payload_type=CN)
    chunks = steady.record(far.leg)
    talk(steady, far, 5, seed=1)
    late = far.packet(bytes([LEVEL]), CN)
    far.timestamp = late.timestamp
    said = talk(steady, far, 5, seed=2)
    far.send(late)
    steady.ticks(20)
    assert decode(b"".join(said)).tobytes() in np.concatenate(chunks).tobytes()
    assert not np.concatenate(chunks[-8:]).any()
    assert far.leg.statistics().lost == 0


def test_one_that_says_no_level_is_refused_and_not_lost(steady: World) -> None:
    far = steady.call(receive_noise_payload_type=CN)
    chunks = steady.record(far.leg)
    talk(steady, far, 5, seed=1)
    pause(far, b"")
    said = talk(steady, far, 5, seed=2)
    steady.ticks(10)
    assert far.leg.statistics().refused == {"The comfort noise packet has no level.": 1}
    assert far.leg.statistics().concealed_ms == 0
    assert decode(b"".join(said)).tobytes() in np.concatenate(chunks).tobytes()


def test_where_it_was_not_agreed_it_is_refused(steady: World) -> None:
    far = steady.call()
    chunks = steady.record(far.leg)
    talk(steady, far, 5, seed=1)
    pause(far)
    be_silent(steady, far, 10)
    assert far.leg.statistics().refused == {"The payload type was not negotiated.": 1}
    assert not np.concatenate(chunks[-4:]).any()


def test_a_far_end_on_hold_is_silent_and_the_next_call_too(steady: World) -> None:
    far = steady.call(receive_noise_payload_type=CN, may_receive=False)
    chunks = steady.record(far.leg)
    pause(far)
    steady.ticks(10)
    assert not np.concatenate(chunks).any()
    far.leg.close()
    noisy = steady.call(receive_noise_payload_type=CN)
    pause(noisy)
    steady.ticks(5)
    noisy.leg.close()
    quiet = steady.call()
    chunks = steady.record(quiet.leg)
    steady.ticks(10)
    assert not np.concatenate(chunks).any()


def test_any_arrivals_harm_nobody(steady: World) -> None:
    far, plain = steady.call(receive_noise_payload_type=CN), steady.call()
    chunks = steady.record(plain.leg)
    generator = np.random.default_rng(5)
    frames = ulaw_noise(80, seed=8)
    for frame in frames:
        for _ in range(int(generator.integers(0, 4))):
            if generator.random() < 0.5:
                pause(far, generator.bytes(int(generator.integers(0, 40))))
            else:
                far.say(frame)
            if generator.random() < 0.2:
                far.timestamp = int(generator.integers(0, 2**32))
            if generator.random() < 0.1:
                far.sequence = int(generator.integers(0, 2**16))
        plain.say(frame)
        steady.ticks(1)
    steady.ticks(10)
    assert decode(b"".join(frames)).tobytes() in np.concatenate(chunks).tobytes()
