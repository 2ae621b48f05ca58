"""Tones that telephones know: DTMF (ITU-T Q.23), a beep, and silence. Each gives int16[n] of its own."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from agentstream.audio.fade import FADE_MS, apply_gains, falling, rising

Pcm = npt.NDArray[np.int16]

DTMF_ROWS_HZ = (697, 770, 852, 941)
DTMF_COLUMNS_HZ = (1209, 1336, 1477, 1633)
_KEYPAD = ("123A", "456B", "789C", "*0#D")
DTMF_FREQUENCIES_HZ: dict[str, tuple[int, int]] = {
    key: (DTMF_ROWS_HZ[row], DTMF_COLUMNS_HZ[column])
    for row, keys in enumerate(_KEYPAD)
    for column, key in enumerate(keys)
}


def samples_of(duration_ms: int, rate_hz: int) -> int:
    """How many whole samples a duration has."""
    return duration_ms * rate_hz // 1000


def silence(duration_ms: int, rate_hz: int = 8000) -> Pcm:
    """Zeros."""
    return np.zeros(samples_of(duration_ms, rate_hz), np.int16)


def tone(frequencies_hz: tuple[int, ...], duration_ms: int, rate_hz: int = 8000, level_dbov: float = -15.0) -> Pcm:
    """Sines of equal strength, together at ``level_dbov`` (at most -3 for one, -6 for two), with soft ends."""
    time_s = np.arange(samples_of(duration_ms, rate_hz)) / rate_hz
    # A sine of amplitude A has a power of A**2 / 2, and the powers of several add up.
    amplitude = 32768 * 10 ** (level_dbov / 20) * np.sqrt(2 / len(frequencies_hz))
    wave = np.zeros(len(time_s))
    for frequency_hz in frequencies_hz:
        wave += amplitude * np.sin(2 * np.pi * frequency_hz * time_s)
    pcm: Pcm = np.clip(np.rint(wave), -32768, 32767).astype(np.int16)
    edge = min(samples_of(FADE_MS, rate_hz), len(pcm) // 2)
    if edge:
        apply_gains(pcm[:edge], rising(edge))
        apply_gains(pcm[-edge:], falling(edge))
    return pcm


def dtmf(digit: str, duration_ms: int = 100, rate_hz: int = 8000, level_dbov: float = -12.0) -> Pcm:
    """One of ``0123456789*#ABCD``; KeyError for anything else."""
    return tone(DTMF_FREQUENCIES_HZ[digit], duration_ms, rate_hz, level_dbov)


def beep(duration_ms: int = 200, rate_hz: int = 8000, frequency_hz: int = 1000, level_dbov: float = -20.0) -> Pcm:
    """What comes before a recording."""
    return tone((frequency_hz,), duration_ms, rate_hz, level_dbov)
