"""Opus as a codec: packets, what the far end asks for, and what is lost (RFC 6716, RFC 7587)."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opuslib_next.api import decoder as reference

from agentstream.audio.codecs.opus import CODEC, LONGEST_UNITS, OpusCoder, read_parameters, units_of

RATE_HZ = 16000


def voice(seconds: float, top_hz: float = 3000.0) -> np.ndarray:
    """Something like a voice: harmonics of a gliding pitch up to ``top_hz``, in syllables; int16."""
    at = np.arange(int(seconds * RATE_HZ)) / RATE_HZ
    phase = 2 * np.pi * np.cumsum(140 + 30 * np.sin(2 * np.pi * 1.3 * at)) / RATE_HZ
    waves = [np.sin(k * phase) / k**0.5 for k in range(1, int(top_hz / 170))]
    return np.rint(3000 * np.sum(waves, axis=0) * (0.55 + 0.45 * np.sin(2 * np.pi * 4 * at))).astype(np.int16)


def packets(pcm: np.ndarray, parameters: str = "", samples: int = 320) -> list[bytes]:
    coder = OpusCoder(parameters)
    return [coder.encode(frame) for frame in pcm[: len(pcm) // samples * samples].reshape(-1, samples)]


def likeness(one: np.ndarray, other: np.ndarray) -> float:
    """The best correlation within 20 ms of delay."""
    size = min(len(one), len(other)) - 320
    return max(float(np.corrcoef(one[delay : delay + size], other[:size])[0, 1]) for delay in range(320))


@given(st.binary(max_size=12))
@settings(max_examples=200)
@pytest.mark.rfc(6716)
def test_the_length_is_what_the_library_says(payload: bytes) -> None:
    units = units_of(payload)
    if not payload:
        assert units == 0
        return
    if payload[0] & 3 == 3 and len(payload) < 2:
        assert units == 0
        return
    frames = reference.packet_get_nb_frames(payload)
    whole = frames * reference.packet_get_samples_per_frame(payload, 400)
    is_odd = payload[0] & 3 == 1 and len(payload) % 2 == 0
    assert units == (0 if whole > LONGEST_UNITS or is_odd else whole)


@pytest.mark.rfc(7587)
def test_what_sdp_says_of_it() -> None:
    assert CODEC.rtpmap == "opus/48000/2"
    assert read_parameters(CODEC.parameters) == {
        "maxplaybackrate": 16000,
        "sprop-maxcapturerate": 16000,
        "useinbandfec": 1,
    }


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", {}),
        ("useinbandfec=1", {"useinbandfec": 1}),
        (
            " UseInbandFEC = 1 ;stereo=0;; maxplaybackrate=8000",
            {"useinbandfec": 1, "stereo": 0, "maxplaybackrate": 8000},
        ),
        ("useinbandfec;cbr=yes;usedtx=-1;ptime=9999999999999", {}),
    ],
)
def test_what_an_fmtp_says(text: str, found: dict[str, int]) -> None:
    assert read_parameters(text) == found


@pytest.mark.parametrize(("samples", "least"), [(40, 0.5), (80, 0.8), (160, 0.9), (320, 0.9)])
def test_a_voice_comes_back(samples: int, least: float) -> None:
    """A frame of 2.5 ms has 7 bytes at our bit rate."""
    pcm = voice(1.0)
    there = OpusCoder()
    sent = packets(pcm, samples=samples)
    assert {units_of(payload) for payload in sent} == {samples // 40}
    heard = np.concatenate([there.decode(payload) for payload in sent])
    assert len(heard) == len(pcm)
    assert likeness(heard, pcm) > least


@pytest.mark.rfc(7587)
@pytest.mark.parametrize(
    ("parameters", "bandwidth"), [("maxplaybackrate=8000", 1101), ("maxplaybackrate=12000", 1102), ("", 1103)]
)
def test_no_more_is_sent_than_the_far_end_plays(parameters: str, bandwidth: int) -> None:
    sent = packets(voice(1.0, top_hz=7000), parameters)
    assert max(reference.packet_get_bandwidth(payload) for payload in sent[10:]) == bandwidth


@pytest.mark.rfc(7587)
def test_no_faster_than_the_far_end_wants() -> None:
    sizes = {rate: sum(map(len, packets(voice(2.0), f"maxaveragebitrate={rate}"))) for rate in (8000, 24000, 500_000)}
    assert sizes[8000] < 0.6 * sizes[24000]
    assert sizes[500_000] == sizes[24000], "ours is the bound"
    lengths = {len(payload) for payload in packets(voice(1.0), "cbr=1")}
    assert len(lengths) == 1


@pytest.mark.rfc(7587)
def test_a_copy_of_what_is_lost_is_heard_where_the_far_end_asks_for_one() -> None:
    pcm = voice(2.0)

    def likeness_of_lost(parameters: str, has_following: bool) -> float:
        sent, there = packets(pcm, parameters), OpusCoder()
        whole, lossy = OpusCoder(), []
        real = []
        for number, payload in enumerate(sent):
            original = whole.decode(payload)
            if number % 5 == 4 and number + 1 < len(sent):
                real.append(original)
                lossy.append(there.conceal(320, sent[number + 1] if has_following else b""))
            else:
                there.decode(payload)
        return float(np.corrcoef(np.concatenate(lossy), np.concatenate(real))[0, 1])

    with_copy = likeness_of_lost("useinbandfec=1", True)
    assert with_copy > 0.9
    assert with_copy > likeness_of_lost("useinbandfec=1", False) + 0.1
    assert with_copy > likeness_of_lost("", True) + 0.1, "where there is none, it is made up as well as it can be"


@given(st.lists(st.binary(max_size=60), max_size=8))
@settings(max_examples=50)
def test_any_bytes_are_some_sound_or_none(payloads: list[bytes]) -> None:
    coder = OpusCoder()
    for payload in payloads:
        pcm = coder.decode(payload)
        assert pcm.dtype == np.int16 and len(pcm) <= 1920
        assert len(coder.conceal(160, payload)) in (0, 160)
