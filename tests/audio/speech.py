"""Recorded speech for tests of detectors, and what disturbs it."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile

from agentstream.audio.g711 import PCM_TO_ULAW, ULAW_TO_PCM

Pcm = npt.NDArray[np.int16]

SOUNDS = Path("/usr/share/asterisk/sounds/en_US_f_Allison")
"""Recorded speech, 8 kHz mono WAV (Debian's asterisk-core-sounds-en-wav)."""

LANGUAGES = ("en_US_f_Allison", "es_MX_f_Allison", "fr_CA_f_June")
"""Debian's asterisk-core-sounds-en-wav, -es-wav and -fr-wav: 25, 31 and 26 minutes."""


def recorded(name: str) -> Pcm:
    """One prompt; without the package the test is skipped, or fails where peers are required."""
    path = SOUNDS / f"{name}.wav"
    if not path.exists():
        sentence = f"Missing here: {path}."
        if os.environ.get("AGENTSTREAM_REQUIRE_PEERS") == "1":
            pytest.fail(sentence, pytrace=False)
        pytest.skip(sentence)
    sound: Pcm = soundfile.read(path, dtype="int16")[0]
    return sound


def all_recorded(rows: int) -> Pcm:
    """Every prompt of every language that is installed, one after the other: int16[rows, samples]."""
    recorded("demo-congrats")
    prompts = [path for language in LANGUAGES for path in sorted((SOUNDS.parent / language).rglob("*.wav"))]
    sound = np.concatenate([soundfile.read(path, dtype="int16")[0] for path in prompts])
    return sound[: len(sound) // rows * rows].reshape(rows, -1)


def with_noise(sound: npt.ArrayLike, snr_db: float, seed: int = 1) -> Pcm:
    """White noise ``snr_db`` below the mean power of the sound, and G.711 over both."""
    clean = np.asarray(sound, np.float64)
    spread = np.sqrt(np.mean(clean**2) / 10 ** (snr_db / 10))
    return coded(clean + np.random.default_rng(seed).normal(0, spread, clean.shape))


def coded(sound: npt.ArrayLike) -> Pcm:
    """What is left of it after G.711."""
    whole = np.clip(np.rint(np.asarray(sound, np.float64)), -32768, 32767).astype(np.int16)
    return ULAW_TO_PCM[PCM_TO_ULAW[whole.view(np.uint16)]]
