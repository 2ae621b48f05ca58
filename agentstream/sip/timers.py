"""Deadlines by letter: every timer of all transactions and sessions in one heap, so the edge needs one DelayedCall.

The letters and values are those of RFC 3261 section 17 (table 4 of its appendix A) and RFC 6026.
"""

from __future__ import annotations

import heapq
from typing import Protocol

T1 = 0.5
"""Seconds: an estimate of the round-trip time."""
T2 = 4.0
"""Seconds: the longest interval between retransmissions of non-INVITE requests and of INVITE responses."""
T4 = 5.0
"""Seconds: how long a message stays in the network."""


class Deadline:
    """One running or cancelled timer; a cancelled one has no owner and waits to be popped."""

    __slots__ = ("letter", "owner")

    def __init__(self, owner: TimerOwner, letter: str) -> None:
        self.owner: TimerOwner | None = owner
        self.letter = letter


class TimerOwner(Protocol):
    """Who has timers. ``deadlines`` belongs to :class:`Timers`."""

    deadlines: dict[str, Deadline]

    def timer_fired(self, letter: str, now: float) -> None: ...


class Timers:
    """All deadlines, as a heap of (monotonic seconds, serial number, Deadline)."""

    __slots__ = ("_cancelled", "_heap", "_number")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Deadline]] = []
        self._number = 0
        self._cancelled = 0

    def set(self, owner: TimerOwner, letter: str, when: float) -> None:
        """Start, or start again, the owner's timer of this letter; ``when`` in monotonic seconds."""
        self.cancel(owner, letter)
        self._number += 1
        owner.deadlines[letter] = deadline = Deadline(owner, letter)
        heapq.heappush(self._heap, (when, self._number, deadline))

    def cancel(self, owner: TimerOwner, letter: str) -> None:
        """Stop it; harmless where it does not run."""
        deadline = owner.deadlines.pop(letter, None)
        if deadline is None:
            return
        deadline.owner = None
        self._cancelled += 1
        if self._cancelled > 1000 and self._cancelled * 2 > len(self._heap):
            self._heap = [entry for entry in self._heap if entry[2].owner is not None]
            heapq.heapify(self._heap)
            self._cancelled = 0

    def cancel_all(self, owner: TimerOwner) -> None:
        """Stop every timer of the owner."""
        for letter in list(owner.deadlines):
            self.cancel(owner, letter)

    def next(self) -> float | None:
        """The earliest deadline, None when nothing runs."""
        heap = self._heap
        while heap and heap[0][2].owner is None:
            heapq.heappop(heap)
            self._cancelled -= 1
        return heap[0][0] if heap else None

    def fire(self, now: float) -> None:
        """Call the owners of all deadlines that have passed, earliest first; those that they set for now or before
        run too."""
        while True:
            when = self.next()
            if when is None or when > now:
                return
            deadline = heapq.heappop(self._heap)[2]
            owner = deadline.owner
            if owner is not None:
                deadline.owner = None
                owner.deadlines.pop(deadline.letter, None)
                owner.timer_fired(deadline.letter, now)

    def __len__(self) -> int:
        """How many run."""
        return len(self._heap) - self._cancelled
