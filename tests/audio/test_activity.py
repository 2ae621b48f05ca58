from __future__ import annotations

import tracemalloc

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentstream.audio.activity import Activity, ActivitySettings
from agentstream.audio.level import levels_dbov
from agentstream.audio.tones import dtmf, silence, tone
from tests.audio.speech import Pcm, coded, recorded, with_noise
from tests.oracles.activity import PlainActivity

FRAME = 160
PROMPTS = ["agent-alreadyon", "demo-congrats", "tt-allbusy", "vm-intro", "queue-periodic-announce"]


def flags(sound: Pcm, **of_settings: float) -> list[bool]:
    """The flag of each frame of one row."""
    activity = Activity(1, settings=ActivitySettings(**of_settings))  # type: ignore[arg-type]
    frames = sound[: len(sound) // FRAME * FRAME].reshape(-1, 1, FRAME)
    return [bool(activity.hear(frame)[0]) for frame in frames]


def starts(sound: Pcm) -> int:
    heard = flags(sound)
    return sum(now and not before for before, now in zip([False, *heard], heard, strict=False))


def notes(*chords: tuple[int, ...], each_ms: int = 250) -> npt.NDArray[np.float64]:
    """5 s of chords, one after the other without a pause."""
    time_s = np.arange(each_ms * 8) / 8000
    each = [sum(3000 * np.sin(2 * np.pi * hz * time_s) for hz in chord) for chord in chords]
    return np.resize(np.concatenate(each), 40_000)


KINDS = ["silence", "constant", "noise", "hiss", "voice", "tone", "chord"]


@st.composite
def sounds(draw: st.DrawFn, samples: int) -> Pcm:
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    pieces = []
    for kind in draw(st.lists(st.sampled_from(KINDS), min_size=2)):
        n = samples * draw(st.integers(1, 12))
        time_s = np.arange(n) / (50 * samples)
        strength = 10 ** random.uniform(0.5, 4.2)
        if kind == "noise":
            piece = np.convolve(random.normal(0, strength, n), np.ones(6) / 6, "same")
        elif kind == "hiss":
            piece = random.normal(0, strength, n)
        elif kind == "voice":
            pitch = np.cumsum(random.uniform(80, 300) * (1 + 0.3 * np.sin(9 * time_s))) / (50 * samples)
            piece = strength * sum(np.sin(2 * np.pi * k * pitch) / k for k in range(1, 7))
        elif kind in ("tone", "chord"):
            hz = random.uniform(200, 1700, 1 if kind == "tone" else 3)
            piece = strength * np.sin(2 * np.pi * hz[:, None] * time_s).sum(axis=0)
        else:
            piece = np.full(n, 8.0 if kind == "constant" else 0.0)
        pieces.append(piece)
    return np.clip(np.rint(np.concatenate(pieces)), -32768, 32767).astype(np.int16)


@settings(max_examples=25)
@given(st.data(), st.sampled_from([8000, 8000, 16000]))
def test_rows_equal_the_plain_detector(data: st.DataObject, rate_hz: int) -> None:
    chosen = ActivitySettings(noise_window_ms=200, hangover_ms=100)
    samples = rate_hz // 50
    heard = [data.draw(sounds(samples)) for _ in range(3)]
    length = min(len(sound) for sound in heard) // samples
    activity, plain = Activity(3, rate_hz, chosen), [PlainActivity(rate_hz, chosen) for _ in heard]
    frames = np.stack([sound[: length * samples].reshape(length, samples) for sound in heard], axis=1)
    out = np.zeros(3, np.bool_)
    for frame in frames:
        assert activity.hear(frame, out) is out
        assert out.tolist() == [one.hear(row.tolist()) for one, row in zip(plain, frame, strict=True)]


def test_levels_are_those_of_the_last_frame() -> None:
    activity = Activity(3)
    frames = np.stack([tone((500,), 20), silence(20), np.full(FRAME, 900, np.int16)])
    activity.hear(frames)
    frames[2] = 0  # a constant part is no sound
    assert activity.levels_dbov(np.zeros(3)).tolist() == pytest.approx(levels_dbov(frames).tolist(), abs=0.05)


@pytest.mark.parametrize("name", PROMPTS)
@pytest.mark.parametrize("snr_db", [60, 20, 10])
def test_speech_is_found_and_the_noise_before_it_is_not(name: str, snr_db: int) -> None:
    speech = recorded(name).astype(np.float64)
    sound = with_noise(np.concatenate((np.zeros(24_000), speech, np.zeros(16_000))), snr_db)
    heard = flags(sound)
    frames = speech[: len(speech) // FRAME * FRAME].reshape(-1, FRAME)
    is_spoken = levels_dbov(frames.astype(np.int16)) > -36
    begin, end = np.flatnonzero(is_spoken)[[0, -1]] + 150
    assert not any(heard[:150])
    assert 0 <= heard.index(True) - begin <= 15
    assert np.mean(np.array(heard[150 : 150 + len(frames)])[is_spoken]) > 0.8
    assert not any(heard[end + 25 :])


SOUNDS_THAT_ARE_NO_SPEECH = {
    "silence": np.zeros(40_000),
    "hiss": np.random.default_rng(1).normal(0, 800, 40_000),
    "hiss that begins": np.concatenate((np.zeros(20_000), np.random.default_rng(1).normal(0, 3000, 40_000))),
    "digits": np.concatenate([np.concatenate((dtmf(d, 100), silence(60))) for d in "0123456789*#ABCD"]),
    "loud short digits": np.concatenate([np.concatenate((dtmf(d, 50, 8000, -6), silence(50))) for d in "0123456789*#"]),
    "dial tone": tone((425,), 5000),
    "ringing": np.concatenate((tone((440, 480), 2000), silence(2000), tone((440, 480), 2000))),
    "busy": np.resize(np.concatenate((tone((480, 620), 500), silence(500))), 40_000),
    "a melody": notes((262,), (330,), (392,), (523,)),
    "thirds": notes((262, 330), (294, 349), (330, 392)),
    "triads": notes((262, 330, 392), (294, 349, 440), each_ms=500),
}


@pytest.mark.parametrize("name", SOUNDS_THAT_ARE_NO_SPEECH)
def test_what_is_no_speech_starts_none(name: str) -> None:
    assert starts(coded(SOUNDS_THAT_ARE_NO_SPEECH[name])) == 0


@pytest.mark.parametrize("name", ["digits", "dial tone", "busy", "a melody"])
@pytest.mark.parametrize("snr_db", [20, 10])
def test_tones_with_noise_start_none(name: str, snr_db: int) -> None:
    assert starts(with_noise(SOUNDS_THAT_ARE_NO_SPEECH[name], snr_db)) == 0


@pytest.mark.parametrize("name", PROMPTS)
def test_the_echo_of_the_bot_starts_none(name: str) -> None:
    bot = recorded(name)
    assert starts(bot) >= 1
    assert starts(coded(bot * 10 ** (-30 / 20))) == 0


def test_noise_that_grows_is_noise_after_two_windows() -> None:
    random = np.random.default_rng(2)
    rumble = np.convolve(random.normal(0, 4000, 48_000), np.ones(8) / 8, "same")
    heard = flags(coded(np.concatenate((rumble[:16_000] / 100, rumble))))
    assert any(heard)
    assert not any(heard[100 + (2 * 800 + 300) // 20 + 2 :])


def test_a_row_that_was_reset_knows_nothing_of_the_call_before() -> None:
    speech = recorded("demo-congrats")
    frames = speech[: 300 * FRAME].reshape(-1, FRAME)
    used, new = Activity(2), Activity(2)
    for frame in frames:
        used.hear(np.stack((frame, frame)))
    assert used.is_speech.all()
    used.reset(np.array([0]))
    assert used.is_speech.tolist() == [False, True]
    for frame in frames:
        both = np.stack((frame, frame))
        assert used.hear(both)[0] == new.hear(both)[0]


def test_no_start_allocates_nothing() -> None:
    activity, frames, out = Activity(800), np.ones((800, FRAME), np.int16), np.zeros(800, np.bool_)
    frames[:, ::2] = -1
    activity.hear(frames, out)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        for _ in range(60):
            activity.hear(frames, out)
        # Views only: one flag a row would be 800 bytes more, one number a row 6,400.
        assert tracemalloc.get_traced_memory()[1] - before < 2500
    finally:
        tracemalloc.stop()
