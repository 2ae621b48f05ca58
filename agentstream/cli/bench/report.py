"""What a bench run shows: one JSON object with fixed names, or a table for people."""

from __future__ import annotations

import math
import statistics
from typing import Any

import attrs
from rich.console import Console
from rich.table import Table

from agentstream.cli.bench.analysis import Figures, percentile
from agentstream.cli.bench.frames import RATE_HZ

CHECKED_BYTES = "eight bytes of each 20 ms, which G.711 and 8 kHz leave as they are"
CHECKED_TONES = "the tones of each 20 ms, which resampling leaves in place; not each sample"


@attrs.frozen
class Run:
    """One run.

    :ivar calls: two-way calls in the steady time. :ivar probes: calls beside them, after it, whose bot speaks in
        bursts.
    :ivar rate_hz: of the sound between server and bot.
    :ivar cpu_percent_per_call: of one core, user and system, of the server and its children, in the steady time.
    :ivar floor_percent_per_call: what the socket calls alone cost (agentstream.cli.bench.floor).
    :ivar tick_p99_ms: the server's own figure; nan where it gave none.
    :ivar others_percent: of one core, in the steady time, what everything else on this machine took: a run beside much
        of it says little.
    :ivar load_latest_ms: by how much a caller's packet left too late at worst, because the load's core was taken:
        beyond the playout delay, what was lost is the machine's fault and not the server's.
    :ivar setup_p95_ms: from INVITE to 200 in the load's clock.
    """

    machine: str
    pinning: str
    calls: int
    probes: int
    seconds: float
    cadence_ms: int
    cpu_percent_per_call: float
    floor_percent_per_call: float
    memory_mb_per_call: float
    tick_p99_ms: float
    others_percent: float
    load_latest_ms: float
    setup_p95_ms: float
    figures: Figures
    rate_hz: int = RATE_HZ

    @property
    def checked(self) -> str:
        """What tells a frame that arrived from one that was lost."""
        return CHECKED_BYTES if self.rate_hz == RATE_HZ else CHECKED_TONES

    def as_json(self) -> dict[str, Any]:
        """The object that ``--json`` prints; a figure that could not be measured is null."""
        figures = self.figures
        return {
            "machine": self.machine,
            "pinning": self.pinning,
            "calls": self.calls,
            "seconds": self.seconds,
            "cadence_ms": self.cadence_ms,
            "rate_hz": self.rate_hz,
            "frames_checked_by": self.checked,
            "cpu_percent_per_call": _rounded(self.cpu_percent_per_call, 4),
            "floor_percent_per_call": _rounded(self.floor_percent_per_call, 4),
            "frames_sent": figures.frames_sent,
            "frames_lost": figures.frames_lost,
            "frames_lost_to_bot": figures.frames_lost_to_bot,
            "frames_lost_to_caller": figures.frames_lost_to_caller,
            "frames_foreign": figures.frames_foreign,
            "bot_to_rtp_p95_ms": _rounded(percentile(figures.bot_to_rtp_ms, 95), 2),
            "bot_to_rtp_samples": len(figures.bot_to_rtp_ms),
            "rtp_to_bot_p95_ms": _rounded(percentile(figures.rtp_to_bot_ms, 95), 2),
            "round_trip_p95_ms": _rounded(percentile(figures.round_trip_ms, 95), 2),
            "egress_p99_ms": _rounded(percentile(figures.egress_ms, 99), 3),
            "tick_p99_ms": _rounded(self.tick_p99_ms, 3),
            "setup_p95_ms": _rounded(self.setup_p95_ms, 2),
            "others_percent": _rounded(self.others_percent, 1),
            "load_latest_ms": _rounded(self.load_latest_ms, 2),
            "memory_mb_per_call": _rounded(self.memory_mb_per_call, 4),
        }

    @property
    def is_clean(self) -> bool:
        """Nothing was lost and nobody heard another call."""
        return self.figures.frames_sent > 0 and self.figures.frames_lost == 0 and self.figures.frames_foreign == 0

    def show(self, console: Console) -> None:
        """Print the table."""
        figures = self.figures
        table = Table(
            title=f"{self.calls} two-way calls for {self.seconds:g} s, {self.cadence_ms} ms messages,"
            f" bots at {self.rate_hz} Hz",
            show_header=False,
        )
        table.add_column(justify="left")
        table.add_column(justify="right")
        table.add_column(justify="left")
        for name, value, unit in (
            ("CPU of the server, a call", _text(self.cpu_percent_per_call, 4), "% of a core"),
            ("the same, socket calls alone (floor)", _text(self.floor_percent_per_call, 4), "% of a core"),
            ("memory, a call", _text(self.memory_mb_per_call, 3), "MB"),
            ("frames sent by callers", str(figures.frames_sent), ""),
            ("lost on the way to the bot", str(figures.frames_lost_to_bot), ""),
            ("lost on the way to the caller", str(figures.frames_lost_to_caller), ""),
            ("heard by another call", str(figures.frames_foreign), ""),
            (
                "bot to RTP, p95",
                _text(percentile(figures.bot_to_rtp_ms, 95), 1),
                f"ms ({len(figures.bot_to_rtp_ms)} bursts)",
            ),
            ("RTP to bot, p95", _text(percentile(figures.rtp_to_bot_ms, 95), 1), "ms (with the playout delay)"),
            ("caller to bot to caller, p95", _text(percentile(figures.round_trip_ms, 95), 1), "ms"),
            ("packets off their 20 ms grid, p99", _text(percentile(figures.egress_ms, 99), 2), "ms"),
            ("tick, p99", _text(self.tick_p99_ms, 2), "ms"),
            ("taken by what is no part of this", _text(self.others_percent, 1), "% of a core"),
            ("a caller's packet late by, at worst", _text(self.load_latest_ms, 1), "ms (this machine's doing)"),
            ("INVITE to 200, p95", _text(self.setup_p95_ms, 1), "ms"),
        ):
            table.add_row(name, value, unit)
        console.print(table)
        console.print(f"{self.machine}; {self.pinning}.")
        console.print(f"A frame is known by {self.checked}.")
        console.print(
            "Loopback charges the receiver's part of the network's work to the sender. Bursts meet an empty queue and"
            f" come at random phases, from {self.probes} calls beside the {self.calls}; the 20 ms grid alone makes"
            " 19 ms of their p95."
        )


@attrs.frozen
class Comparison:
    """Runs of several rates that took turns, so that what else the machine did met them alike."""

    runs: tuple[Run, ...]

    @property
    def is_clean(self) -> bool:
        """Nothing was lost in any of them."""
        return all(run.is_clean for run in self.runs)

    def _cpu(self) -> dict[int, list[float]]:
        found: dict[int, list[float]] = {}
        for run in self.runs:
            found.setdefault(run.rate_hz, []).append(run.cpu_percent_per_call)
        return found

    def rates(self) -> list[dict[str, Any]]:
        """For each rate: CPU a call, its mean over the runs, and how it compares with the first rate's."""
        cpu = self._cpu()
        first = statistics.fmean(next(iter(cpu.values())))
        return [
            {
                "rate_hz": rate_hz,
                "cpu_percent_per_call": [round(value, 4) for value in values],
                "mean": round(statistics.fmean(values), 4),
                "more_than_first": round(statistics.fmean(values) - first, 4),
                "ratio_to_first": round(statistics.fmean(values) / first, 3) if first else None,
                "others_percent": [round(run.others_percent, 1) for run in self.runs if run.rate_hz == rate_hz],
            }
            for rate_hz, values in cpu.items()
        ]

    def as_json(self) -> dict[str, Any]:
        """The object that ``--json`` prints."""
        return {"rates": self.rates(), "runs": [run.as_json() for run in self.runs]}

    def show(self, console: Console) -> None:
        """Print every run's table and one that compares them."""
        for run in self.runs:
            run.show(console)
        table = Table(title="CPU of the server, a call, in % of a core")
        for heading in (
            "bots at",
            "in each run",
            "mean",
            "more than the first",
            "ratio",
            "others meanwhile, % of a core",
        ):
            table.add_column(heading, justify="right")
        for rate in self.rates():
            table.add_row(
                f"{rate['rate_hz']} Hz",
                ", ".join(f"{value:.4f}" for value in rate["cpu_percent_per_call"]),
                f"{rate['mean']:.4f}",
                f"{rate['more_than_first']:+.4f}",
                "" if rate["ratio_to_first"] is None else f"{rate['ratio_to_first']:.3f}",
                ", ".join(f"{value:.1f}" for value in rate["others_percent"]),
            )
        console.print(table)


def _rounded(value: float, digits: int) -> float | None:
    return None if math.isnan(value) else round(value, digits)


def _text(value: float, digits: int) -> str:
    return "not measured" if math.isnan(value) else f"{value:.{digits}f}"
