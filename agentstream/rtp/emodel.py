"""How good a call sounds, from what its network does: the E-model (ITU-T G.107), with everything that we cannot measure
at its default.

    R = 93.2 - Id(delay) - Ie,eff(codec, loss)

93.2 is what the default values leave of the signal-to-noise ratio. Id is the fit of Cole and Rosenbluth ("Voice over IP
performance monitoring", 2001) to G.107's curve with its default echo loss. Ie,eff is that of G.107 section 7.5.
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs

DEFAULT_R = 93.2
KNEE_MS = 177.3
"""One-way delay from which it disturbs the conversation itself."""


@attrs.frozen
class Impairment:
    """What a codec costs (ITU-T G.113 appendix I).

    :ivar ie: equipment impairment factor without loss. :ivar bpl: packet loss robustness; more is better.
    """

    ie: float
    bpl: float


CONCEALED_G711 = Impairment(0.0, 25.1)
"""G.711 whose losses are concealed as in its appendix I."""

BARE_G711 = Impairment(0.0, 4.3)
"""G.711 whose losses are silence."""

G729A = Impairment(11.0, 19.0)

CODECS: Mapping[str, Impairment] = {"PCMU": CONCEALED_G711, "PCMA": CONCEALED_G711, "G729": G729A}
"""By encoding name. The scale is of narrow-band telephony: a codec that G.113 does not have on it counts as G.711."""


def impairment_of(codec: str) -> Impairment:
    """What this encoding costs."""
    return CODECS.get(codec, CONCEALED_G711)


def rating(
    delay_ms: float, loss_percent: float, impairment: Impairment = CONCEALED_G711, burst_ratio: float = 1.0
) -> float:
    """The transmission rating factor R.

    :param delay_ms: one way, from mouth to ear. :param loss_percent: packets lost or too late, 0 to 100.
    :param burst_ratio: 1 for random loss, more where it comes in bursts.
    """
    delayed = 0.024 * delay_ms + 0.11 * max(0.0, delay_ms - KNEE_MS)
    if loss_percent <= 0:
        return DEFAULT_R - delayed - impairment.ie
    lossy = (95.0 - impairment.ie) * loss_percent / (loss_percent / burst_ratio + impairment.bpl)
    return DEFAULT_R - delayed - impairment.ie - lossy


def opinion(r: float) -> float:
    """The mean opinion score that listeners would give, 1 to 4.5 (G.107 annex B)."""
    if r <= 0:
        return 1.0
    if r >= 100:
        return 4.5
    # Between 0 and 6.5 the polynomial is a little below 1, which is no score.
    return max(1.0, 1.0 + 0.035 * r + r * (r - 60.0) * (100.0 - r) * 7e-6)


def mean_opinion_score(delay_ms: float, loss_percent: float, codec: str) -> float:
    """The score of a stream of this encoding."""
    return opinion(rating(delay_ms, loss_percent, impairment_of(codec)))
