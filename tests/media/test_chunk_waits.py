"""From the tick that read a packet until what it brought was handed out."""

from __future__ import annotations

import numpy as np
import pytest

from agentstream.media.chunk_waits import EDGES_S, ChunkWaits, percentile_ms
from tests.media.kit import FarEnd, World, make_world, ulaw_noise

FIXED = {"playout_ms": 60, "playout_min_ms": 60, "playout_max_ms": 60}
FRAMES = ulaw_noise(100, 5)


def talk(world: World, far: FarEnd, ticks: int, *, but: tuple[int, ...] = ()) -> None:
    """A packet a tick; those whose numbers are in ``but`` are lost."""
    for number in range(ticks):
        packet = far.packet(FRAMES[number])
        if number not in but:
            far.send(packet)
        world.ticks(1)


@pytest.mark.parametrize("chunk_ms", [20, 100])
@pytest.mark.parametrize("rate_hz", [8000, 16000])
def test_the_wait_is_the_delay(chunk_ms: int, rate_hz: int) -> None:
    world = make_world(**FIXED)
    far = world.call()
    far.leg.hear(chunk_ms, lambda chunk, at: None, rate_hz)
    talk(world, far, 100)
    counts, sum_s = world.plane.all_chunk_waits()
    assert counts.sum() == pytest.approx(2000 / chunk_ms - 60 / chunk_ms, abs=1)
    assert sum_s / counts.sum() == pytest.approx(0.06, abs=1e-4)
    assert percentile_ms(far.leg.chunk_waits(), 95) in (60, 80)
    assert far.leg.statistics().to_bot_p50_ms in (60, 80)
    world.plane.stop()


def test_a_late_packet_waited_less_and_a_lost_one_is_not_counted() -> None:
    world = make_world(**FIXED)
    far = world.call()
    far.leg.hear(20, lambda chunk, at: None)
    talk(world, far, 50, but=(10, 11, 30))
    counts, sum_s = world.plane.all_chunk_waits()
    assert (counts.sum(), sum_s) == (50 - 3 - 3, pytest.approx(44 * 0.06, abs=1e-3))
    slow = far.packet(FRAMES[0])
    world.ticks(2)
    far.send(slow)
    world.ticks(2)
    counts, sum_s = world.plane.all_chunk_waits()
    # The three that were under way, and this one, which came 40 ms later than the others.
    assert (counts.sum(), sum_s) == (44 + 4, pytest.approx(47 * 0.06 + 0.02, abs=1e-3))
    world.plane.stop()


def test_what_the_bot_says_and_who_is_silent_are_not_counted() -> None:
    world = make_world(**FIXED)
    far = world.call()
    far.leg.hear(20, lambda chunk, at: None)
    far.leg.hear(20, lambda chunk, at: None, track="outbound")
    far.leg.playback.write(bytes(16000))
    world.ticks(80)
    assert world.plane.all_chunk_waits()[0].sum() == 0
    assert far.leg.statistics().to_bot_p95_ms is None
    world.plane.stop()


def test_a_leg_that_is_over_is_kept_in_the_sum_and_the_next_one_begins_anew() -> None:
    world = make_world(**FIXED)
    far = world.call()
    far.leg.hear(20, lambda chunk, at: None)
    talk(world, far, 20)
    before, sum_s = world.plane.all_chunk_waits()
    own = far.leg.chunk_waits()
    far.leg.close()
    again = world.call()
    again.leg.hear(20, lambda chunk, at: None)
    world.ticks(5)
    assert far.leg.chunk_waits().tolist() == own.tolist() == before.tolist()
    assert again.leg.chunk_waits().sum() == 0
    assert world.plane.all_chunk_waits()[0].tolist() == before.tolist()
    assert world.plane.all_chunk_waits()[1] == pytest.approx(sum_s)
    world.plane.stop()


def test_two_chunks_of_one_row_are_two_and_what_is_too_long_ago_is_none() -> None:
    waits = ChunkWaits(3)
    waits.add(np.array([1, 1, 2, 0]), np.array([0.02, 0.02, 0.041, np.inf]))
    assert waits.counts[1, EDGES_S.index(0.02)] == 2
    assert waits.counts[2, EDGES_S.index(0.045)] == 1
    assert waits.counts[0].sum() == 0
    assert waits.sums_s.tolist() == [0.0, 0.04, 0.041]
    assert percentile_ms(waits.counts[2], 95) == 45
    assert percentile_ms(waits.counts[0], 95) is None
