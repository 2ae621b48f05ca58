"""A reactor on a Clock with ``listenUDP``: real Twisted protocols on the network in memory."""

from __future__ import annotations

from typing import Any, cast

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IUDPTransport
from twisted.internet.protocol import DatagramProtocol
from twisted.internet.task import Clock

from agentstream.testing.network import Network

Address = tuple[str, int]


class UdpClock(Clock):
    """A Clock whose ``listenUDP`` binds on a network in memory; port 0 chooses one from 30000 up."""

    def __init__(self) -> None:
        super().__init__()
        self.network = Network(self)
        self.bound: dict[Address, MemoryUdpPort] = {}

    def listenUDP(
        self, port: int, protocol: DatagramProtocol, interface: str = "", maxPacketSize: int = 8192
    ) -> MemoryUdpPort:
        """As IReactorUDP."""
        host = interface or "0.0.0.0"
        if not port:
            port = next(free for free in range(30_000, 65_536) if (host, free) not in self.bound)
        if (host, port) in self.bound:
            raise CannotListenError(interface, port, OSError(98, "Address already in use"))
        made = self.bound[(host, port)] = MemoryUdpPort(self, (host, port), protocol)
        protocol.makeConnection(cast(IUDPTransport, made))
        self.network.bind((host, port), lambda data, source: protocol.datagramReceived(data, source))
        return made


class MemoryUdpPort:
    """What a protocol's ``transport`` is.

    :ivar refuses: what ``write`` raises instead of sending, by destination.
    """

    def __init__(self, reactor: UdpClock, where: Address, protocol: DatagramProtocol) -> None:
        self._reactor = reactor
        self._where = where
        self.protocol = protocol
        self.refuses: dict[Address, Exception] = {}

    def write(self, datagram: bytes, addr: Address) -> None:
        """Send one datagram."""
        refused = self.refuses.get(addr)
        if refused is not None:
            raise refused
        self._reactor.network.send(datagram, self._where, addr)

    def getHost(self) -> IPv4Address | IPv6Address:
        """Where it is bound."""
        kind = IPv6Address if ":" in self._where[0] else IPv4Address
        return kind("UDP", *self._where)

    def stopListening(self) -> Deferred[Any]:
        """Unbind."""
        if self._reactor.bound.pop(self._where, None) is not None:
            self._reactor.network.unbind(self._where)
        return succeed(None)
