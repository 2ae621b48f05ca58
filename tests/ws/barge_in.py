"""A bot that is interrupted, for tests of barge-in: it speaks for 10 s at once and changes its mind after 2.

It keeps time by the caller's chunks, so it needs no clock: with the first chunk it sends 10 s of tone and the mark
``spoken``; when 2 s have come from the caller it sends ``clear`` and the mark ``cleared``; when 4 s have come, 1 s of
another tone and the mark ``later``. Run it on a real reactor with ``python -m tests.ws.barge_in``; it prints its port
and then every message that it gets but media, one JSON object a line.
"""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol

from agentstream.ws.protocol import SilentLog

CHUNK_MS = 100
SPOKEN_HZ, LATER_HZ = 440.0, 880.0


def tone(hertz: float, seconds: float, rate_hz: int) -> bytes:
    """Samples of a sine at half of full scale."""
    phase = 2.0 * np.pi * hertz * np.arange(int(seconds * rate_hz)) / rate_hz
    return (16384 * np.sin(phase)).astype("<i2").tobytes()


class BargeInBot(WebSocketServerProtocol):
    """One stream; ``on_event`` is told of every message but media."""

    log = SilentLog()

    def __init__(self, on_event: Callable[[dict[str, Any]], None]) -> None:
        super().__init__()
        self.on_event = on_event
        self.rate_hz = 8000
        self.heard_ms = 0.0
        self.said: list[str] = []

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        body = json.loads(payload)
        if body["event"] != "media":
            self.on_event(body)
        if body["event"] == "start":
            self.rate_hz = int(body["start"]["media_format"]["sample_rate"])
        elif body["event"] == "media":
            before = self.heard_ms
            self.heard_ms += len(base64.b64decode(body["media"]["payload"])) * 500.0 / self.rate_hz
            if before == 0.0:
                self.speak(SPOKEN_HZ, 10.0, "spoken")
            if before < 2000.0 <= self.heard_ms:
                self.say({"event": "clear"})
                self.say({"event": "mark", "mark": {"name": "cleared"}})
            if before < 4000.0 <= self.heard_ms:
                self.speak(LATER_HZ, 1.0, "later")

    def speak(self, hertz: float, seconds: float, mark: str) -> None:
        pcm = tone(hertz, seconds, self.rate_hz)
        size = self.rate_hz * 2 * CHUNK_MS // 1000
        for at in range(0, len(pcm), size):
            payload = base64.b64encode(pcm[at : at + size]).decode()
            self.say({"event": "media", "media": {"payload": payload}})
        self.say({"event": "mark", "mark": {"name": mark}})

    def say(self, body: dict[str, Any]) -> None:
        self.sendMessage(json.dumps(body).encode())


def barge_in_factory(reactor: Any, on_event: Callable[[dict[str, Any]], None]) -> WebSocketServerFactory:
    factory = WebSocketServerFactory(reactor=reactor)
    factory.setProtocolOptions(openHandshakeTimeout=0, closeHandshakeTimeout=0)
    factory.protocol = lambda: BargeInBot(on_event)
    factory.noisy = False
    return factory


def main() -> None:
    from twisted.internet import reactor

    def show(body: dict[str, Any]) -> None:
        print(json.dumps(body), flush=True)

    port = reactor.listenTCP(0, barge_in_factory(reactor, show), interface="127.0.0.1")
    show({"listening": f"127.0.0.1:{port.getHost().port}"})
    reactor.callLater(float(sys.argv[1]) if len(sys.argv) > 1 else 60.0, reactor.stop)
    reactor.run()


if __name__ == "__main__":
    main()
