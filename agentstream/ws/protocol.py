"""The socket's side of a stream: Autobahn's client, told when to parse and kept from raising at what a server sends.

Only public names of Autobahn and Twisted are used. Its own timers are all off (they need a process-wide clock); what is
bounded in time is bounded by :mod:`agentstream.ws.connect` and :mod:`agentstream.ws.connection`.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Any, Protocol

from autobahn.twisted.websocket import WebSocketClientFactory, WebSocketClientProtocol
from autobahn.websocket import USES_NVX
from autobahn.websocket.types import ConnectingRequest
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.protocol import connectionDone
from twisted.internet.tcp import Connection
from twisted.python.failure import Failure

from agentstream.ws.frame import PING, PONG, TEXT, FrameMaker
from agentstream.ws.reads import Reads
from agentstream.ws.turns import ReadTurns
from agentstream.ws.url import StreamUrl

MAX_MESSAGE_BYTES = 4 * 1024 * 1024
SEND_BUFFER_BYTES = 32 * 1024
"""Asked of the kernel with SO_SNDBUF: what it holds of a bot that reads slowly."""

WRITE_BUFFER_BYTES = 16 * 1024
"""Of Twisted's buffer before the producer is paused; the same number is how much is read at once."""

MAX_HANDSHAKE_BYTES = 64 * 1024
CLOSE_TIMEOUT_S = 2.0

NOT_WEBSOCKET = "The bot answered the handshake with something other than WebSocket."
REFUSED = "The bot refused the handshake with status {}."
CLOSED_IN_HANDSHAKE = "The bot closed the connection during the handshake."
VIOLATION = "The bot broke the WebSocket protocol."
TOO_BIG = "The bot sent a message of more than 4 MB."

NO_NVX = "Autobahn runs without its compiled parts (NVX): close reasons are checked slowly, nothing else needs them."


def nvx_in_use() -> bool:
    """Whether Autobahn's compiled parts work; when not, NO_NVX is to be said once at start."""
    return bool(USES_NVX)


class Listener(Protocol):
    """Who is told what a BotProtocol meets. First the attempt to connect, then the stream."""

    def opened(self, protocol: BotProtocol) -> None:
        """The handshake is done."""

    def handshake_failed(self, sentence: str) -> None: ...

    def life_shown(self) -> None:
        """Bytes came, whatever they are."""

    def message(self, payload: bytes, is_binary: bool) -> None: ...

    def ping(self, payload: bytes) -> None: ...

    def close_frame(self, code: int, reason: str) -> None:
        """The bot's close frame; 1005 when it had no code."""

    def violated(self, code: int, sentence: str) -> None:
        """The bot broke the protocol and was sent a close frame with this code."""

    def lost(self, reason: Failure) -> None:
        """The connection is gone. Nothing follows."""


_frames = FrameMaker(os.urandom)

_WHOLE_TEXT = 0x81
"""The first byte of a text frame that is a message of its own (RFC 6455 section 5.2)."""


class SilentLog:
    """Autobahn logs what peers do at warning and error level; here the stream counts and says it, once."""

    def __getattr__(self, name: str) -> Any:
        return self._nothing

    def _nothing(self, *args: object, **fields: object) -> None:
        pass


class Nobody:
    """The listener of a connection that is over: it wants nothing more."""

    def opened(self, protocol: BotProtocol) -> None: ...

    def handshake_failed(self, sentence: str) -> None: ...

    def life_shown(self) -> None: ...

    def message(self, payload: bytes, is_binary: bool) -> None: ...

    def ping(self, payload: bytes) -> None: ...

    def close_frame(self, code: int, reason: str) -> None: ...

    def violated(self, code: int, sentence: str) -> None: ...

    def lost(self, reason: Failure) -> None: ...


NOBODY = Nobody()


class BotProtocol(WebSocketClientProtocol):
    """One connection to a bot.

    :ivar listener: is told everything; never None.
    """

    log = SilentLog()

    def __init__(self, clock: IReactorTime, url: StreamUrl, turns: ReadTurns, listener: Listener) -> None:
        super().__init__()
        # Autobahn fires both with the protocol itself, which would then hold itself.
        for fired in (self.is_open, self.is_closed):
            fired.addCallback(_nothing)
        self.listener: Listener = listener
        self._clock = clock
        self._url = url
        self._turns = turns
        self._tcp: Any = None
        self._reads: Reads | None = None
        self._plain_tcp: Connection | None = None
        self._plain_socket: Any = None
        self._is_parsing = False
        self._is_unfinished = False
        self._is_held = False
        self._is_waiting = False
        self._violation_told = False
        self._drop_call: IDelayedCall | None = None
        self._loss: Failure | None = None

    # What the listener asks for

    def send_text(self, data: bytes) -> None:
        """Write one text message; nothing happens when the connection is not open."""
        if self.state == self.STATE_OPEN:
            self.sendData(_frames.frame(TEXT, data))

    def send_ping(self) -> None:
        if self.state == self.STATE_OPEN:
            self.sendFrame(PING)

    def send_pong(self, payload: bytes) -> None:
        if self.state == self.STATE_OPEN:
            self.sendFrame(PONG, payload)

    def close(self, code: int) -> None:
        """Send a close frame and drop the connection when the bot does not answer it in time."""
        if self.state == self.STATE_OPEN:
            self.sendCloseFrame(code=code)
        self.drop_soon()

    def drop_soon(self) -> None:
        """The bot has CLOSE_TIMEOUT_S to end the TCP connection itself."""
        if self._loss is not None:
            self._finish_loss()
        elif self._tcp is not None and self._drop_call is None:
            self._drop_call = self._clock.callLater(CLOSE_TIMEOUT_S, self._drop)

    def abort(self) -> None:
        """Drop the connection at once. The listener is told ``lost`` when the socket is gone."""
        if self._tcp is not None:
            self.dropConnection(abort=True)

    def hold(self, is_held: bool) -> None:
        """Neither read nor deliver anything while held."""
        self._is_held = is_held
        self._update_reading()
        if not is_held:
            self._turns.admit(self)

    def be_read_by(self, reads: Reads) -> None:
        """Read once a tick, if that can be."""
        if self._tcp is not None and self._loss is None and reads.can_take(self._tcp):
            self._tcp.pauseProducing()
            self._reads = reads
            self._update_reading()

    # agentstream.ws.reads.PolledReader

    def read_by_reactor(self) -> None:
        """See :class:`agentstream.ws.reads.PolledReader`."""
        self._leave_reads()
        self._update_reading()

    def _leave_reads(self) -> None:
        if self._reads is not None:
            reads, self._reads = self._reads, None
            reads.remove(self)

    # agentstream.ws.turns.Reader

    def read_until(self, deadline: float) -> bool:
        """Parse whole frames; see :class:`agentstream.ws.turns.Reader`."""
        if self._is_parsing:  # asked from within: the loop below goes on by itself
            return False
        more = False
        self._is_parsing = True
        try:
            if self.state == self.STATE_CONNECTING:
                self.processHandshake()  # type: ignore[no-untyped-call]
            # An empty frame is finished without a byte left, so only the answer tells whether to go on.
            more = self._is_unfinished or bool(self.data)
            while more and self._may_parse():
                if self._take_text():
                    more = bool(self.data)
                else:
                    more = self._is_unfinished = self.processData()
                if self._clock.seconds() >= deadline:
                    break
            else:
                more = False
        except Exception:
            # Autobahn checks the peer in many places and not in all of them: a status line that is no text raises.
            more = False
            self._fail()
        finally:
            self._is_parsing = False
        if self.failedByMe:
            self.data = b""
            self._tell_violation()
        if self._loss is not None and not more and not self._is_held:
            self._finish_loss()
        return more

    def _take_text(self) -> bool:
        """Tell the message of a whole text frame at the front of the buffer, which is what bots send.

        Anything else, a part of a frame included, is Autobahn's to parse: False. Nothing that RFC 6455 forbids passes
        here: no extension is ever offered, so such a frame has no reserved bit, no mask and its shortest length.
        """
        data = self.data
        if len(data) < 2 or data[0] != _WHOLE_TEXT or self.current_frame is not None:
            return False
        if self.inside_message or self.state != self.STATE_OPEN:
            return False
        size, begin = data[1], 2
        if size == 126 and len(data) >= 4:
            size, begin = data[2] << 8 | data[3], 4
            if size < 126:
                return False
        elif size >= 126:
            return False
        end = begin + size
        if len(data) < end:
            return False
        self.data = data[end:]
        self.listener.message(data[begin:end], False)
        return True

    def set_waiting(self, waiting: bool) -> None:
        """See :class:`agentstream.ws.turns.Reader`."""
        self._is_waiting = waiting
        self._update_reading()

    def _may_parse(self) -> bool:
        return not self._is_held and not self.failedByMe and self.state in (self.STATE_OPEN, self.STATE_CLOSING)

    def _update_reading(self) -> None:
        if self._tcp is None or self._loss is not None:
            return
        is_wanted = not (self._is_held or self._is_waiting)
        if self._reads is not None:
            if is_wanted:
                self._reads.add(self._tcp, self)
            else:
                self._reads.remove(self)
        elif is_wanted:
            self._tcp.resumeProducing()
        else:
            self._tcp.pauseProducing()

    # From Twisted

    def connectionMade(self) -> None:
        # Below TLS lies the socket; the limits of what lies between us and the bot are its own.
        self._tcp = getattr(self.transport, "transport", None) or self.transport
        if hasattr(self._tcp, "bufferSize"):
            self._tcp.bufferSize = WRITE_BUFFER_BYTES
        if hasattr(self._tcp, "setTcpNoDelay"):  # Autobahn asks for its own option before it has set it, and gets none
            self._tcp.setTcpNoDelay(True)
        handle = getattr(self._tcp, "socket", None)
        if handle is not None:
            handle.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        if isinstance(self.transport, Connection):
            self._plain_tcp, self._plain_socket = self.transport, handle
        super().connectionMade()

    def dataReceived(self, data: bytes) -> None:
        self.listener.life_shown()
        if self.failedByMe or self.state == self.STATE_CLOSED:
            return
        self.data += data
        if self.state == self.STATE_CONNECTING and len(self.data) > MAX_HANDSHAKE_BYTES:
            self.failHandshake(NOT_WEBSOCKET)
        else:
            self._turns.admit(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._drop_call is not None:
            self._drop_call.cancel()
            self._drop_call = None
        self._leave_reads()
        self._loss = reason
        # What was read and not parsed yet may end in a close frame.
        if not (self.data or self._is_unfinished) or not (self._is_waiting or self._is_held):
            self._finish_loss()

    def _finish_loss(self) -> None:
        reason, self._loss, self._tcp = self._loss or connectionDone, None, None
        self._plain_tcp = self._plain_socket = None
        self.data = b""
        super().connectionLost(reason)
        # Whoever listened holds this connection, and the transport its connector: neither is held from here.
        listener, self.listener = self.listener, NOBODY
        listener.lost(reason)
        self.transport = None

    # From Autobahn

    def onConnecting(self, transport_details: object) -> ConnectingRequest:
        headers = {"Authorization": self._url.authorization} if self._url.authorization else {}
        return ConnectingRequest(
            host=self._url.host_header,
            port=self._url.port,
            resource=self._url.resource,
            headers=headers,
            useragent="agentstream",
        )

    def consumeData(self) -> None:
        self._turns.admit(self)

    def onOpen(self) -> None:
        self.listener.opened(self)

    def failHandshake(self, reason: str) -> None:
        parts = getattr(self, "http_status_line", "").split()
        sentence = NOT_WEBSOCKET
        if len(parts) >= 2 and parts[0].startswith("HTTP/"):
            status = parts[1]
            if len(status) == 3 and status.isascii() and status.isdigit() and status != "101":
                sentence = REFUSED.format(status)
        self.listener.handshake_failed(sentence)
        self.dropConnection(abort=True)

    def dropConnection(self, abort: bool = False) -> None:
        self._leave_reads()  # the transport reads no more
        super().dropConnection(abort)

    def onMessageEnd(self) -> None:
        if not self.failedByMe:
            self.listener.message(b"".join(self.message_data), self.message_is_binary)
        self.message_data = []

    def onPing(self, payload: bytes) -> None:
        self.listener.ping(payload)

    def onPong(self, payload: bytes) -> None:
        """Any bytes show life: nothing else is to be learnt from a pong."""

    def onCloseFrame(self, code: int | None, reasonRaw: bytes | None) -> Any:
        answer = super().onCloseFrame(code, reasonRaw)  # type: ignore[arg-type]  # both are None without a body
        reason = (reasonRaw or b"").decode("utf-8", "replace")
        self.listener.close_frame(1005 if code is None else code, reason)
        return answer

    def sendFrame(
        self,
        opcode: int,
        payload: bytes = b"",
        fin: bool = True,
        rsv: int = 0,
        mask: bytes | None = None,
        payload_len: int | None = None,
        chopsize: int | None = None,
        sync: bool = False,
    ) -> None:
        # Autobahn's own masks come from a generator whose numbers can be foreseen, which RFC 6455 5.3 forbids.
        self.sendData(_frames.frame(opcode, payload))

    def sendData(self, data: bytes, sync: bool = False, chopsize: int | None = None) -> None:
        tcp = self._plain_tcp
        if tcp is not None and not (tcp.dataBuffer or tcp._tempDataBuffer or tcp.disconnecting):
            # Nothing waits before it, so it may leave now: the way by the transport's buffer costs two epoll_ctl and a
            # pass of the reactor more for each message (docs/adr/0004). What the kernel does not take goes that way,
            # and so does a socket that fails.
            try:
                sent = self._plain_socket.send(data)
            except OSError:
                sent = 0
            if sent == len(data):
                return
            data = data[sent:]
        assert self.transport is not None
        self.transport.write(data)

    # Failures

    def _fail(self) -> None:
        if self.state == self.STATE_CONNECTING:
            self.failHandshake(NOT_WEBSOCKET)
            return
        if self.state == self.STATE_OPEN:
            self.sendCloseFrame(code=self.CLOSE_STATUS_CODE_PROTOCOL_ERROR)
        self.failedByMe = True

    def _tell_violation(self) -> None:
        if self._violation_told:
            return
        self._violation_told = True
        code = self.localCloseCode or self.CLOSE_STATUS_CODE_PROTOCOL_ERROR
        self.listener.violated(code, TOO_BIG if code == self.CLOSE_STATUS_CODE_MESSAGE_TOO_BIG else VIOLATION)
        self.drop_soon()

    def _drop(self) -> None:
        self._drop_call = None
        self.dropConnection(abort=True)


class BotFactory(WebSocketClientFactory):
    """Makes one protocol, and does not hold what it was made of."""

    noisy = False

    def __init__(self, clock: IReactorTime, make: Callable[[], BotProtocol]) -> None:
        super().__init__(reactor=clock)  # type: ignore[no-untyped-call]
        self._make: Callable[[], BotProtocol] | None = make

    def buildProtocol(self, addr: object) -> BotProtocol | None:
        make, self._make = self._make, None
        if make is None:
            return None
        protocol = make()
        protocol.factory = self
        return protocol


def client_factory(clock: IReactorTime, url: StreamUrl, turns: ReadTurns, listener: Listener) -> BotFactory:
    """A factory whose one protocol is a BotProtocol that tells ``listener``."""
    factory = BotFactory(clock, lambda: BotProtocol(clock, url, turns, listener))
    factory.setProtocolOptions(  # type: ignore[no-untyped-call]
        utf8validateIncoming=False,  # the JSON parser checks UTF-8
        maxFramePayloadSize=MAX_MESSAGE_BYTES,
        maxMessagePayloadSize=MAX_MESSAGE_BYTES,
        failByDrop=False,
        openHandshakeTimeout=0,
        closeHandshakeTimeout=0,
        serverConnectionDropTimeout=0,
    )
    return factory


def _nothing(result: object) -> None:
    pass
