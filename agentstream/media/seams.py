"""Whether a row may leave out 10 ms now: what is asked of a moment falls the longer none came.

A block is left out at once when the seam (agentstream.audio.timescale) differs by 40 dB less than the speaker is loud,
and each further tick asks for 1 dB less. So ordinary speech is shortened at its closures and pauses, a third of a
second apart in the mean, and even a tone that matches nowhere after less than a second.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from agentstream.audio.timescale import Pcm, Places, find_seams, loudest_energies

LEAST_DB = -40
"""What a seam may differ by, beside the speaker's loudness, when it is looked for first."""

MOST_DB = 6
"""Behind this there is no waiting any more: it is what the opposite of a sound differs by."""

REST_TICKS = 5
"""Ticks after each block that is left out before another one is, unless nothing is to be heard: 100 ms."""

QUIET = 400.0
"""The mean square (-64 dBov) of a difference that nobody hears at any time."""

LEAST_LOUD = 4e6
"""The mean square (-24 dBov) of a speaker who has not been heard yet."""

LOUD_FALLS = 0.99
"""The part of the loudness that is left a tick later."""

_ALLOWED = np.concatenate((10 ** (np.arange(LEAST_DB, MOST_DB) / 10), [np.inf], np.zeros(REST_TICKS)))
"""By patience; what is below zero is found at the end."""

IntArray = npt.NDArray[np.int64]


class Seams:
    """What every row with surplus waits for.

    :param rows: how many rows there can be.
    :param block: samples of 10 ms.
    """

    def __init__(self, rows: int, block: int) -> None:
        self._block = block
        self._patience = np.zeros(rows, np.int64)
        self._loudness = np.zeros(rows)

    def forget(self, row: int) -> None:
        """Somebody else speaks."""
        self._patience[row] = 0
        self._loudness[row] = LEAST_LOUD * self._block

    def find(self, rows: IntArray, sound: Pcm) -> tuple[npt.NDArray[np.bool_], Places]:
        """Which of these rows leave out a block now, and where; asked once a tick.

        :param sound: int16 (n, 3 * block), what they play next.
        """
        loudness = np.maximum(self._loudness[rows] * LOUD_FALLS, loudest_energies(sound))
        self._loudness[rows] = loudness
        places, differences = find_seams(sound)
        patience = self._patience[rows]
        is_unheard: npt.NDArray[np.bool_] = differences <= np.maximum(
            loudness * _ALLOWED[patience], QUIET * self._block
        )
        self._patience[rows] = np.where(is_unheard, -REST_TICKS, np.minimum(patience + 1, MOST_DB - LEAST_DB))
        return is_unheard, places
