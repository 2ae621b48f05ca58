"""Chunks for listeners, and the spreading of their phases."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentstream.media.ears import Ears

FRAME = 160


def frames(tick: int, rows: int = 4) -> np.ndarray:
    """Every sample says its row and tick."""
    return np.repeat((np.arange(rows) * 1000 + tick)[:, None], FRAME, axis=1).astype(np.int16)


@given(st.sampled_from([20, 40, 60, 80, 100, 120, 140, 160, 180, 200]), st.integers(0, 3))
def test_chunks_are_whole_and_in_one_piece(chunk_ms: int, row: int) -> None:
    ears = Ears(8)
    heard: list[tuple[int, list[int]]] = []
    ears.add(row, chunk_ms, lambda chunk, at: heard.append((at, chunk[::FRAME].tolist())))
    for tick in range(60):
        ears.hear(frames(tick))
    ticks = [value - 1000 * row for _, values in heard for value in values]
    assert ticks == list(range(ticks[0], ticks[0] + len(ticks)))
    assert [at for at, _ in heard] == list(range(0, chunk_ms * len(heard), chunk_ms))
    assert len(heard) == 60 * 20 // chunk_ms


def test_listeners_that_begin_together_are_spread_evenly() -> None:
    ears = Ears(400)
    due: list[int] = []
    tick = 0
    for row in range(100):
        ears.add(row, 100, lambda chunk, at: due.append(tick))
    for tick in range(50):  # noqa: B007 - read by the listeners
        ears.hear(frames(0, rows=100))
    assert [due.count(number) for number in range(10, 50)] == [20] * 40


def test_a_listener_that_left_hears_no_more() -> None:
    ears = Ears(2)
    heard: list[int] = []
    first = ears.add(0, 20, lambda chunk, at: heard.append(0))
    second = ears.add(1, 20, lambda chunk, at: (heard.append(1), ears.remove(first)))
    ears.hear(frames(0))
    ears.hear(frames(1))
    ears.remove(first)
    ears.remove(second)
    ears.remove(second)
    ears.hear(frames(2))
    assert heard == [0, 1, 1]
    for _ in range(5):  # places are given back
        ears.remove(ears.add(0, 40, lambda chunk, at: None))


def test_a_listener_that_fails_is_dropped_alone(logged_failures) -> None:
    ears = Ears(2)
    heard: list[int] = []
    ears.add(0, 20, lambda chunk, at: 1 // 0)
    ears.add(1, 20, lambda chunk, at: heard.append(at))
    for tick in range(3):
        ears.hear(frames(tick))
    assert heard == [0, 20, 40]
    assert len(logged_failures.take(ZeroDivisionError)) == 1


@pytest.mark.parametrize("chunk_ms", [0, 10, 30, 220])
def test_other_lengths_are_refused(chunk_ms: int) -> None:
    with pytest.raises(ValueError, match="a chunk is 20 to 200 ms"):
        Ears(1).add(0, chunk_ms, lambda chunk, at: None)
