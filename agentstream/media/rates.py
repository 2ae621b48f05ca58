"""Bots that speak at 16 or 24 kHz on legs of 8 kHz: their queues, and the conversion on the way out.

One :class:`StreamRate` a rate. A row takes part only while it has a queue of that rate; marks count in its samples.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from agentstream.audio.resample import Resampler
from agentstream.media.playback import Playback, PlaybackBudget
from agentstream.media.playback_bank import PlaybackBank

STREAM_RATES_HZ = (8000, 16000, 24000)

Samples = npt.NDArray[np.int16]
Rows = npt.NDArray[np.intp]


def add_clipped(to: Samples, rows: Rows, more: Samples) -> None:
    """Add int16 (k, n) to these rows of ``to``, without wrapping."""
    there = to[rows]
    if there.any():
        to[rows] = np.clip(there.astype(np.int32) + more, -32768, 32767)
    else:
        to[rows] = more


class StreamRate:
    """What all bots of one rate say.

    :param rows: how many rows there can be.
    :param rate_hz: the bots' rate, a multiple of ``leg_hz``.
    """

    def __init__(self, rows: int, rate_hz: int, leg_hz: int) -> None:
        self.bank = PlaybackBank(rows, rate_hz, leaves_late=True)
        self._lower = Resampler(rows, rate_hz, leg_hz)
        self._spoken = np.zeros((rows, self._lower.frame_in), np.int16)
        self._speaking = np.zeros(0, np.intp)

    def open(self, row: int, budget: PlaybackBudget, limit_ms: int) -> Playback:
        """A queue for a row."""
        self._lower.reset(np.array([row]))
        self._speaking = np.union1d(self._speaking, [row]).astype(np.intp)
        return self.bank.open(row, budget, limit_ms)

    def close(self, row: int) -> None:
        """The row's leg is over, and its queue is closed already."""
        self._speaking = self._speaking[self._speaking != row]
        self.bank.underruns[row] = 0

    def speak(self, high: int, outgoing: Samples) -> Samples | None:
        """Add the next 20 ms of what the bots say to ``outgoing``, int16 (high, leg samples).

        :return: the same at the bots' rate, int16 (high, samples), good until the next call; None where no bot is.
        """
        rows = self._speaking
        if not len(rows):
            return None
        spoken = self._spoken[:high]
        self.bank.take(high, spoken)
        add_clipped(outgoing, rows, self._lower.convert(rows, spoken[rows]))
        return spoken
