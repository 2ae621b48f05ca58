"""INVITE sessions (RFC 3261 sections 13 to 15): one call as UAS or as UAC, from its INVITE to its end.

A session ends with exactly one event (see :mod:`agentstream.sip.events`); what the protocol still owes after it (an
ACK to wait for, a BYE to repeat, a CANCEL to send) goes on without the owner.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import attrs

from agentstream.errors import LocalProtocolError
from agentstream.sip.dialog import Dialog
from agentstream.sip.digest import Answers, DigestClient
from agentstream.sip.events import (
    AckReceived,
    Event,
    InviteCancelled,
    ReinviteCancelled,
    ReinviteReceived,
    SessionEnded,
)
from agentstream.sip.grammar import is_token
from agentstream.sip.headers import format_reason
from agentstream.sip.hop import Hop
from agentstream.sip.info import Infos
from agentstream.sip.message import Request, Response
from agentstream.sip.permissions import NOTHING
from agentstream.sip.refer import Referral
from agentstream.sip.referred import Subscription
from agentstream.sip.reinvite import MakeOffer, Reinvites
from agentstream.sip.session_timer import SessionTimer
from agentstream.sip.timers import T1, T2, Deadline
from agentstream.sip.transactions import (
    ClientTransaction,
    InviteServerTransaction,
    ServerTransaction,
    Transaction,
)
from agentstream.sip.update import Updates
from agentstream.sip.uri import Uri

if TYPE_CHECKING:
    from agentstream.sip.core import Core

Fields = Iterable[tuple[str, str]]

CALLING = "calling"
PROCEEDING = "proceeding"
ACCEPTED = "accepted"
CONFIRMED = "confirmed"
ENDED = "ended"

NO_REASON = "refused without a reason being given"
"""The Warning of a refusal whose owner gave none."""


@attrs.define(eq=False)
class _Unacknowledged:
    """A 2xx of ours that waits for its ACK."""

    hop: Hop
    cseq: int
    data: bytes
    interval: float = T1


class Session:
    """What both roles share: the dialog, BYE either way, re-INVITEs of the peer.

    :ivar request: the INVITE that began it. Its facts: ``request.uri.user_text`` (called),
        ``request.from_.uri.user_text`` (caller), ``request.headers.get("X-...")`` and ``request.headers.items()``
        with names as received.
    :ivar remote: the hop that the INVITE came from, or went to.
    :ivar state: calling (UAC, nothing heard), proceeding (no final answer), accepted (the 200 is
        there and the ACK is not), confirmed, ended.
    :ivar is_incoming: we are the UAS.
    :ivar sdp: our latest description.
    :ivar peer_allows: the methods that the peer's latest Allow named.
    :ivar permissions: what the peer may ask of the call; set by the owner before it answers.
    """

    def __init__(self, stack: Core, request: Request, remote: Hop, state: str, is_incoming: bool) -> None:
        self.stack = stack
        self.request = request
        self.call_id = request.call_id
        self.remote = remote
        self.state = state
        self.is_incoming = is_incoming
        self.dialog: Dialog | None = None
        self.deadlines: dict[str, Deadline] = {}
        self.sdp = request.body if not is_incoming else b""
        self.peer_allows: frozenset[str] = frozenset()
        self.timer = SessionTimer(self)
        self.updates = Updates(self)
        self.infos = Infos(self)
        self.referral = Referral(self)
        self.permissions = NOTHING
        self.subscription = Subscription(self)
        self._offer_unanswered = not is_incoming and bool(request.body)
        self._pending: InviteServerTransaction | None = None
        self._unacknowledged: _Unacknowledged | None = None
        self._bye_fields: list[tuple[str, str]] | None = None
        self._bye_sent = False
        self._reinvites: Reinvites | None = None
        self._is_offer_answered = False

    def __repr__(self) -> str:
        return f"<Session {self.call_id} {self.state}>"

    @property
    def is_busy(self) -> bool:
        """An INVITE of the peer's waits for its answer or its ACK, or the session is not up."""
        return self.state != CONFIRMED or self._pending is not None or self._unacknowledged is not None

    @property
    def is_up(self) -> bool:
        """It was answered and has not ended."""
        return self.state in (ACCEPTED, CONFIRMED)

    @property
    def is_over(self) -> bool:
        """It has ended, whatever is still owed for it."""
        return self.state == ENDED

    @property
    def is_answering(self) -> bool:
        """Our answer waits for something of the peer's before it is sent."""
        return False

    @property
    def is_updating(self) -> bool:
        """An UPDATE with an offer, of either side, has no answer yet."""
        return self.updates.is_offered or self.updates.is_asked

    @property
    def has_sent_offer(self) -> bool:
        """An offer of ours has no answer yet."""
        is_reinviting = self._reinvites is not None and self._reinvites.is_under_way
        return self._offer_unanswered or is_reinviting or self.updates.is_offered

    @property
    def has_received_offer(self) -> bool:
        """An offer of the peer's has no answer yet."""
        return self._pending is not None and bool(self._pending.request.sdp) and not self._is_offer_answered

    @property
    def is_offering(self) -> bool:
        """An offer of either side has no answer yet, so that there may be no other."""
        return self.has_sent_offer or self.has_received_offer or self.updates.is_asked

    def dialog_with(self, request: Request) -> Dialog:
        """The dialog, early or not, that this request of the peer's is in."""
        dialog = self.stack.dialog_of(request) or self.dialog
        assert dialog is not None
        return dialog

    @property
    def is_open(self) -> bool:
        """The call is up, or an ACK or our BYE is still to come."""
        return self.state != ENDED or self._unacknowledged is not None or self._bye_fields is not None

    def authenticate(self, client: DigestClient | None) -> None:
        """What 401 and 407 to our requests inside the session are answered with; a call of ours brings its own."""
        if self.dialog is not None and client is not None:
            self.dialog.answers = Answers(client)

    def contact(self, hop: Hop) -> str:
        """Our Contact in this session's messages on the hop."""
        return self.stack.listeners.contact(hop, is_secure=self.request.is_secure)

    def our_allow(self) -> tuple[str, str]:
        """Allow, as this peer is told it."""
        name, methods = self.stack.capabilities[0]
        return name, self.permissions.allow(methods)

    # -- commands that both roles know -------------------------------------------------------------

    def answer(self, sdp: bytes, now: float, headers: Fields = ()) -> None:
        """200 to the pending INVITE or re-INVITE."""
        transaction = self._take_pending()
        fields = [("Contact", self.contact(self.remote)), *checked(headers)]
        supported = self.permissions.supported(self.stack.supported)
        fields += [self.our_allow(), *self.stack.capabilities[1:], ("Supported", supported)]
        fields += self.timer.answer(transaction.request, now)
        dialog = self.dialog
        assert dialog is not None
        if self.state == PROCEEDING:
            self.state = ACCEPTED
            fields += [("Record-Route", value) for value in transaction.request.headers.get_all("record-route")]
        else:
            dialog.refresh_target(transaction.request)
        if sdp:
            self._offer_unanswered = not transaction.request.sdp
            self.sdp = sdp
            fields.append(("Content-Type", "application/sdp"))
        cseq = transaction.request.cseq.number
        data = self.stack.respond(transaction, 200, now, to_tag=dialog.local_tag, headers=fields, body=sdp)
        # 13.3.1.4: the 2xx "is passed to the transport with an interval that starts at T1 seconds and doubles for each
        # retransmission until it reaches T2 seconds", whatever the transport, until the ACK or for 64*T1.
        self._unacknowledged = _Unacknowledged(transaction.hop, cseq, data)
        self.stack.timers.set(self, "2xx", now + T1)
        self.stack.timers.set(self, "no ACK", now + 64 * T1)

    def reject(self, status: int, now: float, warning: str = "", headers: Fields = ()) -> None:
        """A final refusal of the pending INVITE (which ends the session) or re-INVITE (which does not)."""
        if not 300 <= status <= 699:
            raise LocalProtocolError("a refusal's status is from 300 to 699")
        fields = list(checked(headers))
        transaction = self._take_pending()
        self._refuse(transaction, status, now, warning or NO_REASON, fields)
        if self.state == PROCEEDING:
            self._end(now, SessionEnded(self, "local", warning or str(status)))
            self._forget(now)
        else:
            self._proceed(now)

    def reinvite(self, make_offer: MakeOffer, now: float) -> None:
        """Offer a change of the session; one that meets the peer's waits, and is sent again after 491."""
        if not self.is_up and not self.is_answering:
            raise LocalProtocolError("the session is not up")
        if self._reinvites is None:
            self._reinvites = Reinvites(self)
        self._reinvites.ask(make_offer, now)

    def update(self, make_offer: MakeOffer, now: float) -> None:
        """Offer a change by UPDATE, which also serves before the answer."""
        if self.dialog is None or self.state == ENDED:
            raise LocalProtocolError("the session has no dialog")
        if "UPDATE" not in self.peer_allows:
            raise LocalProtocolError("the peer does not allow UPDATE")
        self.updates.ask(make_offer, now)

    def send_digit(self, digit: str, duration_ms: int, now: float) -> None:
        """A digit by INFO."""
        if not self.is_up:
            raise LocalProtocolError("the session is not up")
        self.infos.send(digit, duration_ms, now)

    def refer(self, target: Uri, referred_by: str, within_s: float, now: float) -> None:
        """Send the peer to another (RFC 3515)."""
        if not self.is_up:
            raise LocalProtocolError("the session is not up")
        self.referral.ask(target, referred_by, within_s, now)

    def refresh(self, now: float) -> bool:
        """Show the peer that we are there (RFC 4028 section 7.4); False where that cannot be now."""
        if self.state != CONFIRMED or self.updates.is_under_way:
            return False
        if "UPDATE" in self.peer_allows:
            self.updates.ask(None, now)
            return True
        if self._reinvites is None:
            self._reinvites = Reinvites(self)
        return self._reinvites.refresh(now)

    def update_refused(self, status: int, now: float) -> None:
        """Our refresh by UPDATE was refused: what the peer does not serve after all is not sent again."""
        if status in (405, 420, 501):
            self.peer_allows -= {"UPDATE"}
            if self.refresh(now):
                return
        self.timer.try_again(now)

    def hear_capabilities(self, message: Request | Response) -> None:
        """What its Allow says from now on."""
        if "allow" in message.headers:
            self.peer_allows = frozenset(name.upper() for name in message.headers.tokens_of("allow"))

    def _proceed(self, now: float) -> None:
        """The peer's INVITE is out of the way of ours."""
        if self._reinvites is not None:
            self._reinvites.proceed(now)

    def give_up(self, now: float, by: str, reason: str) -> None:
        """The peer has lost the dialog: end it."""
        if self.state != ENDED:
            self._refuse_pending(now)
            self._end(now, SessionEnded(self, by, reason))
            self._unacknowledged = None
            self.stack.timers.cancel_all(self)
            self._send_bye(now, [("Reason", format_reason(reason, "SIP", 481 if by == "remote" else 408))])

    def hang_up(self, now: float, reason: str = "", headers: Fields = ()) -> None:
        """End the session from our side by BYE, CANCEL or refusal; harmless when it is over."""
        fields = list(checked(headers))
        if reason and not any(name.lower() == "reason" for name, _ in fields):
            fields.append(("Reason", format_reason(reason)))
        if self.state != ENDED:
            self._hang_up(now, reason, fields)

    def _hang_up(self, now: float, reason: str, fields: list[tuple[str, str]]) -> None:
        """By what its state asks for, which the two kinds of session know; ``fields`` go into that request."""
        raise NotImplementedError

    # -- requests inside the dialog ----------------------------------------------------------------

    def request_received(self, transaction: ServerTransaction, source: Hop, now: float) -> None:
        """A request with the dialog's tags, other than ACK and CANCEL; RFC 3261 section 12.2.2."""
        request = transaction.request
        dialog = self.stack.dialog_of(request)
        assert dialog is not None
        number = request.cseq.number
        if dialog.remote_cseq is not None and number <= dialog.remote_cseq:
            # "If the remote sequence number was not empty, but the sequence number of the request is lower than the
            # remote sequence number, the request is out of order and MUST be rejected with a 500"; an equal number in
            # another transaction is no better.
            self.stack.refuse(transaction, 500, "the CSeq is not higher than the last one", now, source)
            return
        dialog.remote_cseq = number
        dialog.source = source
        self.hear_capabilities(request)
        if request.method == "OPTIONS":
            self.stack.answer_options(transaction, now)
        elif request.method == "BYE":
            self._bye_received(transaction, now)
        elif self.state == ENDED:
            self.stack.refuse(transaction, 481, "the session is being ended", now, source)
        elif request.method == "UPDATE":
            self.updates.received(transaction, source, now)
        elif request.method == "INFO":
            self.infos.received(transaction, source, now)
        elif request.method == "REFER":
            self.subscription.received(transaction, source, now)
        elif request.method == "NOTIFY":
            self.referral.notified(transaction, source, now)
        elif request.method == "PRACK":
            self.prack_received(transaction, source, now)
        else:
            assert isinstance(transaction, InviteServerTransaction)
            self._reinvite_received(transaction, source, now)

    def prack_received(self, transaction: ServerTransaction, source: Hop, now: float) -> None:
        """A PRACK of a peer that has nothing to acknowledge."""
        self.stack.refuse(transaction, 481, "there is no such provisional response", now, source)

    def _bye_received(self, transaction: ServerTransaction, now: float) -> None:
        reason, causes = transaction.request.reason, transaction.request.reasons
        self.stack.respond(transaction, 200, now)
        if self._pending is not None:
            # 15.1.2: "The UAS MUST still respond to any pending requests received for that dialog. It is RECOMMENDED
            # that a 487 (Request Terminated) response be generated to those pending requests."
            self._refuse(self._take_pending(), 487, now, "the dialog was ended by BYE")
        self._end(now, SessionEnded(self, "remote", str(reason) if reason is not None else "", causes))
        self._forget(now)

    def _reinvite_received(self, transaction: InviteServerTransaction, source: Hop, now: float) -> None:
        if self._pending is not None:
            # 14.2: a second INVITE before the final response to a first one with a lower CSeq "MUST return a 500
            # (Server Internal Error) response to the second INVITE and MUST include a Retry-After header field with a
            # randomly chosen value of between 0 and 10 seconds".
            sentence = "the INVITE before this one has no final answer yet"
            self.stack.refuse(transaction, 500, sentence, now, source, [self.stack.retry_soon()])
            return
        if self.state != CONFIRMED or self._unacknowledged is not None:
            # RFC 5407 section 3.1.5: an INVITE that overtakes the ACK of the one before is answered 491.
            self.stack.refuse(transaction, 491, "the INVITE before this one is not acknowledged yet", now, source)
            return
        if self._reinvites is not None and self._reinvites.is_under_way:
            # 14.2: "A UAS that receives an INVITE on a dialog while an INVITE it had sent on that dialog is in progress
            # MUST return a 491 (Request Pending) response to the received INVITE."
            self.stack.refuse(transaction, 491, "an INVITE of ours is under way", now, source)
            return
        if self.is_updating:
            self.stack.refuse(transaction, 491, "an UPDATE is under way", now, source)
            return
        refusal = self.timer.refusal_of(transaction.request)
        if refusal is not None:
            self.stack.refuse(transaction, refusal[0], refusal[1], now, source, refusal[2])
            return
        self._pending = transaction
        self._is_offer_answered = False
        self.stack.respond(transaction, 100, now)
        self._emit(ReinviteReceived(self, transaction.request, transaction.request.sdp))

    def ack_received(self, request: Request, now: float) -> None:
        """An ACK with the dialog's tags."""
        waiting = self._unacknowledged
        if waiting is None or request.cseq.number != waiting.cseq:
            return
        self._unacknowledged = None
        self._offer_unanswered = False
        self.stack.timers.cancel(self, "2xx")
        self.stack.timers.cancel(self, "no ACK")
        if self.state == ENDED:
            if self._bye_fields is not None:
                self._send_bye(now, self._bye_fields)
            return
        self.state = CONFIRMED
        self._emit(AckReceived(self, request.sdp))
        self._proceed(now)

    def cancel_received(self, transaction: InviteServerTransaction, cancel: Request, now: float) -> None:
        """The peer's CANCEL for the pending INVITE or re-INVITE; it has been answered 200."""
        if transaction is not self._pending:
            return
        self._take_pending()
        # 9.2: "If the UAS has not issued a final response for the original request ... it SHOULD immediately respond
        # to the original request with a 487 (Request Terminated)."
        reason = cancel.reason
        self._refuse(transaction, 487, now, "the request was cancelled")
        if self.state == PROCEEDING:
            self._end(now, InviteCancelled(self, str(reason) if reason is not None else "", cancel.reasons))
            self._forget(now)
        else:
            self._emit(ReinviteCancelled(self))
            self._proceed(now)

    # -- what remains the same for both ------------------------------------------------------------

    def timer_fired(self, letter: str, now: float) -> None:
        if letter == "2xx":
            waiting = self._unacknowledged
            if waiting is not None:
                self.stack.out.append((waiting.data, waiting.hop))
                waiting.interval = min(2 * waiting.interval, T2)
                self.stack.timers.set(self, "2xx", now + waiting.interval)
        elif letter == "no ACK":
            # 13.3.1.4: "If the server retransmits the 2xx response for 64*T1 seconds without receiving an ACK, the
            # dialog is confirmed, but the session SHOULD be terminated. This is accomplished with a BYE."
            self.stack.timers.cancel(self, "2xx")
            self._unacknowledged = None
            sentence = "no ACK came for our 200"
            fields = self._bye_fields or [("Reason", format_reason(sentence, "SIP", 408))]
            if self.state != ENDED:
                self._refuse_pending(now)
                self._end(now, SessionEnded(self, "timeout", sentence))
            self._send_bye(now, fields)

    def response_received(self, transaction: ClientTransaction, response: Response, now: float) -> None:
        """An answer to our BYE changes nothing: the session ended when it was sent (15.1.1)."""

    def transaction_failed(self, transaction: ClientTransaction, status: int, now: float) -> None:
        """Nor does its failure."""

    def transaction_repeated(self, transaction: ClientTransaction, again: ClientTransaction) -> None:
        """Our BYE, with credentials."""

    def transaction_ended(self, transaction: Transaction, now: float) -> None:
        """The dialog outlives our BYE's transaction only so that a BYE that crosses it is answered 200 and not 481."""
        if transaction.method == "BYE":
            self._forget(now)

    def _take_pending(self) -> InviteServerTransaction:
        transaction = self._pending
        if transaction is None:
            raise LocalProtocolError("the session has no INVITE that waits for an answer")
        self._pending = None
        self.stack.timers.cancel(self, "1xx")
        self.stack.timers.cancel(self, "expires")
        return transaction

    def _refuse(
        self, transaction: ServerTransaction, status: int, now: float, warning: str = "", headers: Fields = ()
    ) -> None:
        tag = self.dialog.local_tag if self.dialog is not None else ""
        fields = list(headers)
        if warning:
            fields.append(("Warning", self.stack.warning(status, warning)))
        self.stack.respond(transaction, status, now, to_tag=tag, headers=fields)

    def _refuse_pending(self, now: float) -> None:
        if self._pending is not None:
            self._refuse(self._take_pending(), 487, now, "the session was ended")

    def _send_bye(self, now: float, fields: list[tuple[str, str]]) -> None:
        dialog = self.dialog
        if dialog is None or self._bye_sent:
            return
        self._bye_sent = True
        self._bye_fields = None
        self.stack.send_in_dialog(dialog, "BYE", now, self, fields)

    def _emit(self, event: Event) -> None:
        self.stack.events.append(event)

    def _end(self, now: float, event: Event) -> None:
        """The owner hears of the end, once."""
        if self.state != ENDED:
            self.state = ENDED
            self._emit(event)
            self.let_go(now)
            if self._reinvites is not None:
                self._reinvites.stop(now)

    def let_go(self, now: float) -> None:
        """It is over: its parts hold it no longer, so that reference counting frees it."""
        self.timer.let_go()
        self.updates.let_go(now)
        self.infos.let_go()
        self.referral.let_go()
        self.subscription.let_go()

    def _forget(self, now: float) -> None:
        """Nothing is owed any more: out of the tables."""
        self._reinvites = None
        self._unacknowledged = None
        self.stack.timers.cancel_all(self)
        if self.dialog is not None:
            self.stack.forget_dialog(self.dialog)


def checked(headers: Fields) -> list[tuple[str, str]]:
    """Header fields of the owner's; a line break in one would be a header of somebody else's."""
    fields = list(headers)
    for name, value in fields:
        if "\r" in value or "\n" in value or not is_token(name):
            raise LocalProtocolError("a header name or value holds a line break")
    return fields
