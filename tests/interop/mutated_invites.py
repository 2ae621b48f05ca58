"""Mutated INVITEs over UDP against a real server with calls up: what the calls, OPTIONS and its memory notice of it.

    python -m tests.interop.mutated_invites [--seconds 60] [--messages 10000] [--calls 50]

Each message is a good INVITE with bytes cut out, put in, changed or doubled. They come from an address that may call,
so the server has to look at all of each. Exit status 1 where a bound is broken.
"""

from __future__ import annotations

import argparse
import random
import socket
import sys
import tempfile
import time
from pathlib import Path

import attrs
import numpy as np
from rich.console import Console

from agentstream.cli.bench.fleet import Fleet
from agentstream.cli.bench.measure import WARM_UP_S
from agentstream.cli.bench.scrape import scrape
from agentstream.cli.bench.variants import PLAYOUT_MS, Variant
from agentstream.cli.children import children
from agentstream.cli.server import HOST
from agentstream.testing.sip_peer import SipPeer
from tests.sip.pieces import PIECES

OPTIONS_LIMIT_MS = 100.0
TRANSACTION_S = 34.0
"""How long a refused request is remembered (timers H and J, and a little); behind that memory may not grow."""
GROWTH_LIMIT = 3_000_000
REMEMBERED_LIMIT = 6_000
"""Bytes that one message may hold for so long."""
_EVERY_S = 0.01


def mutated(chance: random.Random, number: int, port: int) -> bytes:
    """One INVITE of its own call, with one to four things wrong with it."""
    peer = SipPeer(HOST, port, "mallory", call_id=f"mutated-{number}", local_tag=f"m{number}")
    data = peer.invite(branch=f"z9hG4bKmutated{number}")
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(data))
        to = min(len(data), at + chance.randrange(40))
        piece = chance.choice((b"", chance.choice(PIECES), chance.randbytes(chance.randrange(8)), 2 * data[at:to]))
        data = data[:at] + piece + data[to:]
    return data


@attrs.frozen
class Outcome:
    """What was noticed.

    :ivar tick_late_p99_ms: how late the server's ticks began. :ivar load_latest_ms: how late the callers' packets left.
    :ivar lost_at_s: when frames were lost, to a tenth of a second.
    :ivar memory: bytes of the server: (seconds since the first message, resident bytes).
    """

    seconds: float
    messages: int
    calls: int
    frames_sent: int
    frames_lost: int
    calls_dropped: int
    options_ms: tuple[float, ...]
    memory: tuple[tuple[float, int], ...]
    received: float
    refused: float
    dropped: float
    tick_late_p99_ms: float
    load_latest_ms: float
    lost_at_s: tuple[float, ...]

    @property
    def growth(self) -> int:
        """Bytes more at the end than when the first transactions had run out (or than at the beginning)."""
        settled = [size for at, size in self.memory if at >= TRANSACTION_S]
        return self.memory[-1][1] - (settled or [self.memory[0][1]])[0]

    def broken(self) -> list[str]:
        """A sentence for each bound that is broken."""
        limit = GROWTH_LIMIT
        if self.seconds < TRANSACTION_S:
            limit += REMEMBERED_LIMIT * self.messages
        bounds = {
            f"{self.frames_lost} frames of calls were lost": self.frames_lost == 0,
            f"{self.calls_dropped} calls were ended": self.calls_dropped == 0,
            f"an OPTIONS took {max(self.options_ms):.1f} ms": max(self.options_ms) <= OPTIONS_LIMIT_MS,
            f"memory grew by {self.growth / 1e6:.1f} MB": self.growth <= limit,
            f"only {self.received:.0f} messages were taken": self.received + self.dropped >= 0.99 * self.messages,
        }
        return [sentence for sentence, holds in bounds.items() if not holds]

    def lines(self) -> list[str]:
        """The figures."""
        sizes = ", ".join(f"{size / 1e6:.1f} at {at:.0f} s" for at, size in self.memory)
        p50, p99 = np.percentile(self.options_ms, [50, 99])
        return [
            f"{self.messages:,} mutated INVITEs in {self.seconds:.0f} s beside {self.calls} calls",
            f"refused {self.refused:.0f}, dropped as no SIP {self.dropped:.0f}",
            f"calls: {self.frames_lost} of {self.frames_sent:,} frames lost, {self.calls_dropped} calls ended",
            f"ticks late p99 {self.tick_late_p99_ms:.1f} ms; callers late by at most {self.load_latest_ms:.1f} ms",
            *(
                [f"frames were lost at {', '.join(f'{at:.1f}' for at in self.lost_at_s[:20])} s"]
                if self.lost_at_s
                else []
            ),
            f"OPTIONS ({len(self.options_ms)}): p50 {p50:.1f} ms, p99 {p99:.1f} ms, most {max(self.options_ms):.1f} ms",
            f"memory of the server, MB: {sizes}",
        ]


@attrs.define
class Attacker:
    """Sends at its rate, and asks OPTIONS twice a second."""

    sock: socket.socket
    asking: socket.socket
    server: tuple[str, int]
    rate: float
    most: int
    fleet: Fleet
    chance: random.Random = attrs.Factory(lambda: random.Random(4475))
    sent: int = 0
    asked: int = 0
    options_ms: list[float] = attrs.Factory(list)
    memory: list[tuple[float, int]] = attrs.Factory(list)

    def turn(self, at_s: float) -> None:
        """What is due by now."""
        if at_s >= len(self.memory) * 5.0:
            self.memory.append((at_s, self.fleet.memory_bytes))
        while self.sent < min(self.most, self.rate * at_s):
            self.sock.sendto(mutated(self.chance, self.sent, self.sock.getsockname()[1]), self.server)
            self.sent += 1
        if at_s >= self.asked * 0.5:
            self.asked += 1
            began = time.perf_counter()
            self.asking.sendto(SipPeer(HOST, self.asking.getsockname()[1]).request("OPTIONS"), self.server)
            self.asking.recv(65536)
            self.options_ms.append(1000 * (time.perf_counter() - began))
        # Answers are not read by anybody; the socket's buffer must not be what is measured.
        try:
            while True:
                self.sock.recv(65536, socket.MSG_DONTWAIT)
        except BlockingIOError:
            pass


def attack(
    folder: Path, calls: int, seconds: float, messages: int, console: Console, playout_ms: int = PLAYOUT_MS
) -> Outcome:
    """Calls that number their frames, and so many mutated INVITEs meanwhile."""
    with (
        children() as family,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking,
    ):
        for one in (sock, asking):
            one.bind((HOST, 0))
        asking.settimeout(5.0)
        fleet = Fleet.start(family, folder, console, Variant(playout_ms=playout_ms), calls)
        fleet.place("echo", calls)
        fleet.rest(WARM_UP_S)
        text = next(folder.glob("*.toml")).read_text()
        port = int(text.partition("udp:")[2].partition(":")[0])
        before = scrape(fleet.http_port).values
        attacker = Attacker(sock, asking, (HOST, port), messages / (seconds - 1.0), messages, fleet)
        window = fleet.steady(calls, seconds, every_s=_EVERY_S, sample=attacker.turn)
        attacker.memory.append((seconds, fleet.memory_bytes))
        after = scrape(fleet.http_port).values
        fleet.finish()

    def counted(name: str) -> float:
        return sum(value - before.get(key, 0.0) for key, value in after.items() if key.startswith(name))

    return Outcome(
        seconds=seconds,
        messages=attacker.sent,
        calls=calls,
        frames_sent=window.steady.frames_sent,
        frames_lost=window.steady.frames_lost,
        calls_dropped=window.dropped,
        options_ms=tuple(attacker.options_ms),
        memory=tuple(attacker.memory),
        received=counted("agentstream_sip_requests_received") - len(attacker.options_ms),
        refused=counted("agentstream_sip_refused") + counted("agentstream_calls_refused"),
        dropped=counted("agentstream_sip_dropped"),
        tick_late_p99_ms=window.late_p99_ms,
        load_latest_ms=window.latest_ms,
        lost_at_s=tuple(float(at) for at in np.unique(np.round(window.steady.lost_at_s, 1))),
    )


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.interop.mutated_invites")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--messages", type=int, default=10_000)
    parser.add_argument("--calls", type=int, default=50)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="agentstream-mutated-") as folder:
        outcome = attack(Path(folder), chosen.calls, chosen.seconds, chosen.messages, Console(stderr=True))
    print(*outcome.lines(), *outcome.broken(), sep="\n")
    return 1 if outcome.broken() else 0


if __name__ == "__main__":
    sys.exit(main())
