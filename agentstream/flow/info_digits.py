"""Digits to a far end that takes them by INFO: one after the other, each behind the answer to the one before."""

from __future__ import annotations

from collections.abc import Callable

import attrs
from twisted.internet.defer import Deferred

from agentstream.errors import AgentstreamError


@attrs.define(eq=False)
class InfoDigits:
    """Those of one leg.

    :ivar send: sends one digit of so many milliseconds; its answer comes to :meth:`answered`.
    """

    send: Callable[[str, int], None]
    _left: list[str] = attrs.Factory(list)
    _duration_ms: int = 0
    _done: Deferred[None] | None = None

    @property
    def is_sending(self) -> bool:
        return self._done is not None

    def begin(self, digits: str, duration_ms: int) -> Deferred[None]:
        """Fires when the last one has been taken; errbacks where one is not."""
        self._left, self._duration_ms = list(digits), duration_ms
        done: Deferred[None] = Deferred()
        self._done = done
        self._next()
        return done

    def _next(self) -> None:
        if self._left:
            self.send(self._left.pop(0), self._duration_ms)
        else:
            self._end(None)

    def answered(self, status: int, reason: str) -> None:
        """The last one has its answer."""
        if self._done is None:
            return
        if status < 300:
            self._next()
        else:
            self._end(AgentstreamError(f"a digit was refused: {reason}"))

    def stop(self) -> None:
        """The leg is over."""
        self._end(AgentstreamError("the caller is gone"))

    def _end(self, error: AgentstreamError | None) -> None:
        done, self._done = self._done, None
        self._left = []
        if done is not None and error is None:
            done.callback(None)
        elif done is not None and error is not None:
            done.errback(error)
