"""The bench's bot: a WebSocket server that echoes (path /echo) or speaks in bursts (path /probe), and notes it all.

Run as a process: ``python -m agentstream.cli.bench.sink RATE_HZ``. It tells ``listening`` with its port and
``stream_started`` for each stream, and takes the orders ``note`` (path), ``close`` (``noting`` and ``noted`` answer),
``probe`` (seconds) and ``finish``. What it notes is in files of agentstream.cli.bench.notes:

- ``messages``: MESSAGE records, one a media message, with the kernel's time of arrival;
- ``codes``: int16[blocks, 8], the places in those messages' audio where frame numbers may be, in the same order;
- ``pcm``: int16[blocks, 80], instead of codes where the rate is not 8 kHz: those messages' audio, of which every
  second or third sample is kept (it holds nothing above 4 kHz), for agentstream.cli.bench.tone_codes;
- ``bursts``: BURST records, one a burst that a probe wrote, of 40 ms;
- ``clears``: BURST records, one a ``clear`` that a probe sent while it spoke: the first frame of what it was saying.

Nothing is worked out here that can be worked out later: what is spent here could disturb what is measured.
"""

from __future__ import annotations

import gc
import heapq
import random
import select
import socket
import struct
import sys
import time
from collections.abc import Callable
from typing import Any

import attrs
import numpy as np
import orjson
import pybase64

from agentstream.audio.g711 import ULAW_TO_PCM
from agentstream.cli.bench import frames, tone_codes
from agentstream.cli.bench.control import Orders, tell
from agentstream.cli.bench.notes import Notes
from agentstream.cli.bench.websocket import CLOSE, PING, PONG, TEXT, FrameReader, accept_upgrade, frame
from agentstream.cli.kernel_time import ANCILLARY_BYTES, ArrivalClock, ask_for_time

MESSAGE = np.dtype([("at_ns", "<i8"), ("blocks", "<u4"), ("stream", "<u4")])
BURST = np.dtype([("at_ns", "<i8"), ("frame", "<u4"), ("call", "<u4")])
_RECORD = struct.Struct("<qII")

KINDS = ("messages", "codes", "pcm", "bursts", "clears")

_PAUSE_S = 0.5
_PHASE_S = 0.02
_SPOKEN_S = 0.15
_BURST, _SPEECH, _CLEAR = range(3)
_MEDIA = b'{"event":"media"'
_PAYLOAD = b'"payload":"'
_READ_BYTES = 262144


@attrs.define(eq=False)
class Stream:
    """One WebSocket connection.

    :ivar prefix: what a media message of ours begins with.
    :ivar bursts: frames that a probe has said.
    """

    sock: socket.socket
    number: int
    reader: FrameReader | None = None
    head: bytes = b""
    is_probe: bool = False
    prefix: bytes = b""
    clear: bytes = b""
    unsent: bytes = b""
    bursts: int = 0


@attrs.define(eq=False)
class Sink:
    """All streams, on one epoll object.

    :ivar random: uniform in [0, 1): the phases of bursts.
    :ivar rate_hz: of the streams' audio.
    :ivar due: what probes do next: (monotonic seconds, file descriptor, what).
    """

    listener: socket.socket
    random: Callable[[], float]
    rate_hz: int = frames.RATE_HZ
    poller: select.epoll = attrs.field(factory=select.epoll)
    clock: ArrivalClock = attrs.field(factory=ArrivalClock)
    streams: dict[int, Stream] = attrs.field(factory=dict)
    notes: Notes = attrs.field(factory=lambda: Notes(*KINDS))
    due: list[tuple[float, int, int]] = attrs.field(factory=list)
    probe_until: float = 0.0
    accepted: int = 0
    started: int = 0

    def accept(self) -> None:
        """Take every connection that waits."""
        while True:
            try:
                sock, _ = self.listener.accept()
            except BlockingIOError:
                return
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            ask_for_time(sock)
            self.streams[sock.fileno()] = Stream(sock, self.accepted)
            self.accepted += 1
            self.poller.register(sock, select.EPOLLIN)

    def read(self, stream: Stream) -> None:
        """Take what one connection has sent."""
        try:
            data, ancillary, _, _ = stream.sock.recvmsg(_READ_BYTES, ANCILLARY_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data, ancillary = b"", []
        if not data:
            self.close(stream)
            return
        if stream.reader is None:
            data = self.shake_hands(stream, data)
            if stream.reader is None:
                return
        at_ns = self.clock.arrival_ns(ancillary)
        for opcode, payload in stream.reader.receive(data):
            if opcode == TEXT:
                self.take(stream, payload, at_ns)
            elif opcode == PING:
                self.send(stream, frame(PONG, payload))
            elif opcode == PONG:
                self.ponged(stream)
            elif opcode == CLOSE:
                self.send(stream, frame(CLOSE, payload[:2]))
                self.close(stream)
                return

    def shake_hands(self, stream: Stream, data: bytes) -> bytes:
        """Answer the handshake when its head is whole; returns what came behind it."""
        stream.head += data
        head, end, rest = stream.head.partition(b"\r\n\r\n")
        if not end:
            return b""
        path, answer = accept_upgrade(head)
        stream.is_probe = path.startswith("/probe")
        stream.reader = FrameReader()
        self.send(stream, answer)
        return rest

    def take(self, stream: Stream, text: bytes, at_ns: int) -> None:
        """Take one JSON message: note its audio, and echo it unless this is a probe's stream."""
        if text.startswith(_MEDIA):
            # What this server writes, found without reading all of it as JSON, which would be half of this bot's work.
            begin = text.index(_PAYLOAD) + len(_PAYLOAD)
            payload = text[begin : text.index(b'"', begin)]
            if self.notes.are_open:
                self.notes.add("messages", _RECORD.pack(at_ns, self.note(pybase64.b64decode(payload)), stream.number))
            if not stream.is_probe:
                self.send(stream, frame(TEXT, stream.prefix + payload + b'"}}'))
            return
        message = orjson.loads(text)
        if message.get("event") == "start":
            sid = message["start"]["stream_sid"].encode("ascii")
            stream.prefix = b'{"event":"media","stream_sid":"' + sid + b'","media":{"payload":"'
            stream.clear = b'{"event":"clear","stream_sid":"' + sid + b'"}'
            self.started += 1
            tell("stream_started", streams=self.started)

    def note(self, pcm: bytes) -> int:
        """Keep what frame numbers can be read from; returns how many blocks of 10 ms it was."""
        if self.rate_hz == frames.RATE_HZ:
            fields = frames.pcm_code_fields(pcm)
            self.notes.add("codes", fields)
            return len(fields) // (2 * frames.CODE_BYTES)
        samples = np.frombuffer(pcm, "<i2")[:: self.rate_hz // frames.RATE_HZ]
        blocks = len(samples) // frames.BLOCK
        self.notes.add("pcm", samples[: blocks * frames.BLOCK].tobytes())
        return blocks

    def ponged(self, stream: Stream) -> None:
        """The server has parsed all that was written before the ping that it answers; for who asks."""

    def send(self, stream: Stream, data: bytes) -> None:
        """Write now what the kernel takes and keep the rest for later."""
        if stream.unsent:
            stream.unsent += data
            return
        try:
            sent = stream.sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            return
        if sent < len(data):
            stream.unsent = data[sent:]
            self.poller.modify(stream.sock, select.EPOLLIN | select.EPOLLOUT)

    def flush(self, stream: Stream) -> None:
        """The kernel has room again."""
        data, stream.unsent = stream.unsent, b""
        self.send(stream, data)
        if not stream.unsent:
            self.poller.modify(stream.sock, select.EPOLLIN)

    def close(self, stream: Stream) -> None:
        """Forget a connection."""
        fd = stream.sock.fileno()
        if fd in self.streams:
            self.poller.unregister(fd)
            del self.streams[fd]
            stream.sock.close()

    def begin_probes(self, now: float, seconds: float) -> None:
        """For so many seconds, each probe's stream takes turns, at phases of chance: it says 40 ms; it begins to say
        400 ms, and clears them while they are played."""
        self.probe_until = now + seconds
        self.due = [(now + self.random() * _PAUSE_S, fd, _BURST) for fd, each in self.streams.items() if each.is_probe]
        heapq.heapify(self.due)

    def speak_due(self, now: float) -> None:
        """Write what is due."""
        while self.due and self.due[0][0] <= now:
            at, fd, what = heapq.heappop(self.due)
            stream = self.streams.get(fd)
            if stream is None or (at > self.probe_until and what != _CLEAR):
                continue
            pause_s, then = _PAUSE_S, _BURST
            if what == _BURST:
                self.say(stream, frames.BURST_FRAMES, "bursts")
                then = _SPEECH
            elif what == _SPEECH:
                self.say(stream, frames.UTTERANCE_FRAMES, None)
                pause_s, then = _SPOKEN_S, _CLEAR
            else:
                self.write_down("clears", stream, stream.bursts - frames.UTTERANCE_FRAMES)
                self.send(stream, frame(TEXT, stream.clear))
            heapq.heappush(self.due, (at + pause_s + self.random() * 5 * _PHASE_S, fd, then))

    def say(self, stream: Stream, count: int, kind: str | None) -> None:
        """So many numbered frames in one message."""
        call = frames.PROBE_CALL + stream.number % (frames.MAX_CALLS - frames.PROBE_CALL)
        pcm = b"".join(self.numbered(call, stream.bursts + i) for i in range(count))
        data = frame(TEXT, stream.prefix + pybase64.b64encode(pcm) + b'"}}')
        if kind is not None:
            self.write_down(kind, stream, stream.bursts)
        self.send(stream, data)
        stream.bursts += count

    def write_down(self, kind: str, stream: Stream, number: int) -> None:
        """Note that this is written now."""
        call = frames.PROBE_CALL + stream.number % (frames.MAX_CALLS - frames.PROBE_CALL)
        self.notes.add(kind, _RECORD.pack(time.monotonic_ns(), number, call))

    def obey(self, order: dict[str, Any]) -> None:
        """Do what is ordered."""
        kind = order["kind"]
        if kind == "note":
            self.notes.open(order["path"])
            # Nothing that is noted from here on has cycles, and a collection would hold up every stream.
            gc.collect()
            gc.disable()
            tell("noting")
        elif kind == "close":
            self.notes.close()
            tell("noted")
        elif kind == "probe":
            self.begin_probes(time.monotonic(), order["seconds"])

    def numbered(self, call: int, frame: int) -> bytes:
        """20 ms that say which they are, as PCM of the streams' rate."""
        if self.rate_hz != frames.RATE_HZ:
            return tone_codes.pcm_of(call, frame % tone_codes.MAX_FRAMES, self.rate_hz).tobytes()
        return np.take(ULAW_TO_PCM, np.frombuffer(frames.code_of(call, frame) + _TONE, np.uint8)).tobytes()


_TONE = bytes((0x9F, 0x1F)) * ((frames.FRAME_BYTES - frames.CODE_BYTES) // 2)


def run(rate_hz: int) -> None:
    """Serve until the order to finish, or until nobody is there to give it."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    listener.setblocking(False)
    sink = Sink(listener, random.random, rate_hz)
    sink.poller.register(listener, select.EPOLLIN)
    sink.poller.register(0, select.EPOLLIN)
    orders = Orders()
    tell("listening", port=listener.getsockname()[1])
    while not orders.is_over:
        timeout = max(0.0, min(1.0, sink.due[0][0] - time.monotonic())) if sink.due else 1.0
        for fd, flags in sink.poller.poll(timeout):
            if fd == listener.fileno():
                sink.accept()
            elif fd == 0:
                for order in orders.poll():
                    if order["kind"] == "finish":
                        return
                    sink.obey(order)
            elif (stream := sink.streams.get(fd)) is not None:
                if flags & select.EPOLLOUT:
                    sink.flush(stream)
                if flags & ~select.EPOLLOUT:
                    sink.read(stream)
        sink.speak_due(time.monotonic())


if __name__ == "__main__":
    run(int(sys.argv[1]))
