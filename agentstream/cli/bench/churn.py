"""Calls that come and go for a long time: what each leaves behind in the server.

Calls arrive at a fixed rate and last a few seconds, so that after the first of them as many are up as came in one
length of a call. The server's memory is sampled while that is so, under the same load all the time, and its growth is
the slope over the calls that have ended, after a warm-up. When all are over and SIP's timers have run out, nothing may
be left: no call, leg, stream or dialog by the server's own count, and as many open files as before the first call.
"""

from __future__ import annotations

import math
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from agentstream.cli.bench import machine
from agentstream.cli.bench.analysis import percentile
from agentstream.cli.bench.fleet import SPARE_S, Fleet
from agentstream.cli.bench.measure import rounded
from agentstream.cli.bench.scrape import LATENESS, TICK, Scrape, percentile_ms, scrape
from agentstream.cli.bench.slope import fit
from agentstream.cli.bench.variants import Variant
from agentstream.cli.children import children

LASTING_S = 4.0
"""How long a call lasts in the mean: half of it to one and a half times of it, evenly."""

_ROOM_S = 4.0
_SAMPLES = 360
_QUIET_S = 45.0
"""SIP keeps an ended dialog's transactions for 32 s (RFC 3261 section 17, timers H and J)."""

GAUGES = (
    "agentstream_calls",
    "agentstream_legs",
    "agentstream_streams",
    "agentstream_sip_dialogs",
    "agentstream_sip_transactions",
)


def left_over(before: Scrape, after: Scrape, files: tuple[int, int]) -> dict[str, int]:
    """What is there behind the last call and was not there before the first one.

    :param files: open files of the server, before and after.
    """
    left = {name.removeprefix("agentstream_"): int(after.values[name] - before.values[name]) for name in GAUGES}
    return {name: count for name, count in {**left, "open_files": files[1] - files[0]}.items() if count > 0}


def growth_kb(samples: list[tuple[float, int, int]], warm_up_s: float) -> tuple[float, float, int]:
    """How memory grew with the calls that ended after the warm-up.

    :param samples: (seconds, calls that have ended, bytes).
    :return: (kB a call, its standard error, how many calls that were).
    """
    kept = [(ended, held / 1e3) for at_s, ended, held in samples if at_s >= warm_up_s]
    line = fit([(float(ended), held) for ended, held in kept])
    return line.slope, line.error, int(kept[-1][0] - kept[0][0]) if kept else 0


def churn(variant: Variant, per_second: float, seconds: float, warm_up_s: float, console: Console) -> dict[str, Any]:
    """Let calls come and go: the warm-up, then the seconds that count."""
    whole_s = warm_up_s + seconds
    most = math.ceil(per_second * (1.5 * LASTING_S + _ROOM_S)) + 20
    with tempfile.TemporaryDirectory(prefix="agentstream-bench-") as folder, children() as family:
        fleet = Fleet.start(family, Path(folder), console, variant, most, users=("echo",))
        files_before, before = machine.open_files(fleet.server.pid), scrape(fleet.http_port)
        empty_bytes = fleet.memory_bytes
        console.print(f"{per_second:g} calls a second for {whole_s:g} s")
        fleet.load.say("churn", user="echo", per_second=per_second, seconds=whole_s, lasting_s=LASTING_S)
        samples: list[tuple[float, int, int]] = []
        setup_ms: list[float] = []

        def take(at_s: float) -> None:
            fleet.load.say("tally")
            tally = fleet.family.expect(fleet.load, "churning", SPARE_S)
            samples.append((at_s, tally["ended"], fleet.memory_bytes))
            setup_ms.extend(tally["setup_ms"])
            for child in (fleet.sink, fleet.server):
                child.news.clear()

        cpu_s = machine.cpu_s(fleet.server.pid)
        fleet.rest(whole_s, max(0.5, whole_s / _SAMPLES), take)
        cpu_percent = 100 * (machine.cpu_s(fleet.server.pid) - cpu_s) / whole_s
        tally = fleet.family.expect(fleet.load, "churned", 3 * LASTING_S + SPARE_S)
        setup_ms.extend(tally["setup_ms"])
        console.print(f"waiting up to {_QUIET_S:g} s until nothing is left")
        until = time.monotonic() + _QUIET_S
        while True:
            after, files_after = scrape(fleet.http_port), machine.open_files(fleet.server.pid)
            left = left_over(before, after, (files_before, files_after))
            if not left or time.monotonic() >= until:
                break
            fleet.rest(1.0)
        quiet_bytes = fleet.memory_bytes
        fleet.finish()
    slope, error, counted = growth_kb(samples, warm_up_s)
    return {
        "pinning": fleet.pinning,
        "variant": variant.label(),
        "calls_a_second": per_second,
        "lasting_s": LASTING_S,
        "seconds": seconds,
        "warm_up_s": warm_up_s,
        "calls": tally["placed"],
        "calls_at_once": round(per_second * LASTING_S),
        "calls_counted": counted,
        "growth_kb_per_call": rounded(slope, 3),
        "growth_kb_error": rounded(error, 3),
        "memory_mb_empty": round(empty_bytes / 1e6, 1),
        "memory_mb_at_warm_up": next((round(held / 1e6, 1) for at_s, _, held in samples if at_s >= warm_up_s), None),
        "memory_mb_at_end": round(samples[-1][2] / 1e6, 1),
        "memory_mb_quiet": round(quiet_bytes / 1e6, 1),
        "memory_mb_over_time": [[round(at_s, 1), round(held / 1e6, 2)] for at_s, _, held in samples],
        "refused": tally["refused"],
        "dropped": tally["dropped"],
        "unheard": tally["unheard"],
        "left_over": left,
        "setup_p95_ms": rounded(percentile(np.array(setup_ms), 95), 2),
        "setup_most_ms": rounded(percentile(np.array(setup_ms), 100), 2),
        "cpu_percent": round(cpu_percent, 1),
        "tick_p99_ms": rounded(percentile_ms(before, after, TICK, 99), 2),
        "tick_late_p99_ms": rounded(percentile_ms(before, after, LATENESS, 99), 2),
    }


def is_good(said: dict[str, Any]) -> bool:
    """Every call came about, was heard, lasted until its caller hung up, and left nothing behind."""
    return not (said["refused"] or said["dropped"] or said["unheard"] or said["left_over"])
