"""``agentstream bench``: which mode, of what, and how its findings are told.

Every mode gives one JSON object, and all that is shown for people is made of that (agentstream.cli.bench.sheets): so
``--markdown`` of a file that ``--json`` wrote is what docs/performance.md has.
"""

from __future__ import annotations

import argparse
import datetime
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console

from agentstream.cli.bench import disturb, machine, plot, sheets, tone_codes
from agentstream.cli.bench.churn import churn
from agentstream.cli.bench.churn import is_good as churn_is_good
from agentstream.cli.bench.frames import PROBE_CALL, RATE_HZ
from agentstream.cli.bench.measure import is_clean, measure
from agentstream.cli.bench.profile import Profile
from agentstream.cli.bench.ramp import ramp
from agentstream.cli.bench.sip_rate import is_good as sip_is_good
from agentstream.cli.bench.sip_rate import sip_rate
from agentstream.cli.bench.variants import PLAYOUT_MS, SUITES, Variant, compare, product, turns
from agentstream.errors import AgentstreamError
from agentstream.media.silero import HOW_TO_INSTALL, is_installed

_SOAK_SAMPLES = 120
_DEFAULT_S = {
    "run": 20.0,
    "soak": 600.0,
    "ramp": 20.0,
    "churn": 1800.0,
    "sip": 15.0,
    "burst": 60.0,
    "stall": disturb.STALL_S,
}
_DEFAULT_CALLS = {"soak": 600, "ramp": 1000, "sip": 0}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--ramp", action="store_true", help="add calls step by step until the server has enough of them")
    mode.add_argument("--soak", action="store_true", help="a long run: memory and loss over time")
    mode.add_argument(
        "--churn", type=float, metavar="CPS", help="calls that come at so many a second and last 4 s: what each leaves"
    )
    mode.add_argument(
        "--sip",
        type=float,
        metavar="CPS",
        help="calls without sound, so many a second, hung up at once: how soon they are answered",
    )
    mode.add_argument("--burst", action="store_true", help="all bots say a minute at once: how late packets get")
    mode.add_argument("--stall", action="store_true", help="one bot reads nothing for a while: how late packets get")
    mode.add_argument(
        "--markdown", nargs="+", type=Path, metavar="FILE", help="print what --json wrote there as docs/performance.md"
    )
    parser.add_argument(
        "--calls",
        type=int,
        metavar="N",
        help="two-way calls at once (default 100; soak 600; beside --sip 0); of a ramp the most (1000)",
    )
    parser.add_argument("--step", type=int, default=100, metavar="N", help="calls that a ramp adds (default 100)")
    parser.add_argument(
        "--beyond", action="store_true", help="a ramp measures the steps beyond the knee, too, up to --calls"
    )
    parser.add_argument(
        "--seconds",
        type=float,
        metavar="S",
        help="steady time that is measured (default 20, of a ramp's step, too; soak 600; churn 1800)",
    )
    parser.add_argument(
        "--warm-up", type=float, default=300.0, metavar="S", help="of a churn, not counted (default 300)"
    )
    parser.add_argument(
        "--chunk-ms", type=int, nargs="+", default=[100], metavar="MS", help="sound in one message (default 100)"
    )
    parser.add_argument(
        "--rate",
        type=int,
        nargs="+",
        choices=(8000, 16000, 24000),
        default=[RATE_HZ],
        metavar="HZ",
        help="of the bots' sound: 8000 (default), 16000 or 24000",
    )
    parser.add_argument(
        "--recording",
        nargs="+",
        choices=("off", "on"),
        default=["off"],
        help="record every call in stereo (default off)",
    )
    parser.add_argument(
        "--vad",
        nargs="+",
        choices=("on", "off", "silero"),
        default=["on"],
        help="find voice activity: as always (default), not at all, or with the neural detector (extra silero), too",
    )
    parser.add_argument(
        "--srtp",
        nargs="+",
        choices=tuple(SUITES),
        default=["off"],
        help="encrypt the sound of all calls: AES_CM_128_HMAC_SHA1_80 or AEAD_AES_128_GCM (default off)",
    )
    parser.add_argument(
        "--playout-ms",
        type=int,
        nargs="+",
        default=[PLAYOUT_MS],
        metavar="MS",
        help=f"how long callers' sound is held back, and no longer (default {PLAYOUT_MS})",
    )
    parser.add_argument(
        "--rounds",
        type=int,
        metavar="N",
        help="runs of each combination of the six above (default 1), which take turns; of --burst, bursts (5)",
    )
    parser.add_argument("--profile", type=Path, metavar="FILE.svg", help="a flame graph of the server meanwhile")
    parser.add_argument("--plot", type=Path, metavar="FILE.svg", help="a ramp's curves")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")


def run(args: argparse.Namespace) -> int:
    """Measure; 0 when nothing was lost, 1 when something was."""
    if args.markdown:
        return _print_markdown(args.markdown)
    mode = mode_of(args)
    args.seconds = args.seconds or _DEFAULT_S[mode] if args.seconds is None else args.seconds
    args.calls = _DEFAULT_CALLS.get(mode, 100) if args.calls is None else args.calls
    args.rounds = {"burst": 5}.get(mode, 1) if args.rounds is None else args.rounds
    variants = _checked(args, mode)
    console = Console(stderr=args.json, quiet=args.json)
    said: dict[str, Any] = {
        "mode": mode,
        "command": _command(sys.argv),
        "machine": machine.machine_name(),
        "commit": machine.commit(),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }
    found, is_good = _measure(args, mode, variants, console)
    said |= found
    if args.plot:
        args.plot.write_text(plot.of_ramp(said))
    if args.json:
        sys.stdout.write(orjson.dumps(said).decode() + "\n")
    else:
        sheets.show(said, Console())
    return 0 if is_good else 1


def mode_of(args: argparse.Namespace) -> str:
    """What the options ask for."""
    if args.churn is not None:
        return "churn"
    if args.sip is not None:
        return "sip"
    return next((name for name in ("ramp", "soak", "burst", "stall") if getattr(args, name)), "run")


def _measure(
    args: argparse.Namespace, mode: str, variants: list[Variant], console: Console
) -> tuple[dict[str, Any], bool]:
    """What the mode found, and whether nothing went wrong."""
    if mode == "ramp":
        sizes = [*range(args.step, args.calls, args.step), args.calls]
        found = ramp(variants[0], sizes, args.seconds, console, goes_on=args.beyond)
        return found, found["knee"] is None or found["knee"]["holds"] > 0
    if mode == "churn":
        found = churn(variants[0], args.churn, args.seconds, args.warm_up, console)
        return found, churn_is_good(found)
    if mode == "sip":
        profile = Profile(args.profile) if args.profile else None
        found = sip_rate(args.sip, args.seconds, args.calls, console, profile)
        return found, sip_is_good(found)
    if mode == "burst":
        found = disturb.burst(args.calls, args.seconds, variants[0].chunk_ms, args.rounds, console)
        return found, found["worst_ms"] <= disturb.LIMIT_MS
    if mode == "stall":
        found = disturb.stall(args.calls, args.seconds, console)
        alone = bool(found["dropped_ms"]) and not found["dropped_by_others_ms"]
        return found, alone and found["worst_ms"] <= disturb.LIMIT_MS
    profile = Profile(args.profile) if args.profile else None
    sample_s = max(0.5, args.seconds / _SOAK_SAMPLES) if mode == "soak" else 0.0
    order = turns(variants, args.rounds)
    runs = []
    for number, variant in enumerate(order, start=1):
        if len(order) > 1:
            console.print(f"run {number} of {len(order)}: {variant.label()}")
        runs.append(measure(variant, args.calls, args.seconds, console, profile, sample_s))
    return {"variants": compare(runs), "runs": runs}, all(map(is_clean, runs))


def _checked(args: argparse.Namespace, mode: str) -> list[Variant]:
    """The variants that the options ask for.

    :raises AgentstreamError: something that cannot be.
    """
    most = PROBE_CALL - 1
    for name, value, least, limit in (
        ("calls", args.calls, 0 if mode == "sip" else 1, most),
        ("step", args.step, 1, most),
        ("seconds", args.seconds, 1, 86400),
        ("warm-up", args.warm_up, 0, 86400),
        ("rounds", args.rounds, 1, 100),
        ("churn", 1 if args.churn is None else args.churn, 0.1, 200),
        ("sip", 1 if args.sip is None else args.sip, 1, 2000),
    ):
        if not least <= value <= limit:
            raise AgentstreamError(f"--{name} {value:g} is out of range: give {least:g} to {limit:g}.")
    for chunk_ms in args.chunk_ms:
        if not (20 <= chunk_ms <= 200 and chunk_ms % 20 == 0):
            raise AgentstreamError(f"--chunk-ms {chunk_ms} is not possible: give a multiple of 20 from 20 to 200.")
    for playout_ms in args.playout_ms:
        if not (20 <= playout_ms <= 400 and playout_ms % 10 == 0):
            raise AgentstreamError(f"--playout-ms {playout_ms} is not possible: give a multiple of 10 from 20 to 400.")
    most_s = tone_codes.MAX_FRAMES // 50 - 10
    if max(args.rate) != RATE_HZ and args.seconds > most_s:
        raise AgentstreamError(f"--seconds {args.seconds:g} is out of range: beside --rate give at most {most_s}.")
    recording, srtp = [word == "on" for word in args.recording], [SUITES[word] for word in args.srtp]
    variants = product(args.chunk_ms, args.rate, recording, args.vad, args.playout_ms, srtp)
    if "silero" in args.vad and not is_installed():
        raise AgentstreamError(f"--vad silero {HOW_TO_INSTALL}.")
    if len(variants) > 1 and mode not in ("run", "soak"):
        raise AgentstreamError(f"--{mode} compares nothing: give one of each setting.")
    if args.profile and mode not in ("run", "soak", "sip"):
        raise AgentstreamError("--profile is of a run of fixed size: leave the other mode out.")
    if args.profile and len(variants) * args.rounds > 1:
        raise AgentstreamError("--profile is of one run: give one of each setting and no --rounds.")
    if args.plot and mode != "ramp":
        raise AgentstreamError("--plot is of a ramp: add --ramp.")
    if sys.platform != "linux":
        raise AgentstreamError("agentstream bench reads Linux's /proc and epoll: run it on Linux.")
    return variants


def _command(words: Sequence[str]) -> str:
    """The command that was given, without what says how its findings are told."""
    kept: list[str] = []
    is_file = False
    for word in words[1:]:
        if word not in ("--json",) and not is_file and word not in ("--plot",):
            kept.append(word)
        is_file = word == "--plot"
    return shlex.join(["agentstream", *kept])


def _print_markdown(files: list[Path]) -> int:
    sections = []
    for file in files:
        try:
            sections.append(sheets.markdown(orjson.loads(file.read_bytes())))
        except (OSError, ValueError, KeyError) as error:
            raise AgentstreamError(f"{file} is nothing that agentstream bench --json wrote: {error}.") from error
    sys.stdout.write("\n".join(sections))
    return 0
