"""A caller's voice for tests of whole calls: recorded where there are recordings, else something like it."""

from __future__ import annotations

import numpy as np
import soundfile

from tests.audio.speech import SOUNDS, Pcm


def background(ms: int, seed: int = 1) -> Pcm:
    """The hiss of a line: int16 at 8 kHz."""
    return np.random.default_rng(seed).normal(0, 20, ms * 8).astype(np.int16)


def syllables(ms: int, seed: int = 1, strength: float = 3000.0) -> Pcm:
    """Something like speech over the hiss, with a pitch that wanders: int16 at 8 kHz."""
    time_s = np.arange(ms * 8) / 8000
    pitch = np.cumsum(140 * (1 + 0.3 * np.sin((7 + seed) * time_s))) / 8000
    wave = sum(np.sin(2 * np.pi * k * pitch) / k for k in range(1, 7))
    sound = np.rint(strength * np.abs(np.sin(2 * np.pi * 2.5 * time_s)) * wave) + background(ms, seed)
    return np.asarray(sound, np.int16)


def voice(name: str, ms: int) -> Pcm:
    """The first ms of a prompt of asterisk-core-sounds-en-wav without its lead-in; syllables without the package."""
    path = SOUNDS / f"{name}.wav"
    if not path.exists():
        return syllables(ms, seed=len(name))
    sound: Pcm = soundfile.read(path, dtype="int16")[0]
    begins = max(0, int(np.flatnonzero(np.abs(sound) > 1000)[0]) - 400)
    return np.resize(sound[begins:], ms * 8)
