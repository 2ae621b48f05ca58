"""Voice activity of one row, frame by frame and sample by sample, at any multiple of 8 kHz."""

from __future__ import annotations

import cmath
import itertools
import math

from agentstream.audio.activity import ActivitySettings

FRAME = 160
ORDER = 8
TWIDDLES = [cmath.exp(-2j * math.pi * i / FRAME) for i in range(FRAME)]
TAPER = [0.5 - 0.5 * math.cos(2 * math.pi * i / (FRAME - 1)) for i in range(FRAME)]


class PlainActivity:
    def __init__(self, rate_hz: int, settings: ActivitySettings) -> None:
        self.settings = settings
        self.factor = rate_hz // 8000
        self.is_speech = False
        self.windows: list[list[float]] = [[]]  # the powers of each noise window
        self.before = [0] * (rate_hz // 50)
        self.score = 0
        self.quiet_frames = 10**9

    def hear(self, frame: list[int]) -> bool:
        n = len(frame)
        total = sum(frame)
        power = (sum(x * x for x in frame) - total * total / n) / n
        if power > 0:
            self.windows[-1].append(power)
        floor = min((min(w) for w in self.windows[-2:] if w), default=2.0**62)
        if len(self.windows) == 1:
            floor = 0.0  # not known yet
        if len(self.windows[-1]) >= self.settings.noise_window_ms // 20:
            self.windows.append([])
        threshold = max(
            floor * 10 ** (self.settings.above_noise_db / 10), 32768**2 * 10 ** (self.settings.minimum_dbov / 10)
        )
        is_loud = power > threshold
        is_like = is_loud and not self.is_speech and self.is_like_speech(frame)
        self.score = self.score + 1 if is_like else max(self.score - 1, 0)
        self.quiet_frames = 0 if is_loud else self.quiet_frames + 1
        if not self.is_speech and self.score >= self.settings.start_ms // 20:
            self.is_speech = True
            self.score = 0
        if self.quiet_frames >= self.settings.hangover_ms // 20:
            self.is_speech = False
        self.before = frame
        return self.is_speech

    def is_like_speech(self, frame: list[int]) -> bool:
        both = [sum(group) / self.factor for group in zip(*[iter(self.before + frame)] * self.factor, strict=True)]
        mean = sum(both) / len(both)
        both = [x - mean for x in both]
        before, now = both[:FRAME], both[FRAME:]
        energy = sum(x * x for x in now)
        if sum(a * b for a, b in itertools.pairwise(now)) < self.settings.least_voicing * energy:
            return False
        old, new = spectrum(before), spectrum(now)
        whole = sum(old) + sum(new)
        if sum(abs(a - b) for a, b in zip(old, new, strict=True)) < self.settings.least_change * whole:
            return False
        predictor = fit(before)
        error = sum(
            (both[at] - sum(predictor[i] * both[at - ORDER + i] for i in range(ORDER))) ** 2
            for at in range(FRAME, 2 * FRAME)
        )
        return error * 10 ** (self.settings.most_foretold_db / 10) >= energy


def spectrum(frame: list[float]) -> list[float]:
    tapered = [x * w for x, w in zip(frame, TAPER, strict=True)]
    return [abs(sum(x * TWIDDLES[i * k % FRAME] for i, x in enumerate(tapered))) ** 2 for k in range(FRAME // 2 + 1)]


def fit(frame: list[float]) -> list[float]:
    """The predictor of least squares: the oldest sample's weight first."""
    places = range(ORDER, len(frame))
    rows = [
        [sum(frame[at - ORDER + i] * frame[at - ORDER + j] for at in places) for j in range(ORDER + 1)]
        for i in range(ORDER)
    ]
    more = sum(rows[i][i] for i in range(ORDER)) * 1e-6 / ORDER + 1e-3
    for i in range(ORDER):
        rows[i][i] += more
    for i in range(ORDER):  # Gauss, with the largest pivot first
        best = max(range(i, ORDER), key=lambda r: abs(rows[r][i]))
        rows[i], rows[best] = rows[best], rows[i]
        rows[i] = [x / rows[i][i] for x in rows[i]]
        for r in range(ORDER):
            if r != i:
                rows[r] = [x - rows[r][i] * y for x, y in zip(rows[r], rows[i], strict=True)]
    return [row[ORDER] for row in rows]
