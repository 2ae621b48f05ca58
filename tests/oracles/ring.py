"""The jitter buffer of one leg whose delay is fixed, packet by packet and block by block, with no ring in it."""

from __future__ import annotations

from collections.abc import Sequence

from tests.oracles.conceal import PlainConcealment

AHEAD = 62
"""Blocks of 10 ms that may wait: 640 ms less the slot that is being played."""

Block = tuple[int, ...]


def signed(number: int, bits: int) -> int:
    """A difference on the circle as a step forward or back."""
    half = 1 << bits - 1
    return (number + half) % (1 << bits) - half


class PlainRing:
    """One leg.

    :param delay: blocks. :param units: RTP timestamp units of a block, and its samples.
    """

    def __init__(self, delay: int, units: int) -> None:
        self.delay, self.units = delay, units
        self.voice: dict[int, Block] = {}
        self.silent: set[int] = set()
        self.anchor: tuple[int, int, int] | None = None  # SSRC, timestamp, block
        self.candidate: tuple[int, int, int, Sequence[Block]] | None = None
        self.next_sequence = self.end = self.now = 0
        self.restart: int | None = None
        self.late_run = 0
        self.late = self.duplicate = self.stray = self.reanchored = self.concealed = self.starved = 0
        self.conceal = PlainConcealment(units)

    def insert(self, sequence: int, timestamp: int, ssrc: int, blocks: Sequence[Block]) -> None:
        """One packet."""
        if self.anchor is None:
            self._begin(ssrc, timestamp, sequence)
        assert self.anchor is not None
        steps, off_grid = divmod(signed(timestamp - self.anchor[1], 32), self.units)
        first = self.anchor[2] + steps
        ahead = first - self.now
        if ssrc != self.anchor[0] or off_grid or ahead > AHEAD - len(blocks) or ahead <= -64:
            self._doubt(sequence, timestamp, ssrc, blocks)
            return
        self.stray += self.candidate is not None
        self.candidate = None
        if ahead >= 0:
            self.late_run = 0
            self._write(first, sequence, blocks)
            return
        self.late += 1
        self.late_run += 1
        if self.late_run == 3:
            self.reanchored += 1
            self._begin(ssrc, timestamp, sequence)
            self._write(self.anchor[2], sequence, blocks)

    def skip(self, sequence: int, ssrc: int) -> None:
        """A packet without sound."""
        if self.anchor is not None and ssrc == self.anchor[0] and signed(sequence - self.next_sequence, 16) >= 0:
            self.next_sequence = (sequence + 1) % 65536

    def play(self) -> list[int]:
        """The next 10 ms."""
        block = self.voice.pop(self.now, None)
        is_lost = False
        if block is None and self.anchor is not None and self.now not in self.silent:
            is_lost = self.end > self.now
            self.concealed += is_lost
            self.starved += not is_lost
        self.silent.discard(self.now)
        self.now += 1
        return self.conceal.conceal() if is_lost else self.conceal.good(list(block or (0,) * self.units))

    def _doubt(self, sequence: int, timestamp: int, ssrc: int, blocks: Sequence[Block]) -> None:
        before, self.candidate = self.candidate, None
        if before is None or before[2] != ssrc or sequence != (before[0] + 1) % 65536:
            self.stray += before is not None
            self.candidate = (sequence, timestamp, ssrc, blocks)
            return
        self.reanchored += 1
        self._begin(ssrc, before[1], before[0])
        assert self.anchor is not None
        for number, stamp, _, sound in (before, (sequence, timestamp, ssrc, blocks)):
            steps = signed(stamp - self.anchor[1], 32) // self.units
            if 0 <= steps < 32:
                self._write(self.anchor[2] + steps, number, sound)
            else:
                self.stray += 1

    def _begin(self, ssrc: int, timestamp: int, sequence: int) -> None:
        begin = self.now + self.delay
        self.anchor = (ssrc, timestamp, begin)
        self.end, self.next_sequence, self.late_run, self.restart = begin, sequence, 0, None
        self.voice = {at: block for at, block in self.voice.items() if at < begin}
        self.silent = {at for at in range(self.now, begin) if at not in self.voice}

    def _write(self, first: int, sequence: int, blocks: Sequence[Block]) -> None:
        step = signed(sequence - self.next_sequence, 16)
        if step == 0:
            self.silent |= {at for at in range(max(self.end, self.now), first) if at not in self.voice}
        is_newer = step >= 0
        if step < -100:
            is_newer = self.restart == sequence
            self.restart = None if is_newer else (sequence + 1) % 65536
        if is_newer:
            self.next_sequence, self.end = (sequence + 1) % 65536, first + len(blocks)
        self.duplicate += first in self.voice
        for at, block in enumerate(blocks, first):
            self.voice[at] = block
            self.silent.discard(at)
