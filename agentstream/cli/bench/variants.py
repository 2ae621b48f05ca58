"""What a run is of: settings of server and bot. Several are compared in runs that take turns.

Taking turns has whatever else the machine does meet them alike; medians over the rounds keep one bad run from deciding.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterable, Sequence
from typing import Any

import attrs

from agentstream.cli.bench.frames import RATE_HZ

PLAYOUT_MS = 60
"""What the playout delay is by default, to begin with."""


SUITES = {"off": "", "on": "AES_CM_128_HMAC_SHA1_80", "gcm": "AEAD_AES_128_GCM"}
"""Of SRTP: ``on`` is the one that every phone has, and that costs the most; ``gcm`` is the cheapest."""


@attrs.frozen
class Variant:
    """One set of settings.

    :ivar chunk_ms: sound in one message to the bot.
    :ivar rate_hz: of the bots' sound.
    :ivar recording: whether every call is recorded, in stereo.
    :ivar vad: how voice activity is found: "on" is as without a word in the config, "silero" with the neural detector
        behind it, "off" not at all.
    :ivar playout_ms: how long callers' sound is held back. It is fixed: frames are known by what is in them, so none
        may be left out to make the delay shorter.
    :ivar srtp: the suite in which sound is encrypted; "" for RTP.
    """

    chunk_ms: int = 100
    rate_hz: int = RATE_HZ
    recording: bool = False
    vad: str = "on"
    playout_ms: int = PLAYOUT_MS
    srtp: str = ""

    def label(self) -> str:
        """All of it, in words."""
        parts = [f"{self.chunk_ms} ms", f"{self.rate_hz} Hz"]
        detector = {"on": [], "off": ["no VAD"]}.get(self.vad, [self.vad])
        srtp = [f"SRTP {self.srtp}"] if self.srtp else []
        playout = [f"playout {self.playout_ms} ms"] if self.playout_ms != PLAYOUT_MS else []
        return ", ".join(parts + ["recorded"] * self.recording + srtp + detector + playout)


def product(
    chunk_ms: Iterable[int],
    rate_hz: Iterable[int],
    recording: Iterable[bool],
    vad: Iterable[str],
    playout_ms: Iterable[int],
    srtp: Iterable[str] = ("",),
) -> list[Variant]:
    """Every combination, each once, the first of each setting first."""
    return list(
        dict.fromkeys(Variant(*each) for each in itertools.product(chunk_ms, rate_hz, recording, vad, playout_ms, srtp))
    )


def turns(variants: Sequence[Variant], rounds: int) -> list[Variant]:
    """The runs, in order: each round has all variants, every second one backwards, so that none is always first."""
    order: list[Variant] = []
    for number in range(rounds):
        order += variants if number % 2 == 0 else variants[::-1]
    return order


COMPARED = (
    "cpu_percent_per_call",
    "floor_percent_per_call",
    "bot_to_rtp_p95_ms",
    "clear_to_silence_p95_ms",
    "rtp_to_bot_p95_ms",
    "egress_p99_ms",
    "tick_p99_ms",
)


def compare(runs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """For each variant: medians of what its runs measured, and the ratios of its CPU to the first one's and the floor.

    :param runs: what agentstream.cli.bench.measure gives, in any order; the first one's variant is compared with.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    for run in runs:
        found.setdefault(run["variant"], []).append(run)
    rows: list[dict[str, Any]] = []
    for variant, mine in found.items():
        row: dict[str, Any] = {"variant": variant, "runs": len(mine)}
        for name in COMPARED:
            values = [run[name] for run in mine if run[name] is not None]
            row[name] = round(statistics.median(values), 4) if values else None
        row["cpu_each"] = [run["cpu_percent_per_call"] for run in mine]
        row["frames_lost"] = sum(run["frames_lost"] for run in mine)
        rows.append(row)
    first = rows[0]["cpu_percent_per_call"]
    for row in rows:
        cpu, floor = row["cpu_percent_per_call"], row["floor_percent_per_call"]
        row["ratio_to_first"] = round(cpu / first, 3) if first else None
        row["ratio_to_floor"] = round(cpu / floor, 2) if floor else None
    return rows
