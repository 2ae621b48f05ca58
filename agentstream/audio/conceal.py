"""Concealment of lost audio as in ITU-T G.711 Appendix I: the last pitch periods go on, for many rows at once.

The first lost 10 ms repeat the last pitch period, the next ones two and then three, so that long losses do not buzz;
from 10 ms on it becomes 20 % softer every 10 ms, so it is silent after 60 ms. A quarter of a period is overlapped and
added where a repetition meets the next one, and the first good block is overlapped with the synthetic signal.

One thing differs. The Appendix delays everything by 3.75 ms so that the first repetition can be blended into samples
that were received; here nothing is delayed: the step at the beginning of a loss is spread over the first quarter of a
period instead. Over 20 sentences that costs 0.012 of PESQ at 5 % loss and 0.003 in bursts of 3, and saves every call
3.75 ms at all times.

Contract: a block is 10 ms at any rate that is a multiple of 4 kHz. A tick without losses costs one copy of its block
and allocates nothing; a loss allocates a few blocks for each lost row, and its pitch search. All arithmetic is exact
(Q15 integers, and float64 sums of integers below 2**53), so that a plain implementation gives the same samples.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from agentstream.audio.fade import UNITY

BLOCK_MS = 10
SILENT_AFTER_BLOCKS = 6
HISTORY_BLOCKS = 5
"""50 ms: three of the longest periods and a quarter (48.75 ms) in whole blocks."""

_GAIN_AT_BLOCK = (1.0, 1.0, 0.8, 0.6, 0.4, 0.2, 0.0, 0.0)
_LEAST_ENERGY = 250.0  # G.711 Appendix I: weaker stretches of 80 samples count as this strong in the pitch search

Pcm = npt.NDArray[np.int16]
Rows = npt.NDArray[np.intp]
Gains = npt.NDArray[np.int32]
_Ints = npt.NDArray[np.int64]
_Floats = npt.NDArray[np.float64]

NO_ROWS: Rows = np.zeros(0, np.intp)


def gains_of_run(block_samples: int) -> Gains:
    """Q15 gains of the first, second, ... lost block: int32[SILENT_AFTER_BLOCKS + 1, block_samples]; the last is 0."""
    at = np.array(_GAIN_AT_BLOCK)[:, None]
    along = np.arange(block_samples) / block_samples
    gains: Gains = np.rint(UNITY * (at[:-1] + (at[1:] - at[:-1]) * along)).astype(np.int32)
    return gains


class Concealment:
    """What every row has played, and what it goes on with when a block is missing.

    :param rows: number of rows; never grows.
    :param block_samples: samples of one block (10 ms at the bank's rate), a multiple of 40.

    :ivar run: uint8[rows], blocks lost in a row so far, at most SILENT_AFTER_BLOCKS.
    """

    def __init__(self, rows: int, block_samples: int) -> None:
        self.block = block_samples
        self.run = np.zeros(rows, np.uint8)
        # A ring of blocks with the rows inside each, so that remembering a tick is one copy; ``_at`` is the oldest.
        self._history = np.zeros((HISTORY_BLOCKS, rows, block_samples), np.int16)
        self._at = 0
        self._has_runs = False
        # The pitch: 5 to 15 ms (200 to 66 Hz), its overlap a quarter.
        self._shortest, self._longest = block_samples // 2, block_samples * 3 // 2
        self._step = block_samples // 40
        self._overlap = self._longest // 4
        self._window = 2 * block_samples
        # What goes on in rows that are in a loss: the history at its beginning, its last quarter period before the
        # overlap, the period, how much of the history is repeated, and where in it the next sample is.
        self._length = HISTORY_BLOCKS * block_samples
        self._source = np.zeros((rows, self._length), np.int16)
        self._last_quarter = np.zeros((rows, self._overlap), np.int16)
        self._period = np.full(rows, self._shortest, np.int64)
        self._repeated = np.full(rows, self._shortest, np.int64)
        self._offset = np.zeros(rows, np.int64)
        self._gains = gains_of_run(block_samples)
        self._count = np.arange(block_samples, dtype=np.int64)

    def repair(self, blocks: Pcm, lost: Rows = NO_ROWS) -> None:
        """Make the next block of rows 0, 1, ... whole, in place, and remember it.

        Rows that are not lost keep what they have (zeros where silence is meant), but the first block after a loss
        begins with what the loss ends with.

        :param blocks: int16[n, block_samples], the caller's.
        :param lost: intp[k], each row at most once and below n: rows whose block is overwritten.
        """
        if self._has_runs or len(lost):
            self._repair(blocks, lost)
        np.copyto(self._history[self._at, : len(blocks)], blocks)
        self._at = (self._at + 1) % HISTORY_BLOCKS

    def reset(self, rows: Rows) -> None:
        """Forget what the rows played: a new call."""
        self._history[:, rows] = 0
        self._source[rows] = 0
        self._last_quarter[rows] = 0
        self.run[rows] = 0

    def _repair(self, blocks: Pcm, lost: Rows) -> None:
        ended = self.run[: len(blocks)] > 0
        ended[lost] = False
        self._end(np.flatnonzero(ended), blocks)
        run = self.run[lost]
        for is_part, part in (
            (run == 0, self._begin),
            ((run == 1) | (run == 2), self._go_on_longer),
            ((run > 2) & (run < SILENT_AFTER_BLOCKS), self._go_on),
        ):
            rows = lost[is_part]
            if len(rows):
                blocks[rows] = (part(rows) * self._gains[run[is_part]]) >> 15
        blocks[lost[run >= SILENT_AFTER_BLOCKS]] = 0
        self.run[lost] = np.minimum(run + 1, SILENT_AFTER_BLOCKS)
        self._has_runs = bool(len(lost))

    # The blocks of a loss: each int64[k, block_samples] at full strength

    def _begin(self, rows: Rows) -> _Ints:
        source = self._source_of(rows)
        period = self._find_period(source)
        self._source[rows] = source
        self._last_quarter[rows] = source[:, -self._overlap :]
        self._period[rows] = self._repeated[rows] = period
        self._offset[rows] = 0
        # The first repetition begins a period before the last sample: what is missing to that sample fades out.
        each = np.arange(len(rows))
        step = source[:, -1].astype(np.int64) - source[each, self._length - 1 - period]
        self._overlap_repetitions(rows)
        out = self._go_on(rows)
        quarter = period // 4
        left = UNITY - self._rising(quarter, self._overlap)
        out[:, : self._overlap] += (step[:, None] * left) >> 15
        # Never beyond what was heard last.
        recent = source[:, -self._longest - 1 :]
        return np.clip(out, recent.min(axis=1)[:, None], recent.max(axis=1)[:, None])

    def _go_on_longer(self, rows: Rows) -> _Ints:
        """One more period is repeated; the old repetition fades into the longer one."""
        period = self._period[rows]
        offset = self._offset[rows]
        before = self._read(rows, self._overlap)
        self._offset[rows] = offset % period
        self._repeated[rows] += period
        self._overlap_repetitions(rows)
        out = self._go_on(rows)
        rising = self._rising(period // 4, self._overlap)
        head = out[:, : self._overlap]
        head[...] = (before * (UNITY - rising) + head * rising) >> 15
        return out

    def _go_on(self, rows: Rows) -> _Ints:
        return self._read(rows, self.block)

    def _end(self, rows: Rows, blocks: Pcm) -> None:
        """The first good blocks: overlapped for a quarter period, and 4 ms more for each further lost block."""
        if not len(rows):
            return
        run = self.run[rows].astype(np.int64)
        length = np.minimum(self._period[rows] // 4 + (run - 1) * (self.block * 2 // 5), self.block)
        rising = self._rising(length, self.block)
        tail = (self._read(rows, self.block) * self._gains[run, :1]) >> 15
        blocks[rows] = (tail * (UNITY - rising) + blocks[rows] * rising) >> 15
        self.run[rows] = 0

    # What they are made of

    def _source_of(self, rows: Rows) -> Pcm:
        """The last 50 ms that the rows played, oldest first: int16[k, 5 * block_samples]."""
        source = np.empty((len(rows), HISTORY_BLOCKS, self.block), np.int16)
        for number in range(HISTORY_BLOCKS):
            source[:, number] = self._history[(self._at + number) % HISTORY_BLOCKS, rows]
        return source.reshape(len(rows), self._length)

    def _find_period(self, source: Pcm) -> _Ints:
        """The lag at which the last 20 ms resemble what was before them most, the shortest of equals: int64[k].

        Coarsely on every second sample (at 8 kHz), then on all samples around the best lag.
        """
        begin = self._length - self._window
        signal = source.astype(np.float64)
        thin = np.ascontiguousarray(signal[:, begin - self._longest :: self._step])  # einsum is twice as fast on it
        taps = self._window // self._step
        lags = (self._longest - self._shortest) // self._step + 1
        windows = np.lib.stride_tricks.sliding_window_view(thin, taps, axis=1)[:, :lags]
        scores = _likeness(windows, thin[:, -taps:])
        best = self._shortest + self._step * np.argmax(scores[:, ::-1], axis=1)
        around = np.arange(1 - self._step, self._step)
        near = np.clip(best[:, None] + around, self._shortest, self._longest)
        windows = np.lib.stride_tricks.sliding_window_view(signal, self._window, axis=1)
        each = np.arange(len(source))
        scores = _likeness(windows[each[:, None], begin - near], signal[:, begin:])
        return np.asarray(near[each, np.argmax(scores, axis=1)], np.int64)

    def _overlap_repetitions(self, rows: Rows) -> None:
        """Let the end of what is repeated run into its beginning, over a quarter of a period."""
        period, repeated = self._period[rows], self._repeated[rows]
        quarter = period // 4
        # Right-aligned, because each row's quarter ends where the source does.
        back = self._overlap - self._count[: self._overlap]
        is_in = back <= quarter[:, None]
        before_start = np.take_along_axis(self._source[rows], self._length - repeated[:, None] - back, axis=1)
        place = quarter[:, None] - back + 1
        rising = np.where(is_in, place * UNITY // quarter[:, None], 0)
        last = self._last_quarter[rows].astype(np.int64)
        self._source[rows, self._length - self._overlap :] = (last * (UNITY - rising) + before_start * rising) >> 15

    def _read(self, rows: Rows, samples: int) -> _Ints:
        """The next samples of the repetition: int64[k, samples]; the place moves on."""
        repeated = self._repeated[rows]
        at = (self._offset[rows][:, None] + self._count[:samples]) % repeated[:, None]
        self._offset[rows] = (self._offset[rows] + samples) % repeated
        at += (rows * self._length + self._length - repeated)[:, None]
        return np.asarray(self._source.reshape(-1)[at], np.int64)

    def _rising(self, lengths: _Ints, samples: int) -> _Ints:
        """Q15 ramps that reach 1 at sample ``lengths[i] - 1`` and stay there: int64[k, samples]."""
        return np.asarray(np.minimum((self._count[:samples] + 1) * UNITY // lengths[:, None], UNITY), np.int64)


def _likeness(windows: _Floats, pattern: _Floats) -> _Floats:
    """Cross-correlation over the square root of the window's energy: float64[k, windows]."""
    products = np.einsum("ijn,in->ij", windows, pattern)
    energy = np.einsum("ijn,ijn->ij", windows, windows)
    return np.asarray(products / np.sqrt(np.maximum(energy, _LEAST_ENERGY)), np.float64)
