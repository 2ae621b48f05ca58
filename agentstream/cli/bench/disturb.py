"""What bots may do to everybody's tick: all of them say a minute in one go, or one reads nothing for a while.

When all calls are up and calm, the bot disturbs. Measured is when the callers' packets arrive (kernel time), against
the 20 ms grid that each call had while all was calm; beside it the server's memory, what it says of its own ticks when
it stops, and what streams had to drop.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt
from rich.console import Console

from agentstream.cli.bench import machine, notes
from agentstream.cli.bench.callers import RECEIVED
from agentstream.cli.bench.fleet import SPARE_S, Fleet
from agentstream.cli.bench.variants import Variant
from agentstream.cli.children import Child, children
from agentstream.errors import AgentstreamError

LIMIT_MS = 10.0
GRID_NS = 20_000_000
STALL_S = 18.0
"""Less than what passes between a ping and its time-out, so that the stream outlives it."""

_CALM_S = 3.0
_AFTER_S = 2.0
_CLEARED_S = 1.0

Window = tuple[int, int]


@attrs.frozen
class Lateness:
    """How late packets were, ms.

    :ivar packets: how many were looked at.
    :ivar worst_at_s: when the worst one arrived, seconds from the beginning of the window.
    """

    packets: int
    p50_ms: float
    p99_ms: float
    worst_ms: float
    worst_at_s: float


def lateness(received: npt.NDArray[Any], calm: Window, window: Window) -> Lateness:
    """Packets of a window against each call's own grid.

    :param received: records of agentstream.cli.bench.callers.
    :param calm: nanoseconds from and to: a call's grid is where its median packet lies in this time.
    """
    late: list[npt.NDArray[np.float64]] = []
    arrived: list[npt.NDArray[np.int64]] = []
    for call in np.unique(received["call"]):
        rows = received[received["call"] == call]
        rows = rows[np.argsort(rows["at_ns"], kind="stable")]
        at_ns = rows["at_ns"]
        slots = np.cumsum(np.diff(rows["number"].astype(np.int64), prepend=0) % 65536)
        off_ns = at_ns - slots * GRID_NS
        is_calm = (at_ns >= calm[0]) & (at_ns < calm[1])
        is_in = (at_ns >= window[0]) & (at_ns < window[1])
        if is_calm.any() and is_in.any():
            late.append((off_ns[is_in] - np.median(off_ns[is_calm])) / 1e6)
            arrived.append(at_ns[is_in])
    if not late:
        raise AgentstreamError("No packet arrived in the time that is looked at.")
    all_ms = np.concatenate(late)
    p50, p99 = np.percentile(all_ms, [50, 99])
    worst = int(all_ms.argmax())
    worst_at_s = (int(np.concatenate(arrived)[worst]) - window[0]) / 1e9
    figures = (float(p50), float(p99), float(all_ms[worst]), worst_at_s)
    return Lateness(len(all_ms), *(round(figure, 2) for figure in figures))


def burst(calls: int, seconds: float, message_ms: int, rounds: int, console: Console) -> dict[str, Any]:
    """Have the bot say so much to every call at the same moment, several times."""

    def disturb(fleet: Fleet) -> tuple[dict[str, Window], dict[str, Any]]:
        windows = {}
        beside = {}
        for number in range(1, rounds + 1):
            start, read, end = _burst(fleet, seconds, message_ms)
            windows[f"burst {number}"] = (start, end)
            beside[f"burst {number} was read in, s"] = round((read - start) / 1e9, 2)
        return windows, beside

    title = f"{calls} bots say {seconds:g} s at once in messages of {message_ms} ms"
    return _disturbed(title, calls, console, disturb)


def _burst(fleet: Fleet, seconds: float, message_ms: int) -> tuple[int, int, int]:
    """One burst: when its first byte was written, when its last was read, and when all was cleared and over."""
    fleet.sink.say("burst", seconds=seconds, message_ms=message_ms)
    start = fleet.family.expect(fleet.sink, "bursting", SPARE_S)["at_ns"]
    read = fleet.family.expect(fleet.sink, "read", SPARE_S)["at_ns"]
    fleet.rest(_AFTER_S)
    fleet.sink.say("clear")
    fleet.rest(_CLEARED_S)
    return start, read, time.monotonic_ns()


def stall(calls: int, seconds: float, console: Console) -> dict[str, Any]:
    """Have the bot read one of its streams no more for so long."""

    def disturb(fleet: Fleet) -> tuple[dict[str, Window], dict[str, Any]]:
        before, start = fleet.memory_bytes, time.monotonic_ns()
        fleet.sink.say("stall")
        fleet.rest(seconds)
        grew_kb, end = (fleet.memory_bytes - before) / 1e3, time.monotonic_ns()
        fleet.sink.say("read_on")
        fleet.rest(1.0)
        return {"stalled": (start, end)}, {"memory grew meanwhile, kB": round(grew_kb, 1)}

    return _disturbed(f"{calls} calls, and one of their bots reads nothing for {seconds:g} s", calls, console, disturb)


def _disturbed(
    title: str,
    calls: int,
    console: Console,
    disturb: Callable[[Fleet], tuple[dict[str, Window], dict[str, Any]]],
) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="agentstream-bench-") as folder, children() as family:
        fleet = Fleet.start(family, Path(folder), console, Variant(), calls, "burst_bot", ("burst",))
        path = str(Path(folder) / "noted")
        fleet.load.say("note", path=path)
        fleet.place("burst", calls)
        # The grid is taken where the load has no numbers to note and no call is being set up.
        fleet.rest(1.0)
        others, began = machine.others_s(), time.monotonic()
        calm = (time.monotonic_ns(), time.monotonic_ns() + int(_CALM_S * 1e9))
        fleet.rest(_CALM_S)
        windows, beside = disturb(fleet)
        others_percent = 100 * max(0.0, machine.others_s() - others) / (time.monotonic() - began)
        fleet.load.say("close")
        family.expect(fleet.load, "noted", SPARE_S)
        fleet.finish()
        received = notes.read(path, "received", RECEIVED)
        found = {"calm": lateness(received, calm, calm)}
        found |= {name: lateness(received, calm, window) for name, window in windows.items()}
    dropped = dropped_ms(fleet.server)
    return {
        "title": title,
        "pinning": fleet.pinning,
        "calls": calls,
        "lateness": {name: attrs.asdict(each) for name, each in found.items()},
        "worst_ms": max(each.worst_ms for name, each in found.items() if name in windows),
        "dropped_ms": dropped[0] if dropped else 0,
        "dropped_by_others_ms": sum(dropped[1:]),
        "beside": {
            **beside,
            "most that one stream dropped, ms": dropped[0] if dropped else 0,
            "that all others dropped, ms": sum(dropped[1:]),
            "CPU of what is no part of this, % of a core": round(others_percent, 1),
            **_said_at_the_end(fleet.server),
        },
    }


def dropped_ms(server: Child) -> list[float]:
    """What each stream says that it dropped, the most first."""
    ended = [news["fields"] for news in server.news if news.get("event") == "stream_ended"]
    return sorted((fields.get("dropped_ms", 0) for fields in ended), reverse=True)


def _said_at_the_end(server: Child) -> dict[str, Any]:
    """What the server says of its ticks, from its start to its end, when it stops."""
    names = ("tick_p99_ms", "tick_most_ms", "lateness_p99_ms", "lateness_most_ms", "late_slots", "gc_most_ms")
    for news in reversed(server.news):
        if news.get("event") == "media_ended":
            return {f"the server's own {name}": news["fields"].get(name) for name in names}
    return {}
