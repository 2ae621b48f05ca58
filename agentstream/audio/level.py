"""How loud audio is, in dBov: relative to the overload point of 16 bits (ITU-T G.100.1, RFC 6464 section 3).

0 dBov is a square wave of full scale; the loudest sine is -3.01 dBov. Digital silence has no level in dB: SILENCE_DBOV.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

SILENCE_DBOV = -127.0
FULL_SCALE = 32768.0


def level_dbov(pcm: npt.NDArray[np.int16]) -> float:
    """The level of int16[n], -127 to 0 dBov; no samples are silence."""
    if len(pcm) == 0:
        return SILENCE_DBOV
    return float(levels_dbov(pcm[None, :])[0])


def levels_dbov(frames: npt.NDArray[np.int16]) -> npt.NDArray[np.float64]:
    """The level of each row of int16[rows, n], n at least 1: float64[rows], -127 to 0 dBov."""
    # int64 sums are exact for any length that fits in memory; a float32 sum of squares would not be.
    power = np.einsum("ij,ij->i", frames, frames, dtype=np.int64) / frames.shape[1]
    floor = FULL_SCALE**2 * 10 ** (SILENCE_DBOV / 10)
    return np.asarray(10 * np.log10(np.maximum(power, floor) / FULL_SCALE**2), np.float64)
