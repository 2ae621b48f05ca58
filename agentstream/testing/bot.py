"""The sample bot: a WebSocket server that says back what it hears.

``agentstream bot echo`` runs it as a program, the packaged sample runs it inside the service, and tests use it as a bot
that does nothing surprising: ``media`` comes back as it is, nothing else is ever answered.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from twisted.application.service import Service
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.endpoints import TCP4ServerEndpoint, TCP6ServerEndpoint
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IPushProducer
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from agentstream.errors import StartError
from agentstream.ws.protocol import MAX_MESSAGE_BYTES, SilentLog

log = Logger()

DEFAULT_LISTEN = "127.0.0.1:5001"
BAD_LISTEN = "The address to listen on must be ADDRESS:PORT, such as 127.0.0.1:5001 or [::1]:5001; port 0 takes any."
GOING_AWAY = 1001

OnEvent = Callable[[dict[str, Any]], None]
"""Called with ``{"event": NAME, "stream_sid": SID}`` for each message that came, and ``{"closed": CODE, ...}`` at the
end."""


@implementer(IPushProducer)
class EchoBot(WebSocketServerProtocol):
    """One stream."""

    log = SilentLog()

    def __init__(self, bots: set[EchoBot], on_event: OnEvent) -> None:
        super().__init__()
        self._bots = bots
        self._on_event = on_event
        self._stream_sid = ""

    def onOpen(self) -> None:
        self._bots.add(self)
        # What it says is what it hears: when the server reads slowly, the bot listens slowly.
        self.registerProducer(self, True)

    def pauseProducing(self) -> None:
        transport: Any = self.transport
        transport.pauseProducing()

    def resumeProducing(self) -> None:
        transport: Any = self.transport
        transport.resumeProducing()

    def stopProducing(self) -> None:
        """The connection is gone, which onClose is told."""

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        try:
            body = orjson.loads(payload)
        except orjson.JSONDecodeError:
            return
        event = body.get("event") if isinstance(body, dict) else None
        if not isinstance(event, str):
            return
        sid = body.get("stream_sid")
        if isinstance(sid, str):
            self._stream_sid = sid
        self._on_event({"event": event, "stream_sid": self._stream_sid})
        media = body.get("media")
        if event == "media" and isinstance(media, dict) and isinstance(media.get("payload"), str):
            answer = {"event": "media", "stream_sid": self._stream_sid, "media": {"payload": media["payload"]}}
            self.sendMessage(orjson.dumps(answer))  # type: ignore[no-untyped-call]

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        if self in self._bots:
            self._bots.discard(self)
            self._on_event({"closed": code, "stream_sid": self._stream_sid})


def echo_bot_factory(reactor: Any, on_event: OnEvent, bots: set[EchoBot] | None = None) -> WebSocketServerFactory:
    """A factory of echo bots.

    :param bots: holds those that are connected.
    """
    connected: set[EchoBot] = set() if bots is None else bots
    factory = WebSocketServerFactory(reactor=reactor)
    factory.setProtocolOptions(
        utf8validateIncoming=False,
        maxFramePayloadSize=MAX_MESSAGE_BYTES,
        maxMessagePayloadSize=MAX_MESSAGE_BYTES,
        failByDrop=False,
        openHandshakeTimeout=0,
        closeHandshakeTimeout=0,
    )
    factory.protocol = lambda: EchoBot(connected, on_event)  # type: ignore[assignment]
    factory.noisy = False
    return factory


def split_listen(listen: str) -> tuple[str, int]:
    """``ADDRESS:PORT`` in two, an IPv6 address without its brackets.

    :raises StartError: BAD_LISTEN.
    """
    host, colon, port = listen.rpartition(":")
    host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    is_port = port.isascii() and port.isdigit() and len(port) <= 5 and int(port) <= 65535
    if not colon or not is_port or not (isIPAddress(host) or isIPv6Address(host)):
        raise StartError(BAD_LISTEN)
    return host, int(port)


class EchoBotService(Service):
    """Listens and echoes; see :func:`echo_bot_service`.

    :ivar host: the address to listen on.
    :ivar port: the port; once bound, the one that was taken.
    """

    name = "echo-bot"

    def __init__(self, reactor: Any, host: str, port: int, on_event: OnEvent) -> None:
        self.host = host
        self.port = port
        self._reactor = reactor
        self._on_event = on_event
        self._bots: set[EchoBot] = set()
        self._listening: IListeningPort | None = None
        self._is_bound = False

    @property
    def address(self) -> str:
        """``ADDRESS:PORT``, as a URL writes it."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def bind(self) -> Deferred[None]:
        """Listen; harmless when it does already. Errbacks with StartError, a sentence that says what to do."""
        if self._is_bound:
            return maybeDeferred(lambda: None)
        self._is_bound = True
        endpoint_class = TCP6ServerEndpoint if ":" in self.host else TCP4ServerEndpoint
        endpoint: Any = endpoint_class(self._reactor, self.port, interface=self.host)
        listening: Deferred[IListeningPort] = endpoint.listen(
            echo_bot_factory(self._reactor, self._on_event, self._bots)
        )
        return listening.addCallbacks(self._bound, self._not_bound)

    def startService(self) -> None:
        """Listen; a failure is logged, so whoever wants to know calls bind first."""
        super().startService()  # type: ignore[no-untyped-call]
        self.bind().addErrback(lambda failure: log.error("{reason}", reason=str(failure.value)))

    def stopService(self) -> Deferred[None]:
        """Listen no more and close every stream with 1001."""
        super().stopService()  # type: ignore[no-untyped-call]
        self._is_bound = False
        for bot in list(self._bots):
            bot.sendCloseFrame(code=GOING_AWAY)
            if bot.transport is not None:
                bot.unregisterProducer()
                bot.transport.loseConnection()
        listening, self._listening = self._listening, None
        stopped: Deferred[Any] = maybeDeferred(listening.stopListening if listening else lambda: None)
        return stopped.addCallback(lambda _: None)

    def _bound(self, listening: IListeningPort) -> None:
        self._listening = listening
        self.port = getattr(listening.getHost(), "port", self.port)

    def _not_bound(self, failure: Failure) -> None:
        self._is_bound = False
        failure.trap(CannotListenError)
        raise StartError(f"The echo bot cannot listen on {self.address}: choose an address and a port that are free.")


def echo_bot_service(
    listen: str = DEFAULT_LISTEN, *, reactor: Any = None, on_event: OnEvent | None = None
) -> EchoBotService:
    """The echo bot as a service.

    :param listen: ``ADDRESS:PORT``; port 0 takes any free one.
    :param reactor: where it listens; None takes the process's own.
    :param on_event: told of everything that comes.
    :raises StartError: ``listen`` is no such thing.
    """
    if reactor is None:
        from twisted.internet import reactor as the_reactor

        reactor = the_reactor
    host, port = split_listen(listen)
    return EchoBotService(reactor, host, port, on_event or (lambda event: None))
