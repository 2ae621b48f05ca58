"""The jitter buffer of every leg of one media rate: what arrivals.py has placed is played, 20 ms of all rows at a time.

Playout advances by tick slots whatever arrives. A missing *sequence number* is loss and is concealed; a timestamp step
without one (DTX, a telephone-event, resume) is silence.

The delay follows the arrivals (delay.py): while a row grows it, its playout stands still, concealed; surplus is left
out block by block where that is not heard (seams.py).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from agentstream.audio import timescale
from agentstream.audio.conceal import NO_ROWS, Concealment
from agentstream.media.arrivals import (
    BLOCKS,
    BLOCKS_A_SLOT,
    EMPTY,
    LEAST_MS,
    MOST_MS,
    SILENCE,
    VOICE,
    Arrivals,
    IntArray,
    Samples,
)
from agentstream.media.seams import Seams

REVIEW_TICKS = 10
"""The surplus is worked out five times a second."""

LONGEST_WAIT_S = (BLOCKS - 2 * BLOCKS_A_SLOT) * 0.01
"""Less than the time that a block's place in the ring takes to come round."""

_AHEAD = np.arange(timescale.BLOCKS)


class Rings(Arrivals):
    """The rings of all rows of one rate."""

    def __init__(
        self,
        rows: int,
        rate_hz: int = 8000,
        clock_hz: int = 8000,
        least_ms: int = LEAST_MS,
        most_ms: int = MOST_MS,
    ) -> None:
        super().__init__(rows, rate_hz, clock_hz, least_ms, most_ms)
        self._plays = 0
        self._concealment = Concealment(rows, self.block)
        self._seams = Seams(rows, self.block)
        # Scratch for playout, so that a steady tick allocates nothing that grows with the rows.
        self._slot = np.zeros(rows, np.int64)
        self._state = np.zeros(rows, np.uint8)
        self._is_empty = np.zeros(rows, np.bool_)
        self._half = np.zeros((rows, self.block), np.int16)

    def open(self, row: int, playout_ms: int) -> None:
        """Make a row new: no byte of who had it before may be heard again."""
        super().open(row, playout_ms)
        self._concealment.reset(np.array([row]))
        self._seams.forget(row)

    def _anchor(self, row: int, ssrc: int, timestamp: int) -> None:
        super()._anchor(row, ssrc, timestamp)
        self._seams.forget(row)

    def play(self, high: int, out: Samples) -> None:
        """Take the next 20 ms of rows 0 to high - 1 into ``out``, int16 (high, 2 * block), and advance playout."""
        slot, state, is_empty = self._slot[:high], self._state[:high], self._is_empty[:high]
        half, played = self._half[:high], self._play_block[:high]
        self._plays += 1
        if self._plays % REVIEW_TICKS == 0:
            self.delay.review(high)
        if self.delay.has_surplus:
            self._leave_out(high)
        for part in range(BLOCKS_A_SLOT):
            np.bitwise_and(played, BLOCKS - 1, out=slot)
            np.add(slot, self._base[:high], out=slot)
            np.take(self._status, slot, out=state, mode="clip")
            np.take(self._voice, slot, axis=0, out=half, mode="clip")
            np.not_equal(state, VOICE, out=is_empty)
            lost = self._find_lost(is_empty, state, half) if is_empty.any() else NO_ROWS
            standing = self._stand(high) if self._standing else NO_ROWS
            if len(standing):
                lost = np.union1d(lost, standing).astype(np.intp)
            self._concealment.repair(half, lost)
            if len(standing):
                kept = self._status[slot[standing]]
                self._status[slot] = EMPTY
                self._status[slot[standing]] = kept
                played[standing] -= 1
            else:
                self._status[slot] = EMPTY
            out[:, part * self.block : (part + 1) * self.block] = half
            np.add(played, 1, out=played)

    def _stand(self, high: int) -> IntArray:
        """The rows whose playout stands still for this block."""
        rows = [row for row in self._standing if row < high]
        for row in rows:
            self.stretched[row] += 1
            self._standing[row] -= 1
            if not self._standing[row]:
                del self._standing[row]
        return np.array(rows, np.int64)

    def _leave_out(self, high: int) -> None:
        """Rows with surplus leave out a block where nobody hears it."""
        rows = np.flatnonzero(self.delay.surplus[:high] > 0)
        if not len(rows):
            return
        slots = self._base[rows, None] + ((self._play_block[rows, None] + _AHEAD) & (BLOCKS - 1))
        state = self._status[slots]
        is_silent = state[:, 0] == SILENCE
        self._step_over(rows[is_silent], slots[is_silent])
        is_voice = (state == VOICE).all(axis=1)
        if is_voice.any():
            self._join(rows[is_voice], slots[is_voice])

    def _join(self, rows: IntArray, slots: IntArray) -> None:
        """The rows whose next blocks, int64 (n, 3), can be joined without the one of them play one less."""
        sound = self._voice[slots].reshape(len(rows), -1)
        is_unheard, places = self._seams.find(rows, sound)
        if is_unheard.any():
            rows, slots = rows[is_unheard], slots[is_unheard]
            left = timescale.leave_out(sound[is_unheard], places[is_unheard])
            self._voice[slots[:, 1:]] = left.reshape(len(rows), -1, self.block)
            self._step_over(rows, slots)

    def _step_over(self, rows: IntArray, slots: IntArray) -> None:
        """The first of these blocks is not played."""
        if len(rows):
            self._status[slots[:, 0]] = EMPTY
            self._play_block[rows] += 1
            self.left_out[rows] += 1
            self.delay.shortened(rows)

    def _find_lost(self, is_empty: npt.NDArray[np.bool_], state: npt.NDArray[np.uint8], half: Samples) -> IntArray:
        """Of the rows without voice in this block, those that lost it; the others are made silent."""
        gaps = np.flatnonzero(is_empty)
        is_unknown = (state[gaps] == EMPTY) & self._anchored[gaps]
        is_behind = self._end_block[gaps] > self._play_block[gaps]
        is_lost = is_unknown & is_behind
        lost: IntArray = gaps[is_lost]
        self.starved[gaps] += is_unknown & ~is_behind
        self.concealed[lost] += 1
        silent = gaps[~is_lost]
        half[silent] = 0
        if self._pauses is not None:
            self._pauses.fill(silent, self._play_block, half)
        return lost

    def waited_s(self, rows: IntArray, now: float) -> npt.NDArray[np.float64]:
        """How long ago the packets came whose blocks these rows played last: float64 (n,), inf where none did."""
        ago = now - self._came_s[self._base[rows] + ((self._play_block[rows] - 1) & (BLOCKS - 1))]
        ago[ago >= LONGEST_WAIT_S] = np.inf
        return ago

    def delay_ms(self, row: int) -> int:
        """The delay by which the row's sound is held back now."""
        return int(self.delay.blocks[row]) * 10

    def depth_ms(self, row: int) -> int:
        """Milliseconds between the newest block and playout; negative when playout has run past it."""
        return int(self._end_block[row] - self._play_block[row]) * 10
