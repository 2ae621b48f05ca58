"""Who is speaking: a voice activity detector of energy and spectrum, for all rows at once, 20 ms at a time.

A frame is *loud* when its level is over a fixed minimum and over the row's own noise floor, the quietest 20 ms of the
last one or two noise windows. Speech starts when enough of the recent loud frames were also like speech, and lasts
until no frame was loud for the hang-over. Like speech is what is voiced (neighbouring samples resemble each other: not
hiss), what changes from frame to frame (not one or two tones, with or without noise) and what the frame before does not
foretell (not a clean chord). Those three are asked only of loud frames of rows where nobody speaks yet.

What it cannot tell from speech: music with a beat and a voice, and people talking next to the caller.

Contract: a tick in which no row is about to start allocates nothing that grows with the rows.
"""

from __future__ import annotations

import attrs
import numpy as np
import numpy.typing as npt

from agentstream.audio.level import FULL_SCALE, SILENCE_DBOV

FRAME_MS = 20

Pcm = npt.NDArray[np.int16]
Rows = npt.NDArray[np.intp]
Flags = npt.NDArray[np.bool_]
Levels = npt.NDArray[np.float64]
Powers = npt.NDArray[np.float32]
_Floats = npt.NDArray[np.float64]

NARROW_HZ = 8000
"""The spectral questions are asked at this rate, whatever the rows have."""

PREDICTOR_ORDER = 8
_NARROW = NARROW_HZ * FRAME_MS // 1000
_NEVER = 2.0**62  # more power than any frame has


@attrs.frozen
class ActivitySettings:
    """When speech starts and stops.

    :ivar minimum_dbov: quieter frames are never speech; above what comes back as echo of the bot.
    :ivar above_noise_db: how far over its row's noise floor a frame is loud.
    :ivar start_ms: loud frames that are like speech, less those that are not, until speech has started.
    :ivar hangover_ms: how long no frame is loud until speech has stopped.
    :ivar noise_window_ms: the floor forgets what is older than one to two of these; longer than a breath group is not
        needed, because every sentence has gaps of 20 ms.
    :ivar least_voicing: correlation of samples 0.125 ms apart, -1 to 1, from which a frame is voiced.
    :ivar least_change: share of the spectrum's power that differs from the frame before, 0 to 1.
    :ivar most_foretold_db: what linear prediction from the frame before may take off the power.
    """

    minimum_dbov: float = -40.0
    above_noise_db: float = 7.5
    start_ms: int = 80
    hangover_ms: int = 300
    noise_window_ms: int = 800
    least_voicing: float = 0.3
    least_change: float = 0.17
    most_foretold_db: float = 27.0


class Activity:
    """The speech flags of every row.

    :param rows: number of rows; never grows.
    :param rate_hz: samples a second, a multiple of 8,000.

    :ivar is_speech: bool[rows], as of the last frame. A flag rises about ``start_ms`` after speech began and falls
        ``hangover_ms`` after it ended.
    :ivar power: float32[rows], mean square of the last frame without its constant part.
    :ivar floor: float32[rows], the noise floor as a mean square.
    """

    def __init__(self, rows: int, rate_hz: int = 8000, settings: ActivitySettings | None = None) -> None:
        self.settings = settings if settings is not None else ActivitySettings()
        self.frame_samples = rate_hz * FRAME_MS // 1000
        self._factor = rate_hz // NARROW_HZ
        self._least_power = FULL_SCALE**2 * 10 ** (self.settings.minimum_dbov / 10)
        self._over_floor = 10 ** (self.settings.above_noise_db / 10)
        self._most_foretold = 10 ** (self.settings.most_foretold_db / 10)
        self._start = max(1, self.settings.start_ms // FRAME_MS)
        self._hangover = max(1, self.settings.hangover_ms // FRAME_MS)
        self._window = max(1, self.settings.noise_window_ms // FRAME_MS)
        self._mean = np.full(2 * _NARROW, 1 / (2 * _NARROW))
        self._taper = np.hanning(_NARROW)
        self._bins = np.ones(_NARROW // 2 + 1)
        self._diagonal = np.eye(PREDICTOR_ORDER)
        self.is_speech = np.zeros(rows, np.bool_)
        self.power = np.zeros(rows, np.float32)
        self.floor = np.zeros(rows, np.float32)
        self._quietest = np.full(rows, _NEVER, np.float32)  # of the window that runs
        self._quietest_before = np.zeros(rows, np.float32)
        self._age = np.zeros(rows, np.int16)
        self._score = np.zeros(rows, np.int16)
        self._left = np.zeros(rows, np.int16)
        # The last frame and the one before it, which change places.
        self._signal = np.zeros((rows, self.frame_samples), np.float32)
        self._before = np.zeros((rows, self.frame_samples), np.float32)
        # Scratch.
        self._ones = np.ones(self.frame_samples, np.float32)
        self._sum = np.zeros(rows, np.float32)
        self._is_loud = np.zeros(rows, np.bool_)
        self._is_any = np.zeros(rows, np.bool_)

    def hear(self, frames: Pcm, out: Flags | None = None) -> Flags:
        """Take the next 20 ms of rows 0, 1, ... and give their flags.

        :param frames: int16[n, frame_samples], the caller's.
        :param out: bool[n]; without it the answer is a view of ``is_speech``.
        """
        n = len(frames)
        self._measure(frames)
        self._follow_noise(n)
        power, floor, threshold = self.power[:n], self.floor[:n], self._sum[:n]
        is_loud, is_any, is_speech = self._is_loud[:n], self._is_any[:n], self.is_speech[:n]
        score, left = self._score[:n], self._left[:n]
        np.multiply(floor, self._over_floor, out=threshold)
        np.maximum(threshold, self._least_power, out=threshold)
        np.greater(power, threshold, out=is_loud)
        # Who is about to start: one more for a frame like speech, one less for any other.
        np.greater(is_loud, is_speech, out=is_any)
        np.subtract(score, 1, out=score)
        if is_any.any():
            self._start_speech(np.flatnonzero(is_any))
        np.maximum(score, 0, out=score)
        # Who goes on, and who has been quiet for long enough.
        np.subtract(left, 1, out=left)
        np.maximum(left, 0, out=left)
        np.copyto(left, self._hangover, where=is_loud)
        np.greater(left, 0, out=is_any)
        np.logical_and(is_speech, is_any, out=is_speech)
        if out is None:
            return is_speech
        np.copyto(out, is_speech)
        return out

    def is_near(self, n: int, out: Flags) -> Flags:
        """Rows 0, 1, ... n - 1 that were loud within the hang-over, and so may be speech: bool[n]."""
        return np.greater(self._left[:n], 0, out=out)

    def levels_dbov(self, out: Levels) -> Levels:
        """The levels of the last frame of rows 0, 1, ...: float64[n], -127 to 0 dBov."""
        np.maximum(self.power[: len(out)], FULL_SCALE**2 * 10 ** (SILENCE_DBOV / 10), out=out)
        np.divide(out, FULL_SCALE**2, out=out)
        np.log10(out, out=out)
        return np.multiply(out, 10.0, out=out)

    def quiet_ms(self, row: int) -> int:
        """How long ago a row was loud, as of the last frame: 0 to the hang-over, where it stays."""
        return (self._hangover - int(self._left[row])) * FRAME_MS

    def reset(self, rows: Rows) -> None:
        """New calls: nobody speaks, and the noise is not known."""
        self.is_speech[rows] = False
        self.power[rows] = 0
        self.floor[rows] = 0
        self._quietest[rows] = _NEVER
        self._quietest_before[rows] = 0
        self._age[rows] = 0
        self._score[rows] = 0
        self._left[rows] = 0
        self._signal[rows] = 0
        self._before[rows] = 0

    def _measure(self, frames: Pcm) -> None:
        """The power of each frame without its mean, to seven digits of the power with it."""
        n = len(frames)
        self._signal, self._before = self._before, self._signal
        signal, power, total = self._signal[:n], self.power[:n], self._sum[:n]
        np.copyto(signal, frames)
        np.vecdot(signal, signal, out=power)
        np.matmul(signal, self._ones, out=total)
        np.multiply(total, total, out=total)
        np.multiply(total, np.float32(1 / self.frame_samples), out=total)
        np.subtract(power, total, out=power)
        np.multiply(power, np.float32(1 / self.frame_samples), out=power)

    def _follow_noise(self, n: int) -> None:
        """The floor is the quietest frame of this window and of the one before; digital silence is no noise."""
        power, quietest, before = self.power[:n], self._quietest[:n], self._quietest_before[:n]
        age, is_any = self._age[:n], self._is_any[:n]
        np.greater(power, 0.0, out=is_any)
        np.minimum(quietest, power, out=quietest, where=is_any)
        np.minimum(quietest, before, out=self.floor[:n])
        np.add(age, is_any, out=age)
        np.greater_equal(age, self._window, out=is_any)
        np.copyto(before, quietest, where=is_any)
        np.copyto(quietest, _NEVER, where=is_any)
        np.copyto(age, 0, where=is_any)

    def _start_speech(self, rows: Rows) -> None:
        rows = rows[self._is_like_speech(rows)]
        self._score[rows] += 2
        started = rows[self._score[rows] >= self._start]
        self.is_speech[started] = True
        self._score[started] = 0

    def _is_like_speech(self, rows: Rows) -> Flags:
        """The three questions, for loud rows: bool[k]."""
        both = self._narrow(rows)
        now = both[:, _NARROW:]
        energy = np.vecdot(now, now)
        neighbours = np.vecdot(now[:, 1:], now[:, :-1])
        is_like: Flags = neighbours >= self.settings.least_voicing * energy
        asked = np.flatnonzero(is_like)
        if len(asked):
            is_like[asked] = self._changes(both[asked])
            asked = np.flatnonzero(is_like)
        if len(asked):
            is_like[asked] = self._surprises(both[asked], energy[asked])
        return is_like

    def _narrow(self, rows: Rows) -> _Floats:
        """The last two frames at 8 kHz and without their mean: float64[k, 320]."""
        signal = np.concatenate((self._before[rows], self._signal[rows]), axis=1, dtype=np.float64)
        if self._factor > 1:
            signal = signal.reshape(len(rows), -1, self._factor) @ np.full(self._factor, 1 / self._factor)
        signal -= (signal @ self._mean)[:, None]
        return signal

    def _changes(self, both: _Floats) -> Flags:
        """Does the power spectrum differ from that of the frame before?"""
        spectra = np.fft.rfft(both.reshape(len(both), 2, -1) * self._taper)
        power = spectra.real**2 + spectra.imag**2
        before, now = power[:, 0], power[:, 1]
        differing, whole = np.abs(now - before) @ self._bins, (now + before) @ self._bins
        return np.asarray(differing >= self.settings.least_change * whole, np.bool_)

    def _surprises(self, both: _Floats, energy: _Floats) -> Flags:
        """Is there anything that linear prediction, fitted to the frame before, does not foretell?"""
        # The samples before each place, and the sample itself last: all that fitting and testing want.
        size, row = both.itemsize, both.strides[0]
        shape = (len(both), PREDICTOR_ORDER + 1, both.shape[1] - PREDICTOR_ORDER)
        places = np.ndarray(shape, both.dtype, both, 0, (row, size, size)).copy()
        split = _NARROW - PREDICTOR_ORDER
        fit = places[:, :, :split]
        squares = fit @ fit.transpose(0, 2, 1)
        fitted = squares[:, :-1, :-1]
        # Enough on the diagonal to have a solution for silence and for pure tones.
        fitted += (np.einsum("ijj->i", fitted) * (1e-6 / PREDICTOR_ORDER) + 1e-3)[:, None, None] * self._diagonal
        predictor = np.linalg.solve(fitted, squares[:, :-1, -1:])
        error = places[:, -1, split:] - (predictor.transpose(0, 2, 1) @ places[:, :-1, split:])[:, 0]
        return np.asarray(np.vecdot(error, error) * self._most_foretold >= energy, np.bool_)
