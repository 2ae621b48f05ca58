"""Who of a call hears what the far end does: the digits that it sends, and when it speaks."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec

import attrs
from twisted.logger import Logger

from agentstream.media.speech import SpeechChange

P = ParamSpec("P")


def _added(fns: list[Callable[P, None]], fn: Callable[P, None]) -> Callable[[], None]:
    """Returns what takes it out again, harmless where it is out."""
    fns.append(fn)

    def stop() -> None:
        if fn in fns:
            fns.remove(fn)

    return stop


@attrs.define(eq=False)
class Hearers:
    """Those of one leg. One that fails is logged, and the others hear all the same.

    :ivar digit_source: ``rtp`` or ``info``, whichever said a digit first; empty before that.
    """

    log = Logger()

    digit_source: str = ""
    _digit_fns: list[Callable[[str, int], None]] = attrs.Factory(list)
    _speech_fns: list[Callable[[SpeechChange], None]] = attrs.Factory(list)

    def add_digits(self, fn: Callable[[str, int], None]) -> Callable[[], None]:
        """``fn(digit, duration_ms)`` for each digit; returns what ends it."""
        return _added(self._digit_fns, fn)

    def add_speech(self, fn: Callable[[SpeechChange], None]) -> Callable[[], None]:
        """``fn(change)`` when the far end begins and stops to speak; returns what ends it."""
        return _added(self._speech_fns, fn)

    def believes(self, source: str) -> bool:
        """Phones that say each digit in both ways are believed in one: the first."""
        self.digit_source = self.digit_source or source
        return source == self.digit_source

    def tell_digit(self, digit: str, duration_ms: int) -> None:
        """A digit that is believed."""
        self._tell(self._digit_fns, "digits", digit, duration_ms)

    def tell_speech(self, change: SpeechChange) -> None:
        """It has begun or stopped to speak."""
        self._tell(self._speech_fns, "speech", change)

    def _tell(self, fns: list[Callable[P, None]], what: str, *args: P.args, **kwargs: P.kwargs) -> None:
        for fn in list(fns):
            try:
                fn(*args, **kwargs)
            except Exception:
                self.log.failure("a listener for {what} failed", what=what)
