"""The resampler against its own definition, by frequency and by impulse."""

from __future__ import annotations

import numpy as np
import pytest

from agentstream.audio.resample import Resampler, lowpass

RATES = [16000, 24000]
ROW = np.array([1])


def run(resampler: Resampler, sound: np.ndarray) -> np.ndarray:
    frames = sound.reshape(-1, resampler.frame_in)
    return np.concatenate([resampler.convert(ROW, frame[None])[0] for frame in frames])


def sine(hertz: float, rate_hz: int, seconds: float = 0.4, amplitude: float = 12000) -> np.ndarray:
    return np.rint(amplitude * np.sin(2 * np.pi * hertz * np.arange(int(rate_hz * seconds)) / rate_hz)).astype(np.int16)


def level_db(sound: np.ndarray, hertz: float, rate_hz: int) -> float:
    """The level of one frequency in the middle of a sound, by projection."""
    middle = sound[len(sound) // 4 : -len(sound) // 4].astype(float)
    at = np.exp(-2j * np.pi * hertz * np.arange(len(middle)) / rate_hz)
    return float(20 * np.log10(2 * abs(np.mean(middle * at)) + 1e-9))


@pytest.mark.parametrize("high_hz", RATES)
@pytest.mark.parametrize("hertz", [100, 300, 1000, 2000, 3000, 3400])
def test_there_and_back_is_flat_to_3400_hz(high_hz: int, hertz: int) -> None:
    up, down = Resampler(4, 8000, high_hz), Resampler(4, high_hz, 8000)
    sound = sine(hertz, 8000)
    raised = run(up, sound)
    assert abs(level_db(raised, hertz, high_hz) - level_db(sound, hertz, 8000)) < 0.25
    back = run(down, raised)
    assert abs(level_db(back, hertz, 8000) - level_db(sound, hertz, 8000)) < 0.5


@pytest.mark.parametrize("high_hz", RATES)
def test_images_and_aliases_are_down(high_hz: int) -> None:
    up, down = Resampler(2, 8000, high_hz), Resampler(2, high_hz, 8000)
    assert level_db(run(up, sine(3000, 8000)), 5000, high_hz) < 20 * np.log10(12000) - 50
    assert level_db(run(down, sine(5200, high_hz)), 2800, 8000) < 20 * np.log10(12000) - 50


@pytest.mark.parametrize("high_hz", RATES)
def test_the_delay_is_what_it_says_and_frames_join(high_hz: int) -> None:
    up, down = Resampler(2, 8000, high_hz), Resampler(2, high_hz, 8000)
    sound = np.random.default_rng(3).normal(0, 4000, 8000).clip(-30000, 30000)
    smooth = np.convolve(sound, np.ones(4) / 4, "same").astype(np.int16)
    back = run(down, run(up, smooth)).astype(float)
    lag = int(np.argmax(np.correlate(back, smooth.astype(float), "full"))) - (len(smooth) - 1)
    assert abs(lag / 8 - (up.delay_ms + down.delay_ms)) <= 0.125
    whole = lowpass(high_hz)
    stuffed = np.zeros(len(smooth) * high_hz // 8000)
    stuffed[:: high_hz // 8000] = smooth * (high_hz // 8000)
    wanted = np.convolve(stuffed, whole)[: len(stuffed)]
    up.reset(ROW)
    assert np.abs(run(up, smooth) - wanted).max() <= 1.0


def test_rows_do_not_hear_each_other() -> None:
    resampler = Resampler(3, 8000, 16000)
    loud = np.full((1, 160), 20000, np.int16)
    resampler.convert(np.array([0]), loud)
    assert not resampler.convert(np.array([2]), np.zeros((1, 160), np.int16)).any()
    assert not resampler.is_quiet(np.array([0])).any()
    resampler.reset(np.array([0]))
    assert resampler.is_quiet(np.array([0])).all()
    assert not resampler.convert(np.array([0]), np.zeros((1, 160), np.int16)).any()


def test_it_clips_and_does_not_wrap() -> None:
    resampler = Resampler(1, 8000, 16000)
    square = np.where(np.arange(160) // 8 % 2, 32767, -32768).astype(np.int16)[None]
    out = resampler.convert(np.array([0]), square)
    assert np.abs(np.diff(out.astype(int))).max() < 65000
