"""SipEdge: one SIP stack on Twisted UDP ports and TCP connections, with one DelayedCall for its timers.

One mutation, then both queues are drained and the timer is re-armed: :meth:`SipEdge._settle`.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import Any

from twisted.internet.abstract import isIPv6Address
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred, succeed
from twisted.internet.error import AlreadyCalled, AlreadyCancelled, CannotListenError, MessageLengthError
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import DatagramProtocol
from twisted.logger import Logger

from agentstream.errors import LocalProtocolError, StartError
from agentstream.net.connections import ConnectionLimits, Connections, StreamOwner
from agentstream.net.listen import ListenAddress, parse_listen
from agentstream.net.outbound import Outbound
from agentstream.net.sent_by import SentBy
from agentstream.net.tls import Credentials, TlsFiles
from agentstream.net.trace import SipTrace
from agentstream.net.udp import listen_udp
from agentstream.sip.digest import DigestClient
from agentstream.sip.events import (
    Event,
    InviteAnswered,
    InviteProgressed,
    InviteRefused,
    MessageDropped,
    RequestRefused,
    SourceBanned,
    TargetFailed,
)
from agentstream.sip.framing import Unframed
from agentstream.sip.gate import Gate
from agentstream.sip.grammar import plain_host
from agentstream.sip.hop import Hop, Listener
from agentstream.sip.pings import TrunkPings
from agentstream.sip.registration import Registration
from agentstream.sip.reinvite import MakeOffer
from agentstream.sip.session import Session
from agentstream.sip.session_timer import Intervals
from agentstream.sip.stack import Stack
from agentstream.sip.uri import Uri

Fields = Iterable[tuple[str, str]]

_LOG_EVERY_S = 60.0
_LOG_SOURCES = 1000


def new_token() -> str:
    """80 bits of the system's randomness as letters and digits: tags, branches, Call-IDs."""
    return secrets.token_hex(10)


class SipEdge:
    """The SIP sockets of one node.

    :param reactor: IReactorUDP and IReactorTime; its ``seconds`` is monotonic.
    :param listen: strings such as ``udp:5060:interface=127.0.0.1`` and ``tls:5061:interface=127.0.0.1``.
    :param advertise: the address in Via and Contact of the listeners of its family that say none themselves; "" takes
        each listener's own.
    :param advertise_v6: the same for the other family.
    :param limits: how many connections there may be, and for how long.
    :param tls: the certificate of ``tls:`` listeners, and whom connections of ours over TLS believe.
    :param on_event: called with every event of the stack but RequestRefused and MessageDropped, in order. An
        exception in it is logged and loses no other event. It may call the edge's commands; their events come after
        the present one.
    :param is_allowed: whether an address may send anything outside a dialog, where there is no gate.
    :param gate: decides that, and whose credentials are good.
    :param trace: is given every message that comes or leaves.
    :param on_refusal: called with RequestRefused and MessageDropped, beside the log line that a source gets once a
        minute.
    :param why_full: says why no new call would be taken, or "": OPTIONS is then answered 503.
    :ivar outbound: calls to where a URI leads.
    :ivar stack: the stack, to look at. :ivar connections: the connections, to look at.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        listen: Sequence[str],
        *,
        on_event: Callable[[Event], object],
        advertise: str = "",
        advertise_v6: str = "",
        limits: ConnectionLimits | None = None,
        tls: TlsFiles | None = None,
        is_allowed: Callable[[str], bool] | None = None,
        gate: Gate | None = None,
        trace: SipTrace | None = None,
        on_refusal: Callable[[RequestRefused | MessageDropped], object] | None = None,
        token: Callable[[], str] = new_token,
        product: str = "agentstream",
        ring_limit_s: float = 180.0,
        why_full: Callable[[], str] = str,
        intervals: Intervals | None = None,
    ) -> None:
        self._reactor = reactor
        self._listen = list(listen)
        self._advertise = {":" in host: host for host in (advertise_v6, advertise) if host}
        self._tls = tls or TlsFiles()
        self._on_event = on_event
        self._on_refusal = on_refusal
        self._trace = trace
        self._ports: dict[str, Any] = {}
        self._call: IDelayedCall | None = None
        self._is_settling = False
        self._is_bound = False
        self._said: OrderedDict[str, float] = OrderedDict()
        self._unsettled: list[Deferred[None]] = []

        def is_known(host: str) -> bool:
            if gate is not None:
                return gate.is_known(plain_host(host))
            return is_allowed is None or is_allowed(plain_host(host))

        owner = StreamOwner(
            received=self._message_received,
            unframed=self._stream_ended,
            failed=self._sending_failed,
            is_known=is_known,
            is_needed=lambda hop: self.stack.is_needed(hop),
            said=lambda host, sentence: self._say(host, "{source}: {sentence}", sentence=sentence),
        )
        self.outbound = Outbound(reactor, self)
        self._sent_by = SentBy(self.outbound.hops, self._send, is_known)
        self.connections = Connections(reactor, owner, limits or ConnectionLimits())
        self.stack = Stack(
            token=token,
            is_allowed=is_known,
            gate=gate,
            product=product,
            ring_limit_s=ring_limit_s,
            why_full=why_full,
            intervals=intervals or Intervals(),
        )

    # -- start and stop ----------------------------------------------------------------------------

    def start(self) -> None:
        """Bind every listener; raises StartError with one sentence, and then none is bound."""
        addresses = [parse_listen(text) for text in self._listen]
        for index, address in enumerate(addresses):
            if address.is_everywhere and not self._advertised(address):
                setting = "sip.advertise_v6" if address.is_v6 and self._advertise else "sip.advertise"
                raise StartError(
                    f"{self._listen[index]!r} binds every address: set {setting} to the one that peers can reach"
                )
        if any(address.transport == "tls" for address in addresses) and not (self._tls.certificate and self._tls.key):
            raise StartError("a listener for TLS needs a certificate: set tls.certificate and tls.key")
        self.connections.credentials = Credentials(self._tls, self._complain)
        try:
            for index, address in enumerate(addresses):
                self._bind(f"{address.transport}{index}", address)
        except CannotListenError as error:
            self._close()
            raise StartError(
                f"{address.transport.upper()} port {error.port} on {error.interface or 'all addresses'} cannot be "
                f"bound ({error.socketError}): stop what uses it, or change sip.listen"
            ) from None

    def _bind(self, name: str, address: ListenAddress) -> None:
        if address.transport == "udp":
            protocol = _Datagrams(self, name)
            port = listen_udp(self._reactor, address.port, protocol, address.interface, self._refused)
            self._ports[name] = port
        else:
            port = self.connections.listen(name, address)
        host = self._advertised(address) or address.interface
        self.stack.add_listener(name, Listener(address.transport, host, port.getHost().port, address.is_v6))
        self._is_bound = True

    def _complain(self, sentence: str) -> None:
        self.log.error("{sentence}", sentence=sentence)

    def _advertised(self, address: ListenAddress) -> str:
        return address.advertise or self._advertise.get(address.is_v6, "")

    def refresh_tls(self) -> None:
        """Read certificates again that have changed, as each new connection does."""
        credentials = self.connections.credentials
        if credentials is not None and credentials.refresh() and credentials.identity is not None:
            end = credentials.identity.chain[0].not_valid_after_utc
            self.log.info("the files of [tls] were read again; our certificate is valid until {end}", end=end)

    @property
    def listeners(self) -> list[Listener]:
        """What is bound, as others see it, in the order of the listen strings; with the port that the system chose."""
        return list(self.stack.listeners.values())

    @property
    def is_draining(self) -> bool:
        """New calls and OPTIONS are answered 503; live calls go on."""
        return self.stack.is_draining

    @is_draining.setter
    def is_draining(self, is_draining: bool) -> None:
        self.stack.is_draining = is_draining

    def settled(self) -> Deferred[None]:
        """Fires when no call is up and no response or ACK is to come any more."""
        if self.stack.is_settled:
            return succeed(None)
        waiting: Deferred[None] = Deferred(self._unsettled.remove)
        self._unsettled.append(waiting)
        return waiting

    def stop(self) -> Deferred[None]:
        """Close the sockets now and forget every timer; hang up before where peers shall hear of it. Fires when all
        are closed."""
        if self._call is not None:
            self._call.cancel()
            self._call = None
        return gatherResults(self._close(), consumeErrors=True).addCallback(lambda _closed: None)

    def _close(self) -> list[Deferred[Any]]:
        ports, self._ports = self._ports, {}
        self._is_bound = False
        self.stack.listeners.clear()
        self.outbound.locator.stop()
        return [*(maybeDeferred(port.stopListening) for port in ports.values()), *self.connections.stop()]

    def is_in_use(self, host: str) -> bool:
        """A dialog that is up has its peer at this address, or a phone is registered from there."""
        if self.stack.registrar is not None and self.stack.registrar.has_host(host):
            return True
        return any(plain_host(dialog.source.host) == host for _session, dialog in self.stack.dialogs.values())

    # -- commands: those of the stack, without the clock -------------------------------------------

    def invite(
        self,
        target: Uri,
        *,
        from_uri: Uri,
        to_uri: Uri,
        sdp: bytes,
        host: str,
        port: int = 5060,
        transport: str = "udp",
        name: str = "",
        headers: Fields = (),
        credentials: DigestClient | None = None,
    ) -> Session:
        """Call ``target`` by way of host (an IP address) and port, from the first listener of its family and
        transport.

        :param name: with ``tls``, whom the certificate must be for; "" is the host.
        """
        return self.invite_by(
            [self.hop_to(host, port, transport, name)],
            target,
            from_uri=from_uri,
            to_uri=to_uri,
            sdp=sdp,
            headers=headers,
            credentials=credentials,
        )

    def invite_by(
        self, hops: Sequence[Hop], target: Uri, began: Callable[[Session], object] | None = None, **more: Any
    ) -> Session:
        """See :meth:`agentstream.sip.stack.Stack.invite`: the first hop, and the others in turn where it fails.

        :param began: is given the session before any event of it is told, and before the INVITE is sent.
        """
        hop, *others = hops
        session = self.stack.invite(target, hop=hop, others=others, now=self._reactor.seconds(), **more)
        if began is not None:
            began(session)
        self._settle()
        return session

    def hop_to(self, host: str, port: int, transport: str, name: str = "") -> Hop:
        """The way to an IP address, from the first listener of its family and transport."""
        local = self.stack.listeners.find(transport, is_v6=isIPv6Address(host))
        if local is None:
            raise LocalProtocolError("no SIP listener of the target's IP family and transport is bound")
        return Hop(transport, host, port, local, name=name)

    def find_hops(self, uris: Iterable[Uri], then: Callable[[Sequence[Hop], float], None]) -> None:
        """The ways to where these URIs lead, in this order; ``then`` is told of them and of the time. That is at once,
        within a command or a timer, where nothing has to be looked up."""
        is_late = False

        def tell(found: list[list[Hop]]) -> None:
            then(list(dict.fromkeys(chain.from_iterable(found))), self._reactor.seconds())
            if is_late:
                self._settle()

        looked_up = gatherResults([self.outbound.hops(uri) for uri in uris]).addCallback(tell)
        looked_up.addErrback(lambda failure: self.log.failure("a name could not be looked up", failure))
        is_late = True

    def register(self, registration: Registration | TrunkPings) -> None:
        """Begin it; see :mod:`agentstream.sip.registration` and :mod:`agentstream.sip.pings`."""
        registration.start(self._reactor.seconds())
        self._settle()

    def stack_time(self) -> float:
        """Monotonic seconds, now."""
        return float(self._reactor.seconds())

    def unregister(self, registration: Registration | TrunkPings) -> None:
        """End it; :meth:`settled` fires when the registrar has heard of it."""
        registration.stop(self._reactor.seconds())
        self._settle()

    def progress(self, session: Session, status: int = 180, sdp: bytes = b"", headers: Fields = ()) -> None:
        """See :meth:`agentstream.sip.stack.Stack.progress`."""
        self.stack.progress(session, self._reactor.seconds(), status, sdp, headers)
        self._settle()

    def answer(self, session: Session, sdp: bytes, headers: Fields = ()) -> None:
        """See :meth:`agentstream.sip.stack.Stack.answer`."""
        self.stack.answer(session, sdp, self._reactor.seconds(), headers)
        self._settle()

    def acknowledge(self, session: Session, sdp: bytes) -> None:
        """See :meth:`agentstream.sip.stack.Stack.acknowledge`."""
        self.stack.acknowledge(session, sdp, self._reactor.seconds())
        self._settle()

    def reject(self, session: Session, status: int, warning: str = "", headers: Fields = ()) -> None:
        """See :meth:`agentstream.sip.stack.Stack.reject`."""
        self.stack.reject(session, status, self._reactor.seconds(), warning, headers)
        self._settle()

    def hang_up(self, session: Session, reason: str = "", headers: Fields = ()) -> None:
        """See :meth:`agentstream.sip.stack.Stack.hang_up`."""
        self.stack.hang_up(session, self._reactor.seconds(), reason, headers)
        self._settle()

    def reinvite(self, session: Session, make_offer: MakeOffer) -> None:
        """See :meth:`agentstream.sip.stack.Stack.reinvite`."""
        self.stack.reinvite(session, make_offer, self._reactor.seconds())
        self._settle()

    def answer_update(self, session: Session, sdp: bytes) -> None:
        """See :meth:`agentstream.sip.stack.Stack.answer_update`."""
        self.stack.answer_update(session, sdp, self._reactor.seconds())
        self._settle()

    def reject_update(self, session: Session, status: int, warning: str = "") -> None:
        """See :meth:`agentstream.sip.stack.Stack.reject_update`."""
        self.stack.reject_update(session, status, self._reactor.seconds(), warning)
        self._settle()

    def send_digit(self, session: Session, digit: str, duration_ms: int) -> None:
        """See :meth:`agentstream.sip.stack.Stack.send_digit`."""
        self.stack.send_digit(session, digit, duration_ms, self._reactor.seconds())
        self._settle()

    def tell_referrer(self, session: Session, status: int, phrase: str = "") -> None:
        """See :meth:`agentstream.sip.stack.Stack.tell_referrer`."""
        self.stack.tell_referrer(session, status, phrase, self._reactor.seconds())
        self._settle()

    def refer(self, session: Session, target: Uri, referred_by: str, within_s: float) -> None:
        """See :meth:`agentstream.sip.stack.Stack.refer`."""
        self.stack.refer(session, target, referred_by, within_s, self._reactor.seconds())
        self._settle()

    # -- the contract ------------------------------------------------------------------------------

    def datagram_received(self, data: bytes, host: str, port: int, local: str) -> None:
        """One datagram from the listener of that name."""
        self._message_received(data, Hop("udp", host, port, local))

    def _message_received(self, data: bytes, hop: Hop) -> None:
        if self._trace is not None:
            self._trace.received(data, hop)
        try:
            self.stack.receive(data, hop, self._reactor.seconds())
        except Exception:
            self.log.failure("a SIP message from {host} could not be handled", host=hop.host)
        self._settle()

    def _stream_ended(self, failure: Unframed, hop: Hop) -> None:
        try:
            self.stack.receive_unframed(failure, hop)
        except Exception:
            self.log.failure("what {host} sent could not be refused", host=hop.host)
        self._settle()

    def _sending_failed(self, hop: Hop, unsent: Sequence[bytes] = ()) -> None:
        self.stack.counters["send failed"] += 1
        self._sent_by.lost(hop, unsent)
        self.stack.send_failed(hop, self._reactor.seconds())
        self._settle()

    def _refused(self, host: str, port: int) -> None:
        """ICMP says that nobody is there."""
        self.stack.refused(plain_host(host), port, self._reactor.seconds())
        self._settle()

    def _timer_fired(self) -> None:
        self._call = None
        try:
            self.stack.handle_timer(self._reactor.seconds())
        except Exception:
            self.log.failure("a SIP timer could not be handled")
        self._settle()

    def _settle(self) -> None:
        """Send what is to be sent, tell what happened, arm the timer. A command from inside an event only adds to the
        queues."""
        if self._is_settling:
            return
        self._is_settling = True
        stack = self.stack
        try:
            while stack.out or stack.events:
                # What answers goes out first: a slow consumer of events delays no response.
                while stack.out:
                    self._send(*stack.out.popleft())
                if stack.events:
                    self._tell(stack.events.popleft())
        finally:
            self._is_settling = False
        self._arm()
        if self._unsettled and stack.is_settled:
            waiting, self._unsettled = self._unsettled, []
            for one in waiting:
                one.callback(None)

    def _send(self, data: bytes, hop: Hop) -> None:
        if self._trace is not None:
            self._trace.sent(data, hop)
        if hop.transport != "udp":
            if self._is_bound:
                self.connections.send(data, hop)
            return
        port = self._ports.get(hop.local)
        if port is None:
            return
        try:
            port.write(data, (hop.host, hop.port))
        except (OSError, ValueError, OverflowError, MessageLengthError) as error:
            # No route, port 0, a broadcast address: what a peer may have written into its Contact.
            self.stack.counters["send failed"] += 1
            self._say(hop.host, "sending to {source} failed: {sentence}", sentence=str(error))
            self.stack.send_failed(hop, self._reactor.seconds())

    def _tell(self, event: Event) -> None:
        try:
            if isinstance(event, TargetFailed):
                self.outbound.failed(event)
                return
            if isinstance(event, InviteProgressed | InviteAnswered | InviteRefused):
                self.outbound.heard(event)
            if isinstance(event, SourceBanned):
                # etc/fail2ban/filter.d/agentstream.conf matches this line. Nothing in it is of the source's choosing.
                self.log.warn(
                    "source {source} is ignored for {seconds} s after {refused} refused requests over {transport}",
                    source=event.source,
                    seconds=round(event.seconds),
                    refused=event.refused,
                    transport=event.transport.upper(),
                )
            elif isinstance(event, RequestRefused | MessageDropped):
                if isinstance(event, RequestRefused):
                    self._say(
                        event.source.host,
                        "{method} from {source} was refused with {status}: {sentence}",
                        method=event.method[:32],
                        status=event.status,
                        sentence=event.sentence,
                    )
                else:
                    self._say(
                        event.source.host, "a message from {source} was dropped: {sentence}", sentence=event.sentence
                    )
                if self._on_refusal is not None:
                    self._on_refusal(event)
            else:
                self._on_event(event)
        except Exception:
            self.log.failure("{event} could not be handled", event=type(event).__name__)

    def _say(self, source: str, text: str, **fields: object) -> None:
        """Log what others do wrong once a source and minute; sources are forged easily, so their number is bounded."""
        now = self._reactor.seconds()
        last = self._said.get(source)
        if last is not None and now - last < _LOG_EVERY_S:
            return
        self._said[source] = now
        self._said.move_to_end(source)
        if len(self._said) > _LOG_SOURCES:
            self._said.popitem(last=False)
        self.log.info(text, source=source, **fields)

    def _arm(self) -> None:
        deadline = self.stack.next_timer()
        call = self._call
        if deadline is None or not self._is_bound:
            if call is not None:
                call.cancel()
                self._call = None
            return
        delay = max(0.0, deadline - self._reactor.seconds())
        if call is None:
            self._call = self._reactor.callLater(delay, self._timer_fired)
            return
        # One that fires too early only finds nothing to do; so it is moved only forward.
        if call.getTime() > deadline:
            try:
                call.reset(delay)
            except (AlreadyCalled, AlreadyCancelled):
                self._call = self._reactor.callLater(delay, self._timer_fired)


class _Datagrams(DatagramProtocol):
    """One UDP port's way into the edge."""

    def __init__(self, edge: SipEdge, name: str) -> None:
        self._edge = edge
        self._name = name

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        self._edge.datagram_received(datagram, addr[0], addr[1], self._name)
