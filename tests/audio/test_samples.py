"""The sounds that are shipped are what a telephone can carry, and loud enough to be heard."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import pytest

import agentstream.samples
from agentstream.audio.level import level_dbov


@pytest.mark.parametrize(("name", "shortest_s", "longest_s"), [("welcome", 2, 4), ("sorry", 3, 7), ("speech", 7, 10)])
def test_sounds_are_speech_at_telephone_rate(name: str, shortest_s: float, longest_s: float) -> None:
    with wave.open(str(Path(agentstream.samples.__path__[0]) / f"{name}.wav")) as sound:
        assert (sound.getnchannels(), sound.getsampwidth(), sound.getframerate()) == (1, 2, 8000)
        pcm = np.frombuffer(sound.readframes(sound.getnframes()), "<i2").astype(np.int16)
    assert shortest_s <= len(pcm) / 8000 <= longest_s
    assert level_dbov(pcm) == pytest.approx(-23, abs=0.5)
    assert np.abs(pcm.astype(int)).max() < 32767
