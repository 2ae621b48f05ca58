"""A ramp as a picture: CPU a call and delays over calls, as an SVG file that needs nothing else.

Pure: figures in, text out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any
from xml.sax.saxutils import escape

import attrs

_WIDTH, _HEIGHT = 760, 420
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 64, 48, 56
_TICKS = 5
_FONT = 'font-family="sans-serif" font-size="12"'


@attrs.frozen
class Curve:
    """One line.

    :ivar ys: None where nothing was measured. :ivar is_right: belongs to the right axis.
    """

    name: str
    colour: str
    ys: tuple[float | None, ...]
    is_right: bool = False


def nice_top(most: float) -> float:
    """Where an axis ends that holds this: 1, 2, 2.5 or 5 times a power of ten."""
    if not most > 0:
        return 1.0
    power: float = 10.0 ** math.floor(math.log10(most))
    return next(step * power for step in (1, 2, 2.5, 5, 10) if step * power >= most * (1 - 1e-9))


def draw(title: str, xs: Sequence[float], curves: Sequence[Curve], left: str, right: str, knee: float | None) -> str:
    """The picture.

    :param left: and `right`: what their axes count. :param knee: where a dashed line stands; None: nowhere.
    """
    tops = [
        nice_top(max((y for curve in curves if curve.is_right == side for y in curve.ys if y is not None), default=1.0))
        for side in (False, True)
    ]
    top_x = nice_top(max(xs, default=1.0))
    wide, high = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM

    def at_x(x: float) -> float:
        return _LEFT + wide * x / top_x

    def at_y(y: float, is_right: bool) -> float:
        return _TOP + high * (1 - y / tops[is_right])

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" {_FONT}>',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
        _text(_WIDTH / 2, 20, title),
    ]
    for number in range(_TICKS + 1):
        share = number / _TICKS
        x, y = _LEFT + wide * share, _TOP + high * (1 - share)
        parts.append(f'<path d="M{_LEFT} {y:.1f}h{wide}" stroke="#ddd"/>')
        parts.append(_text(_LEFT - 6, y + 4, f"{tops[0] * share:g}", "end"))
        parts.append(_text(_WIDTH - _RIGHT + 6, y + 4, f"{tops[1] * share:g}", "start"))
        parts.append(_text(x, _HEIGHT - _BOTTOM + 18, f"{top_x * share:g}"))
    parts.append(_text(_WIDTH / 2, _HEIGHT - 18, "calls at once"))
    for label, x, turn in ((left, 16, -90), (right, _WIDTH - 16, 90)):
        parts.append(f'<g transform="translate({x} {_TOP + high / 2}) rotate({turn})">{_text(0, 4, label)}</g>')
    if knee is not None:
        parts.append(f'<path d="M{at_x(knee):.1f} {_TOP}v{high}" stroke="#888" stroke-dasharray="4 4"/>')
        parts.append(_text(at_x(knee), _TOP - 6, "knee"))
    for number, curve in enumerate(curves):
        points = [(at_x(x), at_y(y, curve.is_right)) for x, y in zip(xs, curve.ys, strict=True) if y is not None]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{curve.colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{curve.colour}"/>' for x, y in points]
        parts.append(
            f'<text x="{_LEFT + 10}" y="{_TOP + 16 + 16 * number}" fill="{curve.colour}">{escape(curve.name)}</text>'
        )
    return "\n".join([*parts, "</svg>", ""])


def _text(x: float, y: float, words: str, anchor: str = "middle") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def of_ramp(said: dict[str, Any]) -> str:
    """CPU a call with its floor on the left, delays on the right."""
    steps = said["steps"]

    def curve(name: str, colour: str, key: str, is_right: bool = False) -> Curve:
        return Curve(name, colour, tuple(step[key] for step in steps), is_right)

    curves = (
        curve("CPU of the server, % of a core a call", "#0b62a4", "cpu_percent_per_call"),
        curve("the floor: bare system calls", "#7fb3d8", "floor_percent_per_call"),
        curve("RTP in to WebSocket out, p99 ms", "#b3261e", "rtp_to_bot_p99_ms", True),
        curve("WebSocket in to RTP out, p99 ms", "#e08a1e", "bot_to_rtp_p99_ms", True),
        curve("packets off their grid, p99 ms", "#4a7c2a", "egress_p99_ms", True),
    )
    knee = said["knee"]
    title = f"agentstream, {said['variant']}: commit {said['commit']}, {said['date']}"
    xs = [step["calls"] for step in steps]
    return draw(title, xs, curves, "% of a core a call", "milliseconds", knee["calls"] if knee else None)
