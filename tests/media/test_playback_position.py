"""What reached the wire, to the sample, and the queue that drops its oldest."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentstream.media.playback import Playback, PlaybackBudget, Position
from agentstream.media.playback_bank import PlaybackBank

FRAME = 160
FADE = 40


class Row:
    """One row of a bank, whose far end may forbid us to send."""

    def __init__(self) -> None:
        self.bank = PlaybackBank(1)
        self.queue: Playback = self.bank.open(0, PlaybackBudget(1 << 30), 600_000)
        self.out = np.zeros((1, FRAME), np.int16)
        self.sent: list[np.ndarray] = []
        self.marks: list[tuple[int, bool]] = []
        self.is_sent = True

    def tick(self, count: int = 1) -> None:
        for _ in range(count):
            self.bank.take(1, self.out)
            if self.is_sent:
                self.sent.append(self.out[0].copy())
            self.bank.withhold(1, np.array([self.is_sent]))
            self.bank.settle(1)

    def mark(self, number: int) -> None:
        self.queue.mark(lambda is_played: self.marks.append((number, is_played)))

    @property
    def wire(self) -> np.ndarray:
        return np.concatenate([np.zeros(0, np.int16), *self.sent])


def numbered(samples: int, first: int = 1) -> np.ndarray:
    return (np.arange(first, first + samples) % 30_000 + 1).astype(np.int16)


ACTS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.integers(0, 12_000)),
        st.tuples(st.just("tick"), st.integers(1, 30)),
        st.tuples(st.sampled_from(["clear", "hold", "send", "forbid", "mark"]), st.just(0)),
    ),
    max_size=30,
)


@settings(max_examples=60)
@given(ACTS, st.sampled_from([0, 60, 400, 960]))
def test_everything_written_is_played_held_dropped_or_queued(acts: list[tuple[str, int]], live_ms: int) -> None:
    row, written, marks, is_held = Row(), 0, 0, False
    row.queue.be_live(live_ms)
    for act, size in acts:
        before = row.queue.position
        if act == "write":
            row.queue.write_samples(numbered(size))
            written += size
        elif act == "tick":
            row.tick(size)
        elif act == "clear":
            row.queue.clear()
        elif act == "hold":
            is_held = not is_held
            row.queue.hold("test", is_held)
        elif act in ("send", "forbid"):
            row.is_sent = act == "send"
        else:
            row.mark(marks)
            marks += 1
        position = row.queue.position
        assert position.written == written
        assert min(position.played, position.held, position.dropped, position.queued) >= 0
        assert position.held >= before.held and position.dropped >= before.dropped
        if live_ms and act == "write":
            assert position.queued <= live_ms * 8 + FRAME
    row.queue.clear()
    row.is_sent = True
    row.tick(2)
    assert [number for number, _ in row.marks] == sorted(number for number, _ in row.marks)
    assert len(row.marks) == marks
    if not any(act in ("hold", "forbid") for act, _ in acts):
        # No sample of what is said here is 0, and the fade's last may round to it.
        played = int(np.count_nonzero(row.wire))
        fades = sum(act == "clear" for act, _ in acts) + 1
        underruns = sum(act == "tick" for act, _ in acts)
        assert played <= row.queue.position.played <= played + FADE * (fades + underruns)


def test_a_clear_says_to_the_sample_what_was_heard() -> None:
    row = Row()
    row.queue.write_samples(numbered(8000))
    row.tick(10)
    assert row.queue.position == Position(played=10 * FRAME, queued=8000 - 10 * FRAME)
    row.queue.clear()
    assert row.queue.position == Position(played=10 * FRAME + FADE, dropped=8000 - 10 * FRAME - FADE)
    row.queue.clear()  # twice in a tick is once
    row.queue.write_samples(numbered(100))
    row.queue.clear()
    assert row.queue.position == Position(played=10 * FRAME + FADE, dropped=8100 - 10 * FRAME - FADE)
    row.tick(2)
    assert row.queue.position.written == 8100 and not row.wire[10 * FRAME + FADE :].any()


def test_what_passes_while_sending_is_forbidden_is_held() -> None:
    row = Row()
    row.queue.write_samples(numbered(8000))
    row.tick(10)
    row.is_sent = False
    row.tick(15)
    row.is_sent = True
    row.tick(5)
    assert row.queue.position == Position(15 * FRAME, 15 * FRAME, 0, 8000 - 30 * FRAME)


def test_a_pause_fades_out_and_loses_nothing() -> None:
    row = Row()
    said = numbered(20 * FRAME)
    row.queue.write_samples(said)
    row.tick(5)
    row.queue.hold("pause", True)
    row.tick(10)
    assert row.queue.position.played == 5 * FRAME
    fade, rest = row.wire[5 * FRAME : 5 * FRAME + FADE], row.wire[5 * FRAME + FADE :]
    assert fade.any() and np.all(np.abs(fade) <= said[5 * FRAME : 5 * FRAME + FADE]) and not rest.any()
    row.queue.hold("pause", False)
    row.tick(16)
    assert np.array_equal(row.wire[15 * FRAME : 30 * FRAME], said[5 * FRAME :])


@pytest.mark.parametrize("size", [80, 160, 800, 8000])
def test_a_live_queue_keeps_the_newest(size: int) -> None:
    """A stall's worth at once, in messages of any size: what is heard ends with what was said last."""
    row, said = Row(), numbered(24_000)
    row.queue.be_live(400)
    row.queue.write_samples(said[:1600])
    row.tick(2)
    for at in range(1600, 24_000, size):
        row.queue.write_samples(said[at : at + size])
    assert 400 * 8 - FRAME <= row.queue.position.queued <= 400 * 8
    row.tick(22)
    heard = row.wire[row.wire > 0]
    assert np.array_equal(heard[:320], said[:320])
    assert np.array_equal(heard[-3000:-40], said[-3000:-40])
    assert row.queue.position.dropped == 24_000 - row.queue.position.played


def test_marks_of_what_a_live_queue_drops_are_told_so() -> None:
    row = Row()
    row.queue.be_live(100)
    for number in range(20):
        row.queue.write_samples(numbered(320))
        row.mark(number)
    assert row.marks == [(number, False) for number in range(17)]
    row.tick(6)
    assert row.marks[17:] == [(17, True), (18, True), (19, True)]


def test_live_ends() -> None:
    row: Any = Row()
    row.queue.be_live(100)
    row.queue.write_samples(numbered(8000))
    row.queue.be_live(0)
    row.queue.write_samples(numbered(8000))
    assert row.queue.queued_ms == 1100
