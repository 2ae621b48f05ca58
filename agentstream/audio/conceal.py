"""Concealment of lost audio: the last good block again and again, softer each time, for many rows at once.

The gains are those of ITU-T G.711 Appendix I: full for the first 10 ms, then 20 % less for each further 10 ms, so
silent after 60 ms. The gain runs along a line inside each block, so it never steps. Contract: nothing allocates but
numpy's index arithmetic; a row appears at most once in one call; a row that was reset repeats silence.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from agentstream.audio.fade import UNITY, Gains

BLOCK_MS = 10
SILENT_AFTER_BLOCKS = 6
_GAIN_AT_BLOCK = (1.0, 1.0, 0.8, 0.6, 0.4, 0.2, 0.0, 0.0)

Pcm = npt.NDArray[np.int16]
Rows = npt.NDArray[np.intp]


def gains_of_run(block_samples: int) -> Gains:
    """Q15 gains of the first, second, ... lost block: int32[SILENT_AFTER_BLOCKS + 1, block_samples]; the last is 0."""
    at = np.array(_GAIN_AT_BLOCK)[:, None]
    along = np.arange(1, block_samples + 1) / block_samples
    gains: Gains = np.rint(UNITY * (at[:-1] + (at[1:] - at[:-1]) * along)).astype(np.int32)
    return gains


class Concealment:
    """What every row repeats when a block is missing.

    :param rows: number of rows; never grows.
    :param block_samples: samples of one block (10 ms at the bank's rate).

    :ivar last: int16[rows, block_samples], the last good block of each row.
    :ivar run: uint8[rows], blocks lost in a row so far, at most SILENT_AFTER_BLOCKS.
    """

    def __init__(self, rows: int, block_samples: int) -> None:
        self.last = np.zeros((rows, block_samples), np.int16)
        self.run = np.zeros(rows, np.uint8)
        self._gains = gains_of_run(block_samples)
        self._block = np.empty((rows, block_samples), np.int16)
        self._gain = np.empty((rows, block_samples), np.int32)
        self._run = np.empty(rows, np.uint8)

    def good(self, rows: Rows, blocks: Pcm) -> None:
        """Remember ``blocks[i]`` (int16[k, block_samples]) as what row ``rows[i]`` played last; ends its run."""
        self.last[rows] = blocks
        self.run[rows] = 0

    def conceal(self, rows: Rows, out: Pcm) -> Pcm:
        """Write the concealment of row ``rows[i]`` to ``out[i]`` and return it; each run grows by one block.

        :param rows: intp[k]. :param out: int16[k, block_samples], the caller's, of any strides.
        """
        k = len(rows)
        run, gain, block = self._run[:k], self._gain[:k], self._block[:k]
        np.take(self.run, rows, out=run, mode="clip")
        np.take(self._gains, run, axis=0, out=gain, mode="clip")
        np.take(self.last, rows, axis=0, out=block, mode="clip")
        np.multiply(block, gain, out=gain)
        np.right_shift(gain, 15, out=gain)
        np.copyto(out, gain, casting="same_kind")
        np.add(run, 1, out=run)
        np.minimum(run, SILENT_AFTER_BLOCKS, out=run)
        self.run[rows] = run
        return out

    def reset(self, rows: Rows) -> None:
        """Forget what the rows played: a new call, or silence that was meant (DTX, hold)."""
        self.last[rows] = 0
        self.run[rows] = 0
