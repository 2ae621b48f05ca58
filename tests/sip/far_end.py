"""The far end of a connection in memory: it keeps what comes."""

from __future__ import annotations

from twisted.internet.protocol import Protocol


class FarEnd(Protocol):
    """:ivar data: what has come and was not taken. :ivar is_closed: the connection is gone."""

    def __init__(self) -> None:
        self.data = b""
        self.is_closed = False

    def dataReceived(self, data: bytes) -> None:
        self.data += data

    def connectionLost(self, reason: object = None) -> None:
        self.is_closed = True
