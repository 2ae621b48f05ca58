"""Plays a sound file to the caller."""

from __future__ import annotations

from pathlib import Path

import attrs
from twisted.internet.defer import Deferred
from twisted.plugin import IPlugin
from zope.interface import implementer

from agentstream.interfaces import IApplet, ICall, IRun, Outcome


@attrs.frozen
class Options:
    """What a step may set."""

    file: Path = attrs.field(metadata={"doc": "The sound file to play.", "file": "audio", "example": '"welcome.wav"'})


@implementer(IRun)
@attrs.define
class Run:
    """One file, played to one caller."""

    call: ICall
    options: Options
    _playing: Deferred[None] | None = None

    def start(self) -> Deferred[str]:
        """Done when the last sample has left."""
        self._playing = self.call.play(self.options.file)
        return self._playing.addCallback(lambda _: "done")

    def stop(self, reason: str) -> None:
        """Silence what has not been played."""
        if self._playing is not None:
            self._playing.cancel()


@implementer(IPlugin, IApplet)
@attrs.frozen
class Play:
    """The applet."""

    name = "play"
    options = Options
    outcomes = (Outcome("done", "The file has been played."), Outcome("failed", "The file could not be played."))
    needs_answer = True
    after_hangup = False

    def open(self, call: ICall, options: Options) -> Run:
        """One step of one call."""
        return Run(call, options)


play = Play()
