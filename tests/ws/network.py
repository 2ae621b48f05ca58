"""An in-memory TCP for tests of ws: two ends on a Clock, back-pressure, a deaf reader, and closing as TCP has it."""

from __future__ import annotations

import json
from typing import Any

import attrs
import txaio
from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost, ConnectionRefusedError
from twisted.internet.interfaces import IConsumer, IPushProducer, IStreamClientEndpoint, ITCPTransport
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

from agentstream.interfaces import StreamEnd
from agentstream.wire.exotel import ExotelSession
from agentstream.wire.messages import StreamStart
from agentstream.ws.connect import connect_stream
from agentstream.ws.connection import IStreamPeer, StreamConnection
from agentstream.ws.protocol import SilentLog

SID = "3357459ca698d8c765bac10b0ec418bl"


@implementer(ITCPTransport, IConsumer, IPushProducer)
class End:
    """One end of a connection: the transport of one protocol."""

    bufferSize = 65536

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.protocol: Any = None
        self.other: End = self
        self.out = bytearray()
        self.producer: Any = None
        self.producer_paused = False
        self.is_reading = True
        self.is_closing = False
        self.is_lost = False
        self.other_closed: Exception | None = None

    def write(self, data: bytes) -> None:
        if self.is_lost or self.is_closing:
            return
        self.out += data
        if self.producer is not None and not self.producer_paused and len(self.out) > self.bufferSize:
            self.producer_paused = True
            self.producer.pauseProducing()

    def writeSequence(self, data: list[bytes]) -> None:
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        self.is_closing = True

    def abortConnection(self) -> None:
        if not self.is_lost:
            self.is_closing = True
            self.out.clear()
            self.other.other_closed = self.other.other_closed or ConnectionLost()
            self.clock.callLater(0, self.lose, ConnectionAborted())

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        assert streaming
        assert self.producer is None
        self.producer = producer

    def unregisterProducer(self) -> None:
        self.producer = None

    def pauseProducing(self) -> None:
        self.is_reading = False

    def resumeProducing(self) -> None:
        self.is_reading = True

    def stopProducing(self) -> None:
        self.loseConnection()

    def setTcpNoDelay(self, enabled: bool) -> None:
        self.no_delay = enabled

    def getPeer(self) -> str:
        return "peer"

    def getHost(self) -> str:
        return "host"

    def lose(self, reason: Exception) -> None:
        if not self.is_lost:
            self.is_lost = True
            producer, self.producer = self.producer, None
            if producer is not None:
                producer.stopProducing()
            self.protocol.connectionLost(Failure(reason))

    def move(self) -> bool:
        """Bring what is written to the other end; True when something happened."""
        if self.out and self.other.is_reading and not self.other.is_lost:
            data = bytes(self.out[:4096])
            del self.out[:4096]
            self.other.protocol.dataReceived(data)
            if not self.out and self.producer is not None and self.producer_paused:
                self.producer_paused = False
                self.producer.resumeProducing()
            return True
        if self.is_closing and not self.is_lost and (not self.out or self.other.is_lost):
            if self.producer is not None:
                return False  # as Twisted: it waits for the producer
            self.other.other_closed = self.other.other_closed or ConnectionDone()
            self.lose(ConnectionDone())
            return True
        if self.other_closed is not None and not self.is_lost and self.is_reading and not self.other.out:
            self.lose(self.other_closed)
            return True
        return False


@implementer(IStreamClientEndpoint)
class Network:
    """A place where bots listen. Each connection takes the next of ``servers``, or the last of them again."""

    def __init__(self, clock: Clock, *servers: Any) -> None:
        self.clock = clock
        self.servers = list(servers)
        self.attempts = 0
        self.ends: list[End] = []

    def connect(self, factory: Any) -> Deferred[Any]:
        self.attempts += 1
        make = self.servers.pop(0) if len(self.servers) > 1 else self.servers[0]
        result: Deferred[Any] = Deferred()
        self.clock.callLater(0, self._connect, factory, make, result)
        return result

    def _connect(self, factory: Any, make: Any, result: Deferred[Any]) -> None:
        if result.called:
            return
        if make is None:
            result.errback(ConnectionRefusedError())
            return
        if make == "black hole":
            return
        ours, theirs = End(self.clock), End(self.clock)
        ours.other, theirs.other = theirs, ours
        self.ends += [ours, theirs]
        ours.protocol = factory.buildProtocol(None)
        theirs.protocol = make()
        theirs.protocol.makeConnection(theirs)
        ours.protocol.makeConnection(ours)
        result.callback(ours.protocol)

    def flush(self, limit: int = 10000) -> None:
        """Until nothing moves."""
        for _ in range(limit):
            self.clock.advance(0)
            moved = [end.move() for end in self.ends]
            if not any(moved):
                return
        raise AssertionError("it does not come to rest")

    def advance(self, seconds: float) -> None:
        self.flush()
        self.clock.advance(seconds)
        self.flush()


@implementer(IStreamPeer)
@attrs.define(eq=False)
class Peer:
    """Hears the bot: one list of everything."""

    heard: list[Any] = attrs.field(factory=list)
    ends: list[StreamEnd] = attrs.field(factory=list)

    def media_received(self, pcm: bytes) -> None:
        self.heard.append(pcm)

    def mark_received(self, name: str) -> None:
        self.heard.append(("mark", name))

    def clear_received(self) -> None:
        self.heard.append("clear")

    def stream_closed(self, end: StreamEnd) -> None:
        self.ends.append(end)


class Bot(WebSocketServerProtocol):
    """A bot that keeps everything; ``received`` are the JSON objects in order."""

    log = SilentLog()

    def __init__(self) -> None:
        super().__init__()
        self.received: list[Any] = []
        self.request: Any = None
        self.closed: tuple[bool, int | None, str | None] | None = None
        self.pings: list[bytes] = []
        self.pongs: list[bytes] = []

    def onConnect(self, request: Any) -> None:
        self.request = request

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        assert not isBinary
        self.received.append(json.loads(payload))

    def onPing(self, payload: bytes) -> None:
        self.pings.append(payload)
        super().onPing(payload)

    def onPong(self, payload: bytes) -> None:
        self.pongs.append(payload)

    def onClose(self, wasClean: bool, code: Any, reason: Any) -> None:
        self.closed = (wasClean, code, reason)

    def say(self, body: Any) -> None:
        self.sendMessage(body if isinstance(body, bytes) else json.dumps(body).encode())

    def events(self) -> list[str]:
        return [message["event"] for message in self.received]


def bots(clock: Clock, bot: type[Bot] = Bot) -> tuple[Any, list[Bot]]:
    """What makes a bot for each connection, and the list of those it made."""
    txaio.config.loop = clock
    factory = WebSocketServerFactory(reactor=clock)
    factory.setProtocolOptions(openHandshakeTimeout=0, closeHandshakeTimeout=0)
    made: list[Bot] = []

    def make() -> Bot:
        protocol = bot()
        protocol.factory = factory
        made.append(protocol)
        return protocol

    return make, made


class Silent(Protocol):
    """Accepts the connection and never says a word."""

    def __init__(self) -> None:
        self.received = b""

    def dataReceived(self, data: bytes) -> None:
        self.received += data


def saying(answer: bytes, then_close: bool = False) -> type[Silent]:
    """A server that says the same whatever it hears."""

    class Saying(Silent):
        def dataReceived(self, data: bytes) -> None:
            if not self.received:
                self.transport.write(answer)
                if then_close:
                    self.transport.loseConnection()
            super().dataReceived(data)

    return Saying


def start(**changes: Any) -> StreamStart:
    return StreamStart(
        **({"stream_sid": SID, "call_sid": "c" * 32, "account_sid": "tenant", "caller": "1", "callee": "2"} | changes)
    )


def dial(
    network: Network, url: str = "ws://127.0.0.1:5001/media", **options: Any
) -> tuple[Deferred[StreamConnection], Peer]:
    """Begin to connect; the network is not flushed yet."""
    peer = Peer()
    session = ExotelSession(start(), options.pop("two_way", True))
    deferred = connect_stream(
        network.clock, url, session, peer, endpoint_factory=lambda reactor, where: network, **options
    )
    return deferred, peer


@attrs.define
class Talk:
    """A stream that is open: both sides of it."""

    network: Network
    connection: StreamConnection
    peer: Peer
    bot: Bot
    ours: End
    theirs: End

    def say(self, body: Any) -> None:
        self.bot.say(body)
        self.network.flush()

    def hang_up(self) -> None:
        """End what is left, so that no delayed call stays."""
        self.connection.stop("stopped")
        self.network.advance(5)


def open_talk(clock: Clock, bot: type[Bot] = Bot, **options: Any) -> Talk:
    make, made = bots(clock, bot)
    network = Network(clock, make)
    deferred, peer = dial(network, **options)
    found: list[StreamConnection] = []
    deferred.addCallback(found.append)
    network.flush()
    return Talk(network, found[0], peer, made[0], *network.ends)
