"""Frame numbers in tones: they survive the filters to the bot and back, and what was lost or changed shows none."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentstream.audio.g711 import ULAW_TO_PCM
from agentstream.audio.resample import Resampler
from agentstream.cli.bench import frames, tone_codes
from agentstream.cli.bench.load import speech_frames

ROW = np.array([0])


def heard(ulaw: bytes) -> np.ndarray:
    """What a server decodes."""
    return ULAW_TO_PCM[np.frombuffer(ulaw, np.uint8)]


def there(samples: np.ndarray, rate_hz: int) -> np.ndarray:
    """Through the server's filter to the bot's rate, and as the bot notes it."""
    up = Resampler(1, 8000, rate_hz)
    return np.concatenate([up.convert(ROW, frame[None])[0] for frame in samples.reshape(-1, 160)])


def back(samples: np.ndarray, rate_hz: int) -> np.ndarray:
    down = Resampler(1, rate_hz, 8000)
    return np.concatenate([down.convert(ROW, frame[None])[0] for frame in samples.reshape(-1, rate_hz // 50)])


def numbers(samples: np.ndarray) -> list[tuple[int, int, int]]:
    """(block, call, frame) of each one that is found."""
    is_code, calls, found = frames.read_codes(tone_codes.read(samples))
    return [(int(at), int(calls[at]), int(found[at])) for at in np.flatnonzero(is_code)]


@given(st.integers(0, frames.MAX_CALLS - 1), st.integers(0, tone_codes.MAX_FRAMES - 1))
@settings(max_examples=30)
def test_a_frame_says_what_was_put_into_it(call: int, frame: int) -> None:
    assert numbers(heard(tone_codes.ulaw_of(call, frame))) == [(0, call, frame)]
    assert np.abs(tone_codes.pcm_of(call, frame, 8000)).max() < 30_000


@pytest.mark.parametrize("rate_hz", [16000, 24000])
def test_all_survive_the_filters_to_the_bot_and_back(rate_hz: int) -> None:
    said = [(call, 7919 * call % tone_codes.MAX_FRAMES) for call in range(0, 4096, 20)]
    samples = np.concatenate([np.zeros(80, np.int16), *(heard(tone_codes.ulaw_of(*one)) for one in said)])
    samples = np.concatenate([samples, np.zeros(240, np.int16)])
    wanted = [(1 + 2 * at, *one) for at, one in enumerate(said)]
    at_bot = there(samples, rate_hz)
    assert numbers(at_bot[:: rate_hz // 8000]) == wanted
    assert numbers(back(at_bot, rate_hz)) == wanted


@pytest.mark.parametrize("rate_hz", [16000, 24000])
def test_what_a_bot_says_at_its_rate_is_read_by_the_caller(rate_hz: int) -> None:
    burst = np.concatenate([tone_codes.pcm_of(2048, frame, rate_hz) for frame in (6, 7)])
    quiet = np.zeros(rate_hz // 50, np.int16)
    assert numbers(back(np.concatenate([quiet, burst, quiet]), rate_hz)) == [(2, 2048, 6), (4, 2048, 7)]


def test_what_is_lost_faded_or_blended_has_no_number() -> None:
    said = [heard(tone_codes.ulaw_of(5, frame)) for frame in range(6)]
    said[1] = np.zeros(160, np.int16)
    said[3] = (said[3] * np.linspace(1, 0, 160)).astype(np.int16)
    said[4] = ((said[4].astype(int) + said[5]) // 2).astype(np.int16)
    assert [found[2] for found in numbers(np.concatenate(said))] == [0, 2, 5]


def test_speech_silence_and_noise_have_no_number() -> None:
    assert numbers(heard(speech_frames().tobytes())) == []
    assert numbers(np.zeros(8000, np.int16)) == []
    assert numbers(np.random.default_rng(1).normal(0, 5000, 400_000).clip(-32768, 32767).astype(np.int16)) == []
    assert tone_codes.read(np.zeros(100, np.int16)).tolist() == [[0] * 8]


def test_streams_that_are_mixed_are_told_apart() -> None:
    one, other = (heard(tone_codes.ulaw_of(call, 3)).reshape(2, 80) for call in (1, 2))
    mixed = np.stack([one[0], other[0], one[1], other[1]])
    is_code, calls, _ = frames.read_codes(tone_codes.read_streams(np.array([7, 8, 7, 8]), mixed))
    assert (is_code.tolist(), calls[:2].tolist()) == ([True, True, False, False], [1, 2])
