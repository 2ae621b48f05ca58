"""What arrives in the jitter buffers of one media rate: rings of 10 ms blocks, and what anchors them to RTP time.

A row's ring holds ``BLOCKS`` blocks of 10 ms. Its *anchor* says which block an RTP timestamp belongs to, so that order,
duplicates and any ptime come out right by construction. A new anchor is taken when the SSRC changes, the timestamp
leaves the ring or leaves its 10 ms grid (2 packets in sequence), or 3 packets in sequence are late.

A row whose packets come late with nothing behind them moves its anchor to where they are. One that is late alone says
for how many blocks playout has to stand still (delay.py).

Everything works on index arrays; Python runs per packet only for what is out of the ordinary. What is played is
:class:`agentstream.media.ring.Rings`'s.
"""

from __future__ import annotations

import attrs
import numpy as np
import numpy.typing as npt

from agentstream.media.delay import PlayoutDelay
from agentstream.media.pauses import Pauses
from agentstream.rtp.statistics import MAX_MISORDER

BLOCKS = 64
"""Blocks in a row's ring, 640 ms; a power of two."""

BLOCKS_A_SLOT = 2
"""Blocks that one 20 ms tick slot plays."""

LATE_BEFORE_ANCHOR = 3
"""Late packets in sequence that prove the anchor wrong."""

LEAST_MS = 20
MOST_MS = 400
"""Bounds of a delay that follows the arrivals."""

NEVER_S = -np.inf
EMPTY, VOICE, SILENCE = 0, 1, 2

STRAY = "The packet has no place in the stream that is heard."

IntArray = npt.NDArray[np.int64]
Samples = npt.NDArray[np.int16]


@attrs.define
class _Candidate:
    """The first packet that did not fit the anchor, waiting for a second one in sequence."""

    ssrc: int
    sequence: int
    timestamp: int
    samples: Samples


@attrs.define
class _Remainder:
    """Samples behind the last whole block, for senders whose packets are no whole number of blocks."""

    next_timestamp: int
    samples: Samples


class Arrivals:
    """The rings of all rows of one rate, as packets fill them.

    :param rows: how many rows there can be.
    :param rate_hz: samples a second.
    :param clock_hz: RTP timestamp units a second (RFC 3551: 8,000 for G.711, and for G.722 too).
    :param least_ms: and ``most_ms``: the bounds of the delay; equal ones make it fixed.
    :ivar now: when what is inserted next was read, in monotonic seconds.
    """

    def __init__(
        self,
        rows: int,
        rate_hz: int = 8000,
        clock_hz: int = 8000,
        least_ms: int = LEAST_MS,
        most_ms: int = MOST_MS,
    ) -> None:
        self.rate_hz = rate_hz
        self.block = rate_hz // 100
        self._clock_block = clock_hz // 100
        self._voice = np.zeros((rows * BLOCKS, self.block), np.int16)
        self._status = np.zeros(rows * BLOCKS, np.uint8)
        # When each block came: what it says is of this turn of the ring, or so old that it cannot be.
        self._came_s = np.full(rows * BLOCKS, NEVER_S)
        self.now = 0.0
        # The anchor of each row, and where playout stands; block numbers grow without end.
        self._anchored = np.zeros(rows, np.bool_)
        self._anchor_ssrc = np.zeros(rows, np.uint32)
        self._anchor_timestamp = np.zeros(rows, np.uint32)
        self._anchor_block = np.zeros(rows, np.int64)
        self._next_sequence = np.zeros(rows, np.uint16)
        self._end_block = np.zeros(rows, np.int64)
        self._play_block = np.zeros(rows, np.int64)
        self.delay = PlayoutDelay(rows, least_ms // 10, most_ms // 10)
        self._standing: dict[int, int] = {}  # blocks for which each row has still to stand still
        self._late_run = np.zeros(rows, np.int64)
        self._base = np.arange(rows, dtype=np.int64) * BLOCKS
        self._candidates: dict[int, _Candidate] = {}
        self._restarts: dict[int, int] = {}  # the number that would confirm one far behind the newest
        self._remainders: dict[int, _Remainder] = {}
        self._pauses: Pauses | None = None  # made for the first comfort noise
        # Counters by row, of blocks or packets.
        self.late = np.zeros(rows, np.int64)
        self.duplicate = np.zeros(rows, np.int64)
        self.stray = np.zeros(rows, np.int64)  # fitted no anchor, and nothing followed that did
        self.reanchored = np.zeros(rows, np.int64)
        self.concealed = np.zeros(rows, np.int64)
        self.starved = np.zeros(rows, np.int64)
        self.stretched = np.zeros(rows, np.int64)
        self.left_out = np.zeros(rows, np.int64)

    def open(self, row: int, playout_ms: int) -> None:
        """Make a row new: no byte of who had it before may be heard again."""
        ring = slice(row * BLOCKS, (row + 1) * BLOCKS)
        self._voice[ring] = 0
        self._status[ring] = EMPTY
        self._came_s[ring] = NEVER_S
        self._anchored[row] = False
        self._play_block[row] = 0
        self._end_block[row] = 0
        self._late_run[row] = 0
        self.delay.open(row, playout_ms // 10)
        self._candidates.pop(row, None)
        self._restarts.pop(row, None)
        self._remainders.pop(row, None)
        self._standing.pop(row, None)
        if self._pauses is not None:
            self._pauses.close(row)
        for counter in (
            self.late,
            self.duplicate,
            self.stray,
            self.reanchored,
            self.concealed,
            self.starved,
            self.stretched,
            self.left_out,
        ):
            counter[row] = 0

    def forget_source(self, row: int) -> None:
        """The next packet anchors anew: a new remote description, or a new latched source."""
        self._anchored[row] = False
        self._leave_candidate(row)
        self._remainders.pop(row, None)
        if self._pauses is not None:
            self._pauses.close(row)

    def insert(
        self,
        rows: IntArray,
        sequences: npt.NDArray[np.uint16],
        timestamps: npt.NDArray[np.uint32],
        ssrcs: npt.NDArray[np.uint32],
        voice: Samples,
    ) -> None:
        """Place one packet a row.

        :param rows: int64 (n,), each row at most once.
        :param sequences: uint16 (n,); ``timestamps`` uint32 (n,); ``ssrcs`` uint32 (n,).
        :param voice: int16 (n, samples): decoded, all of one length.
        """
        samples = voice.shape[1]
        if not samples:
            return
        blocks, rest = divmod(samples, self.block)
        units = (timestamps - self._anchor_timestamp[rows]).view(np.int32).astype(np.int64)
        offset, off_grid = np.divmod(units, self._clock_block)
        first = self._anchor_block[rows] + offset
        ahead = first - self._play_block[rows]
        fits = self._anchored[rows] & (self._anchor_ssrc[rows] == ssrcs) & (off_grid == 0)
        fits &= (ahead >= 0) & (ahead <= BLOCKS - blocks - BLOCKS_A_SLOT)
        if rest or self._remainders:
            fits[:] = False if rest else fits & ~np.isin(rows, list(self._remainders))
        if fits.all():
            self.delay.observe(rows, ahead)
        else:
            self.delay.observe(rows[fits], ahead[fits])
            for at in np.flatnonzero(~fits).tolist():
                self._place_odd_packet(
                    int(rows[at]), int(sequences[at]), int(timestamps[at]), int(ssrcs[at]), voice[at]
                )
            if not fits.any():
                return
            rows, sequences, first, voice = rows[fits], sequences[fits], first[fits], voice[fits]
        self._late_run[rows] = 0
        if self._candidates:
            self._leave_candidates(rows)
        self._follow_sequence(rows, sequences, first, blocks)
        base = self._base[rows]
        for part in range(blocks):
            at_block = base + ((first + part) & (BLOCKS - 1))
            if part == 0:
                self.duplicate[rows] += self._status[at_block] == VOICE
            self._voice[at_block] = voice[:, part * self.block : (part + 1) * self.block]
            self._status[at_block] = VOICE
            self._came_s[at_block] = self.now

    def append(self, rows: IntArray, voice: Samples) -> bool:
        """Place one packet a row right behind its newest, which :meth:`follows` has said that it is.

        :param rows: int64 (n,), each row at most once; ``voice`` int16 (n, samples), a whole number of blocks.
        :return: False, and nothing is placed, when one of them is late or too early: :meth:`insert` them all.
        """
        first = self._end_block[rows]
        ahead = first - self._play_block[rows]
        blocks = voice.shape[1] // self.block
        if ahead.min() < 0 or ahead.max() > BLOCKS - blocks - BLOCKS_A_SLOT:
            return False
        self.delay.observe(rows, ahead)
        if self._candidates:
            self._leave_candidates(rows)
        self._late_run[rows] = 0
        self._next_sequence[rows] += np.uint16(1)
        self._end_block[rows] = first + blocks
        base = self._base[rows]
        for part in range(blocks):
            at_block = base + ((first + part) & (BLOCKS - 1))
            self._voice[at_block] = voice[:, part * self.block : (part + 1) * self.block]
            self._status[at_block] = VOICE
            self._came_s[at_block] = self.now
        return True

    def units(self, voice: Samples) -> int:
        """RTP timestamp units of one such packet, int16 (n, samples); 0 when it is no whole number of blocks."""
        samples = int(voice.shape[1])
        return 0 if samples % self.block else self._units(samples)

    def follows(
        self,
        rows: IntArray,
        sequences: npt.NDArray[np.uint16],
        timestamps: npt.NDArray[np.uint32],
        ssrcs: npt.NDArray[np.uint32],
    ) -> npt.NDArray[np.bool_]:
        """Whether a packet with this header would be right behind its row's newest, and nothing more to think about."""
        units = (timestamps - self._anchor_timestamp[rows]).view(np.int32)
        offset, off_grid = np.divmod(units, self._clock_block)
        is_next = self._anchored[rows] & (off_grid == 0) & (self._next_sequence[rows] == sequences)
        is_next &= (self._anchor_block[rows] + offset == self._end_block[rows]) & (self._anchor_ssrc[rows] == ssrcs)
        if self._remainders or self._candidates:
            is_next &= ~np.isin(rows, [*self._remainders, *self._candidates])
        return np.asarray(is_next)

    def _follow_sequence(self, rows: IntArray, sequences: npt.NDArray[np.uint16], first: IntArray, blocks: int) -> None:
        """Keep the newest sequence number; a timestamp step behind none missing becomes silence."""
        step = (sequences - self._next_sequence[rows]).view(np.int16)
        silent = (step == 0) & (first > self._end_block[rows])
        if silent.any():
            for at in np.flatnonzero(silent).tolist():
                self._fill_with_silence(int(rows[at]), int(first[at]))
        newer = step >= 0
        if newer.all():
            self._next_sequence[rows] = sequences + np.uint16(1)
            self._end_block[rows] = first + blocks
        else:
            self._confirm_restarts(rows, sequences, step, newer)
            ahead = rows[newer]
            self._next_sequence[ahead] = sequences[newer] + np.uint16(1)
            self._end_block[ahead] = first[newer] + blocks

    def _confirm_restarts(
        self,
        rows: IntArray,
        sequences: npt.NDArray[np.uint16],
        step: npt.NDArray[np.int16],
        newer: npt.NDArray[np.bool_],
    ) -> None:
        """Numbers far behind the newest are late, or the newest was none: two in sequence settle it (RFC 3550 A.1)."""
        for at in np.flatnonzero(step < -MAX_MISORDER).tolist():
            row, sequence = int(rows[at]), int(sequences[at])
            if self._restarts.pop(row, None) == sequence:
                newer[at] = True
            else:
                self._restarts[row] = (sequence + 1) & 0xFFFF

    def _fill_with_silence(self, row: int, until: int) -> None:
        begin = max(int(self._end_block[row]), int(self._play_block[row]), until - BLOCKS)
        for block in range(begin, until):
            at = row * BLOCKS + (block & (BLOCKS - 1))
            if self._status[at] == EMPTY:
                self._status[at] = SILENCE

    def skip_sequence(self, row: int, sequence: int, ssrc: int) -> None:
        """A packet that carries no audio of its own (a telephone-event) has this sequence number: it is not lost."""
        if int(self._anchor_ssrc[row]) == ssrc:  # another source has numbers of its own
            self._skip(row, sequence)

    def _skip(self, row: int, sequence: int) -> None:
        if (sequence - int(self._next_sequence[row])) & 0xFFFF < 0x8000:
            self._next_sequence[row] = (sequence + 1) & 0xFFFF

    def pause(self, row: int, sequence: int, timestamp: int, ssrc: int, noise: bytes) -> None:
        """A packet of comfort noise (RFC 3389): from its timestamp on there is nothing but this noise."""
        begin = play = int(self._play_block[row])
        if self._anchored[row] and int(self._anchor_ssrc[row]) == ssrc:
            if (sequence - int(self._next_sequence[row])) & 0xFFFF >= 0x8000:
                return  # later sound has overtaken it
            at = int(self._anchor_block[row]) + self._offset(row, timestamp)[0]
            if play < at < play + BLOCKS:
                begin = at
                each = np.array([row]), np.array([sequence], np.uint16), np.array([at])
                self._follow_sequence(*each, blocks=0)
            else:
                self._skip(row, sequence)
        if self._pauses is None:
            self._pauses = Pauses(len(self._base), self.block)
        self._pauses.begin(row, begin, noise)

    def _place_odd_packet(self, row: int, sequence: int, timestamp: int, ssrc: int, voice: Samples) -> None:
        """One packet that is not simply the next of its anchor, or that is no whole number of blocks."""
        if not self._anchored[row]:
            self._anchor(row, ssrc, timestamp)
            self._next_sequence[row] = sequence
        elif int(self._anchor_ssrc[row]) != ssrc:
            self._hear_candidate(row, sequence, timestamp, ssrc, voice)
            return
        offset, off_grid = self._offset(row, timestamp)
        samples = voice
        remainder = self._remainders.pop(row, None)
        if remainder is not None and remainder.next_timestamp == timestamp:
            samples = np.concatenate((remainder.samples, voice))
            start = (timestamp - self._units(len(remainder.samples))) & 0xFFFFFFFF
            offset, off_grid = self._offset(row, start)
        elif remainder is not None and off_grid:
            # The piece before this one was lost: begin where its block does, with silence in the missing part.
            samples = np.concatenate((np.zeros(off_grid * self.block // self._clock_block, np.int16), voice))
            off_grid = 0
        first = int(self._anchor_block[row]) + offset
        blocks, rest = divmod(len(samples), self.block)
        ahead = first - int(self._play_block[row])
        if off_grid or ahead > BLOCKS - blocks - BLOCKS_A_SLOT or ahead <= -BLOCKS:
            self._hear_candidate(row, sequence, timestamp, ssrc, voice)
            return
        if rest:
            units = self._units(len(voice))
            self._remainders[row] = _Remainder((timestamp + units) & 0xFFFFFFFF, samples[-rest:].copy())
        self._leave_candidate(row)
        if ahead < 0:
            if self._end_block[row] <= self._play_block[row] and self.delay.is_adaptive:
                # Nothing is behind it: all that comes is as late as this one.
                first += self._follow_late(row, LEAST_MS // 10 - ahead)
            else:
                self._take_late(row, sequence, timestamp, ssrc, voice, ahead)
                return
        self._late_run[row] = 0
        self._write(row, first, sequence, samples[: blocks * self.block])

    def _follow_late(self, row: int, blocks: int) -> int:
        """Move the anchor this many blocks back to where the packets are; returns ``blocks``."""
        self._anchor_block[row] += blocks
        self._end_block[row] += blocks
        self.delay.lengthened(row, blocks)
        self.stretched[row] += blocks
        return blocks

    def _take_late(self, row: int, sequence: int, timestamp: int, ssrc: int, voice: Samples, ahead: int) -> None:
        """One packet whose time is over while others are in time: lost, and a reason to hold the next ones longer."""
        self.late[row] += 1
        self._late_run[row] += 1
        self.delay.observe(np.array([row]), np.array([ahead]))
        lack = self.delay.lack(row)
        if lack and self.delay.is_adaptive:
            self.delay.lengthened(row, lack)
            self._standing[row] = self._standing.get(row, 0) + lack
        if self._late_run[row] >= LATE_BEFORE_ANCHOR:
            self._reanchor(row, ssrc, timestamp, sequence)
            self._write(row, int(self._anchor_block[row]), sequence, voice[: len(voice) // self.block * self.block])

    def _units(self, samples: int) -> int:
        """RTP timestamp units that so many samples last."""
        return samples * self._clock_block // self.block

    def _offset(self, row: int, timestamp: int) -> tuple[int, int]:
        """Blocks from the anchor to this timestamp, and timestamp units beyond the last whole block."""
        units = (timestamp - int(self._anchor_timestamp[row])) & 0xFFFFFFFF
        if units >= 0x80000000:
            units -= 0x100000000
        return divmod(units, self._clock_block)

    def _hear_candidate(self, row: int, sequence: int, timestamp: int, ssrc: int, voice: Samples) -> None:
        """A new anchor takes two packets in sequence; the first is kept so that nothing of the new talk is lost."""
        before = self._candidates.pop(row, None)
        if before is None or before.ssrc != ssrc or sequence != (before.sequence + 1) & 0xFFFF:
            self.stray[row] += before is not None
            self._candidates[row] = _Candidate(ssrc, sequence, timestamp, voice.copy())
            return
        self._reanchor(row, ssrc, before.timestamp, before.sequence)
        for number, stamp, samples in (
            (before.sequence, before.timestamp, before.samples),
            (sequence, timestamp, voice),
        ):
            offset, _ = self._offset(row, stamp)
            if 0 <= offset < BLOCKS // 2:
                whole = len(samples) // self.block * self.block
                self._write(row, int(self._anchor_block[row]) + offset, number, samples[:whole])
            else:
                self.stray[row] += 1

    def _leave_candidates(self, rows: IntArray) -> None:
        for row in self._candidates.keys() & set(rows.tolist()):
            self._leave_candidate(row)

    def _leave_candidate(self, row: int) -> None:
        """The row's anchor holds: what did not fit it is heard by nobody."""
        self.stray[row] += self._candidates.pop(row, None) is not None

    def _reanchor(self, row: int, ssrc: int, timestamp: int, sequence: int) -> None:
        self._remainders.pop(row, None)
        self._anchor(row, ssrc, timestamp)
        self._next_sequence[row] = sequence
        self.reanchored[row] += 1

    def _anchor(self, row: int, ssrc: int, timestamp: int) -> None:
        self._anchored[row] = True
        self.delay.forget(row)
        self._standing.pop(row, None)
        self._restarts.pop(row, None)
        self._anchor_ssrc[row] = ssrc
        self._anchor_timestamp[row] = timestamp
        self._anchor_block[row] = self._play_block[row] + self.delay.blocks[row]
        self._end_block[row] = self._anchor_block[row]
        self._late_run[row] = 0
        # What the old anchor left beyond this point would be heard twice; what is empty before it was never sent.
        play, anchor = int(self._play_block[row]), int(self._anchor_block[row])
        self._status[row * BLOCKS + (np.arange(anchor, play + BLOCKS) & (BLOCKS - 1))] = EMPTY
        before = row * BLOCKS + (np.arange(play, anchor) & (BLOCKS - 1))
        self._status[before[self._status[before] == EMPTY]] = SILENCE

    def _write(self, row: int, first: int, sequence: int, samples: Samples) -> None:
        blocks = len(samples) // self.block
        if not blocks:
            self._skip(row, sequence)
            return
        at_row = np.array([row], np.int64)
        self._follow_sequence(at_row, np.array([sequence], np.uint16), np.array([first], np.int64), blocks)
        for part in range(blocks):
            at = row * BLOCKS + ((first + part) & (BLOCKS - 1))
            if self._status[at] == VOICE and part == 0:
                self.duplicate[row] += 1
            self._voice[at] = samples[part * self.block : (part + 1) * self.block]
            self._status[at] = VOICE
            self._came_s[at] = self.now
