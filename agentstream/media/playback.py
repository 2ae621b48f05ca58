"""What a bot has yet to say to its caller: payloads in order, with marks as items between them.

Samples of consecutive payloads join without padding. About a second of them lies in the row's window
(playback_bank.py), from which the tick takes frames; what does not fit waits here as the bytes that arrived.

A mark is told once: ``played`` when the last sample before it has left in an RTP packet, ``dropped`` at the moment that
its audio is dropped, at once when nothing is queued.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

import attrs
import numpy as np
import numpy.typing as npt
from twisted.logger import Logger

if TYPE_CHECKING:
    from agentstream.media.playback_bank import PlaybackBank

WINDOW_FRAMES = 50
"""20 ms frames in a row's window: one second."""

NO_MARK = np.iinfo(np.int64).max
"""Where the next mark of a row without one is."""

ROOM_AGAIN = 0.8
"""Reading goes on when the queue has fallen to this part of its limit."""

BLOCK_BYTES = 1 << 16
"""What waits beyond the window is kept in blocks of this size."""

_log = Logger()
_FIRST = np.zeros(1, np.intp)

MarkFn = Callable[[bool], None]
"""Told once with True when what was before the mark has been played, False when it was dropped."""

BARGE_IN = "barge-in"
"""The reason of a hold while a caller speaks over a bot."""


@attrs.frozen
class Position:
    """What has become of everything that was written: ``written`` is the sum of the others.

    :ivar played: reached the wire; a fade counts.
    :ivar held: its time passed while the far end had forbidden us to send.
    :ivar dropped: by ``clear``, by a limit, or at the end.
    :ivar queued: is still to come.
    """

    played: int = 0
    held: int = 0
    dropped: int = 0
    queued: int = 0

    @property
    def written(self) -> int:
        return self.played + self.held + self.dropped + self.queued

    def since(self, before: Position) -> Position:
        """What has become of what was written since an earlier position, which had nothing queued."""
        return Position(
            self.played - before.played, self.held - before.held, self.dropped - before.dropped, self.queued
        )


@attrs.define
class PlaybackBudget:
    """Bytes that all queues of this node hold beyond their windows.

    :ivar limit: bytes; beyond it every bot that adds more is made to wait.
    """

    limit: int
    used: int = 0

    @property
    def is_spent(self) -> bool:
        return self.used >= self.limit


class Playback:
    """What one leg has yet to say.

    :ivar on_full: called once when the queue passes its limit, or the node its budget; the writer should pause.
    :ivar on_room: called once when there is room again.
    """

    def __init__(self, bank: PlaybackBank, row: int, budget: PlaybackBudget, limit_ms: int) -> None:
        self._bank = bank
        self._row = row
        self._budget = budget
        self._limit = limit_ms * bank.rate_hz // 1000
        self._waiting: deque[bytearray] = deque()
        self._waiting_samples = 0
        self._taken_samples = 0
        self._odd = b""
        self._written = 0
        self._dropped = 0
        self._padding = self._last_padding = 0
        self._padded_until = 0
        self._most_samples = 0
        self._marks: deque[tuple[int, MarkFn]] = deque()
        self._holds: set[str] = set()
        self._is_full = False
        self._is_closed = False
        self.on_full: Callable[[], None] = _nothing
        self.on_room: Callable[[], None] = _nothing

    @property
    def queued_samples(self) -> int:
        """Samples that have been written and have not left."""
        return self._waiting_samples + self._bank.fill.item(self._row)

    @property
    def is_silent(self) -> bool:
        """Everything that was written has left."""
        bank, row = self._bank, self._row
        return self._is_closed or (not self.queued_samples and bool(bank.left[row] == bank.consumed[row]))

    @property
    def rate_hz(self) -> int:
        """Samples a second of what is written."""
        return self._bank.rate_hz

    @property
    def queued_ms(self) -> int:
        return self.queued_samples * 1000 // self._bank.rate_hz

    @property
    def position(self) -> Position:
        """What has become of what was written since the queue was opened, in samples at the bank's rate."""
        bank, row = self._bank, self._row
        dropped, held = self._dropped + self._padding, int(bank.withheld[row])
        queued = max(0, self.queued_samples - self._fading_samples)
        return Position(self._written - dropped - held - queued, held, dropped, queued)

    @property
    def _fading_samples(self) -> int:
        """Samples of the frame that a ``clear`` has faded and that has not been taken yet."""
        return max(0, self._padded_until - int(self._bank.consumed[self._row]))

    @property
    def underruns(self) -> int:
        return int(self._bank.underruns[self._row])

    def write(self, pcm: bytes, first_left: MarkFn | None = None) -> int:
        """Queue 16-bit little-endian samples at the bank's rate; an odd byte waits for the next call.

        :param first_left: a mark behind the first of them, which is set only when nothing was queued.
        :return: the samples that were queued before.
        """
        if self._odd:
            pcm, self._odd = self._odd + pcm, b""
        if len(pcm) & 1:
            pcm, self._odd = pcm[:-1], pcm[-1:]
        if self._is_closed or not pcm:
            return self.queued_samples
        queued = self.queued_samples
        if first_left is not None and not queued and self.is_silent:
            self._set_mark(self._written - self._dropped + 1, first_left)
        self._queue(memoryview(pcm))
        return queued

    def write_samples(self, samples: npt.NDArray[np.int16]) -> None:
        """Queue int16 samples, shape (n,), contiguous; they are copied."""
        if len(samples) and not self._is_closed:
            self._queue(memoryview(samples.view(np.uint8).data))

    def _queue(self, pcm: memoryview) -> None:
        self._written += len(pcm) >> 1
        if self._most_samples:
            pcm = pcm[2 * self._make_room(len(pcm) >> 1) :]
        if not self._waiting:
            copied = self._copy_in(pcm)
            if copied == len(pcm):
                return
            pcm = pcm[copied:]
        self._let_wait(pcm)
        self._waiting_samples += len(pcm) >> 1
        self._budget.used += len(pcm)
        self._bank.has_more[self._row] = True
        self._look_for_room()

    def be_live(self, most_ms: int) -> None:
        """Keep no more than this: from now on what is written beyond it drops the oldest; 0 keeps everything again.

        :param most_ms: at most what fits in a window, less one frame: 980.
        """
        self._most_samples = most_ms * self._bank.rate_hz // 1000

    def _make_room(self, coming: int) -> int:
        """Drop the oldest of what is queued, and then of what comes; returns how many samples of what comes."""
        bank, row = self._bank, self._row
        while (excess := self.queued_samples + coming - self._most_samples) > 0:
            frames = min(-(-excess // bank.frame), int(bank.fill[row]) // bank.frame)
            if not frames:
                late = min(coming, excess)
                self._dropped += late
                return late
            self._drop_frames(frames)
            self.fill_window()
        return 0

    def _drop_frames(self, frames: int) -> None:
        """Drop whole frames from the front of the window, and tell the marks whose sound that was."""
        bank, row = self._bank, self._row
        samples = frames * bank.frame
        if self._fading_samples:
            self._padding -= self._last_padding
            self._padded_until = 0
        bank.fill[row] -= samples
        bank.read[row] = (int(bank.read[row]) + frames) % WINDOW_FRAMES
        self._dropped += samples
        taken = int(bank.consumed[row])
        marks, self._marks = self._marks, deque()
        gone = []
        for position, fn in marks:
            if taken < position <= taken + samples:
                gone.append(fn)
            else:
                self._marks.append((position if position <= taken else position - samples, fn))
        bank.next_mark[row] = self._marks[0][0] if self._marks else NO_MARK
        for fn in gone:
            _tell(fn, False)

    def _let_wait(self, data: memoryview) -> None:
        """Add to the last block: thousands of small messages are a few blocks, which are dropped in no time."""
        while data:
            if not self._waiting or len(self._waiting[-1]) >= BLOCK_BYTES:
                self._waiting.append(bytearray())
            last = self._waiting[-1]
            room = BLOCK_BYTES - len(last)
            last += data[:room]
            data = data[room:]

    def _copy_in(self, pcm: memoryview) -> int:
        """Copy as many whole samples as the window has room for; returns how many bytes those are."""
        bank, row = self._bank, self._row
        fill, capacity = bank.fill.item(row), 2 * bank.capacity
        count = min(len(pcm), capacity - 2 * fill)
        at = 2 * (bank.read.item(row) * bank.frame + fill) % capacity
        window, end = bank.windows[row], at + count
        if end <= capacity:
            window[at:end] = pcm if count == len(pcm) else pcm[:count]
        else:
            first = capacity - at
            window[at:] = pcm[:first]
            window[: end - capacity] = pcm[first:count]
        bank.fill[row] = fill + (count >> 1)
        return count

    def fill_window(self) -> None:
        """Move what waits into the window as far as it has room."""
        while self._waiting and self._move_first_block():
            self._waiting.popleft()
            self._taken_samples = 0
        self._bank.has_more[self._row] = bool(self._waiting)
        self._look_for_room()

    def _move_first_block(self) -> bool:
        """True when all of it has found room. Keeps no view of the block, which may yet grow."""
        with memoryview(self._waiting[0]) as block, block[2 * self._taken_samples :] as rest:
            count = self._copy_in(rest)
            is_all = count == len(rest)
        self._taken_samples += count >> 1
        self._waiting_samples -= count >> 1
        self._budget.used -= count
        return is_all

    def _look_for_room(self) -> None:
        queued = self.queued_samples
        if not self._is_full:
            if queued > self._limit or (self._budget.is_spent and self._waiting):
                self._is_full = True
                self.on_full()
        elif queued <= self._limit * ROOM_AGAIN and (
            not self._waiting or self._budget.used <= self._budget.limit * ROOM_AGAIN
        ):
            self._is_full = False
            self.on_room()

    def mark(self, fn: MarkFn) -> None:
        """Call ``fn`` when everything written so far has been played or dropped; at once when nothing is queued."""
        if self._is_closed or (not self._marks and self.is_silent):
            fn(not self._is_closed)
            return
        self._set_mark(self._written - self._dropped, fn)

    def _set_mark(self, position: int, fn: MarkFn) -> None:
        self._marks.append((position, fn))
        if len(self._marks) == 1:
            self._bank.next_mark[self._row] = position

    def tell_marks(self) -> None:
        """Tell the marks whose audio has left; they may write more."""
        left = int(self._bank.left[self._row])
        while self._marks and self._marks[0][0] <= left:
            _tell(self._marks.popleft()[1], True)
        self._bank.next_mark[self._row] = self._marks[0][0] if self._marks else NO_MARK

    def clear(self) -> int:
        """Silence: the next frame holds a fade of at most 5 ms, every later one is silent until more is written.

        Returns the samples that were queued. The marks that were queued are told at once, in order.
        """
        bank, row = self._bank, self._row
        queued = self.queued_samples
        bank.cleared[row] = True
        if self._fading_samples:
            bank.fill[row] = bank.frame  # what comes next is a fade already
        elif queued and bank.playing[row] and bank.is_sent[row]:
            at = int(bank.read[row]) * bank.frame
            frame = bank.samples[row, at : at + bank.frame]
            heard = min(int(bank.fill[row]), bank.frame)
            frame[heard:] = 0
            bank.fade.clear(frame[None], _FIRST)
            bank.fill[row] = bank.frame
            self._last_padding = bank.frame - min(heard, bank.fade.fade_samples)
            self._padding += self._last_padding
            self._padded_until = int(bank.consumed[row]) + bank.frame
        else:
            bank.fill[row] = 0
        # The faded frame is whole, so what counts as dropped may be a little less than nothing.
        self._drop_rest(queued - int(bank.fill[row]))
        return queued

    def _drop_rest(self, samples: int) -> None:
        self._odd = b""
        self._dropped += samples
        self._budget.used -= 2 * self._waiting_samples
        self._waiting.clear()
        self._waiting_samples = self._taken_samples = 0
        self._bank.has_more[self._row] = False
        self._bank.next_mark[self._row] = NO_MARK
        marks, self._marks = self._marks, deque()
        for _, fn in marks:
            _tell(fn, False)
        self._look_for_room()

    def hold(self, reason: str, is_held: bool) -> None:
        """While there is any reason to (a digit is being sent, another queue is not empty yet) the queue waits."""
        (self._holds.add if is_held else self._holds.discard)(reason)
        if not self._is_closed:
            self._bank.held[self._row] = bool(self._holds)

    def close(self) -> None:
        """Drop everything; the marks are told so."""
        if not self._is_closed:
            self._is_closed = True
            self._drop_rest(self.queued_samples)
            self._bank.close(self._row)


def _tell(fn: MarkFn, is_played: bool) -> None:
    """Somebody's mistake about a mark is their own: the tick and every other call go on."""
    try:
        fn(is_played)
    except Exception:
        _log.failure("a mark could not be told")


def _nothing() -> None:
    pass
