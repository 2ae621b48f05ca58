"""Many datagrams in one system call: sendmmsg and recvmmsg of Linux, over matrices that numpy fills and reads.

Contract: a packet is a row. Nothing here knows what is in one. The structures are those of 64-bit Linux with glibc.
"""

from __future__ import annotations

import ctypes
import socket
from errno import EINTR

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]

_MESSAGE = np.dtype(
    {
        "names": ["name", "name_bytes", "pieces", "piece_count", "control", "control_bytes", "flags", "length"],
        "formats": ["<u8", "<u4", "<u8", "<u8", "<u8", "<u8", "<i4", "<u4"],
        "offsets": [0, 8, 16, 24, 32, 40, 48, 56],
        "itemsize": 64,
    }
)
"""struct mmsghdr: a struct msghdr (sendmsg(2)) and the bytes that were sent or received."""

NAME_BYTES = 16  # struct sockaddr_in
_CONTROL_BYTES = 32  # one cmsghdr and a struct timespec: the kernel's time of arrival
_libc = ctypes.CDLL(None, use_errno=True)


def sockaddr(host: str, port: int) -> bytes:
    """An IPv4 address as the kernel takes it (struct sockaddr_in)."""
    return socket.AF_INET.to_bytes(2, "little") + port.to_bytes(2, "big") + socket.inet_aton(host) + bytes(8)


def _messages(packets: Bytes, names: Bytes) -> tuple[npt.NDArray[np.void], npt.NDArray[np.uint64]]:
    """One header a row, which points at the row and at its address for ever; and the pieces, which it needs as long."""
    rows, width = packets.shape
    pieces = np.zeros((rows, 2), np.uint64)
    pieces[:, 0] = packets.ctypes.data + np.arange(rows) * width
    pieces[:, 1] = width
    messages = np.zeros(rows, _MESSAGE)
    messages["name"] = names.ctypes.data + np.arange(rows) * NAME_BYTES
    messages["name_bytes"] = NAME_BYTES
    messages["pieces"] = pieces.ctypes.data + np.arange(rows) * 16
    messages["piece_count"] = 1
    return messages, pieces


class Outbox:
    """Packets of one length that leave together.

    :ivar packets: uint8 (rows, width). :ivar names: uint8 (rows, 16): to whom, as `sockaddr` gives it.
    """

    def __init__(self, rows: int, width: int) -> None:
        self.packets: Bytes = np.zeros((rows, width), np.uint8)
        self.names: Bytes = np.zeros((rows, NAME_BYTES), np.uint8)
        self._messages, self._pieces = _messages(self.packets, self.names)

    def send(self, sock: socket.socket, first: int, end: int) -> int:
        """Send rows `first` to `end` from one socket; returns how many the kernel refused."""
        refused, fd, at = 0, sock.fileno(), self._messages.ctypes.data
        while first < end:
            sent = _libc.sendmmsg(fd, ctypes.c_void_p(at + first * _MESSAGE.itemsize), end - first, 0)
            if sent > 0:
                first += sent
            elif ctypes.get_errno() != EINTR:
                refused, first = refused + 1, first + 1
        return refused


class Inbox:
    """Room for packets that came in.

    :ivar packets: uint8 (rows, width), of which the first rows hold what `receive` found.
    """

    def __init__(self, rows: int, width: int) -> None:
        self.packets: Bytes = np.zeros((rows, width), np.uint8)
        self._names: Bytes = np.zeros((rows, NAME_BYTES), np.uint8)
        self._control = np.zeros((rows, _CONTROL_BYTES // 8), np.int64)
        self._messages, self._pieces = _messages(self.packets, self._names)
        self._messages["control"] = self._control.ctypes.data + np.arange(rows) * _CONTROL_BYTES

    def receive(self, sock: socket.socket) -> int:
        """Take what waits at a socket, as far as there is room; returns how many packets that were."""
        rows = len(self._messages)
        self._messages["name_bytes"] = NAME_BYTES
        self._messages["control_bytes"] = _CONTROL_BYTES
        at = ctypes.c_void_p(self._messages.ctypes.data)
        # An error is told once and is nobody's packet: nothing waits, or one of ours found a closed port.
        return max(0, int(_libc.recvmmsg(sock.fileno(), at, rows, socket.MSG_DONTWAIT, None)))

    def lengths(self, count: int) -> Ints:
        """The length of each of the first packets."""
        return self._messages["length"][:count].astype(np.int64)

    def ports(self, count: int) -> Ints:
        """The UDP port that each of them came from."""
        return (self._names[:count, 2].astype(np.int64) << 8) | self._names[:count, 3]

    def at_ns(self, count: int) -> Ints:
        """The kernel's wall-clock time of arrival of each of them; needs SO_TIMESTAMPNS at the socket."""
        noted = self._control[:count]
        return noted[:, 2] * 1_000_000_000 + noted[:, 3]
