"""Leave out 10 ms of sound where it is heard least, for many rows at once (a WSOLA whose step is one block).

Of 30 ms, 20 are left: up to a *seam* the sound is as it was, from there the next 10 ms fade into those that come 10 ms
later, and the rest follows. The seam is put where the two that are faded into each other differ least: in a vowel whose
pitch has a whole number of periods in 10 ms, or in a pause, the closure of a stop, a weak consonant. How much they
differ, beside how loud the speaker is, says whether it can be heard.

Leaving out whole blocks keeps a jitter buffer on its grid. That costs nothing in quality: waiting a third of a second
for a good moment is worth more than cutting at once by a pitch period, whatever that is (tests/audio/measure_pesq.py).

All arithmetic is exact (float64 sums of integers below 2**53, and Q15), so that a plain implementation gives the same.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from agentstream.audio.fade import UNITY

BLOCKS = 3
"""Blocks of 10 ms that are looked at."""

Pcm = npt.NDArray[np.int16]
Places = npt.NDArray[np.intp]
Energies = npt.NDArray[np.float64]


def find_seams(sound: Pcm) -> tuple[Places, Energies]:
    """Where a block is left out with the least difference.

    :param sound: int16[k, 3 * block].
    :return: intp[k], the sample at which each fade begins, 0 to block; float64[k], the energy (sum of squares of a
        block's samples) of the difference between what is faded out and in.
    """
    block = sound.shape[1] // BLOCKS
    squares = sound[:, block:].astype(np.float64)
    squares -= sound[:, :-block]
    np.multiply(squares, squares, out=squares)
    sums = np.zeros((len(sound), 2 * block + 1))
    np.cumsum(squares, axis=1, out=sums[:, 1:])
    differences = sums[:, block:] - sums[:, :-block]
    places = np.argmin(differences, axis=1)
    return places, differences[np.arange(len(sound)), places]


def loudest_energies(sound: Pcm) -> Energies:
    """The energy of the loudest of the three blocks: float64[k]."""
    blocks = sound.reshape(len(sound), BLOCKS, -1).astype(np.float64)
    energies: Energies = np.einsum("ijn,ijn->ij", blocks, blocks).max(axis=1, initial=0.0)
    return energies


def leave_out(sound: Pcm, places: Places) -> Pcm:
    """The sound without one block of it.

    :param sound: int16[k, 3 * block].
    :param places: intp[k], as :func:`find_seams` gives them.
    :return: int16[k, 2 * block], whose first sample follows what came before and whose last is the last of ``sound``.
    """
    block = sound.shape[1] // BLOCKS
    along = np.arange(2 * block) - places[:, None]
    rising = np.clip((along + 1) * UNITY // block, 0, UNITY)
    before = sound[:, : 2 * block] * (UNITY - rising)
    left: Pcm = ((before + sound[:, block:] * rising) >> 15).astype(np.int16)
    return left


def fade_over(before: Pcm, after: Pcm) -> Pcm:
    """One block that begins as the one and ends as the other: int16[block] of each."""
    rising = (np.arange(len(before)) + 1) * UNITY // len(before)
    faded: Pcm = ((before * (UNITY - rising) + after * rising) >> 15).astype(np.int16)
    return faded
