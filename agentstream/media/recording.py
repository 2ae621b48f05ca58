"""What recordings are made of: both sides of recorded rows, on one timeline, in blocks of half a second.

Each slot of the tick gives one frame of what a row hears and one of what it is sent, and both go into the recording
side by side. So the two channels keep one time whatever happens: a late tick, a hold, a gap in what arrives are
silence and never a jump. What is recorded of the far end is what came out of the ring; of our side, what left in
packets.

A block that is whole is handed over as bytes; nothing here writes a file. Blocks of different rows are whole in
different ticks: a recording begins in the middle of its first block, so that it ends where the fewest others do.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import attrs
import numpy as np
import numpy.typing as npt

FRAME_MS = 20
BLOCK_FRAMES = 25
"""20 ms frames in a block: what a crash may cost."""

CHANNELS = 2
"""Left the far end, right what it is sent."""

Samples = npt.NDArray[np.int16]

Sound = bytes | int
"""16-bit samples of both channels in turn, or how many bytes of silence."""


@attrs.define(eq=False)
class Tape:
    """One row's recording, as long as it runs.

    :ivar row: whose.
    :ivar frames: 20 ms frames that have been handed over.
    :ivar is_paused: silence is recorded in place of both channels.
    """

    row: int
    _tapes: Tapes
    frames: int = 0
    is_paused: bool = False
    is_running: bool = True

    def pause(self) -> None:
        """Record silence from the next slot on."""
        self.is_paused = True
        self._tapes.note_pauses()

    def resume(self) -> None:
        """Record sound again."""
        self.is_paused = False
        self._tapes.note_pauses()

    @property
    def ms(self) -> int:
        """Milliseconds recorded so far."""
        return (self.frames + self._tapes.waiting_frames(self)) * FRAME_MS

    def stop(self) -> Sound:
        """End it; returns what has not been handed over. Harmless when repeated."""
        return self._tapes.stop(self)


SoundFn = Callable[[list[tuple[Tape, Sound]]], None]
"""Told at most once a tick what has become whole in it, of each tape in the order of time."""


@attrs.define
class _Place:
    """Where a running tape's block is.

    :ivar first: the frame that the block begins with; not 0 in the first block only.
    :ivar slot: in which ticks of BLOCK_FRAMES its blocks become whole.
    """

    number: int
    first: int
    slot: int


class Tapes:
    """All recordings of one media rate.

    :param rows: how many rows there can be.
    :param rate_hz: samples a second.
    :ivar on_sound: told what has become whole.
    """

    def __init__(self, rows: int, rate_hz: int) -> None:
        self.rate_hz = rate_hz
        self._frame = rate_hz * FRAME_MS // 1000
        self.on_sound: SoundFn = _nobody
        # Pages of it come into being when a recording first writes there.
        self._blocks = np.zeros((rows * BLOCK_FRAMES, self._frame, CHANNELS), np.int16)
        self._free = list(range(rows - 1, -1, -1))
        self._load = [0] * BLOCK_FRAMES
        self._slot = 0
        self._pending: list[Tape] = []
        self._whole: list[tuple[Tape, Sound]] = []
        self._said: deque[Samples] = deque()
        # One entry a running tape, in the order of self._tapes.
        self._tapes: list[Tape] = []
        self._places: list[_Place] = []
        self._at = np.zeros(0, np.intp)
        self._is_stale = False
        self._list_rows()

    # From outside the tick

    def start(self, row: int) -> Tape:
        """Record a row from the next tick on."""
        tape = Tape(row, self)
        self._pending.append(tape)
        self._is_stale = True
        return tape

    def stop(self, tape: Tape) -> Sound:
        """End a recording; returns what has not been handed over."""
        if not tape.is_running:
            return b""
        self._hand_over()  # what is whole comes before what is not
        sound: Sound = b""
        if tape in self._pending:
            self._pending.remove(tape)
        else:
            index = self._tapes.index(tape)
            sound = self._cut(index) + b"".join(self._alone(said[index], index in self._paused) for said in self._said)
        tape.is_running = False
        self._is_stale = True
        return sound

    def _alone(self, said: Samples, is_paused: bool) -> bytes:
        """A slot whose packet has left, and whose other side is still to be heard."""
        both = np.zeros((self._frame, CHANNELS), np.int16)
        if not is_paused:
            both[:, 1] = said
        return both.tobytes()

    def waiting_frames(self, tape: Tape) -> int:
        """Frames of a running tape that have not been handed over."""
        if not tape.is_running or tape in self._pending:
            return 0
        index = self._tapes.index(tape)
        place = self._places[index]
        whole = sum(_frames(sound, self._frame) for other, sound in self._whole if other is tape)
        return int(self._at[index]) - place.number * BLOCK_FRAMES - place.first + whole + len(self._said)

    def note_pauses(self) -> None:
        """A tape was paused, or goes on: from the next tick on, because in this one it may have half of a slot."""
        self._is_stale = True

    # In the tick

    def begin_tick(self) -> None:
        """Before the first :meth:`say`: tapes come and go here, so that a tick has the same ones from end to end."""
        self._said.clear()  # a tick that failed
        if self._is_stale:
            self._change()

    def say(self, frames: Samples, sends: npt.NDArray[np.bool_]) -> None:
        """One slot of what rows are sent, int16 (rows, frame).

        :param sends: which rows' packets leave; the others' sound reached nobody.
        """
        if self._tapes:
            said = frames[self._rows]
            np.multiply(said, sends[self._rows, None], out=said)
            self._said.append(said)

    def hear(self, frames: Samples) -> None:
        """One slot of what rows hear, int16 (rows, frame); with it goes the oldest slot of :meth:`say`, or silence."""
        self._slot += 1
        if not self._tapes:
            return
        np.take(frames, self._rows, axis=0, out=self._heard, mode="clip")
        both = self._both
        both[:, :, 0] = self._heard
        both[:, :, 1] = self._said.popleft() if self._said else 0
        if len(self._paused):
            both[self._paused] = 0
        self._blocks[self._at] = both
        np.add(self._at, 1, out=self._at)
        is_whole = self._at == self._ends
        if is_whole.any():
            for index in np.flatnonzero(is_whole).tolist():
                self._keep(self._tapes[index], self._cut(index))

    def end_tick(self, skipped_slots: int) -> None:
        """Tell what has become whole.

        :param skipped_slots: slots of this tick that were neither heard nor sent: silence on both sides; none below 1.
        """
        if skipped_slots > 0:
            for index, tape in enumerate(self._tapes):
                self._keep(tape, self._cut(index))
                self._keep(tape, skipped_slots * self._frame * CHANNELS * 2)
        self._hand_over()

    def _hand_over(self) -> None:
        if self._whole:
            whole, self._whole = self._whole, []
            for tape, sound in whole:
                tape.frames += _frames(sound, self._frame)
            self.on_sound(whole)

    def _keep(self, tape: Tape, sound: Sound) -> None:
        if tape.is_running and sound:
            self._whole.append((tape, sound))

    def _cut(self, index: int) -> bytes:
        """What is in a tape's block, which then begins anew."""
        place, at = self._places[index], int(self._at[index])
        base = place.number * BLOCK_FRAMES
        sound = self._blocks[base + place.first : at].tobytes()
        # A block that was cut short goes on where it was, so that its end stays in the tick that was chosen for it.
        place.first = (at - base) % BLOCK_FRAMES
        self._at[index] = base + place.first
        return sound

    def _change(self) -> None:
        kept: list[tuple[Tape, _Place, int]] = []
        for tape, place, at in zip(self._tapes, self._places, self._at.tolist(), strict=True):
            if tape.is_running:
                kept.append((tape, place, at))
            else:
                self._free.append(place.number)
                self._load[place.slot] -= 1
        for tape in self._pending:
            slot = self._load.index(min(self._load))
            self._load[slot] += 1
            place = _Place(self._free.pop(), (self._slot - slot) % BLOCK_FRAMES, slot)
            kept.append((tape, place, place.number * BLOCK_FRAMES + place.first))
        self._pending.clear()
        self._tapes = [tape for tape, _, _ in kept]
        self._places = [place for _, place, _ in kept]
        self._at = np.array([at for _, _, at in kept], np.intp)
        self._is_stale = False
        self._list_rows()

    def _list_rows(self) -> None:
        count = len(self._tapes)
        self._rows = np.array([tape.row for tape in self._tapes], np.intp)
        self._ends = np.array([(place.number + 1) * BLOCK_FRAMES for place in self._places], np.intp)
        self._heard = np.zeros((count, self._frame), np.int16)
        self._both = np.zeros((count, self._frame, CHANNELS), np.int16)
        self._paused = np.array([at for at, tape in enumerate(self._tapes) if tape.is_paused], np.intp)


def _frames(sound: Sound, frame: int) -> int:
    return (sound if isinstance(sound, int) else len(sound)) // (frame * CHANNELS * 2)


def _nobody(whole: list[tuple[Tape, Sound]]) -> None:
    pass
