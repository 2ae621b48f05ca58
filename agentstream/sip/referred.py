"""Transfers that others ask us for (RFC 3515, RFC 3892, RFC 4488): REFER to us, and the NOTIFYs that we say what became
of it by."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import unquote

import attrs

from agentstream.errors import LocalProtocolError, RemoteProtocolError
from agentstream.sip.events import ReferReceived
from agentstream.sip.headers import parse_name_addr
from agentstream.sip.hop import Hop
from agentstream.sip.message import PHRASES, Request, Response
from agentstream.sip.replaces import Replaces, parse_replaces
from agentstream.sip.timers import Deadline
from agentstream.sip.transactions import ClientTransaction, ServerTransaction, Transaction
from agentstream.sip.uri import Uri

if TYPE_CHECKING:
    from agentstream.sip.session import Session

NO_SUBSCRIPTION = "norefersub"
"""The option tag of RFC 4488."""
FRAGMENT = "message/sipfrag;version=2.0"
LEAVES_S = 2.0
"""Seconds for the peer to hang up when it has been told that we have got there (RFC 5589 section 6.1); then we do."""
TARGET_HEADERS = 8
"""Headers in a Refer-To that are looked at."""


@attrs.frozen
class ReferTo:
    """Where a REFER sends us.

    :ivar uri: whom to call. :ivar replaces: the call that ours shall take the place of there; None in a blind transfer.
    """

    uri: Uri
    replaces: Replaces | None = None


def read_refer_to(request: Request) -> ReferTo:
    """Of a REFER; RemoteProtocolError with the status to refuse it with where there is nothing to follow."""
    values = request.headers.get_all("refer-to")
    if len(values) != 1:
        # RFC 3515 section 2.4.1: "A REFER request MUST contain exactly one Refer-To header field value."
        raise RemoteProtocolError("a REFER has exactly one Refer-To", 400)
    uri = parse_name_addr(values[0]).uri
    if not uri.is_sip and uri.scheme != "tel":
        raise RemoteProtocolError("the Refer-To is neither sip, sips nor tel", 416)
    if (uri.parameter("method") or "INVITE").upper() != "INVITE":
        raise RemoteProtocolError("the Refer-To asks for something else than a call", 603)
    replaces = None
    for piece in uri.headers.split("&")[:TARGET_HEADERS] if uri.headers else ():
        name, _, value = piece.partition("=")
        # Of what else may stand there nothing is put in a request of ours (RFC 3261 section 19.1.5).
        if unquote(name).lower() == "replaces":
            replaces = parse_replaces(unquote(value))
    kept = tuple(one for one in uri.parameters if one[0] != "method")
    return ReferTo(attrs.evolve(uri, headers="", parameters=kept), replaces)


class Subscription:
    """The REFER of the peer's that a session follows, one at a time; its implicit subscription ends with the final
    status of our call, or with the session."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._stack = session.stack
        self._count = 0
        self._event = ""
        self._is_silent = False
        self._sent: ClientTransaction | None = None
        self._next: tuple[int, str] | None = None
        self._told = 0
        self.is_under_way = False
        self.deadlines: dict[str, Deadline] = {}

    def received(self, transaction: ServerTransaction, source: Hop, now: float) -> None:
        """A REFER in the session's dialog (RFC 3515 section 2.4.2)."""
        session, stack, request = self._session, self._stack, transaction.request
        self._count += 1
        if not session.permissions.refer:
            # Whom we call is for the flow to say, and not for whoever can send us a request.
            stack.refuse(transaction, 603, "we are not transferred by others", now, source)
            return
        if not session.is_up:
            stack.refuse(transaction, 403, "a call that is not answered is not transferred", now, source)
            return
        if self.is_under_way or session.referral.is_under_way:
            stack.refuse(transaction, 491, "a transfer is under way already", now, source)
            return
        try:
            refer_to = read_refer_to(request)
        except RemoteProtocolError as error:
            stack.refuse(transaction, error.status, error.sentence, now, source)
            return
        # Section 2.4.6: "for the second and subsequent REFER requests a UA receives in a given dialog", refused ones
        # too, the NOTIFYs name theirs by its CSeq.
        self._event = "refer" if self._count == 1 else f"refer;id={request.cseq.number}"
        self._is_silent = (request.headers.get("refer-sub") or "").partition(";")[0].strip().lower() == "false"
        self._told, self._next = 0, None
        self.is_under_way = True
        dialog = session.dialog_with(request)
        dialog.refresh_target(request)
        fields = [("Contact", session.contact(dialog.source))]
        if self._is_silent:
            fields += [("Supported", NO_SUBSCRIPTION), ("Refer-Sub", "false")]
        stack.respond(transaction, 202, now, headers=fields)
        stack.events.append(
            ReferReceived(session, refer_to.uri, refer_to.replaces, (request.headers.get("referred-by") or "").strip())
        )
        # RFC 6665 section 4.2.1.2 has the first one sent at once.
        self.tell(100, "", now)

    def tell(self, status: int, phrase: str, now: float) -> None:
        """What our call has come to: a status of its, the final one last. Behind a 2xx the peer hangs up, or we do."""
        if not self.is_under_way:
            raise LocalProtocolError("the session follows no REFER")
        if status >= 200:
            self.is_under_way = False
            if status < 300:
                self._stack.timers.set(self, "leaves", now + LEAVES_S)
        elif status <= self._told:
            return
        self._told = status
        if self._is_silent:
            return
        self._next = (status, phrase or PHRASES.get(status, ""))
        if self._sent is None:
            self._send(now)

    def _send(self, now: float) -> None:
        """One NOTIFY at a time, so that the last one does not overtake the others."""
        dialog = self._session.dialog
        if self._next is None or dialog is None:
            return
        (status, phrase), self._next = self._next, None
        left = int(self._stack.ring_limit_s)
        state = f"active;expires={left}" if status < 200 else "terminated;reason=noresource"
        fields = [
            ("Contact", self._session.contact(dialog.source)),
            ("Event", self._event),
            ("Subscription-State", state),
            ("Content-Type", FRAGMENT),
        ]
        body = f"SIP/2.0 {status} {phrase}\r\n".encode()
        self._sent = self._stack.send_in_dialog(dialog, "NOTIFY", now, self, fields, body)

    def response_received(self, transaction: ClientTransaction, response: Response, now: float) -> None:
        if response.status >= 200:
            self._answered(transaction, response.status, now)

    def transaction_repeated(self, transaction: ClientTransaction, again: ClientTransaction) -> None:
        if transaction is self._sent:
            self._sent = again

    def transaction_failed(self, transaction: ClientTransaction, status: int, now: float) -> None:
        self._answered(transaction, status, now)

    def _answered(self, transaction: ClientTransaction, status: int, now: float) -> None:
        if transaction is self._sent:
            self._sent = None
            if status in (408, 481):
                # RFC 6665 section 4.2.2: the subscription is gone. Our call goes on all the same.
                self._is_silent, self._next = True, None
            self._send(now)

    def transaction_ended(self, transaction: Transaction, now: float) -> None:
        """Its answer was what counts."""

    def timer_fired(self, letter: str, now: float) -> None:
        self._session.hang_up(now, "the call was transferred")

    def let_go(self) -> None:
        """The session is over: nobody is told any more."""
        self.is_under_way = False
        self._sent = self._next = None
        self._stack.timers.cancel_all(self)
        del self._session
