"""When the next RTCP report of a session of two is due (RFC 3550 sections 6.2, 6.3 and appendix A.7).

With two participants, reports of about 100 bytes and 5 % of G.711's bandwidth, n * C of the RFC is a tenth of the
minimum of 5 s, so the minimum is what holds, and for a codec of a quarter of that it still does. The number of members,
which reconsideration is about, never changes.
"""

from __future__ import annotations

import math
from collections.abc import Callable

MINIMUM_S = 5.0
INITIAL_S = MINIMUM_S / 2
"""Before a participant's first report the minimum is half (section 6.2)."""

COMPENSATION = math.e - 1.5
"""By which the interval is divided, because randomising it makes reports rarer than meant (section 6.3.1)."""

_BITS = 16


def next_interval(random_bits: Callable[[int], int], *, is_first: bool = False) -> float:
    """Seconds until the next report: 0.5 to 1.5 times the minimum, compensated.

    :param random_bits: ``random_bits(n)`` gives n random bits.
    """
    share = random_bits(_BITS) / (1 << _BITS)
    return (INITIAL_S if is_first else MINIMUM_S) * (0.5 + share) / COMPENSATION
