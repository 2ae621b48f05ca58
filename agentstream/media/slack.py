"""Garbage collection in the slack of the tick, and never inside it.

A full collection over a warm server takes longer than a tick may. So what is there after start is frozen, automatic
collection is off, and the young generations are collected right after a tick that left time. A full collection waits
until no call is up.
"""

from __future__ import annotations

import gc
from collections.abc import Callable

from agentstream.media.measure import TimeHistogram

YOUNG_EVERY_TICKS = 25
FULL_EVERY_TICKS = 3000
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
        if not calls and self._full >= FULL_EVERY_TICKS:
            self._full = self._young = 0
            self._collect(2)
        elif self._young >= YOUNG_EVERY_TICKS and tick_s < SLACK_S:
            self._young = 0
            self._collect(1)

    def _collect(self, generation: int) -> None:
        began = self._seconds()
        gc.collect(generation)
        self.pauses.add(self._seconds() - began)
