"""A server that says what is left of its calls: ``python -m tests.remains.server CONFIG``, orders on standard input.

Nothing is ever collected in it, so whatever is there no more has been freed by reference counting. What cannot be told
from what a server keeps for ever (caches, and Deferreds of the reactor's) is found by the collector afterwards, as
garbage in cycles.
"""

from __future__ import annotations

import gc
import os
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import attrs
import orjson
from twisted.logger import ILogObserver, LogLevel, eventAsText, globalLogBeginner
from zope.interface import provider

from agentstream.cli.bench.control import tell
from agentstream.flow.loader import load
from agentstream.service import NodeService

OURS = ("agentstream.", "applets.")
THEIRS = ("autobahn.", "treq.", "twisted.internet.tcp.", "twisted.protocols.", "twisted.web.")
KINDS = frozenset({"socket.socket", "twisted.python.failure.Failure", "twisted.internet.endpoints._WrappingFactory"})
KEPT = frozenset({"agentstream.sip.uri.Uri", "agentstream.media.recording.Tape", "agentstream.media.recording._Place"})
"""Parsing caches a bounded number of URIs, and tapes that are over go at the beginning of the next tick with a call."""

LOOK_EVERY_S = 0.02
PATIENCE_S = 8.0


def kind_of(thing: object) -> str:
    kind = type(thing)
    return f"{kind.__module__}.{kind.__qualname__}"


def is_ours(kind: str) -> bool:
    return kind in KINDS or kind.startswith(OURS + THEIRS)


def there() -> Counter[str]:
    """What a call may be made of, by its type; what was there at the start is frozen and not counted."""
    kinds = (kind_of(thing) for thing in gc.get_objects())
    return Counter(kind for kind in kinds if is_ours(kind) and kind not in KEPT)


def cycles() -> Counter[str]:
    """Garbage that reference counting could not free."""
    gc.set_debug(gc.DEBUG_SAVEALL)
    gc.collect()
    found = Counter(filter(is_ours, map(kind_of, gc.garbage)))
    gc.set_debug(0)
    gc.garbage.clear()
    gc.collect()
    return found


@attrs.define
class Watch:
    """Looks after each call, on the server's reactor.

    :ivar before: what was there before the call.
    :ivar ahead_s: what the reactor's clock is ahead of the real one, so that nobody waits for SIP's timers.
    """

    reactor: Any
    ahead_s: float = 0.0
    before: Counter[str] = attrs.Factory(Counter)

    def seconds(self) -> float:
        return time.monotonic() + self.ahead_s

    def start(self) -> None:
        gc.collect()
        gc.freeze()
        gc.disable()
        self.before = there()

    def look(self, until: float) -> None:
        """Tell what is left as soon as that is nothing, or when waiting for it has taken too long."""
        left = there() - self.before
        if left and time.monotonic() < until:
            self.reactor.callLater(LOOK_EVERY_S, self.look, until)
            return
        tell("remains", left=left, cycles=cycles(), open_files=len(os.listdir("/proc/self/fd")))
        self.before = there()

    def take_order(self, order: dict[str, Any]) -> None:
        if order["kind"] == "pass":
            self.ahead_s += order["seconds"]
        self.look(time.monotonic() + PATIENCE_S)


def run(config: Path) -> None:
    from twisted.internet import reactor as installed

    reactor: Any = installed
    watch = Watch(reactor)
    reactor.seconds = watch.seconds
    service = NodeService(reactor, load(config), is_alone=False)

    @provider(ILogObserver)
    def log(event: Any) -> None:
        if event["log_level"] >= LogLevel.warn:
            print(eventAsText(event), file=sys.stderr, flush=True)

    def read_orders() -> None:
        for line in sys.stdin.buffer:
            reactor.callFromThread(watch.take_order, orjson.loads(line))
        reactor.callFromThread(reactor.stop)

    def begin() -> None:
        service.startService()
        watch.start()
        threading.Thread(target=read_orders, daemon=True).start()
        tell("ready")

    globalLogBeginner.beginLoggingTo([log], redirectStandardIO=False)
    reactor.addSystemEventTrigger("before", "shutdown", service.stopService)
    reactor.callWhenRunning(begin)
    reactor.run()


if __name__ == "__main__":
    run(Path(sys.argv[1]))
