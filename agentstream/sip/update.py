"""UPDATE (RFC 3311), both ways: a change of a session, or only its refresh, before the answer as well as behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentstream.errors import LocalProtocolError
from agentstream.sip.events import UpdateAnswered, UpdateReceived, UpdateRefused
from agentstream.sip.grammar import parse_number
from agentstream.sip.hop import Hop
from agentstream.sip.message import Response
from agentstream.sip.reinvite import MOST_TRIES, MakeOffer, pause_s
from agentstream.sip.timers import Deadline
from agentstream.sip.transactions import ClientTransaction, ServerTransaction, Transaction

if TYPE_CHECKING:
    from agentstream.sip.session import Session


class Updates:
    """UPDATE requests of one session.

    :ivar is_offered: an UPDATE of ours with an offer has no final response yet.
    :ivar is_asked: one of the peer's with an offer has none.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._stack = session.stack
        self._make_offer: MakeOffer | None = None
        self._sent: ClientTransaction | None = None
        self._received: ServerTransaction | None = None
        self._tries = 0
        self.deadlines: dict[str, Deadline] = {}

    # -- the peer's --------------------------------------------------------------------------------

    @property
    def is_asked(self) -> bool:
        return self._received is not None

    def received(self, transaction: ServerTransaction, source: Hop, now: float) -> None:
        """Section 5.2. One without an offer is answered at once: it moves the remote target and refreshes."""
        session, stack, request = self._session, self._stack, transaction.request
        sdp = request.sdp
        if sdp and session.has_sent_offer:
            # "If an UPDATE is received that contains an offer, and the UAS has generated an offer (in an UPDATE, PRACK
            # or INVITE) to which it has not yet received an answer, the UAS MUST reject the UPDATE with a 491
            # response."
            stack.refuse(transaction, 491, "an offer of ours is under way", now, source)
            return
        if self.is_asked or (sdp and session.has_received_offer):
            # "the UAS MUST reject the UPDATE with a 500 response, and MUST include a Retry-After header field with a
            # randomly chosen value between 0 and 10 seconds"; both for an offer that has no answer yet, and for an
            # UPDATE that has none.
            sentence = "the offer before this one has no answer yet"
            stack.refuse(transaction, 500, sentence, now, source, [stack.retry_soon()])
            return
        refusal = session.timer.refusal_of(request)
        if refusal is not None:
            stack.refuse(transaction, refusal[0], refusal[1], now, source, refusal[2])
            return
        self._received = transaction
        if sdp:
            stack.events.append(UpdateReceived(session, sdp))
        else:
            self.answer(b"", now)

    def take(self, transaction: ServerTransaction) -> None:
        """A PRACK with an offer (RFC 3262 section 5) is answered in the same way."""
        self._received = transaction

    def answer(self, sdp: bytes, now: float) -> None:
        """200 to the peer's, with our answer to its offer."""
        transaction = self._take()
        session = self._session
        dialog = session.dialog_with(transaction.request)
        if transaction.method == "UPDATE":
            dialog.refresh_target(transaction.request)
        fields = [("Contact", session.contact(dialog.source)), session.our_allow()]
        if session.is_up and transaction.method == "UPDATE":
            fields += session.timer.answer(transaction.request, now)
        if sdp:
            session.sdp = sdp
            fields.append(("Content-Type", "application/sdp"))
        self._stack.respond(transaction, 200, now, headers=fields, body=sdp)

    def reject(self, status: int, warning: str, now: float) -> None:
        """A final refusal of the peer's; the session goes on as it was."""
        fields = [("Warning", self._stack.warning(status, warning))]
        self._stack.respond(self._take(), status, now, headers=fields)

    def _take(self) -> ServerTransaction:
        transaction, self._received = self._received, None
        if transaction is None:
            raise LocalProtocolError("the session has no UPDATE that waits for an answer")
        return transaction

    # -- ours --------------------------------------------------------------------------------------

    @property
    def is_under_way(self) -> bool:
        return self._sent is not None or "again" in self.deadlines

    @property
    def is_offered(self) -> bool:
        return self._sent is not None and self._make_offer is not None

    def ask(self, make_offer: MakeOffer | None, now: float) -> None:
        """Send UPDATE: with an offer, or without one as a refresh."""
        if self.is_under_way:
            raise LocalProtocolError("an UPDATE of ours is under way already")
        self._make_offer = make_offer
        self._tries = 0
        self._send(now)

    def _send(self, now: float) -> None:
        session, stack = self._session, self._stack
        dialog = session.dialog
        assert dialog is not None
        if self._make_offer is not None and session.is_offering:
            # Section 5.1: no offer while another one, of either side, has no answer.
            stack.timers.set(self, "again", now + pause_s(session))
            return
        self._tries += 1
        offer = self._make_offer() if self._make_offer is not None else b""
        fields = [
            ("Contact", self._session.contact(dialog.source)),
            session.our_allow(),
            ("Supported", session.permissions.supported(stack.supported)),
            *(session.timer.ask() if session.is_up else ()),
        ]
        if offer:
            session.sdp = offer
            fields.append(("Content-Type", "application/sdp"))
        self._sent = stack.send_in_dialog(dialog, "UPDATE", now, self, fields, offer)

    def timer_fired(self, letter: str, now: float) -> None:
        self._send(now)

    def let_go(self, now: float) -> None:
        """The session is over: what is still to come of it changes nothing, and nothing here holds it."""
        self._stack.timers.cancel_all(self)
        self._sent = self._make_offer = None
        if self._received is not None:
            self.reject(487, "the session was ended", now)
        del self._session

    def response_received(self, transaction: ClientTransaction, response: Response, now: float) -> None:
        if transaction is not self._sent or response.status < 200:
            return
        self._sent = None
        if response.status < 300:
            self._accepted(response, now)
        else:
            self._refused(response.status, response.explain(), response, now)

    def _accepted(self, response: Response, now: float) -> None:
        session = self._session
        assert session.dialog is not None
        session.dialog.refresh_target(response)
        session.hear_capabilities(response)
        if session.is_up:
            session.timer.accepted(response, now)
        make_offer, self._make_offer = self._make_offer, None
        if make_offer is not None:
            self._stack.events.append(UpdateAnswered(session, response.sdp))

    def _refused(self, status: int, reason: str, response: Response | None, now: float) -> None:
        session, timers = self._session, self._stack.timers
        if status in (408, 481):
            # RFC 3261 section 12.2.1.2, and RFC 4028 section 10 for a refresh.
            session.give_up(now, "remote" if status == 481 else "timeout", f"our UPDATE: {reason}")
            return
        if response is not None and self._tries < MOST_TRIES:
            if status == 422 and session.timer.raised(response):
                self._send(now)
                return
            if status == 491:
                timers.set(self, "again", now + pause_s(session))
                return
            if status == 500 and (after := parse_number(response.headers.get("retry-after") or "", 32)) is not None:
                timers.set(self, "again", now + after)
                return
        make_offer, self._make_offer = self._make_offer, None
        if make_offer is not None:
            self._stack.events.append(UpdateRefused(session, status, reason))
        elif session.is_up:
            session.update_refused(status, now)

    def transaction_repeated(self, transaction: ClientTransaction, again: ClientTransaction) -> None:
        if transaction is self._sent:
            self._sent = again

    def transaction_failed(self, transaction: ClientTransaction, status: int, now: float) -> None:
        if transaction is self._sent:
            self._sent = None
            sentence = "no answer" if status == 408 else "the peer cannot be reached"
            self._refused(status, f"{status} {sentence}", None, now)

    def transaction_ended(self, transaction: Transaction, now: float) -> None:
        """Its answer has been seen, or its end told."""
