"""What all parts of a SIP stack share: the tables of transactions and dialogs, the two queues, and how requests and
responses of ours leave.

Sessions, the registrar and registrations are given a :class:`Core`; RFC 3261 section 6 calls so what lies above the
transactions. What comes in is read by :mod:`agentstream.sip.incoming`; the owner's doors are in
:mod:`agentstream.sip.stack`.
"""

from __future__ import annotations

import zlib
from collections import Counter, deque
from collections.abc import Callable
from typing import TYPE_CHECKING

import attrs

from agentstream.sip.capabilities import ALLOW, OPTIONS_FIELDS, SUPPORTED, answer_label
from agentstream.sip.dialog import Dialog, DialogKey
from agentstream.sip.dialog_request import DialogRequest
from agentstream.sip.events import Event, RequestRefused
from agentstream.sip.gate import Gate
from agentstream.sip.grammar import parse_number
from agentstream.sip.headers import format_warning
from agentstream.sip.hop import Hop
from agentstream.sip.message import Request, build_response
from agentstream.sip.registrar import Registrar
from agentstream.sip.routing import Listeners, NoTcp
from agentstream.sip.session_timer import Intervals
from agentstream.sip.timers import Timers
from agentstream.sip.transactions import (
    ClientTransaction,
    DialogUser,
    InviteClientTransaction,
    Key,
    NonInviteClientTransaction,
    ServerTransaction,
    Transaction,
    TransactionUser,
)

if TYPE_CHECKING:
    from agentstream.sip.session import Fields, Session


def _allow_all(_host: str) -> bool:
    return True


@attrs.define(kw_only=True, eq=False, repr=False, slots=False)
class Core:
    """All transactions, dialogs and sessions of one node.

    :param token: gives a fresh unpredictable word of letters and digits, at least 64 bits of it.
    :param is_allowed: whether this source address may send anything outside a dialog; others get 403 (and 400 for bad
        syntax).
    :param gate: decides that instead, by credentials too, and ignores who is refused too often.
    :param listeners: ours by name, as ``Hop.local`` names them.
    :param product: what Server, User-Agent and Warning name.
    :param ring_limit_s: seconds after which an INVITE without a final answer is given up, in either direction.
    :param intervals: what we want of session timers.
    :param why_full: says why no new call would be taken, or ""; OPTIONS outside a dialog is then answered 503.

    :ivar out: (bytes, hop) to send, oldest first. :ivar events: what happened, oldest first.
    :ivar is_draining: new calls and OPTIONS are answered 503; live calls go on.
    :ivar counters: counts by name, such as ``received INVITE``, ``sent INVITE 200``, ``refused 403``, ``dropped``.
    :ivar servers: every server transaction by its key. :ivar clients: every client transaction likewise.
    :ivar dialogs: the session and the dialog that a request with these tags belongs to.
    :ivar merged: the transactions of requests that began something, by what tells another way of the same request.
    :ivar invites: the session of each INVITE without a final answer.
    """

    token: Callable[[], str]
    is_allowed: Callable[[str], bool] = attrs.field(default=_allow_all)
    gate: Gate | None = None
    listeners: Listeners = attrs.field(factory=Listeners, converter=Listeners)
    product: str = "agentstream"
    ring_limit_s: float = 180.0
    intervals: Intervals = attrs.field(factory=Intervals)
    why_full: Callable[[], str] = attrs.field(default=str)

    is_draining: bool = attrs.field(default=False, init=False)
    supported: str = attrs.field(default=SUPPORTED, init=False)
    capabilities: tuple[tuple[str, str], ...] = attrs.field(init=False)
    registrar: Registrar | None = attrs.field(default=None, init=False)
    out: deque[tuple[bytes, Hop]] = attrs.field(factory=deque, init=False)
    events: deque[Event] = attrs.field(factory=deque, init=False)
    counters: Counter[str] = attrs.field(factory=Counter, init=False)
    timers: Timers = attrs.field(factory=Timers, init=False)
    servers: dict[Key, ServerTransaction] = attrs.field(factory=dict, init=False)
    clients: dict[Key, ClientTransaction] = attrs.field(factory=dict, init=False)
    dialogs: dict[DialogKey, tuple[Session, Dialog]] = attrs.field(factory=dict, init=False)
    merged: dict[Key, ServerTransaction] = attrs.field(factory=dict, init=False)
    invites: dict[ServerTransaction, Session] = attrs.field(factory=dict, init=False)
    no_tcp: NoTcp = attrs.field(factory=NoTcp, init=False)

    def __attrs_post_init__(self) -> None:
        self.capabilities = (("Allow", ALLOW), ("Server", self.product))

    # -- responses of ours -------------------------------------------------------------------------

    def respond(
        self,
        transaction: ServerTransaction,
        status: int,
        now: float,
        *,
        to_tag: str = "",
        headers: Fields = (),
        body: bytes = b"",
    ) -> bytes:
        """Send a response in its transaction and return its bytes; every one but 100 gets a To tag."""
        request = transaction.request
        if status > 100:
            transaction.to_tag = to_tag = to_tag or request.to.tag or self.token()
        data = build_response(request, status, to_tag=to_tag, headers=headers, body=body)
        self.counters[f"sent {answer_label(transaction.method, status)}"] += 1
        transaction.respond(status, data, now)
        if status >= 200:
            self.invites.pop(transaction, None)
        return data

    def refuse(
        self, transaction: ServerTransaction, status: int, sentence: str, now: float, source: Hop, headers: Fields = ()
    ) -> None:
        """A refusal that the stack decides, said to the peer in a Warning and to the owner in an event."""
        fields = [*headers, ("Warning", self.warning(status, sentence))]
        self.respond(transaction, status, now, headers=fields)
        self.counters[f"refused {status}"] += 1
        self.events.append(RequestRefused(source, transaction.method, status, sentence))

    def answer_options(self, transaction: ServerTransaction, now: float) -> None:
        """RFC 3261 section 11.2: what an INVITE would get, and what we can."""
        self.respond(transaction, 200, now, headers=[*self.capabilities, *OPTIONS_FIELDS])

    def warning(self, status: int, sentence: str) -> str:
        """A Warning value; 305 is "incompatible media format", 399 any other (RFC 3261 section 20.43)."""
        return format_warning(sentence, self.product, 305 if status in (488, 606) else 399)

    def retry_soon(self) -> tuple[str, str]:
        """Retry-After with a random value of 0 to 10 seconds."""
        return ("Retry-After", str(zlib.crc32(self.token().encode()) % 11))

    def forget_server(self, transaction: Transaction) -> None:
        """A server transaction is over."""
        assert isinstance(transaction, ServerTransaction)
        if self.servers.get(transaction.key) is transaction:
            del self.servers[transaction.key]
        if transaction.merge_key is not None and self.merged.get(transaction.merge_key) is transaction:
            del self.merged[transaction.merge_key]
        self.invites.pop(transaction, None)

    # -- requests of ours --------------------------------------------------------------------------

    def start_client(self, request: Request, hop: Hop, now: float, user: TransactionUser | None) -> ClientTransaction:
        """Send a request in a new client transaction; its branch is in its Via."""
        machine = InviteClientTransaction if request.method == "INVITE" else NonInviteClientTransaction
        key: Key = (request.via.branch, request.method)
        larger = self.listeners.for_size(request, hop) if not self.no_tcp.is_known(hop, now) else None
        sent, way = larger or (request, hop)
        transaction = machine(sent, key, way, self.out, self.timers, self._forget_client, user)
        if larger is not None:
            transaction.otherwise = (request, hop)
        self.clients[key] = transaction
        self.counters[f"sent {request.method}"] += 1
        transaction.start(now)
        return transaction

    def send_in_dialog(
        self,
        dialog: Dialog,
        method: str,
        now: float,
        user: DialogUser | None,
        headers: Fields = (),
        body: bytes = b"",
    ) -> ClientTransaction:
        """A request inside a dialog, in a transaction of its own; in another one when it is asked for credentials."""
        fields = [*headers, ("User-Agent", self.product)]
        return DialogRequest(self, dialog, method, user, fields, body).send(now)

    def send_ack(self, dialog: Dialog, cseq: int, sdp: bytes = b"", credentials: Fields = ()) -> tuple[bytes, Hop]:
        """The ACK for a 2xx: outside any transaction (RFC 3261 section 13.2.2.4); what was sent, to repeat it.

        :param credentials: the INVITE's: "The ACK MUST contain the same credentials as the INVITE."
        """
        hop = self.listeners.next_hop(dialog)
        fields = [*credentials, *([("Content-Type", "application/sdp")] if sdp else [])]
        via = self.listeners.via(hop, self.token())
        sent = (dialog.build_request("ACK", via, cseq=cseq, headers=fields, body=sdp).serialise(), hop)
        self.out.append(sent)
        return sent

    def ring_limit_of(self, request: Request) -> float:
        """Seconds that this INVITE may wait for its answer: ours, or its Expires where that is shorter."""
        expires = parse_number((request.headers.get("expires") or "").strip(), 2**31)
        return min(float(expires), self.ring_limit_s) if expires else self.ring_limit_s

    def _forget_client(self, transaction: Transaction) -> None:
        if self.clients.get(transaction.key) is transaction:
            del self.clients[transaction.key]

    # -- dialogs -----------------------------------------------------------------------------------

    def remember_dialog(self, dialog: Dialog, session: Session) -> None:
        """Requests with the dialog's tags belong to the session from now on."""
        self.dialogs[dialog.key] = (session, dialog)

    def forget_dialog(self, dialog: Dialog) -> None:
        """Requests with its tags get 481 from now on."""
        self.dialogs.pop(dialog.key, None)

    def dialog_of(self, request: Request) -> Dialog | None:
        """The dialog that a received request belongs to."""
        found = self.dialogs.get((request.call_id, request.to.tag, request.from_.tag))
        return found[1] if found is not None else None
