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

    def observe(event: LogEvent) -> None:
        line = line_of(event)
        if line is not None:
            output.write(line)
            output.flush()
        level = event.get("log_level")
        if "log_failure" in event or level in (LogLevel.error, LogLevel.critical):
            print(eventAsText(event, includeTimestamp=False), file=errors, flush=True)

    directlyProvides(observe, ILogObserver)
    return observe
