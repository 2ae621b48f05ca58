"""A bot that is silent until it is told to say a minute to every caller at once.

Run as a process: ``python -m agentstream.cli.bench.burst_bot``. It tells ``listening`` with its port and
``stream_started`` for each stream. The order ``burst`` (seconds, message_ms) has it write that much sound to all
streams as fast as they take it: ``bursting`` when it begins, ``read`` when the server has parsed the last byte, which
the pong to a ping behind it tells. ``clear`` takes back what has not been played. ``stall`` has it read the first
stream no more until ``read_on``. Times are monotonic nanoseconds.
"""

from __future__ import annotations

import random
import select
import socket
import time

import attrs
import numpy as np
import pybase64

from agentstream.cli.bench.control import Orders, tell
from agentstream.cli.bench.sink import Sink, Stream
from agentstream.cli.bench.websocket import PING, TEXT, frame

RATE_HZ = 8000


@attrs.define(eq=False)
class BurstBot(Sink):
    """All streams, on one epoll object; notes nothing of what it hears.

    :ivar bursting: streams whose burst has not been read whole.
    """

    bursting: int = 0

    def take(self, stream: Stream, text: bytes, at_ns: int) -> None:
        """Only ``start`` matters."""
        if text.startswith(b'{"event":"start"'):
            self.started += 1
            tell("stream_started", streams=self.started)

    def send(self, stream: Stream, data: bytes) -> None:
        """Keep the order of what waits, however it is kept."""
        if stream.unsent and not isinstance(stream.unsent, bytes):
            stream.unsent = bytes(stream.unsent)
        super().send(stream, data)

    def ponged(self, stream: Stream) -> None:
        """One has been read whole; the last one is news."""
        self.bursting -= 1
        if not self.bursting:
            tell("read", at_ns=time.monotonic_ns())

    def burst(self, seconds: float, message_ms: int) -> None:
        """Say it to everybody. One copy is enough: whom a message is for is the connection it comes on."""
        said = memoryview(minute(seconds, message_ms) + frame(PING, b"read"))
        streams = [stream for stream in self.streams.values() if stream.reader is not None]
        self.bursting = len(streams)
        tell("bursting", at_ns=time.monotonic_ns(), bytes=len(said) * len(streams))
        for stream in streams:
            self.send(stream, said)  # type: ignore[arg-type]  # its rest is a view, and not a copy each time

    def clear(self) -> None:
        """Make every caller's queue empty."""
        for stream in self.streams.values():
            if stream.reader is not None:
                self.send(stream, frame(TEXT, b'{"event":"clear"}'))

    def stall(self, is_stalled: bool) -> None:
        """Read the first stream no more, or again."""
        stream = next(stream for stream in self.streams.values() if stream.reader is not None)
        self.poller.modify(stream.sock, 0 if is_stalled else select.EPOLLIN)


def minute(seconds: float, message_ms: int) -> bytes:
    """That much noise as media messages in frames."""
    samples = np.random.default_rng(1).integers(-8000, 8000, RATE_HZ * message_ms // 1000, np.int16)
    payload = pybase64.b64encode(samples.tobytes())
    message = frame(TEXT, b'{"event":"media","stream_sid":"' + b"0" * 32 + b'","media":{"payload":"' + payload + b'"}}')
    return message * round(seconds * 1000 / message_ms)


def run() -> None:
    """Serve until nobody is there to give orders."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    listener.setblocking(False)
    bot = BurstBot(listener, random.random)
    bot.poller.register(listener, select.EPOLLIN)
    bot.poller.register(0, select.EPOLLIN)
    orders = Orders()
    tell("listening", port=listener.getsockname()[1])
    while not orders.is_over:
        for fd, flags in bot.poller.poll(1.0):
            if fd == listener.fileno():
                bot.accept()
            elif fd == 0:
                for order in orders.poll():
                    if order["kind"] == "burst":
                        bot.burst(order["seconds"], order["message_ms"])
                    elif order["kind"] == "clear":
                        bot.clear()
                    elif order["kind"] in ("stall", "read_on"):
                        bot.stall(order["kind"] == "stall")
            elif (stream := bot.streams.get(fd)) is not None:
                if flags & select.EPOLLOUT:
                    bot.flush(stream)
                if flags & ~select.EPOLLOUT:
                    bot.read(stream)


if __name__ == "__main__":
    run()
