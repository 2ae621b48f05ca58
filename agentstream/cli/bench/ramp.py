"""Calls are added step by step to one server until it no longer keeps its promises: the knee.

New calls come to a server that serves the others, as they do to a node in use, and the server is not started anew: its
memory is a line over its calls, and what it keeps from a step shows in the next one. At each step, after a rest, all
calls are measured for a while, and then a few more calls whose bots speak in bursts; they are gone before the next.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
from rich.console import Console

from agentstream.cli.bench.fleet import Fleet
from agentstream.cli.bench.measure import WARM_UP_S, rounded, said_of_floor, said_of_probes, said_of_window
from agentstream.cli.bench.slope import fit
from agentstream.cli.bench.variants import Variant
from agentstream.cli.children import children

EGRESS_MS = 5.0
LATE_MS = 10.0
LOAD_MS = 20.0
"""A caller's packet this late means that the callers' core is full: the step says nothing of the server."""

_PROBES = 20
_PROBE_S = 5.0


@attrs.frozen
class Knee:
    """The first step that was too much.

    :ivar calls: of that step. :ivar holds: of the one before; 0 where there was none.
    :ivar reasons: which promises were not kept.
    :ivar is_of_server: no: the machine could not make the load.
    """

    calls: int
    holds: int
    reasons: tuple[str, ...]
    is_of_server: bool


def reasons_of(step: dict[str, Any]) -> tuple[str, ...]:
    """What a step's figures say against it; nothing when all is well."""
    reasons = []
    if step["refused"]:
        reasons.append(f"{step['refused']} calls refused")
    if step["calls_dropped"]:
        reasons.append(f"{step['calls_dropped']} calls ended by the server")
    lost = step["frames_lost"] + step["burst_frames_lost"]
    if lost:
        reasons.append(f"{lost} frames lost")
    if step["frames_foreign"]:
        reasons.append(f"{step['frames_foreign']} frames heard by another call")
    for name, limit, words in (
        ("egress_p99_ms", EGRESS_MS, "packets {:.1f} ms off their grid (p99)"),
        ("tick_late_p99_ms", LATE_MS, "ticks {:.1f} ms late (p99)"),
    ):
        if step[name] is not None and step[name] > limit:
            reasons.append(words.format(step[name]))
    return tuple(reasons)


def find_knee(steps: Sequence[dict[str, Any]]) -> Knee | None:
    """The knee of steps of growing size; None when all of them were well."""
    holds = 0
    for step in steps:
        if reasons := reasons_of(step):
            return Knee(step["calls"], holds, reasons, step["load_latest_ms"] <= LOAD_MS)
        holds = step["calls"]
    return None


def ramp(
    variant: Variant, sizes: Sequence[int], seconds: float, console: Console, *, goes_on: bool = False
) -> dict[str, Any]:
    """Measure steps of these sizes, up to the knee.

    :param goes_on: measure the steps beyond the knee, too.
    """
    steps: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="agentstream-bench-") as folder, children() as family:
        fleet = Fleet.start(family, Path(folder), console, variant, sizes[-1] + _PROBES)
        held = 0
        for size in sizes:
            placed = fleet.place("echo", size - held, may_refuse=True)
            held = placed["live"]
            fleet.rest(WARM_UP_S)
            memory_mb = fleet.memory_bytes / 1e6
            window = fleet.steady(held, seconds)
            found = said_of_probes(fleet.probe(_PROBES, _PROBE_S, may_refuse=True))
            more = {"refused": fleet.refused, "memory_mb": round(memory_mb, 2)}
            steps.append({**said_of_window(window), **found, **more})
            if fleet.refused or (find_knee(steps) is not None and not goes_on):
                break
        fleet.finish()
        for step in steps:
            step |= said_of_floor(fleet.floor(step["calls"], min(3.0, seconds), variant.chunk_ms))
    knee = find_knee(steps)
    slope_mb = fit([(step["calls"], step["memory_mb"]) for step in steps]).slope
    return {
        "pinning": fleet.pinning,
        "variant": variant.label(),
        "chunk_ms": variant.chunk_ms,
        "seconds": seconds,
        "memory_mb_per_call": rounded(slope_mb, 4),
        "knee": None if knee is None else attrs.asdict(knee),
        "steps": steps,
    }
