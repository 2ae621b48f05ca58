"""What the timelines of all calls add up to: an observer that counts."""

from __future__ import annotations

from collections import Counter

import attrs

from agentstream.flow.timeline import Event
from agentstream.ws.connection import StreamCounters

STREAM_COUNTERS = tuple(field.name for field in attrs.fields(StreamCounters))


@attrs.define
class CallCounts:
    """Counted since the node started.

    :ivar ended: calls by who ended them: ``user`` or ``server``.
    :ivar streams_ended: by whether it was clean.
    :ivar passed: what :class:`agentstream.ws.connection.StreamCounters` counts, of all streams that are over.
    """

    started: int = 0
    ended: Counter[str] = attrs.Factory(Counter)
    streams_started: int = 0
    streams_failed: int = 0
    streams_ended: Counter[bool] = attrs.Factory(Counter)
    passed: Counter[str] = attrs.Factory(Counter)
    steps_failed: int = 0

    def observe(self, event: Event) -> None:
        """Take one event of any call."""
        kind, fields = event.kind, event.fields
        if kind == "call_started":
            self.started += 1
        elif kind == "call_ended":
            self.ended[fields["by"]] += 1
        elif kind == "stream_started":
            self.streams_started += 1
        elif kind == "stream_failed":
            self.streams_failed += 1
        elif kind == "stream_ended":
            self.streams_ended[fields["clean"]] += 1
            for name in STREAM_COUNTERS:
                self.passed[name] += fields.get(name, 0)
        elif kind == "step_failed":
            self.steps_failed += 1
