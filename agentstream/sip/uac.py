"""The UAC side of an INVITE session (RFC 3261 section 13.2), with every branch that a fork makes of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from agentstream.errors import LocalProtocolError
from agentstream.sip.dialog import Dialog, uac_dialog
from agentstream.sip.digest import Answers, DigestClient, credentials_of
from agentstream.sip.events import (
    InviteAnswered,
    InviteProgressed,
    InviteRefused,
    SessionEnded,
    TargetFailed,
)
from agentstream.sip.grammar import format_host
from agentstream.sip.headers import Headers, NameAddr, format_reason
from agentstream.sip.hop import Hop
from agentstream.sip.message import Request, Response
from agentstream.sip.redirect import contacts_of
from agentstream.sip.reliable import read_rseq
from agentstream.sip.routing import Listeners
from agentstream.sip.session import (
    ACCEPTED,
    CALLING,
    CONFIRMED,
    ENDED,
    PROCEEDING,
    Session,
)
from agentstream.sip.timers import T1
from agentstream.sip.transactions import (
    ClientTransaction,
    InviteClientTransaction,
    ServerTransaction,
    Transaction,
)
from agentstream.sip.uri import Uri

if TYPE_CHECKING:
    from agentstream.sip.core import Core

MAX_FORWARDS = 70
"""Of a call that begins here (RFC 3261 section 8.1.1.6)."""
MOST_TRIES = 4
"""Times that one INVITE is sent when the peer asks for another one."""
MOST_BRANCHES = 16
"""Dialogs that the forks of one INVITE may make."""
TARGET_S = 5.0
"""Seconds for a target to say anything at all, where there is another one."""


class OutgoingSession(Session):
    """The UAC side of an INVITE, with every dialog that forking proxies may make of it."""

    def __init__(
        self,
        stack: Core,
        request: Request,
        hop: Hop,
        now: float,
        credentials: DigestClient | None = None,
        others: Iterable[Hop] = (),
    ) -> None:
        super().__init__(stack, request, hop, CALLING, False)
        self._answers = None if credentials is None else Answers(credentials)
        self._proofs: list[tuple[str, str]] = []
        self._others = deque(others)
        self._left: dict[ClientTransaction, str] = {}
        self._unwanted: set[tuple[ClientTransaction, str]] = (
            set()
        )  # dialogs of targets that were given up, by their tags
        self._early: dict[str, Dialog] = {}
        self._acks: dict[str, tuple[bytes, Hop]] = {}
        self._rseqs: dict[str, int] = {}
        self._cancel_fields: list[tuple[str, str]] | None = None
        self._cancel_sent = False
        self._heard = False
        self._owes_ack = False
        self._plain = request
        self._tries = 1
        self.request = self._asking()
        self._transaction = stack.start_client(self.request, hop, now, self)
        # Nobody may ring for ever: what timer C is to a proxy (RFC 3261 section 16.6, item 11).
        stack.timers.set(self, "expires", now + stack.ring_limit_s)
        self._wait_for_target(now)

    def _wait_for_target(self, now: float) -> None:
        if self._others:
            self.stack.timers.set(self, "target", now + TARGET_S)

    def _try_next(self, status: int, now: float) -> bool:
        """The same INVITE to the next target, in a transaction of its own (RFC 3263 section 4.3: "the client SHOULD
        create a new request that is identical to the previous, but has a different value of the Via branch ID"); False
        where there is none."""
        if not self._others or self.state not in (CALLING, PROCEEDING) or self._cancel_fields is not None:
            return False
        self._emit(TargetFailed(self, self.remote, status))
        if self._answers is not None:
            self._answers.forget_tries()
        if self._transaction.is_open:
            # It may still be answered; it is not repeated any more.
            self.stack.timers.cancel(self._transaction, "A")
            self._left[self._transaction] = "open"
        self._drop_early()
        self.remote = self._others.popleft()
        listeners = self.stack.listeners
        changed = {
            "via": listeners.via(self.remote, self.stack.token()),
            "contact": listeners.contact(self.remote, is_secure=self._plain.uri.scheme == "sips"),
        }
        fields = Headers((name, changed.get(name.lower(), value)) for name, value in self._plain.headers)
        self._plain = Request("INVITE", self._plain.uri_text, fields, self._plain.body)
        self.request = self._asking()
        self.state = CALLING
        self._heard = False
        self._transaction = self.stack.start_client(self.request, self.remote, now, self)
        self._wait_for_target(now)
        return True

    def _late_answer(self, transaction: ClientTransaction, response: Response, now: float) -> None:
        """A target that was given up answers after all: nobody wants its dialog."""
        left = self._left.get(transaction)
        if left is None:
            return
        reason = [("Reason", format_reason("another target was tried"))]
        if response.status < 200:
            if left == "open":
                self._left[transaction] = "cancelled"
                self.stack.start_client(build_cancel(transaction.request, reason), transaction.hop, now, None)
        elif response.status < 300:
            dialog = self._dialog_of(transaction.request, response, transaction.hop)
            credentials = credentials_of(transaction.request.headers)
            self.stack.send_ack(dialog, transaction.request.cseq.number, credentials=credentials)
            self._left[transaction] = "ended"
            branch = (transaction, dialog.remote_tag)
            if branch not in self._unwanted and len(self._unwanted) < MOST_BRANCHES:
                self._unwanted.add(branch)
                self.stack.send_in_dialog(dialog, "BYE", now, None, reason)

    def _dialog_of(self, request: Request, response: Response, hop: Hop) -> Dialog:
        dialog = uac_dialog(request, response, hop)
        dialog.answers = self._answers
        return dialog

    def _asking(self) -> Request:
        """The INVITE with what session timers say of it."""
        plain = self._plain
        if self._answers is not None:
            self._proofs = self._answers.headers(plain.method, plain.uri_text)
        fields = Headers([*plain.headers, *self.timer.ask(), *self._proofs])
        return Request(plain.method, plain.uri_text, fields, plain.body)

    def _ask_again(self, now: float) -> None:
        """The INVITE once more, in a transaction of its own (RFC 4028 section 7.3: "the same value of the Call-ID, From
        and To of the previous request, but the CSeq should contain a new sequence number that is one higher")."""
        self._tries += 1
        via = self.stack.listeners.via(self.remote, self.stack.token())
        number = self._plain.cseq.number + 1
        changed = {"via": via, "cseq": f"{number} INVITE"}
        fields = Headers((name, changed.get(name.lower(), value)) for name, value in self._plain.headers)
        self._plain = Request("INVITE", self._plain.uri_text, fields, self._plain.body)
        self.request = self._asking()
        self._heard = False
        self._transaction = self.stack.start_client(self.request, self.remote, now, self)
        self._wait_for_target(now)

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
        elif letter == "target":
            if not self._heard:
                self._try_next(408, now)
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
            self.sdp = sdp
            ack = self.stack.send_ack(self.dialog, self.request.cseq.number, sdp, self._proofs)
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
        # The transaction knows how the INVITE went: it may have left UDP for its size, and come back.
        cancel = build_cancel(self._transaction.request, self._cancel_fields or ())
        self.stack.start_client(cancel, self._transaction.hop, now, None)
        self.stack.timers.set(self, "cancel", now + 64 * T1)

    def response_received(self, transaction: ClientTransaction, response: Response, now: float) -> None:
        if transaction is not self._transaction or not isinstance(transaction, InviteClientTransaction):
            if isinstance(transaction, InviteClientTransaction):
                self._late_answer(transaction, response, now)
            return
        self.stack.timers.cancel(self, "target")
        if response.status < 200:
            self._progressed(response, now)
        elif response.status < 300:
            self._accepted(response, now)
        elif response.status == 422 and self._may_ask_again and self.timer.raised(response):
            self._ask_again(now)
        elif self._may_ask_again and self._answers is not None and self._answers.hear(response):
            # RFC 3261 section 22.2: "When a UAC resubmits a request with its credentials after receiving a 401 ... it
            # MUST increment the CSeq header field value".
            self._ask_again(now)
        elif response.status == 503 and self._try_next(503, now):
            return
        else:
            self.stack.timers.cancel_all(self)
            self._end(now, InviteRefused(self, response.status, response.explain(), contacts_of(response)))
            self._forget(now)

    @property
    def _may_ask_again(self) -> bool:
        return self.state in (CALLING, PROCEEDING) and self._cancel_fields is None and self._tries < MOST_TRIES

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
        self.hear_capabilities(response)
        if tag and tag not in self._early and len(self._early) < MOST_BRANCHES:
            dialog = self._early[tag] = self._dialog_of(self.request, response, self.remote)
            self.stack.remember_dialog(dialog, self)
        if "100rel" in response.headers.tokens_of("require") and not self._acknowledge_reliable(response, now):
            return
        self._emit(InviteProgressed(self, response.status, response.sdp, tag))

    def _acknowledge_reliable(self, response: Response, now: float) -> bool:
        """PRACK for a reliable response (RFC 3262 section 4); False for one that is repeated or out of order."""
        tag, rseq = response.to.tag, read_rseq(response.headers)
        early, last = self._early.get(tag), self._rseqs.get(tag)
        # "if the RSeq value ... is not one higher than the value of the last ..., the provisional response MUST NOT be
        # acknowledged with a PRACK, and MUST NOT be processed further by the UAC".
        if early is None or rseq is None or (last is not None and rseq != last + 1):
            return False
        self._rseqs[tag] = rseq
        if response.sdp:
            self._offer_unanswered = False
        rack = f"{rseq} {self.request.cseq.number} INVITE"
        self.stack.send_in_dialog(early, "PRACK", now, None, [("RAck", rack)])
        return True

    def _accepted(self, response: Response, now: float) -> None:
        tag = response.to.tag
        known = self._acks.get(tag)
        if known is not None:
            # 13.2.2.4: "The ACK MUST be passed to the client transport every time a retransmission of the 2xx final
            # response that triggered the ACK arrives."
            self.stack.out.append(known)
            return
        is_owed = self._owes_ack and self.dialog is not None and tag == self.dialog.remote_tag
        if is_owed or len(self._acks) >= MOST_BRANCHES:
            return
        for letter in ("expires", "cancel"):
            self.stack.timers.cancel(self, letter)
        dialog = self._dialog_of(self.request, response, self.remote)
        early = self._early.get(tag)
        if early is not None:
            # 13.2.2.4: the dialog that is there "MUST be transitioned to the "confirmed" state", with a new route set;
            # its sequence numbers go on.
            dialog.local_cseq, dialog.remote_cseq = early.local_cseq, early.remote_cseq
        if self.state in (CALLING, PROCEEDING) and not self.request.body and response.sdp:
            # 13.2.2.4: "If the 2xx contains an offer ..., the ACK MUST carry an answer in its body."
            self._forget_early(dialog)
            self._is_answered_by(response, now)
            self.state, self.dialog, self._owes_ack = ACCEPTED, dialog, True
            self.stack.remember_dialog(dialog, self)
            self._emit(InviteAnswered(self, response.sdp, tag))
            return
        self._acks[tag] = self.stack.send_ack(dialog, self.request.cseq.number, b"", self._proofs)
        self._forget_early(dialog)
        if self.state in (CALLING, PROCEEDING):
            self._is_answered_by(response, now)
            self.state = CONFIRMED
            self.dialog = dialog
            self.stack.remember_dialog(dialog, self)
            self._emit(InviteAnswered(self, response.sdp, tag))
            return
        # A 2xx that crossed our CANCEL, or another branch of a fork: 13.2.2.4 has it acknowledged, and a dialog that
        # nobody wants is ended with a BYE.
        sentence = "another branch answered first" if self.state in (ACCEPTED, CONFIRMED) else "the call was cancelled"
        self.stack.forget_dialog(dialog)
        self.stack.send_in_dialog(dialog, "BYE", now, None, [("Reason", format_reason(sentence))])

    def _is_answered_by(self, response: Response, now: float) -> None:
        self._offer_unanswered = False
        if self._answers is not None:
            self._answers.accepted(response)
        self.hear_capabilities(response)
        self.timer.accepted(response, now)

    def _forget_early(self, dialog: Dialog) -> None:
        """Of the branches only this one goes on."""
        for early in self._early.values():
            if early.key != dialog.key:
                self.stack.forget_dialog(early)
        self._early.clear()

    def transaction_failed(self, transaction: ClientTransaction, status: int, now: float) -> None:
        if transaction is self._transaction and not self._try_next(status, now):
            sentence = "no answer to our INVITE" if status == 408 else "the peer cannot be reached"
            self.stack.timers.cancel_all(self)
            self._end(now, InviteRefused(self, status, f"{status} {sentence}"))
            self._forget(now)

    def transaction_ended(self, transaction: Transaction, now: float) -> None:
        if isinstance(transaction, InviteClientTransaction):
            if transaction is not self._transaction:
                self._left.pop(transaction, None)
                self._unwanted = {branch for branch in self._unwanted if branch[0] is not transaction}
                return  # one that was answered 401, 407 or 422 before
            self._acks.clear()
            if self.state == ENDED and not self._bye_sent:
                self._forget(now)
        else:
            super().transaction_ended(transaction, now)

    def _drop_early(self) -> None:
        for early in self._early.values():
            self.stack.forget_dialog(early)
        self._early.clear()

    def _forget(self, now: float) -> None:
        super()._forget(now)
        self._drop_early()
        if self._cancel_sent and self._transaction.state == PROCEEDING:
            # The INVITE itself still waits for its end, which a peer that only sent BYE may never give it.
            self.stack.timers.set(self, "cancel", now + 64 * T1)


def build_cancel(invite: Request, more: Iterable[tuple[str, str]]) -> Request:
    """The CANCEL of an INVITE as it was sent."""
    sent = invite.headers
    # 9.1: Request-URI, Call-ID, To, CSeq's number and From are the INVITE's, with its one Via and its Route headers.
    headers = Headers()
    for name in ("Via", "From", "To", "Call-ID"):
        headers.add(name, sent.get(name) or "")
    headers.add("Max-Forwards", "70")
    headers.add("CSeq", f"{invite.cseq.number} CANCEL")
    for route in sent.get_all("route"):
        headers.add("Route", route)
    for name, value in more:
        headers.add(name, value)
    return Request("CANCEL", invite.uri_text, headers)


def build_invite(
    listeners: Listeners,
    hop: Hop,
    token: Callable[[], str],
    target: Uri,
    from_uri: Uri,
    to_uri: Uri,
    headers: Iterable[tuple[str, str]],
    sdp: bytes,
    max_forwards: int = MAX_FORWARDS,
) -> Request:
    """The INVITE that begins a session (RFC 3261 sections 8.1.1 and 13.2.1), sent on this hop."""
    host = format_host(listeners.of(hop).host)
    fields = Headers()
    fields.add("Via", listeners.via(hop, token()))
    fields.add("Max-Forwards", str(max_forwards))
    fields.add("From", str(NameAddr(from_uri, parameters={"tag": token()})))
    fields.add("To", str(NameAddr(to_uri)))
    fields.add("Call-ID", f"{token()}@{host}")
    fields.add("CSeq", "1 INVITE")
    fields.add("Contact", listeners.contact(hop, is_secure=target.scheme == "sips"))
    for name, value in headers:
        fields.add(name, value)
    if sdp:
        fields.add("Content-Type", "application/sdp")
    return Request("INVITE", str(target), fields, sdp)
