"""HTTP servers in memory that answer with bytes, so that they can also answer badly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure

from agentstream.testing.reactor import MemoryReactor

PUBLIC = "11.0.0.1"
"""An address of the open internet; nobody is called there."""


def answer(body: bytes | str, status: str = "200 OK", *headers: str) -> bytes:
    """A whole answer."""
    content = body.encode() if isinstance(body, str) else body
    head = [f"HTTP/1.1 {status}", f"Content-Length: {len(content)}", *headers]
    return "\r\n".join([*head, "", ""]).encode() + content


def redirect(location: str, status: str = "302 Found") -> bytes:
    """An answer that leads elsewhere."""
    return answer("gone", status, f"Location: {location}")


@attrs.define(eq=False)
class WebServer:
    """Listens, keeps every request and gives the answers in turn, the last again and again.

    :ivar tls: an IOpenSSLServerConnectionCreator.
    :ivar requests: heads as text.
    :ivar lost: connections that have ended.
    """

    reactor: MemoryReactor
    answers: list[bytes | Callable[[Any], None]]
    host: str = "127.0.0.1"
    port: int = 8000
    tls: Any = None
    requests: list[str] = attrs.field(factory=list)
    connections: int = 0
    lost: int = 0
    listening: Any = None

    def __attrs_post_init__(self) -> None:
        server = self

        class Connection(Protocol):
            data = b""

            def connectionMade(self) -> None:
                server.connections += 1

            def dataReceived(self, data: bytes) -> None:
                self.data += data
                if b"\r\n\r\n" in self.data:
                    server.requests.append(self.data.decode())
                    self.data = b""
                    say = server.answers.pop(0) if len(server.answers) > 1 else server.answers[0]
                    if callable(say):
                        say(self.transport)
                    else:
                        self.transport.write(say)

            def connectionLost(self, reason: Failure = connectionDone) -> None:
                server.lost += 1

        factory: Any = Factory.forProtocol(Connection)
        factory.noisy = False
        if self.tls is not None:
            factory = TLSMemoryBIOFactory(self.tls, False, factory, self.reactor)
            factory.noisy = False
        self.listening = self.reactor.listenTCP(self.port, factory, interface=self.host)

    @property
    def targets(self) -> list[str]:
        """What the requests asked for."""
        return [request.split(" ")[1] for request in self.requests]

    def header(self, name: str, index: int = -1) -> str | None:
        """A header of a request."""
        for line in self.requests[index].split("\r\n")[1:]:
            key, _, value = line.partition(":")
            if key.lower() == name.lower():
                return value.strip()
        return None
