"""The UAS side of an INVITE session (RFC 3261 section 13.3): from its 100 to the ACK of our answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentstream.errors import LocalProtocolError
from agentstream.sip.dialog import uas_dialog
from agentstream.sip.events import (
    InviteCancelled,
    SessionEnded,
)
from agentstream.sip.hop import Hop
from agentstream.sip.session import (
    ACCEPTED,
    NO_REASON,
    PROCEEDING,
    Fields,
    Session,
    checked,
)
from agentstream.sip.transactions import (
    InviteServerTransaction,
)

if TYPE_CHECKING:
    from agentstream.sip.stack import Stack


class IncomingSession(Session):
    """The UAS side of an INVITE; the transaction's 100 has been sent."""

    def __init__(self, stack: Stack, transaction: InviteServerTransaction, source: Hop, now: float) -> None:
        super().__init__(stack, transaction.request, source, PROCEEDING, True)
        self.dialog = uas_dialog(transaction.request, stack.token(), source)
        self.hear_capabilities(transaction.request)
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
        fields = [("Contact", self.contact(self.remote)), *checked(headers)]
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
