"""The command line: which command, with which options, and how an error reaches the user.

A command is a module with ``add_arguments(parser)`` and ``run(args) -> int`` (its exit status). It is imported when it
is asked for and not before, so that ``agentstream call`` does not wait for what only ``agentstream bench`` needs.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

# Before numpy is imported, by whichever command: a second thread of the linear algebra would only take a core away.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

COMMANDS = {
    "demo": ("agentstream.cli.demo", "place a real call through a server and an echo bot, all of them started here"),
    "call": ("agentstream.cli.call", "a test phone: play a WAV, record what is heard, send DTMF, print statistics"),
    "check": ("agentstream.cli.check", "find every mistake in a config, its flows and its drop-in applets"),
    "bench": ("agentstream.cli.bench.command", "measure how many calls this machine holds"),
    "applet": ("agentstream.cli.applet", "write an applet of your own with its test, or list the applets there are"),
    "bot": ("agentstream.cli.bot", "a sample bot as a program of its own"),
}
"""Command -> (module, one line of help)."""

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130


def build_parser(command: str | None) -> argparse.ArgumentParser:
    """The parser with every command's name, and the options of the one that was asked for."""
    parser = argparse.ArgumentParser(prog="agentstream", description="Telephony for voice bots.")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, (module, text) in COMMANDS.items():
        sub = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        if name == command:
            importlib.import_module(module).add_arguments(sub)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0 done, 1 failed, 2 wrong usage, 130 interrupted."""
    from agentstream.errors import AgentstreamError

    words = list(sys.argv[1:] if arguments is None else arguments)
    command = next((word for word in words if not word.startswith("-")), None)
    args = build_parser(command).parse_args(words)
    try:
        return int(importlib.import_module(COMMANDS[args.command][0]).run(args))
    except AgentstreamError as error:
        print(f"agentstream: {error}", file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
