"""One direction of what legs carry, and who listens to it: at the legs' own rate or at a stream's 16 or 24 kHz.

``inbound`` is what the far end says, ``outbound`` what it is sent.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import attrs
import numpy as np
import numpy.typing as npt

from agentstream.audio.resample import Resampler
from agentstream.media.ears import NO_ROWS, ChunkFn, Ears, Rows

INBOUND, OUTBOUND = "inbound", "outbound"

Samples = npt.NDArray[np.int16]


@attrs.frozen(eq=False)
class WideFrames:
    """What some rows have at a higher rate already.

    :ivar frames: int16 (rows, samples), 20 ms of all rows. :ivar rows: for which of them that is so.
    """

    rate_hz: int
    frames: Samples
    rows: npt.NDArray[np.intp]


@attrs.define
class _Raised:
    """The listeners at one higher rate: only rows that somebody listens to are converted."""

    convert: Resampler
    ears: Ears
    frames: Samples
    listeners: Counter[int] = attrs.Factory(Counter)
    rows: npt.NDArray[np.intp] = attrs.Factory(lambda: np.zeros(0, np.intp))

    def count(self, row: int, by: int) -> None:
        if not self.listeners[row]:
            self.convert.reset(np.array([row]))
        self.listeners[row] += by
        self.rows = np.array(sorted(row for row, count in self.listeners.items() if count), np.intp)

    def hear(self, frames: Samples, wide: WideFrames | None) -> Rows:
        rows = self.rows
        if not len(rows):
            return NO_ROWS
        self.frames[rows] = self.convert.convert(rows, frames[rows])
        if wide is not None:
            self.frames[wide.rows] = wide.frames[wide.rows]
        return self.ears.hear(self.frames)


class Track:
    """One direction of all rows.

    :param rows: how many rows there can be.
    :param leg_hz: the rate of the frames that it is given.
    """

    def __init__(self, rows: int, leg_hz: int) -> None:
        self._rows = rows
        self._leg_hz = leg_hz
        self._ears = Ears(4 * rows, leg_hz)
        self._raised: dict[int, _Raised] = {}

    def listen(self, row: int, chunk_ms: int, fn: ChunkFn, rate_hz: int) -> Callable[[], None]:
        """Add a listener; returns what removes it, harmless when repeated."""
        if rate_hz == self._leg_hz:
            ear = self._ears.add(row, chunk_ms, fn)
            return lambda: self._ears.remove(ear)
        raised = self._raise(rate_hz)
        ear = raised.ears.add(row, chunk_ms, fn)
        raised.count(row, 1)
        is_listening = True

        def stop() -> None:
            nonlocal is_listening
            if is_listening:
                is_listening = False
                raised.ears.remove(ear)
                raised.count(row, -1)

        return stop

    def _raise(self, rate_hz: int) -> _Raised:
        if rate_hz not in self._raised:
            convert = Resampler(self._rows, self._leg_hz, rate_hz)
            frames = np.zeros((self._rows, convert.frame_out), np.int16)
            self._raised[rate_hz] = _Raised(convert, Ears(4 * self._rows, rate_hz), frames)
        return self._raised[rate_hz]

    def hear(self, frames: Samples, wide: WideFrames | None = None) -> Rows:
        """Take 20 ms of every row, int16 (rows, leg samples), and hand out the chunks that they complete.

        :return: int64 (k,), the rows of those chunks.
        """
        told = self._ears.hear(frames)
        for rate_hz, raised in self._raised.items():
            more = raised.hear(frames, wide if wide is not None and wide.rate_hz == rate_hz else None)
            if len(more):
                told = np.concatenate((told, more))
        return told
