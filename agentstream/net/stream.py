"""One connection that carries SIP: bytes in, whole messages up, and its end whichever way it comes."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IHandshakeListener, IPushProducer
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from agentstream.sip.framing import Framer
from agentstream.sip.hop import Hop

if TYPE_CHECKING:
    from agentstream.net.connections import Connections

UNREAD_LIMIT = 262_144
"""Bytes that a peer may leave unread beyond what its transport holds already."""
MESSAGES_A_TURN = 16
"""Messages of one connection that are handled before others have their turn: the tick of all sound is among them."""


@implementer(IPushProducer, IHandshakeListener)
class SipStream(Protocol):
    """One connection.

    :param ready: for a connection that we open: fires when it can be used, errbacks when that comes to nothing.
    :ivar is_ready: it carries messages; one of TLS does so when the handshake is done.
    :ivar hop: what it is known by.
    :ivar since: monotonic seconds of the last message or keepalive, or of the decision to close it.
    :ivar is_stranger: it came from an address of no trunk.
    :ivar gone: fires when it is closed.
    """

    def __init__(
        self, connections: Connections, hop: Hop, *, is_stranger: bool, ready: Deferred[SipStream] | None = None
    ) -> None:
        self._connections = connections
        self.hop = hop
        self.is_stranger = is_stranger
        self.framer = Framer()
        self.since = connections._reactor.seconds()
        self.gone: Deferred[None] = Deferred()
        self.is_ready = False
        self._ready = ready
        self._is_open = False
        self._is_paused = False
        self._unread = 0
        self._waiting: deque[bytes] = deque()
        self._turn: IDelayedCall | None = None

    def connectionMade(self) -> None:
        self._is_open = True
        transport: Any = self.transport
        transport.setTcpNoDelay(True)
        transport.setTcpKeepAlive(True)
        transport.registerProducer(self, True)
        self._connections.add(self)
        if self.hop.transport != "tls":
            self.handshakeCompleted()

    def handshakeCompleted(self) -> None:
        """IHandshakeListener: TLS is agreed on, and the peer is who it shall be."""
        if not self._is_open:
            return
        self.is_ready = True
        self.since = self._connections._reactor.seconds()
        self._connections.use(self)
        ready, self._ready = self._ready, None
        if ready is not None:
            ready.callback(self)

    def dataReceived(self, data: bytes) -> None:
        framer, connections = self.framer, self._connections
        if not self._is_open:
            return
        now = connections._reactor.seconds()
        framer.receive(data, now)
        for _ in range(framer.pings):
            self.send(b"\r\n")
            self.since = now
        framer.pings = 0
        self._waiting.extend(framer.messages)
        framer.messages.clear()
        if self._turn is None:
            self._handle()

    def _handle(self) -> None:
        """Some of the messages that are here; while more wait, nothing is read."""
        connections, transport = self._connections, self.transport
        was_waiting, self._turn = self._turn is not None, None
        for _ in range(min(MESSAGES_A_TURN, len(self._waiting))):
            self.since = connections._reactor.seconds()
            connections.owner.received(self._waiting.popleft(), self.hop)
            if not self._is_open:
                return
        if self._waiting:
            if not was_waiting:
                transport.pauseProducing()  # type: ignore[union-attr]
            self._turn = connections._reactor.callLater(0, self._handle)
            return
        if was_waiting:
            transport.resumeProducing()  # type: ignore[union-attr]
        if self.framer.failure is not None:
            connections.owner.unframed(self.framer.failure, self.hop)
            self.close(is_half=True)

    def _stop_handling(self) -> None:
        self._waiting.clear()
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None

    def send(self, data: bytes) -> None:
        """Write; one who does not read what it is sent loses its connection."""
        if not self._is_open:
            return
        if self._is_paused:
            self._unread += len(data)
            if self._unread > UNREAD_LIMIT:
                self._connections.counters["unread"] += 1
                self._connections.owner.said(self.hop.host, "a connection was cut: the peer reads nothing")
                self.cut()
                return
        assert self.transport is not None
        self.transport.write(data)

    def close(self, *, is_half: bool = False) -> None:
        """Close when what was written has left, but soon.

        :param is_half: leave the closing to the peer for LINGER_S: with bytes of its own under way, a whole close would
            become a reset that overtakes our last answer.
        """
        if self._is_open:
            self._is_open = False
            self._stop_handling()
            self.since = self._connections._reactor.seconds()
            self._connections.retire(self)
            transport: Any = self.transport
            transport.unregisterProducer()
            if is_half and self.hop.transport != "tls":  # where closing has an order of its own
                transport.loseWriteConnection()
            else:
                transport.loseConnection()

    def give_up(self) -> None:
        """Nobody waits for it any more."""
        self._ready = None
        self.is_ready = True  # so that its end says nothing
        self.cut()

    def cut(self) -> None:
        """Close at once."""
        self._is_open = False
        self._stop_handling()
        self._connections.retire(self)
        transport: Any = self.transport
        transport.abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._is_open = False
        self._stop_handling()
        self._connections.lost(self)
        ready, self._ready = self._ready, None
        if ready is not None:
            ready.errback(reason)
        elif not self.is_ready:
            self._connections.not_secured(self, reason)
        if not self.gone.called:
            self.gone.callback(None)

    # IPushProducer: the transport says whether the peer reads.

    def pauseProducing(self) -> None:
        self._is_paused = True

    def resumeProducing(self) -> None:
        self._is_paused = False
        self._unread = 0

    def stopProducing(self) -> None:
        """The connection is lost; connectionLost says so too."""
