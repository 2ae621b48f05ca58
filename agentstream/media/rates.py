"""Streams at 16 and 24 kHz on legs of 8 kHz: their queues, their listeners, and the conversion between.

One :class:`StreamRate` a rate. A row takes part only while a stream of that rate speaks or listens on it; marks and
timestamps count in the stream's own samples.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from agentstream.audio.resample import Resampler
from agentstream.media.ears import ChunkFn, Ears
from agentstream.media.playback import Playback, PlaybackBank, PlaybackBudget

STREAM_RATES_HZ = (8000, 16000, 24000)

Samples = npt.NDArray[np.int16]


class StreamRate:
    """All streams of one rate.

    :param rows: how many rows there can be.
    :param rate_hz: the streams' rate, a multiple of ``leg_hz``.
    """

    def __init__(self, rows: int, rate_hz: int, leg_hz: int) -> None:
        self.bank = PlaybackBank(rows, rate_hz, leaves_late=True)
        self.ears = Ears(4 * rows, rate_hz)
        self._up = Resampler(rows, leg_hz, rate_hz)
        self._down = Resampler(rows, rate_hz, leg_hz)
        self._spoken = np.zeros((rows, self._down.frame_in), np.int16)
        self._heard = np.zeros((rows, self._up.frame_out), np.int16)
        self._speaking = np.zeros(0, np.intp)
        self._hearing = np.zeros(0, np.intp)
        self._listeners: Counter[int] = Counter()

    def open(self, row: int, budget: PlaybackBudget, limit_ms: int) -> Playback:
        """A queue for a row."""
        self._down.reset(np.array([row]))
        self._speaking = np.union1d(self._speaking, [row]).astype(np.intp)
        return self.bank.open(row, budget, limit_ms)

    def close(self, row: int) -> None:
        """The row's leg is over; its queue and listeners are gone already."""
        self._speaking = self._speaking[self._speaking != row]
        self.bank.underruns[row] = 0

    def listen(self, row: int, chunk_ms: int, fn: ChunkFn) -> Callable[[], None]:
        """Add a listener; returns what removes it."""
        ear = self.ears.add(row, chunk_ms, fn)
        if not self._listeners[row]:
            self._up.reset(np.array([row]))
        self._listeners[row] += 1
        self._list_hearing()
        is_listening = True

        def stop() -> None:
            nonlocal is_listening
            if is_listening:
                is_listening = False
                self.ears.remove(ear)
                self._listeners[row] -= 1
                self._list_hearing()

        return stop

    def _list_hearing(self) -> None:
        self._hearing = np.array(sorted(row for row, count in self._listeners.items() if count), np.intp)

    def speak(self, high: int, outgoing: Samples) -> None:
        """Add the next 20 ms of what the bots say to ``outgoing``, int16 (high, leg samples)."""
        rows = self._speaking
        if len(rows):
            spoken = self._spoken[:high]
            self.bank.take(high, spoken)
            outgoing[rows] += self._down.convert(rows, spoken[rows])

    def hear(self, heard: Samples) -> None:
        """Convert 20 ms of the rows that somebody listens to, int16 (high, leg samples), and hand out whole chunks."""
        rows = self._hearing
        if len(rows):
            self._heard[rows] = self._up.convert(rows, heard[rows])
            self.ears.hear(self._heard)
