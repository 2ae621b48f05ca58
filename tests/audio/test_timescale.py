from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentstream.audio import timescale
from agentstream.audio.inband import DIGITS
from tests.audio.test_inband import dialled, heard, keys
from tests.oracles.timescale import plain_leave_out, plain_seam


@given(st.sampled_from([8, 80, 160]), st.integers(1, 4), st.sampled_from([3, 300, 32767]), st.integers(0, 99))
def test_rows_equal_the_plain_one(block: int, rows: int, peak: int, seed: int) -> None:
    sound = np.random.default_rng(seed).integers(-peak - 1, peak + 1, (rows, 3 * block), dtype=np.int16)
    places, energies = timescale.find_seams(sound)
    left = timescale.leave_out(sound, places)
    for row, samples in enumerate(sound.tolist()):
        place, energy = plain_seam(samples)
        assert (int(places[row]), int(energies[row])) == (place, energy)
        assert left[row].tolist() == plain_leave_out(samples, place)


@pytest.mark.parametrize("tone_hz", [100, 200, 700])
def test_a_tone_with_whole_periods_in_ten_ms_goes_on_as_if_nothing_was_left_out(tone_hz: int) -> None:
    tone = np.rint(9000 * np.sin(2 * np.pi * tone_hz * np.arange(320) / 8000)).astype(np.int16)
    places, energies = timescale.find_seams(tone[None, :240])
    assert energies[0] == 0
    assert timescale.leave_out(tone[None, :240], places)[0].tolist() == tone[:160].tolist()


def test_what_is_left_out_is_the_pause_and_not_the_word() -> None:
    word = np.random.default_rng(1).normal(0, 5000, 240).astype(np.int16)
    for begin in range(0, 80, 8):
        sound = word.copy()
        sound[begin : begin + 160] = 0
        places, energies = timescale.find_seams(sound[None])
        assert (places[0], energies[0]) == (begin, 0)
        assert (
            timescale.leave_out(sound[None], places)[0].tolist() == np.delete(sound, np.s_[begin : begin + 80]).tolist()
        )


def test_the_ends_join_what_is_before_and_behind() -> None:
    sound = np.random.default_rng(2).normal(0, 5000, (1, 240)).astype(np.int16)
    for place in (0, 1, 40, 80):
        left = timescale.leave_out(sound, np.array([place]))[0]
        assert left[:place].tolist() == sound[0, :place].tolist()
        assert left[place + 79 :].tolist() == sound[0, place + 159 :].tolist()


def test_the_loudest_of_three_blocks() -> None:
    sound = np.repeat([[1, -7, 3]], 80, axis=1).astype(np.int16)
    assert timescale.loudest_energies(sound).tolist() == [80 * 49]


def test_one_block_fades_into_another() -> None:
    out = timescale.fade_over(np.full(80, 800, np.int16), np.zeros(80, np.int16))
    assert out.tolist() == [800 - 10 * (at + 1) for at in range(80)]


@pytest.mark.parametrize("digit", DIGITS)
def test_a_digit_as_tones_is_one_digit_whatever_is_left_out_of_it(digit: str) -> None:
    sound = dialled(digit, 80, 100, begin=1640)
    for at in range(1600, 2240, 160):
        ahead = sound[None, at : at + 240]
        left = timescale.leave_out(ahead, timescale.find_seams(ahead)[0])[0]
        assert keys(heard(np.concatenate((sound[:at], left, sound[at + 240 :])))) == digit
