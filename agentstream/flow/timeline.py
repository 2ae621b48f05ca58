"""A call's timeline: every decision about it as an event with monotonic time, logged and told to whoever watches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import attrs
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger


@attrs.frozen
class Event:
    """One thing that happened to a call.

    :ivar at: seconds of the node's monotonic clock.
    :ivar kind: a past-tense name such as ``step_started``.
    """

    call_sid: str
    at: float
    kind: str
    fields: Mapping[str, Any]

    def __str__(self) -> str:
        return " ".join([self.kind, *(f"{name}={value}" for name, value in self.fields.items())])


@attrs.define
class Timeline:
    """The events of one call. Each goes to the log, with ``call_sid``, ``kind``, ``at`` and ``fields`` as named fields
    of the log event (and ``timeline`` as the :class:`Event` itself), and then to the observers.

    :ivar observers: called with each event; what one raises is logged and harms nobody.
    """

    call_sid: str
    clock: IReactorTime
    observers: list[Callable[[Event], None]] = attrs.field(factory=list)

    log = Logger()

    def event(self, kind: str, fields: Mapping[str, Any] | None = None) -> Event:
        """Add an event, now."""
        event = Event(self.call_sid, self.clock.seconds(), kind, dict(fields or {}))
        self.log.info(
            "call {call_sid}: {timeline}",
            call_sid=event.call_sid,
            kind=event.kind,
            at=event.at,
            fields=event.fields,
            timeline=event,
        )
        for observer in list(self.observers):
            try:
                observer(event)
            except Exception:
                self.log.failure("an observer of the timeline of call {call_sid} failed", call_sid=self.call_sid)
        return event
