"""Who is speaking, by a neural network: the windows that it is asked about, and what its answers add up to.

The network is Silero's, which takes 32 ms at 8 kHz with the 4 ms before them and a state of its own, and gives the
probability of speech. It is asked only about rows that are loud, and its answers come later: whoever runs it takes the
batches of :meth:`NeuralActivity.collect`, has :class:`States` answer them in order, in another thread if it likes, and
brings the answers to :meth:`NeuralActivity.judge`.

Contract: no Python call for each row, but one batch for each 64.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs
import numpy as np
import numpy.typing as npt

from agentstream.audio.activity import FRAME_MS, NARROW_HZ, ActivitySettings

Pcm = npt.NDArray[np.int16]
Rows = npt.NDArray[np.intp]
Flags = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float32]

Infer = Callable[[Floats, Floats], tuple[Floats, Floats]]
"""The network: (sound float32[k, 288] from -1 to 1, state float32[2, k, 128]) -> (probability float32[k], state)."""

WINDOW_MS = 32
WINDOW = NARROW_HZ * WINDOW_MS // 1000
CONTEXT = 32
"""Samples before a window that the network hears with it."""

STATE = 128
BATCH = 64
"""Rows in one run of the network: 2 ms."""

SPEECH = 0.5
NO_SPEECH = 0.35
"""The probability from which a window is speech, and below which it is none; Silero's own two thresholds."""

MOST_UNJUDGED_MS = 120
"""A loud row without an answer for longer than this is judged without one."""

_FRAME = NARROW_HZ * FRAME_MS // 1000
_CYCLE = 8
"""Frames after which frames and windows end together."""


@attrs.frozen(eq=False)
class Batch:
    """A window of several rows.

    :ivar rows: int[k], each once.
    :ivar spurts: int64[k], which stretch of loud sound of its row each window belongs to.
    :ivar is_first: bool[k], the first window of its stretch: the network's state begins anew.
    :ivar sound: int16[k, 288], the batch's own.
    :ivar ended_ms: when the windows ended, in milliseconds of sound that have been heard.
    """

    rows: Rows
    spurts: npt.NDArray[np.int64]
    is_first: Flags
    sound: Pcm
    ended_ms: int


class States:
    """The network with its state for every row. Batches are to be answered in the order in which they were made."""

    def __init__(self, rows: int, infer: Infer) -> None:
        self._infer = infer
        self._state = np.zeros((2, rows, STATE), np.float32)

    def answer(self, batch: Batch) -> Floats:
        """The probabilities of speech: float32[k]."""
        state = self._state.take(batch.rows, axis=1)
        state[:, batch.is_first] = 0
        sound = np.multiply(batch.sound, np.float32(1 / 32768), dtype=np.float32)
        probabilities, self._state[:, batch.rows] = self._infer(sound, state)
        return probabilities


class NeuralActivity:
    """The windows and flags of every row at 8 kHz.

    :param rows: number of rows; never grows.

    :ivar is_voiced: bool[rows], the network hears speech: from ``start_ms`` of windows of speech, less those of none,
        until ``hangover_ms`` of windows of none.
    :ivar is_unjudged: bool[rows], loud and without an answer for too long.
    :ivar since_ms: int64[rows], when the speech of voiced rows began, in milliseconds of sound that have been heard.
    :ivar unjudged_frames: frames of all unjudged rows so far.
    """

    def __init__(self, rows: int, settings: ActivitySettings) -> None:
        self._start = max(1, settings.start_ms // WINDOW_MS)
        self._hangover = max(1, settings.hangover_ms // WINDOW_MS)
        self.is_voiced = np.zeros(rows, np.bool_)
        self.is_unjudged = np.zeros(rows, np.bool_)
        self.since_ms = np.zeros(rows, np.int64)
        self.unjudged_frames = 0
        self._heard_ms = 0
        self._phase = 0
        self._sound = np.zeros((rows, CONTEXT + _CYCLE * _FRAME), np.int16)
        self._was_asked = np.zeros(rows, np.bool_)
        self._is_first = np.zeros(rows, np.bool_)
        self._begins = np.zeros(rows, np.bool_)
        self._spurts = np.zeros(rows, np.int64)
        self._score = np.zeros(rows, np.int16)
        self._quiet = np.zeros(rows, np.int16)
        self._waited = np.zeros(rows, np.int16)

    def collect(self, frames: Pcm, is_asked: Flags) -> list[Batch]:
        """Take the next 20 ms of rows 0, 1, ...: int16[n, 160]; gives the windows that are whole now.

        :param is_asked: bool[n], rows that are loud. One that was not before begins anew.
        """
        n, phase = len(frames), self._phase
        begins, was, waited = self._begins[:n], self._was_asked[:n], self._waited[:n]
        np.copyto(self._sound[:n, CONTEXT + phase * _FRAME : CONTEXT + (phase + 1) * _FRAME], frames)
        self._heard_ms += FRAME_MS
        self._phase = (phase + 1) % _CYCLE
        np.greater(is_asked, was, out=begins)
        if begins.any():
            self._begin(np.flatnonzero(begins))
        np.copyto(was, is_asked)
        np.add(waited, is_asked, out=waited)
        np.greater(waited, MOST_UNJUDGED_MS // FRAME_MS, out=self.is_unjudged[:n])
        np.logical_and(self.is_unjudged[:n], is_asked, out=self.is_unjudged[:n])
        self.unjudged_frames += int(np.count_nonzero(self.is_unjudged[:n]))
        end = (phase + 1) * _FRAME
        window = end // WINDOW - 1
        batches = self._batches(n, window, end) if end % WINDOW < _FRAME else []
        if self._phase == 0:
            np.copyto(self._sound[:n, :CONTEXT], self._sound[:n, -CONTEXT:])
        return batches

    def _begin(self, rows: Rows) -> None:
        self._spurts[rows] += 1
        self._is_first[rows] = True
        self.is_voiced[rows] = False
        self._score[rows] = 0
        self._quiet[rows] = 0
        self._waited[rows] = 0

    def _batches(self, n: int, window: int, end: int) -> list[Batch]:
        asked = np.flatnonzero(self._was_asked[:n])
        sound = self._sound[:, window * WINDOW : (window + 1) * WINDOW + CONTEXT]
        ended_ms = self._heard_ms - (end - (window + 1) * WINDOW) * 1000 // NARROW_HZ
        batches = []
        for at in range(0, len(asked), BATCH):
            rows = asked[at : at + BATCH]
            batches.append(Batch(rows, self._spurts[rows], self._is_first[rows], sound[rows], ended_ms))
        self._is_first[asked] = False
        return batches

    def judge(self, batch: Batch, probabilities: Floats) -> None:
        """Take the answer to a batch; what is about stretches that are over changes nothing."""
        is_current = batch.spurts == self._spurts[batch.rows]
        is_current &= self._was_asked[batch.rows]
        rows, probabilities = batch.rows[is_current], probabilities[is_current]
        self._waited[rows] = 0
        was = self.is_voiced[rows]
        score = np.maximum(self._score[rows] + np.where(probabilities >= SPEECH, 1, -1), 0)
        quiet = np.where(probabilities >= NO_SPEECH, 0, self._quiet[rows] + 1)
        starts = ~was & (score >= self._start)
        is_voiced = (was & (quiet < self._hangover)) | starts
        self.since_ms[rows[starts]] = batch.ended_ms - self._start * WINDOW_MS
        self.is_voiced[rows] = is_voiced
        self._score[rows] = np.where(was | starts, 0, score)
        self._quiet[rows] = np.minimum(quiet, self._hangover)

    def quiet_ms(self, row: int) -> int:
        """How long the last windows of a row were no speech."""
        return int(self._quiet[row]) * WINDOW_MS

    def reset(self, rows: Rows) -> None:
        """New calls: nothing has been heard, and what was asked about the calls before is answered in vain."""
        self._begin(rows)
        self._was_asked[rows] = False
        self.is_unjudged[rows] = False
        self._sound[rows] = 0
