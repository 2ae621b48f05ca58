"""The bench's callers: N calls with paced RTP, each with speech of its own and numbers inside it.

Run as a process: ``python -m agentstream.cli.bench.load SIP_PORT CALLS [RATE_HZ [SUITE]]``, where CALLS is how many
there are at once at most and RATE_HZ that of the bots' audio (8000): at others frames are numbered by tones
(agentstream.cli.bench.tone_codes). With a suite of SRTP all sound is encrypted. It takes orders and gives news
(agentstream.cli.bench.control):

- ``place`` (user, calls, per_second): more calls; ``placed`` when each is answered or refused: how long each answer
  took, and how many were refused, by status;
- ``note`` (path): note in PATH.sent, PATH.received and PATH.sound what agentstream.cli.bench.callers says, until
  ``close``; ``noting`` and ``noted`` answer;
- ``number`` (seconds): frames carry numbers for so long; ``numbering``, ``numbered``, and ``settled`` when all should
  have arrived;
- ``churn`` (user, per_second, lasting_s, seconds): calls come at this rate and last about so long; ``churned`` when the
  last is over, and meanwhile ``churning`` at each order ``tally``;
- ``end`` (user): hang up the calls to one user; ``ended``;
- ``finish``: hang up all, ``finished``.

Nothing is worked out here.
"""

from __future__ import annotations

import gc
import heapq
import os
import select
import socket
import sys
import time
from collections import Counter, deque
from typing import Any

import attrs
import numpy as np

from agentstream.audio.g711 import PCM_TO_ULAW
from agentstream.cli.bench import frames
from agentstream.cli.bench.callers import KINDS, Callers
from agentstream.cli.bench.control import Orders, tell
from agentstream.cli.bench.datagrams import Bytes
from agentstream.cli.bench.notes import Notes
from agentstream.cli.sip_socket import SipSocket, Target
from agentstream.cli.sound import load_sample_speech
from agentstream.errors import AgentstreamError
from agentstream.sdp import OFF, REQUIRED, LocalMedia, SessionDescription, accept_answer, make_offer, parse
from agentstream.sip.events import Event, InviteAnswered, InviteRefused, SessionEnded
from agentstream.sip.session import Session

HOST = "127.0.0.1"
_LEVEL = 0.25
_HANG_UPS_A_SECOND = 100
_SETTLE_S = 1.0
"""What is under way when numbering ends still arrives: playout delay, one chunk, the echo's queue."""

_MOST_WAIT_S = 0.1
_TURN_S = 0.001
"""A turn of the loop at the most this often: packets leave up to so much later, on top of their jitter."""


@attrs.define(eq=False)
class Caller:
    """One call.

    :ivar offer: its SDP. :ivar user: whom it called.
    :ivar lasting_s: how long it lasts from its answer on; None: until the end.
    """

    call: int
    row: int
    session: Session
    offer: SessionDescription
    user: str
    invited_s: float
    lasting_s: float | None = None


@attrs.define(eq=False)
class Load:
    """All calls, on one epoll object.

    :ivar began_s: when the last turn of the loop did.
    :ivar refused: calls that were refused, by SIP status.
    :ivar dropped: calls that the server ended. :ivar unheard: calls that ended without a packet from the server.
    """

    sip: SipSocket
    target_port: int
    sound: Callers
    rows: int
    random: np.random.Generator
    suite: str = ""
    poller: select.epoll = attrs.field(factory=select.epoll)
    by_session: dict[Session, Caller] = attrs.field(factory=dict)
    setup_ms: list[float] = attrs.field(factory=list)
    refused: Counter[str] = attrs.field(factory=Counter)
    to_place: deque[tuple[float, str, float | None]] = attrs.field(factory=deque)
    to_end: list[tuple[float, int, Caller]] = attrs.field(factory=list)
    began_s: float = 0.0
    unanswered: int = 0
    placed: int = 0
    ended: int = 0
    dropped: int = 0
    unheard: int = 0
    _sock_of: dict[int, socket.socket] = attrs.field(factory=dict)
    _free: deque[int] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._free = deque(range(self.rows))

    @property
    def live(self) -> int:
        """Calls that were placed and are not over."""
        return len(self.by_session)

    def place_due(self, now: float) -> None:
        """Send the INVITEs whose time has come."""
        while self.to_place and self.to_place[0][0] <= now:
            _, user, lasting_s = self.to_place.popleft()
            if not self._free:
                raise AgentstreamError(f"More than {self.rows} calls at once: the server is too slow to end them.")
            row = self._free.popleft()
            offer = self.offer(row)
            target = Target.parse(f"sip:{user}@{HOST}:{self.target_port}")
            session, events = self.sip.invite(target, offer.serialise(), now, f"caller{self.placed}")
            # In a churn a row's number serves call after call: nobody asks for their frames.
            self.by_session[session] = Caller(row, row, session, offer, user, now, lasting_s)
            self.placed += 1
            self.unanswered += 1
            self.take(events, now)

    def offer(self, row: int) -> SessionDescription:
        """What a row's caller offers."""
        srtp = REQUIRED if self.suite else OFF
        offer = make_offer(LocalMedia(HOST, self.sound.port(row), ("PCMU",), srtp=srtp, random_bytes=os.urandom))
        (audio,) = offer.media
        lines = tuple((name, value) for name, value in audio.attributes if name != "crypto" or self.suite in str(value))
        return attrs.evolve(offer, media=(attrs.evolve(audio, attributes=lines),))

    def take(self, events: list[Event], now: float) -> None:
        """Act on what SIP tells."""
        for event in events:
            if isinstance(event, InviteAnswered):
                self.answered(self.by_session[event.session], event.sdp, now)
            elif isinstance(event, InviteRefused):
                self.unanswered -= 1
                self.refused[str(event.status)] += 1
                self._free.append(self.by_session.pop(event.session).row)
            elif isinstance(event, SessionEnded) and event.session in self.by_session:
                self.over(self.by_session.pop(event.session), event.by)

    def answered(self, caller: Caller, sdp: bytes, now: float) -> None:
        """Begin to send."""
        plan = accept_answer(caller.offer, parse(sdp))
        self.sound.begin(caller.row, caller.call, plan.remote_host, plan.remote_port, now, plan.keys)
        self.setup_ms.append(1000 * (now - caller.invited_s))
        self.unanswered -= 1
        if caller.lasting_s is not None:
            self.end_at(now + caller.lasting_s, caller)

    def over(self, caller: Caller, by: str) -> None:
        """The call's BYE is answered, or the server ended it."""
        self.unheard += not self.sound.packets_of[caller.row]
        self.dropped += by != "local"
        self.ended += 1
        self.sound.end(caller.row)
        self._free.append(caller.row)

    def end_at(self, at: float, caller: Caller) -> None:
        """Have a call hung up at this time."""
        heapq.heappush(self.to_end, (at, id(caller), caller))

    def hang_up_due(self, now: float) -> None:
        """Send the BYEs whose time has come."""
        while self.to_end and self.to_end[0][0] <= now:
            _, _, caller = heapq.heappop(self.to_end)
            if caller.session in self.by_session:
                self.sound.end(caller.row)
                self.take(self.sip.hang_up(caller.session, now), now)

    def round(self) -> bool:
        """One turn of the loop: wait for a packet or a deadline, then do all that is due; True: there are orders."""
        deadlines = [self.sound.deadline, *(queue[0][0] for queue in (self.to_place, self.to_end) if queue)]
        if (timer := self.sip.deadline) is not None:
            deadlines.append(timer)
        now = time.monotonic()
        if (rest_s := self.began_s + _TURN_S - now) > 0:
            time.sleep(rest_s)  # what comes meanwhile comes in one batch
        wait_s = min(_MOST_WAIT_S, min(deadlines) - time.monotonic())
        has_orders = False
        for fd, _ in self.poller.poll(max(0.0, wait_s)):
            if fd == self.sip.sock.fileno():
                now = time.monotonic()
                self.take(self.sip.receive(now), now)
            elif fd == 0:
                has_orders = True
            else:
                self.sound.hear(self._sock_of[fd])
        self.began_s = now = time.monotonic()
        self.sound.send_due(now)
        if (timer := self.sip.deadline) is not None and timer <= now:
            self.take(self.sip.handle_timer(now), now)
        self.place_due(now)
        self.hang_up_due(now)
        return has_orders

    def listen(self) -> None:
        """Have the poller watch everything."""
        for sock in self.sound.socks:
            self._sock_of[sock.fileno()] = sock
        for fd in (*self._sock_of, self.sip.sock.fileno(), 0):
            self.poller.register(fd, select.EPOLLIN)

    def tally(self) -> dict[str, Any]:
        """What has become of all calls until now; `setup_ms` of those answered since the last time."""
        setup_ms, self.setup_ms = self.setup_ms, []
        return {
            "placed": self.placed,
            "live": self.live,
            "ended": self.ended,
            "refused": dict(self.refused),
            "dropped": self.dropped,
            "unheard": self.unheard,
            "setup_ms": setup_ms,
            "send_errors": self.sound.refused,
            "latest_ms": 1000 * self.sound.latest_s,
        }


def speech_frames() -> Bytes:
    """The shipped speech in mu-law, uint8 (frames, 160), low enough that nothing in it looks like a frame's number."""
    audio = (load_sample_speech() * _LEVEL).astype(np.int16)
    whole = len(audio) // frames.FRAME_BYTES * frames.FRAME_BYTES
    return np.take(PCM_TO_ULAW, audio[:whole].view(np.uint16)).reshape(-1, frames.FRAME_BYTES)


@attrs.define(eq=False)
class Stages:
    """What the bench wants of the load, one order after the other.

    :ivar stay: how many calls stay when those that are hung up are over.
    :ivar numbered_at: monotonic seconds when numbering ends; None: it has not begun, or is over.
    """

    load: Load
    notes: Notes
    is_placing: bool = False
    is_churning: bool = False
    is_ending: bool = False
    is_finishing: bool = False
    stay: int = 0
    numbered_at: float | None = None
    settled_at: float | None = None

    def obey(self, order: dict[str, Any], now: float) -> None:
        """Begin what is ordered."""
        load, kind = self.load, order["kind"]
        if kind == "place":
            self.is_placing = True
            load.to_place.extend((now + i / order["per_second"], order["user"], None) for i in range(order["calls"]))
        elif kind == "churn":
            self.is_churning = True
            count = int(order["per_second"] * order["seconds"])
            lasting_s = order["lasting_s"] * (0.5 + load.random.random(count))
            load.to_place.extend(
                (now + i / order["per_second"], order["user"], each) for i, each in enumerate(lasting_s.tolist())
            )
        elif kind == "tally":
            tell("churning", **load.tally())
        elif kind == "note":
            self.notes.open(order["path"])
            # Nothing that is noted from here on has cycles, and a collection would hold up every call.
            gc.collect()
            gc.disable()
            tell("noting")
        elif kind == "close":
            self.notes.close()
            tell("noted", **load.tally())
        elif kind == "number":
            load.sound.is_numbering = True
            load.sound.latest_s = 0.0
            self.numbered_at = now + order["seconds"]
            tell("numbering", at_ns=time.monotonic_ns())
        elif kind in ("end", "finish"):
            self.is_ending, self.is_finishing = True, kind == "finish"
            callers = [each for each in load.by_session.values() if self.is_finishing or each.user == order["user"]]
            for i, caller in enumerate(callers):
                load.end_at(now + i / _HANG_UPS_A_SECOND, caller)
            self.stay = load.live - len(callers)

    def advance(self, now: float) -> bool:
        """Tell what has been reached; True when there is nothing left to do."""
        load = self.load
        if self.is_placing and not load.to_place and not load.unanswered:
            self.is_placing = False
            tell("placed", **load.tally())
        if self.is_churning and not load.to_place and not load.live:
            self.is_churning = False
            tell("churned", **load.tally())
        if self.numbered_at is not None and now >= self.numbered_at:
            load.sound.is_numbering = False
            tell("numbered", at_ns=time.monotonic_ns())
            self.numbered_at, self.settled_at = None, now + _SETTLE_S
        if self.settled_at is not None and now >= self.settled_at:
            tell("settled")
            self.settled_at = None
        if self.is_ending and not load.to_end and load.live <= self.stay:
            self.is_ending = False
            tell("finished" if self.is_finishing else "ended", **load.tally())
            return self.is_finishing
        return False


def run(target_port: int, calls: int, rate_hz: int, suite: str) -> None:
    """Call until the order to finish, or until nobody is there to give it."""
    random, notes = np.random.default_rng(), Notes(*KINDS)
    sound = Callers(HOST, calls, speech_frames(), random, notes, rate_hz != frames.RATE_HZ, suite)
    load = Load(SipSocket.open(HOST), target_port, sound, calls, random, suite)
    load.listen()
    orders, stages = Orders(), Stages(load, notes)
    tell("ready")
    while not orders.is_over:
        has_orders = load.round()
        now = time.monotonic()
        for order in orders.poll() if has_orders else ():
            stages.obey(order, now)
        if stages.advance(now):
            break
    notes.close()


if __name__ == "__main__":
    try:
        rate = int(sys.argv[3]) if len(sys.argv) > 3 else frames.RATE_HZ
        run(int(sys.argv[1]), int(sys.argv[2]), rate, sys.argv[4] if len(sys.argv) > 4 else "")
    except AgentstreamError as error:
        sys.exit(str(error))
