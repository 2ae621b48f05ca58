"""Comfort noise: its level, its spectrum, and that it has no seam (RFC 3389)."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentstream.audio.comfort import LENGTH, ComfortNoise, predictor
from agentstream.audio.level import level_dbov
from tests.oracles.comfort import lattice

pytestmark = pytest.mark.rfc(3389)

ROW = np.array([1])


def noise(payload: bytes, blocks: int = 100) -> np.ndarray:
    made = ComfortNoise(3, 80)
    made.shape(1, payload)
    return np.concatenate([made.take(ROW)[0] for _ in range(blocks)])


@given(st.lists(st.floats(-0.9, 0.9), max_size=10))
@settings(max_examples=30)
def test_the_model_is_that_of_the_lattice(reflections: list[float]) -> None:
    polynomial = predictor(np.array(reflections))
    impulse = [1.0] + [0.0] * 40
    response = lattice(impulse, reflections)
    # The filter undoes itself: its response, filtered by A(z), is the impulse again.
    assert np.allclose(np.convolve(response, polynomial)[:41], impulse, atol=1e-6)


@pytest.mark.parametrize("level", [20, 45, 60, 80])
def test_the_level_is_the_one_told(level: int) -> None:
    assert level_dbov(noise(bytes([level]))) == pytest.approx(-level, abs=1.0)
    assert level_dbov(noise(bytes([level, 60, 150, 200]))) == pytest.approx(-level, abs=1.0)


@pytest.mark.parametrize(("level", "loudest"), [(0, 0), (127, 0), (255, 0)])
def test_the_ends_of_the_scale(level: int, loudest: int) -> None:
    heard = noise(bytes([level]))
    assert (np.abs(heard.astype(int)).max() > 30000) == (level == 0), "the highest bit says nothing"


@pytest.mark.parametrize(("quantised", "is_low"), [(20, True), (234, False), (127, None)])
def test_the_spectrum_is_the_one_told(quantised: int, is_low: bool | None) -> None:
    """A first coefficient of -1 is what low frequencies have (k1 = -R(1) / R(0))."""
    power = np.abs(np.fft.rfft(noise(bytes([30, quantised])).astype(float))) ** 2
    low, high = power[: len(power) // 2].sum(), power[len(power) // 2 :].sum()
    if is_low is None:
        assert low == pytest.approx(high, rel=0.1)
    else:
        assert (low > 10 * high) if is_low else (high > 10 * low)


def test_it_has_neither_a_seam_nor_a_tone() -> None:
    heard = noise(bytes([30]), blocks=2 * LENGTH // 80).astype(float)
    steps = np.abs(np.diff(heard))
    assert steps[LENGTH - 3 : LENGTH + 3].max() <= np.delete(steps, range(LENGTH - 3, LENGTH + 3)).max()
    assert np.array_equal(heard[:80], heard[LENGTH : LENGTH + 80])
    power = np.abs(np.fft.rfft(heard[:LENGTH])) ** 2
    assert power.max() < 1.2 * np.median(power)


@given(st.binary(min_size=1, max_size=300))
@settings(max_examples=30)
def test_any_payload_is_some_noise(payload: bytes) -> None:
    heard = noise(payload, blocks=LENGTH // 80)
    assert level_dbov(heard) <= 0
    assert np.isfinite(heard).all()


def test_coefficients_that_cancel_out_are_some_noise() -> None:
    """A denominator that is zero somewhere: a mistake of the far end's, which must not become ours."""
    chance = np.random.default_rng(1)
    for _ in range(100):
        sound = noise(bytes([10, *chance.choice([0, 255], 24).tolist()]), 2)
        assert sound.any()


def test_another_call_has_none_of_it() -> None:
    made = ComfortNoise(3, 80)
    made.shape(1, bytes([20]))
    made.reset(1)
    assert not made.take(ROW).any()
    made.shape(1, bytes([20]))
    assert made.take(ROW).any()
