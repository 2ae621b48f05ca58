"""What a call was asked to play, in the order of asking: a file that is still being read holds its place."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.python.failure import Failure

from agentstream.flow.ileg import ILeg
from agentstream.flow.prompts import Prompts
from agentstream.interfaces import Audio


@attrs.define(eq=False)
class _Item:
    """One thing to play. ``work`` is what a cancel reaches: first the reading of its file, then the playing."""

    done: Deferred[None]
    audio: Audio | None = None
    work: Deferred[Any] | None = None
    is_over: bool = False


@attrs.define(eq=False)
class Playlist:
    """The order of one call's sounds before they reach its leg."""

    leg: ILeg
    prompts: Prompts
    _waiting: deque[_Item] = attrs.field(factory=deque)

    def play(self, audio: Audio | Path) -> Deferred[None]:
        """Queue samples or a file; as :meth:`agentstream.interfaces.ICall.play`."""
        item = _Item(Deferred(lambda _: self._cancel(item)))
        if isinstance(audio, Path):
            self._waiting.append(item)
            item.work = self.prompts.fetch(audio, self.leg.rate_hz)
            item.work.addCallbacks(self._read, self._end, callbackArgs=(item,), errbackArgs=(item,))
        elif not isinstance(audio, np.ndarray) or audio.dtype != np.int16 or audio.ndim != 1:
            raise TypeError("what is played is a Path or a one-dimensional numpy array of int16")
        else:
            self._waiting.append(item)
            self._read(audio, item)
        return item.done

    def _read(self, audio: Audio, item: _Item) -> None:
        item.audio, item.work = audio, None
        self._hand_over()

    def _hand_over(self) -> None:
        """Give the leg everything up to the first file that is still being read."""
        while self._waiting and (self._waiting[0].audio is not None or self._waiting[0].is_over):
            item = self._waiting.popleft()
            if item.audio is not None and not item.is_over:
                item.work = maybeDeferred(self.leg.play, item.audio)
                item.audio = None
                item.work.addBoth(self._end, item)

    def _end(self, result: Failure | None, item: _Item) -> None:
        if not item.is_over:
            item.is_over = True
            item.done.callback(result)
        self._hand_over()

    def _cancel(self, item: _Item) -> None:
        item.is_over = True
        if item.work is not None:
            item.work.cancel()
        self._hand_over()
