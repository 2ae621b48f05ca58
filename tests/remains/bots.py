"""Bots of every kind in one process: ``python -m tests.remains.bots CA_FILE``, which it writes. News: the ports."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import orjson
from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from twisted.internet.task import deferLater
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

from agentstream.cli.bench.control import tell
from agentstream.cli.server import HOST
from agentstream.testing.bot import EchoBot, echo_bot_factory
from tests.ws.test_tls import make_pki

HEARD_BEFORE_THE_END = 4


class Leaver(EchoBot):
    """Echoes, and ends it: ``/closes`` with a close frame, ``/gone`` without one, ``/broken`` with what is no frame."""

    path = ""
    heard = 0

    def onConnect(self, request: Any) -> Any:
        self.path = request.path
        return None

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        super().onMessage(payload, isBinary)
        self.heard += 1
        if self.heard == HEARD_BEFORE_THE_END:
            transport: Any = self.transport
            if self.path == "/closes":
                self.sendClose(1000)
            elif self.path == "/gone":
                transport.abortConnection()
            elif self.path == "/broken":
                transport.write(b"\xff\xff\xff\xff")


class Refuser(WebSocketServerProtocol):
    """Answers each handshake with 403."""

    def onConnect(self, request: Any) -> Any:
        from autobahn.websocket.types import ConnectionDeny

        raise ConnectionDeny(403)


class Where(Resource):
    """Says where a bot is; ``/late`` never does."""

    isLeaf = True

    def __init__(self, url: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.url = url

    def render_GET(self, request: Any) -> Any:
        if request.path == b"/late":
            return NOT_DONE_YET
        if request.path == b"/nowhere":
            return b"{}"
        return orjson.dumps({"url": self.url})


def run(ca_file: Path) -> None:
    from twisted.internet import reactor as installed

    reactor: Any = installed
    pki = make_pki()
    ca_file.write_bytes(pki.ca_pem)
    bots: set[EchoBot] = set()

    def serve(factory: Any) -> int:
        port: int = reactor.listenTCP(0, factory, interface=HOST).getHost().port
        return port

    def listen() -> None:
        factory = echo_bot_factory(reactor, lambda event: None, bots)
        factory.protocol = lambda: Leaver(bots, lambda event: None)  # type: ignore[assignment]
        refusing = WebSocketServerFactory(reactor=reactor)
        refusing.protocol = Refuser
        plain = serve(factory)
        ports = {
            "plain": plain,
            "tls": serve(TLSMemoryBIOFactory(pki, False, factory, reactor)),
            "refusing": serve(refusing),
            "web": serve(Site(Where(f"ws://{HOST}:{plain}/found"))),
        }
        deferLater(reactor, 0, tell, "listening", **ports)

    reactor.callWhenRunning(listen)
    reactor.run()


if __name__ == "__main__":
    run(Path(sys.argv[1]))
