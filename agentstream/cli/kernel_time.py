"""When a packet came in, by the kernel's own note of it (SO_TIMESTAMPNS), on the monotonic clock.

A program that reads its socket late still learns when the packet was there. The kernel notes wall-clock time, so the
distance between the two clocks is read anew as time goes on; where the kernel notes nothing (macOS), the time of
reading stands in.
"""

from __future__ import annotations

import socket
import struct
import sys
import time

import attrs

_SO_TIMESTAMPNS = 35  # asm-generic/socket.h; the socket module does not name it
_TIMESPEC = struct.Struct("@qq")
ANCILLARY_BYTES = socket.CMSG_SPACE(_TIMESPEC.size)
IS_KERNEL_TIME = sys.platform == "linux"
"""Whether arrival times are the kernel's; where not, they are the time of reading."""

Ancillary = list[tuple[int, int, bytes]]


def ask_for_time(sock: socket.socket) -> None:
    """Have the kernel note when each packet, or each piece of a stream, arrives at this socket."""
    if IS_KERNEL_TIME:
        sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)


def _clock_distance_ns() -> int:
    """Wall-clock time less monotonic time: the reading with the least time between the two, of five."""
    readings = []
    for _ in range(5):
        before = time.monotonic_ns()
        wall = time.clock_gettime_ns(time.CLOCK_REALTIME)
        after = time.monotonic_ns()
        readings.append((after - before, wall - (before + after) // 2))
    return min(readings)[1]


@attrs.define
class ArrivalClock:
    """Reads the kernel's note beside a received packet.

    :ivar _distance_ns: wall-clock less monotonic, nanoseconds; read anew every second so that a slewed clock does no
        harm.
    """

    _distance_ns: int = attrs.field(factory=_clock_distance_ns)
    _read_ns: int = attrs.field(factory=time.monotonic_ns)

    def arrival_ns(self, ancillary: Ancillary) -> int:
        """Monotonic nanoseconds of the arrival that recvmsg's ancillary data tells of; now, where it tells nothing."""
        for level, kind, noted in ancillary:
            if level == socket.SOL_SOCKET and kind == _SO_TIMESTAMPNS and len(noted) == _TIMESPEC.size:
                seconds, nanoseconds = _TIMESPEC.unpack(noted)
                return int(seconds) * 1_000_000_000 + int(nanoseconds) - self.distance_ns()
        return time.monotonic_ns()

    def distance_ns(self) -> int:
        """What to take from the kernel's wall-clock nanoseconds to have monotonic ones."""
        now = time.monotonic_ns()
        if now - self._read_ns > 1_000_000_000:
            self._distance_ns = _clock_distance_ns()
            self._read_ns = now
        return self._distance_ns
