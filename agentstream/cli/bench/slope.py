"""How something grows: a straight line through measured points, by least squares."""

from __future__ import annotations

import math
from collections.abc import Sequence

import attrs


@attrs.frozen
class Line:
    """y = at_zero + slope * x.

    :ivar error: the slope's standard error; a slope within twice of it is no growth that was shown. nan of less than
        three points.
    """

    slope: float
    at_zero: float
    error: float


def fit(points: Sequence[tuple[float, float]]) -> Line:
    """The line that fits best; nan where the points are at less than two places."""
    count = len(points)
    mean_x = sum(x for x, _ in points) / count if count else math.nan
    mean_y = sum(y for _, y in points) / count if count else math.nan
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    if not spread:
        return Line(math.nan, math.nan, math.nan)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in points) / spread
    at_zero = mean_y - slope * mean_x
    rest = sum((y - at_zero - slope * x) ** 2 for x, y in points)
    return Line(slope, at_zero, math.sqrt(rest / (count - 2) / spread) if count > 2 else math.nan)
