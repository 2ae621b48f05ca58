"""Garbage collection in the slack of the tick, and never inside it.

A full collection over a warm server takes longer than a tick may. So what is there after start is frozen, automatic
collection is off, and the young generations are collected right after a tick that left time. A full collection waits
until no call is up: an ended call is freed by counting references alone. Should something leave cycles all the same,
the old generation grows. That is looked at once a minute, and when it has grown by far more than calls can hold, a
late tick is the smaller evil.
"""

from __future__ import annotations

import gc
from collections.abc import Callable

from agentstream.media.measure import TimeHistogram

YOUNG_EVERY_TICKS = 25
FULL_EVERY_TICKS = 3000
GROWN_OBJECTS = 200_000
"""Objects beyond those of the last full collection: about what 600 calls hold."""

SLACK_S = 0.010
"""A tick that took less than this has left time for the young generations."""


class SlackCollector:
    """Collects between ticks.

    :param seconds: the clock, in monotonic seconds.
    :ivar pauses: how long the collections took.
    """

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self._young = 0
        self._full = 0
        self._old_objects = 0
        self.pauses = TimeHistogram()

    def start(self) -> None:
        """Freeze what is there and take collection over from the interpreter."""
        gc.collect()
        gc.freeze()
        gc.disable()

    def stop(self) -> None:
        """Give collection back."""
        gc.enable()
        gc.unfreeze()

    def after_tick(self, tick_s: float, calls: int) -> None:
        """Use what a tick that took ``tick_s`` seconds has left."""
        self._young += 1
        self._full += 1
        if self._full >= FULL_EVERY_TICKS and (not calls or (tick_s < SLACK_S and self._has_grown())):
            self._full = self._young = 0
            self._collect(2)
            self._old_objects = len(gc.get_objects(2))
        elif self._young >= YOUNG_EVERY_TICKS and tick_s < SLACK_S:
            self._young = 0
            self._collect(1)

    def _has_grown(self) -> bool:
        self._full = 0  # asked again in a minute
        return len(gc.get_objects(2)) > self._old_objects + GROWN_OBJECTS

    def _collect(self, generation: int) -> None:
        began = self._seconds()
        gc.collect(generation)
        self.pauses.add(self._seconds() - began)
