"""The codecs that the registry finds, and what each makes of sound."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from agentstream.audio import codecs as package
from agentstream.audio.codecs import Codec, codec_named, codecs, missing_library

EACH = ["G722", "L16", "OPUS", "PCMA", "PCMU"]
ALL = pytest.mark.parametrize("codec", codecs(), ids=[codec.name for codec in codecs()])


def tone(codec: Codec, seconds: float = 1.0) -> np.ndarray:
    at = np.arange(int(seconds * codec.rate_hz)) / codec.rate_hz
    return (8000 * np.sin(2 * np.pi * 440 * at)).astype(np.int16)


def through(codec: Codec, pcm: np.ndarray) -> np.ndarray:
    """Coded and decoded, 20 ms at a time."""
    frames = pcm.reshape(-1, codec.rate_hz // 50)
    if codec.encode is not None and codec.decode is not None:
        payloads = codec.encode(frames)
        assert payloads.shape == (len(frames), codec.frame_bytes)
        return codec.decode(payloads).reshape(-1)
    assert codec.make_coder is not None
    here, there = codec.make_coder(), codec.make_coder()
    sent = [here.encode(frame) for frame in frames]
    assert {len(payload) for payload in sent} == {codec.frame_bytes}
    return np.concatenate([there.decode(payload) for payload in sent])


def test_what_there_is() -> None:
    assert [codec.name for codec in codecs()] == EACH
    assert codec_named("PCMA") is not None
    assert codec_named("pcma") is None
    assert codec_named("") is None


@ALL
def test_either_it_has_a_memory_or_it_has_none(codec: Codec) -> None:
    assert (codec.encode is None) == (codec.decode is None) == (codec.make_coder is not None)
    assert codec.units == codec.clock_hz // 50


@ALL
def test_a_tone_comes_back(codec: Codec) -> None:
    if codec.units_of is not None:
        pytest.skip("what it changes is in tests/audio/test_opus.py")
    pcm = tone(codec)
    heard = through(codec, pcm)
    # G.722's filters take 22 samples of 16,000 a second.
    delay = 22 if codec.name == "G722" else 0
    error = heard[delay:].astype(float) - pcm[: len(pcm) - delay]
    assert len(heard) == len(pcm)
    assert np.sqrt(np.mean(error[1000:] ** 2)) < 8000 / np.sqrt(2) / 10 ** (30 / 20)


@pytest.mark.rfc(3551)
def test_l16_is_in_network_byte_order() -> None:
    codec = codec_named("L16")
    assert codec is not None and codec.encode is not None and codec.decode is not None
    pcm = np.array([[1, -2, 0x1234]], np.int16)
    assert codec.encode(pcm).tobytes() == bytes([0, 1, 0xFF, 0xFE, 0x12, 0x34])
    assert np.array_equal(codec.decode(codec.encode(pcm)), pcm)
    assert np.array_equal(codec.decode(np.array([[0, 1, 9]], np.uint8)), [[1]]), "half a sample is none"


@pytest.mark.rfc(3551)
def test_g722_counts_half_its_samples() -> None:
    codec = codec_named("G722")
    assert codec is not None
    assert (codec.payload_type, codec.clock_hz, codec.rate_hz) == (9, 8000, 16000)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """One more folder of codecs."""
    package.__path__.append(str(tmp_path))
    codecs.cache_clear()
    codec_named.cache_clear()
    yield tmp_path
    package.__path__.remove(str(tmp_path))
    codecs.cache_clear()
    codec_named.cache_clear()
    for name in [name for name in sys.modules if name.startswith(f"{package.__name__}.dropped")]:
        del sys.modules[name]


def test_a_codec_is_one_file(folder: Path) -> None:
    (folder / "dropped_in.py").write_text(
        "from agentstream.audio.codecs.codec import Codec\n"
        "CODEC = Codec('MIRROR', None, 8000, 8000, 160, lambda payloads: payloads, lambda pcm: pcm)\n"
    )
    importlib.invalidate_caches()
    assert codec_named("MIRROR") in codecs()


def test_one_without_its_library_is_not_there(folder: Path) -> None:
    (folder / "dropped_out.py").write_text("import a_library_that_nobody_has\nCODEC = None\n")
    importlib.invalidate_caches()
    assert [codec.name for codec in codecs()] == EACH


def test_one_that_says_what_it_needs(folder: Path) -> None:
    (folder / "dropped_out.py").write_text("raise ModuleNotFoundError('a library', name='library')\n")
    (folder / "dropped_in.py").write_text("CODEC = None\n")
    importlib.invalidate_caches()
    assert missing_library("DROPPED_OUT") == "a library"
    assert missing_library("DROPPED_IN") == missing_library("PCMU") == missing_library("GSM") == ""
