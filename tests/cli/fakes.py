"""A network in memory for the test phone: two ends, datagrams as lists, time as a number."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import attrs
import numpy as np

from agentstream.audio.g711 import PCM_TO_ULAW
from agentstream.cli.phone import Errand, Phone
from agentstream.cli.sip_socket import SipSocket, Target
from agentstream.rtp.packet import Packet
from agentstream.sdp import LocalMedia, answer_offer, parse
from agentstream.sip.events import InviteReceived
from agentstream.sip.hop import Hop, Listener
from agentstream.sip.session import Session
from agentstream.sip.stack import Stack


@attrs.define(eq=False)
class FakeSocket:
    """A UDP socket: what comes in is put into ``waiting``, what goes out stands in ``sent``."""

    port: int = 40000
    waiting: deque[bytes] = attrs.field(factory=deque)
    sent: list[tuple[bytes, tuple[str, int]]] = attrs.field(factory=list)
    is_closed: bool = False

    def getsockname(self) -> tuple[str, int]:
        return "127.0.0.1", self.port

    def fileno(self) -> int:
        return self.port

    def recvmsg(
        self, bufsize: int, ancbufsize: int
    ) -> tuple[bytes, list[tuple[int, int, bytes]], int, tuple[str, int]]:
        if not self.waiting:
            raise BlockingIOError
        return self.waiting.popleft(), [], 0, ("127.0.0.1", 20000)

    def recvfrom(self, bufsize: int) -> tuple[bytes, tuple[str, int]]:
        if not self.waiting:
            raise BlockingIOError
        return self.waiting.popleft(), ("127.0.0.1", 5060)

    def sendto(self, data: bytes, address: tuple[str, int]) -> int:
        self.sent.append((data, address))
        return len(data)

    def close(self) -> None:
        self.is_closed = True


@attrs.define
class FakeArrivals:
    """Says that everything arrives at ``now_s``."""

    now_s: float = 0.0

    def arrival_ns(self, ancillary: object) -> int:
        return round(self.now_s * 1e9)


@attrs.define(eq=False)
class Switchboard:
    """The far end: a SIP stack that does with a call what the test says, and counts the RTP."""

    phone: Phone
    status: int = 200
    now: float = 100.0
    stack: Stack = attrs.field(
        factory=lambda: Stack(token=iter_tokens(), listeners={"": Listener("udp", "127.0.0.1", 5060)})
    )
    told: list[str] = attrs.field(factory=list)
    heard: list[bytes] = attrs.field(factory=list)
    session: Session | None = None
    _read: int = 0
    _read_rtp: int = 0
    _sent: int = 0

    def run(self, until: float) -> None:
        """Time passes, in steps of 5 ms."""
        while self.now < until and not self.phone.is_over:
            self.turn()
            self.now = round(self.now + 0.005, 6)

    def turn(self) -> None:
        sip, rtp = self.phone.sip.sock, self.phone.rtp
        for data, _ in sip.sent[self._read :]:
            self.stack.receive(data, Hop("udp", "127.0.0.1", 40002), self.now)
        self._read = len(sip.sent)
        self.stack.handle_timer(self.now)
        for event in list(self.stack.events):
            self.told.append(type(event).__name__)
            if isinstance(event, InviteReceived):
                if self.status >= 300:
                    self.stack.reject(event.session, self.status, self.now, "not today")
                elif self.status:
                    self.stack.progress(event.session, self.now)
                    answer, _ = answer_offer(parse(event.sdp), LocalMedia("127.0.0.1", 20000))
                    self.stack.answer(event.session, answer.serialise(), self.now)
                    self.session = event.session
        self.stack.events.clear()
        while self.stack.out:
            sip.waiting.append(self.stack.out.popleft()[0])
        for data, _ in rtp.sent[self._read_rtp :]:
            self.heard.append(data)
            packet = Packet.parse(data)
            # An echo: what comes in goes back, with numbers of our own.
            rtp.waiting.append(attrs.evolve(packet, ssrc=7, sequence_number=self._sent & 0xFFFF).serialise())
            self._sent += 1
        self._read_rtp = len(rtp.sent)
        if self.phone.line is not None:
            self.phone.line.clock = FakeArrivals(self.now)  # type: ignore[assignment]
        self.phone.work(self.now)


def iter_tokens() -> Callable[[], str]:
    """Words that are all different."""
    numbers = iter(range(1_000_000))
    return lambda: f"t{next(numbers):08d}abcdefgh"


def phone(errand: Errand, told: list[tuple[str, dict[str, object]]] | None = None) -> Phone:
    """A phone on fake sockets that calls 1000."""
    stack = Stack(token=iter_tokens(), listeners={"phone": Listener("udp", "127.0.0.1", 40002)})
    sip = SipSocket("127.0.0.1", FakeSocket(40002), stack)  # type: ignore[arg-type]
    events = told if told is not None else []
    return Phone(
        Target.parse("sip:1000@127.0.0.1:5060"),
        errand,
        sip,
        FakeSocket(40000),  # type: ignore[arg-type]
        lambda kind, fields: events.append((kind, fields)),
    )


def noise(samples: int, seed: int = 1) -> np.ndarray:
    """Something that correlates with nothing else."""
    return (np.random.default_rng(seed).standard_normal(samples) * 3000).astype(np.int16)


def ulaw(samples: np.ndarray) -> bytes:
    return bytes(np.take(PCM_TO_ULAW, samples.view(np.uint16)))
