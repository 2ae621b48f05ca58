"""What goes out to the caller: a queue a leg, and a window of about a second of each in matrices.

The queue of a leg holds payloads in order with marks as items between them. Samples of consecutive payloads join
without padding. The window is a ring of 20 ms frames a row, so that the tick gathers one frame of every row at once;
what does not fit waits in the leg's own queue as the bytes that arrived.

A mark is told once: ``played`` when the last sample before it has left in an RTP packet, ``dropped`` at the moment that
its audio is dropped, at once when nothing is queued.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import attrs
import numpy as np
import numpy.typing as npt
from twisted.logger import Logger

from agentstream.audio.fade import FADE_MS, TailFade

WINDOW_FRAMES = 50
"""20 ms frames in a row's window: one second."""

THRESHOLD_STEP_MS = 20
THRESHOLD_MOST_MS = 60
UTTERANCE_GAP_TICKS = 10
"""An underrun that more audio follows within 200 ms was inside an utterance."""

QUIET_TICKS = 3000
"""A minute without an underrun lowers the start threshold again."""

ROOM_AGAIN = 0.8
"""Reading goes on when the queue has fallen to this part of its limit."""

BLOCK_BYTES = 1 << 16
"""What waits beyond the window is kept in blocks of this size."""

_log = Logger()
_NO_MARK = np.iinfo(np.int64).max
_FIRST = np.zeros(1, np.intp)
_NO_ROWS = np.zeros(0, np.intp)

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


class PlaybackBank:
    """The windows of all rows of one media rate.

    :param rows: how many rows there can be.
    :param rate_hz: samples a second.
    :param leaves_late: what is taken passes a filter, so that its end leaves with the next packet.
    """

    def __init__(self, rows: int, rate_hz: int = 8000, *, leaves_late: bool = False) -> None:
        self.rate_hz = rate_hz
        self._leaves_late = leaves_late
        self.frame = rate_hz // 50
        self.capacity = WINDOW_FRAMES * self.frame
        # One more frame than the windows need: the one of silence that idle rows read.
        self._frames = np.zeros((rows * WINDOW_FRAMES + 1, self.frame), np.int16)
        self._silence = rows * WINDOW_FRAMES
        self.samples = self._frames[:-1].reshape(rows, self.capacity)
        self._base = np.arange(rows, dtype=np.int64) * WINDOW_FRAMES
        self.read = np.zeros(rows, np.int64)
        self.fill = np.zeros(rows, np.int64)
        self.consumed = np.zeros(rows, np.int64)
        self.left = np.zeros(rows, np.int64) if leaves_late else self.consumed
        self.next_mark = np.full(rows, _NO_MARK, np.int64)
        self.playing = np.zeros(rows, np.bool_)
        self.waited = np.zeros(rows, np.int64)
        self.threshold = np.zeros(rows, np.int64)
        self.held = np.zeros(rows, np.bool_)
        self.has_more = np.zeros(rows, np.bool_)
        self.cleared = np.zeros(rows, np.bool_)
        self.dry_ticks = np.zeros(rows, np.int64)
        self.underruns = np.zeros(rows, np.int64)
        self.withheld = np.zeros(rows, np.int64)
        self.is_sent = np.ones(rows, np.bool_)
        self.queues: list[Playback | None] = [None] * rows
        self.fade = TailFade(self.frame, FADE_MS * rate_hz // 1000)
        self._active = np.zeros(rows, np.bool_)
        self._flag = np.zeros(rows, np.bool_)
        self._index = np.zeros(rows, np.int64)
        self._taken = np.zeros(rows, np.int64)

    def open(self, row: int, budget: PlaybackBudget, limit_ms: int) -> Playback:
        """A new, empty queue; no sample of who had the row before stays in its window."""
        self.samples[row] = 0
        for array in (
            self.read,
            self.fill,
            self.consumed,
            self.left,
            self.waited,
            self.threshold,
            self.dry_ticks,
            self.underruns,
            self.withheld,
        ):
            array[row] = 0
        self.next_mark[row] = _NO_MARK
        self.playing[row] = self.held[row] = self.has_more[row] = self.cleared[row] = False
        queue = Playback(self, row, budget, limit_ms)
        self.queues[row] = queue
        return queue

    def close(self, row: int) -> None:
        self.fill[row] = 0
        self.next_mark[row] = _NO_MARK
        self.playing[row] = self.has_more[row] = False
        self.queues[row] = None
        self._taken[row] = 0

    def take(self, high: int, out: npt.NDArray[np.int16]) -> None:
        """Move the next 20 ms of rows 0 to high - 1 into ``out``, int16 (high, frame); silence where nothing is due."""
        fill, playing, waited = self.fill[:high], self.playing[:high], self.waited[:high]
        active, flag, index, taken = self._active[:high], self._flag[:high], self._index[:high], self._taken[:high]
        # A row plays on while it has samples; it begins with its threshold's worth, or when that long has passed.
        np.greater(fill, 0, out=active)
        np.greater(active, self.held[:high], out=active)
        np.greater(active, playing, out=flag)
        if flag.any():
            self._begin(np.flatnonzero(flag), active)
        np.multiply(waited, flag, out=waited)
        # Rows that had audio in the last tick and have none now have run dry, or are made to wait.
        np.greater(playing, active, out=flag)
        pausing = _NO_ROWS
        if flag.any():
            self._run_dry(np.flatnonzero(flag & ~self.held[:high]))
            pausing = np.flatnonzero(flag & self.held[:high])
        np.add(self.dry_ticks[:high], 1, out=self.dry_ticks[:high])
        np.copyto(playing, active)
        np.add(self._base[:high], self.read[:high], out=index)
        np.copyto(index, self._silence, where=~active)
        np.take(self._frames, index, axis=0, out=out, mode="clip")
        np.minimum(fill, self.frame, out=taken)
        np.multiply(taken, active, out=taken)
        np.less(fill, self.frame, out=flag)
        np.logical_and(flag, active, out=flag)
        if flag.any():
            # The window ran out inside a frame: fade what there is; no sample of an older lap is behind it.
            rows = np.flatnonzero(flag)
            self.fade.end(out, rows, fill[rows])
        if len(pausing):
            self._fade_into_pause(pausing, out)
        np.subtract(fill, taken, out=fill)
        np.add(self.consumed[:high], taken, out=self.consumed[:high])
        np.add(self.read[:high], active, out=self.read[:high])
        np.remainder(self.read[:high], WINDOW_FRAMES, out=self.read[:high])

    def _fade_into_pause(self, rows: npt.NDArray[np.intp], out: npt.NDArray[np.int16]) -> None:
        """A fade over what comes next, which stays where it is and is heard whole when the pause is over."""
        for row in rows.tolist():
            heard = min(int(self.fill[row]), self.frame)
            out[row] = self._frames[self._base[row] + self.read[row]]
            out[row, heard:] = 0
        self.fade.clear(out, rows)

    def _begin(self, rows: npt.NDArray[np.int64], active: npt.NDArray[np.bool_]) -> None:
        self.waited[rows] += 1
        begins = (self.fill[rows] >= self.threshold[rows]) | (self.waited[rows] * self.frame > self.threshold[rows])
        active[rows[~begins]] = False
        for row in rows[begins].tolist():
            if self.dry_ticks[row] <= UTTERANCE_GAP_TICKS and self.consumed[row]:
                self.underruns[row] += 1
                step, most = (ms * self.rate_hz // 1000 for ms in (THRESHOLD_STEP_MS, THRESHOLD_MOST_MS))
                self.threshold[row] = min(self.threshold[row] + step, most)
            elif self.dry_ticks[row] > QUIET_TICKS and self.threshold[row]:
                self.threshold[row] -= THRESHOLD_STEP_MS * self.rate_hz // 1000

    def _run_dry(self, rows: npt.NDArray[np.int64]) -> None:
        # After a clear, what comes next is a new utterance however soon it comes.
        self.dry_ticks[rows] = np.where(self.cleared[rows], UTTERANCE_GAP_TICKS + 1, 0)
        self.cleared[rows] = False

    def withhold(self, high: int, is_sent: npt.NDArray[np.bool_]) -> None:
        """Count what was taken and has reached nobody.

        :param is_sent: bool[high], the rows that may send.
        """
        flag = self._flag[:high]
        np.copyto(self.is_sent[:high], is_sent)
        np.logical_not(is_sent, out=flag)
        if flag.any():
            np.multiply(self._taken[:high], flag, out=self._index[:high])
            np.add(self.withheld[:high], self._index[:high], out=self.withheld[:high])

    def settle(self, high: int) -> None:
        """After the packets have left: tell the marks that are due, and fill windows that have room."""
        flag = self._flag[:high]
        np.greater_equal(self.left[:high], self.next_mark[:high], out=flag)
        if flag.any():
            for row in np.flatnonzero(flag).tolist():
                queue = self.queues[row]
                if queue is not None:
                    queue.tell_marks()
        np.less(self.fill[:high], self.capacity // 2, out=flag)
        np.logical_and(flag, self.has_more[:high], out=flag)
        if flag.any():
            for row in np.flatnonzero(flag).tolist():
                queue = self.queues[row]
                if queue is not None:
                    queue.fill_window()
        if self._leaves_late:
            np.copyto(self.left[:high], self.consumed[:high])


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
        return self._waiting_samples + int(self._bank.fill[self._row])

    @property
    def is_silent(self) -> bool:
        """Everything that was written has left."""
        bank, row = self._bank, self._row
        return self._is_closed or (not self.queued_samples and bool(bank.left[row] == bank.consumed[row]))

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

    def write(self, pcm: bytes) -> None:
        """Queue 16-bit little-endian samples at the bank's rate; an odd byte waits for the next call."""
        if self._odd:
            pcm, self._odd = self._odd + pcm, b""
        if len(pcm) & 1:
            pcm, self._odd = pcm[:-1], pcm[-1:]
        if pcm:
            self.write_samples(np.frombuffer(pcm, "<i2"))

    def write_samples(self, samples: npt.NDArray[np.int16]) -> None:
        """Queue int16 samples, shape (n,), contiguous; they are copied."""
        if self._is_closed:
            return
        self._written += len(samples)
        if self._most_samples:
            samples = samples[self._make_room(len(samples)) :]
        if not self._waiting:
            samples = samples[self._copy_in(samples) :]
        if len(samples):
            self._let_wait(memoryview(samples.view(np.uint8).data))
            self._waiting_samples += len(samples)
            self._budget.used += 2 * len(samples)
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
        bank.next_mark[row] = self._marks[0][0] if self._marks else _NO_MARK
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

    def _copy_in(self, samples: npt.NDArray[np.int16]) -> int:
        """Copy as many samples as the window has room for; returns how many."""
        bank, row = self._bank, self._row
        fill = int(bank.fill[row])
        room = bank.capacity - fill
        count = min(len(samples), room)
        at = (int(bank.read[row]) * bank.frame + fill) % bank.capacity
        first = min(count, bank.capacity - at)
        window = bank.samples[row]
        window[at : at + first] = samples[:first]
        if count > first:
            window[: count - first] = samples[first:count]
        bank.fill[row] = fill + count
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
        samples = np.frombuffer(self._waiting[0], "<i2")[self._taken_samples :]
        count = self._copy_in(samples)
        self._taken_samples += count
        self._waiting_samples -= count
        self._budget.used -= 2 * count
        return count == len(samples)

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
        position = self._written - self._dropped
        self._marks.append((position, fn))
        if len(self._marks) == 1:
            self._bank.next_mark[self._row] = position

    def tell_marks(self) -> None:
        """Tell the marks whose audio has left; they may write more."""
        left = int(self._bank.left[self._row])
        while self._marks and self._marks[0][0] <= left:
            _tell(self._marks.popleft()[1], True)
        self._bank.next_mark[self._row] = self._marks[0][0] if self._marks else _NO_MARK

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
        self._bank.next_mark[self._row] = _NO_MARK
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
