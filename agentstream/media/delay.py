"""How long each row's sound is held back: as short as its packets' arrivals allow, decided for all rows at once.

What is measured is how many 10 ms blocks before its turn each packet arrives (or behind it, when it is late), as a
histogram a row that forgets. What nearly all packets have to spare is surplus, and is left out bit by bit; what they
lack is added at once. Skew between the sender's clock and ours shows as the one or the other, and needs nothing else.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

LATE_BINS = 20
"""Blocks of lateness that are told apart: up to 200 ms."""

BINS = 64
"""With those of lateness: up to 430 ms to spare are told apart."""

FORGET = 1 / 250
"""Weight of the newest packet: 5 s of 20 ms packets make up nearly two thirds of the histogram."""

HEAVY = 1e4
"""The weight at which a row's histogram is made light again."""

LATE_SHARE = 0.01
"""The share of packets for which no time is kept to spare."""

SPARE_BLOCKS = 1
"""What is kept to spare beyond the histogram."""

TICK_BLOCKS = 2
"""What packets have more to spare that come just before a tick than those that come just behind it."""

ENOUGH_PACKETS = 100
"""Packets of a source before its surplus is believed: 2 s."""

IntArray = npt.NDArray[np.int64]


class PlayoutDelay:
    """The delay of every row.

    :param rows: how many rows there can be.
    :param least: and ``most``: bounds in blocks of 10 ms.

    :ivar blocks: the present delay of each row in blocks, which is what its middle packet has to spare; a new anchor
        takes it over.
    :ivar surplus: blocks that each row may leave out.
    :ivar waited: how many packets of each leg had so many blocks to spare, int64 (rows, BINS), LATE_BINS of lateness
        first; forgets nothing.
    """

    def __init__(self, rows: int, least: int, most: int) -> None:
        self._least = least
        self._most = most
        self._shares = np.zeros((rows, BINS), np.float32)
        self._weight = np.ones(rows, np.float32)
        self._packets = np.zeros(rows, np.int64)
        self.blocks = np.zeros(rows, np.int64)
        self.surplus = np.zeros(rows, np.int64)
        self.waited = np.zeros((rows, BINS), np.int64)
        self.has_surplus = False

    @property
    def is_adaptive(self) -> bool:
        """The bounds leave room between them."""
        return self._most > self._least

    def open(self, row: int, blocks: int) -> None:
        """A new leg begins with this delay."""
        self.blocks[row] = blocks
        self.waited[row] = 0
        self.forget(row)

    def forget(self, row: int) -> None:
        """Another source, or another anchor: what was measured does not hold for it."""
        self._shares[row] = 0
        self._weight[row] = 1
        self._packets[row] = self.surplus[row] = 0

    def observe(self, rows: IntArray, ahead: IntArray) -> None:
        """Packets arrived; one a row.

        :param ahead: blocks between each one's first block and playout; below zero for one that is late.
        """
        bins = np.minimum(np.maximum(ahead + LATE_BINS, 0), BINS - 1)
        # Instead of making all that is remembered lighter, each packet weighs a little more than the one before it.
        weight = self._weight[rows]
        self._shares[rows, bins] += weight
        self._weight[rows] = weight * np.float32(1 / (1 - FORGET))
        self.waited[rows, bins] += 1
        self._packets[rows] += 1

    def lack(self, row: int) -> int:
        """Blocks that a row's delay has to grow by now, within its bounds, so that but the late share is in time."""
        totals = np.cumsum(self._shares[row])
        spare = int((totals <= LATE_SHARE * totals[-1]).sum()) - LATE_BINS
        return max(0, min(-spare, self.room(row)))

    def review(self, high: int) -> None:
        """Work out delay and surplus of rows 0 to high - 1; a few times a second is enough."""
        heavy = np.flatnonzero(self._weight[:high] > HEAVY)
        if len(heavy):
            self._shares[heavy] /= self._weight[heavy, None]
            self._weight[heavy] = 1
        totals = np.cumsum(self._shares[:high], axis=1)
        whole = totals[:, -1:]
        # The first bins at which more than the late share, and more than half, of what is remembered has arrived.
        spare = (totals <= LATE_SHARE * whole).sum(axis=1) - LATE_BINS
        middle = (totals <= 0.5 * whole).sum(axis=1) - LATE_BINS
        is_known = self._packets[:high] >= ENOUGH_PACKETS
        np.copyto(self.blocks[:high], np.clip(middle, self._least, self._most), where=is_known)
        surplus = np.minimum(spare - SPARE_BLOCKS, middle - self._least)
        if not self.is_adaptive:
            # Packets that arrive about when a tick is due wait for this one or for the next: that is no surplus.
            surplus = np.minimum(surplus, spare - self._least - TICK_BLOCKS)
        surplus[~is_known] = 0
        np.maximum(surplus, 0, out=self.surplus[:high])
        self.has_surplus = bool(self.surplus[:high].any())

    def shortened(self, rows: IntArray) -> None:
        """These rows have left out one block."""
        self.blocks[rows] -= 1
        self.surplus[rows] -= 1
        self._shares[rows, :-1] = self._shares[rows, 1:]
        self._shares[rows, -1] = 0

    def room(self, row: int) -> int:
        """By how many blocks a row's delay may still grow."""
        return int(self._most - self.blocks[row])

    def lengthened(self, row: int, blocks: int) -> None:
        """A row plays this many blocks later from now on."""
        self.blocks[row] = min(self._most, self.blocks[row] + blocks)
        self.surplus[row] = 0
        blocks = min(blocks, BINS)
        shares = self._shares[row]
        shares[blocks:] = shares[: BINS - blocks].copy()
        shares[:blocks] = 0


def wait_ms(waited: IntArray, percent: float) -> int:
    """How long, in ms, this share of packets waited at the most; 0 for none."""
    totals = np.cumsum(waited)
    if not totals[-1]:
        return 0
    return 10 * max(0, int(np.searchsorted(totals, totals[-1] * percent / 100.0)) - LATE_BINS)
