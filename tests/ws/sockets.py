"""Bots over real sockets on loopback, and a reactor on a Clock that serves them turn by turn."""

from __future__ import annotations

import select
import socket
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorFDSet, IStreamClientEndpoint
from twisted.internet.task import Clock
from twisted.internet.tcp import Connection
from twisted.python.failure import Failure
from zope.interface import implementer

MOST_TURNS = 10_000


@implementer(IReactorFDSet)
class SocketReactor(Clock):
    """Does with sockets what the kernel says, when a test asks for it."""

    def __init__(self) -> None:
        super().__init__()
        self.readers: set[Any] = set()
        self.writers: set[Any] = set()

    def addReader(self, reader: Any) -> None:
        self.readers.add(reader)

    def addWriter(self, writer: Any) -> None:
        self.writers.add(writer)

    def removeReader(self, reader: Any) -> None:
        self.readers.discard(reader)

    def removeWriter(self, writer: Any) -> None:
        self.writers.discard(writer)

    def removeAll(self) -> list[Any]:
        found = [*self.readers, *self.writers]
        self.readers.clear()
        self.writers.clear()
        return found

    def getReaders(self) -> list[Any]:
        return list(self.readers)

    def getWriters(self) -> list[Any]:
        return list(self.writers)

    def advance(self, amount: float) -> None:
        """As a reactor does it: what is asked for meanwhile is for the next turn."""
        self.rightNow += amount
        for call in [call for call in self.calls if call.getTime() <= self.rightNow]:
            if call.active():
                self.calls.remove(call)
                call.called = 1
                call.func(*call.args, **call.kw)

    def turn(self) -> bool:
        """One turn, without time passing; True when there was something to do."""
        found = any(call.getTime() <= self.rightNow for call in self.calls)
        self.advance(0)
        for one in self.readers | self.writers:
            poll = select.poll()
            wanted = select.POLLIN * (one in self.readers) | select.POLLOUT * (one in self.writers)
            poll.register(one.fileno(), wanted)
            for _, events in poll.poll(0):
                found = True
                why = one.doRead() if one in self.readers and events & ~select.POLLOUT else one.doWrite()
                if why is not None:
                    one.connectionLost(Failure(why))
        return found

    def settle(self) -> None:
        """Until there is nothing to do."""
        for _ in range(MOST_TURNS):
            if not self.turn():
                return
        raise AssertionError("the sockets do not come to rest")

    def pass_time(self, seconds: float) -> None:
        self.advance(seconds)
        self.settle()


class Wire(Connection):
    """One end of a connection of the kernel's."""

    logstr = "test"

    def __init__(self, handle: socket.socket, protocol: Any, reactor: SocketReactor) -> None:
        super().__init__(handle, protocol, reactor)  # type: ignore[arg-type]
        self.connected = 1

    def getPeer(self) -> Any:
        return "peer"

    def getHost(self) -> Any:
        return "host"

    def setTcpNoDelay(self, enabled: bool) -> None:
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, enabled)


@implementer(IStreamClientEndpoint)
class Loopback:
    """An endpoint that is connected at once to a bot that ``make`` makes.

    :ivar ours, theirs: the two ends of the last connection.
    """

    def __init__(self, reactor: SocketReactor, make: Any) -> None:
        self.reactor = reactor
        self.make = make
        self.ours: Wire
        self.theirs: Wire

    def connect(self, factory: Any) -> Deferred[Any]:
        with socket.create_server(("127.0.0.1", 0)) as server:
            near = socket.create_connection(server.getsockname())
            far, _ = server.accept()
        far.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # each message is there when it has been written
        self.theirs = Wire(far, self.make(), self.reactor)
        self.ours = Wire(near, factory.buildProtocol(None), self.reactor)
        for end in (self.theirs, self.ours):
            end.startReading()
            end.protocol.makeConnection(end)
        return succeed(self.ours.protocol)
