"""The bench's figures, from notes made by hand: two calls of 100 frames, a bot that echoes, and one probe."""

from __future__ import annotations

import numpy as np
import pytest

from agentstream.cli.bench import frames
from agentstream.cli.bench.analysis import Load, Sink, analyse, percentile
from agentstream.cli.bench.load import RECEIVED, SENT
from agentstream.cli.bench.sink import BURST, MESSAGE

MS = 1_000_000
CALLS, FRAMES, PER_MESSAGE = 2, 100, 5
TO_BOT_MS, TO_CALLER_MS = 65, 80
NO_CODE = b"\xff" * 8


def code(call: int, frame: int) -> bytes:
    return frames.code_of(call, frame)


def sent() -> np.ndarray:
    return np.array([(i * 20 * MS, i, call) for call in range(CALLS) for i in range(FRAMES)], SENT)


def sink(lost: frozenset[tuple[int, int]] = frozenset(), bursts: list[tuple[int, int, int]] | None = None) -> Sink:
    messages, codes = [], []
    for call in range(CALLS):
        for first in range(0, FRAMES, PER_MESSAGE):
            messages.append(((first + PER_MESSAGE - 1) * 20 * MS + TO_BOT_MS * MS, 2 * PER_MESSAGE, call))
            for frame in range(first, first + PER_MESSAGE):
                codes += [NO_CODE if (call, frame) in lost else code(call, frame), NO_CODE]
    return Sink(
        np.array(messages, MESSAGE),
        np.frombuffer(b"".join(codes), np.uint8).reshape(-1, 8),
        np.array(bursts or [], BURST),
    )


def received(lost: frozenset[tuple[int, int]] = frozenset()) -> np.ndarray:
    return np.array(
        [
            (i * 20 * MS + TO_CALLER_MS * MS, [list(code(call, i)), list(NO_CODE)], 160 * i, call, i)
            for call in range(CALLS)
            for i in range(FRAMES)
            if (call, i) not in lost
        ],
        RECEIVED,
    )


def test_nothing_lost_and_every_delay_measured() -> None:
    figures = analyse(Load(sent(), received()), sink(), (0, 10_000 * MS))
    assert figures.frames_sent == 200
    assert (figures.frames_lost, figures.frames_foreign) == (0, 0)
    assert len(figures.rtp_to_bot_ms) == 40 and set(figures.rtp_to_bot_ms) == {TO_BOT_MS}
    assert len(figures.round_trip_ms) == 200 and set(figures.round_trip_ms) == {TO_CALLER_MS}
    assert figures.egress_ms.max() == 0


def test_a_frame_is_lost_once_and_on_the_way_where_it_was_lost() -> None:
    to_bot = frozenset({(0, 7), (1, 99)})
    to_caller = to_bot | {(1, 50)}
    figures = analyse(Load(sent(), received(to_caller)), sink(to_bot), (0, 10_000 * MS))
    assert (figures.frames_lost_to_bot, figures.frames_lost_to_caller, figures.frames_lost) == (2, 1, 3)


def test_a_code_may_begin_in_the_second_block() -> None:
    heard = received()
    heard["codes"] = heard["codes"][:, ::-1]
    whole = sink()
    shifted = Sink(whole.messages, np.roll(whole.codes, 1, axis=0), whole.bursts)
    figures = analyse(Load(sent(), heard), shifted, (0, 10_000 * MS))
    assert figures.frames_lost == 0
    assert set(figures.rtp_to_bot_ms) == {TO_BOT_MS}


def test_anothers_frame_is_told() -> None:
    heard = received()
    heard["codes"][3, 0] = list(code(1, 3))
    assert analyse(Load(sent(), heard), sink(), (0, 10_000 * MS)).frames_foreign == 1


def test_a_burst_is_timed_from_its_write_to_its_first_packet() -> None:
    probe = frames.PROBE_CALL + 4
    heard = received()
    extra = np.array(
        [
            (5017 * MS, [list(code(probe, 0)), list(NO_CODE)], 8000, 2, 50),
            (5037 * MS, [list(code(probe, 1)), list(NO_CODE)], 8160, 2, 51),
        ],
        RECEIVED,
    )
    bursts = [(5000 * MS, 0, probe), (6000 * MS, 2, probe)]
    figures = analyse(Load(sent(), np.concatenate([heard, extra])), sink(bursts=bursts), (0, 4000 * MS))
    assert figures.bot_to_rtp_ms.tolist() == [17.0]
    assert (figures.bursts, figures.frames_lost_to_caller) == (2, 2)


def test_egress_is_measured_against_the_grid_that_fits_best() -> None:
    heard = received()
    heard["at_ns"][10] += 3 * MS
    heard["at_ns"][11] -= 1 * MS
    figures = analyse(Load(sent(), heard), sink(), (0, 10_000 * MS))
    assert sorted(figures.egress_ms)[-3:] == [0.0, 1.0, 3.0]


def test_no_measurement_is_not_a_number() -> None:
    assert np.isnan(percentile(np.empty(0), 95))
    assert percentile(np.array([1.0, 2.0, 3.0]), 50) == pytest.approx(2.0)
