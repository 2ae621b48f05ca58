"""The floor: what the socket calls of so many calls cost by themselves, with no server around them.

Run as a process: ``python -m agentstream.cli.bench.floor CALLS SECONDS CADENCE_MS RATE_HZ``. It forks a partner,
which stands for callers and bot on another core. Every 20 ms the worker receives and sends one packet of 172 bytes on
each of CALLS connected UDP sockets, and at the cadence reads and writes one message on each of CALLS TCP connections,
which is what a WebSocket is to the kernel. Nothing is decoded, counted or framed. Its own user and system time, in
percent of a core a call, how long its ticks take and how late they begin (p99, ms: what this machine does to a
process that sleeps until its time) go to standard output as one JSON object.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import sys
import time

import attrs
import numpy as np
import orjson

from agentstream.cli.bench.machine import pin

TICK_S = 0.02
PACKET = bytes(12 + 160)
_HALF_TICK_S = TICK_S / 2


def message_bytes(cadence_ms: int, rate_hz: int) -> int:
    """The length of one media message on the wire: base64 of PCM16, its JSON and its WebSocket header."""
    return -(-cadence_ms * rate_hz // 500 // 3) * 4 + 140 + 8


@attrs.frozen
class Pairs:
    """Both ends of everything that is read and written: (worker's, partner's)."""

    packets: list[tuple[socket.socket, socket.socket]]
    streams: list[tuple[socket.socket, socket.socket]]

    @classmethod
    def open(cls, calls: int) -> Pairs:
        """Connect so many UDP sockets and so many over TCP, none of which waits."""
        packets = []
        for _ in range(calls):
            one, other = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
            for end in (one, other):
                end.bind(("127.0.0.1", 0))
                end.setblocking(False)
            one.connect(other.getsockname())
            other.connect(one.getsockname())
            packets.append((one, other))
        streams = []
        with socket.create_server(("127.0.0.1", 0)) as server:
            for _ in range(calls):
                mine = socket.create_connection(server.getsockname())
                theirs, _ = server.accept()
                for end in (mine, theirs):
                    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    end.setblocking(False)
                streams.append((mine, theirs))
        return cls(packets, streams)


def exchange(packets: list[socket.socket], streams: list[int], message: bytes) -> None:
    """One tick: a packet in and out of each socket, a message in and out of each stream given."""
    for sock in packets:
        with contextlib.suppress(BlockingIOError):
            sock.recv(2048)
        sock.send(PACKET)
    for fd in streams:
        with contextlib.suppress(BlockingIOError):
            os.read(fd, 65536)
        with contextlib.suppress(BlockingIOError):
            os.write(fd, message)


def play(end: int, pairs: Pairs, seconds: float, turns: int, message: bytes, start: float) -> tuple[float, float]:
    """Exchange on one end (0 worker, 1 partner) on the 20 ms grid that begins at start; streams take turns.

    :return: how late ticks began, and how long they took: ms, p99.
    """
    late, took = [], []
    packets = [pair[end] for pair in pairs.packets]
    fds = [pair[end].fileno() for pair in pairs.streams]
    for tick in range(int(seconds / TICK_S)):
        wait = start + tick * TICK_S - time.monotonic()
        if wait > 0:
            time.sleep(wait)
        began = time.monotonic()
        late.append(began - start - tick * TICK_S)
        exchange(packets, fds[tick % turns :: turns], message)
        took.append(time.monotonic() - began)
    return 1000 * float(np.percentile(late, 99)), 1000 * float(np.percentile(took, 99))


def measure(calls: int, seconds: float, cadence_ms: int, rate_hz: int) -> dict[str, float]:
    """CPU of the worker in percent of a core a call, and how its ticks were."""
    turns = max(1, cadence_ms // 20)
    message = bytes(message_bytes(cadence_ms, rate_hz))
    pairs = Pairs.open(calls)
    start = time.monotonic() + 0.1
    partner = os.fork()
    if partner == 0:
        pin(os.getpid(), is_server=False)
        play(1, pairs, seconds + 1.0, turns, message, start - _HALF_TICK_S)
        os._exit(0)
    try:
        pin(os.getpid(), is_server=True)
        before, began = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
        late_ms, took_ms = play(0, pairs, seconds, turns, message, start)
        after, ended = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
    finally:
        os.kill(partner, signal.SIGKILL)
        os.waitpid(partner, 0)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    percent = 100 * spent / (ended - began) / calls
    return {"percent_per_call": percent, "late_p99_ms": late_ms, "tick_p99_ms": took_ms}


if __name__ == "__main__":
    found = measure(int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
    sys.stdout.buffer.write(orjson.dumps({"kind": "floor", **found}) + b"\n")
