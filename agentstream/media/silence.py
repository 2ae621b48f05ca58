"""Who has stopped sending: all rows once a second, as arrays.

A far end that may send (no hold, no recvonly) and does not is told of once, and once again when it is back. A far end
of which neither RTP nor RTCP comes for longer still is given up: its phone is gone, and nobody will send BYE. RTCP is a
sign of life there because a phone that suppresses silence sends no RTP while nobody speaks.
"""

from __future__ import annotations

import attrs
import numpy as np
import numpy.typing as npt

TICKS_A_SECOND = 50

STOPPED, RESUMED, TIMED_OUT = "rtp_stopped", "rtp_resumed", "rtp_timed_out"

Ticks = npt.NDArray[np.int64]


@attrs.frozen
class RtpChange:
    """RTP has stopped, is back, or has been away for too long.

    :ivar kind: STOPPED, RESUMED or TIMED_OUT. :ivar silent_s: whole seconds without RTP.
    """

    kind: str
    silent_s: int


class SilenceWatch:
    """Every row's last sign of life against two limits.

    :param stopped_s: seconds without RTP until it counts as stopped; 0 for never.
    :param timeout_s: seconds without RTP and RTCP until it is given up; 0 for never.
    """

    def __init__(self, rows: int, stopped_s: int, timeout_s: int) -> None:
        self._stopped_ticks = stopped_s * TICKS_A_SECOND
        self._timeout_ticks = timeout_s * TICKS_A_SECOND
        self._is_expected = np.zeros(rows, np.bool_)
        self._since = np.zeros(rows, np.int64)
        self._is_stopped = np.zeros(rows, np.bool_)
        self._heard_last = np.zeros(rows, np.int64)

    def describe(self, row: int, may_send: bool, tick: int) -> None:
        """Whether the far end may send from now on. Its time begins here where it might not before."""
        if may_send and not self._is_expected[row]:
            self._since[row] = tick
        self._is_expected[row] = may_send

    def close(self, row: int) -> None:
        self._is_expected[row] = self._is_stopped[row] = False

    def look(self, high: int, tick: int, heard: Ticks, reported: Ticks) -> list[tuple[int, RtpChange]]:
        """What has changed in rows 0 to high - 1.

        :param heard: int64 (rows,): the tick of each row's last RTP. :param reported: of its last RTCP.
        """
        last = np.maximum(heard[:high], self._since[:high])
        is_expected, is_stopped = self._is_expected[:high], self._is_stopped[:high]
        changes: list[tuple[int, RtpChange]] = []
        if is_stopped.any():
            for row in np.flatnonzero(is_stopped & (heard[:high] > self._heard_last[:high])).tolist():
                is_stopped[row] = False
                silent = tick - int(self._heard_last[row])
                changes.append((row, RtpChange(RESUMED, silent // TICKS_A_SECOND)))
        if self._stopped_ticks:
            for row in np.flatnonzero(is_expected & ~is_stopped & (tick - last >= self._stopped_ticks)).tolist():
                is_stopped[row] = True
                self._heard_last[row] = last[row]
                changes.append((row, RtpChange(STOPPED, (tick - int(last[row])) // TICKS_A_SECOND)))
        if self._timeout_ticks:
            signs = np.maximum(last, reported[:high])
            for row in np.flatnonzero(is_expected & (tick - signs >= self._timeout_ticks)).tolist():
                is_expected[row] = False  # said once
                changes.append((row, RtpChange(TIMED_OUT, (tick - int(last[row])) // TICKS_A_SECOND)))
        return changes
