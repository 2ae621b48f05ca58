"""``agentstream bench``: server, bot and callers as processes of their own, led through a run, and what it showed."""

from __future__ import annotations

import argparse
import socket
import sys
import tempfile
import time
from pathlib import Path

import attrs
import numpy as np
import orjson
from rich.console import Console

from agentstream.audio.g711 import ULAW_TO_PCM
from agentstream.cli.bench import machine, tone_codes
from agentstream.cli.bench.analysis import Figures, Load, Sink, analyse, percentile
from agentstream.cli.bench.frames import BLOCK, PROBE_CALL, RATE_HZ
from agentstream.cli.bench.report import Comparison, Run
from agentstream.cli.children import Child, Children, children
from agentstream.cli.server import ServerSettings, free_port, start_server, wait_for_server
from agentstream.errors import AgentstreamError

_CALLS_A_SECOND = 50
_WARM_UP_S = 2.0
_MOST_PROBE_S = 10.0
_MOST_FLOOR_S = 5.0
_SPARE_S = 20.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument("--calls", type=int, default=100, metavar="N", help="two-way calls at once (default 100)")
    parser.add_argument(
        "--seconds", type=float, default=20.0, metavar="S", help="steady time that is measured (default 20)"
    )
    parser.add_argument("--cadence", type=int, default=100, metavar="MS", help="sound in one message, ms (default 100)")
    parser.add_argument(
        "--rate",
        type=int,
        nargs="+",
        choices=(8000, 16000, 24000),
        default=[RATE_HZ],
        metavar="HZ",
        help="of the bots' sound: 8000 (default), 16000 or 24000; several are compared, in runs that take turns",
    )
    parser.add_argument("--rounds", type=int, default=1, metavar="N", help="runs of each rate (default 1)")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")


def run(args: argparse.Namespace) -> int:
    """Measure; 0 when nothing was lost, 1 when something was."""
    if not 1 <= args.calls < PROBE_CALL:
        raise AgentstreamError(f"--calls {args.calls} is out of range: give 1 to {PROBE_CALL - 1}.")
    if not 1 <= args.seconds <= 3600:
        raise AgentstreamError(f"--seconds {args.seconds:g} is out of range: give 1 to 3600.")
    if not (20 <= args.cadence <= 200 and args.cadence % 20 == 0):
        raise AgentstreamError(f"--cadence {args.cadence} is not possible: give a multiple of 20 from 20 to 200.")
    most_s = tone_codes.MAX_FRAMES // 50 - 10
    if max(args.rate) != RATE_HZ and args.seconds > most_s:
        raise AgentstreamError(f"--seconds {args.seconds:g} is out of range: beside --rate give at most {most_s}.")
    if not 1 <= args.rounds <= 100:
        raise AgentstreamError(f"--rounds {args.rounds} is out of range: give 1 to 100.")
    if sys.platform != "linux":
        raise AgentstreamError("agentstream bench reads Linux's /proc and epoll: run it on Linux.")
    _need_files(args.calls)
    console = Console(stderr=args.json, quiet=args.json)
    runs = []
    for number, rate_hz in enumerate(args.rate * args.rounds, start=1):
        if len(args.rate) * args.rounds > 1:
            console.print(f"run {number} of {len(args.rate) * args.rounds}: {rate_hz} Hz")
        with tempfile.TemporaryDirectory(prefix="agentstream-bench-") as folder, children() as family:
            runs.append(Bench(family, Path(folder), args.calls, args.seconds, args.cadence, rate_hz, console).run())
    measured = runs[0] if len(runs) == 1 else Comparison(tuple(runs))
    if args.json:
        sys.stdout.write(orjson.dumps(measured.as_json()).decode() + "\n")
    else:
        measured.show(Console())
    return 0 if measured.is_clean else 1


def _need_files(calls: int) -> None:
    """Raise this process's limit of open files, which its children inherit, to what so many calls need."""
    import resource

    needed = 4 * (calls + calls // 10) + 200
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= needed or soft == resource.RLIM_INFINITY:
        return
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise AgentstreamError(
            f"{calls} calls need {needed} open files and {hard} are allowed: raise it with ulimit -n."
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


FIXED_PLAYOUT_MS = 60
"""What the playout delay is by default, to begin with."""


@attrs.define(eq=False)
class Bench:
    """One run, from the first process to the last figure."""

    family: Children
    folder: Path
    calls: int
    seconds: float
    cadence_ms: int
    rate_hz: int
    console: Console

    @property
    def probes(self) -> int:
        """Calls beside the others whose bot speaks in bursts: one for each ten."""
        return max(1, self.calls // 10)

    @property
    def probe_s(self) -> float:
        """How long the probes' bots speak."""
        return min(_MOST_PROBE_S, self.seconds)

    def run(self) -> Run:
        """Everything, in order."""
        everything = self.calls + self.probes
        rate = str(self.rate_hz)
        sink = self.family.start("bot", ["-m", "agentstream.cli.bench.sink", str(self.folder / "sink.npz"), rate])
        bot = f"ws://127.0.0.1:{self.family.expect(sink, 'listening', _SPARE_S)['port']}"
        port = free_port(socket.SOCK_DGRAM)
        bots = {user: f"{bot}/{user}?sample-rate={rate}" for user in ("echo", "probe")}
        # Frames are known by what is in them: none may be left out to make the delay shorter.
        settings = ServerSettings(
            port, bots, self.cadence_ms, max_calls=everything + 10, fixed_playout_ms=FIXED_PLAYOUT_MS
        )
        server = start_server(self.family, settings.write(self.folder))
        wait_for_server(self.family, server, port)
        load = self.family.start(
            "load",
            ["-m", "agentstream.cli.bench.load", str(self.folder / "load.npz"), str(port), str(everything), rate],
        )
        self.family.expect(load, "ready", _SPARE_S)
        pinning = machine.pin(server.pid, is_server=True)
        for child in (sink, load):
            machine.pin(child.pid, is_server=False)

        empty_bytes = machine.memory_bytes(server.pid)
        setup_ms = self.place(load, sink, "echo", self.calls, self.calls)
        self.rest(_WARM_UP_S)
        sink.say("steady")
        load.say("number", seconds=self.seconds)
        self.console.print(f"measuring for {self.seconds:g} s")
        began_ns = self.family.expect(load, "numbering", _SPARE_S)["at_ns"]
        cpu_before, at_before = machine.cpu_s(server.pid), time.monotonic()
        others_before = machine.others_s()
        ended_ns = self.family.expect(load, "numbered", self.seconds + _SPARE_S)["at_ns"]
        cpu_after, at_after = machine.cpu_s(server.pid), time.monotonic()
        others_percent = 100 * max(0.0, machine.others_s() - others_before) / (at_after - at_before)
        held_bytes = machine.memory_bytes(server.pid)
        self.family.expect(load, "settled", _SPARE_S)

        self.place(load, sink, "probe", self.probes, everything)
        sink.say("probe", seconds=self.probe_s)
        self.console.print(f"bursts of {self.probes} more bots for {self.probe_s:g} s")
        self.rest(self.probe_s + 1.0)
        load.say("finish")
        latest_ms = self.family.expect(load, "saved", _SPARE_S + everything / _CALLS_A_SECOND)["latest_ms"]
        self.family.pump(0.2)
        sink.say("finish")
        self.family.expect(sink, "saved", _SPARE_S)
        server.end()
        tick_p99_ms = _tick_p99_ms(server)

        floor = self.family.start(
            "floor",
            [
                "-m",
                "agentstream.cli.bench.floor",
                str(self.calls),
                str(min(_MOST_FLOOR_S, self.seconds)),
                str(self.cadence_ms),
                rate,
            ],
        )
        self.console.print("the floor: socket calls alone")
        floor_percent = self.family.expect(floor, "floor", _MOST_FLOOR_S + _SPARE_S)["percent_per_call"]
        return Run(
            machine=machine.machine_name(),
            pinning=pinning,
            calls=self.calls,
            probes=self.probes,
            seconds=self.seconds,
            cadence_ms=self.cadence_ms,
            rate_hz=self.rate_hz,
            cpu_percent_per_call=100 * (cpu_after - cpu_before) / (at_after - at_before) / self.calls,
            floor_percent_per_call=floor_percent,
            memory_mb_per_call=(held_bytes - empty_bytes) / self.calls / 1e6,
            tick_p99_ms=tick_p99_ms,
            others_percent=others_percent,
            load_latest_ms=latest_ms,
            setup_p95_ms=percentile(np.array(setup_ms), 95),
            figures=self.figures((began_ns, ended_ns)),
        )

    def place(self, load: Child, sink: Child, user: str, calls: int, streams: int) -> list[float]:
        """Have calls placed and wait until each has its stream; returns how long each answer took, ms."""
        self.console.print(f"placing {calls} calls, {_CALLS_A_SECOND} a second")
        load.say("place", user=user, calls=calls, per_second=_CALLS_A_SECOND)
        setup_ms: list[float] = self.family.expect(load, "placed", _SPARE_S + calls / _CALLS_A_SECOND)["setup_ms"]
        while self.family.expect(sink, "stream_started", _SPARE_S)["streams"] < streams:
            pass
        return setup_ms

    def rest(self, seconds: float) -> None:
        """Let time pass; a process that ends meanwhile is an error."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self.family.pump(left)
            for child in self.family.all:
                if child.is_over:
                    raise AgentstreamError(child.last_words())

    def figures(self, window_ns: tuple[int, int]) -> Figures:
        """What load and bot have noted, analysed."""
        with np.load(self.folder / "load.npz") as noted:
            sent, received, payloads = noted["sent"], noted["received"], noted["sound"]
        with np.load(self.folder / "sink.npz") as noted:
            messages, codes, bursts, blocks = noted["messages"], noted["codes"], noted["bursts"], noted["sound"]
        if self.rate_hz != RATE_HZ:
            # The notes hold sound; put the codes of the numbers that it says where they would be at 8 kHz.
            codes = tone_codes.read_streams(np.repeat(messages["stream"], messages["blocks"]), blocks)
            heard = ULAW_TO_PCM[payloads].reshape(-1, BLOCK)
            received["codes"] = tone_codes.read_streams(np.repeat(received["call"], 2), heard).reshape(-1, 2, 8)
        load, sink = Load(sent, received), Sink(messages, codes, bursts)
        return analyse(load, sink, window_ns)


def _tick_p99_ms(server: Child) -> float:
    """What the server says of its tick when it stops."""
    for news in reversed(server.news):
        value = (news.get("fields") or {}).get("tick_p99_ms")
        if isinstance(value, int | float):
            return float(value)
    return float("nan")
