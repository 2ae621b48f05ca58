"""The sample echo bot for ``agentstream demo``: the same bot, which also tells when it wrote what.

Run as a process: ``python -m agentstream.cli.demo_bot``. News: ``listening`` (port), ``stream`` (event) for each
message that came, and ``written`` for each media message that it wrote: the monotonic time just before the write, and
the first 20 ms of its sound, by which a packet that carries them can be known.
"""

from __future__ import annotations

import time
from typing import Any

import orjson
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.python.failure import Failure

from agentstream.cli.bench.control import tell
from agentstream.testing.bot import EchoBot, echo_bot_factory

HEAD_CHARACTERS = 428
"""Base64 of the first 320 bytes of PCM16, which are 20 ms at 8 kHz, and one byte more."""


class TimedEchoBot(EchoBot):
    """One stream of the echo bot."""

    def sendMessage(self, payload: bytes, *args: Any, **options: Any) -> None:
        """Tell when, then write."""
        at_ns = time.monotonic_ns()
        super().sendMessage(payload, *args, **options)  # type: ignore[no-untyped-call]
        body = orjson.loads(payload)
        if body.get("event") == "media":
            tell("written", at_ns=at_ns, head=body["media"]["payload"][:HEAD_CHARACTERS])


def run() -> int:
    """Serve until SIGTERM."""
    from twisted.internet import reactor as installed

    reactor: Any = installed
    bots: set[EchoBot] = set()
    failures: list[Failure] = []

    def came(event: dict[str, Any]) -> None:
        tell("stream", event=event.get("event", "closed"), at_ns=time.monotonic_ns())

    def failed(failure: Failure) -> None:
        failures.append(failure)
        reactor.stop()

    def listen() -> None:
        factory = echo_bot_factory(reactor, came, bots)
        factory.protocol = lambda: TimedEchoBot(bots, came)  # type: ignore[assignment]
        endpoint = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
        endpoint.listen(factory).addCallbacks(lambda port: tell("listening", port=port.getHost().port), failed)

    reactor.callWhenRunning(listen)
    reactor.run()
    for failure in failures:
        failure.printTraceback()
    return len(failures)


if __name__ == "__main__":
    raise SystemExit(run())
