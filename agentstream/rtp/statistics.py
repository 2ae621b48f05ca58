"""How an RTP stream arrives (RFC 3550 appendices A.1, A.3, A.8): loss and jitter, of one source or of many rows at
once.

Contract: ``Reception`` and ``ReceptionMatrix`` count the same. Sources reach them only after the latch has chosen them,
so there is no probation (A.1's MIN_SEQUENTIAL is 0) and the first packet counts. Unlike A.1, a source that begins anew
keeps what it had received and lost before: totals are of the call, and ``discarded`` says what could not be placed.
"""

from __future__ import annotations

import attrs
import numpy as np
import numpy.typing as npt

from agentstream.rtp.rtcp import ReportBlock
from agentstream.rtp.serial import subtract_32

MAX_DROPOUT = 3000
"""A jump forward by fewer is a gap (A.1)."""
MAX_MISORDER = 100
"""A jump back by at most so many is a late packet (A.1)."""

_NO_SEQUENCE = -1
_CIRCLE = 1 << 16

Rows = npt.NDArray[np.intp]


@attrs.define
class Reception:
    """One source as it arrives; for the test phone.

    :ivar rate_hz: the RTP clock.
    :ivar received: packets counted, late ones and duplicates included.
    :ivar discarded: packets whose sequence number fitted nowhere and was not confirmed by the next one.
    :ivar highest: highest sequence number, extended by wraps; -1 before the first packet.
    :ivar jitter: interarrival jitter in units of the RTP clock.
    """

    rate_hz: int = 8000
    received: int = 0
    discarded: int = 0
    highest: int = _NO_SEQUENCE
    jitter: float = 0.0
    _base: int = 0
    _expected_before: int = 0
    _bad: int = _NO_SEQUENCE
    _last: tuple[int, float] | None = None
    _reported: tuple[int, int] = (0, 0)

    @property
    def expected(self) -> int:
        """Packets that were sent, as far as the sequence numbers tell (A.3)."""
        return self._expected_before + (self.highest - self._base + 1 if self.highest >= 0 else 0)

    @property
    def lost(self) -> int:
        """Expected less received (A.3); duplicates make it smaller, even negative."""
        return self.expected - self.received

    @property
    def jitter_ms(self) -> float:
        """Interarrival jitter in milliseconds."""
        return self.jitter * 1000 / self.rate_hz

    def count(self, sequence_number: int) -> bool:
        """Count one packet; False when its number fits nowhere (A.1)."""
        if self.highest < 0:
            self._begin(sequence_number)
            self.received += 1
            return True
        ahead = (sequence_number - self.highest) % _CIRCLE
        if ahead < MAX_DROPOUT:
            self.highest += ahead
        elif ahead <= _CIRCLE - MAX_MISORDER:
            if sequence_number != self._bad:
                self._bad = (sequence_number + 1) % _CIRCLE
                self.discarded += 1
                return False
            # "Two sequential packets -- assume that the other side restarted without telling us."
            self._expected_before = self.expected
            self._begin((sequence_number - 1) % _CIRCLE)
            self.highest += 1
            self.discarded -= 1
            self.received += 1
        self.received += 1
        return True

    def time(self, timestamp: int, now: float) -> None:
        """Take a packet's RTP timestamp and arrival (monotonic s) into the jitter (A.8).

        Not for telephone-events: the timestamp stands still while they last.
        """
        if self._last is not None:
            last_timestamp, last_now = self._last
            transit = (now - last_now) * self.rate_hz - subtract_32(timestamp, last_timestamp)
            self.jitter += (abs(transit) - self.jitter) / 16
        self._last = (timestamp, now)

    def new_source(self) -> None:
        """The next packet begins a new sequence; totals stay."""
        self._expected_before = self.expected
        self.highest, self._bad, self._last, self.jitter = _NO_SEQUENCE, _NO_SEQUENCE, None, 0.0

    def report(self, ssrc: int, last_sr: int = 0, delay_since_last_sr: int = 0) -> ReportBlock:
        """The block of a report on this source; the fraction is of what came since the last call."""
        before, self._reported = self._reported, (self.expected, self.received)
        return _block(ssrc, before, self._reported, self.highest, self.jitter, last_sr, delay_since_last_sr)

    def _begin(self, sequence_number: int) -> None:
        self._base = self.highest = sequence_number
        self._bad = _NO_SEQUENCE


class ReceptionMatrix:
    """Many sources as they arrive, one a row, in arrays of shape (rows,); for the tick.

    :param rows: number of rows; never grows.
    :param rate_hz: the RTP clock of all rows, until :meth:`clock` gives one another.

    :ivar received: int64. :ivar discarded: int64. :ivar highest: int64. :ivar jitter: float64; all as in Reception.
    """

    def __init__(self, rows: int, rate_hz: int = 8000) -> None:
        self._rate_hz = rate_hz
        self._rates = np.full(rows, rate_hz, np.int64)
        self._others: set[int] = set()
        self.received = np.zeros(rows, np.int64)
        self.discarded = np.zeros(rows, np.int64)
        self.highest = np.full(rows, _NO_SEQUENCE, np.int64)
        self.jitter = np.zeros(rows, np.float64)
        self._base = np.zeros(rows, np.int64)
        self._expected_before = np.zeros(rows, np.int64)
        self._bad = np.full(rows, _NO_SEQUENCE, np.int32)
        self._last_timestamp = np.zeros(rows, np.uint32)
        self._last_now = np.full(rows, np.nan)
        self._reported = np.zeros((rows, 2), np.int64)

    def expected(self, row: int) -> int:
        """Packets that were sent to a row, as far as the sequence numbers tell."""
        highest = int(self.highest[row])
        now = highest - int(self._base[row]) + 1 if highest >= 0 else 0
        return int(self._expected_before[row]) + now

    def lost(self, row: int) -> int:
        """Expected less received of a row; duplicates make it smaller, even negative."""
        return self.expected(row) - int(self.received[row])

    def jitter_ms(self, row: int) -> float:
        """Interarrival jitter of a row in milliseconds."""
        return float(self.jitter[row]) * 1000 / int(self._rates[row])

    def count(self, rows: Rows, sequence_numbers: npt.NDArray[np.uint16]) -> npt.NDArray[np.bool_]:
        """Count one packet of each row; no row appears twice. False where the number fits nowhere (A.1)."""
        highest = self.highest[rows]
        number = sequence_numbers.astype(np.int64)
        ahead = (number - highest) & 0xFFFF
        is_first = highest < 0
        is_next = ~is_first & (ahead < MAX_DROPOUT)
        self.highest[rows] = np.where(is_next, highest + ahead, highest)
        is_placed = is_next | is_first | (ahead > _CIRCLE - MAX_MISORDER)
        if not is_placed.all():
            self._jump(rows[~is_placed], number[~is_placed])
        if is_first.any():
            begun = rows[is_first]
            self.highest[begun] = self._base[begun] = number[is_first]
            self._bad[begun] = _NO_SEQUENCE
        # A restart has just moved its row, so it counts as placed from here on.
        is_placed |= self._bad[rows] != (number + 1) & 0xFFFF
        self.received[rows] += is_placed
        return is_placed

    def time(self, rows: Rows, timestamps: npt.NDArray[np.uint32], now: npt.NDArray[np.float64] | float) -> None:
        """Take one packet of each row into the jitter (A.8); no row appears twice. Not for telephone-events.

        :param now: when each arrived, monotonic s: float64[k], or one for all.
        """
        arrival = np.broadcast_to(np.asarray(now, np.float64), rows.shape)
        step = np.subtract(timestamps, self._last_timestamp[rows], dtype=np.uint32).view(np.int32)
        rate_hz = self._rates[rows] if self._others else self._rate_hz
        transit = np.abs((arrival - self._last_now[rows]) * rate_hz - step)
        jitter = self.jitter[rows]
        # A first packet has nothing before it: its transit is not a number.
        self.jitter[rows] = np.where(np.isnan(transit), jitter, jitter + (transit - jitter) / 16)
        self._last_timestamp[rows] = timestamps
        self._last_now[rows] = arrival

    def is_next(self, rows: Rows, sequence_numbers: npt.NDArray[np.uint16]) -> npt.NDArray[np.bool_]:
        """Whether each number is the one behind the highest of its row."""
        is_next = (self.highest[rows] + 1) & 0xFFFF == sequence_numbers
        return np.asarray(is_next & ~np.isnan(self._last_now[rows]))

    def go_on(self, rows: Rows, step: npt.NDArray[np.uint32], now: float) -> None:
        """Count and time one packet of each row whose number is the next; no row appears twice.

        :param step: RTP timestamp units from the packet before, of which :meth:`time` was told, uint32 (k,).
        """
        self.highest[rows] += 1
        self.received[rows] += 1
        transit = (now - self._last_now[rows]) * (self._rates[rows] if self._others else self._rate_hz)
        transit -= step
        np.abs(transit, out=transit)
        jitter = self.jitter[rows]
        transit -= jitter
        transit *= 1 / 16
        self.jitter[rows] = jitter + transit
        self._last_timestamp[rows] += step
        self._last_now[rows] = now

    def new_source(self, rows: Rows) -> None:
        """The next packet of each row begins a new sequence; totals stay."""
        highest = self.highest[rows]
        self._expected_before[rows] += np.where(highest >= 0, highest - self._base[rows] + 1, 0)
        self.highest[rows] = _NO_SEQUENCE
        self._bad[rows] = _NO_SEQUENCE
        self.jitter[rows] = 0.0
        self._last_now[rows] = np.nan

    def clock(self, row: int, rate_hz: int) -> None:
        """The RTP clock of a row from now on; another one begins its jitter anew."""
        if rate_hz == self._rates[row]:
            return
        self._rates[row] = rate_hz
        (self._others.discard if rate_hz == self._rate_hz else self._others.add)(row)
        self.jitter[row] = 0.0
        self._last_now[row] = np.nan

    def reset(self, rows: Rows) -> None:
        """Everything at zero: another call in the row."""
        self.new_source(rows)
        self.received[rows] = self.discarded[rows] = self._expected_before[rows] = 0
        self._reported[rows] = 0

    def report(self, row: int, ssrc: int, last_sr: int = 0, delay_since_last_sr: int = 0) -> ReportBlock:
        """The block of a report on a row's source; the fraction is of what came since the last call."""
        before = (int(self._reported[row, 0]), int(self._reported[row, 1]))
        now = (self.expected(row), int(self.received[row]))
        self._reported[row] = now
        return _block(ssrc, before, now, int(self.highest[row]), float(self.jitter[row]), last_sr, delay_since_last_sr)

    def _jump(self, rows: Rows, number: npt.NDArray[np.int64]) -> None:
        """Numbers far from the expected: remembered once, and a new beginning when the next one confirms them."""
        is_restart = self._bad[rows] == number
        begun, first = rows[is_restart], (number[is_restart] - 1) & 0xFFFF
        self._expected_before[begun] += self.highest[begun] - self._base[begun] + 1
        self._base[begun] = first
        self.highest[begun] = first + 1
        self._bad[begun] = _NO_SEQUENCE
        self.received[begun] += 1
        self.discarded[begun] -= 1
        unsure = rows[~is_restart]
        self._bad[unsure] = (number[~is_restart] + 1) & 0xFFFF
        self.discarded[unsure] += 1


def _block(
    ssrc: int,
    before: tuple[int, int],
    now: tuple[int, int],
    highest: int,
    jitter: float,
    last_sr: int,
    delay_since_last_sr: int,
) -> ReportBlock:
    expected, lost = now[0] - before[0], (now[0] - before[0]) - (now[1] - before[1])
    fraction = min(255, (lost << 8) // expected) if expected > 0 and lost > 0 else 0
    cumulative = max(-0x800000, min(0x7FFFFF, now[0] - now[1]))
    return ReportBlock(
        ssrc, fraction, cumulative, max(highest, 0) & 0xFFFFFFFF, int(jitter) & 0xFFFFFFFF, last_sr, delay_since_last_sr
    )
