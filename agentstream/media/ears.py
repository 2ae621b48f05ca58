"""Who listens to a leg: frames become chunks of 20 to 200 ms, and each whole chunk is handed to its listener.

Many listeners start within a moment of each other, and their chunks would all fall into one tick. So each one begins
in that one of the next ticks in which the fewest others are due. Nothing is dropped or padded for it: a listener's time
begins with its first frame.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import attrs
import numpy as np
import numpy.typing as npt
from twisted.logger import Logger

FRAME_MS = 20
MOST_FRAMES = 10
"""Frames in the longest chunk: 200 ms."""

Samples = npt.NDArray[np.int16]
Rows = npt.NDArray[np.int64]
NO_ROWS: Rows = np.zeros(0, np.int64)
ChunkFn = Callable[[Samples, int], None]
"""Called with a chunk, int16 (samples,), valid only during the call, and the milliseconds at its first sample."""


@attrs.define(eq=False)
class Ear:
    """One listener on one row."""

    row: int
    frames: int
    fn: ChunkFn
    place: int
    chunk: Samples
    begins: int
    heard_chunks: int = 0
    is_active: bool = False


class Ears:
    """All listeners of one media rate.

    :param capacity: how many there can be.
    :param rate_hz: samples a second.
    """

    log = Logger()

    def __init__(self, capacity: int, rate_hz: int = 8000) -> None:
        frame = rate_hz * FRAME_MS // 1000
        self._chunks = np.zeros((capacity * MOST_FRAMES, frame), np.int16)
        self._frame = frame
        self._free = list(range(capacity - 1, -1, -1))
        self._ears: list[Ear] = []
        self._pending: list[Ear] = []
        self._load: Counter[tuple[int, int]] = Counter()
        self._tick = 0
        # One entry an active ear, in the order of self._ears.
        self._rows = np.zeros(0, np.int64)
        self._first = np.zeros(0, np.int64)
        self._position = np.zeros(0, np.int64)
        self._frames = np.zeros(0, np.int64)
        self._staging = np.zeros((0, frame), np.int16)

    def add(self, row: int, chunk_ms: int, fn: ChunkFn) -> Ear:
        """Listen to a row.

        :param chunk_ms: 20 to 200, a multiple of 20.
        """
        frames = chunk_ms // FRAME_MS
        if chunk_ms % FRAME_MS or not 1 <= frames <= MOST_FRAMES:
            raise ValueError("a chunk is 20 to 200 ms, a multiple of 20")
        place = self._free.pop()
        chunk = self._chunks[place * MOST_FRAMES : place * MOST_FRAMES + frames].reshape(-1)
        delay = min(range(frames), key=lambda ticks: self._load[frames, (self._tick + ticks) % frames])
        ear = Ear(row, frames, fn, place, chunk, self._tick + delay)
        self._load[frames, ear.begins % frames] += 1
        self._pending.append(ear)
        return ear

    def remove(self, ear: Ear) -> None:
        """Listen no more; what is not yet a whole chunk is dropped. Harmless when repeated."""
        if ear in self._pending:
            self._pending.remove(ear)
        elif ear.is_active:
            at = self._ears.index(ear)
            del self._ears[at]
            ear.is_active = False
            self._rebuild(np.delete(self._position, at))
        else:
            return
        self._load[ear.frames, ear.begins % ear.frames] -= 1
        self._free.append(ear.place)

    def _rebuild(self, position: npt.NDArray[np.int64]) -> None:
        self._rows = np.array([ear.row for ear in self._ears], np.int64)
        self._first = np.array([ear.place * MOST_FRAMES for ear in self._ears], np.int64)
        self._frames = np.array([ear.frames for ear in self._ears], np.int64)
        self._position = position
        self._staging = np.zeros((len(self._ears), self._frame), np.int16)

    def hear(self, heard: Samples) -> Rows:
        """Take one frame of every row, int16 (rows, frame), and hand out the chunks that it completes.

        :return: int64 (k,), the rows of those chunks.
        """
        if self._pending:
            self._begin_pending()
        self._tick += 1
        if not self._ears:
            return NO_ROWS
        np.take(heard, self._rows, axis=0, out=self._staging, mode="clip")
        self._chunks[self._first + self._position] = self._staging
        np.add(self._position, 1, out=self._position)
        is_due = self._position == self._frames
        if not is_due.any():
            return NO_ROWS
        self._position[is_due] = 0
        rows: Rows = self._rows[is_due]
        ears = self._ears
        # Listeners may come and go while they are told, so the due ones are fixed first.
        for ear in [ears[at] for at in np.flatnonzero(is_due).tolist()]:
            if ear.is_active:
                timestamp = ear.heard_chunks * ear.frames * FRAME_MS
                ear.heard_chunks += 1
                try:
                    ear.fn(ear.chunk, timestamp)
                except Exception:
                    # One listener's mistake is its own: the tick and every other call go on.
                    self.log.failure("a listener failed and hears no more")
                    self.remove(ear)
        return rows

    def _begin_pending(self) -> None:
        begin = [ear for ear in self._pending if ear.begins <= self._tick]
        if begin:
            self._pending = [ear for ear in self._pending if ear.begins > self._tick]
            self._ears.extend(begin)
            for ear in begin:
                ear.is_active = True
            self._rebuild(np.concatenate((self._position, np.zeros(len(begin), np.int64))))
