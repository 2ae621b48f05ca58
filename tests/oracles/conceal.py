"""Concealment of one row, block by block and sample by sample."""

from __future__ import annotations

import math

BOUNDARY_GAINS = [1.0, 1.0, 0.8, 0.6, 0.4, 0.2, 0.0]
ONE = 32768


class PlainSilence:
    """No concealment: a lost block is silent."""

    def __init__(self, block_samples: int) -> None:
        self.block = block_samples

    def good(self, block: list[int]) -> list[int]:
        return block

    def conceal(self) -> list[int]:
        return [0] * self.block


class PlainRepetition:
    """The last good block again and again, with the gains of Appendix I: the reference that pitch must beat."""

    def __init__(self, block_samples: int) -> None:
        self.last = [0] * block_samples
        self.lost = 0

    def good(self, block: list[int]) -> list[int]:
        self.last = list(block)
        self.lost = 0
        return block

    def conceal(self) -> list[int]:
        before = BOUNDARY_GAINS[min(self.lost, 6)]
        after = BOUNDARY_GAINS[min(self.lost + 1, 6)]
        self.lost += 1
        n = len(self.last)
        return [round(sample * (before + (after - before) * (i + 1) / n)) for i, sample in enumerate(self.last)]


class PlainConcealment:
    """ITU-T G.711 Appendix I without its delay, in Q15 integers."""

    def __init__(self, block_samples: int) -> None:
        self.block = block_samples
        self.history = [0] * (5 * block_samples)
        self.lost = 0

    def good(self, block: list[int]) -> list[int]:
        block = list(block)
        if self.lost:
            overlap = min(self.block, self.quarter + (self.lost - 1) * (self.block * 2 // 5))
            gain = self.gain(self.lost, 0)
            for i in range(overlap):
                tail = self.next_sample() * gain >> 15
                block[i] = mix(tail, block[i], i, overlap)
            self.lost = 0
        return self.remember(block)

    def conceal(self) -> list[int]:
        if self.lost == 0:
            block = self.begin()
        elif self.lost < 3:
            block = self.go_on_longer()
        elif self.lost < 6:
            block = [self.next_sample() for _ in range(self.block)]
        else:
            block = [0] * self.block
        block = [sample * self.gain(self.lost, i) >> 15 for i, sample in enumerate(block)]
        self.lost = min(self.lost + 1, 6)
        return self.remember(block)

    def begin(self) -> list[int]:
        self.period = self.repeated = self.find_period()
        self.quarter = self.period // 4
        self.heard = list(self.history)
        self.offset = 0
        step = self.heard[-1] - self.heard[-1 - self.period]
        self.repetition = self.overlapped()
        block = [self.next_sample() for _ in range(self.block)]
        for i in range(self.quarter):
            block[i] += step * (ONE - (i + 1) * ONE // self.quarter) >> 15
        recent = self.heard[-(self.block * 3 // 2) - 1 :]
        return [min(max(sample, min(recent)), max(recent)) for sample in block]

    def go_on_longer(self) -> list[int]:
        offset = self.offset
        before = [self.next_sample() for _ in range(self.quarter)]
        self.offset = offset % self.period
        self.repeated += self.period
        self.repetition = self.overlapped()
        block = [self.next_sample() for _ in range(self.block)]
        for i in range(self.quarter):
            block[i] = mix(before[i], block[i], i, self.quarter)
        return block

    def overlapped(self) -> list[int]:
        start = len(self.heard) - self.repeated
        repetition = self.heard[start:]
        before_start = self.heard[start - self.quarter : start]
        for i in range(self.quarter):
            at = len(repetition) - self.quarter + i
            repetition[at] = mix(repetition[at], before_start[i], i, self.quarter)
        return repetition

    def next_sample(self) -> int:
        sample = self.repetition[self.offset]
        self.offset = (self.offset + 1) % self.repeated
        return sample

    def find_period(self) -> int:
        shortest, longest, step = self.block // 2, self.block * 3 // 2, self.block // 40
        coarse = max(range(shortest, longest + 1, step), key=lambda lag: self.likeness(lag, step))
        near = range(max(shortest, coarse - step + 1), min(longest, coarse + step - 1) + 1)
        return max(near, key=lambda lag: self.likeness(lag, 1))

    def likeness(self, lag: int, step: int) -> float:
        begin = len(self.history) - 2 * self.block
        now = self.history[begin::step]
        then = self.history[begin - lag : len(self.history) - lag : step]
        return sum(a * b for a, b in zip(now, then, strict=True)) / math.sqrt(max(250, sum(b * b for b in then)))

    def gain(self, lost: int, i: int) -> int:
        before, after = BOUNDARY_GAINS[min(lost, 6)], BOUNDARY_GAINS[min(lost + 1, 6)]
        return round(ONE * (before + (after - before) * (i / self.block)))

    def remember(self, block: list[int]) -> list[int]:
        self.history = self.history[self.block :] + block
        return block


def mix(old: int, new: int, i: int, overlap: int) -> int:
    """Sample ``i`` of an overlap in which ``old`` gives way to ``new``."""
    rising = (i + 1) * ONE // overlap
    return (old * (ONE - rising) + new * rising) >> 15
