"""Sound files, the stereo recording, and finding a sound again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from agentstream.cli.sound import Recording, find_in_pieces, find_sound, load_sound
from agentstream.errors import AgentstreamError


def noise(samples: int, seed: int = 1) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(samples) * 3000).astype(np.int16)


def test_what_is_heard_follows_its_timestamps_and_not_the_jitter() -> None:
    recording = Recording(100.0)
    audio = noise(480)
    recording.say(100.01, audio[:160])
    for i, late_s in enumerate((0.0, 0.013, 0.004)):
        recording.hear(100.05 + i * 0.02 + late_s, 7, 5000 + 160 * i, audio[160 * i : 160 * i + 160])
    stereo = recording.stereo()
    assert stereo.shape == (400 + 480, 2)
    assert (stereo[80:240, 0] == audio[:160]).all()
    assert (stereo[400:, 1] == audio).all()


def test_timestamps_wrap_and_another_source_begins_anew() -> None:
    recording = Recording(0.0)
    recording.hear(0.0, 7, 2**32 - 160, noise(160))
    recording.hear(0.03, 7, 0, noise(160, 2))
    recording.hear(0.5, 8, 9999, noise(160, 3))
    heard = recording.stereo()[:, 1]
    assert (heard[160:320] == noise(160, 2)).all()
    assert (heard[4000:4160] == noise(160, 3)).all()


def test_a_timestamp_that_jumps_does_not_carry_the_sound_away() -> None:
    recording = Recording(0.0)
    recording.hear(0.0, 7, 0, noise(160))
    recording.hear(0.02, 7, 8_000_000, noise(160, 2))
    assert len(recording.stereo()) == 320


def test_a_recording_is_saved_as_stereo(tmp_path: Path) -> None:
    recording = Recording(0.0)
    recording.say(0.0, noise(40_000))
    recording.save(tmp_path / "out.wav")
    samples, rate_hz = soundfile.read(tmp_path / "out.wav", dtype="int16")
    assert rate_hz == 8000 and samples.shape == (40_000, 2) and (samples[:, 0] == noise(40_000)).all()
    with pytest.raises(AgentstreamError, match="choose another file"):
        recording.save(tmp_path / "no" / "such.wav")


def test_any_rate_and_stereo_become_telephone_samples(tmp_path: Path) -> None:
    time = np.arange(48_000) / 48_000
    wave = (np.sin(2 * np.pi * 440 * time) * 8000).astype(np.int16)
    soundfile.write(tmp_path / "tone.wav", np.stack([wave, wave], axis=1), 48_000)
    audio = load_sound(tmp_path / "tone.wav")
    assert audio.dtype == np.int16 and len(audio) == 8000
    assert abs(int(np.abs(audio).max()) - 8000) < 80


def test_what_is_no_sound_file_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "text.wav").write_text("not sound")
    for name in ("text.wav", "absent.wav"):
        with pytest.raises(AgentstreamError, match=r"WAV file\.$"):
            load_sound(tmp_path / name)


def test_a_sound_is_found_where_it_recurs_and_another_is_not() -> None:
    speech = noise(8000)
    within = np.concatenate([np.zeros(1234, np.int16), speech // 2, np.zeros(500, np.int16)])
    place, likeness = find_sound(speech, within)
    assert place == 1234 and likeness > 0.999
    assert find_sound(noise(8000, 9), within)[1] < 0.3
    assert find_sound(speech, np.zeros(20_000, np.int16)) == (0, 0.0)
    assert find_sound(speech, speech[:0]) == (0, 0.0)


def test_a_sound_whose_pause_became_shorter_is_found_in_pieces() -> None:
    speech = noise(32_000)
    speech[9_000:11_000] = 0
    lead = np.zeros(1234, np.int16)
    within = np.concatenate([lead, speech[:9_000], speech[9_400:], np.zeros(500, np.int16)])
    assert find_sound(speech, within)[1] < 0.9
    place, likeness = find_in_pieces(speech, within)
    assert place == 1234 and likeness > 0.95
    assert find_in_pieces(speech, np.concatenate([lead, speech])) == (1234, pytest.approx(1.0))
    assert find_in_pieces(speech[:2000], np.concatenate([lead, speech]))[0] == 1234
    assert find_in_pieces(noise(32_000, 9), within)[1] < 0.3
    assert find_in_pieces(speech, np.zeros(40_000, np.int16)) == (0, 0.0)
    missing = np.concatenate([lead, speech[:16_000], np.zeros(16_000, np.int16)])
    assert find_in_pieces(speech, missing)[1] < 0.6
