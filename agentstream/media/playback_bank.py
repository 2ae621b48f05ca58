"""The windows of what is played: about a second of each row's queue, in matrices.

A window is a ring of 20 ms frames a row, so that the tick gathers one frame of every row at once. The queues
themselves are :class:`agentstream.media.playback.Playback`.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from agentstream.audio.fade import FADE_MS, TailFade
from agentstream.media.playback import NO_MARK, WINDOW_FRAMES, Playback, PlaybackBudget

THRESHOLD_STEP_MS = 20
THRESHOLD_MOST_MS = 60
UTTERANCE_GAP_TICKS = 10
"""An underrun that more audio follows within 200 ms was inside an utterance."""

QUIET_TICKS = 3000
"""A minute without an underrun lowers the start threshold again."""

_NO_ROWS = np.zeros(0, np.intp)


class PlaybackBank:
    """The windows of all rows of one media rate.

    :param rows: how many rows there can be.
    :param rate_hz: samples a second.
    :param leaves_late: what is taken passes a filter, so that its end leaves with the next packet.
    """

    def __init__(self, rows: int, rate_hz: int = 8000, *, leaves_late: bool = False) -> None:
        self.rate_hz = rate_hz
        self._leaves_late = leaves_late
        self.frame = rate_hz // 50
        self.capacity = WINDOW_FRAMES * self.frame
        # One more frame than the windows need: the one of silence that idle rows read.
        self._frames = np.zeros((rows * WINDOW_FRAMES + 1, self.frame), np.int16)
        self._silence = rows * WINDOW_FRAMES
        self.samples = self._frames[:-1].reshape(rows, self.capacity)
        self.windows = [window.data.cast("B") for window in self.samples]
        self._base = np.arange(rows, dtype=np.int64) * WINDOW_FRAMES
        self.read = np.zeros(rows, np.int64)
        self.fill = np.zeros(rows, np.int64)
        self.consumed = np.zeros(rows, np.int64)
        self.left = np.zeros(rows, np.int64) if leaves_late else self.consumed
        self.next_mark = np.full(rows, NO_MARK, np.int64)
        self.playing = np.zeros(rows, np.bool_)
        self.waited = np.zeros(rows, np.int64)
        self.threshold = np.zeros(rows, np.int64)
        self.held = np.zeros(rows, np.bool_)
        self.has_more = np.zeros(rows, np.bool_)
        self.cleared = np.zeros(rows, np.bool_)
        self.dry_ticks = np.zeros(rows, np.int64)
        self.underruns = np.zeros(rows, np.int64)
        self.withheld = np.zeros(rows, np.int64)
        self.is_sent = np.ones(rows, np.bool_)
        self.queues: list[Playback | None] = [None] * rows
        self.fade = TailFade(self.frame, FADE_MS * rate_hz // 1000)
        self._active = np.zeros(rows, np.bool_)
        self._flag = np.zeros(rows, np.bool_)
        self._index = np.zeros(rows, np.int64)
        self._taken = np.zeros(rows, np.int64)

    def open(self, row: int, budget: PlaybackBudget, limit_ms: int) -> Playback:
        """A new, empty queue; no sample of who had the row before stays in its window."""
        self.samples[row] = 0
        for array in (
            self.read,
            self.fill,
            self.consumed,
            self.left,
            self.waited,
            self.threshold,
            self.dry_ticks,
            self.underruns,
            self.withheld,
        ):
            array[row] = 0
        self.next_mark[row] = NO_MARK
        self.playing[row] = self.held[row] = self.has_more[row] = self.cleared[row] = False
        queue = Playback(self, row, budget, limit_ms)
        self.queues[row] = queue
        return queue

    def close(self, row: int) -> None:
        self.fill[row] = 0
        self.next_mark[row] = NO_MARK
        self.playing[row] = self.has_more[row] = False
        self.queues[row] = None
        self._taken[row] = 0

    def take(self, high: int, out: npt.NDArray[np.int16]) -> None:
        """Move the next 20 ms of rows 0 to high - 1 into ``out``, int16 (high, frame); silence where nothing is due."""
        fill, playing, waited = self.fill[:high], self.playing[:high], self.waited[:high]
        active, flag, index, taken = self._active[:high], self._flag[:high], self._index[:high], self._taken[:high]
        # A row plays on while it has samples; it begins with its threshold's worth, or when that long has passed.
        np.greater(fill, 0, out=active)
        np.greater(active, self.held[:high], out=active)
        np.greater(active, playing, out=flag)
        if flag.any():
            self._begin(np.flatnonzero(flag), active)
        np.multiply(waited, flag, out=waited)
        # Rows that had audio in the last tick and have none now have run dry, or are made to wait.
        np.greater(playing, active, out=flag)
        pausing = _NO_ROWS
        if flag.any():
            self._run_dry(np.flatnonzero(flag & ~self.held[:high]))
            pausing = np.flatnonzero(flag & self.held[:high])
        np.add(self.dry_ticks[:high], 1, out=self.dry_ticks[:high])
        np.copyto(playing, active)
        np.add(self._base[:high], self.read[:high], out=index)
        np.copyto(index, self._silence, where=~active)
        np.take(self._frames, index, axis=0, out=out, mode="clip")
        np.minimum(fill, self.frame, out=taken)
        np.multiply(taken, active, out=taken)
        np.less(fill, self.frame, out=flag)
        np.logical_and(flag, active, out=flag)
        if flag.any():
            # The window ran out inside a frame: fade what there is; no sample of an older lap is behind it.
            rows = np.flatnonzero(flag)
            self.fade.end(out, rows, fill[rows])
        if len(pausing):
            self._fade_into_pause(pausing, out)
        np.subtract(fill, taken, out=fill)
        np.add(self.consumed[:high], taken, out=self.consumed[:high])
        np.add(self.read[:high], active, out=self.read[:high])
        np.remainder(self.read[:high], WINDOW_FRAMES, out=self.read[:high])

    def _fade_into_pause(self, rows: npt.NDArray[np.intp], out: npt.NDArray[np.int16]) -> None:
        """A fade over what comes next, which stays where it is and is heard whole when the pause is over."""
        for row in rows.tolist():
            heard = min(int(self.fill[row]), self.frame)
            out[row] = self._frames[self._base[row] + self.read[row]]
            out[row, heard:] = 0
        self.fade.clear(out, rows)

    def _begin(self, rows: npt.NDArray[np.int64], active: npt.NDArray[np.bool_]) -> None:
        self.waited[rows] += 1
        begins = (self.fill[rows] >= self.threshold[rows]) | (self.waited[rows] * self.frame > self.threshold[rows])
        active[rows[~begins]] = False
        for row in rows[begins].tolist():
            if self.dry_ticks[row] <= UTTERANCE_GAP_TICKS and self.consumed[row]:
                self.underruns[row] += 1
                step, most = (ms * self.rate_hz // 1000 for ms in (THRESHOLD_STEP_MS, THRESHOLD_MOST_MS))
                self.threshold[row] = min(self.threshold[row] + step, most)
            elif self.dry_ticks[row] > QUIET_TICKS and self.threshold[row]:
                self.threshold[row] -= THRESHOLD_STEP_MS * self.rate_hz // 1000

    def _run_dry(self, rows: npt.NDArray[np.int64]) -> None:
        # After a clear, what comes next is a new utterance however soon it comes.
        self.dry_ticks[rows] = np.where(self.cleared[rows], UTTERANCE_GAP_TICKS + 1, 0)
        self.cleared[rows] = False

    def withhold(self, high: int, is_sent: npt.NDArray[np.bool_]) -> None:
        """Count what was taken and has reached nobody.

        :param is_sent: bool[high], the rows that may send.
        """
        flag = self._flag[:high]
        np.copyto(self.is_sent[:high], is_sent)
        np.logical_not(is_sent, out=flag)
        if flag.any():
            np.multiply(self._taken[:high], flag, out=self._index[:high])
            np.add(self.withheld[:high], self._index[:high], out=self.withheld[:high])

    def settle(self, high: int) -> None:
        """After the packets have left: tell the marks that are due, and fill windows that have room."""
        flag = self._flag[:high]
        np.greater_equal(self.left[:high], self.next_mark[:high], out=flag)
        if flag.any():
            for row in np.flatnonzero(flag).tolist():
                queue = self.queues[row]
                if queue is not None:
                    queue.tell_marks()
        np.less(self.fill[:high], self.capacity // 2, out=flag)
        np.logical_and(flag, self.has_more[:high], out=flag)
        if flag.any():
            for row in np.flatnonzero(flag).tolist():
                queue = self.queues[row]
                if queue is not None:
                    queue.fill_window()
        if self._leaves_late:
            np.copyto(self.left[:high], self.consumed[:high])
