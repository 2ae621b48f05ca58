"""The four transaction machines of RFC 3261 section 17, with the Accepted states of RFC 6026.

Each machine is a table {(state, input): (next state, action)} at the end of this file; an input that has no row is
ignored, as the RFC's figures have it. Inputs are "INVITE", "ACK", "request", the classes "1xx", "2xx", "3xx-6xx"
(received by a client, passed down by the TU to a server), "timer A" and so on, and "transport error". The machines
write to ``out``, set timers by letter, and tell their user: they know neither dialogs nor the table that they are
kept in.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from typing import Any, ClassVar, Protocol

from agentstream.errors import LocalProtocolError
from agentstream.sip.headers import Headers
from agentstream.sip.hop import Hop
from agentstream.sip.message import Request, Response
from agentstream.sip.timers import T1, T2, T4, Deadline, Timers

CALLING = "calling"
TRYING = "trying"
PROCEEDING = "proceeding"
COMPLETED = "completed"
CONFIRMED = "confirmed"
ACCEPTED = "accepted"
TERMINATED = "terminated"

COOKIE = "z9hg4bk"
Out = deque[tuple[bytes, Hop]]
Key = tuple[object, ...]
Action = Callable[[Any, Any, float], None]
Table = dict[tuple[str, str], tuple[str, Action | None]]


def status_class(status: int) -> str:
    """The machines' input for a status."""
    if status < 200:
        return "1xx"
    return "2xx" if status < 300 else "3xx-6xx"


def server_key(request: Request) -> Key:
    """What a request is matched by (RFC 3261 section 17.2.3); an ACK has the key of its INVITE."""
    method = "INVITE" if request.method == "ACK" else request.method
    via = request.via
    branch = via.branch
    # "the branch parameter in the topmost Via ... is present and begins with the magic cookie": the cookie alone
    # identifies nothing (RFC 4475 section 3.2.1).
    if len(branch) > len(COOKIE) and branch[: len(COOKIE)].lower() == COOKIE:
        # The Call-ID is ours: peers that reuse a branch over calls would otherwise get another call's answer.
        return (branch, via.sent_by, request.call_id, method)
    # RFC 2543: the To tag is left out, because an ACK carries the response's.
    return (request.uri_text, request.from_.tag, request.call_id, request.cseq.number, request.via_text, method)


class TransactionUser(Protocol):
    """Who is told: the TU of RFC 3261, and the table that forgets a transaction."""

    def response_received(self, transaction: ClientTransaction, response: Response, now: float) -> None: ...
    def transaction_failed(self, transaction: ClientTransaction, status: int, now: float) -> None: ...
    def transaction_ended(self, transaction: Transaction, now: float) -> None: ...


class DialogUser(TransactionUser, Protocol):
    """Who sends requests inside a dialog."""

    def transaction_repeated(self, transaction: ClientTransaction, again: ClientTransaction) -> None:
        """The request was asked for credentials and is sent once more, in another transaction: nothing more is told of
        the first."""


class Transaction:
    """One transaction in one state.

    :ivar key: its place in the stack's table.
    :ivar hop: where its messages go.
    :cvar open_states: those in which a response or an ACK is still to come; in the others it only takes up repetitions.
    """

    table: ClassVar[Table]
    open_states: ClassVar[frozenset[str]]
    __slots__ = ("deadlines", "forget", "hop", "interval", "key", "method", "out", "state", "timers", "user")

    def __init__(
        self,
        request: Request,
        key: Key,
        hop: Hop,
        out: Out,
        timers: Timers,
        forget: Callable[[Transaction], None],
        user: TransactionUser | None,
        state: str,
    ) -> None:
        self.method = request.method
        self.key = key
        self.hop = hop
        self.out = out
        self.timers = timers
        self.forget = forget
        self.user = user
        self.state = state
        self.interval = T1
        self.deadlines: dict[str, Deadline] = {}

    @property
    def is_open(self) -> bool:
        """Whether something of it is still to come."""
        return self.state in self.open_states

    def feed(self, event: str, message: Any, now: float) -> None:
        """One input. What the table does not name is ignored."""
        row = self.table.get((self.state, event))
        if row is None:
            return
        self.state, action = row
        if action is not None:
            action(self, message, now)
        if self.state is TERMINATED:
            self.end(now)

    def timer_fired(self, letter: str, now: float) -> None:
        self.feed(f"timer {letter}", None, now)

    def end(self, now: float) -> None:
        """Terminate now: timers stop, the table forgets."""
        self.state = TERMINATED
        self.timers.cancel_all(self)
        self.forget(self)
        user, self.user = self.user, None
        if user is not None:
            user.transaction_ended(self, now)


class ClientTransaction(Transaction, ABC):
    """What INVITE and non-INVITE clients share: one request that is repeated until there is an answer.

    :ivar otherwise: the request and the hop that it takes when its own hop cannot be used; None where there is none.
    """

    open_states = frozenset((CALLING, TRYING, PROCEEDING))
    __slots__ = ("data", "otherwise", "request")

    def __init__(
        self,
        request: Request,
        key: Key,
        hop: Hop,
        out: Out,
        timers: Timers,
        forget: Callable[[Transaction], None],
        user: TransactionUser | None,
    ) -> None:
        state = CALLING if request.method == "INVITE" else TRYING
        super().__init__(request, key, hop, out, timers, forget, user, state)
        self.request = request
        self.data = request.serialise()
        self.otherwise: tuple[Request, Hop] | None = None

    @abstractmethod
    def start(self, now: float) -> None:
        """Send the request and start its timers."""

    @property
    def is_unheard(self) -> bool:
        """Nothing has answered it yet."""
        return self.state in (CALLING, TRYING)

    def feed(self, event: str, message: Any, now: float) -> None:
        if event == "transport error" and self.otherwise is not None and self.state in (CALLING, TRYING):
            # RFC 3261 section 18.1.1: where TCP was only for the size, "the element SHOULD retry the request, using
            # UDP." Nobody has heard of this one, so that it begins anew.
            (self.request, self.hop), self.otherwise = self.otherwise, None
            self.data = self.request.serialise()
            self.interval = T1
            self.timers.cancel_all(self)
            self.start(now)
        else:
            super().feed(event, message, now)

    def receive(self, response: Response, now: float) -> None:
        """A response that matches (RFC 3261 section 17.1.3)."""
        self.feed(status_class(response.status), response, now)

    def _send(self) -> None:
        self.out.append((self.data, self.hop))

    def _pass_up(self, response: Response, now: float) -> None:
        if self.user is not None:
            self.user.response_received(self, response, now)

    def _timed_out(self, _message: object, now: float) -> None:
        # "If timer B fires while still in the Calling state, the client transaction SHOULD inform the TU that a
        # timeout has occurred"; 8.1.3.1: a timeout "MUST be treated as if a 408 (Request Timeout) status code has
        # been received".
        if self.user is not None:
            self.user.transaction_failed(self, 408, now)

    def _unreachable(self, _message: object, now: float) -> None:
        # 8.1.3.1: a transport error "MUST be treated as a 503 (Service Unavailable)".
        if self.user is not None:
            self.user.transaction_failed(self, 503, now)


class InviteClientTransaction(ClientTransaction):
    """RFC 3261 section 17.1.1, figure 5, and RFC 6026 section 7.2."""

    __slots__ = ("ack",)

    def start(self, now: float) -> None:
        """Send the INVITE and start timers A (not on reliable transports) and B."""
        self.ack: bytes | None = None
        self._send()
        if not self.hop.is_reliable:
            self.timers.set(self, "A", now + self.interval)
        self.timers.set(self, "B", now + 64 * T1)

    def _retransmit(self, _message: object, now: float) -> None:
        # "When timer A fires, the client transaction MUST retransmit the request ... and MUST reset the timer with a
        # value of 2*T1."
        self._send()
        self.interval *= 2
        self.timers.set(self, "A", now + self.interval)

    def _proceed(self, response: Response, now: float) -> None:
        # "If the client transaction receives a provisional response while in the Calling state, it transitions to the
        # Proceeding state. In the Proceeding state, the client transaction SHOULD NOT retransmit the request any
        # longer."
        self.timers.cancel_all(self)
        self._pass_up(response, now)

    def _accept(self, response: Response, now: float) -> None:
        # RFC 6026 section 7.2: on a 2xx "the client transaction MUST transition to the Accepted state, and Timer M
        # MUST be started with a value of 64*T1".
        self.timers.cancel_all(self)
        self.timers.set(self, "M", now + 64 * T1)
        self._pass_up(response, now)

    def _refuse(self, response: Response, now: float) -> None:
        # "the client transaction MUST transition to Completed ... and MUST generate an ACK request"; timer D is at
        # least 32 s for unreliable transports, zero for reliable ones.
        self.timers.cancel_all(self)
        self.timers.set(self, "D", now + (0 if self.hop.is_reliable else 64 * T1))
        self.ack = self._build_ack(response)
        self.out.append((self.ack, self.hop))
        self._pass_up(response, now)

    def _acknowledge_again(self, _response: Response, _now: float) -> None:
        # "Any retransmissions of the final response that are received while in the Completed state MUST cause the ACK
        # to be re-passed to the transport layer for retransmission, but the newly received response MUST NOT be
        # passed up to the TU."
        if self.ack is not None:
            self.out.append((self.ack, self.hop))

    def _build_ack(self, response: Response) -> bytes:
        # 17.1.1.3: Call-ID, From, Request-URI and the top Via of the request, To of the response, CSeq's number, and
        # the Route headers.
        sent = self.request.headers
        headers = Headers()
        headers.add("Via", sent.get("via") or "")
        headers.add("Max-Forwards", "70")
        headers.add("From", sent.get("from") or "")
        headers.add("To", response.headers.get("to") or sent.get("to") or "")
        headers.add("Call-ID", sent.get("call-id") or "")
        headers.add("CSeq", f"{self.request.cseq.number} ACK")
        for route in sent.get_all("route"):
            headers.add("Route", route)
        return Request("ACK", self.request.uri_text, headers, encoding=response.encoding).serialise()


class NonInviteClientTransaction(ClientTransaction):
    """RFC 3261 section 17.1.2, figure 6."""

    __slots__ = ()

    def start(self, now: float) -> None:
        """Send the request and start timers E (not on reliable transports) and F."""
        self._send()
        if not self.hop.is_reliable:
            self.timers.set(self, "E", now + self.interval)
        self.timers.set(self, "F", now + 64 * T1)

    def _retransmit(self, _message: object, now: float) -> None:
        # "When timer E fires ... the timer is reset, but this time with a value of MIN(2*T1, T2)."
        self._send()
        self.interval = min(2 * self.interval, T2)
        self.timers.set(self, "E", now + self.interval)

    def _retransmit_slowly(self, _message: object, now: float) -> None:
        # "If Timer E fires while in the Proceeding state, the request MUST be passed to the transport layer for
        # retransmission, and Timer E MUST be reset with a value of T2 seconds."
        self._send()
        self.interval = T2
        self.timers.set(self, "E", now + T2)

    def _complete(self, response: Response, now: float) -> None:
        # "Once the client transaction enters the Completed state, it MUST set Timer K to fire in T4 seconds for
        # unreliable transports, and zero seconds for reliable transports."
        self.timers.cancel_all(self)
        self.timers.set(self, "K", now + (0 if self.hop.is_reliable else T4))
        self._pass_up(response, now)


class ServerTransaction(Transaction):
    """What INVITE and non-INVITE servers share: the last response, sent again for every repeated request.

    :ivar merge_key: RFC 3261 section 8.2.2.2, kept here so that the table can forget it; None for requests in dialogs.
    :ivar to_tag: the To tag of the last response above 100.
    """

    __slots__ = ("_request", "merge_key", "response", "to_tag")

    def __init__(
        self,
        request: Request,
        key: Key,
        hop: Hop,
        out: Out,
        timers: Timers,
        forget: Callable[[Transaction], None],
        user: TransactionUser | None = None,
    ) -> None:
        state = PROCEEDING if request.method == "INVITE" else TRYING
        super().__init__(request, key, hop, out, timers, forget, user, state)
        self._request: Request | None = request
        self.response: bytes | None = None
        self.merge_key: Key | None = None
        self.to_tag = ""

    @property
    def request(self) -> Request:
        """The request, as long as it has no final response."""
        if self._request is None:
            raise LocalProtocolError("the request has its final response")
        return self._request

    def respond(self, status: int, data: bytes, now: float) -> None:
        """The TU's response. Behind a final one the transaction lasts for half a minute, and the request is the largest
        part of it."""
        if status >= 200:
            self._request = None
        self.feed(status_class(status), data, now)

    def _send(self, data: bytes, _now: float) -> None:
        self.response = data
        self.out.append((data, self.hop))

    def _send_again(self, _message: object, _now: float) -> None:
        if self.response is not None:
            self.out.append((self.response, self.hop))


class InviteServerTransaction(ServerTransaction):
    """RFC 3261 section 17.2.1, figure 7, and RFC 6026 section 7.1.

    No transport error ends it: a repeated INVITE would be taken for a new call (RFC 6026 section 7.1: "A server
    transaction MUST NOT discard transaction state based only on encountering a non-recoverable transport error when
    sending a response").
    """

    open_states = frozenset((PROCEEDING, COMPLETED))
    __slots__ = ()

    def _accept(self, data: bytes, now: float) -> None:
        # RFC 6026 section 7.1: on a 2xx from the TU "the server transaction MUST transition to the Accepted state"
        # and Timer L is set to 64*T1; in that state repeated INVITEs are absorbed, and the TU repeats its 2xx.
        self.timers.set(self, "L", now + 64 * T1)
        self.response = None
        self.out.append((data, self.hop))

    def _pass_down(self, data: bytes, _now: float) -> None:
        self.out.append((data, self.hop))

    def _refuse(self, data: bytes, now: float) -> None:
        # "For unreliable transports, timer G is set to fire in T1 seconds"; "when the Completed state is entered,
        # timer H MUST be set to fire in 64*T1 seconds for all transports".
        self._send(data, now)
        if not self.hop.is_reliable:
            self.timers.set(self, "G", now + self.interval)
        self.timers.set(self, "H", now + 64 * T1)

    def _retransmit(self, _message: object, now: float) -> None:
        # "If timer G fires, the response is passed to the transport layer once more for retransmission, and timer G
        # is set to fire in MIN(2*T1, T2) seconds."
        self._send_again(None, now)
        self.interval = min(2 * self.interval, T2)
        self.timers.set(self, "G", now + self.interval)

    def _confirm(self, _ack: Request, now: float) -> None:
        # "If an ACK is received while the server transaction is in the Completed state, the server transaction MUST
        # transition to the Confirmed state ... timer I is set to fire in T4 seconds for unreliable transports, and
        # zero seconds for reliable transports."
        self.timers.cancel_all(self)
        self.timers.set(self, "I", now + (0 if self.hop.is_reliable else T4))


class NonInviteServerTransaction(ServerTransaction):
    """RFC 3261 section 17.2.2, figure 8."""

    open_states = frozenset((TRYING, PROCEEDING))
    __slots__ = ()

    def _complete(self, data: bytes, now: float) -> None:
        # "When the server transaction enters the Completed state, it MUST set Timer J to fire in 64*T1 seconds for
        # unreliable transports, and zero seconds for reliable transports."
        self._send(data, now)
        self.timers.set(self, "J", now + (0 if self.hop.is_reliable else 64 * T1))


_IC = InviteClientTransaction
InviteClientTransaction.table = {
    (CALLING, "timer A"): (CALLING, _IC._retransmit),
    (CALLING, "timer B"): (TERMINATED, _IC._timed_out),
    (CALLING, "transport error"): (TERMINATED, _IC._unreachable),
    (CALLING, "1xx"): (PROCEEDING, _IC._proceed),
    (CALLING, "2xx"): (ACCEPTED, _IC._accept),
    (CALLING, "3xx-6xx"): (COMPLETED, _IC._refuse),
    (PROCEEDING, "1xx"): (PROCEEDING, _IC._pass_up),
    (PROCEEDING, "2xx"): (ACCEPTED, _IC._accept),
    (PROCEEDING, "3xx-6xx"): (COMPLETED, _IC._refuse),
    (COMPLETED, "3xx-6xx"): (COMPLETED, _IC._acknowledge_again),
    (COMPLETED, "transport error"): (TERMINATED, _IC._unreachable),
    (COMPLETED, "timer D"): (TERMINATED, None),
    (ACCEPTED, "2xx"): (ACCEPTED, _IC._pass_up),
    (ACCEPTED, "timer M"): (TERMINATED, None),
}

_NC = NonInviteClientTransaction
NonInviteClientTransaction.table = {
    (TRYING, "timer E"): (TRYING, _NC._retransmit),
    (TRYING, "timer F"): (TERMINATED, _NC._timed_out),
    (TRYING, "transport error"): (TERMINATED, _NC._unreachable),
    (TRYING, "1xx"): (PROCEEDING, _NC._pass_up),
    (TRYING, "2xx"): (COMPLETED, _NC._complete),
    (TRYING, "3xx-6xx"): (COMPLETED, _NC._complete),
    (PROCEEDING, "timer E"): (PROCEEDING, _NC._retransmit_slowly),
    (PROCEEDING, "timer F"): (TERMINATED, _NC._timed_out),
    (PROCEEDING, "transport error"): (TERMINATED, _NC._unreachable),
    (PROCEEDING, "1xx"): (PROCEEDING, _NC._pass_up),
    (PROCEEDING, "2xx"): (COMPLETED, _NC._complete),
    (PROCEEDING, "3xx-6xx"): (COMPLETED, _NC._complete),
    (COMPLETED, "timer K"): (TERMINATED, None),
}

_IS = InviteServerTransaction
InviteServerTransaction.table = {
    (PROCEEDING, "INVITE"): (PROCEEDING, _IS._send_again),
    (PROCEEDING, "1xx"): (PROCEEDING, _IS._send),
    (PROCEEDING, "2xx"): (ACCEPTED, _IS._accept),
    (PROCEEDING, "3xx-6xx"): (COMPLETED, _IS._refuse),
    (COMPLETED, "INVITE"): (COMPLETED, _IS._send_again),
    (COMPLETED, "ACK"): (CONFIRMED, _IS._confirm),
    (COMPLETED, "timer G"): (COMPLETED, _IS._retransmit),
    (COMPLETED, "timer H"): (TERMINATED, None),
    (CONFIRMED, "ACK"): (CONFIRMED, None),
    (CONFIRMED, "timer I"): (TERMINATED, None),
    (ACCEPTED, "INVITE"): (ACCEPTED, None),
    (ACCEPTED, "2xx"): (ACCEPTED, _IS._pass_down),
    (ACCEPTED, "timer L"): (TERMINATED, None),
}

_NS = NonInviteServerTransaction
NonInviteServerTransaction.table = {
    (TRYING, "1xx"): (PROCEEDING, _NS._send),
    (TRYING, "2xx"): (COMPLETED, _NS._complete),
    (TRYING, "3xx-6xx"): (COMPLETED, _NS._complete),
    (PROCEEDING, "request"): (PROCEEDING, _NS._send_again),
    (PROCEEDING, "1xx"): (PROCEEDING, _NS._send),
    (PROCEEDING, "2xx"): (COMPLETED, _NS._complete),
    (PROCEEDING, "3xx-6xx"): (COMPLETED, _NS._complete),
    (PROCEEDING, "transport error"): (TERMINATED, None),
    (COMPLETED, "request"): (COMPLETED, _NS._send_again),
    (COMPLETED, "transport error"): (TERMINATED, None),
    (COMPLETED, "timer J"): (TERMINATED, None),
}
