from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentstream.audio.conceal import SILENT_AFTER_BLOCKS, Concealment
from tests.oracles.conceal import PlainConcealment

ROWS, BLOCK = 4, 8
# What happens to each row in one 10 ms: a block of its own, or a loss.
slot = st.lists(st.none() | st.integers(-32768, 32767), min_size=ROWS, max_size=ROWS)


@given(st.lists(slot, max_size=16))
def test_rows_equal_the_plain_concealment(slots: list[list[int | None]]) -> None:
    rows = Concealment(ROWS, BLOCK)
    plain = [PlainConcealment(BLOCK) for _ in range(ROWS)]
    for values in slots:
        lost = np.array([row for row, value in enumerate(values) if value is None], np.intp)
        good = {
            row: np.linspace(value, 0, BLOCK).astype(np.int16) for row, value in enumerate(values) if value is not None
        }
        out = np.full((len(lost), BLOCK), 99, np.int16)
        assert rows.conceal(lost, out) is out
        for row, heard in zip(lost.tolist(), out, strict=True):
            assert heard.tolist() == pytest.approx(plain[row].conceal(), abs=1.51)
        if good:
            rows.good(np.array(list(good), np.intp), np.array(list(good.values())))
        for row, block in good.items():
            plain[row].good(block.tolist())


def test_a_long_loss_is_silent_after_60_ms() -> None:
    rows = Concealment(1, 80)
    row = np.array([0])
    rows.good(row, np.full((1, 80), 10000, np.int16))
    out = np.zeros((1, 80), np.int16)
    peaks = []
    for _ in range(300):  # more than a uint8 counts to
        peaks.append(int(np.abs(rows.conceal(row, out)).max()))
    assert peaks[0] == 10000
    assert peaks[:SILENT_AFTER_BLOCKS] == sorted(peaks[:SILENT_AFTER_BLOCKS], reverse=True)
    assert not any(peaks[SILENT_AFTER_BLOCKS:])


def test_a_row_that_was_reset_repeats_nothing_of_the_call_before() -> None:
    rows = Concealment(2, 80)
    both = np.array([0, 1])
    rows.good(both, np.full((2, 80), 10000, np.int16))
    rows.reset(np.array([0]))
    out = np.full((2, 80), 7, np.int16)
    rows.conceal(both, out)
    assert not out[0].any()
    assert out[1].all()


def test_the_output_may_be_part_of_a_frame() -> None:
    rows = Concealment(3, 80)
    chosen = np.array([2, 0])
    rows.good(chosen, np.array([[222] * 80, [100] * 80], np.int16))
    frame = np.zeros((2, 160), np.int16)
    rows.conceal(chosen, frame[:, 80:])
    assert not frame[:, :80].any()
    assert frame[:, 80:].tolist() == [[222] * 80, [100] * 80]
