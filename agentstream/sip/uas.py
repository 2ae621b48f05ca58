"""The UAS side of an INVITE session (RFC 3261 section 13.3): from its 100 to the ACK of our answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentstream.errors import LocalProtocolError
from agentstream.sip.dialog import uas_dialog
from agentstream.sip.events import (
    InviteCancelled,
    SessionEnded,
    UpdateReceived,
)
from agentstream.sip.hop import Hop
from agentstream.sip.reliable import AT_LEAST_EVERY_S, TAG, Provisional, ReliableProvisionals
from agentstream.sip.session import (
    ACCEPTED,
    NO_REASON,
    PROCEEDING,
    Fields,
    Session,
    checked,
)
from agentstream.sip.session_timer import supports
from agentstream.sip.transactions import (
    InviteServerTransaction,
    ServerTransaction,
)

if TYPE_CHECKING:
    from agentstream.sip.core import Core


class IncomingSession(Session):
    """The UAS side of an INVITE; the transaction's 100 has been sent."""

    def __init__(self, stack: Core, transaction: InviteServerTransaction, source: Hop, now: float) -> None:
        super().__init__(stack, transaction.request, source, PROCEEDING, True)
        self.dialog = uas_dialog(transaction.request, stack.token(), source)
        self.hear_capabilities(transaction.request)
        self._pending = transaction
        self._provisional: bytes | None = None
        self._reliable: ReliableProvisionals | None = None
        self._waiting_answer: tuple[bytes, list[tuple[str, str]]] | None = None
        stack.timers.set(self, "expires", now + stack.ring_limit_of(transaction.request))

    @property
    def is_answering(self) -> bool:
        """The 200 waits for a PRACK."""
        return self._waiting_answer is not None

    def progress(self, status: int, sdp: bytes, now: float, headers: Fields = ()) -> None:
        """A provisional response above 100; reliably where the caller wants that, or may have it and gets ``sdp``."""
        transaction = self._pending
        if transaction is None or self.state != PROCEEDING or self._waiting_answer is not None:
            raise LocalProtocolError("the session has no INVITE that waits for an answer")
        if not 101 <= status <= 199:
            raise LocalProtocolError("a provisional response's status is from 101 to 199")
        asked = transaction.request
        is_required = TAG in asked.headers.tokens_of("require")
        if not asked.sdp and (sdp or is_required):
            # RFC 3262 section 5: the first reliable response would have to hold our offer, and its PRACK the answer.
            raise LocalProtocolError("the caller has left the offer to us, and there is none before the answer")
        assert self.dialog is not None
        fields = [("Contact", self.contact(self.remote)), self.our_allow(), *checked(headers)]
        fields += [("Record-Route", value) for value in asked.headers.get_all("record-route")]
        if sdp:
            self.sdp = sdp
        if is_required or (sdp and supports(asked.headers, TAG)):
            self._is_offer_answered = self._is_offer_answered or bool(sdp)
            if self._reliable is None:
                self._reliable = ReliableProvisionals(self)
            self._reliable.send(transaction, Provisional(status, fields, sdp), now)
            self.stack.timers.set(self, "1xx", now + AT_LEAST_EVERY_S)
            return
        if sdp:
            fields.append(("Content-Type", "application/sdp"))
        self._provisional = self.stack.respond(
            transaction, status, now, to_tag=self.dialog.local_tag, headers=fields, body=sdp
        )
        # 13.3.1.1: to keep proxies from giving up, "the UAS MUST send a non-100 provisional response at every minute".
        self.stack.timers.set(self, "1xx", now + 60)

    def answer(self, sdp: bytes, now: float, headers: Fields = ()) -> None:
        """200; it waits for the PRACK of a description that it would overtake."""
        reliable = self._reliable
        if self.state == PROCEEDING and reliable is not None:
            if reliable.holds_description:
                # RFC 3262 section 3: "If the UAS has sent a reliable provisional response containing a session
                # description ..., the UAS MUST NOT send a 2xx until that provisional response is acknowledged."
                if self._pending is None or self._waiting_answer is not None:
                    raise LocalProtocolError("the session has no INVITE that waits for an answer")
                self._waiting_answer = (sdp, checked(headers))
                return
            reliable.stop()
            if reliable.is_described:
                # RFC 6337 section 3.1: the INVITE's offer has its answer.
                sdp = b""
        super().answer(sdp, now, headers)

    def prack_received(self, transaction: ServerTransaction, source: Hop, now: float) -> None:
        """PRACK of one of ours (RFC 3262 section 3)."""
        reliable = self._reliable
        if reliable is None or not reliable.acknowledged(transaction, now):
            # "If a matching PRACK request is not found, the UAS MUST respond to it with a 481."
            self.stack.refuse(transaction, 481, "there is no such provisional response", now, source)
            return
        sdp = transaction.request.sdp
        if sdp:
            # Section 5: a PRACK may hold a new offer, which its 200 answers.
            self.updates.take(transaction)
            self._emit(UpdateReceived(self, sdp))
        else:
            self.stack.respond(transaction, 200, now)
        if self.state == PROCEEDING:
            reliable.go_on(now)
            waiting = self._waiting_answer
            if waiting is not None and not reliable.holds_description:
                self._waiting_answer = None
                self.answer(waiting[0], now, waiting[1])

    def was_not_acknowledged(self, now: float) -> None:
        """No PRACK came in 64*T1: "the UAS SHOULD reject the original request with a 5xx response"."""
        if self._pending is not None and self.state == PROCEEDING:
            sentence = "no PRACK came for our provisional response"
            self._refuse(self._take_pending(), 504, now, sentence)
            self._waiting_answer = None
            self._end(now, SessionEnded(self, "timeout", sentence))
            self._forget(now)

    def timer_fired(self, letter: str, now: float) -> None:
        if letter == "1xx":
            if self._reliable is not None:
                if self._waiting_answer is None:
                    self.progress(183, b"", now)
            elif self._pending is not None and self._provisional is not None:
                self._pending.respond(180, self._provisional, now)
                self.stack.timers.set(self, "1xx", now + 60)
        elif letter == "expires":
            # 13.3.1: "If the request is an INVITE that contains an Expires header field ... If the invitation expires
            # before the UAS has generated a final response, a 487 (Request Terminated) response SHOULD be generated."
            if self._pending is not None and self.state == PROCEEDING:
                sentence = "the invitation expired before it was answered"
                self._refuse(self._take_pending(), 487, now, sentence)
                self._end(now, InviteCancelled(self, sentence))
                self._forget(now)
        else:
            super().timer_fired(letter, now)

    def let_go(self, now: float) -> None:
        """With its provisional responses."""
        super().let_go(now)
        if self._reliable is not None:
            self._reliable.stop()
            self._reliable = None

    def _take_pending(self) -> InviteServerTransaction:
        if self._reliable is not None:
            self._reliable.stop()
        self._waiting_answer = None
        return super()._take_pending()

    def _hang_up(self, now: float, reason: str, fields: list[tuple[str, str]]) -> None:
        event = SessionEnded(self, "local", reason)
        if self.state == PROCEEDING:
            self._refuse(self._take_pending(), 480, now, reason or NO_REASON, fields)
            self._end(now, event)
            self._forget(now)
            return
        self._refuse_pending(now)
        was_accepted = self.state == ACCEPTED
        self._end(now, event)
        if was_accepted:
            # 15: "the callee's UA MUST NOT send a BYE on a confirmed dialog until it has received an ACK for its 2xx
            # response or until the server transaction times out."
            self._bye_fields = fields
        else:
            self._stop_repeating(now)
            self._send_bye(now, fields)

    def _stop_repeating(self, now: float) -> None:
        """A re-INVITE's 2xx is not repeated behind our BYE."""
        self._unacknowledged = None
        self.stack.timers.cancel_all(self)
