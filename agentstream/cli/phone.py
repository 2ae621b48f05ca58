"""A test phone: places one call, plays, listens, counts, hangs up; an independent witness of what a server does.

Contract: whoever owns a Phone waits for its ``sockets`` or its ``deadline``, then calls ``work(now)``, until
``is_over``; or lets ``run_phone`` do so. Time is an argument (monotonic seconds).
"""

from __future__ import annotations

import secrets
import selectors
import socket
import time
from collections.abc import Callable
from typing import Any

import attrs

from agentstream.cli.rtp_line import RtpLine, Tally, open_rtp_socket
from agentstream.cli.sip_socket import SipSocket, Target, local_address_towards
from agentstream.cli.sound import Recording
from agentstream.errors import AgentstreamError, RemoteProtocolError
from agentstream.interfaces import Audio
from agentstream.rtp.packet import Packet
from agentstream.sdp import OFF, REQUIRED, LocalMedia, MediaPlan, SessionDescription, accept_answer, make_offer, parse
from agentstream.sip.events import Event, InviteAnswered, InviteProgressed, InviteRefused, SessionEnded
from agentstream.sip.session import Session

LAST_PACKET_S = 0.06
"""From the last RTP packet to BYE: time in which a far end that reads its socket every 20 ms has counted it."""

_LISTEN_ON_S = 0.1
_GOODBYE_S = 4.0
_FIRST_DIGIT_S = 0.5
_NOTHING_HEARD_S = 8.0

Tell = Callable[[str, dict[str, Any]], None]


@attrs.frozen
class Errand:
    """What one call is for.

    :ivar audio: what is said; int16 at 8 kHz.
    :ivar digits: DTMF that is sent half a second after the answer.
    :ivar tail_s: how long it goes on listening after the last word.
    :ivar seconds: hang up so long after the answer instead; None: after audio, digits and tail.
    :ivar ring_s: how long it waits for an answer.
    :ivar srtp: its sound is SRTP, or there is no call.
    """

    audio: Audio
    digits: str = ""
    tail_s: float = 2.0
    seconds: float | None = None
    ring_s: float = 30.0
    codecs: tuple[str, ...] = ("PCMU", "PCMA")
    srtp: bool = False


@attrs.frozen
class CallResult:
    """What came of a call.

    :ivar status: the final status of the INVITE; 0: none came.
    :ivar ended_by: ``local``, ``remote``, ``timeout``, or "" for a call that was never answered.
    :ivar setup_ms: from INVITE to its final answer.
    :ivar talk_s: from the answer to the end.
    :ivar silence_s: received sound below -60 dBov.
    :ivar problem: why this was no whole call; "" when it was.
    """

    status: int
    reason: str
    ended_by: str
    setup_ms: float
    talk_s: float
    codec: str
    sent: int
    received: int
    lost: int
    out_of_order: int
    ignored: int
    jitter_ms: float
    silence_s: float
    digits_heard: str
    problem: str

    def as_json(self) -> dict[str, Any]:
        """Plain values, rounded to what can be measured."""
        rounded = {"setup_ms": 2, "talk_s": 2, "jitter_ms": 2, "silence_s": 2}
        return {
            name: round(value, rounded[name]) if name in rounded else value
            for name, value in attrs.asdict(self).items()
        }


@attrs.define(eq=False)
class Phone:
    """One call.

    :ivar tell: told what happens, by name: calling, ringing, answered, refused, hanging_up, ended.
    :ivar on_packet: called with each RTP packet and the monotonic nanoseconds of its arrival.
    """

    target: Target
    errand: Errand
    sip: SipSocket
    rtp: socket.socket
    tell: Tell
    on_packet: Callable[[Packet, int], None] | None = None
    line: RtpLine | None = None
    status: int = 0
    reason: str = ""
    ended_by: str = ""
    problem: str = ""
    _session: Session | None = None
    _offer: SessionDescription | None = None
    _invited_s: float = 0.0
    _answered_s: float = 0.0
    _ended_s: float = 0.0
    _setup_ms: float = 0.0
    _tail_ends_s: float | None = None
    _hang_up_s: float | None = None
    _is_hanging_up: bool = False
    _over_s: float | None = None
    _dialled: bool = False
    _has_listened: bool = False

    @classmethod
    def open(
        cls,
        uri: str,
        errand: Errand,
        tell: Tell = lambda kind, fields: None,
        on_packet: Callable[[Packet, int], None] | None = None,
    ) -> Phone:
        """Take the ports that the call needs.

        :raises AgentstreamError: the URI cannot be called from here.
        """
        target = Target.parse(uri)
        host = local_address_towards(target.host, target.port)
        return cls(target, errand, SipSocket.open(host), open_rtp_socket(host), tell, on_packet)

    @property
    def sockets(self) -> tuple[socket.socket, socket.socket]:
        """What to wait for besides the deadline."""
        return self.sip.sock, self.rtp

    @property
    def is_over(self) -> bool:
        """The call is over and what it had left to say to the server has been said."""
        return self._over_s is not None and self._over_s <= 0

    @property
    def deadline(self) -> float:
        """When work has to be called at the latest."""
        times = [self._gives_up_s if not self.status else None, self.sip.deadline, self._hang_up_s]
        if self._over_s is not None:
            # Then it is seen whether anything is still awaited; what is awaited comes to a socket.
            listened_s = self._ended_s + _LISTEN_ON_S
            times.append(self._over_s if self._has_listened else listened_s)
        if self.line is not None and self._is_talking:
            times.append(self.line.deadline)
        return min((each for each in times if each is not None), default=0.0)

    @property
    def _is_unheard(self) -> bool:
        """Not even a provisional response has come."""
        return self._session is not None and self._session.state == "calling"

    @property
    def _gives_up_s(self) -> float:
        """When waiting for an answer ends: sooner where nobody is there."""
        return self._invited_s + (min(_NOTHING_HEARD_S, self.errand.ring_s) if self._is_unheard else self.errand.ring_s)

    @property
    def _is_talking(self) -> bool:
        return bool(self._answered_s) and not self._ended_s and self._hang_up_s is None

    def start(self, now: float) -> None:
        """Send the INVITE."""
        local = LocalMedia(
            self.sip.host,
            self.rtp.getsockname()[1],
            self.errand.codecs,
            session_id=secrets.randbits(31),
            srtp=REQUIRED if self.errand.srtp else OFF,
            random_bytes=secrets.token_bytes,
        )
        self._offer = make_offer(local)
        self._invited_s = now
        self.tell("calling", {"target": str(self.target.uri)})
        self._session, events = self.sip.invite(self.target, self._offer.serialise(), now)
        self._take(events, now)

    def work(self, now: float) -> None:
        """Do all that is due: read both sockets, send, repeat, hang up."""
        self._take(self.sip.receive(now), now)
        if self.line is not None:
            self.line.receive()
        if self.sip.deadline is not None and self.sip.deadline <= now:
            self._take(self.sip.handle_timer(now), now)
        if self._is_talking:
            self._talk(now)
        if self._hang_up_s is not None and not self._is_hanging_up and now >= self._hang_up_s:
            self._send_goodbye(now)
        if not self.status and not self._is_hanging_up and now >= self._gives_up_s:
            where = f"{self.target.host}:{self.target.port}"
            self.problem = (
                f"nothing was heard from {where}: see that a SIP server runs there"
                if self._is_unheard
                else f"nobody answered within {self.errand.ring_s:g} seconds"
            )
            self._send_goodbye(now)
        if self._over_s is not None and (now >= self._over_s or not self._is_awaiting_goodbye(now)):
            self._over_s = 0.0

    def hang_up(self, now: float) -> None:
        """End the call: no more sound, and a moment later BYE; CANCEL at once where there is no answer yet."""
        if self._hang_up_s is None and not self._ended_s:
            self._hang_up_s = now + (LAST_PACKET_S if self._answered_s else 0.0)

    def _talk(self, now: float) -> None:
        line, errand = self.line, self.errand
        assert line is not None
        if errand.digits and not self._dialled and now >= self._answered_s + _FIRST_DIGIT_S:
            self._dialled = True
            try:
                line.dial(errand.digits)
            except AgentstreamError as error:
                self.problem = str(error)
        line.send_due(now)
        if errand.seconds is not None:
            if now >= self._answered_s + errand.seconds:
                self.hang_up(now)
        elif line.is_played and (self._dialled or not errand.digits):
            if self._tail_ends_s is None:
                self._tail_ends_s = now + errand.tail_s
            elif now >= self._tail_ends_s:
                self.hang_up(now)

    def _send_goodbye(self, now: float) -> None:
        assert self._session is not None
        self._is_hanging_up = True
        self.tell("hanging_up", {})
        self._take(self.sip.hang_up(self._session, now), now)

    def _take(self, events: list[Event], now: float) -> None:
        for event in events:
            if isinstance(event, InviteProgressed):
                self.tell("ringing", {"status": event.status})
            elif isinstance(event, InviteAnswered):
                self._answered(event.sdp, now)
            elif isinstance(event, InviteRefused):
                self.status, self.reason = event.status, event.reason
                self._setup_ms = 1000 * (now - self._invited_s)
                self.problem = self.problem or f"the call was refused: {event.reason or event.status}"
                self.tell("refused", {"status": event.status, "reason": event.reason})
                self._end(now)
            elif isinstance(event, SessionEnded):
                self.ended_by = event.by
                self.reason = event.reason
                self.tell("ended", {"by": event.by, "reason": event.reason})
                self._end(now)

    def _answered(self, sdp: bytes, now: float) -> None:
        assert self._offer is not None
        self.status = 200
        self._setup_ms = 1000 * (now - self._invited_s)
        self._answered_s = now
        try:
            plan = accept_answer(self._offer, parse(sdp))
        except RemoteProtocolError as error:
            self.problem = f"the answer's SDP cannot be used: {error.sentence}"
            self._send_goodbye(now)
            return
        self.line = self._line(plan, now)
        self.tell("answered", {"setup_ms": round(self._setup_ms, 1), "codec": plan.codec})

    def _line(self, plan: MediaPlan, now: float) -> RtpLine:
        return RtpLine(
            self.rtp,
            plan,
            Recording(now),
            now,
            ssrc=secrets.randbits(32),
            sequence_number=secrets.randbits(15),
            timestamp=secrets.randbits(32),
            audio=self.errand.audio,
            on_packet=self.on_packet,
        )

    def _end(self, now: float) -> None:
        if not self._ended_s:
            self._ended_s = now
            self._over_s = now + _GOODBYE_S

    def _is_awaiting_goodbye(self, now: float) -> bool:
        """Whether our BYE or CANCEL has no answer yet, or sound may still come that was sent before it."""
        self._has_listened = now >= self._ended_s + _LISTEN_ON_S
        if not self._has_listened:
            return True
        return any(each.state in ("calling", "trying", "proceeding") for each in self.sip.stack.clients.values())

    def result(self) -> CallResult:
        """What came of it."""
        tally = self.line.tally if self.line is not None else Tally()
        problem = self.problem
        if not problem and self.status == 200:
            if tally.received == 0:
                problem = "no RTP came back: see what stands between here and the port in the SDP answer"
            elif tally.sent == 0:
                problem = "no RTP was sent"
            elif self.ended_by == "timeout":
                problem = "the far end was lost"
        return CallResult(
            status=self.status,
            reason=self.reason,
            ended_by=self.ended_by,
            setup_ms=self._setup_ms,
            talk_s=max(0.0, self._ended_s - self._answered_s) if self._answered_s else 0.0,
            codec=self.line.plan.codec if self.line is not None else "",
            sent=tally.sent,
            received=tally.received,
            lost=tally.lost,
            out_of_order=tally.out_of_order,
            ignored=tally.ignored,
            jitter_ms=tally.reception.jitter_ms,
            silence_s=tally.silent * 0.02,
            digits_heard=self.line.digits_heard if self.line is not None else "",
            problem=problem,
        )

    def close(self) -> None:
        """Let go of the ports."""
        self.sip.close()
        self.rtp.close()


def run_phone(phone: Phone, meanwhile: Callable[[], None] = lambda: None, also: tuple[int, ...] = ()) -> CallResult:
    """Place the call and see it through.

    Ctrl-C hangs up, waits for that to end, and is then raised.

    :param meanwhile: called after every turn, for what ``also``, more file descriptors, may have to read.
    """
    with selectors.DefaultSelector() as selector:
        for fd in (*(sock.fileno() for sock in phone.sockets), *also):
            selector.register(fd, selectors.EVENT_READ)

        def turn() -> None:
            selector.select(max(0.0, phone.deadline - time.monotonic()))
            phone.work(time.monotonic())
            meanwhile()

        phone.start(time.monotonic())
        try:
            while not phone.is_over:
                turn()
        except BaseException:
            phone.hang_up(time.monotonic())
            while not phone.is_over:
                turn()
            raise
    return phone.result()
