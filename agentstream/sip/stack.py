"""The SIP stack: one mutation, then drain both queues and re-arm one timer.

Whoever owns a :class:`Stack` calls one of its methods with the monotonic time, sends what is in ``out``, handles what
is in ``events``, and calls ``handle_timer`` when ``next_timer`` says. It needs no network, no clock and no chance of
its own: tokens come from a callable.
"""

from __future__ import annotations

import zlib
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence

from agentstream.errors import LocalProtocolError, RemoteProtocolError
from agentstream.sip.capabilities import ALLOW, OPTIONS_FIELDS, SUPPORTED, answer_label, inspect, label
from agentstream.sip.dialog import Dialog, DialogKey
from agentstream.sip.digest import DigestClient
from agentstream.sip.events import Event, InviteReceived, MessageDropped, RequestRefused, SourceBanned
from agentstream.sip.framing import Unframed
from agentstream.sip.gate import STRANGER, Gate, Guest
from agentstream.sip.grammar import is_ip_address, parse_number
from agentstream.sip.headers import format_warning
from agentstream.sip.hop import Hop, Listener
from agentstream.sip.message import Request, Response, build_response
from agentstream.sip.parser import MalformedRequest, parse_message
from agentstream.sip.permissions import NOTHING, Permissions
from agentstream.sip.registrar import Registrar, RegistrarSettings
from agentstream.sip.reinvite import MakeOffer
from agentstream.sip.replaces import Replaces, find_replaced, read_replaces
from agentstream.sip.routing import Listeners, NoTcp, reply_hop
from agentstream.sip.session import Fields, Session, checked
from agentstream.sip.session_timer import Intervals
from agentstream.sip.timers import Timers
from agentstream.sip.transactions import (
    ClientTransaction,
    InviteClientTransaction,
    InviteServerTransaction,
    Key,
    NonInviteClientTransaction,
    NonInviteServerTransaction,
    ServerTransaction,
    Transaction,
    TransactionUser,
    server_key,
)
from agentstream.sip.uac import OutgoingSession, build_invite
from agentstream.sip.uas import IncomingSession
from agentstream.sip.uri import Uri

__all__ = ["Hop", "Listener", "Session", "Stack"]

RETRY_AFTER_S = 10
SAID_TO_FRIENDS = frozenset((413, 414, 505, 513))
"""What is wrong with a request beside its syntax: others hear no more than that they may not call."""


def _allow_all(_host: str) -> bool:
    return True


class Stack:
    """All transactions, dialogs and sessions of one node.

    :ivar out: (bytes, hop) to send, oldest first. :ivar events: what happened, oldest first.
    :ivar is_draining: new calls and OPTIONS are answered 503; live calls go on.
    :ivar counters: counts by name, such as ``received INVITE``, ``sent INVITE 200``, ``refused 403``, ``dropped``.

    :param token: gives a fresh unpredictable word of letters and digits, at least 64 bits of it.
    :param is_allowed: whether this source address may send anything outside a dialog; others get 403 (and 400 for bad
        syntax).
    :param gate: decides that instead, by credentials too, and ignores who is refused too often.
    :param listeners: ours by name, as ``Hop.local`` names them; :meth:`add_listener` adds.
    :param ring_limit_s: seconds after which an INVITE without a final answer is given up, in either direction.
    :param intervals: what we want of session timers.
    :param why_full: says why no new call would be taken, or ""; OPTIONS outside a dialog is then answered 503.
    """

    def __init__(
        self,
        *,
        token: Callable[[], str],
        is_allowed: Callable[[str], bool] = _allow_all,
        gate: Gate | None = None,
        listeners: dict[str, Listener] | None = None,
        product: str = "agentstream",
        ring_limit_s: float = 180.0,
        intervals: Intervals | None = None,
        why_full: Callable[[], str] = str,
    ) -> None:
        self.token = token
        self.why_full = why_full
        self.is_allowed = is_allowed
        self.gate = gate
        self.registrar: Registrar | None = None
        self.listeners = Listeners(listeners or {})
        self.ring_limit_s = ring_limit_s
        self.intervals = intervals or Intervals()
        self.supported = SUPPORTED
        self.out: deque[tuple[bytes, Hop]] = deque()
        self.events: deque[Event] = deque()
        self.timers = Timers()
        self.servers: dict[Key, ServerTransaction] = {}
        self.clients: dict[Key, ClientTransaction] = {}
        self.dialogs: dict[DialogKey, tuple[Session, Dialog]] = {}
        self.is_draining = False
        self.counters: Counter[str] = Counter()
        self.capabilities: tuple[tuple[str, str], ...] = (("Allow", ALLOW), ("Server", product))
        self._product = product
        self._merged: dict[Key, ServerTransaction] = {}
        self._invites: dict[ServerTransaction, IncomingSession | Session] = {}
        self._tag_secret = token()
        self.no_tcp = NoTcp()

    # -- the five doors ----------------------------------------------------------------------------

    def receive(self, data: bytes, source: Hop, now: float) -> None:
        """One datagram. Nothing that it holds makes this raise."""
        if self.gate is not None and self.gate.is_banned(source.host, now):
            self.counters["ignored"] += 1
            return
        try:
            message = parse_message(data)
            if isinstance(message, Response):
                self._receive_response(message, now)
            else:
                self._receive_request(message, source, now)
        except MalformedRequest as error:
            error.request.stamp(source)
            self.counters[f"received {label(error.request.method)}"] += 1
            if self.gate is not None and self.gate.is_silent_to(source.host):
                self._ignore(error.sentence, source)
            else:
                self._refuse_without_state(error.request, error.status, error.sentence, source)
        except RemoteProtocolError as error:
            # RFC 5626 section 4.4.1: CRLFs between messages keep a flow alive; they are no mistake.
            if data.strip(b"\r\n\x00"):
                self._drop(error.sentence, source)
            else:
                self.counters["keepalives"] += 1

    def receive_unframed(self, failure: Unframed, source: Hop) -> None:
        """A stream ended in something that is no message: it is refused as far as it can be read."""
        try:
            message = parse_message(failure.head)
        except MalformedRequest as error:
            message = error.request
        except RemoteProtocolError:
            self._drop(failure.sentence, source)
            return
        if isinstance(message, Response):
            self._drop(failure.sentence, source)
            return
        message.stamp(source)
        self.counters[f"received {label(message.method)}"] += 1
        self._refuse_without_state(message, failure.status, failure.sentence, source)

    def handle_timer(self, now: float) -> None:
        """Everything whose time has come."""
        self.timers.fire(now)

    def next_timer(self) -> float | None:
        """Monotonic seconds of the next deadline; None when nothing waits."""
        return self.timers.next()

    def send_failed(self, hop: Hop, now: float) -> None:
        """The network refused what was sent there: every transaction on that hop hears of it."""
        waiting: list[Transaction] = [*self.clients.values(), *self.servers.values()]
        for transaction in waiting:
            if transaction.hop == hop:
                if isinstance(transaction, ClientTransaction) and transaction.otherwise is not None:
                    self.no_tcp.remember(transaction.otherwise[1], now)
                transaction.feed("transport error", None, now)
        if self.registrar is not None and hop.is_reliable:
            self.registrar.flow_failed(hop)

    def serve_phones(self, settings: Callable[[], RegistrarSettings]) -> Registrar:
        """Be a registrar from now on, of the phones whose credentials the gate knows."""
        if self.gate is None:
            raise LocalProtocolError("a registrar needs a gate")
        self.gate.is_registrar = True
        self.registrar = Registrar(self, settings)
        allow = f"{ALLOW}, REGISTER"
        self.capabilities = tuple((name, allow if name == "Allow" else value) for name, value in self.capabilities)
        return self.registrar

    def is_needed(self, hop: Hop) -> bool:
        """Whether a dialog, a transaction or a registered phone has its peer there: its connection is not to be
        closed."""
        if self.registrar is not None and self.registrar.has_flow(hop):
            return True
        return any(dialog.source == hop for _session, dialog in self.dialogs.values()) or any(
            transaction.hop == hop for table in (self.clients, self.servers) for transaction in table.values()
        )

    @property
    def is_idle(self) -> bool:
        """No transaction, no dialog, no timer is left."""
        return not (self.servers or self.clients or self.dialogs or self._merged or self._invites or len(self.timers))

    @property
    def is_settled(self) -> bool:
        """No call is up, and no response and no ACK is to come: what is left only takes up repetitions."""
        return not (
            any(session.is_open for session, _dialog in self.dialogs.values())
            or any(transaction.is_open for table in (self.clients, self.servers) for transaction in table.values())
        )

    # -- commands ----------------------------------------------------------------------------------

    def add_listener(self, name: str, listener: Listener) -> None:
        """One more listener of ours; ``Hop.local`` refers to it by name."""
        self.listeners[name] = listener

    def progress(self, session: Session, now: float, status: int = 180, sdp: bytes = b"", headers: Fields = ()) -> None:
        """As UAS: a provisional response, with an answer for early media where ``sdp`` is given."""
        if not isinstance(session, IncomingSession):
            raise LocalProtocolError("only a session that came in can be progressed")
        session.progress(status, sdp, now, headers)

    def answer(self, session: Session, sdp: bytes, now: float, headers: Fields = ()) -> None:
        """200 to the INVITE or re-INVITE that waits, repeated until the ACK."""
        session.answer(sdp, now, headers)

    def acknowledge(self, session: Session, sdp: bytes, now: float) -> None:
        """As UAC whose INVITE held no offer: the ACK, with our answer to the offer of InviteAnswered."""
        if not isinstance(session, OutgoingSession):
            raise LocalProtocolError("only a session that went out can be acknowledged")
        session.acknowledge(sdp, now)

    def reject(self, session: Session, status: int, now: float, warning: str = "", headers: Fields = ()) -> None:
        """A refusal (300 to 699) of the INVITE or re-INVITE that waits, with the sentence as Warning."""
        session.reject(status, now, warning, headers)

    def reinvite(self, session: Session, make_offer: MakeOffer, now: float) -> None:
        """Offer a change of a session that is up. ``make_offer`` gives the SDP when the INVITE is sent: now, when the
        peer's own re-INVITE is over, and again each time that it was answered 491 (RFC 3261 section 14.1). Ends with
        one ReinviteAnswered or ReinviteRefused, unless the session ends."""
        session.reinvite(make_offer, now)

    def update(self, session: Session, make_offer: MakeOffer, now: float) -> None:
        """The same by UPDATE (RFC 3311), also before the answer. Ends with one UpdateAnswered or UpdateRefused, unless
        the session ends."""
        session.update(make_offer, now)

    def answer_update(self, session: Session, sdp: bytes, now: float) -> None:
        """200 to the peer's UPDATE, with our answer."""
        session.updates.answer(sdp, now)

    def reject_update(self, session: Session, status: int, now: float, warning: str = "") -> None:
        """A refusal of the peer's UPDATE; the session goes on as it was."""
        session.updates.reject(status, warning or str(status), now)

    def send_digit(self, session: Session, digit: str, duration_ms: int, now: float) -> None:
        """One digit by INFO; ends with one InfoAnswered, unless the session ends."""
        session.send_digit(digit, duration_ms, now)

    def refer(self, session: Session, target: Uri, referred_by: str, within_s: float, now: float) -> None:
        """Send the peer of a session that is up to ``target`` (RFC 3515). Ends with one ReferEnded, after ``within_s``
        at the latest, unless the session ends."""
        session.refer(target, referred_by, within_s, now)

    def tell_referrer(self, session: Session, status: int, phrase: str, now: float) -> None:
        """What comes of ReferReceived: the statuses of the call that follows it, by NOTIFY. Behind a 2xx the session
        ends soon, from either side; behind another final one it goes on as it was."""
        session.subscription.tell(status, phrase, now)

    def replaced(self, replaces: Replaces) -> Session:
        """The session that an INVITE wants to take the place of; RemoteProtocolError with the status to refuse it with
        where there is none (RFC 3891 section 3)."""
        return find_replaced(self.dialogs, replaces)

    def hang_up(self, session: Session, now: float, reason: str = "", headers: Fields = ()) -> None:
        """BYE, CANCEL or a final refusal, whichever the state needs, with the reason in a Reason header (RFC 3326)."""
        session.hang_up(now, reason, headers)

    def invite(
        self,
        target: Uri,
        *,
        from_uri: Uri,
        to_uri: Uri,
        sdp: bytes,
        hop: Hop,
        now: float,
        headers: Iterable[tuple[str, str]] = (),
        credentials: DigestClient | None = None,
        others: Sequence[Hop] = (),
        permissions: Permissions = NOTHING,
    ) -> Session:
        """Call as UAC: INVITE ``target`` by way of ``hop``, whose ``local`` names the listener to send from.

        :param sdp: our offer; b"" leaves it to the callee, and :meth:`acknowledge` answers it.
        :param credentials: what 401 and 407 are answered with; without, they are refusals.
        :param others: tried in turn where that one does not answer within 5 s, is not reached, or answers 503; each
            that was followed by another is told as TargetFailed.
        :param permissions: what the callee may ask of the call.
        """
        if not all(is_ip_address(one.host) for one in (hop, *others)):
            raise LocalProtocolError("the hop's host is not an IP address")
        fields = [("Allow", permissions.allow(ALLOW)), ("User-Agent", self._product), *checked(headers)]
        # A reliable response to an INVITE without an offer would hold the callee's, and its PRACK our answer (RFC 3262
        # section 5); then the offer waits for the 2xx.
        fields.append(("Supported", permissions.supported(self.supported if sdp else "timer")))
        request = build_invite(self.listeners, hop, self.token, target, from_uri, to_uri, fields, sdp)
        session = OutgoingSession(self, request, hop, now, credentials, others)
        session.permissions = permissions
        return session

    # -- what sessions need ------------------------------------------------------------------------

    def retry_soon(self) -> tuple[str, str]:
        """Retry-After with a random value of 0 to 10 seconds."""
        return ("Retry-After", str(zlib.crc32(self.token().encode()) % 11))

    def warning(self, status: int, sentence: str) -> str:
        """A Warning value; 305 is "incompatible media format", 399 any other (RFC 3261 section 20.43)."""
        return format_warning(sentence, self._product, 305 if status in (488, 606) else 399)

    def ring_limit_of(self, request: Request) -> float:
        """Seconds that this INVITE may wait for its answer: ours, or its Expires where that is shorter."""
        expires = parse_number((request.headers.get("expires") or "").strip(), 2**31)
        return min(float(expires), self.ring_limit_s) if expires else self.ring_limit_s

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
            self._invites.pop(transaction, None)
        return data

    def refuse(
        self, transaction: ServerTransaction, status: int, sentence: str, now: float, source: Hop, headers: Fields = ()
    ) -> None:
        """A refusal that the stack decides, said to the peer in a Warning and to the owner in an event."""
        fields = [*headers, ("Warning", self.warning(status, sentence))]
        self.respond(transaction, status, now, headers=fields)
        self.counters[f"refused {status}"] += 1
        self.events.append(RequestRefused(source, transaction.method, status, sentence))

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
        user: TransactionUser | None,
        headers: Fields = (),
        body: bytes = b"",
    ) -> ClientTransaction:
        """A request inside a dialog, in a transaction of its own."""
        hop = self.listeners.next_hop(dialog)
        fields = [*headers, ("User-Agent", self._product)]
        request = dialog.build_request(method, self.listeners.via(hop, self.token()), headers=fields, body=body)
        return self.start_client(request, hop, now, user)

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

    def answer_options(self, transaction: ServerTransaction, now: float) -> None:
        """RFC 3261 section 11.2: what an INVITE would get, and what we can."""
        self.respond(transaction, 200, now, headers=[*self.capabilities, *OPTIONS_FIELDS])

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

    # -- responses ---------------------------------------------------------------------------------

    def _receive_response(self, response: Response, now: float) -> None:
        try:
            cseq = response.cseq
            self.counters[f"received {answer_label(cseq.method, response.status)}"] += 1
            # Looked at before anything changes, so that a broken one changes nothing.
            _ = response.to, response.from_, response.call_id
            key: Key = (response.via.branch, cseq.method)
            vias = response.headers.values_of("via")
        except RemoteProtocolError as error:
            raise RemoteProtocolError(error.sentence) from None
        # RFC 3261 section 8.1.3.3: "If more than one Via header field value is present in a response, the UAC SHOULD
        # discard the message."
        transaction = self.clients.get(key) if len(vias) == 1 else None
        if transaction is None:
            raise RemoteProtocolError("the response belongs to no transaction")
        transaction.receive(response, now)

    # -- requests ----------------------------------------------------------------------------------

    def _receive_request(self, request: Request, source: Hop, now: float) -> None:
        method = request.method
        self.counters[f"received {label(method)}"] += 1
        request.stamp(source)
        try:
            request.check()
            key = server_key(request)
        except RemoteProtocolError as error:
            if self.gate is not None and self.gate.is_silent_to(source.host):
                self._ignore(error.sentence, source)
            else:
                self._refuse_without_state(request, error.status, error.sentence, source)
            return
        way_back = reply_hop(request.via, source)
        if source.is_reliable:
            source = way_back
        transaction = self.servers.get(key)
        if method == "ACK":
            self._receive_ack(request, transaction, now)
            return
        if transaction is not None:
            transaction.feed("INVITE" if method == "INVITE" else "request", request, now)
            return
        dialog_key = (request.call_id, request.to.tag, request.from_.tag)
        found = self.dialogs.get(dialog_key) if request.to.tag else None
        invite = self.servers.get((*key[:-1], "INVITE")) if method == "CANCEL" else None
        guest = Guest()
        if found is None and invite is None:
            judged = self._judge(request, source, now)
            if judged is None:
                return
            guest = judged
        machine = InviteServerTransaction if method == "INVITE" else NonInviteServerTransaction
        transaction = machine(request, key, way_back, self.out, self.timers, self._forget_server)
        self.servers[key] = transaction
        if method == "CANCEL":
            self._receive_cancel(transaction, invite, source, now)
            return
        refusal = inspect(request, is_registrar=self.registrar is not None)
        if refusal is not None:
            self.refuse(transaction, refusal[0], refusal[1], now, source, refusal[2])
        elif found is not None:
            if isinstance(transaction, InviteServerTransaction):
                self._invites[transaction] = found[0]
            found[0].request_received(transaction, source, now)
        elif method == "REGISTER":
            self._receive_register(transaction, source, guest, now)
        elif request.to.tag or method not in ("INVITE", "OPTIONS"):
            # 12.2.2: a request with a To tag that matches no dialog "MAY be rejected with a 481 (Call/Transaction
            # Does Not Exist)".
            self.refuse(transaction, 481, "there is no such dialog", now, source)
        else:
            self._receive_outside(transaction, source, guest, now)

    def _judge(self, request: Request, source: Hop, now: float) -> Guest | None:
        """Whose request this is, outside any dialog; None for one that has been refused."""
        if self.gate is None:
            if self.is_allowed(source.host):
                return Guest()
            self._refuse_without_state(request, 403, STRANGER, source)
            return None
        judged = self.gate.judge(request, source, now)
        if isinstance(judged, Guest):
            return judged
        if not judged.status:
            self._ignore(judged.sentence, source)
        else:
            self._refuse_without_state(request, judged.status, judged.sentence, source, judged.headers)
        if judged.ban is not None:
            ban = judged.ban
            self.counters["banned"] += 1
            self.events.append(SourceBanned(ban.source, source.transport, ban.seconds, ban.refused))
        return None

    def _receive_ack(self, request: Request, transaction: ServerTransaction | None, now: float) -> None:
        """ACKs are never answered."""
        if transaction is not None:
            transaction.feed("ACK", request, now)
        found = self.dialogs.get((request.call_id, request.to.tag, request.from_.tag))
        if found is not None:
            found[0].ack_received(request, now)

    def _receive_cancel(
        self, transaction: ServerTransaction, invite: ServerTransaction | None, source: Hop, now: float
    ) -> None:
        if invite is None:
            # 9.2: "If the UAS did not find a matching transaction for the CANCEL ..., it SHOULD respond to the CANCEL
            # with a 481".
            self.refuse(transaction, 481, "there is nothing to cancel", now, source)
            return
        cancel, session = transaction.request, self._invites.get(invite)
        # 9.2: "the To tag of the response to the CANCEL and the To tag in the response to the original request SHOULD
        # be the same."
        tag = session.dialog.local_tag if session is not None and session.dialog is not None else invite.to_tag
        self.respond(transaction, 200, now, to_tag=tag)
        if session is not None and isinstance(invite, InviteServerTransaction):
            session.cancel_received(invite, cancel, now)

    def _receive_register(self, transaction: ServerTransaction, source: Hop, guest: Guest, now: float) -> None:
        assert self.registrar is not None
        answer = self.registrar.register(transaction.request, guest.user, source, now)
        if answer.status == 200:
            self.respond(transaction, 200, now, headers=answer.headers)
        else:
            self.refuse(transaction, answer.status, answer.sentence, now, source, answer.headers)

    def _receive_outside(self, transaction: ServerTransaction, source: Hop, guest: Guest, now: float) -> None:
        """INVITE or OPTIONS that begins something."""
        request = transaction.request
        # 8.2.2.2: no To tag, and From tag, Call-ID and CSeq "exactly match those associated with an ongoing
        # transaction, but the request does not match that transaction": it came by two ways; "the UAS core SHOULD
        # generate a 482 (Loop Detected) response".
        merge_key: Key = (request.from_.tag, request.call_id, request.cseq.number, request.method)
        if merge_key in self._merged:
            self.refuse(transaction, 482, "the same request came by another way already", now, source)
            return
        transaction.merge_key = merge_key
        self._merged[merge_key] = transaction
        if self.is_draining:
            retry = [("Retry-After", str(RETRY_AFTER_S))]
            self.refuse(transaction, 503, "the server is being stopped", now, source, retry)
            return
        if not isinstance(transaction, InviteServerTransaction):
            # 11.2: the answer to OPTIONS is the one "that would have been chosen had the request been an INVITE"; a
            # balancer in front learns by it which nodes take calls.
            sentence = self.why_full()
            if sentence:
                self.refuse(transaction, 503, sentence, now, source, [("Retry-After", str(RETRY_AFTER_S))])
            else:
                self.answer_options(transaction, now)
            return
        try:
            session = IncomingSession(self, transaction, source, now)
            too_short = session.timer.refusal_of(request)
            if too_short is not None:
                self.timers.cancel_all(session)
                session.let_go(now)
                self.refuse(transaction, too_short[0], too_short[1], now, source, too_short[2])
                return
        except RemoteProtocolError as error:
            self.refuse(transaction, error.status, error.sentence, now, source)
            return
        assert session.dialog is not None
        self.remember_dialog(session.dialog, session)
        self._invites[transaction] = session
        self.respond(transaction, 100, now)
        replaces = read_replaces(request.headers)
        self.events.append(InviteReceived(session, request, source, request.sdp, guest, replaces))

    # -- the rest ----------------------------------------------------------------------------------

    def _refuse_without_state(
        self, request: Request, status: int, sentence: str, source: Hop, challenges: Fields = ()
    ) -> None:
        """RFC 3261 section 8.2.7: an answer that costs no memory, with the same tag each time."""
        if status in SAID_TO_FRIENDS and not self.is_allowed(source.host):
            status, sentence = 403, STRANGER
        if status == 401:
            # A question, which nobody needs to read about in a log.
            self.counters["challenged"] += 1
        else:
            self.counters[f"refused {status}"] += 1
            self.events.append(RequestRefused(source, request.method, status, sentence))
        if request.method == "ACK":
            return
        try:
            hop = reply_hop(request.via, source)
        except RemoteProtocolError:
            hop = source
        headers = request.headers
        seed = f"{self._tag_secret}{headers.get('via')}{headers.get('call-id')}{headers.get('cseq')}"
        tag = f"{zlib.crc32(seed.encode('utf-8', 'replace')):08x}"
        fields = [*challenges, ("Warning", self.warning(status, sentence))]
        self.counters[f"sent {answer_label(request.method, status)}"] += 1
        self.out.append((build_response(request, status, to_tag=tag, headers=fields), hop))

    def _ignore(self, sentence: str, source: Hop) -> None:
        self.counters["ignored"] += 1
        self.events.append(MessageDropped(source, sentence))

    def _drop(self, sentence: str, source: Hop) -> None:
        self.counters["dropped"] += 1
        self.events.append(MessageDropped(source, sentence))

    def _forget_client(self, transaction: Transaction) -> None:
        if self.clients.get(transaction.key) is transaction:
            del self.clients[transaction.key]

    def _forget_server(self, transaction: Transaction) -> None:
        assert isinstance(transaction, ServerTransaction)
        if self.servers.get(transaction.key) is transaction:
            del self.servers[transaction.key]
        if transaction.merge_key is not None and self._merged.get(transaction.merge_key) is transaction:
            del self._merged[transaction.merge_key]
        self._invites.pop(transaction, None)
