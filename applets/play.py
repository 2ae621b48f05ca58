"""Plays a sound file to the caller."""

from __future__ import annotations

from pathlib import Path

import attrs
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from zope.interface import implementer

from agentstream.interfaces import Applet, ICall, IRun, Outcome


@attrs.frozen
class Options:
    """What a step may set."""

    file: Path = attrs.field(metadata={"doc": "The sound file to play.", "file": "audio", "example": '"welcome.wav"'})
    early: bool = attrs.field(
        default=False,
        metadata={"doc": "Play it before the call is answered (183, early media), where it is not answered yet."},
    )


@implementer(IRun)
@attrs.define
class Run:
    """One file, played to one caller."""

    call: ICall
    options: Options
    _playing: Deferred[None] | None = None

    def start(self) -> Deferred[str]:
        """Done when the last sample has left."""
        if not self.options.early:
            return self.call.answer().addCallback(self._play)
        return self.call.early_media().addCallbacks(self._play, self._not_early)

    def _play(self, _: None) -> Deferred[str]:
        self._playing = self.call.play(self.options.file)
        return self._playing.addCallback(lambda _: "done")

    def _not_early(self, failure: Failure) -> str:
        self.call.event("early_media_refused", reason=failure.getErrorMessage())
        return "failed"

    def stop(self, reason: str) -> None:
        """Silence what has not been played."""
        if self._playing is not None:
            self._playing.cancel()


play = Applet(
    name="play",
    options=Options,
    run=Run,
    outcomes=(Outcome("done", "The file has been played."), Outcome("failed", "The file could not be played.")),
    needs_answer=False,  # a run answers by itself, unless it plays early
)
