"""What comes in from the wire: which transaction, dialog or session a message belongs to, or what refuses it.

:class:`Incoming` reads each message once and gives it on; what has no place yet passes the gate, and begins a session,
a registration, or nothing.
"""

from __future__ import annotations

import zlib

from agentstream.errors import RemoteProtocolError
from agentstream.sip.capabilities import ALLOW, answer_label, inspect, label
from agentstream.sip.core import Core
from agentstream.sip.events import InviteReceived, MessageDropped, RequestRefused, SourceBanned
from agentstream.sip.framing import Unframed
from agentstream.sip.gate import STRANGER, Guest
from agentstream.sip.hop import Hop
from agentstream.sip.message import Request, Response, build_response
from agentstream.sip.parser import MalformedRequest, parse_message
from agentstream.sip.replaces import read_replaces
from agentstream.sip.routing import reply_hop
from agentstream.sip.session import Fields
from agentstream.sip.transactions import (
    InviteServerTransaction,
    Key,
    NonInviteServerTransaction,
    ServerTransaction,
    server_key,
)
from agentstream.sip.uas import IncomingSession

RETRY_AFTER_S = 10
SAID_TO_FRIENDS = frozenset((413, 414, 505, 513))
"""What is wrong with a request beside its syntax: others hear no more than that they may not call."""


class Incoming:
    """The reader of all that arrives for one :class:`agentstream.sip.core.Core`."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._tag_secret = core.token()

    def receive(self, data: bytes, source: Hop, now: float) -> None:
        """One datagram. Nothing that it holds makes this raise."""
        core = self._core
        if core.gate is not None and core.gate.is_banned(source.host, now):
            core.counters["ignored"] += 1
            return
        try:
            message = parse_message(data)
            if isinstance(message, Response):
                self._receive_response(message, now)
            else:
                self._receive_request(message, source, now)
        except MalformedRequest as error:
            error.request.stamp(source)
            core.counters[f"received {label(error.request.method)}"] += 1
            if core.gate is not None and core.gate.is_silent_to(source.host):
                self._ignore(error.sentence, source)
            else:
                self._refuse_without_state(error.request, error.status, error.sentence, source)
        except RemoteProtocolError as error:
            # RFC 5626 section 4.4.1: CRLFs between messages keep a flow alive; they are no mistake.
            if data.strip(b"\r\n\x00"):
                self._drop(error.sentence, source)
            else:
                core.counters["keepalives"] += 1

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
        self._core.counters[f"received {label(message.method)}"] += 1
        self._refuse_without_state(message, failure.status, failure.sentence, source)

    # -- responses ---------------------------------------------------------------------------------

    def _receive_response(self, response: Response, now: float) -> None:
        try:
            cseq = response.cseq
            self._core.counters[f"received {answer_label(cseq.method, response.status)}"] += 1
            # Looked at before anything changes, so that a broken one changes nothing.
            _ = response.to, response.from_, response.call_id
            key: Key = (response.via.branch, cseq.method)
            vias = response.headers.values_of("via")
        except RemoteProtocolError as error:
            raise RemoteProtocolError(error.sentence) from None
        # RFC 3261 section 8.1.3.3: "If more than one Via header field value is present in a response, the UAC SHOULD
        # discard the message."
        transaction = self._core.clients.get(key) if len(vias) == 1 else None
        if transaction is None:
            raise RemoteProtocolError("the response belongs to no transaction")
        transaction.receive(response, now)

    # -- requests ----------------------------------------------------------------------------------

    def _receive_request(self, request: Request, source: Hop, now: float) -> None:
        core = self._core
        method = request.method
        core.counters[f"received {label(method)}"] += 1
        request.stamp(source)
        try:
            request.check()
            key = server_key(request)
        except RemoteProtocolError as error:
            if core.gate is not None and core.gate.is_silent_to(source.host):
                self._ignore(error.sentence, source)
            else:
                self._refuse_without_state(request, error.status, error.sentence, source)
            return
        way_back = reply_hop(request.via, source)
        if source.is_reliable:
            source = way_back
        transaction = core.servers.get(key)
        if method == "ACK":
            self._receive_ack(request, transaction, now)
            return
        if transaction is not None:
            transaction.feed("INVITE" if method == "INVITE" else "request", request, now)
            return
        dialog_key = (request.call_id, request.to.tag, request.from_.tag)
        found = core.dialogs.get(dialog_key) if request.to.tag else None
        invite = core.servers.get((*key[:-1], "INVITE")) if method == "CANCEL" else None
        guest = Guest()
        if found is None and invite is None:
            judged = self._judge(request, source, now)
            if judged is None:
                return
            guest = judged
        machine = InviteServerTransaction if method == "INVITE" else NonInviteServerTransaction
        transaction = machine(request, key, way_back, core.out, core.timers, core.forget_server)
        core.servers[key] = transaction
        if method == "CANCEL":
            self._receive_cancel(transaction, invite, source, now)
            return
        refusal = inspect(request, is_registrar=core.registrar is not None)
        if refusal is not None:
            core.refuse(transaction, refusal[0], refusal[1], now, source, refusal[2])
        elif found is not None and method == "REGISTER":
            # Nobody has asked whose it is: a call's own requests pass no gate.
            sentence = "a registration is no part of a call"
            core.refuse(transaction, 405, sentence, now, source, [("Allow", ALLOW)])
        elif found is not None:
            if isinstance(transaction, InviteServerTransaction):
                core.invites[transaction] = found[0]
            found[0].request_received(transaction, source, now)
        elif method == "REGISTER":
            self._receive_register(transaction, source, guest, now)
        elif request.to.tag or method not in ("INVITE", "OPTIONS"):
            # 12.2.2: a request with a To tag that matches no dialog "MAY be rejected with a 481 (Call/Transaction
            # Does Not Exist)".
            core.refuse(transaction, 481, "there is no such dialog", now, source)
        else:
            self._receive_outside(transaction, source, guest, now)

    def _judge(self, request: Request, source: Hop, now: float) -> Guest | None:
        """Whose request this is, outside any dialog; None for one that has been refused."""
        core = self._core
        if core.gate is None:
            if core.is_allowed(source.host):
                return Guest()
            self._refuse_without_state(request, 403, STRANGER, source)
            return None
        judged = core.gate.judge(request, source, now)
        if isinstance(judged, Guest):
            return judged
        if not judged.status:
            self._ignore(judged.sentence, source)
        else:
            self._refuse_without_state(request, judged.status, judged.sentence, source, judged.headers)
        if judged.ban is not None:
            ban = judged.ban
            core.counters["banned"] += 1
            core.events.append(SourceBanned(ban.source, source.transport, ban.seconds, ban.refused))
        return None

    def _receive_ack(self, request: Request, transaction: ServerTransaction | None, now: float) -> None:
        """ACKs are never answered."""
        if transaction is not None:
            transaction.feed("ACK", request, now)
        found = self._core.dialogs.get((request.call_id, request.to.tag, request.from_.tag))
        if found is not None:
            found[0].ack_received(request, now)

    def _receive_cancel(
        self, transaction: ServerTransaction, invite: ServerTransaction | None, source: Hop, now: float
    ) -> None:
        core = self._core
        if invite is None:
            # 9.2: "If the UAS did not find a matching transaction for the CANCEL ..., it SHOULD respond to the CANCEL
            # with a 481".
            core.refuse(transaction, 481, "there is nothing to cancel", now, source)
            return
        cancel, session = transaction.request, core.invites.get(invite)
        # 9.2: "the To tag of the response to the CANCEL and the To tag in the response to the original request SHOULD
        # be the same."
        tag = session.dialog.local_tag if session is not None and session.dialog is not None else invite.to_tag
        core.respond(transaction, 200, now, to_tag=tag)
        if session is not None and isinstance(invite, InviteServerTransaction):
            session.cancel_received(invite, cancel, now)

    def _receive_register(self, transaction: ServerTransaction, source: Hop, guest: Guest, now: float) -> None:
        core = self._core
        assert core.registrar is not None
        answer = core.registrar.register(transaction.request, guest.user, source, now)
        if answer.status == 200:
            core.respond(transaction, 200, now, headers=answer.headers)
        else:
            core.refuse(transaction, answer.status, answer.sentence, now, source, answer.headers)

    def _receive_outside(self, transaction: ServerTransaction, source: Hop, guest: Guest, now: float) -> None:
        """INVITE or OPTIONS that begins something."""
        core = self._core
        request = transaction.request
        # 8.2.2.2: no To tag, and From tag, Call-ID and CSeq "exactly match those associated with an ongoing
        # transaction, but the request does not match that transaction": it came by two ways; "the UAS core SHOULD
        # generate a 482 (Loop Detected) response".
        merge_key: Key = (request.from_.tag, request.call_id, request.cseq.number, request.method)
        if merge_key in core.merged:
            core.refuse(transaction, 482, "the same request came by another way already", now, source)
            return
        transaction.merge_key = merge_key
        core.merged[merge_key] = transaction
        if core.is_draining:
            retry = [("Retry-After", str(RETRY_AFTER_S))]
            core.refuse(transaction, 503, "the server is being stopped", now, source, retry)
            return
        if not isinstance(transaction, InviteServerTransaction):
            # 11.2: the answer to OPTIONS is the one "that would have been chosen had the request been an INVITE"; a
            # balancer in front learns by it which nodes take calls.
            sentence = core.why_full()
            if sentence:
                core.refuse(transaction, 503, sentence, now, source, [("Retry-After", str(RETRY_AFTER_S))])
            else:
                core.answer_options(transaction, now)
            return
        try:
            session = IncomingSession(core, transaction, source, now)
            too_short = session.timer.refusal_of(request)
            if too_short is not None:
                core.timers.cancel_all(session)
                session.let_go(now)
                core.refuse(transaction, too_short[0], too_short[1], now, source, too_short[2])
                return
        except RemoteProtocolError as error:
            core.refuse(transaction, error.status, error.sentence, now, source)
            return
        assert session.dialog is not None
        # A phone may be behind NAT: its flow is the one way there is.
        session.dialog.is_over_flow = guest.account is not None and guest.account.is_phone
        core.remember_dialog(session.dialog, session)
        core.invites[transaction] = session
        core.respond(transaction, 100, now)
        replaces = read_replaces(request.headers)
        core.events.append(InviteReceived(session, request, source, request.sdp, guest, replaces))

    # -- what goes no further ----------------------------------------------------------------------

    def _refuse_without_state(
        self, request: Request, status: int, sentence: str, source: Hop, challenges: Fields = ()
    ) -> None:
        """RFC 3261 section 8.2.7: an answer that costs no memory, with the same tag each time."""
        core = self._core
        if status in SAID_TO_FRIENDS and not core.is_allowed(source.host):
            status, sentence = 403, STRANGER
        if status == 401:
            # A question, which nobody needs to read about in a log.
            core.counters["challenged"] += 1
        else:
            core.counters[f"refused {status}"] += 1
            core.events.append(RequestRefused(source, request.method, status, sentence))
        if request.method == "ACK":
            return
        try:
            hop = reply_hop(request.via, source)
        except RemoteProtocolError:
            hop = source
        headers = request.headers
        seed = f"{self._tag_secret}{headers.get('via')}{headers.get('call-id')}{headers.get('cseq')}"
        tag = f"{zlib.crc32(seed.encode('utf-8', 'replace')):08x}"
        fields = [*challenges, ("Warning", core.warning(status, sentence))]
        core.counters[f"sent {answer_label(request.method, status)}"] += 1
        core.out.append((build_response(request, status, to_tag=tag, headers=fields), hop))

    def _ignore(self, sentence: str, source: Hop) -> None:
        self._core.counters["ignored"] += 1
        self._core.events.append(MessageDropped(source, sentence))

    def _drop(self, sentence: str, source: Hop) -> None:
        self._core.counters["dropped"] += 1
        self._core.events.append(MessageDropped(source, sentence))
