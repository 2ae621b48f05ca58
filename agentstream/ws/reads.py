"""Bots' sockets are read once a tick and not once a message.

What a bot says cannot leave before the next tick of media, so nothing is gained by waking up for it at once. One
:class:`Reads` takes the sockets of open streams out of the reactor's hands: an epoll object of its own tells which have
something to read, shortly before each tick is due, and each of those is read by ``doRead`` of IReadDescriptor as the
reactor would. Whatever is not plain reading, the end of a connection above all, is given back to the reactor.

The work of a pass is bounded as that of :mod:`agentstream.ws.turns` is: what takes longer than a slice goes on in the
next turn of the reactor, so that a tick comes between when it is due.
"""

from __future__ import annotations

import contextlib
import select
from collections import deque
from typing import Any, Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorFDSet, IReactorTime
from twisted.internet.tcp import Connection
from twisted.logger import Logger

from agentstream.ws.turns import SLICE_S, turns_of

MARGIN_S = 0.001
"""A pass begins this much earlier than passes take on average."""

LAST_S = 0.001
"""For no longer than this a tick waits for what came behind the pass, or for what the pass could not finish."""

MOST_AHEAD_S = 0.004
"""No pass begins earlier than this before its tick."""

NEWEST = 0.1
"""The part that the latest pass has in what passes take on average."""


class PolledReader(Protocol):
    """A connection whose socket is read here."""

    def read_by_reactor(self) -> None:
        """The reactor reads it from now on: there is more to it than bytes, or nobody else does any longer."""


class Reads:
    """Reads the sockets of streams shortly before each tick.

    Without epoll, and on a reactor that has no sockets, it can take none: they stay with the reactor.
    """

    log = Logger()

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._turns = turns_of(clock)
        self._has_sockets = hasattr(select, "epoll") and IReactorFDSet.providedBy(clock)
        self._poll: Any = None
        self._transports: dict[int, tuple[Connection, PolledReader]] = {}
        self._places: dict[PolledReader, int] = {}
        self._ready: deque[int] = deque()
        self._call: IDelayedCall | None = None
        self._due: float | None = None
        self._began: float | None = None
        self._took_s = 0.0

    # When

    def tick_follows(self, due: float) -> None:
        """The next tick is due at this time, in monotonic seconds: read before it. Called after each tick."""
        if self._due is None and self._poll is None and self._has_sockets:
            # With the first tick and not with the first bot: what a server holds open does not depend on its calls.
            with contextlib.suppress(OSError):
                self._poll = select.epoll()
        self._due = due
        if self._call is None and self._places:
            self._plan()

    def tick_begins(self) -> None:
        """Called at the very beginning of each tick: what has come by now leaves in it."""
        if not self._places:
            return
        now = self._clock.seconds()
        self._turns.renew(now)
        if self._read_until(now + LAST_S):
            self._finish()
            if self._call is not None:
                self._call.cancel()
                self._call = None
        elif self._call is None:
            self._began = now
            self._call = self._clock.callLater(0, self._run)

    def _plan(self) -> None:
        if self._due is not None:
            left = self._due - min(self._took_s + MARGIN_S, MOST_AHEAD_S) - self._clock.seconds()
            self._call = self._clock.callLater(max(0.0, left), self._run)

    def _read_soon(self) -> None:
        if self._began is None:
            if self._call is not None:
                self._call.cancel()
            self._call = self._clock.callLater(0, self._run)

    def stop(self) -> None:
        """No tick follows: the reactor reads all of them from now on."""
        self._due = self._began = None
        if self._call is not None:
            self._call.cancel()
            self._call = None
        for reader in list(self._places):
            reader.read_by_reactor()
        self._ready.clear()
        if self._poll is not None:
            self._poll.close()
            self._poll = None

    # Whose sockets

    def can_take(self, transport: object) -> bool:
        """Ticks go on, and this is a connection of the kernel's."""
        return self._due is not None and self._has_sockets and isinstance(transport, Connection)

    def add(self, transport: Connection, reader: PolledReader) -> None:
        """Read this transport, one that can be taken and that the reactor does not read, from now on.

        When that fails, or no tick follows any more, its reader is told to have the reactor read it.
        """
        place = transport.fileno()
        if reader in self._places or place < 0:
            return
        if self._due is None:
            reader.read_by_reactor()
            return
        try:
            if self._poll is None:
                self._poll = select.epoll()
            self._poll.register(place, select.EPOLLIN | select.EPOLLRDHUP)
        except OSError:  # the kernel has no room for it
            reader.read_by_reactor()
            return
        self._places[reader] = place
        self._transports[place] = (transport, reader)
        self._read_soon()

    def remove(self, reader: PolledReader) -> None:
        """Read it no more; harmless when it is not read here, and after its socket has been closed."""
        place = self._places.pop(reader, None)
        if place is None:
            return
        del self._transports[place]
        with contextlib.suppress(OSError):  # the kernel forgets a socket that is closed
            self._poll.unregister(place)

    # A pass

    def _run(self) -> None:
        self._call = None
        now = self._clock.seconds()
        end = now + SLICE_S
        if self._began is None:
            self._began = now
        self._turns.renew(now)
        if not self._read_until(end):
            self._call = self._clock.callLater(0, self._run)
            return
        self._finish()
        if self._is_early():
            self._plan()

    def _read_until(self, end: float) -> bool:
        """Read what there is; True when that is all, before this time."""
        while self._ready or self._look():
            self._read(self._ready.popleft())
            if self._clock.seconds() >= end:
                return False
        return True

    def _finish(self) -> None:
        if self._began is not None:
            took_s = min(MOST_AHEAD_S, self._clock.seconds() - self._began)
            self._took_s += NEWEST * (took_s - self._took_s)
            self._began = None

    def _is_early(self) -> bool:
        """What comes until the next tick is for another pass."""
        return self._due is not None and self._due - self._clock.seconds() > MOST_AHEAD_S

    def _look(self) -> bool:
        """Ask which sockets can be read; the reactor meets what is more than that."""
        if not self._places:
            return False
        for place, events in self._poll.poll(0, len(self._places)):
            if events == select.EPOLLIN:
                self._ready.append(place)
            else:
                self._give_back(place)
        return bool(self._ready)

    def _read(self, place: int) -> None:
        if place not in self._transports:
            return  # whoever was read before has ended it, or had it wait
        transport, _ = self._transports[place]
        try:
            is_over = transport.doRead() is not None
        except Exception:
            self.log.failure("what a bot sent could not be taken")
            transport.abortConnection()
            is_over = True
        if is_over:
            self._give_back(place)

    def _give_back(self, place: int) -> None:
        if place in self._transports:
            self._transports[place][1].read_by_reactor()
