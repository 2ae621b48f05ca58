"""What a burst from every bot at once does to the tick: ``python -m agentstream.cli.bench.burst``.

A server, a bot and callers as processes of their own. When all calls are up, the bot says a minute to each of them at
the same moment, several times. Measured is when the callers' packets arrive (kernel time), against the 20 ms grid that
each call had while all was calm; and what the server says of its own ticks when it stops.
"""

from __future__ import annotations

import argparse
import socket
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt
import orjson

from agentstream.cli.bench import machine
from agentstream.cli.children import Child, Children, children
from agentstream.cli.server import ServerSettings, free_port, start_server, wait_for_server
from agentstream.errors import AgentstreamError

LIMIT_MS = 10.0
GRID_NS = 20_000_000
_SPARE_S = 30.0
_CALLS_A_SECOND = 50
_CALM_S = 3.0
_AFTER_S = 2.0
_CLEARED_S = 1.0

Window = tuple[int, int]


@attrs.frozen
class Lateness:
    """How late packets were, ms.

    :ivar packets: how many were looked at.
    :ivar worst_at_s: when the worst one arrived, seconds from the beginning of the window.
    """

    packets: int
    p50_ms: float
    p99_ms: float
    worst_ms: float
    worst_at_s: float


def lateness(received: npt.NDArray[Any], calm: Window, window: Window) -> Lateness:
    """Packets of a window against each call's own grid.

    :param received: records of agentstream.cli.bench.load.
    :param calm: nanoseconds from and to: a call's grid is where its median packet lies in this time.
    """
    late: list[npt.NDArray[np.float64]] = []
    arrived: list[npt.NDArray[np.int64]] = []
    for call in np.unique(received["call"]):
        rows = received[received["call"] == call]
        rows = rows[np.argsort(rows["at_ns"], kind="stable")]
        at_ns = rows["at_ns"]
        slots = np.cumsum(np.diff(rows["number"].astype(np.int64), prepend=0) % 65536)
        off_ns = at_ns - slots * GRID_NS
        is_calm = (at_ns >= calm[0]) & (at_ns < calm[1])
        is_in = (at_ns >= window[0]) & (at_ns < window[1])
        if is_calm.any() and is_in.any():
            late.append((off_ns[is_in] - np.median(off_ns[is_calm])) / 1e6)
            arrived.append(at_ns[is_in])
    if not late:
        raise AgentstreamError("No packet arrived in the time that is looked at.")
    all_ms = np.concatenate(late)
    p50, p99 = np.percentile(all_ms, [50, 99])
    worst = int(all_ms.argmax())
    worst_at_s = (int(np.concatenate(arrived)[worst]) - window[0]) / 1e9
    figures = (float(p50), float(p99), float(all_ms[worst]), worst_at_s)
    return Lateness(len(all_ms), *(round(figure, 2) for figure in figures))


@attrs.define(eq=False)
class Bursts:
    """One run."""

    family: Children
    folder: Path
    calls: int
    seconds: float
    message_ms: int
    rounds: int

    def run(self) -> dict[str, Any]:
        """Everything, in order; the figures."""
        bot = self.family.start("bot", ["-m", "agentstream.cli.bench.burst_bot"])
        url = f"ws://127.0.0.1:{self.family.expect(bot, 'listening', _SPARE_S)['port']}/"
        port = free_port(socket.SOCK_DGRAM)
        settings = ServerSettings(port, {"burst": url}, max_calls=self.calls + 10)
        server = start_server(self.family, settings.write(self.folder))
        wait_for_server(self.family, server, port)
        noted = self.folder / "load.npz"
        load = self.family.start("load", ["-m", "agentstream.cli.bench.load", str(noted), str(port), str(self.calls)])
        self.family.expect(load, "ready", _SPARE_S)
        pinning = machine.pin(server.pid, is_server=True)
        for child in (bot, load):
            machine.pin(child.pid, is_server=False)
        load.say("place", user="burst", calls=self.calls, per_second=_CALLS_A_SECOND)
        self.family.expect(load, "placed", _SPARE_S + self.calls / _CALLS_A_SECOND)
        while self.family.expect(bot, "stream_started", _SPARE_S)["streams"] < self.calls:
            pass
        # The grid is taken where the load has no numbers to note and no call is being set up.
        self.rest(1.0)
        others, began = machine.others_s(), time.monotonic()
        calm = (time.monotonic_ns(), time.monotonic_ns() + int(_CALM_S * 1e9))
        self.rest(_CALM_S)
        windows = self.disturb(bot, server)
        others_percent = 100 * max(0.0, machine.others_s() - others) / (time.monotonic() - began)
        load.say("finish")
        self.family.expect(load, "saved", _SPARE_S + self.calls / _CALLS_A_SECOND)
        server.end()
        with np.load(noted) as saved:
            received = saved["received"]
        return {
            "machine": machine.machine_name(),
            "pinning": pinning,
            "calls": self.calls,
            "others_percent": round(others_percent, 1),
            "setup": attrs.asdict(lateness(received, calm, (0, calm[0]))),
            "calm": attrs.asdict(lateness(received, calm, calm)),
            **self.report(windows, received, calm),
            "server": _said_at_the_end(server),
        }

    def disturb(self, bot: Child, server: Child) -> list[tuple[int, int, int]]:
        """What is done to the server once all is calm."""
        return [self.burst(bot) for _ in range(self.rounds)]

    def report(self, windows: list[tuple[int, int, int]], received: npt.NDArray[Any], calm: Window) -> dict[str, Any]:
        """What is said of it."""
        return {
            "seconds": self.seconds,
            "message_ms": self.message_ms,
            "bursts": [
                {"read_s": round((read - start) / 1e9, 2), **attrs.asdict(lateness(received, calm, (start, end)))}
                for start, read, end in windows
            ],
        }

    def burst(self, bot: Child) -> tuple[int, int, int]:
        """One burst: when its first byte was written, when its last was read, and when all was cleared and over."""
        bot.say("burst", seconds=self.seconds, message_ms=self.message_ms)
        start = self.family.expect(bot, "bursting", _SPARE_S)["at_ns"]
        read = self.family.expect(bot, "read", _SPARE_S)["at_ns"]
        self.rest(_AFTER_S)
        bot.say("clear")
        self.rest(_CLEARED_S)
        return start, read, time.monotonic_ns()

    def rest(self, seconds: float) -> None:
        """Let time pass; a process that ends meanwhile is an error."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self.family.pump(left)
            for child in self.family.all:
                if child.is_over:
                    raise AgentstreamError(child.last_words())


def _said_at_the_end(server: Child) -> dict[str, Any]:
    """What the server says of its ticks, from its start to its end, when it stops."""
    names = ("ticks", "tick_p99_ms", "tick_most_ms", "lateness_p99_ms", "lateness_most_ms", "late_slots", "gc_most_ms")
    for news in reversed(server.news):
        if news.get("event") == "media_ended":
            return {name: news["fields"].get(name) for name in names}
    return {}


def main(arguments: list[str] | None = None) -> int:
    """Measure; 0 when no packet of a burst was more than 10 ms late."""
    parser = argparse.ArgumentParser(prog="python -m agentstream.cli.bench.burst", description=__doc__)
    parser.add_argument("--calls", type=int, default=100, metavar="N", help="calls with a bot each (default 100)")
    parser.add_argument("--seconds", type=float, default=60.0, metavar="S", help="sound in one burst (default 60)")
    parser.add_argument("--message", type=int, default=100, metavar="MS", help="sound in one message (default 100)")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="bursts, one after the other (default 5)")
    args = parser.parse_args(arguments)
    try:
        with tempfile.TemporaryDirectory(prefix="agentstream-burst-") as folder, children() as family:
            run = Bursts(family, Path(folder), args.calls, args.seconds, args.message, args.rounds)
            figures = run.run()
    except AgentstreamError as error:
        sys.exit(f"agentstream: {error}")
    sys.stdout.write(orjson.dumps(figures, option=orjson.OPT_INDENT_2).decode() + "\n")
    return 0 if max(burst["worst_ms"] for burst in figures["bursts"]) <= LIMIT_MS else 1


if __name__ == "__main__":
    sys.exit(main())
