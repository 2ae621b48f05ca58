"""Legs that hear each other: what one hears, the other is sent, for all pairs at once.

A tick sends before it hears, so a frame that one leg hears is sent to the other in the next tick. A late tick sends
more frames than it has: the missing ones are silence, and what it hears then keeps for later hides the next late tick.
That surplus goes where nobody speaks, 20 ms at a time.

Rows that both have 16,000 samples a second pass these on as they are, all others what they have at 8,000.
"""

from __future__ import annotations

from collections.abc import Collection

import attrs
import numpy as np
import numpy.typing as npt

from agentstream.errors import LocalProtocolError
from agentstream.media.rates import add_clipped
from agentstream.media.wide import WideRows

Pcm = npt.NDArray[np.int16]
Rows = npt.NDArray[np.intp]

DEPTH = 5
"""Frames that wait for a leg at the most: as many as a late tick sends."""
QUIET = 200
"""No sample of a frame that is left out is larger; about -44 dBov."""

_NO_ROWS: Rows = np.zeros(0, np.intp)


@attrs.frozen(eq=False)
class Passed:
    """One slot of what bridged rows are sent.

    :ivar rows: who gets ``frames``, int16 (k, 160).
    :ivar wide_rows: who gets ``wide``, int16 (j, 320), and ``lowered``, int16 (j, 160), the same at 8,000.
    """

    rows: Rows
    frames: Pcm
    wide_rows: Rows
    wide: Pcm
    lowered: Pcm


class Bridges:
    """All pairs of one node.

    :param rows: how many rows there can be.
    """

    def __init__(self, rows: int, frame: int, wide_frame: int) -> None:
        # Pages of it come into being when a pair first writes there.
        self._narrow = np.zeros((rows, DEPTH, frame), np.int16)
        self._wide = np.zeros((rows, DEPTH, wide_frame), np.int16)
        self._has_wide = np.zeros((rows, DEPTH), np.bool_)
        self._is_wide = np.zeros(rows, np.bool_)
        self._unread = np.zeros(rows, np.int64)
        self._written = 0
        self._others: dict[int, int] = {}
        self._to: Rows = _NO_ROWS
        self._from: Rows = _NO_ROWS

    def __len__(self) -> int:
        """Pairs."""
        return len(self._others) // 2

    def join(self, one: int, other: int) -> None:
        """From the next tick on each is sent what the other hears."""
        if one == other or one in self._others or other in self._others:
            raise LocalProtocolError("a leg is joined with one other leg at a time")
        self._others[one], self._others[other] = other, one
        self._unread[[one, other]] = 0
        self._list_rows()

    def part(self, row: int) -> None:
        """Nor is the other one joined any more; harmless for a row that is not."""
        other = self._others.pop(row, None)
        if other is not None:
            del self._others[other]
            self._list_rows()

    def _list_rows(self) -> None:
        self._to = np.array(list(self._others), np.intp)
        self._from = np.array(list(self._others.values()), np.intp)

    def hear(self, heard: Pcm, wide: WideRows | None) -> None:
        """Keep one slot of what rows hear, int16 (high, 160)."""
        sources = self._from
        if not len(sources):
            return
        slot = self._written % DEPTH
        self._narrow[sources, slot] = heard[sources]
        self._has_wide[sources, slot] = False
        if wide is not None and len(wide.rows):
            self._mark_wide(wide)
            raised = sources[self._is_wide[sources]]
            self._wide[raised, slot] = wide.heard[raised]
            self._has_wide[raised, slot] = True
        self._written += 1
        self._unread[self._to] = np.minimum(self._unread[self._to] + 1, DEPTH)

    def take(self, wide: WideRows | None, *, is_late: bool) -> Passed | None:
        """The next slot for every row that has one waiting; None where no row is joined.

        :param is_late: more than one slot is sent in this tick: what is kept for that is not left out.
        """
        if not len(self._to):
            return None
        if not is_late:
            self._leave_out()
        is_due = self._unread[self._to] > 0
        to, sources = self._to[is_due], self._from[is_due]
        at = (self._written - self._unread[to]) % DEPTH
        self._unread[to] -= 1
        frames = self._narrow[sources, at]
        if wide is None or not len(wide.rows):
            return Passed(to, frames, _NO_ROWS, frames[:0], frames[:0])
        self._mark_wide(wide)
        is_wide = self._has_wide[sources, at] & self._is_wide[to]
        wide_frames = self._wide[sources[is_wide], at[is_wide]]
        return Passed(to[~is_wide], frames[~is_wide], to[is_wide], wide_frames, frames[is_wide])

    def _mark_wide(self, wide: WideRows) -> None:
        self._is_wide[:] = False
        self._is_wide[wide.rows] = True

    def _leave_out(self) -> None:
        """Where more than one frame waits and the first of them is quiet, go on with the second."""
        has_more = self._unread[self._to] > 1
        if not has_more.any():
            return
        to, sources = self._to[has_more], self._from[has_more]
        frames = self._narrow[sources, (self._written - self._unread[to]) % DEPTH]
        is_quiet = np.abs(frames.astype(np.int32)).max(axis=1) <= QUIET
        self._unread[to[is_quiet]] -= 1


def add_passed(passed: Passed, outgoing: Pcm) -> None:
    """To what rows are sent at 8,000, for those that have it from there alone."""
    add_clipped(outgoing, passed.rows, passed.frames)


def add_wide(passed: Passed, outgoing: Pcm, wide: WideRows, apart: Collection[int]) -> None:
    """To the rows of 16,000, behind everything that is raised to that.

    :param apart: rows that say digits in place of all other sound.
    """
    rows, lowered, frames = passed.wide_rows, passed.lowered, passed.wide
    if apart:
        is_free = np.isin(rows, list(apart), invert=True)
        rows, lowered, frames = rows[is_free], lowered[is_free], frames[is_free]
    if len(rows):
        add_clipped(outgoing, rows, lowered)
        add_clipped(wide.spoken, rows, frames)
