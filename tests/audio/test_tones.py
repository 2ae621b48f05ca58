from __future__ import annotations

import numpy as np
import pytest

from agentstream.audio import tones
from agentstream.audio.level import SILENCE_DBOV, level_dbov, levels_dbov


def test_levels_are_relative_to_overload() -> None:
    square = np.tile(np.array([-32768, -32768], np.int16), 80)
    assert level_dbov(square) == pytest.approx(0.0)
    assert level_dbov(tones.tone((1000,), 1000, level_dbov=-10.0)) == pytest.approx(-10.0, abs=0.1)
    assert level_dbov(tones.dtmf("5", 1000)) == pytest.approx(-12.0, abs=0.1)
    assert level_dbov(tones.silence(20)) == SILENCE_DBOV
    assert level_dbov(np.zeros(0, np.int16)) == SILENCE_DBOV


def test_each_row_has_its_own_level() -> None:
    frames = np.array([[0] * 160, [32767] * 160, [3277] * 160], np.int16)
    assert levels_dbov(frames) == pytest.approx([SILENCE_DBOV, 0.0, -20.0], abs=0.01)


@pytest.mark.parametrize("rate_hz", [8000, 16000])
@pytest.mark.parametrize("digit", sorted(tones.DTMF_FREQUENCIES_HZ))
def test_a_digit_is_its_two_frequencies(digit: str, rate_hz: int) -> None:
    pcm = tones.dtmf(digit, 200, rate_hz)
    spectrum = np.abs(np.fft.rfft(pcm * np.hanning(len(pcm)), 4 * rate_hz))
    rows = [spectrum[4 * f - 80 : 4 * f + 80].max() for f in tones.DTMF_ROWS_HZ]
    columns = [spectrum[4 * f - 80 : 4 * f + 80].max() for f in tones.DTMF_COLUMNS_HZ]
    strongest = (tones.DTMF_ROWS_HZ[int(np.argmax(rows))], tones.DTMF_COLUMNS_HZ[int(np.argmax(columns))])
    assert strongest == tones.DTMF_FREQUENCIES_HZ[digit]
    assert strongest[0] < strongest[1]


def test_sixteen_keys_and_no_more() -> None:
    assert set(tones.DTMF_FREQUENCIES_HZ) == set("0123456789*#ABCD")
    with pytest.raises(KeyError):
        tones.dtmf("E")


def test_tones_begin_and_end_softly_and_have_their_length() -> None:
    pcm = tones.beep(200)
    assert (len(pcm), pcm.dtype) == (1600, np.int16)
    assert np.abs(pcm[:4]).max() < 200 > np.abs(pcm[-4:]).max()
    assert len(tones.tone((440,), 0)) == 0
    assert len(tones.silence(15, 16000)) == 240
