"""``agentstream bot echo``: the sample bot as a program of its own."""

from __future__ import annotations

import argparse
import sys
from typing import Any

import orjson

from agentstream.errors import StartError
from agentstream.testing.bot import DEFAULT_LISTEN, echo_bot_service, split_listen


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what ``agentstream bot`` takes."""
    parser.add_argument("kind", choices=["echo"], help="which bot: echo says back what it hears")
    parser.add_argument(
        "--listen",
        metavar="ADDRESS:PORT",
        type=_listen,
        default=DEFAULT_LISTEN,
        help="where to listen (default %(default)s); port 0 takes a free one and prints it",
    )
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object a line for each event that comes from the server"
    )


def run(args: argparse.Namespace) -> int:
    """Serve until a signal comes; 0, or 1 when the port cannot be had."""
    from twisted.internet import reactor as installed

    reactor: Any = installed
    service = echo_bot_service(args.listen, reactor=reactor, on_event=_print_json if args.json else None)
    failures: list[str] = []

    def bound(_: None) -> None:
        service.startService()
        reactor.addSystemEventTrigger("before", "shutdown", service.stopService)
        if args.json:
            _print_json({"listening": service.address})
        else:
            print(f"The echo bot listens on ws://{service.address}/", flush=True)

    def not_bound(failure: Any) -> None:
        failures.append(str(failure.value) if failure.check(StartError) else failure.getTraceback())
        reactor.stop()

    reactor.callWhenRunning(lambda: service.bind().addCallbacks(bound, not_bound))
    reactor.run()
    for failure in failures:
        print(failure, file=sys.stderr)
    return 1 if failures else 0


def _listen(text: str) -> str:
    try:
        split_listen(text)
    except StartError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def _print_json(event: dict[str, Any]) -> None:
    sys.stdout.buffer.write(orjson.dumps(event) + b"\n")
    sys.stdout.buffer.flush()
