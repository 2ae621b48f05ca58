from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentstream.audio.inband import DIGITS, InbandDigit, InbandDtmf, InbandSettings
from agentstream.audio.tones import DTMF_FREQUENCIES_HZ, dtmf, silence, tone
from tests.audio.speech import Pcm, all_recorded, coded, recorded, with_noise
from tests.oracles.inband import PlainInband

FRAME = 160
ROW = np.array([0])
LEVELS_DBOV = [-30, -20, -12, -6, 0]


def heard(sound: Pcm, rate_hz: int = 8000) -> list[InbandDigit]:
    """The digits of one row that is silent afterwards."""
    frame = rate_hz // 50
    frames = np.concatenate((sound, np.zeros(4 * frame + -len(sound) % frame, np.int16))).reshape(-1, 1, frame)
    inband = InbandDtmf(1, rate_hz)
    return [digit for each in frames for digit in inband.hear(each, ROW)]


def dialled(digits: str, on_ms: int, gap_ms: int, level_dbov: float = -12, rate_hz: int = 8000, begin: int = 0) -> Pcm:
    pieces = [np.zeros(begin, np.int16)]
    for digit in digits:
        pieces += [dtmf(digit, on_ms, rate_hz, level_dbov), silence(gap_ms, rate_hz)]
    return np.concatenate(pieces)


def keys(digits: list[InbandDigit]) -> str:
    return "".join(digit.digit for digit in digits)


def pair(row_hz: float, column_hz: float, on_ms: int = 60, twist_db: float = 0.0) -> Pcm:
    """Two tones without soft ends, the column's ``twist_db`` stronger; and 60 ms of silence."""
    time_s = np.arange(on_ms * 8) / 8000
    wave = 4000 * np.sin(2 * np.pi * row_hz * time_s)
    wave += 4000 * 10 ** (twist_db / 20) * np.sin(2 * np.pi * column_hz * time_s + 1)
    return coded(np.concatenate((wave, np.zeros(480))))


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.sampled_from([8000, 8000, 16000]))
def test_rows_equal_the_plain_detector(seed: int, rate_hz: int) -> None:
    random = np.random.default_rng(seed)
    block = rate_hz // 100
    sounds = []
    for _ in range(3):
        pieces = []
        for _ in range(4):
            time_s = np.arange(random.integers(block, 8 * block)) / rate_hz
            off = random.uniform(-0.03, 0.03)
            row_hz, column_hz = list(DTMF_FREQUENCIES_HZ.values())[random.integers(16)]
            strength = 10 ** random.uniform(2, 4.8)
            wave = np.sin(2 * np.pi * row_hz * (1 + off) * time_s)
            wave += 10 ** (random.uniform(-9, 7) / 20) * np.sin(2 * np.pi * column_hz * (1 + off) * time_s)
            wave += random.choice([0, 0.3, 0.6]) * np.sin(4 * np.pi * row_hz * time_s)
            wave += random.normal(0, random.choice([0.01, 0.3]), len(time_s))
            pieces += [strength * wave, np.zeros(random.integers(0, 5 * block))]
        sounds.append(np.concatenate(pieces)[: 16 * block])
    length = min(map(len, sounds)) // (2 * block)
    frames = np.zeros((length + 3, 3, 2 * block), np.int16)
    for row, sound in enumerate(sounds):
        whole = np.clip(np.rint(sound[: length * 2 * block]), -32768, 32767)
        frames[:length, row] = whole.reshape(length, 2 * block)
    inband, plain = InbandDtmf(5, rate_hz), [PlainInband(rate_hz, InbandSettings()) for _ in sounds]
    rows = np.array([4, 0, 3])
    digits: dict[int, list[tuple[str, int]]] = {row: [] for row in rows.tolist()}
    for frame in frames:
        for digit in inband.hear(frame, rows):
            digits[digit.row].append((digit.digit, digit.duration_ms))
        for one, samples in zip(plain, frame, strict=True):
            one.hear(samples.tolist())
    assert list(digits.values()) == [one.digits for one in plain]


@pytest.mark.parametrize("level_dbov", LEVELS_DBOV)
@pytest.mark.parametrize(("on_ms", "gap_ms"), [(40, 40), (50, 20), (50, 50), (100, 30)])
def test_every_digit_is_found_once(level_dbov: float, on_ms: int, gap_ms: int) -> None:
    for begin in (0, 37, 71):
        found = heard(coded(dialled(DIGITS, on_ms, gap_ms, level_dbov, begin=begin)))
        assert keys(found) == DIGITS
        assert all(-10 <= digit.duration_ms - on_ms <= 10 for digit in found)


@pytest.mark.parametrize("level_dbov", LEVELS_DBOV)
@pytest.mark.parametrize(("on_ms", "gap_ms"), [(40, 40), (50, 20)])
def test_noise_15_db_below_hides_none(level_dbov: float, on_ms: int, gap_ms: int) -> None:
    for seed in range(3):
        sound = dialled(DIGITS, on_ms, gap_ms, level_dbov, begin=50 * seed)
        assert keys(heard(with_noise(sound, 15, seed))) == DIGITS


@pytest.mark.parametrize("rate_hz", [16000, 24000])
def test_other_rates(rate_hz: int) -> None:
    assert keys(heard(dialled(DIGITS, 60, 40, rate_hz=rate_hz), rate_hz)) == DIGITS


def test_the_same_digit_twice_is_two_and_a_short_hole_is_none() -> None:
    assert keys(heard(dialled("7799", 50, 40))) == "7799"
    sound = dtmf("5", 200)
    sound[800:880] = 0
    assert [(digit.digit, digit.duration_ms) for digit in heard(sound)] == [("5", 200)]


def test_a_digit_is_reported_when_it_has_ended() -> None:
    inband, frames = InbandDtmf(1), dtmf("4", 2000).reshape(-1, 1, FRAME)
    assert not any(inband.hear(frame, ROW) for frame in frames)
    after = [inband.hear(np.zeros((1, FRAME), np.int16), ROW) for _ in range(4)]
    assert [digit for each in after for digit in each] == [InbandDigit(0, "4", 2000)]


@pytest.mark.parametrize(
    ("row_off", "twist_db", "on_ms", "is_digit"),
    [
        (0.0, 0.0, 60, True),
        (0.015, 0.0, 60, True),  # Q.24: must be accepted
        (-0.015, 0.0, 60, True),
        (0.035, 0.0, 60, False),  # Q.24: must be rejected
        (-0.035, 0.0, 60, False),
        (0.0, 4.0, 60, True),
        (0.0, 8.0, 60, False),
        (0.0, -7.0, 60, True),
        (0.0, -10.0, 60, False),
        (0.0, 0.0, 40, True),
        (0.0, 0.0, 15, False),
    ],
)
def test_what_counts(row_off: float, twist_db: float, on_ms: int, is_digit: bool) -> None:
    for digit, (row_hz, column_hz) in DTMF_FREQUENCIES_HZ.items():
        found = heard(pair(row_hz * (1 + row_off), column_hz, on_ms, twist_db))
        assert keys(found) == (digit if is_digit else "")


@pytest.mark.parametrize("harmonic", [0.2, 0.6])
def test_a_second_harmonic_is_a_voice(harmonic: float) -> None:
    """With everything else relaxed, it alone decides."""
    time_s = np.arange(800) / 8000
    wave = np.sin(2 * np.pi * 941 * time_s) + np.sin(2 * np.pi * 1336 * time_s)
    wave += harmonic * np.sin(2 * np.pi * 1882 * time_s)
    inband = InbandDtmf(1, settings=InbandSettings(least_share=0.5))
    frames = np.concatenate((8000 * wave, np.zeros(800))).astype(np.int16).reshape(-1, 1, FRAME)
    found = [digit for frame in frames for digit in inband.hear(frame, ROW)]
    assert keys(found) == ("0" if harmonic < 0.5 else "")


@pytest.mark.parametrize("hz", [(697,), (1209,), (440, 480), (350, 440), (480, 620), (941, 1400), (1400, 2060)])
def test_other_tones_are_no_digits(hz: tuple[int, ...]) -> None:
    assert heard(coded(tone(hz, 1000))) == []


@pytest.mark.parametrize("name", ["demo-congrats", "demo-instruct", "vm-options"])
def test_speech_is_no_digits(name: str) -> None:
    speech = recorded(name)
    for snr_db in (60, 20):
        assert heard(with_noise(speech, snr_db)) == []


@pytest.mark.slow  # 82 minutes of speech where all languages are installed
@pytest.mark.parametrize("snr_db", [60, 20])
def test_an_hour_of_speech_has_at_most_two_false_digits(snr_db: float) -> None:
    rows = 100
    speech = with_noise(all_recorded(rows), snr_db)
    hours = speech.size / 8000 / 3600
    assert hours > 0.4
    inband, every = InbandDtmf(rows), np.arange(rows)
    frames = speech[:, : speech.shape[1] // FRAME * FRAME].reshape(rows, -1, FRAME)
    false = [digit for at in range(frames.shape[1]) for digit in inband.hear(frames[:, at], every)]
    assert len(false) <= 2 * hours


def test_a_row_that_was_reset_reports_nothing_of_the_call_before() -> None:
    inband = InbandDtmf(2)
    both = np.array([0, 1])
    for frame in dtmf("8", 100).reshape(-1, FRAME):
        inband.hear(np.stack((frame, frame)), both)
    inband.reset(np.array([0]))
    ended = [digit for _ in range(4) for digit in inband.hear(np.zeros((2, FRAME), np.int16), both)]
    assert ended == [InbandDigit(1, "8", 100)]
