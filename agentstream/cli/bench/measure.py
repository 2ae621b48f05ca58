"""A run of fixed size: so many calls for so long, and the JSON object that says what it showed."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from agentstream.cli.bench.analysis import Probes, Steady, percentile
from agentstream.cli.bench.fleet import Fleet, Sample, Window
from agentstream.cli.bench.frames import RATE_HZ
from agentstream.cli.bench.profile import Profile
from agentstream.cli.bench.slope import fit
from agentstream.cli.bench.variants import Variant
from agentstream.cli.children import children

CHECKED_BYTES = "eight bytes of each 20 ms, which G.711 and 8 kHz leave as they are"
CHECKED_TONES = "the tones of each 20 ms, which resampling leaves in place; not each sample"

_REST_S = 2.0
WARM_UP_S = 7.0
"""Behind a call's beginning: by then each ring's delay is what it stays, and nothing is left out of frames any more."""
_MOST_PROBE_S = 10.0
_SMALL = 5  # a run's memory is taken at a fifth of its calls, too


def rounded(value: float, digits: int) -> float | None:
    """As JSON has it: null for what was not measured."""
    return None if math.isnan(value) else round(value, digits)


def probes_beside(calls: int) -> int:
    """Calls behind the others whose bot speaks in bursts: one for each ten."""
    return max(1, calls // 10)


def said_of_window(window: Window) -> dict[str, Any]:
    """What a steady time showed, by fixed names."""
    steady = window.steady
    return {
        "calls": window.calls,
        "cpu_percent_per_call": round(window.cpu_percent / window.calls, 4),
        "speech_percent_per_call": rounded(window.speech_percent / window.calls, 4),
        "rss_mb_per_call": round(window.memory_bytes / window.calls / 1e6, 4),
        "frames_sent": steady.frames_sent,
        "frames_lost": steady.frames_lost,
        "frames_lost_to_bot": steady.frames_lost_to_bot,
        "frames_lost_to_caller": steady.frames_lost_to_caller,
        "frames_sent_late": steady.frames_sent_late,
        "frames_foreign": steady.frames_foreign,
        "calls_dropped": window.dropped,
        "rtp_to_bot_p95_ms": rounded(percentile(steady.rtp_to_bot_ms, 95), 2),
        "rtp_to_bot_p99_ms": rounded(percentile(steady.rtp_to_bot_ms, 99), 2),
        "round_trip_p95_ms": rounded(percentile(steady.round_trip_ms, 95), 2),
        "egress_p99_ms": rounded(percentile(steady.egress_ms, 99), 3),
        "egress_most_ms": rounded(percentile(steady.egress_ms, 100), 3),
        "tick_p99_ms": rounded(window.tick_p99_ms, 2),
        "tick_late_p99_ms": rounded(window.late_p99_ms, 2),
        "load_percent": round(window.load_percent, 1),
        "sink_percent": round(window.sink_percent, 1),
        "others_percent": round(window.others_percent, 1),
        "load_latest_ms": round(window.latest_ms, 2),
    }


def said_of_probes(probes: Probes) -> dict[str, Any]:
    """What bursts and clears showed, by fixed names."""
    return {
        "bot_to_rtp_p95_ms": rounded(percentile(probes.bot_to_rtp_ms, 95), 2),
        "bot_to_rtp_p99_ms": rounded(percentile(probes.bot_to_rtp_ms, 99), 2),
        "bot_to_rtp_samples": len(probes.bot_to_rtp_ms),
        "clear_to_silence_p95_ms": rounded(percentile(probes.clear_to_silence_ms, 95), 2),
        "clear_to_silence_samples": len(probes.clear_to_silence_ms),
        "burst_frames_lost": probes.frames_lost,
    }


def said_of_floor(floor: dict[str, float]) -> dict[str, Any]:
    """What the bare socket calls cost, by fixed names."""
    return {
        "floor_percent_per_call": round(floor["percent_per_call"], 4),
        "floor_tick_p99_ms": round(floor["tick_p99_ms"], 2),
        "floor_late_p99_ms": round(floor["late_p99_ms"], 2),
    }


def is_clean(said: dict[str, Any]) -> bool:
    """Nothing was lost and nobody heard another call."""
    return said["frames_sent"] > 0 and not (
        said["frames_lost"] or said["frames_foreign"] or said["burst_frames_lost"] or said["calls_dropped"]
    )


def measure(
    variant: Variant,
    calls: int,
    seconds: float,
    console: Console,
    profile: Profile | None = None,
    sample_every_s: float = 0.0,
) -> dict[str, Any]:
    """One run, from the first process to the last figure.

    :param sample_every_s: take the server's memory this often in the steady time, for how it grows; 0: do not.
    """
    probes = probes_beside(calls)
    with tempfile.TemporaryDirectory(prefix="agentstream-bench-") as folder, children() as family:
        fleet = Fleet.start(family, Path(folder), console, variant, calls + probes)
        setup_ms: list[float] = []
        small = calls // _SMALL
        small_bytes = 0
        if small:
            setup_ms += fleet.place("echo", small)["setup_ms"]
            fleet.rest(_REST_S)
            small_bytes = fleet.memory_bytes
        setup_ms += fleet.place("echo", calls - small)["setup_ms"]
        fleet.rest(WARM_UP_S)
        slope_mb = (fleet.memory_bytes - small_bytes) / (calls - small) / 1e6 if small else math.nan
        samples: list[tuple[float, int]] = []

        def take(at_s: float) -> None:
            samples.append((at_s, fleet.memory_bytes))

        sample: Sample | None = take if sample_every_s else None
        window = fleet.steady(calls, seconds, profile, sample_every_s, sample)
        found = fleet.probe(probes, min(_MOST_PROBE_S, seconds))
        tally = fleet.finish()
        floor = fleet.floor(calls, seconds, variant.chunk_ms)
    said: dict[str, Any] = {
        "pinning": fleet.pinning,
        "variant": variant.label(),
        "chunk_ms": variant.chunk_ms,
        "rate_hz": variant.rate_hz,
        "recording": variant.recording,
        "vad": variant.vad,
        "srtp": variant.srtp,
        "playout_ms": variant.playout_ms,
        "seconds": seconds,
        "probes": probes,
        "frames_checked_by": CHECKED_BYTES if variant.rate_hz == RATE_HZ else CHECKED_TONES,
        **said_of_window(window),
        **said_of_probes(found),
        **said_of_floor(floor),
        "memory_mb_per_call": rounded(slope_mb, 4),
        "setup_p95_ms": rounded(percentile(np.array(setup_ms), 95), 2),
        "send_errors": tally["send_errors"],
    }
    said["ratio_to_floor"] = round(said["cpu_percent_per_call"] / (said["floor_percent_per_call"] or math.nan), 2)
    if samples:
        said |= said_of_soak(samples, calls, window.steady, seconds)
    return said


_PARTS = 10


def said_of_soak(samples: list[tuple[float, int]], calls: int, steady: Steady, seconds: float) -> dict[str, Any]:
    """Memory and loss over the time of a run.

    :param samples: (seconds, the server's memory in bytes).
    """
    line = fit([(at_s / 60, held / 1e3) for at_s, held in samples])
    lost, edges = np.histogram(steady.lost_at_s, bins=_PARTS, range=(0.0, seconds))
    return {
        "memory_kb_a_minute": round(line.slope, 2),
        "memory_kb_a_minute_and_call": round(line.slope / calls, 4),
        "memory_kb_a_minute_error": round(line.error, 2),
        "memory_mb_over_time": [[round(at_s, 1), round(held / 1e6, 2)] for at_s, held in samples],
        "frames_lost_over_time": [
            [round(float(at_s), 1), int(count)] for at_s, count in zip(edges[:-1], lost, strict=True)
        ],
    }
