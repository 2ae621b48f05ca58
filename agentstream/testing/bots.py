"""Bots in memory that a test scripts; those that real bots turn into on a bad day are in
:mod:`agentstream.testing.hostile_bots`.

A :class:`BotServer` listens on a reactor and makes one :class:`Session` for each connection. A session records
everything that comes and says what the test, or its own ``on_...`` methods, tell it to. Real WebSockets run in between:
Autobahn's server protocol, which shares no line with agentstream.ws.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import attrs
from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

_LARGEST = 64 * 1024 * 1024


class _Silent:
    """What peers do is what the test looks at; Autobahn need not log it."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *args, **fields: None


@attrs.frozen
class Heard:
    """One message from the server.

    :ivar at: seconds of the reactor's clock. :ivar body: the JSON object.
    """

    at: float
    body: dict[str, Any]


class Session:
    """One connection to a bot: hears, records, and says nothing by itself.

    :ivar request: Autobahn's ConnectionRequest (path, params, headers); None before the handshake.
    :ivar heard: every message with its time, in order.
    :ivar start: the inner object of ``start``; {} before.
    :ivar closed_with: the code of the server's close frame; None while there is none.
    :ivar is_over: the connection is gone.
    """

    def __init__(self) -> None:
        self.request: Any = None
        self.heard: list[Heard] = []
        self.start: dict[str, Any] = {}
        self.closed_with: int | None = None
        self.is_over = False
        self.pings = 0
        self.clock: Any = None
        self.wire: Any = None

    # What has come

    @property
    def events(self) -> list[str]:
        """The names of all messages in order."""
        return [str(message.body.get("event")) for message in self.heard]

    def bodies(self, event: str) -> list[dict[str, Any]]:
        """All messages of this name."""
        return [message.body for message in self.heard if message.body.get("event") == event]

    @property
    def audio(self) -> bytes:
        """Everything that the caller said, as 16-bit little-endian samples."""
        return b"".join(base64.b64decode(body["media"]["payload"]) for body in self.bodies("media"))

    @property
    def marks(self) -> list[str]:
        """The names of the marks that came back."""
        return [body["mark"]["name"] for body in self.bodies("mark")]

    @property
    def digits(self) -> str:
        """The keys that the caller pressed."""
        return "".join(body["dtmf"]["digit"] for body in self.bodies("dtmf"))

    @property
    def stop_reason(self) -> str:
        """What ``stop`` gave as reason; "" while there is none."""
        return next((str(body["stop"]["reason"]) for body in self.bodies("stop")), "")

    # What a bot says

    def send(self, message: Any) -> None:
        """One text message: bytes as they are, anything else as JSON."""
        body = message if isinstance(message, bytes) else json.dumps(message).encode()
        self.wire.sendMessage(body)

    def send_binary(self, data: bytes) -> None:
        """One binary message."""
        self.wire.sendMessage(data, isBinary=True)

    def say(self, pcm: bytes, chunk_bytes: int = 0) -> None:
        """Audio as ``media``: 16-bit little-endian samples, in messages of this many bytes (0: all in one)."""
        for at in range(0, len(pcm), chunk_bytes or len(pcm) or 1):
            part = pcm[at : at + chunk_bytes] if chunk_bytes else pcm
            payload = base64.b64encode(part).decode()
            self.send({"event": "media", "stream_sid": self.stream_sid, "media": {"payload": payload}})

    def mark(self, name: str) -> None:
        """Ask to be told when everything before has been played."""
        self.send({"event": "mark", "stream_sid": self.stream_sid, "mark": {"name": name}})

    def clear(self) -> None:
        """Take back what has not been played."""
        self.send({"event": "clear", "stream_sid": self.stream_sid})

    def close(self, code: int | None = 1000, reason: str = "") -> None:
        """Send a close frame."""
        self.wire.sendClose(code, reason or None)

    def drop(self) -> None:
        """Reset the TCP connection."""
        self.wire.transport.abortConnection()

    def pause(self) -> None:
        """Read nothing more from the socket."""
        self.wire.transport.pauseProducing()

    def resume(self) -> None:
        """Read on."""
        self.wire.transport.resumeProducing()

    @property
    def stream_sid(self) -> str:
        """The stream's id as ``start`` gave it."""
        return str(self.start.get("stream_sid", ""))

    # What a script may do; each is called behind the recording

    def on_connect(self, request: Any) -> None:
        """The handshake has come; raise autobahn's ConnectionDeny to refuse it."""

    def on_open(self) -> None:
        """The handshake is done."""

    def on_start(self, start: dict[str, Any]) -> None:
        """``start`` has come."""

    def on_media(self, pcm: bytes, body: dict[str, Any]) -> None:
        """A chunk of what the caller says."""

    def on_digit(self, digit: str) -> None:
        """A key was pressed."""

    def on_mark(self, name: str) -> None:
        """A mark has come back."""

    def on_stop(self, reason: str) -> None:
        """The stream is over."""

    def answers_close(self) -> bool:
        """Whether a close frame is answered and the connection ended."""
        return True

    def take(self, body: dict[str, Any]) -> None:
        """Record a message and let the script see it."""
        self.heard.append(Heard(self.clock.seconds(), body))
        event = body.get("event")
        if event == "start":
            self.start = body["start"]
            self.on_start(self.start)
        elif event == "media":
            self.on_media(base64.b64decode(body["media"]["payload"]), body)
        elif event == "dtmf":
            self.on_digit(body["dtmf"]["digit"])
        elif event == "mark":
            self.on_mark(body["mark"]["name"])
        elif event == "stop":
            self.on_stop(body["stop"]["reason"])


class _Wire(WebSocketServerProtocol):
    """Autobahn's side of a session."""

    log = _Silent()

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        session.wire = self

    def onConnect(self, request: Any) -> None:
        self._session.request = request
        self._session.on_connect(request)

    def onOpen(self) -> None:
        self._session.on_open()

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        self._session.take(json.loads(payload))

    def onPing(self, payload: bytes) -> None:
        self._session.pings += 1
        super().onPing(payload)

    def onCloseFrame(self, code: int | None, reasonRaw: bytes | None) -> Any:
        self._session.closed_with = 1005 if code is None else code
        if not self._session.answers_close():
            return False
        return super().onCloseFrame(code, reasonRaw)  # type: ignore[arg-type]  # both are None without a body

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._session.is_over = True
        super().connectionLost(reason)


class _Door(Factory):
    noisy = False

    def __init__(self, build: Callable[[], Protocol]) -> None:
        self._build = build

    def buildProtocol(self, addr: object) -> Protocol:
        return self._build()


class BotServer:
    """A place where bots listen.

    :param scripts: what makes a session for each connection in turn: the class :class:`Session`, one of its children,
        or anything else that gives one. The last one goes on being used.
    :ivar sessions: one for each connection, in order.
    :ivar url: what a flow's ``url`` says.
    """

    def __init__(
        self, reactor: Any, *scripts: Callable[[], Session], host: str = "127.0.0.1", port: int = 5001
    ) -> None:
        self._reactor = reactor
        self._scripts = list(scripts) or [Session]
        self._host = host
        self.sessions: list[Session] = []
        self._factory = WebSocketServerFactory(reactor=reactor)
        self._factory.setProtocolOptions(
            openHandshakeTimeout=0,
            closeHandshakeTimeout=0,
            maxFramePayloadSize=_LARGEST,
            maxMessagePayloadSize=_LARGEST,
        )
        self._listener: Any = reactor.listenTCP(port, _Door(self._build), interface=host)
        self.port: int = self._listener.getHost().port
        self.url = f"ws://{f'[{host}]' if ':' in host else host}:{self.port}/media"

    @property
    def session(self) -> Session:
        """The latest connection's."""
        return self.sessions[-1]

    def stop(self) -> None:
        """Take no more connections."""
        self._listener.stopListening()

    def _build(self) -> Protocol:
        make = self._scripts.pop(0) if len(self._scripts) > 1 else self._scripts[0]
        session = make()
        session.clock = self._reactor
        self.sessions.append(session)
        if isinstance(session, RawSession):
            return _RawWire(session)
        wire = _Wire(session)
        wire.factory = self._factory
        return wire


# Well-behaved bots


class Echo(Session):
    """Says what it hears, chunk by chunk."""

    def on_media(self, pcm: bytes, body: dict[str, Any]) -> None:
        if self.wire.state == self.wire.STATE_OPEN:
            self.say(pcm)


class Speaker(Session):
    """Says its piece as soon as ``start`` has come, with a mark behind it.

    :param pcm: 16-bit little-endian samples. :param mark: the mark's name; "" asks for none.
    :param chunk_bytes: see :meth:`Session.say`.
    """

    def __init__(self, pcm: bytes, mark: str = "said", chunk_bytes: int = 0) -> None:
        super().__init__()
        self.pcm = pcm
        self.mark_name = mark
        self.chunk_bytes = chunk_bytes

    def on_start(self, start: dict[str, Any]) -> None:
        self.say(self.pcm, self.chunk_bytes)
        if self.mark_name:
            self.mark(self.mark_name)


# What is no bot at all


class RawSession(Session):
    """A TCP server that is no WebSocket server.

    :param answer: what it says when the first bytes come; b"" never says a word.
    :param then_close: it closes the connection behind its answer.
    :ivar bytes_heard: everything that came.
    """

    def __init__(self, answer: bytes = b"", then_close: bool = False) -> None:
        super().__init__()
        self.answer = answer
        self.then_close = then_close
        self.bytes_heard = b""


class _RawWire(Protocol):
    def __init__(self, session: RawSession) -> None:
        self._session = session
        session.wire = self

    def dataReceived(self, data: bytes) -> None:
        transport: Any = self.transport
        is_first = not self._session.bytes_heard
        self._session.bytes_heard += data
        if is_first and self._session.answer:
            transport.write(self._session.answer)
        if is_first and self._session.then_close:
            transport.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._session.is_over = True
