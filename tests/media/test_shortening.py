"""Surplus is left out while the caller speaks: soon, where it is heard least, and never two blocks together."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from agentstream.audio.codecs import codec_named
from agentstream.media.arrivals import LEAST_MS
from agentstream.media.coded import BYTE, CodedRings
from agentstream.media.ring import Rings
from agentstream.media.seams import REST_TICKS, Seams

Pcm = npt.NDArray[np.int16]

BELIEF_S = 2.2
"""Until a source's surplus is believed and looked at."""


class Caller:
    """20 ms packets of a sound, each in the tick that follows the one before, and what is played of it."""

    def __init__(self, sound: Pcm, begin_ms: int = 60) -> None:
        self.rings = Rings(1)
        self.rings.open(0, begin_ms)
        self.packets = sound[: len(sound) // 160 * 160].reshape(-1, 160)
        self.played: list[Pcm] = []
        self.left_out_at: list[int] = []

    def speak(self) -> Pcm:
        out = np.zeros((1, 160), np.int16)
        for number, packet in enumerate(self.packets):
            before = int(self.rings.left_out[0])
            self.rings.insert(
                np.array([0]),
                np.array([number], np.uint16),
                np.array([number * 160], np.uint32),
                np.array([7], np.uint32),
                packet[None],
            )
            self.rings.play(1, out)
            self.played.append(out[0].copy())
            self.left_out_at += [number] * (int(self.rings.left_out[0]) - before)
        return np.concatenate(self.played)


def speech(seconds: float) -> Pcm:
    """A vowel without an end whose pitch and loudness move as a speaker's do."""
    at_s = np.arange(int(seconds * 8000)) / 8000
    phase = np.cumsum(140 + 35 * np.sin(2 * np.pi * 0.7 * at_s) + 12 * np.sin(2 * np.pi * 2.3 * at_s)) / 8000
    vowel = sum(np.sin(2 * np.pi * number * phase) / number for number in range(1, 12))
    sound: Pcm = np.rint(6000 * vowel * (0.65 + 0.35 * np.sin(2 * np.pi * 3 * at_s))).astype(np.int16)
    return sound


def noise(seconds: float) -> Pcm:
    return np.random.default_rng(4).normal(0, 6000, int(seconds * 8000)).clip(-32768, 32767).astype(np.int16)


def tone(seconds: float) -> Pcm:
    """Ten ms later it is upside down: no seam fits."""
    return np.rint(12000 * np.sin(2 * np.pi * 350 * np.arange(int(seconds * 8000)) / 8000)).astype(np.int16)


@pytest.mark.parametrize(("sound", "within_s"), [(speech, 3.2), (noise, 4.2), (tone, 4.2)])
def test_who_never_pauses_has_the_least_delay_after_seconds(sound: Callable[[float], Pcm], within_s: float) -> None:
    caller = Caller(sound(10))
    caller.speak()
    assert len(caller.left_out_at) == 4
    assert caller.left_out_at[-1] * 0.02 <= BELIEF_S + within_s
    assert caller.rings.delay_ms(0) == LEAST_MS
    assert min(np.diff(caller.left_out_at)) > REST_TICKS
    assert caller.rings.late[0] == caller.rings.concealed[0] == caller.rings.starved[0] == 0


def test_silence_is_left_out_at_once() -> None:
    caller = Caller(np.zeros(8000 * 4, np.int16))
    caller.speak()
    assert len(caller.left_out_at) == 4
    assert np.diff(caller.left_out_at).tolist() == [1, 1, 1]


def test_but_for_the_seams_every_sample_is_played_as_it_came() -> None:
    sound = noise(10)
    caller = Caller(sound)
    caller.speak()
    behind = 480  # the delay that it began with
    for number, frame in enumerate(caller.played):
        if number in caller.left_out_at:
            behind -= 80
        elif number >= 3:
            begin = number * 160 - behind
            assert frame.tolist() == sound[begin : begin + 160].tolist()
    assert behind == 160


def test_a_pause_of_thirty_ms_is_found_and_the_words_are_whole() -> None:
    """Each third of a second of noise is followed by 30 ms of one that is 50 dB weaker."""
    sound = noise(10)
    for begin in range(2640, len(sound), 2880):
        sound[begin : begin + 240] //= 300
    caller = Caller(sound)
    played = caller.speak()
    assert len(caller.left_out_at) == 4
    said = np.count_nonzero(np.abs(sound[: len(played) - 160].astype(int)) > 1000)
    assert np.count_nonzero(np.abs(played.astype(int)) > 1000) == said


def test_nothing_asked_for_is_below_what_the_moment_gives() -> None:
    """The loudness of a speaker is remembered: between words, a seam is judged by the words."""
    seams = Seams(1, 80)
    seams.forget(0)
    rows = np.array([0])
    loud, weak = noise(0.03)[None], noise(0.03)[None] // 200
    assert not seams.find(rows, loud)[0][0]
    assert seams.find(rows, weak)[0][0]
    for _ in range(REST_TICKS):
        assert not seams.find(rows, weak)[0][0]
    assert seams.find(rows, weak)[0][0]


def test_what_a_decoder_with_a_memory_plays_is_shortened_too() -> None:
    codec = codec_named("G722")
    assert codec is not None
    assert codec.make_coder is not None
    coder = codec.make_coder()
    wide = np.repeat(speech(8), 2)
    rings = CodedRings(2, 16000)
    rings.open(1, 60)
    rings.decode(1, codec.make_coder())
    played = []
    for number, packet in enumerate(wide[: len(wide) // 320 * 320].reshape(-1, 320)):
        payload = np.frombuffer(coder.encode(packet), np.uint8).astype(np.int16) + BYTE
        rings.insert(
            np.array([1]),
            np.array([number], np.uint16),
            np.array([number * 160], np.uint32),
            np.array([7], np.uint32),
            payload[None],
        )
        played.append(rings.play_decoded(2)[1].copy())
    assert rings.left_out[1] == 4
    assert rings.delay_ms(1) == LEAST_MS
    # A decoder that had missed a block would clatter: what comes 20 ms (and its own 1.4) later is what was said.
    heard = np.concatenate(played)[-32000:].astype(float)
    said = wide[len(wide) - 32000 - 320 - 22 : len(wide) - 320 - 22].astype(float)
    assert np.corrcoef(heard, said)[0, 1] > 0.98
