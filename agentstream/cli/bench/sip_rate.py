"""Calls a second without sound: each is answered, acknowledged and hung up at once, alone or beside calls with sound.

What is told: how long an answer took, whether anybody had to say anything twice, what the server's core was busy with,
and whether its SIP state is what it was before the first call once SIP's timers have run out.
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
from agentstream.cli.bench.churn import left_over
from agentstream.cli.bench.fleet import SPARE_S, Fleet
from agentstream.cli.bench.measure import WARM_UP_S, rounded
from agentstream.cli.bench.profile import Profile
from agentstream.cli.bench.scrape import LATENESS, TICK, percentile_ms
from agentstream.cli.bench.variants import Variant
from agentstream.cli.children import children

SETUP_MS = 20.0
"""The 95th percentile of INVITE to 200 stays below this."""

USER = "answer"
_QUIET_S = 45.0
_CPU_EVERY_S = 0.5
_LASTING_S = 1.0
"""A call lasts a few milliseconds; a server that does not keep up has room for so many seconds of them."""


def sip_rate(
    per_second: float, seconds: float, beside: int, console: Console, profile: Profile | None = None
) -> dict[str, Any]:
    """Have calls come for so long, ``beside`` so many that talk."""
    with tempfile.TemporaryDirectory(prefix="agentstream-bench-") as folder, children() as family:
        fleet = Fleet.start(
            family,
            Path(folder),
            console,
            Variant(),
            max(1, beside),
            users=("echo",),
            applets={USER: "echo"},
            spare=round(per_second * _LASTING_S) + 10,
        )
        load = family.start("callers", ["-m", "agentstream.cli.bench.sip_load", str(fleet.sip_port)])
        family.expect(load, "ready", SPARE_S)
        machine.pin(load.pid, is_server=False)
        if beside:
            fleet.place("echo", beside)
            fleet.rest(WARM_UP_S)
        files_before, before = machine.open_files(fleet.server.pid), fleet.scrape()
        console.print(f"{per_second:g} calls a second for {seconds:g} s")
        spent = [machine.cpu_s(child.pid) for child in (fleet.server, load)] + [machine.others_s()]
        began = time.monotonic()
        load.say("rate", user=USER, per_second=per_second, seconds=seconds)
        lost, percents = 0, [math.nan] * 3

        def take(_at_s: float) -> None:
            now = [machine.cpu_s(child.pid) for child in (fleet.server, load)] + [machine.others_s()]
            elapsed = time.monotonic() - began
            percents[:] = (100 * max(0.0, then - at) / elapsed for then, at in zip(now, spent, strict=True))

        if beside:
            lost = fleet.steady(beside, seconds, profile, _CPU_EVERY_S, take).steady.frames_lost
        else:
            if profile is not None:
                profile.begin(fleet.server.pid, seconds)
            fleet.rest(seconds, _CPU_EVERY_S, take)
        tally = family.expect(load, "rated", 2 * SPARE_S)
        if profile is not None and not beside:
            profile.finish()
        last = fleet.scrape()
        console.print(f"waiting up to {_QUIET_S:g} s until nothing is left")
        until = time.monotonic() + _QUIET_S
        while True:
            after, files = fleet.scrape(), machine.open_files(fleet.server.pid)
            left = left_over(before, after, (files_before, files))
            if not left or time.monotonic() >= until:
                break
            fleet.rest(1.0)
        load.say("finish")
        fleet.finish()
    setup_ms = np.array(tally["setup_ms"])
    return {
        "pinning": fleet.pinning,
        "calls_a_second": per_second,
        "seconds": seconds,
        "calls_beside": beside,
        "calls": tally["placed"],
        "setup_p50_ms": rounded(percentile(setup_ms, 50), 2),
        "setup_p95_ms": rounded(percentile(setup_ms, 95), 2),
        "setup_p99_ms": rounded(percentile(setup_ms, 99), 2),
        "setup_most_ms": rounded(percentile(setup_ms, 100), 2),
        "repeated": tally["repeated"],
        "refused": tally["refused"],
        "unanswered": tally["unanswered"],
        "frames_lost": lost,
        "left_over": left,
        "cpu_percent": rounded(percents[0], 1),
        "load_percent": rounded(percents[1], 1),
        "others_percent": rounded(percents[2], 1),
        "load_latest_ms": round(tally["latest_ms"], 2),
        "tick_p99_ms": rounded(percentile_ms(before, last, TICK, 99), 2),
        "tick_late_p99_ms": rounded(percentile_ms(before, last, LATENESS, 99), 2),
    }


def is_good(said: dict[str, Any]) -> bool:
    """Every call was answered in time and ended, nobody had to say anything twice, and nothing is left."""
    wrong = said["repeated"] or said["refused"] or said["unanswered"] or said["frames_lost"] or said["left_over"]
    return not wrong and said["setup_p95_ms"] is not None and said["setup_p95_ms"] <= SETUP_MS
