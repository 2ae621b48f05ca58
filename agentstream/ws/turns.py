"""Who parses when: no burst from any number of bots may keep the reactor, and with it the tick, for long.

One :class:`ReadTurns` is shared by all connections of a reactor. A reader parses at once while there is time left in
the present window; what is left over waits in a queue that is worked off in slices, one for each turn of the reactor,
and each reader gets a small share of a slice, so that a ``clear`` does not wait behind another bot's minute of audio.
"""

from __future__ import annotations

from collections import deque
from typing import Protocol
from weakref import WeakValueDictionary

from twisted.internet.interfaces import IDelayedCall, IReactorTime

SLICE_S = 0.001
"""Seconds of parsing in one turn of the reactor."""

SHARE_S = 0.00025
"""Seconds of a slice that one reader may take."""

WINDOW_S = 0.004
"""Seconds after which the time for parsing at once is renewed."""


class Reader(Protocol):
    """A connection with bytes to parse."""

    def read_until(self, deadline: float) -> bool:
        """Parse until nothing whole is left or the clock passes ``deadline``; True when there is more."""

    def set_waiting(self, waiting: bool) -> None:
        """It waits for its turn (and should read no more from its socket meanwhile), or it does not any longer."""


class ReadTurns:
    """Gives parsing time to readers."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._waiting: deque[Reader] = deque()
        self._members: set[Reader] = set()
        self._call: IDelayedCall | None = None
        self._window_end = 0.0
        self._time_left = SLICE_S

    def admit(self, reader: Reader) -> None:
        """The reader has got bytes: it parses now or waits for its turn."""
        if reader in self._members:
            return
        now = self._clock.seconds()
        if now >= self._window_end:
            self.renew(now)
        if self._waiting or self._time_left <= 0.0:
            self._enqueue(reader)
            return
        more = reader.read_until(now + min(self._time_left, SHARE_S))
        self._time_left -= self._clock.seconds() - now
        if more:
            self._enqueue(reader)

    def renew(self, now: float) -> None:
        """Whoever calls this bounds the time itself: a new window begins."""
        self._window_end = now + WINDOW_S
        self._time_left = SLICE_S

    def _enqueue(self, reader: Reader) -> None:
        if reader in self._members:  # its own parsing admitted it
            return
        self._members.add(reader)
        self._waiting.append(reader)
        reader.set_waiting(True)
        if self._call is None:
            self._call = self._clock.callLater(0, self._run)

    def _run(self) -> None:
        self._call = None
        now = self._clock.seconds()
        end = now + SLICE_S
        while self._waiting and now < end:
            reader = self._waiting.popleft()
            if reader.read_until(min(end, now + SHARE_S)):
                self._waiting.append(reader)
            else:
                self._members.discard(reader)
                reader.set_waiting(False)
            now = self._clock.seconds()
        if self._waiting and self._call is None:
            self._call = self._clock.callLater(0, self._run)


_turns: WeakValueDictionary[int, ReadTurns] = WeakValueDictionary()


def turns_of(clock: IReactorTime) -> ReadTurns:
    """The one ReadTurns of a reactor, for as long as any connection holds it."""
    turns = _turns.get(id(clock))
    if turns is None:
        turns = _turns[id(clock)] = ReadTurns(clock)
    return turns
