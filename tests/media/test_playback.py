"""What goes out: joined, marked, cleared and bounded as media.md section 5 decides."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from agentstream.media.playback import BLOCK_BYTES, Playback, PlaybackBudget
from agentstream.media.playback_bank import PlaybackBank

FRAME = 160


class Speaker:
    """One row of a PlaybackBank; what left is kept frame by frame."""

    def __init__(self, row: int = 1, limit_ms: int = 600_000, memory: int = 1 << 30) -> None:
        self.bank = PlaybackBank(3)
        self.budget = PlaybackBudget(memory)
        self.row = row
        self.queue: Playback = self.bank.open(row, self.budget, limit_ms)
        self.out = np.zeros((3, FRAME), np.int16)
        self.left: list[np.ndarray] = []
        self.marks: list[tuple[str, bool, int]] = []

    def tick(self, count: int = 1) -> None:
        for _ in range(count):
            self.bank.take(3, self.out)
            self.left.append(self.out[self.row].copy())
            self.bank.settle(3)

    def mark(self, name: str) -> None:
        self.queue.mark(lambda is_played: self.marks.append((name, is_played, len(self.left))))

    def sound(self) -> np.ndarray:
        return np.concatenate(self.left)


def tone(samples: int, start: int = 1) -> np.ndarray:
    return (np.arange(start, start + samples) % 8000 + 1000).astype(np.int16)


@given(st.lists(st.integers(0, 1500), min_size=1, max_size=30))
def test_messages_join_without_padding(sizes: list[int]) -> None:
    """Any sizes in bytes, odd ones too: the samples come out in one piece."""
    sound = tone(sum(sizes) // 2 + 2 * FRAME)
    data = sound.tobytes()
    speaker = Speaker()
    at = 0
    for size in sizes:
        speaker.queue.write(data[at : at + size])
        at += size
    speaker.queue.write(data[at:])
    whole = len(sound) // FRAME * FRAME
    speaker.tick(whole // FRAME)
    assert np.array_equal(speaker.sound(), sound[:whole])


def test_more_than_a_window_waits_in_the_queue() -> None:
    sound = tone(8000 * 5)
    speaker = Speaker()
    speaker.queue.write(sound.tobytes())
    assert speaker.queue.queued_ms == 5000
    assert speaker.budget.used == 2 * 4 * 8000
    speaker.tick(250)
    assert np.array_equal(speaker.sound(), sound)
    assert speaker.queue.queued_samples == 0
    assert speaker.budget.used == 0


def test_small_messages_wait_in_few_blocks_and_come_out_whole() -> None:
    sound = tone(8000 * 20)
    speaker = Speaker()
    for at in range(0, len(sound), 160):
        speaker.queue.write(sound[at : at + 160].tobytes())
        if at % 1600 == 0:
            speaker.tick()  # the head moves while the tail grows
    assert len(speaker.queue._waiting) <= 2 * len(sound) // BLOCK_BYTES + 2
    speaker.tick(len(sound) // 160 - len(speaker.left))
    assert np.array_equal(speaker.sound(), sound)
    assert speaker.budget.used == 0


def test_a_mark_comes_when_its_last_sample_has_left_and_not_before() -> None:
    speaker = Speaker()
    speaker.mark("nothing queued")
    assert speaker.marks == [("nothing queued", True, 0)]
    speaker.queue.write(tone(400).tobytes())
    speaker.mark("a")
    speaker.mark("a")
    speaker.queue.write(tone(240).tobytes())
    speaker.mark("b")
    speaker.tick(2)
    assert len(speaker.marks) == 1
    speaker.tick(1)  # samples 320 to 479: the 400th is among them
    assert speaker.marks[1:] == [("a", True, 3), ("a", True, 3)]
    speaker.tick(1)
    assert speaker.marks[3:] == [("b", True, 4)]


def test_clear_fades_at_most_5_ms_and_tells_the_marks_at_once() -> None:
    speaker = Speaker()
    speaker.queue.write(np.full(8000 * 3, 10000, np.int16).tobytes())
    speaker.mark("one")
    speaker.mark("two")
    speaker.tick(5)
    assert speaker.queue.clear() == 8000 * 3 - 800
    assert [mark[:2] for mark in speaker.marks] == [("one", False), ("two", False)]
    speaker.tick(3)
    faded = speaker.left[5]
    assert 0 < faded[0] < 10000
    assert np.all(np.diff(faded[:41].astype(int)) <= 0)
    assert not faded[40:].any()
    assert not speaker.left[6].any() and not speaker.left[7].any()
    speaker.queue.write(tone(320).tobytes())
    speaker.mark("three")
    speaker.tick(2)
    assert np.array_equal(speaker.sound()[-320:], tone(320))
    assert speaker.marks[-1] == ("three", True, 10)
    assert speaker.queue.underruns == 0  # what follows a clear is a new utterance
    assert speaker.budget.used == 0


def test_clear_with_nothing_queued_is_nothing() -> None:
    speaker = Speaker()
    speaker.queue.clear()
    speaker.tick(2)
    assert not speaker.sound().any()


def test_an_underrun_fades_and_raises_the_threshold_to_60_ms() -> None:
    speaker = Speaker()
    starts = []
    for _ in range(6):
        speaker.queue.write(np.full(200, 9000, np.int16).tobytes())
        before = len(speaker.left)
        speaker.tick(6)
        starts.append(next(n for n in range(6) if speaker.left[before + n].any()))
        last = speaker.left[before + starts[-1] + 1]
        assert 0 <= last[39] < 2000 and not last[40:].any()
    assert starts == [0, 0, 0, 2, 3, 3]  # 20 ms more each time, to 60; a first 25 ms piece is over 20 ms already
    assert speaker.queue.underruns == 5
    assert int(speaker.bank.threshold[1]) == 480


def test_a_quiet_minute_lowers_the_threshold() -> None:
    speaker = Speaker()
    for _ in range(2):
        speaker.queue.write(tone(160).tobytes())
        speaker.tick(3)
    assert int(speaker.bank.threshold[1]) == 160
    speaker.tick(3001)
    speaker.queue.write(tone(160).tobytes())
    speaker.tick(3)
    assert int(speaker.bank.threshold[1]) == 0


def test_the_limit_asks_the_writer_to_wait_until_there_is_room() -> None:
    speaker = Speaker(limit_ms=2000)
    told: list[str] = []
    speaker.queue.on_full = lambda: told.append("full")
    speaker.queue.on_room = lambda: told.append("room")
    speaker.queue.write(tone(8000 * 3).tobytes())
    speaker.queue.write(tone(160).tobytes())
    assert told == ["full"]
    while speaker.queue.queued_ms > 1600:
        assert told == ["full"]
        speaker.tick()
    speaker.tick(26)
    assert told == ["full", "room"]


def test_the_budget_of_the_node_counts_every_queue() -> None:
    speaker = Speaker(memory=100_000)
    other = speaker.bank.open(2, speaker.budget, 600_000)
    told: list[str] = []
    other.on_full = lambda: told.append("full")
    speaker.queue.write(tone(8000 * 10).tobytes())
    other.write(tone(8000 * 2).tobytes())
    assert told == ["full"]
    speaker.queue.clear()
    other.clear()
    assert speaker.budget.used == 0


def test_close_tells_marks_and_leaves_nothing_for_the_next() -> None:
    speaker = Speaker()
    speaker.queue.write(tone(8000 * 2).tobytes())
    speaker.mark("never")
    speaker.queue.close()
    speaker.queue.close()
    speaker.queue.write(tone(160).tobytes())
    speaker.mark("after")
    assert [mark[:2] for mark in speaker.marks] == [("never", False), ("after", False)]
    speaker.bank.open(1, speaker.budget, 1000)
    speaker.tick(60)
    assert not speaker.sound().any()
    assert speaker.budget.used == 0


def test_a_failing_mark_harms_nobody(logged_failures) -> None:
    speaker = Speaker()
    speaker.queue.write(tone(160).tobytes())
    speaker.queue.mark(lambda is_played: 1 // 0)  # type: ignore[arg-type, return-value]
    speaker.mark("next")
    speaker.tick(2)
    assert speaker.marks == [("next", True, 1)]
    assert len(logged_failures.take(ZeroDivisionError)) == 1
