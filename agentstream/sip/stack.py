"""The SIP stack: one mutation, then drain both queues and re-arm one timer.

Whoever owns a :class:`Stack` calls one of its methods with the monotonic time, sends what is in ``out``, handles what
is in ``events``, and calls ``handle_timer`` when ``next_timer`` says. It needs no network, no clock and no chance of
its own: tokens come from a callable.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import attrs

from agentstream.errors import LocalProtocolError
from agentstream.sip.capabilities import ALLOW
from agentstream.sip.core import Core
from agentstream.sip.digest import DigestClient
from agentstream.sip.framing import Unframed
from agentstream.sip.grammar import is_ip_address
from agentstream.sip.hop import Hop, Listener
from agentstream.sip.incoming import Incoming
from agentstream.sip.permissions import NOTHING, Permissions
from agentstream.sip.registrar import Registrar, RegistrarSettings
from agentstream.sip.reinvite import MakeOffer
from agentstream.sip.replaces import Replaces, find_replaced
from agentstream.sip.session import Fields, Session, checked
from agentstream.sip.transactions import ClientTransaction, Transaction
from agentstream.sip.uac import MAX_FORWARDS, OutgoingSession, build_invite
from agentstream.sip.uas import IncomingSession
from agentstream.sip.uri import Uri

__all__ = ["Hop", "Listener", "Session", "Stack"]


@attrs.define(kw_only=True, eq=False, repr=False, slots=False)
class Stack(Core):
    """The doors and the commands of one node's SIP; its parameters are those of :class:`agentstream.sip.core.Core`."""

    _incoming: Incoming = attrs.field(default=attrs.Factory(Incoming, takes_self=True), init=False)

    # -- the five doors ----------------------------------------------------------------------------

    def receive(self, data: bytes, source: Hop, now: float) -> None:
        """One datagram. Nothing that it holds makes this raise."""
        self._incoming.receive(data, source, now)

    def receive_unframed(self, failure: Unframed, source: Hop) -> None:
        """A stream ended in something that is no message: it is refused as far as it can be read."""
        self._incoming.receive_unframed(failure, source)

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

    def refused(self, host: str, port: int, now: float) -> None:
        """ICMP says that nobody is reached there by UDP (RFC 3261 section 18.4). Requests outside of a dialog that
        nobody has answered yet hear of it. Nothing else does: anybody can write an ICMP message, and it shall end no
        call."""
        self.counters["icmp"] += 1
        for transaction in list(self.clients.values()):
            hop = transaction.hop
            is_there = hop.transport == "udp" and (hop.host, hop.port) == (host, port)
            if is_there and transaction.is_unheard and not transaction.request.to.tag:
                transaction.feed("transport error", None, now)

    def serve_phones(self, settings: Callable[[], RegistrarSettings]) -> Registrar:
        """Be a registrar from now on, of the phones whose credentials the gate knows."""
        if self.gate is None:
            raise LocalProtocolError("a registrar needs a gate")
        self.gate.is_registrar = True
        self.registrar = Registrar(self, settings)
        self.listeners.is_flow = self.registrar.has_flow
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
        return not (self.servers or self.clients or self.dialogs or self.merged or self.invites or len(self.timers))

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
        max_forwards: int = MAX_FORWARDS,
    ) -> Session:
        """Call as UAC: INVITE ``target`` by way of ``hop``, whose ``local`` names the listener to send from.

        :param sdp: our offer; b"" leaves it to the callee, and :meth:`acknowledge` answers it.
        :param credentials: what 401 and 407 are answered with; without, they are refusals.
        :param others: tried in turn where that one does not answer within 5 s, is not reached, or answers 503; each
            that was followed by another is told as TargetFailed.
        :param permissions: what the callee may ask of the call.
        :param max_forwards: hops that it may take, fewer for a call that goes on from here (RFC 7332).
        """
        if not all(is_ip_address(one.host) for one in (hop, *others)):
            raise LocalProtocolError("the hop's host is not an IP address")
        fields = [("Allow", permissions.allow(ALLOW)), ("User-Agent", self.product), *checked(headers)]
        # A reliable response to an INVITE without an offer would hold the callee's, and its PRACK our answer (RFC 3262
        # section 5); then the offer waits for the 2xx.
        fields.append(("Supported", permissions.supported(self.supported if sdp else "timer")))
        request = build_invite(self.listeners, hop, self.token, target, from_uri, to_uri, fields, sdp, max_forwards)
        session = OutgoingSession(self, request, hop, now, credentials, others)
        session.permissions = permissions
        return session
