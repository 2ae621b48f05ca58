from __future__ import annotations

import numpy as np
import pytest

from agentstream.audio import fade


def test_ramps_are_monotonic_and_mirror_each_other() -> None:
    down = fade.falling(40)
    assert fade.UNITY > down[0] > down[-1] > 0
    assert (np.diff(down) < 0).all()
    assert fade.rising(40).tolist() == down.tolist()[::-1]


def test_gains_are_applied_in_place_without_overflow() -> None:
    pcm = np.array([-32768, 32767, 1000], np.int16)
    fade.apply_gains(pcm, np.array([fade.UNITY, fade.UNITY, fade.UNITY // 2], np.int32))
    assert pcm.tolist() == [-32768, 32767, 500]


@pytest.mark.parametrize("length", [0, 1, 39, 40, 100, 160])
def test_a_frame_ends_at_its_own_sample(length: int) -> None:
    frames = np.full((3, 160), 10000, np.int16)
    fade.TailFade(160, 40).end(frames, np.array([1]), np.array([length]))
    assert (frames[[0, 2]] == 10000).all()
    heard = frames[1]
    assert (heard[: max(0, length - 40)] == 10000).all()
    tail = heard[max(0, length - 40) : length]
    assert (np.diff(tail.astype(int)) < 0).all()
    assert tail.tolist() == (10000 * fade.falling(40)[40 - len(tail) :] >> 15).tolist()
    assert not heard[length:].any()


def test_rows_end_apart_and_clear_fades_from_the_first_sample() -> None:
    fader = fade.TailFade(160, 40)
    frames = np.full((3, 160), -10000, np.int16)
    fader.end(frames, np.array([2, 0]), np.array([160, 40]))
    cleared = np.full((3, 160), -10000, np.int16)
    fader.clear(cleared, np.array([0]))
    assert frames[0].tolist() == cleared[0].tolist()
    assert np.count_nonzero(cleared[0]) == 40 == 8 * fade.FADE_MS
    assert np.count_nonzero(frames[2]) == 160
    assert (frames[1] == -10000).all()
