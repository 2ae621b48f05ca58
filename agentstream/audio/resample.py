"""8 kHz to 16 or 24 kHz and back, frame by frame, for many rows at once.

A polyphase FIR as one matrix product: a frame of every row, with the end of the frame before it in front, times a
banded matrix that holds the filter. So each frame in gives exactly one frame out, with the filter's delay and no burst.

The filter is a windowed sinc (Kaiser): flat within 0.1 dB to 3.4 kHz, at least 50 dB down from 4.6 kHz on.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Pcm = npt.NDArray[np.int16]
Rows = npt.NDArray[np.intp]

PASS_HZ = 3400
STOP_HZ = 4600
ATTENUATION_DB = 55.0


def lowpass(rate_hz: int) -> npt.NDArray[np.float64]:
    """A linear-phase low-pass of odd length with gain 1 at 0 Hz: float64 (taps,).

    Kaiser's formulas (Oppenheim and Schafer, Discrete-Time Signal Processing, section 7.5.3).
    """
    width = 2 * np.pi * (STOP_HZ - PASS_HZ) / rate_hz
    taps = int(np.ceil((ATTENUATION_DB - 8) / (2.285 * width))) | 1
    beta = 0.1102 * (ATTENUATION_DB - 8.7)
    at = np.arange(taps) - taps // 2
    cutoff = (PASS_HZ + STOP_HZ) / rate_hz
    taps_of = cutoff * np.sinc(cutoff * at) * np.kaiser(taps, beta)
    filtered: npt.NDArray[np.float64] = taps_of / taps_of.sum()
    return filtered


class Resampler:
    """Converts the frames of all rows from one rate to another.

    :param rows: how many rows there can be; each has a state of its own.
    :param from_hz: and ``to_hz``: one is 8,000 and the other a whole multiple of it.
    :param frame_ms: what one call converts.

    :ivar delay_ms: by how much what comes out is later.
    """

    def __init__(self, rows: int, from_hz: int, to_hz: int, frame_ms: int = 20) -> None:
        high = max(from_hz, to_hz)
        factor = high // min(from_hz, to_hz)
        taps = lowpass(high)
        self.delay_ms = 1000.0 * (len(taps) // 2) / high
        self.frame_in = from_hz * frame_ms // 1000
        self.frame_out = to_hz * frame_ms // 1000
        if to_hz > from_hz:
            self._before, matrix = _upsampling(taps * factor, factor, self.frame_in)
        else:
            self._before, matrix = _downsampling(taps, factor, self.frame_out)
        self._matrix = matrix.astype(np.float32)
        self._history = np.zeros((rows, self._before), np.int16)
        self._work = np.zeros((rows, self._before + self.frame_in), np.float32)
        self._result = np.zeros((rows, self.frame_out), np.float32)

    def convert(self, rows: Rows, frames: Pcm) -> Pcm:
        """One frame of each of these rows.

        :param rows: intp (k,), no row twice.
        :param frames: int16 (k, frame_in).
        :return: int16 (k, frame_out), new.
        """
        count = len(rows)
        work, result = self._work[:count], self._result[:count]
        work[:, : self._before] = self._history[rows]
        work[:, self._before :] = frames
        self._history[rows] = frames[:, self.frame_in - self._before :]
        np.matmul(work, self._matrix, out=result)
        np.rint(result, out=result)
        np.clip(result, -32768, 32767, out=result)
        return result.astype(np.int16)

    def is_quiet(self, rows: Rows) -> npt.NDArray[np.bool_]:
        """Which of these rows hold no tail that has yet to come out: bool (k,)."""
        quiet: npt.NDArray[np.bool_] = np.logical_not(self._history[rows].any(axis=1))
        return quiet

    def reset(self, rows: Rows) -> None:
        """Forget what came before."""
        self._history[rows] = 0


def _upsampling(taps: npt.NDArray[np.float64], factor: int, frame: int) -> tuple[int, npt.NDArray[np.float64]]:
    """Samples kept of the frame before, and the matrix (kept + frame, frame * factor)."""
    before = -(-len(taps) // factor)
    matrix = np.zeros((before + frame, frame * factor))
    for out in range(frame * factor):
        # y[out] = sum over the inputs at or before it of x[k] h[out - factor k]
        for tap in range(out % factor, len(taps), factor):
            matrix[before + (out - tap) // factor, out] = taps[tap]
    return before, matrix


def _downsampling(taps: npt.NDArray[np.float64], factor: int, frame: int) -> tuple[int, npt.NDArray[np.float64]]:
    """The same for (kept + frame * factor, frame)."""
    before = len(taps) - 1
    matrix = np.zeros((before + frame * factor, frame))
    for out in range(frame):
        for tap in range(len(taps)):
            matrix[before + out * factor - tap, out] = taps[tap]
    return before, matrix
