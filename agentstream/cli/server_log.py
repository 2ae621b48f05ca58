"""A server's log for the process that started it: ``twistd --logger agentstream.cli.server_log.observer``.

Every event of a call's timeline, and every other event that carries a ``kind``, is one JSON object a line on standard
output: ``{"kind": "timeline" | "metric", "event": ..., "at": monotonic seconds, "call_sid": ..., "fields": {...}}``.
Errors are text on standard error, tracebacks and all.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import orjson
from twisted.logger import ILogObserver, LogEvent, LogLevel, eventAsText
from zope.interface import directlyProvides

FLUSH_S = 0.005
"""Lines of so long leave in one system call: a call that begins has six. What is left at the end, the interpreter
writes."""


def line_of(event: LogEvent) -> bytes | None:
    """The JSON line of a log event; None for one that has no kind."""
    kind = event.get("kind")
    if not isinstance(kind, str):
        return None
    fields = event.get("fields")
    if not isinstance(fields, dict):
        known = ("kind", "at", "call_sid", "timeline", "fields")
        fields = {name: value for name, value in event.items() if name not in known and not name.startswith("log_")}
    said: dict[str, Any] = {
        "kind": "timeline" if "timeline" in event else "metric",
        "event": kind,
        "at": event.get("at"),
        "call_sid": event.get("call_sid", ""),
        "fields": fields,
    }
    # Fields may hold anything that a drop-in put there; what JSON does not know is told as text.
    return orjson.dumps(said, default=str, option=orjson.OPT_NON_STR_KEYS) + b"\n"


def observer() -> Callable[[LogEvent], None]:
    """The observer that twistd's option asks for."""
    output, errors = sys.stdout.buffer, sys.stderr
    is_waiting = False

    def flush() -> None:
        nonlocal is_waiting
        is_waiting = False
        output.flush()

    def observe(event: LogEvent) -> None:
        nonlocal is_waiting
        line = line_of(event)
        if line is not None:
            output.write(line)
            if not is_waiting:
                # Imported here: twistd chooses it behind the options, and importing it would install one.
                from twisted.internet import reactor as installed

                reactor: Any = installed
                is_waiting = True
                reactor.callLater(FLUSH_S, flush)
        level = event.get("log_level")
        if "log_failure" in event or level in (LogLevel.error, LogLevel.critical):
            print(eventAsText(event, includeTimestamp=False), file=errors, flush=True)

    directlyProvides(observe, ILogObserver)
    return observe
