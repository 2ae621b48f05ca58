"""The delay follows the arrivals: down (test_shortening.py), up at once, and never away from where it belongs."""

from __future__ import annotations

import numpy as np
import pytest

from agentstream.media.arrivals import LEAST_MS, MOST_MS
from agentstream.media.ring import Rings

BLOCK = 80
ROWS = 2


class Sender:
    """Packets of 20 ms with a clock of their own; each tick takes those that have arrived by then.

    :param jitter_s: how much later than its time each packet arrives, in turn.
    :param lost_every: of so many packets one never arrives.
    :param noise: peak of noise instead of speech: it never pauses, and no two stretches of it are alike.
    """

    def __init__(
        self, *, ppm: float = 0.0, jitter_s: tuple[float, ...] = (0.0,), lost_every: int = 0, noise: int = 0
    ) -> None:
        self.noise = np.random.default_rng(3).integers(-noise, noise + 1, (500, 160), dtype=np.int16)
        self.rings = Rings(ROWS)
        self.rings.open(1, 60)
        self.period = 0.02 * (1 - ppm * 1e-6)
        self.jitter_s = jitter_s
        self.lost_every = lost_every
        self.sent = 0
        self.ticks = 0
        self.waiting: list[tuple[float, int]] = []
        self.out = np.zeros((ROWS, 2 * BLOCK), np.int16)
        self.speaking = True

    def tick(self) -> int:
        """One slot; returns the peak of what was played."""
        self.ticks += 1
        now = self.ticks * 0.02
        while self.sent * self.period <= now:
            if not self.lost_every or self.sent % self.lost_every:
                late = self.jitter_s[self.sent % len(self.jitter_s)]
                self.waiting.append((self.sent * self.period + 0.003 + late, self.sent))
            self.sent += 1
        arrived = sorted(pair for pair in self.waiting if pair[0] <= now)
        self.waiting = [pair for pair in self.waiting if pair[0] > now]
        for _, number in arrived:
            level = 4000 if self.is_loud(number) else 20
            voice = self.noise[number % 500] if self.noise.any() else np.full(160, level, np.int16)
            self.rings.insert(
                np.array([1]),
                np.array([number & 0xFFFF], np.uint16),
                np.array([number * 160 & 0xFFFFFFFF], np.uint32),
                np.array([5], np.uint32),
                voice[None],
            )
        self.rings.play(ROWS, self.out)
        return int(np.abs(self.out[1]).max())

    def is_loud(self, number: int) -> bool:
        """Speech of 3 s, then a pause of 1 s."""
        return number % 200 < 150

    def delay_ms(self) -> float:
        """Milliseconds from a packet's own time to its playout: what the caller's sound is late by."""
        played = int(self.rings._play_block[1] - self.rings._anchor_block[1]) * 0.01
        return 1000 * (self.ticks * 0.02 - played / 0.02 * self.period)


def test_on_a_clean_line_the_delay_shrinks_to_the_least_and_stays() -> None:
    sender = Sender()
    loud = [sender.tick() for _ in range(150)]
    assert max(loud) == 4000
    for _ in range(60):
        sender.tick()
    assert sender.rings.delay.blocks[1] == LEAST_MS // 10
    before = sender.rings.left_out[1]
    for _ in range(1000):
        sender.tick()
    assert sender.rings.left_out[1] == before
    assert sender.rings.late[1] == sender.rings.concealed[1] == 0


def test_jitter_is_followed_and_given_back() -> None:
    rough = tuple(0.1 if number % 20 in (7, 8, 9) else 0.0 for number in range(100))
    sender = Sender(jitter_s=rough)
    for _ in range(300):
        sender.tick()
    late = int(sender.rings.late[1])
    assert sender.rings.delay.blocks[1] >= 10
    for _ in range(600):
        sender.tick()
    assert sender.rings.late[1] == late  # from then on, all of them are in time
    sender.jitter_s = (0.0,)
    for _ in range(3000):
        sender.tick()
    assert sender.rings.delay.blocks[1] <= 4


def test_one_straggler_changes_nothing() -> None:
    sender = Sender(jitter_s=(0.0,) * 250 + (0.15,) + (0.0,) * 2000)
    for _ in range(600):
        sender.tick()
    assert sender.rings.late[1] == 1
    assert sender.rings.stretched[1] == 0


def test_a_fixed_delay_leaves_nothing_out_where_packets_come_when_a_tick_is_due() -> None:
    """Some have one slot more to spare than the others, and at times most of them have."""
    about_due = tuple(0.018 if number % 1000 < 500 or number % 10 == 0 else 0.015 for number in range(4000))
    sender = Sender(jitter_s=about_due, noise=5000)
    sender.rings = Rings(ROWS, least_ms=60, most_ms=60)
    sender.rings.open(1, 60)
    for _ in range(4000):
        sender.tick()
    assert sender.rings.left_out[1] == sender.rings.concealed[1] == 0


def test_a_fixed_delay_leaves_nothing_out_when_packets_begin_to_come_just_before_a_tick() -> None:
    """They come the same, or the ticks begin later than they did when the call began: one slot more for good."""
    behind_then_before = (0.018,) * 500 + (0.015,) * 1500
    sender = Sender(jitter_s=behind_then_before, noise=5000)
    sender.rings = Rings(ROWS, least_ms=60, most_ms=60)
    sender.rings.open(1, 60)
    for _ in range(2000):
        sender.tick()
    assert sender.rings.left_out[1] == sender.rings.concealed[1] == 0


def test_a_fixed_delay_takes_out_what_skew_adds() -> None:
    sender = Sender(ppm=500.0, noise=5000)
    sender.rings = Rings(ROWS, least_ms=60, most_ms=60)
    sender.rings.open(1, 60)
    for _ in range(6000):
        sender.tick()
    assert 4 <= sender.rings.left_out[1] <= 7


def test_the_bounds_hold() -> None:
    rough = tuple(0.3 * (number * 7919 % 100) / 100 for number in range(1000))
    sender = Sender(jitter_s=rough)
    for _ in range(2000):
        sender.tick()
        assert LEAST_MS // 10 <= sender.rings.delay.blocks[1] <= MOST_MS // 10


@pytest.mark.parametrize("ppm", [-500, -200, 200, 500])
def test_skew_accumulates_neither_delay_nor_gaps(ppm: float) -> None:
    """Ten minutes; the two hours of the page are test_two_hours below."""
    sender = Sender(ppm=ppm)
    for _ in range(1000):
        sender.tick()
    begin = sender.delay_ms()
    late, concealed = int(sender.rings.late[1]), int(sender.rings.concealed[1])
    for _ in range(30_000):
        sender.tick()
    assert abs(sender.delay_ms() - begin) <= 30
    assert sender.rings.reanchored[1] == 0
    # 600 s x 500 ppm = 300 ms: as many blocks are left out or added, and hardly a packet comes too late for it.
    assert int(sender.rings.late[1]) - late <= 60
    assert int(sender.rings.concealed[1]) - concealed <= 60


@pytest.mark.parametrize("ppm", [-500, 500])
def test_skew_of_who_never_pauses_accumulates_nothing(ppm: float) -> None:
    """Five minutes of noise, in which 150 ms have to be left out or added, with a lost packet every two seconds."""
    sender = Sender(ppm=ppm, noise=6000, lost_every=100)
    for _ in range(1000):
        sender.tick()
    begin = sender.delay_ms()
    assert sender.rings.delay.blocks[1] <= 3
    for _ in range(15_000):
        sender.tick()
        assert sender.delay_ms() <= begin + 30
    assert abs(sender.delay_ms() - begin) <= 30
    assert sender.rings.reanchored[1] == 0
    assert int(sender.rings.late[1]) <= 60


@pytest.mark.slow
def test_two_hours_with_skew_and_loss_end_with_the_delay_they_began_with() -> None:
    """360,000 ticks take some 20 s: the point is how long it lasts."""
    sender = Sender(ppm=200, lost_every=100)
    for _ in range(1000):
        sender.tick()
    begin = sender.delay_ms()
    for _ in range(359_000):
        sender.tick()
    assert abs(sender.delay_ms() - begin) <= 20
    assert sender.rings.reanchored[1] == 0
    assert sender.rings.concealed[1] == pytest.approx(2 * 3600, abs=200)
