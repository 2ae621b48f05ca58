"""TCP connections that keep nothing alive once they are over.

Twisted's connector, its transport and an endpoint's factory know each other for ever, and with them whatever the
factory knew: a whole call. A full garbage collection would find that, but waits for slack (agentstream.media.slack).
So the endpoints of this room connect through a view of the reactor, which cuts these ties at the end of each connection
and of each attempt; then reference counting frees everything at once.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IAddress, IConnector, IReactorPluggableNameResolver
from twisted.internet.protocol import ClientFactory
from twisted.python.failure import Failure
from zope.interface import implementer


@implementer(IReactorPluggableNameResolver)
class LettingGo:
    """A reactor whose TCP connections let go of each other's parts when they are over."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor

    def connectTCP(self, host: str, port: int, factory: Any, timeout: float = 30, bindAddress: Any = None) -> Any:
        """See IReactorTCP."""
        return self._reactor.connectTCP(host, port, _Tie(factory), timeout, bindAddress)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)


class _Tie(ClientFactory):
    """Stands between a connector and the factory of its one connection."""

    noisy = False

    def __init__(self, factory: Any) -> None:
        self._factory: Any = factory
        self._connector: Any = None
        self._transport: Any = None

    def doStart(self) -> None:
        self._factory.doStart()

    def startedConnecting(self, connector: IConnector) -> None:
        self._connector = connector
        self._transport = getattr(connector, "transport", None)
        self._factory.startedConnecting(connector)

    def buildProtocol(self, addr: IAddress | None) -> Any:
        return self._factory.buildProtocol(addr)

    def clientConnectionFailed(self, connector: IConnector, reason: Failure) -> None:
        self._factory.clientConnectionFailed(connector, reason)

    def clientConnectionLost(self, connector: IConnector, reason: Failure) -> None:
        self._factory.clientConnectionLost(connector, reason)

    def doStop(self) -> None:
        """The last thing that a connector says when it is over."""
        factory, self._factory = self._factory, _over
        factory.doStop()
        connector, self._connector = self._connector, None
        transport, self._transport = self._transport, None
        if connector is not None:
            connector.transport = None
        for name in ("doRead", "doWrite"):
            # Methods of its own that a transport puts into itself to connect, and leaves there when that fails.
            if name in getattr(transport, "__dict__", ()):
                setattr(transport, name, _nothing)


def _nothing() -> None:
    pass


_over = ClientFactory()
_over.noisy = False
