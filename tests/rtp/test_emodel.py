"""The E-model against published figures."""

from __future__ import annotations

import pytest

from agentstream.rtp import emodel


@pytest.mark.parametrize(
    ("r", "score"),
    # ITU-T G.107 annex B, table B.1; the ends of its equation.
    [(90, 4.34), (80, 4.03), (70, 3.60), (60, 3.10), (50, 2.58), (0, 1.0), (-20, 1.0), (100, 4.5), (120, 4.5)],
)
def test_the_score_of_a_rating(r: float, score: float) -> None:
    assert emodel.opinion(r) == pytest.approx(score, abs=0.01)


def test_no_score_is_below_one() -> None:
    assert all(1.0 <= emodel.opinion(r / 10) <= 4.5 for r in range(-50, 1100))


@pytest.mark.parametrize(
    ("delay_ms", "impairment"),
    # 0.024 d + 0.11 (d - 177.3) H(d - 177.3), worked out by hand.
    [(0, 0.0), (100, 2.4), (150, 3.6), (200, 7.297), (250, 13.997), (300, 20.697), (400, 34.097)],
)
def test_delay_costs(delay_ms: float, impairment: float) -> None:
    assert emodel.DEFAULT_R - emodel.rating(delay_ms, 0.0) == pytest.approx(impairment, abs=0.001)


@pytest.mark.parametrize(
    ("codec", "loss_percent", "impairment"),
    # Ie,eff = Ie + (95 - Ie) * Ppl / (Ppl / BurstR + Bpl) with the values of G.113 appendix I.
    [
        (emodel.CONCEALED_G711, 0, 0.0),
        (emodel.CONCEALED_G711, 1, 3.64),
        (emodel.CONCEALED_G711, 5, 15.78),
        (emodel.BARE_G711, 1, 17.92),
        (emodel.BARE_G711, 5, 51.08),
        (emodel.G729A, 0, 11.0),
        (emodel.G729A, 2, 19.0),
    ],
)
def test_loss_costs(codec: emodel.Impairment, loss_percent: float, impairment: float) -> None:
    assert emodel.DEFAULT_R - emodel.rating(0.0, loss_percent, codec) == pytest.approx(impairment, abs=0.01)


def test_bursts_cost_more_than_random_loss() -> None:
    random = emodel.rating(50, 5.0)
    assert emodel.rating(50, 5.0, burst_ratio=2.0) < random


def test_a_clean_call_is_as_good_as_the_telephone_gets() -> None:
    assert emodel.mean_opinion_score(0, 0, "PCMA") == pytest.approx(4.41, abs=0.005)
    assert emodel.mean_opinion_score(80, 3, "PCMU") == pytest.approx(4.05, abs=0.05)
    assert emodel.mean_opinion_score(0, 0, "somebody's") == emodel.mean_opinion_score(0, 0, "PCMU")
