from __future__ import annotations

import tracemalloc

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from agentstream.audio.conceal import SILENT_AFTER_BLOCKS, Concealment
from tests.oracles.conceal import PlainConcealment

ROWS = 4
# Which rows lose their block in one 10 ms.
losses = st.lists(st.sampled_from(range(ROWS)), unique=True, max_size=ROWS)
ROW = np.array([0])


def voiced(rows: int, blocks: int, block: int, seed: int) -> np.ndarray:
    """Something like vowels: pulses through a resonance, each row with its own slowly moving pitch, and some noise."""
    random = np.random.default_rng(seed)
    n = blocks * block
    time_s = np.arange(n) / (100 * block)
    out = np.zeros((blocks, rows, block), np.int16)
    for row in range(rows):
        pitch_hz = random.uniform(60, 250) * (1 + 0.1 * np.sin(2 * np.pi * random.uniform(0.5, 3) * time_s))
        phase = np.cumsum(pitch_hz) / (100 * block)
        sound = sum(np.sin(2 * np.pi * k * phase) / k for k in range(1, 9)) + random.normal(0, 0.1, n)
        sound *= 32000 / np.abs(sound).max() * random.choice([1, 0.3, 0.001])
        out[:, row] = sound.reshape(blocks, block)
    return out


@given(st.sampled_from([80, 80, 160, 240]), st.lists(losses, min_size=1, max_size=12), st.integers(0, 99))
def test_rows_equal_the_plain_concealment(block: int, slots: list[list[int]], seed: int) -> None:
    rows = Concealment(ROWS, block)
    plain = [PlainConcealment(block) for _ in range(ROWS)]
    sound = voiced(ROWS, 6 + len(slots), block, seed)
    for said, lost in zip(sound, [[]] * 6 + slots, strict=True):
        expected = [plain[row].conceal() if row in lost else plain[row].good(said[row].tolist()) for row in range(ROWS)]
        said[lost] = 99
        rows.repair(said, np.array(lost, np.intp))
        assert said.tolist() == expected


@given(st.lists(st.booleans(), max_size=16), st.integers(0, 2**32 - 1))
def test_noise_and_full_scale_equal_the_plain_concealment(slots: list[bool], seed: int) -> None:
    random = np.random.default_rng(seed)
    rows, plain = Concealment(1, 80), PlainConcealment(80)
    for is_lost in slots:
        said = random.choice(np.array([-32768, 0, 32767, seed % 77], np.int16), (1, 80))
        expected = plain.conceal() if is_lost else plain.good(said[0].tolist())
        rows.repair(said, ROW[:is_lost])
        assert said[0].tolist() == expected


def test_a_periodic_sound_goes_on_as_if_nothing_was_lost() -> None:
    whole = np.rint(8000 * np.sin(2 * np.pi * 125 * np.arange(960) / 8000)).astype(np.int16).reshape(12, 1, 80)
    rows = Concealment(1, 80)
    for number, block in enumerate(whole):
        heard = block.copy()
        rows.repair(heard, ROW[: number == 6])
        assert np.abs(heard.astype(int) - block).max() <= 2


def test_a_long_loss_is_silent_after_60_ms() -> None:
    rows = Concealment(1, 80)
    block = np.full((1, 80), 10000, np.int16)
    for _ in range(5):
        rows.repair(block)
    peaks = []
    for _ in range(300):  # more than a uint8 counts to
        rows.repair(block, ROW)
        peaks.append(int(np.abs(block).max()))
    assert peaks[0] == 10000
    assert peaks[:SILENT_AFTER_BLOCKS] == sorted(peaks[:SILENT_AFTER_BLOCKS], reverse=True)
    assert not any(peaks[SILENT_AFTER_BLOCKS:])


def test_what_follows_a_loss_begins_softly_and_ends_untouched() -> None:
    """Silence that was meant, too: it does not cut the synthetic sound off."""
    rows = Concealment(1, 80)
    for block in voiced(1, 6, 80, 1):
        rows.repair(block)
    rows.repair(np.zeros((1, 80), np.int16), ROW)
    silence = np.zeros((1, 80), np.int16)
    rows.repair(silence)
    assert silence[0, 0]
    assert not silence[0, 30:].any()
    rows.repair(silence)
    assert not silence[0, 30:].any()


def test_a_row_that_was_reset_repeats_nothing_of_the_call_before() -> None:
    rows = Concealment(2, 80)
    both = np.array([0, 1])
    for _ in range(5):
        rows.repair(np.full((2, 80), 10000, np.int16))
    rows.repair(np.zeros((2, 80), np.int16), both)
    rows.reset(np.array([0]))
    for lost in (both, both[:0]):
        block = np.zeros((2, 80), np.int16)
        rows.repair(block, lost)
        assert not block[0].any()
        assert block[1].any()


def test_rows_beyond_those_in_use_are_left_alone() -> None:
    rows = Concealment(3, 80)
    rows.repair(np.full((3, 80), 500, np.int16))
    for _ in range(4):
        rows.repair(np.full((1, 80), 100, np.int16))
    block = np.zeros((3, 80), np.int16)
    rows.repair(block, np.array([0]))
    assert block[0].tolist() == [100] * 80
    assert not block[1:].any()


def test_a_tick_without_losses_allocates_nothing() -> None:
    rows = Concealment(200, 80)
    blocks = np.zeros((200, 80), np.int16)
    rows.repair(blocks)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        for _ in range(20):
            rows.repair(blocks)
        assert tracemalloc.get_traced_memory()[1] - before < 2000
    finally:
        tracemalloc.stop()
