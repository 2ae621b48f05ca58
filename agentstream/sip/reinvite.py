"""Our own re-INVITEs (RFC 3261 section 14.1): one at a time, never while another is under way, again after glare."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from agentstream.errors import LocalProtocolError
from agentstream.sip.digest import credentials_of
from agentstream.sip.events import ReinviteAnswered, ReinviteRefused, SessionRefreshed
from agentstream.sip.hop import Hop
from agentstream.sip.message import Response
from agentstream.sip.timers import T1, Deadline
from agentstream.sip.transactions import PROCEEDING, ClientTransaction, Transaction

if TYPE_CHECKING:
    from agentstream.sip.session import Session

MOST_TRIES = 8
"""Times that one re-INVITE is sent when the peer answers 491 each time."""

MakeOffer = Callable[[], bytes]
"""Makes the offer when it is sent and not before: what waits would be out of date by then."""


class Reinvites:
    """What one session asks of its peer in the middle of the call.

    :ivar is_under_way: an INVITE of ours has no final response yet: one of the peer's is answered 491.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._stack = session.stack
        self._make_offer: MakeOffer | None = None
        self._waiting: MakeOffer | None = None
        self._is_refresh = False
        self._transaction: ClientTransaction | None = None
        self._left: ClientTransaction | None = None
        self._acks: dict[ClientTransaction, tuple[bytes, Hop]] = {}
        self._tries = 0
        self.deadlines: dict[str, Deadline] = {}

    @property
    def is_under_way(self) -> bool:
        return self._transaction is not None

    def ask(self, make_offer: MakeOffer, now: float) -> None:
        """Send a re-INVITE now, or as soon as nothing else is under way."""
        if self._waiting is not None or (self._make_offer is not None and not self._is_refresh):
            raise LocalProtocolError("a re-INVITE of ours is under way already")
        if self._make_offer is not None:
            self._waiting = make_offer
        else:
            self._begin(make_offer, False, now)

    def refresh(self, now: float) -> bool:
        """Send one that changes nothing (RFC 4028 section 7.4); False where another one is to be sent anyway."""
        if self._make_offer is not None or not self._session.sdp:
            return False
        self._begin(lambda: self._session.sdp, True, now)
        return True

    def _begin(self, make_offer: MakeOffer, is_refresh: bool, now: float) -> None:
        self._make_offer, self._is_refresh = make_offer, is_refresh
        self._tries = 0
        self.proceed(now)

    def proceed(self, now: float) -> None:
        """Something else has ended: send what waits."""
        # 14.1: "a UAC MUST NOT initiate a new INVITE transaction within a dialog while another INVITE transaction is in
        # progress in either direction."
        make_offer, session = self._make_offer, self._session
        if make_offer is None or self._transaction is not None or "491" in self.deadlines or session.is_busy:
            return
        if session.is_updating:
            # RFC 3311 section 5.1 has it for offers in UPDATE; theirs and ours are answered at once.
            self._stack.timers.set(self, "491", now + pause_s(session))
            return
        dialog = session.dialog
        assert dialog is not None
        self._tries += 1
        stack = self._stack
        fields = [
            ("Contact", session.contact(dialog.source)),
            session.our_allow(),
            ("Supported", session.permissions.supported(stack.supported)),
            *session.timer.ask(),
            ("Content-Type", "application/sdp"),
        ]
        session.sdp = make_offer()
        self._transaction = stack.send_in_dialog(dialog, "INVITE", now, self, fields, session.sdp)
        stack.timers.set(self, "final", now + stack.ring_limit_s)

    def stop(self, now: float) -> None:
        """The session is over: nothing more is sent; a 2xx that comes all the same is acknowledged."""
        self._stack.timers.cancel_all(self)
        self._left, self._make_offer, self._transaction, self._waiting = self._transaction, None, None, None
        if self._left is not None:
            # 15.1.2 has the peer answer what is pending when a BYE ends the dialog (487); one that does not is not
            # waited for longer than for any other answer.
            self._stack.timers.set(self, "left", now + 64 * T1)

    def timer_fired(self, letter: str, now: float) -> None:
        if letter == "491":
            self.proceed(now)
        elif letter == "left":
            if self._left is not None and self._left.state == PROCEEDING:
                self._left.end(now)
        else:
            self._session.give_up(now, "timeout", "no final answer to our re-INVITE")

    def response_received(self, transaction: ClientTransaction, response: Response, now: float) -> None:
        status = response.status
        if status >= 300:
            if transaction is self._transaction:
                if status == 422 and self._tries < MOST_TRIES and self._session.timer.raised(response):
                    self._transaction = None
                    self.proceed(now)
                    return
                self._refused(status, response.explain(), now)
        elif status >= 200:
            self._accepted(transaction, response, now)

    def _accepted(self, transaction: ClientTransaction, response: Response, now: float) -> None:
        known = self._acks.get(transaction)
        if known is not None:
            self._stack.out.append(known)
            return
        dialog = self._session.dialog
        assert dialog is not None
        dialog.refresh_target(response)
        self._acks[transaction] = self._stack.send_ack(
            dialog, transaction.request.cseq.number, credentials=credentials_of(transaction.request.headers)
        )
        if transaction is self._transaction:
            session = self._session
            session.hear_capabilities(response)
            session.timer.accepted(response, now)
            is_refresh = self._finish()
            self._stack.events.append((SessionRefreshed if is_refresh else ReinviteAnswered)(session, response.sdp))
            self._follow(now)

    def _refused(self, status: int, reason: str, now: float) -> None:
        if status in (408, 481):
            # 12.2.1.2: "If the response for a request within a dialog is a 481 or a 408, the UAC SHOULD terminate the
            # dialog."
            self._finish()
            self._session.give_up(now, "remote" if status == 481 else "timeout", f"our re-INVITE: {reason}")
        elif status == 491 and self._tries < MOST_TRIES:
            self._transaction = None
            self._stack.timers.cancel(self, "final")
            self._stack.timers.set(self, "491", now + pause_s(self._session))
        else:
            if self._finish():
                self._session.timer.try_again(now)
            else:
                self._stack.events.append(ReinviteRefused(self._session, status, reason))
            self._follow(now)

    def _finish(self) -> bool:
        """Whether it was a refresh."""
        self._make_offer = self._transaction = None
        self._stack.timers.cancel(self, "final")
        return self._is_refresh

    def _follow(self, now: float) -> None:
        """What waited for a refresh is sent."""
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            self._begin(waiting, False, now)

    def transaction_repeated(self, transaction: ClientTransaction, again: ClientTransaction) -> None:
        if transaction is self._transaction:
            self._transaction = again

    def transaction_failed(self, transaction: ClientTransaction, status: int, now: float) -> None:
        if transaction is self._transaction:
            sentence = "no answer" if status == 408 else "the peer cannot be reached"
            self._refused(status, f"{status} {sentence}", now)

    def transaction_ended(self, transaction: Transaction, now: float) -> None:
        if isinstance(transaction, ClientTransaction):
            self._acks.pop(transaction, None)
        if transaction is self._left:
            self._left = None
            self._stack.timers.cancel(self, "left")


def pause_s(session: Session) -> float:
    """How long to wait before a request that was answered 491 is sent again."""
    # 14.1: "If the UAC is the owner of the Call-ID of the dialog ID (meaning it generated the value), T is a randomly
    # chosen value between 2.1 and 4 seconds in units of 10 ms. If the UAC is not the owner ..., T is a randomly chosen
    # value of between 0 and 2 seconds in units of 10 ms."
    chance = zlib.crc32(session.stack.token().encode())
    return (chance % 201) / 100 if session.is_incoming else (210 + chance % 191) / 100
