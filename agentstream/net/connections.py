"""Connections that carry SIP (RFC 3261 section 18): accepted, opened, used again, kept in bounds and closed in time.

A connection is known by its :class:`~agentstream.sip.hop.Hop`: who is at its other end, and which listener of ours it
belongs to. Whatever is sent to that hop goes over it while it lives.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint, serverFromString
from twisted.internet.error import ConnectError, ConnectingCancelledError
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure

from agentstream.errors import StartError
from agentstream.net.listen import ListenAddress, endpoint_string
from agentstream.net.stream import SipStream
from agentstream.net.tls import Credentials, why_not_secured
from agentstream.sip.framing import Unframed
from agentstream.sip.hop import Hop

SWEEP_S = 1.0
"""Seconds between two looks at what is too slow, idle or will not close."""
LINGER_S = 2.0
"""Seconds for the last answer to leave before a connection is cut."""
STRANGER_IDLE_S = 10.0
"""Seconds without a message after which a connection from no trunk is closed."""
QUEUE_LIMIT = 65_536
"""Bytes that may wait for a connection that is being opened."""


@attrs.frozen
class ConnectionLimits:
    """How many connections there may be and how long they may do nothing.

    :ivar all: connections at once, opened by either side; a quarter of them may come from no trunk.
    :ivar per_host: those that one address may have opened.
    :ivar idle_s: seconds without a byte after which one that no call needs is closed.
    :ivar connect_s: seconds for one of ours to be established, and for the TLS handshake of any.
    """

    all: int = 500
    per_host: int = 100
    idle_s: float = 300.0
    connect_s: float = 5.0


@attrs.frozen
class StreamOwner:
    """Who is told.

    :ivar received: one whole message and its hop.
    :ivar unframed: what ended a stream, for an answer; the connection is closed behind that answer.
    :ivar failed: what was sent to this hop did not arrive, and these messages were not sent at all.
    :ivar is_known: whether this address belongs to a trunk.
    :ivar is_needed: whether a call or a transaction still needs the connection of this hop.
    :ivar said: a sentence about this host for the log.
    """

    received: Callable[[bytes, Hop], None]
    unframed: Callable[[Unframed, Hop], None]
    failed: Callable[[Hop, Sequence[bytes]], None]
    is_known: Callable[[str], bool]
    is_needed: Callable[[Hop], bool]
    said: Callable[[str, str], None]


@attrs.define
class _Opening:
    """A connection that is being opened, and what waits for it: (bytes, the hop that it was meant for)."""

    attempt: Deferred[Any]
    queue: list[tuple[bytes, Hop]] = attrs.Factory(list)
    size: int = 0


class Connections:
    """Every SIP connection of one node.

    :ivar counters: ``accepted``, ``connected``, ``refused``, ``too slow``, ``idle``, ``unread``, ``not connected``,
        ``not secured``.
    :ivar credentials: the TLS of ``tls`` hops; None where there is none.
    """

    log = Logger()

    def __init__(self, reactor: Any, owner: StreamOwner, limits: ConnectionLimits) -> None:
        self._reactor = reactor
        self.owner = owner
        self.limits = limits
        self.counters: Counter[str] = Counter()
        self.credentials: Credentials | None = None
        self._ports: list[Any] = []
        self._interfaces: dict[str, str] = {}
        self._streams: dict[Hop, SipStream] = {}
        self._up: set[SipStream] = set()
        self._opening: dict[Hop, _Opening] = {}
        self._closing: set[SipStream] = set()
        self._by_host: Counter[str] = Counter()
        self._strangers = 0
        self._sweep_call: IDelayedCall | None = None

    # -- listeners ---------------------------------------------------------------------------------

    def listen(self, name: str, address: ListenAddress) -> Any:
        """Bind; returns the IListeningPort. Raises what Twisted raises when that cannot be done."""
        results: list[Any] = []
        text = endpoint_string(address)
        factory = _Accepting(self, name, address.transport)
        listening = serverFromString(self._reactor, text).listen(factory)
        listening.addBoth(results.append)
        if not results:
            listening.cancel()
            raise StartError(f"the listener {text!r} is not bound at once, which SIP needs")
        if isinstance(results[0], Failure):
            results[0].raiseException()
        self._ports.append(results[0])
        self._interfaces[name] = "" if address.is_everywhere else address.interface
        return results[0]

    def stop(self) -> list[Deferred[Any]]:
        """Close everything now."""
        ports, self._ports = self._ports, []
        closed = [port.stopListening() for port in ports]
        for opening in list(self._opening.values()):
            opening.attempt.cancel()
        for stream in [*self._up, *self._closing]:
            closed.append(stream.gone)
            stream.cut()
        if self._sweep_call is not None:
            self._sweep_call.cancel()
            self._sweep_call = None
        return [one for one in closed if one is not None]

    def __len__(self) -> int:
        return len(self._up)

    # -- sending -----------------------------------------------------------------------------------

    def send(self, data: bytes, hop: Hop) -> None:
        """Over the hop's connection while there is one; else over a new one."""
        stream = self._streams.get(hop)
        if stream is not None:
            stream.send(data)
            return
        # RFC 3261 section 18.2.2 for responses, and the dialog's remote target for requests.
        host, port = hop.fallback or (hop.host, hop.port)
        target = Hop(hop.transport, host, port, hop.local, name=hop.name)
        stream = self._streams.get(target)
        if stream is not None:
            stream.send(data)
            return
        opening = self._opening.get(target) or self._open(target)
        if opening is None:
            self.counters["not connected"] += 1
            self.owner.failed(hop, (data,))
            return
        opening.queue.append((data, hop))
        opening.size += len(data)
        if opening.size > QUEUE_LIMIT:
            # The hop fails as a whole, so nothing of it may be sent later.
            opening.attempt.cancel()
            self._fail(target, opening, "too much waits for a connection")

    def _open(self, target: Hop) -> _Opening | None:
        if len(self._up) + len(self._opening) >= self.limits.all or not 0 < target.port < 65536:
            return None
        try:
            factory = _Connecting(self, target)
        except ValueError:
            return None
        kind = TCP6ClientEndpoint if ":" in target.host else TCP4ClientEndpoint
        interface = self._interfaces.get(target.local, "")
        endpoint = kind(
            self._reactor,
            target.host,
            target.port,
            timeout=self.limits.connect_s,
            # Peers know us by our address: a connection of ours comes from the listener's.
            bindAddress=(interface, 0) if interface else None,
        )
        attempt = endpoint.connect(factory).addCallback(lambda _made: factory.ready)
        opening = self._opening[target] = _Opening(attempt)
        attempt.addCallbacks(
            lambda stream: self._opened(target, stream), lambda failure: self._not_opened(target, failure)
        )
        return opening

    def _opened(self, target: Hop, stream: SipStream) -> None:
        opening = self._opening.pop(target)
        self.counters["connected"] += 1
        for data, _hop in opening.queue:
            stream.send(data)

    def _not_opened(self, target: Hop, failure: Failure) -> None:
        opening = self._opening.pop(target)
        if failure.check(CancelledError, ConnectingCancelledError):
            return  # whoever cancelled it knows
        is_reached = target.transport == "tls" and not failure.check(ConnectError)
        self._fail(target, opening, why_not_secured(failure) if is_reached else failure.getErrorMessage())

    def _fail(self, target: Hop, opening: _Opening, why: str) -> None:
        self.counters["not connected"] += 1
        self.owner.said(target.host, f"no connection to port {target.port}: {why}")
        unsent: dict[Hop, list[bytes]] = {}
        for data, hop in opening.queue:
            unsent.setdefault(hop, []).append(data)
        for hop, messages in unsent.items():
            self.owner.failed(hop, messages)

    # -- what the streams tell ---------------------------------------------------------------------

    def admit(self, host: str) -> bool:
        """Whether one more connection from this address may stay."""
        limits = self.limits
        is_known = self.owner.is_known(host)
        if (
            len(self._up) < limits.all
            and self._by_host[host] < limits.per_host
            and (is_known or self._strangers < limits.all // 4)
        ):
            return True
        self.counters["refused"] += 1
        self.owner.said(host, "a connection was refused: there are too many")
        return False

    def add(self, stream: SipStream) -> None:
        """A connection is there; with TLS, it is not secured yet."""
        self._up.add(stream)
        self._by_host[stream.hop.host] += 1
        self._strangers += stream.is_stranger
        if self._sweep_call is None:
            self._sweep_call = self._reactor.callLater(SWEEP_S, self._sweep)

    def use(self, stream: SipStream) -> None:
        """It can carry messages.

        A peer that connects from the port that it listens on may have two under one hop: both are heard, and what is
        sent goes over the newer one.
        """
        self._streams[stream.hop] = stream

    def not_secured(self, stream: SipStream, reason: Failure) -> None:
        """Whoever connected and we did not agree on TLS."""
        self.counters["not secured"] += 1
        self.owner.said(stream.hop.host, f"a connection ended: {why_not_secured(reason)}")

    def retire(self, stream: SipStream) -> None:
        """It is used no more and will be closed."""
        if stream in self._up:
            self._up.remove(stream)
            if self._streams.get(stream.hop) is stream:
                del self._streams[stream.hop]
            self._closing.add(stream)
            self._strangers -= stream.is_stranger
            host = stream.hop.host
            self._by_host[host] -= 1
            if self._by_host[host] <= 0:
                del self._by_host[host]

    def lost(self, stream: SipStream) -> None:
        """It is closed."""
        self.retire(stream)
        self._closing.discard(stream)
        if not self._up and not self._closing and self._sweep_call is not None:
            self._sweep_call.cancel()
            self._sweep_call = None

    def _sweep(self) -> None:
        self._sweep_call = self._reactor.callLater(SWEEP_S, self._sweep)
        now = self._reactor.seconds()
        for stream in list(self._closing):
            if now - stream.since > LINGER_S:
                stream.cut()
        for stream in list(self._up):
            deadline = stream.framer.deadline
            if not stream.is_ready:
                if now - stream.since > self.limits.connect_s:
                    stream.cut()
            elif deadline is not None and now > deadline:
                self.counters["too slow"] += 1
                self.owner.said(stream.hop.host, "a connection was closed: a message took too long")
                stream.close()
            elif now - stream.since > (STRANGER_IDLE_S if stream.is_stranger else self.limits.idle_s):
                if self.owner.is_needed(stream.hop):
                    stream.since = now
                else:
                    self.counters["idle"] += 1
                    stream.close()


class _Accepting(Factory):
    noisy = False

    def __init__(self, connections: Connections, name: str, transport: str) -> None:
        self._connections = connections
        self._name = name
        self._transport = transport
        self._tls = _tls(connections, connections.credentials, False, self) if transport == "tls" else None

    def buildProtocol(self, addr: Any) -> Any:
        connections = self._connections
        if not connections.admit(addr.host):
            return None
        connections.counters["accepted"] += 1
        hop = Hop(self._transport, addr.host, addr.port, self._name)
        stream = SipStream(connections, hop, is_stranger=not connections.owner.is_known(addr.host))
        return stream if self._tls is None else self._tls.protocol(self._tls, stream)


class _Connecting(Factory):
    """:ivar ready: fires with the stream when it can be used. ValueError for a host that no certificate can be for."""

    noisy = False

    def __init__(self, connections: Connections, hop: Hop) -> None:
        self._connections = connections
        self._hop = hop
        self._stream: SipStream | None = None
        self._tls = None
        if hop.transport == "tls":
            if connections.credentials is None:
                raise ValueError("there is no TLS here")
            self._tls = _tls(connections, connections.credentials.client(hop.name or hop.host), True, self)
        self.ready: Deferred[SipStream] = Deferred(self._cancelled)

    def buildProtocol(self, addr: Any) -> Any:
        self._stream = stream = SipStream(self._connections, self._hop, is_stranger=False, ready=self.ready)
        return stream if self._tls is None else self._tls.protocol(self._tls, stream)

    def _cancelled(self, _ready: Deferred[SipStream]) -> None:
        if self._stream is not None:
            self._stream.give_up()


def _tls(connections: Connections, creator: Any, is_client: bool, factory: Factory) -> Any:
    """What puts TLS around the streams of a factory. Not wrapClientTLS, which runs on the process's reactor."""
    made = TLSMemoryBIOFactory(creator, is_client, factory, connections._reactor)
    made.noisy = False
    return made
