"""Plays back to the caller what the caller says: for trying a line out."""

from __future__ import annotations

from collections.abc import Callable

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure
from zope.interface import implementer

from agentstream.interfaces import Applet, Audio, ICall, IRun, Outcome

CHUNK_MS = 20


@attrs.frozen
class Options:
    """What a step may set."""

    seconds: int = attrs.field(
        default=0,
        metadata={"doc": "How long; 0 goes on until the caller hangs up.", "unit": "s", "range": (0, 86400)},
    )


@implementer(IRun)
@attrs.define
class Run:
    """One echo for one caller."""

    call: ICall
    options: Options
    _done: Deferred[str] = attrs.field(factory=Deferred)
    _deaf: Callable[[], None] | None = None

    def start(self) -> Deferred[str]:
        """Done when the time is over, or when stopped."""
        self._deaf = self.call.hear(CHUNK_MS, self._heard)
        return self._done

    def _heard(self, chunk: Audio, timestamp_ms: int) -> None:
        self.call.play(chunk).addErrback(Failure.trap, CancelledError)
        if self.options.seconds and timestamp_ms + CHUNK_MS >= self.options.seconds * 1000:
            self.stop("stopped")

    def stop(self, reason: str) -> None:
        """Hear no more; what is queued is still played."""
        if self._deaf is not None:
            self._deaf()
            self._deaf = None
            self._done.callback("done")


echo = Applet(
    name="echo",
    options=Options,
    run=Run,
    outcomes=(Outcome("done", "The time is over."),),
)
