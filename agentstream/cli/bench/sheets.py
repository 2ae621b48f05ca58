"""What the bench found, as tables: made of its JSON and of nothing else, for a terminal or for docs/performance.md.

Pure. A figure that was not measured is a dash.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import attrs
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from agentstream.cli.bench import ramp
from agentstream.cli.bench.variants import COMPARED

Said = dict[str, Any]
DASH = "–"
GRID_P95_MS = 19.0
"""What waiting for a place on a 20 ms grid costs, of packets at any phase, p95."""

LOOPBACK = (
    "Loopback charges the receiver's part of the network's work to the sender. Bursts and clears come at random phases;"
    " the 20 ms grid alone makes 19 ms of their p95."
)


@attrs.frozen
class Sheet:
    """One table.

    :ivar notes: sentences below it.
    """

    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()


def text(value: Any, digits: int = 2) -> str:
    """A cell."""
    if value is None:
        return DASH
    return f"{value:.{digits}f}" if isinstance(value, float) else str(value)


# (what, key of the figure, digits, unit, key of the floor beside it)
_RUN = (
    ("CPU of the server, a call", "cpu_percent_per_call", 4, "% of a core", "floor_percent_per_call"),
    ("of it the neural speech detector", "speech_percent_per_call", 4, "% of a core", ""),
    ("ratio to the floor", "ratio_to_floor", 2, "", ""),
    ("memory, a call: from a fifth of the calls to all", "memory_mb_per_call", 3, "MB", ""),
    ("memory of the server over calls", "rss_mb_per_call", 3, "MB", ""),
    ("frames sent by callers", "frames_sent", 0, "", ""),
    ("lost on the way to the bot", "frames_lost_to_bot", 0, "", ""),
    ("lost on the way to the caller", "frames_lost_to_caller", 0, "", ""),
    ("not counted: sent too late by the callers", "frames_sent_late", 0, "", ""),
    ("lost of bots' bursts", "burst_frames_lost", 0, "", ""),
    ("heard by another call", "frames_foreign", 0, "", ""),
    ("calls that the server ended", "calls_dropped", 0, "", ""),
    ("WebSocket in to RTP out, p95", "bot_to_rtp_p95_ms", 1, "ms", "grid"),
    ("`clear` to silence, p95", "clear_to_silence_p95_ms", 1, "ms", "grid"),
    ("RTP in to WebSocket out, p95", "rtp_to_bot_p95_ms", 1, "ms, the playout delay in it", ""),
    ("caller to bot to caller, p95", "round_trip_p95_ms", 1, "ms", ""),
    ("packets off their 20 ms grid, p99", "egress_p99_ms", 2, "ms", "floor_late_p99_ms"),
    ("tick, p99", "tick_p99_ms", 2, "ms", "floor_tick_p99_ms"),
    ("tick begins late, p99", "tick_late_p99_ms", 2, "ms", "floor_late_p99_ms"),
    ("INVITE to 200, p95", "setup_p95_ms", 1, "ms", ""),
    ("CPU of the callers", "load_percent", 1, "% of a core", ""),
    ("CPU of the bot", "sink_percent", 1, "% of a core", ""),
    ("CPU of what is no part of this", "others_percent", 1, "% of a core", ""),
    ("a caller's packet late, at worst", "load_latest_ms", 1, "ms (this machine's doing)", ""),
)


def of_run(run: Said) -> Sheet:
    """A run of fixed size."""
    rows = [(name, text(run.get(key), digits), unit, _floor(run, floor)) for name, key, digits, unit, floor in _RUN]
    title = f"{run['calls']} two-way calls for {run['seconds']:g} s: {run['variant']}"
    checked = f"A frame is known by {run['frames_checked_by']}."
    samples = f"{run['bot_to_rtp_samples']} bursts, {run['clear_to_silence_samples']} clears."
    return Sheet(title, ("", "measured", "", "floor"), tuple(rows), (checked, samples, LOOPBACK))


def _floor(run: Said, key: str) -> str:
    if key == "grid":
        return text(GRID_P95_MS, 1)
    return text(run.get(key), 4 if "percent" in key else 2) if key else ""


def of_variants(variants: list[Said]) -> Sheet:
    """Runs that took turns, compared."""
    headings = ("", "CPU a call, %", "floor, %", "in each run", "to the first", "to the floor", *_SHORT, "lost")
    rows = [
        (
            row["variant"],
            text(row["cpu_percent_per_call"], 4),
            text(row["floor_percent_per_call"], 4),
            " ".join(text(value, 4) for value in row["cpu_each"]),
            text(row["ratio_to_first"], 3),
            text(row["ratio_to_floor"], 2),
            *(text(row[name]) for name in COMPARED[2:]),
            text(row["frames_lost"]),
        )
        for row in variants
    ]
    return Sheet("Medians of the runs, and their ratios", headings, tuple(rows))


_SHORT = ("bot to RTP, p95 ms", "clear, p95 ms", "RTP to bot, p95 ms", "egress, p99 ms", "tick, p99 ms")

_STEPS = (
    ("calls", "calls", 0),
    ("CPU a call, %", "cpu_percent_per_call", 4),
    ("floor, %", "floor_percent_per_call", 4),
    ("lost", "frames_lost", 0),
    ("RTP to bot, p99 ms", "rtp_to_bot_p99_ms", 1),
    ("bot to RTP, p99 ms", "bot_to_rtp_p99_ms", 1),
    ("clear, p95 ms", "clear_to_silence_p95_ms", 1),
    ("egress, p99 ms", "egress_p99_ms", 2),
    ("tick, p99 ms", "tick_p99_ms", 2),
    ("late, p99 ms", "tick_late_p99_ms", 2),
    ("memory, MB", "memory_mb", 1),
    ("callers + bot, %", "", 0),
    ("others, %", "others_percent", 1),
)


def of_ramp(said: Said) -> Sheet:
    """A ramp."""
    rows = tuple(
        tuple(
            text(step[key], digits) if key else text(step["load_percent"] + step["sink_percent"], 0)
            for _, key, digits in _STEPS
        )
        for step in said["steps"]
    )
    notes = (knee_sentence(said), f"Memory: {text(said['memory_mb_per_call'], 3)} MB a call, over all steps.")
    title = f"Ramp, {said['seconds']:g} s a step: {said['variant']}"
    return Sheet(title, tuple(heading for heading, _, _ in _STEPS), rows, notes)


def knee_sentence(said: Said) -> str:
    """Where the knee is, in words."""
    knee = said["knee"]
    if knee is None:
        return f"No knee up to {said['steps'][-1]['calls']} calls."
    whose = "" if knee["is_of_server"] else f" The callers' core was full ({ramp.LOAD_MS:g} ms late): not the server's."
    return f"The knee: {knee['calls']} calls ({'; '.join(knee['reasons'])}). It holds {knee['holds']}.{whose}"


def of_soak(said: Said) -> Sheet:
    """Memory and loss over a long run."""
    lost = said["frames_lost_over_time"]
    held = said["memory_mb_over_time"]
    step = max(1, len(held) // len(lost))
    rows = [
        (f"{at_s:g}", text(held[min(number * step, len(held) - 1)][1], 1) if held else DASH, str(count))
        for number, (at_s, count) in enumerate(lost)
    ]
    slope = (
        f"Memory grows by {text(said['memory_kb_a_minute'])} kB a minute (standard error"
        f" {text(said['memory_kb_a_minute_error'])}), {text(said['memory_kb_a_minute_and_call'], 4)} a call."
    )
    return Sheet("Over time", ("from second", "memory, MB", "frames lost"), tuple(rows), (slope,))


def of_churn(said: Said) -> Sheet:
    """Calls that came and went."""
    left = ", ".join(f"{name} {count}" for name, count in said["left_over"].items()) or "nothing"
    growth = f"{text(said['growth_kb_per_call'], 3)} (standard error {text(said['growth_kb_error'], 3)})"
    rows = (
        ("calls, and of them behind the warm-up", f"{said['calls']}, {said['calls_counted']}", ""),
        ("at once", str(said["calls_at_once"]), ""),
        ("memory that a call leaves behind", growth, "kB"),
        ("memory with no call yet", text(said["memory_mb_empty"], 1), "MB"),
        ("memory behind the warm-up", text(said["memory_mb_at_warm_up"], 1), "MB"),
        ("memory at the end, calls up", text(said["memory_mb_at_end"], 1), "MB"),
        ("memory when all were over", text(said["memory_mb_quiet"], 1), "MB"),
        ("refused", str(sum(said["refused"].values())), ""),
        ("ended by the server", str(said["dropped"]), ""),
        ("without sound", str(said["unheard"]), ""),
        ("left over", left, ""),
        ("INVITE to 200, p95", text(said["setup_p95_ms"], 1), "ms"),
        ("INVITE to 200, longest", text(said["setup_most_ms"], 1), "ms"),
        ("CPU of the server", text(said["cpu_percent"], 1), "% of a core"),
        ("tick, p99", text(said["tick_p99_ms"]), "ms"),
        ("tick begins late, p99", text(said["tick_late_p99_ms"]), "ms"),
    )
    title = (
        f"{said['calls_a_second']:g} calls a second of {said['lasting_s']:g} s, for {said['seconds']:g} s"
        f" behind {said['warm_up_s']:g} s of warm-up"
    )
    note = "Memory behind and within the warm-up is of the same load, call after call; what is left is of the end."
    return Sheet(title, ("", "measured", ""), rows, (note,))


def of_sip_rate(said: Said) -> Sheet:
    """Calls without sound."""
    left = ", ".join(f"{name} {count}" for name, count in said["left_over"].items()) or "nothing"
    rows = (
        ("calls", str(said["calls"]), ""),
        ("INVITE to 200, p50", text(said["setup_p50_ms"]), "ms"),
        ("INVITE to 200, p95", text(said["setup_p95_ms"]), "ms"),
        ("INVITE to 200, p99", text(said["setup_p99_ms"]), "ms"),
        ("INVITE to 200, longest", text(said["setup_most_ms"]), "ms"),
        ("messages that somebody had to repeat", str(said["repeated"]), ""),
        ("refused", str(sum(said["refused"].values())), ""),
        ("never answered", str(said["unanswered"]), ""),
        ("left over", left, ""),
        ("frames lost of the calls beside", str(said["frames_lost"]) if said["calls_beside"] else DASH, ""),
        ("CPU of the server", text(said["cpu_percent"], 1), "% of a core"),
        ("CPU of these callers", text(said["load_percent"], 1), "% of a core"),
        ("CPU of what is no part of this", text(said["others_percent"], 1), "% of a core"),
        ("an INVITE late, at worst", text(said["load_latest_ms"]), "ms (this machine's doing)"),
        ("tick, p99", text(said["tick_p99_ms"]), "ms"),
        ("tick begins late, p99", text(said["tick_late_p99_ms"]), "ms"),
    )
    beside = f", beside {said['calls_beside']} two-way calls" if said["calls_beside"] else ""
    title = f"{said['calls_a_second']:g} calls a second without sound for {said['seconds']:g} s{beside}"
    note = "Left over is what is there when SIP's timers of 32 s have run out and was not there before."
    return Sheet(title, ("", "measured", ""), rows, (note,))


def of_disturbance(said: Said) -> Sheet:
    """Bursts from all bots at once, or a bot that reads nothing: how late packets were."""
    rows = [
        (name, text(each["packets"]), text(each["p50_ms"]), text(each["p99_ms"]), text(each["worst_ms"]))
        for name, each in said["lateness"].items()
    ]
    notes = tuple(f"{name}: {text(value)}." for name, value in said["beside"].items() if value is not None)
    return Sheet(said["title"], ("", "packets", "late, p50 ms", "p99 ms", "worst ms"), tuple(rows), notes)


def sheets_of(said: Said) -> list[Sheet]:
    """Everything that one run of the command found."""
    mode = said["mode"]
    if mode == "ramp":
        return [of_ramp(said)]
    if mode == "churn":
        return [of_churn(said)]
    if mode == "sip":
        return [of_sip_rate(said)]
    if mode in ("burst", "stall"):
        return [of_disturbance(said)]
    sheets = [of_run(run) for run in said["runs"]]
    if mode == "soak":
        sheets += [of_soak(run) for run in said["runs"]]
    return [*sheets, of_variants(said["variants"])] if len(said["variants"]) > 1 else sheets


def place(said: Said) -> str:
    """What ran it."""
    pinning = said["runs"][0]["pinning"] if "runs" in said else said["pinning"]
    return f"{said['machine']}; {pinning}; commit {said['commit']}, {said['date']}."


def show(said: Said, console: Console) -> None:
    """Print the tables."""
    for sheet in sheets_of(said):
        table = Table(title=escape(sheet.title), show_header=any(sheet.headings))
        for number, heading in enumerate(sheet.headings):
            table.add_column(escape(heading), justify="right" if number == 1 or len(sheet.headings) > 4 else "left")
        for row in sheet.rows:
            table.add_row(*map(escape, row))
        console.print(table)
        for note in sheet.notes:
            console.print(note, markup=False, highlight=False)
    console.print(place(said), markup=False, highlight=False)


def markdown(said: Said) -> str:
    """A section of docs/performance.md: the command, what ran it, its tables."""
    lines = ["```", said["command"], "```", "", place(said), ""]
    sheets = sheets_of(said)
    # Of runs that took turns the page has the comparison; the runs themselves are in the JSON.
    for sheet in sheets[-1:] if len(said.get("variants", ())) > 1 else sheets:
        lines += [f"**{sheet.title}**", "", _row(sheet.headings), _row("---" for _ in sheet.headings)]
        lines += [_row(row) for row in sheet.rows]
        lines += ["", *sheet.notes, ""]
    return "\n".join(lines).rstrip() + "\n"


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
