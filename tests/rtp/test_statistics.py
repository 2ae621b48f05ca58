from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentstream.rtp.rtcp import ReportBlock
from agentstream.rtp.statistics import Reception, ReceptionMatrix
from tests.oracles.statistics import Source

pytestmark = pytest.mark.rfc(3550)

ROWS = 3
# Steps that stay, gap, repeat, come late, and jump, from a start near the wrap.
steps = st.lists(st.sampled_from([1, 1, 1, 1, 2, 0, -1, -5, 2999, 3000, -99, -100, -101, 30000]), max_size=40)
starts = st.sampled_from([0, 1, 65534, 65535, 40000])


def numbers(start: int, moves: list[int]) -> list[int]:
    sequence = [start]
    for move in moves:
        sequence.append((sequence[-1] + move) % 65536)
    return sequence


@given(starts, steps)
def test_one_source_counts_as_the_rfc_does(start: int, moves: list[int]) -> None:
    plain, ours = Source(), Reception()
    for number in numbers(start, moves):
        assert ours.count(number) == plain.update_seq(number)
        assert (ours.expected, ours.received, ours.discarded) == plain.totals
        assert ours.lost == ours.expected - ours.received


@given(st.lists(st.tuples(starts, steps), min_size=ROWS, max_size=ROWS), st.randoms(use_true_random=False))
def test_rows_count_as_single_sources_do(plans: list[tuple[int, list[int]]], random: object) -> None:
    matrix = ReceptionMatrix(ROWS + 2)
    singles = [Reception() for _ in range(ROWS)]
    queues = [numbers(*plan) for plan in plans]
    now = 100.0
    while any(queues):
        busy = [row for row in range(ROWS) if queues[row] and random.random() < 0.8]  # type: ignore[attr-defined]
        now += 0.017
        heads = [queues[row].pop(0) for row in busy]
        rows = np.array(busy, np.intp)
        placed = matrix.count(rows, np.array(heads, np.uint16))
        timestamps = [(head * 160 + 0xFFFFF000) % 2**32 for head in heads]
        matrix.time(rows, np.array(timestamps, np.uint32), now)
        for row, head, timestamp, is_placed in zip(busy, heads, timestamps, placed.tolist(), strict=True):
            single = singles[row]
            assert single.count(head) == is_placed
            single.time(timestamp, now)
            assert (matrix.expected(row), matrix.lost(row)) == (single.expected, single.lost)
            assert (matrix.received[row], matrix.discarded[row]) == (single.received, single.discarded)
            assert matrix.highest[row] == single.highest
            assert matrix.jitter_ms(row) == pytest.approx(single.jitter_ms)
    for row, single in enumerate(singles):
        assert matrix.report(row, 7) == single.report(7)
    assert not matrix.received[ROWS:].any()


def test_loss_is_what_is_missing_between_first_and_last() -> None:
    reception = Reception()
    lost = {3, 4, 65537 + 9}
    for number in range(100_000):
        if number not in lost:
            reception.count((number + 60000) % 65536)
    assert (reception.expected, reception.lost, reception.highest) == (100_000, 3, 159_999)


def test_jitter_follows_appendix_a_8() -> None:
    reception = Reception(rate_hz=8000)
    expected = 0.0
    arrivals = [0.0, 0.020, 0.045, 0.060, 0.080]
    for i, arrival in enumerate(arrivals):
        reception.time(0xFFFFFF60 + 160 * i & 0xFFFFFFFF, 1000.0 + arrival)
        if i:
            transit = (arrival - arrivals[i - 1]) * 8000 - 160
            expected += (abs(transit) - expected) / 16
    assert reception.jitter == pytest.approx(expected)
    assert reception.jitter_ms == pytest.approx(expected / 8)


def test_a_report_has_the_fraction_since_the_last_one() -> None:
    reception = Reception()
    for number in range(0, 100, 2):
        reception.count(number)
    first = reception.report(5)
    assert (first.fraction_lost, first.cumulative_lost, first.highest_sequence_number) == (49 * 256 // 99, 49, 98)
    for number in range(99, 199):
        reception.count(number)
    assert reception.report(5, last_sr=9, delay_since_last_sr=65536) == ReportBlock(5, 0, 49, 198, 0, 9, 65536)


def test_duplicates_never_make_a_negative_fraction() -> None:
    reception = Reception()
    for _ in range(3):
        reception.count(1)
    assert reception.lost == -2
    assert (reception.report(1).fraction_lost, reception.report(1).cumulative_lost) == (0, -2)


def test_a_new_source_keeps_the_totals_and_a_new_call_does_not() -> None:
    matrix, single = ReceptionMatrix(2), Reception()
    row = np.array([1])
    for number in (10, 12, 50000, 50003):
        if number == 50000:
            matrix.new_source(row)
            single.new_source()
        matrix.count(row, np.array([number], np.uint16))
        single.count(number)
    assert (matrix.expected(1), matrix.lost(1)) == (single.expected, single.lost) == (7, 3)
    matrix.reset(row)
    assert (matrix.expected(1), matrix.lost(1), int(matrix.received[1])) == (0, 0, 0)


def test_rows_with_clocks_of_their_own() -> None:
    """Each row's jitter is that of a source alone with its clock; another clock begins anew."""
    clocks = {0: 8000, 1: 48000, 2: 16000}
    matrix = ReceptionMatrix(3)
    alone = {row: Reception(rate_hz=clock_hz) for row, clock_hz in clocks.items()}
    for row, clock_hz in clocks.items():
        matrix.clock(row, clock_hz)
    rows = np.arange(3)
    generator = np.random.default_rng(4)
    for number in range(100):
        now = 0.02 * number + float(generator.uniform(0, 0.01))
        stamps = [number * clock_hz // 50 for clock_hz in clocks.values()]
        matrix.time(rows, np.array(stamps, np.uint32), now)
        for row, stamp in enumerate(stamps):
            alone[row].time(stamp, now)
    assert [matrix.jitter_ms(row) for row in range(3)] == pytest.approx([alone[row].jitter_ms for row in range(3)])
    assert matrix.jitter_ms(1) > 1
    matrix.clock(1, 8000)
    assert matrix.jitter_ms(1) == 0
