"""A server that does not ask who speaks: what voice activity costs is the difference to one that does.

Every server finds voice activity and no setting switches it off, so the bench takes it out of the process that it
starts (agentstream.cli.server.ServerSettings.hears_speech). Time goes on in it: events that are never told need none.
"""

from __future__ import annotations

from twisted.scripts import twistd

from agentstream.media.speech import Samples, SpeechWatch


def _hear_nothing(self: SpeechWatch, frames: Samples) -> None:
    self._frames += 1


def run() -> None:
    """What ``twistd`` does, without voice activity."""
    SpeechWatch.hear = _hear_nothing  # type: ignore[method-assign]
    twistd.run()
