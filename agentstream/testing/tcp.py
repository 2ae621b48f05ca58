"""TCP in memory, on a Clock: ordered bytes, back-pressure, and the ways in which a connection ends.

Between two ends lie what Twisted holds of the writer (unbounded; past ``bufferSize`` a producer is paused), and what
the kernels of both hold (:attr:`TcpPath.capacity`). A reader that does not read fills the second and then the first.
Nothing is ever delivered from within a write: what happens, happens in a later turn of the reactor.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any

import attrs
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.error import (
    ConnectError,
    ConnectionAborted,
    ConnectionDone,
    ConnectionLost,
    ConnectionRefusedError,
    NotConnectingError,
    TimeoutError,
    UserError,
)
from twisted.internet.interfaces import (
    IConnector,
    IConsumer,
    IDelayedCall,
    IListeningPort,
    IPushProducer,
    IReactorTime,
    ITCPTransport,
)
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from agentstream.media.ports import Address

TCPAddress = IPv4Address | IPv6Address

_FIN = object()
_RESET = object()


def tcp_address(host: str, port: int) -> TCPAddress:
    """Twisted's address of this host, which is an IP address."""
    return (IPv6Address if ":" in host else IPv4Address)("TCP", host, port)


@attrs.define
class TcpPath:
    """What happens to the connections to one address.

    :ivar delay_s: seconds that the handshake and each segment take, either way.
    :ivar delays_s: seconds of each segment of a direction in turn, by its number in it; beyond the end, ``delay_s``.
        Order stays: what overtakes waits.
    :ivar capacity: bytes that the kernels of both ends hold, for each direction of a connection.
    :ivar is_black_hole: nothing answers, so that connecting takes as long as whoever connects waits.
    """

    delay_s: float = 0.0
    delays_s: tuple[float, ...] = attrs.field(default=(), converter=tuple)
    capacity: int = 65536
    is_black_hole: bool = False


@implementer(ITCPTransport, IConsumer, IPushProducer)
class Connection:
    """One end of a connection: the transport of one protocol.

    :ivar is_lost: the protocol has been told connectionLost.
    :ivar unread: bytes that have arrived and wait because reading is paused.
    """

    bufferSize = 65536
    log = Logger()

    def __init__(self, clock: IReactorTime, path: TcpPath, here: TCPAddress, there: TCPAddress) -> None:
        self.protocol: Any = None
        self.connector: Connector | None = None
        self.disconnecting = False
        self.connected = True
        self.is_lost = False
        self.unread = bytearray()
        self._clock = clock
        self._path = path
        self._here = here
        self._there = there
        self._other: Connection = self
        self._out = bytearray()
        self._in_kernel = 0
        self._on_the_way: deque[bytes | object] = deque()
        self._segments = 0
        self._last_arrival = 0.0
        self._is_push_due = False
        self._is_delivery_due = False
        self._is_reading = True
        self._has_fin = False
        self._producer: Any = None
        self._is_streaming = False
        self._is_producer_paused = False
        self._no_delay = self._keep_alive = False

    def join(self, other: Connection) -> None:
        """Make these two the ends of one connection."""
        self._other, other._other = other, self

    # ITransport and ITCPTransport

    def write(self, data: bytes) -> None:
        if self.is_lost or not data:
            return
        self._out += data
        if self._is_streaming and not self._is_producer_paused and len(self._out) > self.bufferSize:
            self._is_producer_paused = True
            self._producer.pauseProducing()
        self._push_soon()

    def writeSequence(self, data: Iterable[bytes]) -> None:
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        """Close when everything is written; nothing more is read."""
        if not self.is_lost and not self.disconnecting:
            self.disconnecting = True
            self._is_reading = False
            self._push_soon()

    def loseWriteConnection(self) -> None:
        """Half-closing is closing here."""
        self.loseConnection()

    def abortConnection(self) -> None:
        """Close now; what is not written is lost, and the other end hears of a reset."""
        if not self.is_lost and self.connected:
            self.connected = False
            self.disconnecting = True
            self._out.clear()
            self._travel(_RESET)
            self._clock.callLater(0, self._lose, ConnectionAborted())

    def getTcpNoDelay(self) -> bool:
        return self._no_delay

    def setTcpNoDelay(self, enabled: bool) -> None:
        self._no_delay = enabled

    def getTcpKeepAlive(self) -> bool:
        return self._keep_alive

    def setTcpKeepAlive(self, enabled: bool) -> None:
        self._keep_alive = enabled

    def getHost(self) -> TCPAddress:
        return self._here

    def getPeer(self) -> TCPAddress:
        return self._there

    # IConsumer

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        if self._producer is not None:
            raise RuntimeError("a producer is registered already")
        if self.is_lost:
            producer.stopProducing()
            return
        self._producer, self._is_streaming, self._is_producer_paused = producer, streaming, False
        if not streaming:
            producer.resumeProducing()

    def unregisterProducer(self) -> None:
        self._producer = None
        self._is_streaming = self._is_producer_paused = False
        if self.disconnecting:
            self._push_soon()

    # IPushProducer: reading

    def pauseProducing(self) -> None:
        self._is_reading = False

    def resumeProducing(self) -> None:
        if not self.disconnecting:
            self._is_reading = True
            self._deliver_soon()

    def stopProducing(self) -> None:
        self.loseConnection()

    # From the one end to the other

    def _push_soon(self) -> None:
        if not self._is_push_due:
            self._is_push_due = True
            self._clock.callLater(0, self._push)

    def _push(self) -> None:
        """Hand the kernel what it takes."""
        self._is_push_due = False
        if self.is_lost or not self.connected:
            return
        room = self._path.capacity - self._in_kernel
        if self._out and room > 0:
            data = bytes(self._out[:room])
            del self._out[:room]
            self._in_kernel += len(data)
            self._travel(data)
        if self._out:
            return
        if self._producer is not None and (self._is_producer_paused or not self._is_streaming):
            self._is_producer_paused = False
            self._producer.resumeProducing()
        elif self.disconnecting:
            self._travel(_FIN)
            self._lose(ConnectionDone())

    def _travel(self, segment: bytes | object) -> None:
        path, now = self._path, self._clock.seconds()
        delay = path.delays_s[self._segments] if self._segments < len(path.delays_s) else path.delay_s
        self._segments += 1
        self._last_arrival = max(self._last_arrival, now + delay)
        self._on_the_way.append(segment)
        self._clock.callLater(self._last_arrival - now, self._arrive)

    def _arrive(self) -> None:
        # Whatever floats make of the times, the next to arrive is the next that was sent.
        segment, other = self._on_the_way.popleft(), self._other
        if segment is _RESET:
            other._lose(ConnectionLost())
        elif other.is_lost:
            if segment is not _FIN:
                self._lose(ConnectionLost())  # nobody is there any more, which a reset tells
        elif segment is _FIN:
            other._has_fin = True
            other._deliver()
        elif isinstance(segment, bytes):
            other.unread += segment
            other._deliver()

    def _deliver_soon(self) -> None:
        if not self._is_delivery_due:
            self._is_delivery_due = True
            self._clock.callLater(0, self._deliver_now)

    def _deliver_now(self) -> None:
        self._is_delivery_due = False
        self._deliver()

    def _deliver(self) -> None:
        """Give the protocol one read's worth, and what is left in a later turn."""
        if self.is_lost or self._is_delivery_due:
            return
        if self.disconnecting:
            self._read(len(self.unread))
            return
        if self.unread and self._is_reading:
            data = self._read(self.bufferSize)
            try:
                self.protocol.dataReceived(data)
            except Exception:
                self.log.failure("a protocol failed at what it received")
                self.abortConnection()
                return
        if self._is_reading and (self.unread or self._has_fin):
            if self.unread:
                self._deliver_soon()
            else:
                self._lose(ConnectionDone())

    def _read(self, most: int) -> bytes:
        data = bytes(self.unread[:most])
        del self.unread[:most]
        writer = self._other
        writer._in_kernel -= len(data)
        if writer._out:
            writer._push_soon()
        return data

    def _lose(self, reason: Exception) -> None:
        if self.is_lost:
            return
        self.is_lost, self.connected = True, False
        self._out.clear()
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.stopProducing()
        failure = Failure(reason)
        self.protocol.connectionLost(failure)
        if self.connector is not None:
            self.connector.lost(failure)


@implementer(IConnector)
class Connector:
    """One attempt to connect, and the connection that came of it.

    :param source: the address and port that it comes from; "" is the destination's own address, and 0 a free port.
    """

    def __init__(
        self, net: TcpNet, destination: Address, factory: Any, timeout_s: float, source: Address = ("", 0)
    ) -> None:
        self._net = net
        self._source = source
        self._destination = destination
        self._factory = factory
        self._timeout_s = timeout_s
        self._calls: list[IDelayedCall] = []
        self._connection: Connection | None = None
        self.state = "disconnected"

    def connect(self) -> None:
        if self.state != "disconnected":
            raise RuntimeError("it connects already, or is connected")
        clock, path = self._net.clock, self._net.path(self._destination)
        self.state = "connecting"
        self._factory.doStart()
        self._calls = [clock.callLater(self._timeout_s, self._fail, TimeoutError())]
        if not path.is_black_hole:
            self._calls.append(clock.callLater(2 * path.delay_s, self._answered))
        self._factory.startedConnecting(self)

    def stopConnecting(self) -> None:
        if self.state != "connecting":
            raise NotConnectingError("it does not connect")
        self._fail(UserError())

    def disconnect(self) -> None:
        if self.state == "connecting":
            self.stopConnecting()
        elif self._connection is not None:
            self._connection.loseConnection()

    def getDestination(self) -> TCPAddress:
        return tcp_address(*self._destination)

    def _answered(self) -> None:
        listener = self._net.listeners.get(self._destination)
        if listener is None:
            self._fail(ConnectionRefusedError())
            return
        self._cancel()
        self.state = "connected"
        clock, path, there = self._net.clock, self._net.path(self._destination), self.getDestination()
        here = tcp_address(self._source[0] or there.host, self._source[1] or self._net.free_port())
        ours, theirs = Connection(clock, path, here, there), Connection(clock, path, there, here)
        ours.join(theirs)
        ours.connector = self
        self._connection = ours
        self._net.connections += [ours, theirs]
        theirs.protocol = listener.factory.buildProtocol(here)
        ours.protocol = self._factory.buildProtocol(there)
        for end in (theirs, ours):
            if end.protocol is None:
                end.protocol = _Nobody()
                end.abortConnection()
            end.protocol.makeConnection(end)

    def _fail(self, reason: ConnectError | UserError) -> None:
        self._cancel()
        self.state = "disconnected"
        self._factory.clientConnectionFailed(self, Failure(reason))
        if self.state == "disconnected":
            self._factory.doStop()

    def lost(self, reason: Failure) -> None:
        """The connection is over."""
        self.state = "disconnected"
        self._factory.clientConnectionLost(self, reason)
        if self.state == "disconnected":
            self._factory.doStop()

    def _cancel(self) -> None:
        for call in self._calls:
            if call.active():
                call.cancel()
        self._calls.clear()


class _Nobody:
    """Stands where a factory made no protocol."""

    def makeConnection(self, transport: Any) -> None: ...
    def dataReceived(self, data: bytes) -> None: ...
    def connectionLost(self, reason: Failure) -> None: ...


@implementer(IListeningPort)
@attrs.define(eq=False)
class TcpListener:
    """A factory that listens."""

    net: TcpNet
    address: Address
    factory: Any

    def startListening(self) -> None:
        self.factory.doStart()
        self.net.listeners[self.address] = self

    def stopListening(self) -> None:
        if self.net.listeners.pop(self.address, None) is not None:
            self.factory.doStop()

    def getHost(self) -> TCPAddress:
        return tcp_address(*self.address)


@attrs.define(eq=False)
class TcpNet:
    """Who listens, and every connection there was.

    :ivar connections: both ends of each, in the order in which they were made.
    """

    clock: IReactorTime
    listeners: dict[Address, TcpListener] = attrs.field(factory=dict)
    connections: list[Connection] = attrs.field(factory=list)
    _paths: dict[Address, TcpPath] = attrs.field(factory=dict)
    _next_port: int = 49152

    def path(self, destination: Address) -> TcpPath:
        """The path to a listener's address; made at first use, to be changed by the test."""
        return self._paths.setdefault(destination, TcpPath())

    def free_port(self) -> int:
        """A port that nobody has had."""
        self._next_port += 1
        return self._next_port

    @property
    def open_connections(self) -> list[Connection]:
        """The ends that have not been told that they are lost."""
        return [end for end in self.connections if not end.is_lost]
