"""``agentstream check [FILE]``: every mistake in a config, its flows and its drop-ins, and what would not work here."""

from __future__ import annotations

import argparse
import os
import resource
import sys
from collections.abc import Iterator
from pathlib import Path

from agentstream.config.model import Config
from agentstream.errors import Problem
from agentstream.flow.loader import SAMPLE, Loaded, examine

FILES_A_CALL = 4
"""Two sockets for RTP, one for RTCP and one WebSocket."""

FILES_BESIDES = 64
"""Listeners, logs, the reactor's own and a few to spare."""

PORT_REST_S = 2.0
"""How long a pair of ports rests before it is used again."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this command."""
    parser.add_argument("file", nargs="?", type=Path, default=SAMPLE, help="the config; default: the packaged sample")
    parser.add_argument("--traceback", action="store_true", help="show the whole traceback of a broken drop-in")


def run(args: argparse.Namespace) -> int:
    """Print every problem and every warning; 0 when the file can be served, otherwise 1."""
    loaded, problems = examine(args.file)
    for problem in problems:
        print(f"error: {problem}")
        if args.traceback and problem.file in loaded.registry.tracebacks:
            print(loaded.registry.tracebacks[problem.file].rstrip())
    warnings = [*loaded.warnings, *machine_warnings(loaded.config, str(args.file), open_files_limit())]
    for warning in warnings:
        print(f"warning: {warning}")
    print(_summary(args.file, loaded, len(problems), len(warnings)), file=sys.stderr if problems else sys.stdout)
    return 1 if problems else 0


def open_files_limit() -> int:
    """How many files and sockets a process that is started from here may hold."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if soft == resource.RLIM_INFINITY else soft


def machine_warnings(config: Config, file: str, open_files: int) -> Iterator[Problem]:
    """What the config asks for and this machine, or its own port range, does not give."""
    media = config.media
    pairs = len(media.ports.pairs)
    if pairs < media.max_calls:
        sentence = (
            f"has room for {pairs} calls, two ports each, which is less than media.max_calls ({media.max_calls});"
            f" give {2 * media.max_calls} ports or more, or lower media.max_calls"
        )
        yield Problem(file, "media.ports", sentence)
    elif pairs < 2 * media.max_calls:
        # At worst every call ends at once and as many begin while all the ports of the old ones rest.
        rate = (pairs - media.max_calls) / PORT_REST_S
        sentence = (
            f"lets {rate:g} calls a second begin while media.max_calls ({media.max_calls}) are up, because a pair of"
            f" ports rests {PORT_REST_S:g} s after its call; give {4 * media.max_calls} ports or more"
        )
        yield Problem(file, "media.ports", sentence)
    needed = FILES_A_CALL * media.max_calls + FILES_BESIDES
    if needed > open_files:
        sentence = (
            f"needs {needed} open files for {media.max_calls} calls and this process may have {open_files};"
            f" raise the limit (ulimit -n {needed}, or LimitNOFILE={needed} in a systemd unit)"
        )
        yield Problem(file, "media.max_calls", sentence)
    if (os.cpu_count() or 1) < 2:
        yield Problem(
            file, "", "this machine has one core, so that whatever else runs here delays the sound of all calls"
        )


def _summary(file: Path, loaded: Loaded, errors: int, warnings: int) -> str:
    if errors:
        return f"{file}: {errors} error{'s' if errors > 1 else ''}, cannot be served"
    applets = len(loaded.registry.applets)
    counted = ", ".join(
        f"{number} {what}{'' if number == 1 else 's'}"
        for number, what in ((len(loaded.flows), "flow"), (len(loaded.config.route), "route"), (applets, "applet"))
    )
    return f"{file}: good ({counted}{f', {warnings} to look at' if warnings else ''})"
