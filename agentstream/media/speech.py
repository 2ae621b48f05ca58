"""Which callers speak: one detector over the inbound frames of all rows, and who is told of a change.

Rows without a leg hear silence and cost nothing more than their place in the matrices. What has changed is kept until
the tick asks for it, behind everything that moves sound: whoever is told may close legs and open others.

With a :class:`agentstream.media.silero.Judge` a caller speaks when both say so: the detector of energy, and the neural
network, which hears loud rows only and answers a tick later. Where it does not answer in time, energy decides alone.
"""

from __future__ import annotations

import math

import attrs
import numpy as np
import numpy.typing as npt

from agentstream.audio.activity import FRAME_MS, Activity, ActivitySettings
from agentstream.audio.level import FULL_SCALE, SILENCE_DBOV
from agentstream.audio.neural import NeuralActivity
from agentstream.media.silero import Judge

Samples = npt.NDArray[np.int16]
Flags = npt.NDArray[np.bool_]


@attrs.frozen
class SpeechChange:
    """A caller began to speak, or has stopped.

    :ivar is_speaking: which of the two.
    :ivar at_ms: when that was, in milliseconds of sound that the leg has heard, silence included. It is noticed later:
        a beginning by what settles that it is speech, an end by the hang-over.
    :ivar level_dbov: at the beginning that of the frame that settled it; at the end the loudest frame's since then.
    """

    is_speaking: bool
    at_ms: int
    level_dbov: float


class SpeechWatch:
    """The detector of all rows of one rate, and the changes that nobody has been told of.

    :param rows: how many rows there can be.
    :param judge: answers what the neural network says; 8 kHz only.
    """

    def __init__(self, rows: int, rate_hz: int, settings: ActivitySettings, judge: Judge | None = None) -> None:
        self._second = None if judge is None else SecondOpinion(rows, settings, judge)
        self._activity = Activity(rows, rate_hz, settings)
        self._was = np.zeros(rows, np.bool_)
        self._changed = np.zeros(rows, np.bool_)
        self._loudest = np.zeros(rows, np.float64)
        self._frames = 0
        self._opened = np.zeros(rows, np.int64)
        self._news: list[tuple[int, SpeechChange]] = []

    def open(self, row: int) -> None:
        """A new leg: nobody speaks, its noise is not known and its time begins."""
        self._activity.reset(np.array([row]))
        if self._second is not None:
            self._second.neural.reset(np.array([row]))
        self._was[row] = False
        self._loudest[row] = 0.0
        self._opened[row] = self._frames

    def close(self, row: int) -> None:
        """The leg is over, and nobody wants to know what it has just said."""
        self._news = [item for item in self._news if item[0] != row]

    def heard_ms(self, row: int) -> int:
        """Milliseconds of sound, silence included, since the row's leg was opened."""
        return (self._frames - int(self._opened[row])) * FRAME_MS

    def quiet_ms(self, row: int) -> int:
        """How long ago the row was loud, or speech to the network, as of its last frame; never more than the
        hang-over."""
        quiet_ms = self._activity.quiet_ms(row)
        if self._second is None:
            return quiet_ms
        return max(quiet_ms, min(self._second.neural.quiet_ms(row), self._activity.settings.hangover_ms))

    @property
    def alone_s(self) -> float:
        """Seconds of loud sound, of all rows, that waited for an answer of the network for too long."""
        return 0.0 if self._second is None else self._second.neural.unjudged_frames * FRAME_MS / 1000

    def hear(self, frames: Samples) -> None:
        """Take 20 ms of rows 0, 1, ...: int16[n, frame]."""
        n = len(frames)
        self._frames += 1
        is_speech = self._activity.hear(frames)
        if self._second is not None:
            is_speech = self._second.confirm(self._activity, frames, is_speech)
        was, changed, loudest = self._was[:n], self._changed[:n], self._loudest[:n]
        np.maximum(loudest, self._activity.power[:n], out=loudest)
        np.not_equal(is_speech, was, out=changed)
        if changed.any():
            self._keep(np.flatnonzero(changed).tolist(), is_speech)
            np.copyto(was, is_speech)

    def _keep(self, rows: list[int], is_speech: Flags) -> None:
        activity = self._activity
        for row in rows:
            is_speaking = bool(is_speech[row])
            if is_speaking:
                self._loudest[row] = activity.power[row]
                lag_ms = activity.settings.start_ms if self._second is None else self._second.began_ago_ms(row)
            else:
                lag_ms = self.quiet_ms(row)
            at_ms = max(0, self.heard_ms(row) - lag_ms)
            self._news.append((row, SpeechChange(is_speaking, at_ms, _dbov(float(self._loudest[row])))))

    def take(self) -> list[tuple[int, SpeechChange]]:
        """(row, change) in order; each is given once."""
        news, self._news = self._news, []
        return news


class SecondOpinion:
    """What the neural network makes of the rows in which the detector of energy hears speech."""

    def __init__(self, rows: int, settings: ActivitySettings, judge: Judge) -> None:
        self.neural = NeuralActivity(rows, settings)
        self._judge = judge
        self._start_ms = settings.start_ms
        self._heard_ms = 0
        self._quiet_until_ms = np.zeros(rows, np.int64)
        self._is_near = np.zeros(rows, np.bool_)
        self._is_speech = np.zeros(rows, np.bool_)

    def confirm(self, activity: Activity, frames: Samples, is_speech: Flags) -> Flags:
        """Who speaks by both, of rows 0, 1, ...: bool[n], valid until the next frame."""
        n, neural = len(frames), self.neural
        self._heard_ms += FRAME_MS
        for batch, probabilities in self._judge.take():
            neural.judge(batch, probabilities)
        self._judge.put(neural.collect(frames, activity.is_near(n, self._is_near[:n])))
        agreed = self._is_speech[:n]
        np.copyto(self._quiet_until_ms[:n], self._heard_ms, where=np.logical_not(is_speech, out=agreed))
        np.logical_or(neural.is_voiced[:n], neural.is_unjudged[:n], out=agreed)
        return np.logical_and(agreed, is_speech, out=agreed)

    def began_ago_ms(self, row: int) -> int:
        """How long ago the speech began that both hear now: when the later one says that it did."""
        began_ms = int(self._quiet_until_ms[row]) + FRAME_MS - self._start_ms
        if self.neural.is_voiced[row]:
            began_ms = max(began_ms, int(self.neural.since_ms[row]))
        return self._heard_ms - began_ms


def _dbov(power: float) -> float:
    """A mean square as a level, to a tenth."""
    level = 10 * math.log10(power / FULL_SCALE**2) if power > 0 else SILENCE_DBOV
    return round(max(level, SILENCE_DBOV), 1)
