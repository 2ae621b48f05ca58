"""A reactor in memory: time from a Clock, datagrams over a Network, TCP between protocols of the same process.

Nothing happens but by ``advance``. Datagrams and bytes are delivered in a turn of their own, never from within a write,
as with a real reactor. Loss and delay of datagrams are lists in :meth:`MemoryReactor.network`'s paths, those of TCP in
:meth:`MemoryReactor.tcp`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.base import DelayedCall
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import CannotListenError, MessageLengthError
from twisted.internet.interfaces import (
    IHostnameResolver,
    IHostResolution,
    IListeningPort,
    IReactorFromThreads,
    IReactorPluggableNameResolver,
    IReactorTCP,
    IReactorUDP,
    IResolutionReceiver,
    IUDPTransport,
)
from twisted.internet.protocol import DatagramProtocol
from twisted.internet.task import Clock
from twisted.logger import Logger
from zope.interface import implementer

from agentstream.media.ports import Address
from agentstream.testing.network import Network
from agentstream.testing.tcp import Connector, TcpListener, TcpNet, tcp_address

LOOPBACK = "127.0.0.1"
LONGEST_DATAGRAM = 65507
HAIR_S = 1e-9
"""As with a real reactor, no call comes early, not even by a rounding error: a LoopingCall would then skip a turn."""

MOST_TURNS = 100_000
"""Calls in one step of time; more of them are a loop that does not end."""


@implementer(IListeningPort, IUDPTransport)
class UdpPort:
    """One bound datagram port."""

    log = Logger()

    def __init__(self, reactor: MemoryReactor, address: Address, protocol: DatagramProtocol, most_bytes: int) -> None:
        self._reactor = reactor
        self._address = address
        self._protocol = protocol
        self._most_bytes = most_bytes
        self._is_bound = False

    def startListening(self) -> None:
        try:
            self._reactor.network.bind(self._address, self._arrived)
        except OSError as error:
            raise CannotListenError(*self._address, error) from None
        self._is_bound = True
        self._protocol.makeConnection(self)

    def stopListening(self) -> Deferred[None]:
        if self._is_bound:
            self._is_bound = False
            self._reactor.network.unbind(self._address)
            self._protocol.doStop()
        return succeed(None)

    def loseConnection(self) -> None:
        self.stopListening()

    def getHost(self) -> IPv4Address | IPv6Address:
        host, port = self._address
        return (IPv6Address if ":" in host else IPv4Address)("UDP", host, port)

    def write(self, packet: bytes, addr: Address | None = None) -> None:
        """One datagram; sent from a closed port, it goes nowhere."""
        if addr is None:
            raise ValueError("an address to write to is needed: connected ports do not exist here")
        if len(packet) > LONGEST_DATAGRAM:
            raise MessageLengthError("the message is too long")
        if not 0 < addr[1] < 65536:
            raise OSError(22, "Invalid argument")
        if self._is_bound:
            self._reactor.network.send(bytes(packet), self._address, (addr[0], addr[1]))

    def connect(self, host: str, port: int) -> None:
        raise ValueError("connected ports do not exist here")

    def setBroadcastAllowed(self, enabled: bool) -> None:
        """There is nothing to broadcast to."""

    def getBroadcastAllowed(self) -> bool:
        return False

    def _arrived(self, data: bytes, source: Address) -> None:
        self._reactor.callLater(0, self._deliver, data[: self._most_bytes], source)

    def _deliver(self, data: bytes, source: Address) -> None:
        if self._is_bound:
            try:
                self._protocol.datagramReceived(data, source)
            except Exception:
                self.log.failure("a protocol failed at the datagram that it received")


@implementer(IHostnameResolver)
class _Names:
    def __init__(self, reactor: MemoryReactor) -> None:
        self._reactor = reactor

    def resolveHostName(
        self,
        resolutionReceiver: IResolutionReceiver,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Sequence[Any] | None = None,
        transportSemantics: str = "TCP",
    ) -> Any:
        resolution = _Resolution(hostName)
        resolutionReceiver.resolutionBegan(resolution)
        host = self._reactor.hosts.get(hostName)
        if host is not None:
            resolutionReceiver.addressResolved(tcp_address(host, portNumber))
        resolutionReceiver.resolutionComplete()
        return resolution


@implementer(IHostResolution)
class _Resolution:
    def __init__(self, name: str) -> None:
        self.name = name

    def cancel(self) -> None:
        """It is over by the time that anybody could."""


@implementer(IReactorTCP, IReactorUDP, IReactorFromThreads, IReactorPluggableNameResolver)
class MemoryReactor(Clock):
    """A reactor on which whole servers run in a test.

    An ``interface`` that is not given is 127.0.0.1 here.

    :ivar network: the datagrams: who is bound, and the paths between them.
    :ivar tcp: who listens, the connections, and the paths to the listeners.
    :ivar hosts: the IP address of each host name that there is.
    """

    running = True

    def __init__(self) -> None:
        super().__init__()
        self.network = Network(self)
        self.tcp = TcpNet(self)
        self.hosts: dict[str, str] = {"localhost": LOOPBACK}
        self.nameResolver = _Names(self)
        self._triggers: dict[str, list[Callable[[], object]]] = {}
        self._next_port = 32768

    # Time

    def run_until(self, when: float) -> None:
        """Let time pass from event to event, so that each sees the time for which it was due, a hair late."""
        while (due := self._next_due()) is not None and due < when:
            self.advance(max(0.0, min(due + HAIR_S, when) - self.seconds()))
        self.advance(max(0.0, when - self.seconds()))

    def advance(self, amount: float) -> None:
        """Let time pass in one step, as when the process was held up; what is due in between finds that it is late.

        AssertionError after MOST_TURNS calls: then something does not come to rest.
        """
        self.rightNow += amount
        for _ in range(MOST_TURNS):
            due = self._next_due()
            if due is None or due > self.rightNow:
                return
            call: Any = self.calls.pop(0)
            call.called = 1
            call.func(*call.args, **call.kw)
        raise AssertionError("the reactor does not come to rest: something calls itself again and again")

    def _next_due(self) -> float | None:
        # A call that was reset has not found its new place by itself.
        self.calls.sort(key=DelayedCall.getTime)
        return self.calls[0].getTime() if self.calls else None

    # Datagrams and TCP

    def listenUDP(
        self, port: int, protocol: DatagramProtocol, interface: str = "", maxPacketSize: int = 8192
    ) -> UdpPort:
        """Bind a datagram port; port 0 takes a free one. CannotListenError where somebody is bound."""
        bound = UdpPort(self, (interface or LOOPBACK, port or self._free_port()), protocol, maxPacketSize)
        bound.startListening()
        return bound

    def listenTCP(self, port: int, factory: Any, backlog: int = 50, interface: str | None = "") -> TcpListener:
        """Listen; port 0 takes a free one. CannotListenError where somebody does."""
        address = (interface or LOOPBACK, port or self._free_port())
        if address in self.tcp.listeners:
            raise CannotListenError(*address, OSError(98, "Address already in use"))
        listener = TcpListener(self.tcp, address, factory)
        listener.startListening()
        return listener

    def connectTCP(
        self, host: str, port: int, factory: Any, timeout: float = 30.0, bindAddress: Any = None
    ) -> Connector:
        """Connect to who listens there when the path's delay is over; from ``bindAddress`` where it is given."""
        there = (self.hosts.get(host, host), port)
        connector = Connector(self.tcp, there, factory, timeout, tuple(bindAddress or ("", 0)))
        connector.connect()
        return connector

    def installNameResolver(self, resolver: Any) -> Any:
        """Exchange the resolver; returns the one that was."""
        before, self.nameResolver = self.nameResolver, resolver
        return before

    def _free_port(self) -> int:
        self._next_port += 1
        return self._next_port

    # What services ask of a reactor besides

    def callFromThread(self, callable: Callable[..., object], *args: object, **kwargs: object) -> None:
        """In the next turn."""
        self.callLater(0, callable, *args, **kwargs)

    def callWhenRunning(self, callable: Callable[..., object], *args: object, **kwargs: object) -> None:
        """It runs."""
        callable(*args, **kwargs)

    def addSystemEventTrigger(
        self, phase: str, eventType: str, callable: Callable[..., object], *args: object, **kwargs: object
    ) -> tuple[str, Callable[[], object]]:
        """Kept until ``fireSystemEvent``; phases are not told apart."""

        def trigger() -> object:
            return callable(*args, **kwargs)

        self._triggers.setdefault(eventType, []).append(trigger)
        return eventType, trigger

    def removeSystemEventTrigger(self, triggerID: tuple[str, Callable[[], object]]) -> None:
        self._triggers[triggerID[0]].remove(triggerID[1])

    def fireSystemEvent(self, eventType: str) -> None:
        for trigger in self._triggers.pop(eventType, []):
            trigger()
