from __future__ import annotations

import random
import statistics

import pytest

from agentstream.rtp.interval import next_interval


@pytest.mark.rfc(3550)
def test_the_interval_is_random_between_half_and_one_and_a_half_of_the_compensated_minimum() -> None:
    bits = random.Random(1).getrandbits
    intervals = [next_interval(bits) for _ in range(4000)]
    # RFC 3550 section 6.3.1: 5 s, times 0.5 to 1.5, divided by e - 3/2.
    assert min(intervals) == pytest.approx(2.5 / 1.21828, abs=0.01)
    assert max(intervals) == pytest.approx(7.5 / 1.21828, abs=0.01)
    assert statistics.fmean(intervals) == pytest.approx(5 / 1.21828, abs=0.05)


def test_the_first_is_half_as_long() -> None:
    assert next_interval(lambda count: 0, is_first=True) == pytest.approx(1.25 / 1.21828, abs=1e-4)
    assert next_interval(lambda count: (1 << count) - 1, is_first=True) == pytest.approx(3.75 / 1.21828, abs=1e-4)
