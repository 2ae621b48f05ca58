"""The bench's callers: N calls with paced RTP, each with speech of its own and numbers inside it.

Run as a process: ``python -m agentstream.cli.bench.load RESULT.npz SIP_PORT CALLS [RATE_HZ]``, where the last is that
of the bots' audio (8000): at others frames are numbered by tones (agentstream.cli.bench.tone_codes). It takes orders
and gives news (agentstream.cli.bench.control):

- ``place`` (user, calls, per_second): more calls; ``placed`` when all are answered, with how long each answer took;
- ``number`` (seconds): frames carry numbers for so long; ``numbering``, ``numbered``, and ``settled`` when all should
  have arrived;
- ``finish``: hang up, write RESULT.npz, ``saved``.

Callers' phases are spread evenly over 20 ms, and each packet leaves up to 2 ms off its grid. What is noted: ``sent``,
SENT records of numbered frames, and ``received``, RECEIVED records of packets with the kernel's time of arrival; with
tones ``sound`` too, uint8[packets, 160], their payloads. Nothing is worked out here.
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
from collections import deque
from collections.abc import Callable
from typing import Any

import attrs
import numpy as np

from agentstream.audio.g711 import PCM_TO_ULAW
from agentstream.cli.bench import frames, tone_codes
from agentstream.cli.bench.control import Orders, tell
from agentstream.cli.kernel_time import ANCILLARY_BYTES, ArrivalClock
from agentstream.cli.rtp_line import open_rtp_socket
from agentstream.cli.sip_socket import SipSocket, Target
from agentstream.cli.sound import load_sample_speech
from agentstream.errors import AgentstreamError
from agentstream.sdp import LocalMedia, accept_answer, make_offer, parse
from agentstream.sip.events import Event, InviteAnswered, InviteRefused, SessionEnded
from agentstream.sip.session import Session

SENT = np.dtype([("at_ns", "<i8"), ("frame", "<u4"), ("call", "<u4")])
RECEIVED = np.dtype(
    [("at_ns", "<i8"), ("codes", "u1", (2, 8)), ("timestamp", "<u4"), ("call", "<u2"), ("number", "<u2")]
)
_SENT = struct.Struct("<qII")
_RECEIVED = struct.Struct("<q8s8sIHH")
_HEADER = struct.Struct("!BBHII")
_RTP = struct.Struct("!xxHI")
_RTP_BYTES = 12 + frames.FRAME_BYTES

HOST = "127.0.0.1"
TICK_S = 0.02
JITTER_S = 0.002
_LEVEL = 0.25
_HANG_UPS_A_SECOND = 100
_SETTLE_S = 1.0
"""What is under way when numbering ends still arrives: playout delay, one chunk, the echo's queue."""


@attrs.define(eq=False)
class Caller:
    """One call.

    :ivar call: its number, in the codes of its frames.
    :ivar start_s: monotonic seconds of its grid's first place; with `slot`, where the next packet belongs.
    :ivar offset: where in the speech it begins.
    """

    call: int
    sock: socket.socket
    session: Session
    invited_s: float
    is_answered: bool = False
    start_s: float = 0.0
    slot: int = 0
    ssrc: int = 0
    number: int = 0
    timestamp: int = 0
    offset: int = 0
    frame: int = 0


@attrs.define(eq=False)
class Load:
    """All calls, on one epoll object.

    :ivar speech: mu-law of 20 ms each.
    :ivar random: uniform in [0, 1): jitter, and what RTP wants to be unpredictable.
    :ivar latest_s: how much later than it should a numbered packet left at worst: what this machine did to the
        measurement.
    :ivar has_tones: frames are numbered by tones, for bots that hear them resampled.
    :ivar due: (monotonic seconds, caller's call): when each caller's next packet leaves.
    """

    sip: SipSocket
    target_port: int
    speech: list[bytes]
    random: Callable[[], float]
    expected_calls: int
    has_tones: bool = False
    poller: select.epoll = attrs.field(factory=select.epoll)
    clock: ArrivalClock = attrs.field(factory=ArrivalClock)
    callers: list[Caller] = attrs.field(factory=list)
    by_fd: dict[int, Caller] = attrs.field(factory=dict)
    by_session: dict[Session, Caller] = attrs.field(factory=dict)
    due: list[tuple[float, int]] = attrs.field(factory=list)
    sent: bytearray = attrs.field(factory=bytearray)
    received: bytearray = attrs.field(factory=bytearray)
    sound: bytearray = attrs.field(factory=bytearray)
    setup_ms: list[float] = attrs.field(factory=list)
    is_numbering: bool = False
    to_place: deque[tuple[float, str]] = attrs.field(factory=deque)
    to_end: deque[tuple[float, Caller]] = attrs.field(factory=deque)
    unanswered: int = 0
    live: int = 0
    send_errors: int = 0
    latest_s: float = 0.0

    def place_due(self, now: float) -> None:
        """Send the INVITEs whose time has come."""
        while self.to_place and self.to_place[0][0] <= now:
            _, user = self.to_place.popleft()
            sock = open_rtp_socket(HOST)
            sdp = make_offer(LocalMedia(HOST, sock.getsockname()[1], ("PCMU",))).serialise()
            call = len(self.callers)
            session, events = self.sip.invite(
                Target.parse(f"sip:{user}@{HOST}:{self.target_port}"), sdp, now, f"caller{call}"
            )
            caller = Caller(call, sock, session, now)
            self.callers.append(caller)
            self.by_session[session] = caller
            self.unanswered += 1
            self.take(events, now)

    def take(self, events: list[Event], now: float) -> None:
        """Act on what SIP tells."""
        for event in events:
            if isinstance(event, InviteAnswered):
                self.answered(self.by_session[event.session], event.sdp, now)
            elif isinstance(event, InviteRefused):
                raise AgentstreamError(f"Call {len(self.callers)} was refused: {event.reason or event.status}.")
            elif isinstance(event, SessionEnded):
                self.live -= 1
                if event.by != "local":
                    raise AgentstreamError(f"The server ended a call: {event.reason or event.by}.")

    def answered(self, caller: Caller, sdp: bytes, now: float) -> None:
        """Begin to send: this call's phase is its share of 20 ms."""
        offer = make_offer(LocalMedia(HOST, caller.sock.getsockname()[1], ("PCMU",)))
        plan = accept_answer(offer, parse(sdp))
        caller.sock.connect((plan.remote_host, plan.remote_port))
        self.poller.register(caller.sock, select.EPOLLIN)
        self.by_fd[caller.sock.fileno()] = caller
        phase_s = TICK_S * caller.call / self.expected_calls
        caller.start_s = (now // TICK_S + 1) * TICK_S + phase_s
        caller.ssrc = int(self.random() * (1 << 32))
        caller.number = int(self.random() * (1 << 16))
        caller.timestamp = int(self.random() * (1 << 32))
        caller.offset = 37 * caller.call
        caller.is_answered = True
        self.setup_ms.append(1000 * (now - caller.invited_s))
        heapq.heappush(self.due, (caller.start_s, caller.call))
        self.unanswered -= 1
        self.live += 1

    def send_due(self, now: float) -> None:
        """Send every packet whose time has come."""
        due, speech, random_ = self.due, self.speech, self.random
        while due and due[0][0] <= now:
            caller = self.callers[due[0][1]]
            if self.is_numbering:
                self.latest_s = max(self.latest_s, now - due[0][0])
            payload = speech[(caller.offset + caller.slot) % len(speech)]
            header = _HEADER.pack(0x80, 0, caller.number, caller.timestamp, caller.ssrc)
            if self.is_numbering:
                packet = header + self.numbered(caller, payload)
                self.sent += _SENT.pack(time.monotonic_ns(), caller.frame, caller.call)
                caller.frame += 1
            else:
                packet = header + payload
            try:
                caller.sock.send(packet)
            except OSError:
                self.send_errors += 1
            caller.slot += 1
            caller.number = (caller.number + 1) & 0xFFFF
            caller.timestamp = (caller.timestamp + frames.FRAME_BYTES) & 0xFFFFFFFF
            at = caller.start_s + caller.slot * TICK_S + (2 * random_() - 1) * JITTER_S
            heapq.heapreplace(due, (at, caller.call))

    def numbered(self, caller: Caller, speech: bytes) -> bytes:
        """A payload that says whose and which frame it is."""
        if self.has_tones:
            return tone_codes.ulaw_of(caller.call, caller.frame % tone_codes.MAX_FRAMES)
        return frames.code_of(caller.call, caller.frame) + speech[frames.CODE_BYTES :]

    def hear(self, caller: Caller) -> None:
        """Note one packet."""
        try:
            data, ancillary, _, _ = caller.sock.recvmsg(2048, ANCILLARY_BYTES)
        except OSError:
            return
        if len(data) == _RTP_BYTES:
            number, timestamp = _RTP.unpack_from(data)
            at_ns = self.clock.arrival_ns(ancillary)
            self.received += _RECEIVED.pack(at_ns, data[12:20], data[92:100], timestamp, caller.call, number)
            if self.has_tones:
                self.sound += data[12:]

    def hang_up_due(self, now: float) -> None:
        """Send the BYEs whose time has come."""
        while self.to_end and self.to_end[0][0] <= now:
            _, caller = self.to_end.popleft()
            self.take(self.sip.hang_up(caller.session, now), now)

    def round(self, limit_s: float) -> None:
        """One turn of the loop: wait for a packet or a deadline, at most so long, then do all that is due."""
        deadlines = [queue[0][0] for queue in (self.due, self.to_place, self.to_end) if queue]
        if self.sip.deadline is not None:
            deadlines.append(self.sip.deadline)
        wait_s = min([limit_s, *(at - time.monotonic() for at in deadlines)])
        for fd, _ in self.poller.poll(max(0.0, wait_s)):
            caller = self.by_fd.get(fd)
            if caller is not None:
                self.hear(caller)
            elif fd == self.sip.sock.fileno():
                now = time.monotonic()
                self.take(self.sip.receive(now), now)
        now = time.monotonic()
        self.send_due(now)
        if self.sip.deadline is not None and self.sip.deadline <= now:
            self.take(self.sip.handle_timer(now), now)
        self.place_due(now)
        self.hang_up_due(now)

    def save(self, path: str) -> None:
        """Write what was noted."""
        np.savez(
            path,
            sent=np.frombuffer(self.sent, SENT),
            received=np.frombuffer(self.received, RECEIVED),
            sound=np.frombuffer(self.sound, np.uint8).reshape(-1, frames.FRAME_BYTES),
        )


def speech_frames() -> list[bytes]:
    """The shipped speech in mu-law, 20 ms each, low enough that nothing in it looks like a frame's number."""
    audio = (load_sample_speech() * _LEVEL).astype(np.int16)
    whole = len(audio) // frames.FRAME_BYTES * frames.FRAME_BYTES
    return [
        row.tobytes() for row in np.take(PCM_TO_ULAW, audio[:whole].view(np.uint16)).reshape(-1, frames.FRAME_BYTES)
    ]


@attrs.define(eq=False)
class Stages:
    """What the bench wants of the load, one order after the other.

    :ivar numbered_at: monotonic seconds when numbering ends; None: it has not begun, or is over.
    """

    load: Load
    is_placing: bool = False
    is_finishing: bool = False
    numbered_at: float | None = None
    settled_at: float | None = None

    def obey(self, order: dict[str, Any], now: float) -> None:
        """Begin what is ordered."""
        load = self.load
        if order["kind"] == "place":
            self.is_placing = True
            gap_s = 1 / order["per_second"]
            load.to_place.extend((now + i * gap_s, order["user"]) for i in range(order["calls"]))
        elif order["kind"] == "number":
            load.is_numbering = True
            self.numbered_at = now + order["seconds"]
            # Nothing that is noted from here on has cycles, and a collection would hold up every call.
            gc.collect()
            gc.disable()
            tell("numbering", at_ns=time.monotonic_ns())
        elif order["kind"] == "finish":
            self.is_finishing = True
            load.to_end.extend((now + i / _HANG_UPS_A_SECOND, caller) for i, caller in enumerate(load.callers))

    def advance(self, now: float) -> bool:
        """Tell what has been reached; True when there is nothing left to do."""
        load = self.load
        if self.is_placing and not load.to_place and not load.unanswered:
            self.is_placing = False
            tell("placed", calls=load.live, setup_ms=load.setup_ms)
            load.setup_ms = []
        if self.numbered_at is not None and now >= self.numbered_at:
            load.is_numbering = False
            tell("numbered", at_ns=time.monotonic_ns())
            self.numbered_at, self.settled_at = None, now + _SETTLE_S
        if self.settled_at is not None and now >= self.settled_at:
            tell("settled")
            self.settled_at = None
        return self.is_finishing and not load.to_end and load.live == 0


def run(path: str, target_port: int, calls: int, rate_hz: int) -> None:
    """Call until the order to finish, or until nobody is there to give it."""
    load = Load(SipSocket.open(HOST), target_port, speech_frames(), random.random, calls, rate_hz != frames.RATE_HZ)
    load.poller.register(load.sip.sock, select.EPOLLIN)
    load.poller.register(0, select.EPOLLIN)
    orders, stages = Orders(), Stages(load)
    tell("ready")
    while not orders.is_over:
        load.round(0.1)
        now = time.monotonic()
        for order in orders.poll():
            stages.obey(order, now)
        if stages.advance(now):
            load.save(path)
            tell("saved", send_errors=load.send_errors, latest_ms=1000 * load.latest_s)
            return


if __name__ == "__main__":
    try:
        run(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]) if len(sys.argv) > 4 else frames.RATE_HZ)
    except AgentstreamError as error:
        sys.exit(str(error))
