"""What is heard between talk spurts of far ends that suppress silence: their comfort noise (RFC 3389).

A comfort noise packet begins a pause at the block of its timestamp. The pause lasts for as long as block follows block
without sound; a later packet changes the noise within it. Only rows whose next block is empty are looked at.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from agentstream.audio.comfort import ComfortNoise

NEVER = np.iinfo(np.int64).max // 2

SLACK = 1
"""Blocks that playout may leave out within a pause; a packet of sound is longer."""

Blocks = npt.NDArray[np.int64]
Rows = npt.NDArray[np.intp]
Samples = npt.NDArray[np.int16]


class Pauses:
    """The pauses of all rows of one ring bank.

    :param rows: how many rows there can be.
    :param block: samples of a block.
    """

    def __init__(self, rows: int, block: int) -> None:
        self._noise = ComfortNoise(rows, block)
        self._begin = np.full(rows, NEVER, np.int64)
        self._next = np.full(rows, NEVER, np.int64)

    def begin(self, row: int, block: int, payload: bytes) -> None:
        """From this block on nothing but this noise comes, until there is sound again."""
        self._begin[row] = block
        self._noise.shape(row, payload)

    def fill(self, rows: Rows, play_block: Blocks, blocks: Samples) -> None:
        """Put noise into the blocks of those of these rows that are in a pause.

        :param play_block: int64 (all rows,): the number of the block that each plays.
        :param blocks: int16 (all rows, samples).
        """
        at = play_block[rows]
        in_pause = _is_at(at, self._begin[rows]) | _is_at(at, self._next[rows])
        rows, at = rows[in_pause], at[in_pause]
        if len(rows):
            blocks[rows] = self._noise.take(rows)
            self._next[rows] = at + 1

    def close(self, row: int) -> None:
        """Another source, or another call."""
        self._begin[row] = self._next[row] = NEVER
        self._noise.reset(row)


def _is_at(at: Blocks, due: Blocks) -> npt.NDArray[np.bool_]:
    return (at >= due) & (at - due <= SLACK)
