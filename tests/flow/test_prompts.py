"""Sound files as samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from twisted.internet.defer import maybeDeferred

from agentstream.errors import AgentstreamError
from agentstream.flow.prompts import Prompts, load_sound

TONE = (8000 * np.sin(2 * np.pi * 440 * np.arange(8000) / 8000)).astype(np.int16)


def test_a_telephone_file_is_heard_as_it_is(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", TONE, 8000)
    assert np.array_equal(load_sound(tmp_path / "a.wav", 8000), TONE)


@pytest.mark.parametrize(("name", "rate_hz"), [("a.flac", 48000), ("a.ogg", 16000), ("a.wav", 44100), ("a.mp3", 24000)])
def test_other_formats_rates_and_channels(tmp_path: Path, name: str, rate_hz: int) -> None:
    tone = 0.25 * np.sin(2 * np.pi * 440 * np.arange(rate_hz) / rate_hz)
    soundfile.write(tmp_path / name, np.column_stack([tone, tone]), rate_hz)
    audio = load_sound(tmp_path / name, 8000)
    assert audio.dtype == np.int16 and audio.ndim == 1 and abs(len(audio) - 8000) <= 800
    spectrum = np.abs(np.fft.rfft(audio[1000:5000].astype(float)))
    assert abs(int(spectrum.argmax()) * 2 - 440) <= 2
    assert 7000 < np.abs(audio[1000:5000]).max() < 9500


def test_full_scale_does_not_wrap(tmp_path: Path) -> None:
    square = np.where(np.arange(48000) % 480 < 240, 1.0, -1.0)
    soundfile.write(tmp_path / "a.wav", square, 48000, subtype="FLOAT")
    audio = load_sound(tmp_path / "a.wav", 8000).astype(int)
    # Ringing at the edges is clipped, never turned over: no step exceeds the square's own.
    assert audio.max() == 32767 and audio.min() == -32768
    assert np.sum(np.abs(np.diff(audio)) > 40000) <= 2 * 200


def test_what_cannot_be_played(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_text("no sound")
    soundfile.write(tmp_path / "b.wav", np.zeros(0, np.int16), 8000)
    for name, said in (("a.wav", "no sound file"), ("b.wav", "holds no sound"), ("c.wav", "cannot be read")):
        with pytest.raises(AgentstreamError, match=said):
            load_sound(tmp_path / name, 8000)


def test_files_are_read_once_and_the_oldest_goes_first(tmp_path: Path) -> None:
    reads = []

    def defer(fn, *args):  # type: ignore[no-untyped-def]
        reads.append(args[0].name)
        return maybeDeferred(fn, *args)

    prompts = Prompts(maximum_bytes=2 * TONE.nbytes, defer=defer)
    for name in "abc":
        soundfile.write(tmp_path / f"{name}.wav", TONE, 8000)
    heard = []
    for name in "abaca":
        prompts.fetch(tmp_path / f"{name}.wav", 8000).addCallback(heard.append)
    assert reads == ["a.wav", "b.wav", "c.wav"] and len(heard) == 5
    prompts.fetch(tmp_path / "b.wav", 8000)
    assert reads[3:] == ["b.wav"]
    assert not heard[0].flags.writeable
    prompts.forget()
    prompts.load(tmp_path / "a.wav", 8000)
    prompts.fetch(tmp_path / "a.wav", 8000)
    assert len(reads) == 4
