"""DTMF that goes with the sound: heard and said in rows whose far end did not negotiate telephone-event (RFC 4733)."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import numpy as np
import numpy.typing as npt

from agentstream.audio.inband import InbandDigit, InbandDtmf
from agentstream.audio.tones import DTMF_FREQUENCIES_HZ, dtmf, silence
from agentstream.errors import LocalProtocolError

Pcm = npt.NDArray[np.int16]


def frames_of_digits(digits: str, duration_ms: int, gap_ms: int, rate_hz: int) -> Iterator[Pcm]:
    """20 ms after another of these tones, with a pause behind each; the last one is filled up with silence.

    Raises LocalProtocolError when one is no digit or has no length.
    """
    if duration_ms < 1 or gap_ms < 0 or any(digit not in DTMF_FREQUENCIES_HZ for digit in digits):
        raise LocalProtocolError("A digit is one of 0-9*#A-D, its duration at least 1 ms.")
    pieces = [piece for digit in digits for piece in (dtmf(digit, duration_ms, rate_hz), silence(gap_ms, rate_hz))]
    frame = rate_hz // 50
    samples = np.concatenate([*pieces, np.zeros(0, np.int16)])
    whole = np.zeros(-(-len(samples) // frame) * frame, np.int16)
    whole[: len(samples)] = samples
    return iter(whole.reshape(-1, frame))


class Tones:
    """The tones of all rows.

    :param rows: how many rows there can be.
    """

    def __init__(self, rows: int, rate_hz: int) -> None:
        self._rate_hz = rate_hz
        self._detector = InbandDtmf(rows, rate_hz)
        self._watched: npt.NDArray[np.intp] = np.zeros(0, np.intp)
        self._said: dict[int, Iterator[Pcm]] = {}

    def watch(self, row: int, is_watched: bool) -> None:
        """Listen for digits in this row, or no more."""
        if is_watched == (row in self._watched):
            return
        one = np.array([row], np.intp)
        self._detector.reset(one)
        self._watched = np.union1d(self._watched, one) if is_watched else self._watched[self._watched != row]

    def hear(self, heard: Pcm) -> list[InbandDigit]:
        """The digits that ended in the next 20 ms of all rows, int16 (rows, samples)."""
        watched = self._watched
        return self._detector.hear(heard[watched], watched) if len(watched) else []

    def say(self, row: int, digits: str, duration_ms: int, gap_ms: int) -> None:
        """Send these in place of the row's sound."""
        self._said[row] = frames_of_digits(digits, duration_ms, gap_ms, self._rate_hz)

    @property
    def rows(self) -> Collection[int]:
        """Those that say digits in the slot that :meth:`speak` was called for last."""
        return self._said.keys()

    def speak(self, outgoing: Pcm) -> list[int]:
        """Put the next 20 ms of the rows that say digits into ``outgoing``; gives those that had none left."""
        over: list[int] = []
        for row, frames in self._said.items():
            frame = next(frames, None)
            if frame is None:
                over.append(row)
            else:
                outgoing[row] = frame
        for row in over:
            del self._said[row]
        return over

    def close(self, row: int) -> None:
        """The row's call is over."""
        self.watch(row, False)
        self._said.pop(row, None)
