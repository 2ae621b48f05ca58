"""Gain ramps: audio that has to end, or begin, within a few milliseconds and without a click.

Gains are Q15 integers (32768 is 1.0) in int32, because a table of integers is exact and twice as fast as floats.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Gains = npt.NDArray[np.int32]
Pcm = npt.NDArray[np.int16]

FADE_MS = 5
"""The longest fade before a silence that somebody asked for (clear) or that came by itself (underrun)."""

UNITY = 32768
_SHIFT = 15


def falling(samples: int) -> Gains:
    """Gains that fall from just under 1 to just over 0 along a raised cosine: int32[samples]."""
    position = np.arange(1, samples + 1) / (samples + 1)
    gains: Gains = np.rint(UNITY * np.cos(position * np.pi / 2) ** 2).astype(np.int32)
    return gains


def rising(samples: int) -> Gains:
    """Gains that rise from just over 0 to just under 1: ``falling`` the other way round."""
    return falling(samples)[::-1].copy()


def apply_gains(pcm: Pcm, gains: Gains) -> None:
    """Multiply samples in place; the shapes are equal, or broadcast to that of ``pcm``."""
    pcm[...] = np.multiply(pcm, gains, dtype=np.int32) >> _SHIFT


class TailFade:
    """Ends many frames at once, each at its own sample.

    :param frame_samples: width of the frames.
    :param fade_samples: length of the fade, at most the frame's.
    """

    def __init__(self, frame_samples: int, fade_samples: int) -> None:
        self.fade_samples = fade_samples
        held = np.concatenate(
            [np.full(frame_samples, UNITY, np.int32), falling(fade_samples), np.zeros(frame_samples, np.int32)]
        )
        # Window number w of the held gains begins its fade at sample frame_samples - w.
        self._windows = np.lib.stride_tricks.sliding_window_view(held, frame_samples)
        self._last = frame_samples + fade_samples

    def end(self, frames: Pcm, rows: npt.NDArray[np.intp], lengths: npt.NDArray[np.integer]) -> None:
        """Fade ``frames[rows[i]]`` out so that it is silent from sample ``lengths[i]`` on, in place.

        The fade is the last ``fade_samples`` before that; where there are fewer, the front of the fade is missing. No
        row appears twice.

        :param frames: int16[n, frame_samples].
        :param rows: intp[k]. :param lengths: int[k], 0 to frame_samples.
        """
        gains = self._windows[self._last - lengths]
        frames[rows] = np.multiply(frames[rows], gains, dtype=np.int32) >> _SHIFT

    def clear(self, frames: Pcm, rows: npt.NDArray[np.intp]) -> None:
        """Fade ``frames[rows]`` out from their first sample on: what follows a ``clear``."""
        gains = self._windows[self._last - self.fade_samples]
        frames[rows] = np.multiply(frames[rows], gains, dtype=np.int32) >> _SHIFT
