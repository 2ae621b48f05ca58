"""Concealment of one row, block by block and sample by sample."""

from __future__ import annotations

BOUNDARY_GAINS = [1.0, 1.0, 0.8, 0.6, 0.4, 0.2, 0.0]


class PlainConcealment:
    def __init__(self, block_samples: int) -> None:
        self.last = [0] * block_samples
        self.lost = 0

    def good(self, block: list[int]) -> None:
        self.last = list(block)
        self.lost = 0

    def conceal(self) -> list[float]:
        """The exact samples; an implementation in integers may be one and a half units away."""
        before = BOUNDARY_GAINS[min(self.lost, 6)]
        after = BOUNDARY_GAINS[min(self.lost + 1, 6)]
        self.lost += 1
        n = len(self.last)
        return [sample * (before + (after - before) * (i + 1) / n) for i, sample in enumerate(self.last)]
