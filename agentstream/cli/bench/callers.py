"""The sound of all callers of the bench: a caller is a row, and 32 rows share a UDP port.

So that the load is not what is measured, packets are built and read as matrices and go through the kernel in batches.
The server sees what it would of phones with a port each: its legs have ports of their own, by which their packets are
told apart here. A packet leaves at its place in its caller's 20 ms grid, up to 2 ms off it.
"""

from __future__ import annotations

import socket
import time

import numpy as np
import numpy.typing as npt

from agentstream.cli.bench import frames, tone_codes
from agentstream.cli.bench.datagrams import NAME_BYTES, Bytes, Inbox, Outbox, sockaddr
from agentstream.cli.bench.notes import Notes
from agentstream.cli.kernel_time import ArrivalClock
from agentstream.cli.rtp_line import open_rtp_socket
from agentstream.media import srtp
from agentstream.sdp import Keys

SENT = np.dtype([("at_ns", "<i8"), ("frame", "<u4"), ("call", "<u4")])
RECEIVED = np.dtype(
    [("at_ns", "<i8"), ("codes", "u1", (2, 8)), ("timestamp", "<u4"), ("call", "<u2"), ("number", "<u2")]
)
KINDS = ("sent", "received", "sound")

TICK_S = 0.02
JITTER_S = 0.002
SHARED = 32
"""Callers a port: the kernel's default receive buffer holds some eight ticks of their packets."""

_HEADER = 12
_PACKET_BYTES = _HEADER + frames.FRAME_BYTES
_NOBODY = -1


class Callers:
    """All rows.

    :param rows: callers at once.
    :param speech: mu-law, uint8 (frames, 160), of which each caller says another part.
    :param has_tones: frames are numbered by tones, for bots that hear them resampled.
    :param suite: of SRTP, of every call; "" is RTP.
    :ivar packets_of: how many packets each row has had since it began.
    :ivar latest_s: how much later than it should a numbered packet left at worst: what this machine did to the
        measurement.
    """

    def __init__(
        self,
        host: str,
        rows: int,
        speech: Bytes,
        random: np.random.Generator,
        notes: Notes,
        has_tones: bool = False,
        suite: str = "",
    ) -> None:
        pairs = [open_pair(host) for _ in range(-(-rows // SHARED))]
        self.socks, self._control = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
        self.is_numbering = False
        self.latest_s = 0.0
        self.refused = 0
        self.packets_of = np.zeros(rows, np.int64)
        self._rows = rows
        self._speech = speech
        self._random = random
        self._notes = notes
        self._has_tones = has_tones
        self._clock = ArrivalClock()
        self._due_s = np.full(rows, np.inf)
        self._start_s = np.zeros(rows)
        self._names = np.zeros((rows, NAME_BYTES), np.uint8)
        self._row_of_port = np.full(65536, _NOBODY, np.int64)
        self._port = np.zeros(rows, np.int64)
        self._call, self._frame, self._slot, self._offset, self._number, self._timestamp, self._ssrc = (
            np.zeros(rows, np.int64) for _ in range(7)
        )
        self._is_secure = bool(suite)
        self._width = _PACKET_BYTES + (srtp.TAGS[suite] if suite else 0)
        self._outbox = Outbox(rows, self._width)
        self._outbox.packets[:, 0] = 0x80
        self._inbox = Inbox(4 * SHARED, 2048)
        self._contexts: dict[int, tuple[srtp.Context, srtp.ReadContext]] = {}
        self._counts = srtp.Counts(max(rows, 4 * SHARED))
        self._out, self._in = (
            [srtp.pointer_to(packet.data) for packet in box.packets] for box in (self._outbox, self._inbox)
        )

    def port(self, row: int) -> int:
        """Where a row's caller takes RTP."""
        return int(self.socks[row // SHARED].getsockname()[1])

    def begin(self, row: int, call: int, host: str, port: int, now: float, keys: Keys | None = None) -> None:
        """A call is answered: send to there. Its phase is its row's share of 20 ms.

        :param call: its number, in the codes of its frames.
        """
        number, timestamp, ssrc = self._random.integers(0, 1 << np.array([15, 32, 32]))
        if keys is not None:
            self._contexts[row] = srtp.Context(keys.suite, keys.send), srtp.ReadContext(keys.suite, keys.receive)
        self._names[row] = np.frombuffer(sockaddr(host, port), np.uint8)
        self._row_of_port[port] = row
        self._port[row], self._call[row], self._offset[row] = port, call, 37 * call
        self._number[row], self._timestamp[row], self._ssrc[row] = number, timestamp, ssrc
        self._slot[row] = self._frame[row] = self.packets_of[row] = 0
        self._start_s[row] = self._due_s[row] = (now // TICK_S + 1) * TICK_S + TICK_S * row / self._rows

    def end(self, row: int) -> None:
        """The call is over."""
        self._due_s[row] = np.inf
        self._row_of_port[self._port[row]] = _NOBODY

    @property
    def deadline(self) -> float:
        """When the next packet leaves."""
        return float(self._due_s.min())

    def send_due(self, now: float) -> None:
        """Send every packet whose time has come."""
        rows = np.flatnonzero(self._due_s <= now)
        if not len(rows):
            return
        n = len(rows)
        packets = self._outbox.packets[:n]
        _big_endian(packets[:, 2:4], self._number[rows])
        _big_endian(packets[:, 4:8], self._timestamp[rows])
        _big_endian(packets[:, 8:12], self._ssrc[rows])
        packets[:, _HEADER:_PACKET_BYTES] = self._speech[(self._offset[rows] + self._slot[rows]) % len(self._speech)]
        if self.is_numbering:
            self.latest_s = max(self.latest_s, now - float(self._due_s[rows].min()))
            self._put_numbers(packets[:, _HEADER:_PACKET_BYTES], rows)
        if self._is_secure:
            self._protect(rows)
        self._outbox.names[:n] = self._names[rows]
        groups = rows // SHARED
        starts = np.flatnonzero(np.diff(groups, prepend=-1)).tolist()
        for first, end in zip(starts, [*starts[1:], n], strict=True):
            self.refused += self._outbox.send(self.socks[groups[first]], first, end)
        self._slot[rows] += 1
        self._number[rows] += 1
        self._timestamp[rows] += frames.FRAME_BYTES
        jitter = (2 * self._random.random(n) - 1) * JITTER_S
        self._due_s[rows] = self._start_s[rows] + self._slot[rows] * TICK_S + jitter

    def _put_numbers(self, payloads: Bytes, rows: npt.NDArray[np.int64]) -> None:
        """Have payloads say whose and which frame they are, and note it."""
        calls, numbers = self._call[rows], self._frame[rows]
        if self._has_tones:
            for payload, call, number in zip(payloads, calls.tolist(), numbers.tolist(), strict=True):
                payload[:] = np.frombuffer(tone_codes.ulaw_of(call, number % tone_codes.MAX_FRAMES), np.uint8)
        else:
            frames.write_codes(payloads[:, : frames.CODE_BYTES], calls, numbers)
        records = np.empty(len(rows), SENT)
        records["call"], records["frame"] = calls, numbers
        records["at_ns"] = time.monotonic_ns()
        self._notes.add("sent", records.tobytes())
        self._frame[rows] += 1

    def hear(self, sock: socket.socket) -> None:
        """Take and note what waits at one of the ports."""
        inbox = self._inbox
        count = inbox.receive(sock)
        rows = self._row_of_port[inbox.ports(count)]
        taken = np.flatnonzero((inbox.lengths(count) == self._width) & (rows != _NOBODY))
        if not len(taken):
            return
        rows, packets = rows[taken], inbox.packets[taken, :_PACKET_BYTES]
        np.add.at(self.packets_of, rows, 1)
        if not self._notes.are_open:
            return
        if self._is_secure:
            is_read = self._unprotect(rows, taken)
            rows, taken, packets = rows[is_read], taken[is_read], inbox.packets[taken[is_read], :_PACKET_BYTES]
        records = np.empty(len(taken), RECEIVED)
        records["at_ns"] = inbox.at_ns(count)[taken] - self._clock.distance_ns()
        records["codes"][:, 0] = packets[:, _HEADER : _HEADER + frames.CODE_BYTES]
        second = _HEADER + frames.BLOCK
        records["codes"][:, 1] = packets[:, second : second + frames.CODE_BYTES]
        records["number"] = np.ascontiguousarray(packets[:, 2:4]).view(">u2")[:, 0]
        records["timestamp"] = np.ascontiguousarray(packets[:, 4:8]).view(">u4")[:, 0]
        records["call"] = self._call[rows]
        self._notes.add("received", records.tobytes())
        if self._has_tones:
            self._notes.add("sound", packets[:, _HEADER:].tobytes())

    def _protect(self, rows: npt.NDArray[np.int64]) -> None:
        self._counts.values[: len(rows)] = _PACKET_BYTES
        sessions = [self._contexts[row][0].srtp for row in rows.tolist()]
        codes = list(map(srtp.protect, sessions, self._out, self._counts.pointers))
        self.refused += len(codes) - codes.count(0)

    def _unprotect(self, rows: npt.NDArray[np.int64], places: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Read packets in place; which of them could be."""
        self._counts.values[: len(rows)] = self._width
        sessions = [self._contexts[row][1].srtp for row in rows.tolist()]
        pointers = [self._in[at] for at in places.tolist()]
        codes = map(srtp.unprotect, sessions, pointers, self._counts.pointers)
        return np.array([code == 0 for code in codes], np.bool_)

    def close(self) -> None:
        """Let go of the ports."""
        for sock in (*self.socks, *self._control):
            sock.close()


def _big_endian(out: Bytes, values: npt.NDArray[np.int64]) -> None:
    """Write values, each cut to the width of the matrix, in network order."""
    width = out.shape[1]
    out[:] = values.astype(">i8").view(np.uint8).reshape(-1, 8)[:, 8 - width :]


def open_pair(host: str) -> tuple[socket.socket, socket.socket]:
    """A port for RTP and the odd one behind it, where RTCP arrives and stays: a closed port would answer it, which no
    phone's does."""
    while True:
        sock = open_rtp_socket(host)
        control = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            control.bind((host, sock.getsockname()[1] + 1))
        except OSError:
            sock.close()
            control.close()
        else:
            return sock, control
