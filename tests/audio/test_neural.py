"""The neural detector without its network: which windows it is asked about, and what its answers add up to."""

from __future__ import annotations

import sys
from collections import Counter
from types import FrameType
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from agentstream.audio.activity import ActivitySettings
from agentstream.audio.neural import Batch, Floats, NeuralActivity, States
from tests.oracles.neural import PlainNeural

ROWS = 3
PROBABILITIES = (0.0, 0.34, 0.36, 0.49, 0.5, 0.9)


def probability(sound: list[int] | np.ndarray) -> float:
    """Something that depends on every sample."""
    weighed = np.dot(np.asarray(sound, np.int64), np.arange(1, 289))
    return PROBABILITIES[int(weighed) % len(PROBABILITIES)]


def answer(batch: Batch) -> Floats:
    return np.array([probability(sound) for sound in batch.sound], np.float32)


@settings(max_examples=40)
@given(
    st.integers(0, 2**32 - 1),
    st.lists(st.lists(st.booleans(), min_size=ROWS, max_size=ROWS), min_size=1, max_size=120),
    st.integers(0, 4),
    st.sampled_from([(80, 300), (40, 100), (20, 200)]),
)
def test_rows_equal_the_plain_detector(
    seed: int, asked: list[list[bool]], delay: int, start_and_hangover: tuple[int, int]
) -> None:
    """Any sound, any stretches of loud sound, answers that come as much later as they like."""
    random = np.random.default_rng(seed)
    chosen = ActivitySettings(start_ms=max(40, start_and_hangover[0]), hangover_ms=start_and_hangover[1])
    neural, plain = NeuralActivity(ROWS, chosen), [PlainNeural(chosen) for _ in range(ROWS)]
    on_the_way: list[tuple[int, Batch]] = []
    plain_on_the_way: list[tuple[int, int, int, int, float]] = []
    spurts = [0] * ROWS
    for now, flags in enumerate(np.repeat(np.array(asked), 3, axis=0)):
        frames = random.integers(-3000, 3000, (ROWS, 160), np.int16)
        while on_the_way and on_the_way[0][0] + delay < now:
            batch = on_the_way.pop(0)[1]
            neural.judge(batch, answer(batch))
        while plain_on_the_way and plain_on_the_way[0][0] + delay < now:
            _, row, spurt, window, value = plain_on_the_way.pop(0)
            if spurt == spurts[row] and plain[row].is_asked:
                plain[row].judge(value, window)
        assert [bool(flag) for flag in neural.is_voiced] == [one.is_voiced for one in plain]
        expected = []
        for row, one in enumerate(plain):
            spurts[row] += bool(flags[row]) and not one.is_asked
            found = one.hear(frames[row].tolist(), bool(flags[row]))
            if found is not None:
                expected.append((row, *found))
                plain_on_the_way.append((now, row, spurts[row], one.windows, probability(found[0])))
        batches = neural.collect(frames, flags)
        on_the_way += [(now, batch) for batch in batches]
        got = [
            (int(row), sound.tolist(), bool(is_first))
            for batch in batches
            for row, sound, is_first in zip(batch.rows, batch.sound, batch.is_first, strict=True)
        ]
        assert got == expected
        assert all(batch.ended_ms == plain[0].windows * 32 for batch in batches)
        for row, one in enumerate(plain):
            if one.is_voiced:
                assert neural.since_ms[row] == one.since_ms


def test_the_network_goes_on_with_the_state_of_each_row_and_begins_anew_in_each_stretch() -> None:
    """Against the states that a row of its own would have."""

    def infer(sound: Floats, state: Floats) -> tuple[Floats, Floats]:
        assert sound.dtype == state.dtype == np.float32 and state.shape == (2, len(sound), 128)
        return np.abs(sound).max(axis=1) + state[1, :, 5], state + sound[:, 0][None, :, None]

    states = States(4, infer)

    def batch(rows: list[int], is_first: list[bool], value: int) -> Batch:
        sound = np.full((len(rows), 288), value, np.int16)
        return Batch(np.array(rows), np.zeros(len(rows), np.int64), np.array(is_first), sound, 0)

    def said(*batch_of: Any) -> list[float]:
        return states.answer(batch(*batch_of)).tolist()

    assert said([0, 2], [True, True], 8192) == [0.25, 0.25]
    assert said([2, 3], [False, True], 16384) == [0.5 + 0.25, 0.5]
    assert said([0, 2], [True, False], -32768) == [1.0, 1.0 + 0.75]


def test_rows_are_asked_about_in_batches_of_64() -> None:
    neural = NeuralActivity(200, ActivitySettings())
    is_asked = np.ones(150, np.bool_)
    batches = [neural.collect(np.zeros((150, 160), np.int16), is_asked) for _ in range(2)]
    assert batches[0] == []
    assert [len(batch.rows) for batch in batches[1]] == [64, 64, 22]
    assert np.concatenate([batch.rows for batch in batches[1]]).tolist() == list(range(150))


def test_who_waits_too_long_for_an_answer_is_unjudged_until_one_comes() -> None:
    neural, frames = NeuralActivity(2, ActivitySettings()), np.zeros((2, 160), np.int16)
    loud = np.array([True, False])
    batches = [batch for _ in range(6) for batch in neural.collect(frames, loud)]
    assert neural.is_unjudged.tolist() == [False, False]
    neural.collect(frames, loud)
    assert neural.is_unjudged.tolist() == [True, False] and neural.unjudged_frames == 1
    neural.judge(batches[0], np.array([0.2], np.float32))
    neural.collect(frames, loud)
    assert neural.is_unjudged.tolist() == [False, False] and neural.unjudged_frames == 1


def test_a_new_call_gets_no_answer_that_was_meant_for_the_one_before() -> None:
    neural, loud = NeuralActivity(1, ActivitySettings(start_ms=20)), np.array([True])
    old = [batch for _ in range(2) for batch in neural.collect(np.full((1, 160), 900, np.int16), loud)]
    neural.reset(np.array([0]))
    new = [batch for _ in range(2) for batch in neural.collect(np.zeros((1, 160), np.int16), loud)]
    assert len(old) == len(new) == 1
    assert new[0].is_first.tolist() == [True]
    assert not new[0].sound[0, :128].any()  # nothing of what the other call said
    neural.judge(old[0], np.array([0.9], np.float32))
    assert not neural.is_voiced[0]
    neural.judge(new[0], np.array([0.9], np.float32))
    assert neural.is_voiced[0]


def calls_in_a_cycle(rows: int) -> Counter[str]:
    """Python and C calls by name while frames and answers of this many rows come and go."""
    neural, frames = NeuralActivity(rows, ActivitySettings()), np.zeros((rows, 160), np.int16)
    loud, calls = np.ones(rows, np.bool_), Counter[str]()

    def count(frame: FrameType, event: str, argument: Any) -> None:
        if event == "call":
            calls[frame.f_code.co_qualname] += 1
        elif event == "c_call":
            calls[argument.__qualname__] += 1

    sys.setprofile(count)
    try:
        for _ in range(8):
            for batch in neural.collect(frames, loud):
                neural.judge(batch, np.zeros(len(batch.rows), np.float32))
    finally:
        sys.setprofile(None)
    return calls


def test_ten_rows_and_sixty_four_make_the_same_calls() -> None:
    assert calls_in_a_cycle(10) == calls_in_a_cycle(64) != Counter()
