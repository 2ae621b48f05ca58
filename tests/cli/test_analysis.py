"""The bench's figures, from notes made by hand: two calls of 100 frames, a bot that echoes, and one probe."""

from __future__ import annotations

import numpy as np
import pytest

from agentstream.cli.bench import frames
from agentstream.cli.bench.analysis import Load, Sink, analyse, analyse_probes, percentile
from agentstream.cli.bench.callers import RECEIVED, SENT
from agentstream.cli.bench.sink import BURST, MESSAGE

MS = 1_000_000
CALLS, FRAMES, PER_MESSAGE = 2, 100, 5
TO_BOT_MS, TO_CALLER_MS = 65, 80
NO_CODE = b"\xff" * 8


def code(call: int, frame: int) -> bytes:
    return frames.code_of(call, frame)


def sent() -> np.ndarray:
    return np.array([(i * 20 * MS, i, call) for call in range(CALLS) for i in range(FRAMES)], SENT)


def sink(lost: frozenset[tuple[int, int]] = frozenset()) -> Sink:
    messages, codes = [], []
    for call in range(CALLS):
        for first in range(0, FRAMES, PER_MESSAGE):
            messages.append(((first + PER_MESSAGE - 1) * 20 * MS + TO_BOT_MS * MS, 2 * PER_MESSAGE, call))
            for frame in range(first, first + PER_MESSAGE):
                codes += [NO_CODE if (call, frame) in lost else code(call, frame), NO_CODE]
    return Sink(
        np.array(messages, MESSAGE),
        np.frombuffer(b"".join(codes), np.uint8).reshape(-1, 8),
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
    shifted = Sink(whole.messages, np.roll(whole.codes, 1, axis=0))
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
    bursts = np.array([(5000 * MS, 0, probe), (6000 * MS, 2, probe)], BURST)
    probes = analyse_probes(Load(sent(), np.concatenate([heard, extra])), bursts, bursts[:0])
    assert probes.bot_to_rtp_ms.tolist() == [17.0]
    assert (probes.bursts, probes.frames_lost) == (2, 2)


PROBE = frames.PROBE_CALL + 9
SILENCE = b"\xff" * 8
TONE = b"\x9f\x1f" * 4


def listener(last_said: int) -> np.ndarray:
    """One caller's packets: silence, 20 ms each of an utterance up to a frame, silence again."""
    rows = []
    for slot in range(40):
        number = slot - 5
        first, second = (code(PROBE, 100 + number), TONE) if 0 <= number <= last_said else (SILENCE, SILENCE)
        rows.append(((1000 + 20 * slot) * MS, [list(first), list(second)], 160 * slot, 7, slot))
    return np.array(rows, RECEIVED)


def test_a_clear_is_timed_until_there_is_silence_behind_all_that_was_said() -> None:
    clears = np.array([(1195 * MS, 100, PROBE)], BURST)
    at_once = analyse_probes(Load(sent(), listener(4)), clears[:0], clears)
    assert (at_once.clears, at_once.clear_to_silence_ms.tolist()) == (1, [5.0])
    ignored = analyse_probes(Load(sent(), listener(19)), clears[:0], clears)
    assert ignored.clear_to_silence_ms.tolist() == [305.0]


def test_a_clear_of_what_nobody_had_heard_says_nothing() -> None:
    early = np.array([(1050 * MS, 100, PROBE), (1195 * MS, 300, PROBE)], BURST)
    assert analyse_probes(Load(sent(), listener(4)), early[:0], early).clear_to_silence_ms.tolist() == []


def test_what_was_lost_is_placed_in_time() -> None:
    figures = analyse(Load(sent(), received(frozenset({(1, 50)}))), sink(frozenset({(0, 10)})), (0, 10_000 * MS))
    assert figures.lost_at_s.tolist() == [0.2, 1.0]


def test_notes_longer_than_a_piece_and_frames_that_begin_late_are_read_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    lost = frozenset({(0, 7), (1, 99)})
    notes = Load(sent()[sent()["frame"] >= 5], received(lost | {(1, 50)})), sink(lost), (0, 10_000 * MS)
    whole = analyse(*notes)
    monkeypatch.setattr("agentstream.cli.bench.analysis._PIECE", 7)
    pieces = analyse(*notes)
    assert (pieces.frames_sent, pieces.frames_lost) == (whole.frames_sent, whole.frames_lost) == (190, 3)
    assert sorted(pieces.rtp_to_bot_ms) == sorted(whole.rtp_to_bot_ms)


def test_a_frame_that_its_caller_sent_too_late_is_not_the_servers_loss() -> None:
    said = sent()
    said["at_ns"][(said["call"] == 1) & np.isin(said["frame"], (40, 41))] += 35 * MS
    said["at_ns"][(said["call"] == 1) & (said["frame"] == 60)] += 25 * MS
    lost = frozenset({(1, 40), (1, 60), (0, 40)})  # 41 was as late and made it
    figures = analyse(Load(said, received(lost)), sink(lost), (0, 10_000 * MS))
    assert (figures.frames_sent_late, figures.frames_lost_to_bot, figures.frames_lost_to_caller) == (1, 2, 0)
    assert len(figures.lost_at_s) == 2


def test_nothing_noted_is_nothing_sent() -> None:
    figures = analyse(Load(sent()[:0], received()[:0]), Sink(sink().messages[:0], sink().codes[:0]), (0, 1))
    assert (figures.frames_sent, figures.frames_lost) == (0, 0) and np.isnan(percentile(figures.egress_ms, 99))


def test_egress_is_measured_against_the_grid_that_fits_best() -> None:
    heard = received()
    heard["at_ns"][10] += 3 * MS
    heard["at_ns"][11] -= 1 * MS
    figures = analyse(Load(sent(), heard), sink(), (0, 10_000 * MS))
    assert sorted(figures.egress_ms)[-3:] == [0.0, 1.0, 3.0]


def test_no_measurement_is_not_a_number() -> None:
    assert np.isnan(percentile(np.empty(0), 95))
    assert percentile(np.array([1.0, 2.0, 3.0]), 50) == pytest.approx(2.0)
