"""Comfort noise (RFC 3389, the payload of ITU-T G.711 Appendix II): what is heard while the far end says nothing.

A payload tells a level and, if it likes, the shape of the spectrum. Shaped noise is made once for each payload, as a
piece that can be repeated without a seam, so that a block of it costs a gather and no filter.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from agentstream.audio.level import FULL_SCALE

LENGTH = 4096
"""Samples of a piece: half a second at 8 kHz, beyond which nobody hears that it repeats."""

MOST_COEFFICIENTS = 24
"""RFC 3389 section 3: "The decoder may reduce the model order by setting higher order reflection coefficients to
zero"."""

_LEAST = 1e-9
"""As near as a filter's denominator comes to zero: 24 coefficients of the largest size cancel out beyond that."""

_STEP = 258 / 32768
"""Of a quantised reflection coefficient (section 3.2)."""

Pcm = npt.NDArray[np.int16]
Rows = npt.NDArray[np.intp]


def _scattered(count: int) -> npt.NDArray[np.float64]:
    """Numbers from 0 to 1 that look like chance, the same ones each time (Steele, Lea and Flood's SplitMix64)."""
    mixed = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    return (mixed >> np.uint64(11)).astype(np.float64) / 2.0**53


def predictor(reflections: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The polynomial 1, a1, ..., aM of the all-pole model 1 / A(z) with these reflection coefficients, each within
    -1 to 1, by Levinson's recursion."""
    polynomial = np.ones(1)
    for reflection in reflections:
        longer = np.append(polynomial, 0.0)
        polynomial = longer + reflection * longer[::-1]
    return polynomial


class ComfortNoise:
    """The noise of many rows.

    :param rows: how many rows there can be.
    :param block: samples of a block.
    """

    def __init__(self, rows: int, block: int) -> None:
        # Noise whose spectrum is flat to the last bin: random phases, all of one strength.
        self._white = np.exp(2j * np.pi * _scattered(LENGTH // 2 + 1))
        self._white[[0, -1]] = 0
        self._pieces = np.zeros((rows, LENGTH), np.int16)
        self._payloads: list[bytes] = [b""] * rows
        self._at = np.zeros(rows, np.int64)
        self._count = np.arange(block, dtype=np.int64)

    def shape(self, row: int, payload: bytes) -> None:
        """The row's noise is this from now on.

        :param payload: the level in -dBov, below 128, and any number of quantised reflection coefficients.
        """
        if payload == self._payloads[row]:
            return
        self._payloads[row] = payload
        quantised = np.frombuffer(payload, np.uint8)[1 : 1 + MOST_COEFFICIENTS].astype(np.float64)
        reflections = np.clip((quantised - 127) * _STEP, -0.99, 0.99)
        denominator = np.fft.rfft(predictor(reflections), LENGTH)
        denominator[np.abs(denominator) < _LEAST] = _LEAST
        piece = np.fft.irfft(self._white / denominator, LENGTH)
        rms = FULL_SCALE * 10 ** (-(payload[0] & 0x7F) / 20)
        piece *= rms / np.sqrt(np.mean(piece**2))
        self._pieces[row] = np.clip(np.rint(piece), -32768, 32767)

    def take(self, rows: Rows) -> Pcm:
        """The next block of these rows, int16 (k, block)."""
        at = (self._at[rows][:, None] + self._count) % LENGTH
        self._at[rows] += len(self._count)
        blocks: Pcm = self._pieces[rows[:, None], at]
        return blocks

    def reset(self, row: int) -> None:
        """Another call in the row."""
        self._payloads[row] = b""
        self._pieces[row] = 0
        self._at[row] = 0
