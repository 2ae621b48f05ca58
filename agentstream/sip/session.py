"""INVITE sessions (RFC 3261 sections 13 to 15): one call as UAS or as UAC, from its INVITE to its end.

A session ends with exactly one event (see :mod:`agentstream.sip.events`); what the protocol still owes after it (an
ACK to wait for, a BYE to repeat, a CANCEL to send) goes on without the owner.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import TYPE_CHECKING

import attrs

from agentstream.errors import LocalProtocolError
from agentstream.sip.dialog import Dialog, uac_dialog, uas_dialog
from agentstream.sip.events import (
    AckReceived,
    Event,
    InviteAnswered,
    InviteCancelled,
    InviteProgressed,
    InviteRefused,
    ReinviteCancelled,
    ReinviteReceived,
    SessionEnded,
)
from agentstream.sip.headers import Headers, format_reason
from agentstream.sip.hop import Hop
from agentstream.sip.message import Request, Response
from agentstream.sip.reinvite import MakeOffer, Reinvites
from agentstream.sip.timers import T1, T2, Deadline
from agentstream.sip.transactions import (
    ClientTransaction,
    InviteClientTransaction,
    InviteServerTransaction,
    ServerTransaction,
    Transaction,
)

if TYPE_CHECKING:
    from agentstream.sip.stack import Stack

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

    transaction: InviteServerTransaction
    cseq: int
    data: bytes
    interval: float = T1


class Session:
    """What both roles share: the dialog, BYE either way, re-INVITEs of the peer.

    :ivar request: the INVITE that began it. Its facts: ``request.uri.user_text`` (called),
        ``request.from_.uri.user_text`` (caller), ``request.headers.get("X-...")`` and ``request.headers.items()``
        with names as received.
    :ivar remote: the hop that the INVITE came from, or went to.
    :ivar state: calling (UAC, nothing heard), proceeding (no final answer), accepted (UAS, 200 sent, no ACK),
        confirmed, ended.
    :ivar is_incoming: we are the UAS.
    """

    def __init__(self, stack: Stack, request: Request, remote: Hop, state: str, is_incoming: bool) -> None:
        self.stack = stack
        self.request = request
        self.call_id = request.call_id
        self.remote = remote
        self.state = state
        self.is_incoming = is_incoming
        self.dialog: Dialog | None = None
        self.deadlines: dict[str, Deadline] = {}
        self._pending: InviteServerTransaction | None = None
        self._unacknowledged: _Unacknowledged | None = None
        self._bye_fields: list[tuple[str, str]] | None = None
        self._bye_sent = False
        self._reinvites: Reinvites | None = None

    def __repr__(self) -> str:
        return f"<Session {self.call_id} {self.state}>"

    @property
    def is_busy(self) -> bool:
        """An INVITE of the peer's waits for its answer or its ACK, or the session is not up."""
        return self.state != CONFIRMED or self._pending is not None or self._unacknowledged is not None

    # -- commands that both roles know -------------------------------------------------------------

    def answer(self, sdp: bytes, now: float, headers: Fields = ()) -> None:
        """200 to the pending INVITE or re-INVITE."""
        transaction = self._take_pending()
        fields = [("Contact", self.stack.contact_of(self.remote)), *_checked(headers)]
        fields += self.stack.capabilities
        dialog = self.dialog
        assert dialog is not None
        if self.state == PROCEEDING:
            self.state = ACCEPTED
            fields += [("Record-Route", value) for value in transaction.request.headers.get_all("record-route")]
        else:
            # RFC 3261 section 12.2.2: a target refresh request's Contact replaces the remote target.
            contact = transaction.request.contact
            if contact is not None and contact.uri.is_sip:
                dialog.remote_target = attrs.evolve(contact.uri, headers="")
        if sdp:
            fields.append(("Content-Type", "application/sdp"))
        data = self.stack.respond(transaction, 200, now, to_tag=dialog.local_tag, headers=fields, body=sdp)
        # 13.3.1.4: the 2xx "is passed to the transport with an interval that starts at T1 seconds and doubles for each
        # retransmission until it reaches T2 seconds", whatever the transport, until the ACK or for 64*T1.
        self._unacknowledged = _Unacknowledged(transaction, transaction.request.cseq.number, data)
        self.stack.timers.set(self, "2xx", now + T1)
        self.stack.timers.set(self, "no ACK", now + 64 * T1)

    def reject(self, status: int, now: float, warning: str = "", headers: Fields = ()) -> None:
        """A final refusal of the pending INVITE (which ends the session) or re-INVITE (which does not)."""
        if not 300 <= status <= 699:
            raise LocalProtocolError("a refusal's status is from 300 to 699")
        fields = list(_checked(headers))
        transaction = self._take_pending()
        self._refuse(transaction, status, now, warning or NO_REASON, fields)
        if self.state == PROCEEDING:
            self._end(now, SessionEnded(self, "local", warning or str(status)))
            self._forget(now)
        else:
            self._proceed(now)

    def reinvite(self, make_offer: MakeOffer, now: float) -> None:
        """Offer a change of the session; one that meets the peer's waits, and is sent again after 491."""
        if self.state in (CALLING, PROCEEDING, ENDED):
            raise LocalProtocolError("the session is not up")
        if self._reinvites is None:
            self._reinvites = Reinvites(self)
        self._reinvites.ask(make_offer, now)

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
        fields = list(_checked(headers))
        if reason and not any(name.lower() == "reason" for name, _ in fields):
            fields.append(("Reason", format_reason(reason)))
        if self.state != ENDED:
            self._hang_up(now, reason, fields)

    def _hang_up(self, now: float, reason: str, fields: list[tuple[str, str]]) -> None:
        raise NotImplementedError

    # -- requests inside the dialog ----------------------------------------------------------------

    def request_received(self, transaction: ServerTransaction, source: Hop, now: float) -> None:
        """INVITE, BYE or OPTIONS with the dialog's tags; RFC 3261 section 12.2.2."""
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
        if request.method == "OPTIONS":
            self.stack.answer_options(transaction, now)
        elif request.method == "BYE":
            self._bye_received(transaction, now)
        else:
            assert isinstance(transaction, InviteServerTransaction)
            self._reinvite_received(transaction, source, now)

    def _bye_received(self, transaction: ServerTransaction, now: float) -> None:
        reason = transaction.request.reason
        self.stack.respond(transaction, 200, now)
        if self._pending is not None:
            # 15.1.2: "The UAS MUST still respond to any pending requests received for that dialog. It is RECOMMENDED
            # that a 487 (Request Terminated) response be generated to those pending requests."
            self._refuse(self._take_pending(), 487, now, "the dialog was ended by BYE")
        self._end(now, SessionEnded(self, "remote", str(reason) if reason is not None else ""))
        self._forget(now)

    def _reinvite_received(self, transaction: InviteServerTransaction, source: Hop, now: float) -> None:
        if self._pending is not None:
            # 14.2: a second INVITE before the final response to a first one with a lower CSeq "MUST return a 500
            # (Server Internal Error) response to the second INVITE and MUST include a Retry-After header field with a
            # randomly chosen value of between 0 and 10 seconds".
            retry = zlib.crc32(self.stack.token().encode()) % 11
            sentence = "the INVITE before this one has no final answer yet"
            self.stack.refuse(transaction, 500, sentence, now, source, [("Retry-After", str(retry))])
            return
        if self.state == ENDED:
            self.stack.refuse(transaction, 481, "the session is being ended", now, source)
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
        self._pending = transaction
        self.stack.respond(transaction, 100, now)
        self._emit(ReinviteReceived(self, transaction.request, transaction.request.sdp))

    def ack_received(self, request: Request, now: float) -> None:
        """An ACK with the dialog's tags."""
        waiting = self._unacknowledged
        if waiting is None or request.cseq.number != waiting.cseq:
            return
        self._unacknowledged = None
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
            self._end(now, InviteCancelled(self, str(reason) if reason is not None else ""))
            self._forget(now)
        else:
            self._emit(ReinviteCancelled(self))
            self._proceed(now)

    # -- what remains the same for both ------------------------------------------------------------

    def timer_fired(self, letter: str, now: float) -> None:
        if letter == "2xx":
            waiting = self._unacknowledged
            if waiting is not None:
                self.stack.out.append((waiting.data, waiting.transaction.hop))
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
            if self._reinvites is not None:
                self._reinvites.stop(now)

    def _forget(self, now: float) -> None:
        """Nothing is owed any more: out of the tables."""
        self._unacknowledged = None
        self.stack.timers.cancel_all(self)
        if self.dialog is not None:
            self.stack.forget_dialog(self.dialog)


class IncomingSession(Session):
    """The UAS side of an INVITE; the transaction's 100 has been sent."""

    def __init__(self, stack: Stack, transaction: InviteServerTransaction, source: Hop, now: float) -> None:
        super().__init__(stack, transaction.request, source, PROCEEDING, True)
        self.dialog = uas_dialog(transaction.request, stack.token(), source)
        self._pending = transaction
        self._provisional: bytes | None = None
        stack.timers.set(self, "expires", now + stack.ring_limit_of(transaction.request))

    def progress(self, status: int, sdp: bytes, now: float, headers: Fields = ()) -> None:
        """A provisional response above 100."""
        transaction = self._pending
        if transaction is None or self.state != PROCEEDING:
            raise LocalProtocolError("the session has no INVITE that waits for an answer")
        if not 101 <= status <= 199:
            raise LocalProtocolError("a provisional response's status is from 101 to 199")
        assert self.dialog is not None
        fields = [("Contact", self.stack.contact_of(self.remote)), *_checked(headers)]
        fields += [("Record-Route", value) for value in transaction.request.headers.get_all("record-route")]
        if sdp:
            fields.append(("Content-Type", "application/sdp"))
        self._provisional = self.stack.respond(
            transaction, status, now, to_tag=self.dialog.local_tag, headers=fields, body=sdp
        )
        # 13.3.1.1: to keep proxies from giving up, "the UAS MUST send a non-100 provisional response at every minute".
        self.stack.timers.set(self, "1xx", now + 60)

    def timer_fired(self, letter: str, now: float) -> None:
        if letter == "1xx":
            if self._pending is not None and self._provisional is not None:
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


class OutgoingSession(Session):
    """The UAC side of an INVITE, with every dialog that forking proxies may make of it."""

    def __init__(self, stack: Stack, request: Request, hop: Hop, now: float) -> None:
        super().__init__(stack, request, hop, CALLING, False)
        self._early: dict[str, Dialog] = {}
        self._acks: dict[str, tuple[bytes, Hop]] = {}
        self._cancel_fields: list[tuple[str, str]] | None = None
        self._cancel_sent = False
        self._heard = False
        self._owes_ack = False
        self._transaction = stack.start_client(request, hop, now, self)
        # Nobody may ring for ever: what timer C is to a proxy (RFC 3261 section 16.6, item 11).
        stack.timers.set(self, "expires", now + stack.ring_limit_s)

    def timer_fired(self, letter: str, now: float) -> None:
        if letter == "expires":
            if self.state in (CALLING, PROCEEDING):
                sentence = "nobody answered in time"
                self._end(now, InviteRefused(self, 408, sentence))
                self._cancel(now, [("Reason", format_reason(sentence, "SIP", 408))])
        elif letter == "cancel":
            # 9.1: "If there is no final response for the original request in 64*T1 seconds ..., the client SHOULD
            # then consider the original transaction cancelled and SHOULD destroy the client transaction".
            self._transaction.end(now)
        else:
            super().timer_fired(letter, now)

    def _hang_up(self, now: float, reason: str, fields: list[tuple[str, str]]) -> None:
        is_up = self.state in (ACCEPTED, CONFIRMED)
        self._acknowledge(b"")
        self._end(now, SessionEnded(self, "local", reason))
        if is_up:
            self._refuse_pending(now)
            self._unacknowledged = None
            self.stack.timers.cancel_all(self)
            self._send_bye(now, fields)
        else:
            self._cancel(now, fields)

    def acknowledge(self, sdp: bytes, now: float) -> None:
        """The ACK that the owner's answer goes with."""
        if not self._owes_ack:
            raise LocalProtocolError("the session has no 2xx that waits for an answer")
        self._acknowledge(sdp)
        self.state = CONFIRMED
        self._proceed(now)

    def _acknowledge(self, sdp: bytes) -> None:
        """Send the ACK that is owed, if one is: 13.2.2.4 wants one whatever becomes of the session."""
        if self._owes_ack and self.dialog is not None:
            self._owes_ack = False
            ack = self.stack.send_ack(self.dialog, self.request.cseq.number, sdp)
            self._acks[self.dialog.remote_tag] = ack

    def _cancel(self, now: float, fields: list[tuple[str, str]]) -> None:
        self._cancel_fields = fields
        self.stack.timers.cancel(self, "expires")
        # 9.1: "If no provisional response has been received, the CANCEL request MUST NOT be sent; rather, the client
        # MUST wait for the arrival of a provisional response before sending the request."
        if self._heard:
            self._send_cancel(now)

    def _send_cancel(self, now: float) -> None:
        if self._cancel_sent:
            return
        self._cancel_sent = True
        sent = self.request.headers
        # 9.1: Request-URI, Call-ID, To, CSeq's number and From are the INVITE's, with its one Via and its Route
        # headers.
        headers = Headers()
        for name in ("Via", "From", "To", "Call-ID"):
            headers.add(name, sent.get(name) or "")
        headers.add("Max-Forwards", "70")
        headers.add("CSeq", f"{self.request.cseq.number} CANCEL")
        for route in sent.get_all("route"):
            headers.add("Route", route)
        for name, value in self._cancel_fields or ():
            headers.add(name, value)
        self.stack.start_client(Request("CANCEL", self.request.uri_text, headers), self.remote, now, None)
        self.stack.timers.set(self, "cancel", now + 64 * T1)

    def response_received(self, transaction: ClientTransaction, response: Response, now: float) -> None:
        if not isinstance(transaction, InviteClientTransaction):
            return
        if response.status < 200:
            self._progressed(response, now)
        elif response.status < 300:
            self._accepted(response, now)
        else:
            self.stack.timers.cancel_all(self)
            self._end(now, InviteRefused(self, response.status, response.explain()))
            self._forget(now)

    def _bye_received(self, transaction: ServerTransaction, now: float) -> None:
        # 15: a callee has no BYE to send on an early dialog. One that does so all the same wants the call to end, and
        # its INVITE still needs a final answer.
        was_early = self.state in (CALLING, PROCEEDING)
        self._acknowledge(b"")
        super()._bye_received(transaction, now)
        if was_early:
            self._cancel(now, [("Reason", format_reason("the callee sent BYE"))])

    def _progressed(self, response: Response, now: float) -> None:
        self._heard = True
        if self._cancel_fields is not None:
            self._send_cancel(now)
            return
        if self.state == CALLING:
            self.state = PROCEEDING
        if response.status == 100 or self.state != PROCEEDING:
            return
        tag = response.to.tag
        if tag and tag not in self._early and len(self._early) < 16:
            dialog = self._early[tag] = uac_dialog(self.request, response, self.remote)
            self.stack.remember_dialog(dialog, self)
        self._emit(InviteProgressed(self, response.status, response.sdp))

    def _accepted(self, response: Response, now: float) -> None:
        tag = response.to.tag
        known = self._acks.get(tag)
        if known is not None:
            # 13.2.2.4: "The ACK MUST be passed to the client transport every time a retransmission of the 2xx final
            # response that triggered the ACK arrives."
            self.stack.out.append(known)
            return
        if len(self._acks) >= 16 or (self._owes_ack and self.dialog is not None and tag == self.dialog.remote_tag):
            return
        self.stack.timers.cancel_all(self)
        dialog = uac_dialog(self.request, response, self.remote)
        if self.state in (CALLING, PROCEEDING) and not self.request.body and response.sdp:
            # 13.2.2.4: "If the 2xx contains an offer ..., the ACK MUST carry an answer in its body."
            self._forget_early(dialog)
            self.state, self.dialog, self._owes_ack = ACCEPTED, dialog, True
            self.stack.remember_dialog(dialog, self)
            self._emit(InviteAnswered(self, response.sdp))
            return
        self._acks[tag] = self.stack.send_ack(dialog, self.request.cseq.number)
        self._forget_early(dialog)
        if self.state in (CALLING, PROCEEDING):
            self.state = CONFIRMED
            self.dialog = dialog
            self.stack.remember_dialog(dialog, self)
            self._emit(InviteAnswered(self, response.sdp))
            return
        # A 2xx that crossed our CANCEL, or another branch of a fork: 13.2.2.4 has it acknowledged, and a dialog that
        # nobody wants is ended with a BYE.
        sentence = "another branch answered first" if self.state in (ACCEPTED, CONFIRMED) else "the call was cancelled"
        self.stack.forget_dialog(dialog)
        self.stack.send_in_dialog(dialog, "BYE", now, None, [("Reason", format_reason(sentence))])

    def _forget_early(self, dialog: Dialog) -> None:
        """Of the branches only this one goes on."""
        for early in self._early.values():
            if early.key != dialog.key:
                self.stack.forget_dialog(early)
        self._early.clear()

    def transaction_failed(self, transaction: ClientTransaction, status: int, now: float) -> None:
        if isinstance(transaction, InviteClientTransaction):
            sentence = "no answer to our INVITE" if status == 408 else "the peer cannot be reached"
            self.stack.timers.cancel_all(self)
            self._end(now, InviteRefused(self, status, f"{status} {sentence}"))
            self._forget(now)

    def transaction_ended(self, transaction: Transaction, now: float) -> None:
        if isinstance(transaction, InviteClientTransaction):
            self._acks.clear()
            if self.state == ENDED and not self._bye_sent:
                self._forget(now)
        else:
            super().transaction_ended(transaction, now)

    def _forget(self, now: float) -> None:
        super()._forget(now)
        for early in self._early.values():
            self.stack.forget_dialog(early)
        self._early.clear()
        if self._cancel_sent and self._transaction.state == PROCEEDING:
            # The INVITE itself still waits for its end, which a peer that only sent BYE may never give it.
            self.stack.timers.set(self, "cancel", now + 64 * T1)


def _checked(headers: Fields) -> list[tuple[str, str]]:
    """Header fields of the owner's; a line break in one would be a header of somebody else's."""
    fields = list(headers)
    for name, value in fields:
        if "\r" in value or "\n" in value or "\r" in name or "\n" in name or ":" in name:
            raise LocalProtocolError("a header name or value holds a line break")
    return fields
