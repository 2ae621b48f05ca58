"""What one bot that stops reading does to the other calls: ``python -m agentstream.cli.bench.stall``.

A server, a bot and callers as processes of their own, as in the bench of bursts. When all calls are up and calm, the
bot reads one of its streams no more for a while. Measured are the packets of all calls against their own 20 ms grids
(kernel time), the server's memory before and at the end of the stall, and what that one stream says it dropped.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import attrs
import numpy.typing as npt
import orjson

from agentstream.cli.bench import machine
from agentstream.cli.bench.burst import LIMIT_MS, Bursts, Window, lateness
from agentstream.cli.children import Child, children
from agentstream.errors import AgentstreamError

STALL_S = 18.0
"""Less than what passes between a ping and its time-out, so that the stream outlives it."""


@attrs.define(eq=False)
class Stall(Bursts):
    """One run.

    :ivar memory: bytes of the server, before and at the end of the stall.
    """

    memory: tuple[int, int] = (0, 0)
    _server: Child | None = None

    def disturb(self, bot: Child, server: Child) -> list[tuple[int, int, int]]:
        self._server = server
        before, start = machine.memory_bytes(server.pid), time.monotonic_ns()
        bot.say("stall")
        self.rest(self.seconds)
        self.memory = (before, machine.memory_bytes(server.pid))
        end = time.monotonic_ns()
        bot.say("read_on")
        self.rest(1.0)
        return [(start, end, end)]

    def report(self, windows: list[tuple[int, int, int]], received: npt.NDArray[Any], calm: Window) -> dict[str, Any]:
        start, end, _ = windows[0]
        assert self._server is not None
        ended = [news["fields"] for news in self._server.news if news.get("event") == "stream_ended"]
        dropped = sorted((fields.get("dropped_ms", 0) for fields in ended), reverse=True)
        return {
            "stall_s": self.seconds,
            "stalled": attrs.asdict(lateness(received, calm, (start, end))),
            "dropped_ms": dropped[0] if dropped else None,
            "dropped_by_others_ms": sum(dropped[1:]),
            "memory_grew_kb": round((self.memory[1] - self.memory[0]) / 1024, 1),
        }


def main(arguments: list[str] | None = None) -> int:
    """Measure; 0 when no packet was more than 10 ms late and only the stalled stream dropped something."""
    parser = argparse.ArgumentParser(prog="python -m agentstream.cli.bench.stall", description=__doc__)
    parser.add_argument("--calls", type=int, default=100, metavar="N", help="calls with a bot each (default 100)")
    parser.add_argument("--seconds", type=float, default=STALL_S, metavar="S", help="how long it reads nothing")
    args = parser.parse_args(arguments)
    try:
        with tempfile.TemporaryDirectory(prefix="agentstream-stall-") as folder, children() as family:
            figures = Stall(family, Path(folder), args.calls, args.seconds, 0, 0).run()
    except AgentstreamError as error:
        sys.exit(f"agentstream: {error}")
    sys.stdout.write(orjson.dumps(figures, option=orjson.OPT_INDENT_2).decode() + "\n")
    is_good = (
        figures["stalled"]["worst_ms"] <= LIMIT_MS and figures["dropped_ms"] and not figures["dropped_by_others_ms"]
    )
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main())
