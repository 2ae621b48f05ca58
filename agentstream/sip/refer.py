"""Transfers that we ask for (RFC 3515, RFC 3892): REFER, and the NOTIFYs that say what became of it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from agentstream.errors import LocalProtocolError
from agentstream.sip.events import ReferEnded, ReferProgressed
from agentstream.sip.hop import Hop
from agentstream.sip.message import Response
from agentstream.sip.timers import Deadline
from agentstream.sip.transactions import ClientTransaction, ServerTransaction, Transaction
from agentstream.sip.uri import Uri

if TYPE_CHECKING:
    from agentstream.sip.session import Session

_STATUS_LINE = re.compile(rb"SIP/2\.0 ([1-6][0-9]{2})(?: ([^\r\n]*))?")


def read_sipfrag(body: bytes) -> tuple[int, str] | None:
    """Status and phrase of a message/sipfrag body (RFC 3420), which must begin with a status line (RFC 3515 section
    2.4.5)."""
    match = _STATUS_LINE.match(body.lstrip())
    return (int(match[1]), (match[2] or b"").decode("utf-8", "replace").strip()) if match is not None else None


class Referral:
    """The one transfer that a session may be asked for at a time. It ends with one ReferEnded."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._stack = session.stack
        self._sent: ClientTransaction | None = None
        self._cseq = 0
        self.is_under_way = False
        self.deadlines: dict[str, Deadline] = {}

    def ask(self, target: Uri, referred_by: str, within_s: float, now: float) -> None:
        """Send REFER; what is not over within ``within_s`` has failed."""
        dialog = self._session.dialog
        if self.is_under_way:
            raise LocalProtocolError("a transfer of the session is under way already")
        assert dialog is not None
        self.is_under_way = True
        fields = [
            ("Contact", self._session.contact(dialog.source)),
            ("Refer-To", f"<{target}>"),
            ("Referred-By", referred_by),
        ]
        self._sent = self._stack.send_in_dialog(dialog, "REFER", now, self, fields)
        self._cseq = self._sent.request.cseq.number
        self._stack.timers.set(self, "result", now + within_s)

    def notified(self, transaction: ServerTransaction, source: Hop, now: float) -> None:
        """A NOTIFY of the subscription that REFER made (RFC 3515 section 2.4.4)."""
        request, stack = transaction.request, self._stack
        package, *parameters = (part.strip() for part in (request.headers.get("event") or "").split(";"))
        if package.lower() != "refer":
            stack.refuse(transaction, 489, "NOTIFYs are understood of the event package refer", now, source)
            return
        pairs = (parameter.partition("=") for parameter in parameters)
        numbers = [value.strip() for name, _, value in pairs if name.strip().lower() == "id"]
        if not self.is_under_way or (numbers and numbers != [str(self._cseq)]):
            stack.refuse(transaction, 481, "there is no such subscription", now, source)
            return
        stack.respond(transaction, 200, now)
        found = read_sipfrag(request.body)
        state = (request.headers.get("subscription-state") or "").partition(";")[0].strip().lower()
        if found is not None and found[0] >= 200:
            self._end(found[0], f"{found[0]} {found[1]}".strip())
        elif state == "terminated":
            self._end(0, "the far end did not say what became of it")
        elif found is not None:
            stack.events.append(ReferProgressed(self._session, found[0]))

    def response_received(self, transaction: ClientTransaction, response: Response, now: float) -> None:
        if transaction is self._sent and response.status >= 300:
            self._end(response.status, response.explain())

    def transaction_repeated(self, transaction: ClientTransaction, again: ClientTransaction) -> None:
        if transaction is self._sent:
            self._sent = again
            self._cseq = again.request.cseq.number

    def transaction_failed(self, transaction: ClientTransaction, status: int, now: float) -> None:
        if transaction is self._sent:
            self._end(status, f"{status} no answer to our REFER")

    def transaction_ended(self, transaction: Transaction, now: float) -> None:
        """Behind a 2xx the NOTIFYs say the rest."""

    def timer_fired(self, letter: str, now: float) -> None:
        self._end(408, "the far end did not say in time what became of it")

    def stop(self) -> None:
        """Nothing is waited for any more."""
        self.is_under_way = False
        self._sent = None
        self._stack.timers.cancel_all(self)

    def let_go(self) -> None:
        """The session is over, and with it whatever would have been said."""
        self.stop()
        del self._session

    def _end(self, status: int, reason: str) -> None:
        if self.is_under_way:
            self.stop()
            self._stack.events.append(ReferEnded(self._session, status, reason))
