"""Datagram ports: the socket work of the tick behind one interface.

Every leg has a pair of ports, RTP on an even number and RTCP on the next odd one (RFC 3550 section 11). The kernel
version below polls all of them with one epoll object (``selectors`` where there is no epoll);
:class:`agentstream.testing.network.MemoryPorts` is the same contract in memory, for tests on a Clock.

A row whose source is known gets its RTP socket connected to it, which makes each of its system calls cheaper, and a
second socket on the same port, the *catcher*, which gets what everybody else sends there.

No method here makes a Python call per packet except the socket call itself.
"""

from __future__ import annotations

import errno
import select
import selectors
import socket
import sys
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

import attrs

from agentstream.errors import ResourceError

Address = tuple[str, int]
"""An IP address literal and a UDP port."""

PACKET_CAPACITY = 2048
"""Bytes of one receive row. A datagram that fills it is oversize."""

READS_A_TICK = 8
"""Datagrams that one port may deliver in one tick."""

DISCARDS_A_TICK = 64
"""Datagrams that one port may lose in one tick beyond those, so that a flood costs only its own row."""

QUARANTINE_S = 2.0
"""Seconds for which a closed pair goes on swallowing what the far end still sends."""


@attrs.define
class Pass:
    """What one pass over the readable ports brought; at most one datagram a row.

    :ivar rows: the row of each datagram.
    :ivar lengths: the received length of each datagram in bytes.
    :ivar sources: the source address of each datagram.
    :ivar others: the places of those that are not from the source that their row is settled on.
    :ivar control: RTCP of any row, from its odd port: (row, datagram, source); at most PACKET_CAPACITY bytes of it.
    """

    rows: list[int] = attrs.Factory(list)
    lengths: list[int] = attrs.Factory(list)
    sources: list[Address] = attrs.Factory(list)
    others: list[int] = attrs.Factory(list)
    control: list[tuple[int, bytes, Address]] = attrs.Factory(list)

    def forget(self) -> None:
        self.rows.clear()
        self.lengths.clear()
        self.sources.clear()
        self.others.clear()
        self.control.clear()


class DatagramPorts(Protocol):
    """What the tick asks of the network."""

    discarded: list[int]
    socket_errors: int

    def open(self, row: int, now: float, *, is_v6: bool = False) -> int:
        """Bind a pair for this row; returns the even port. Raises ResourceError when none is left."""

    def close(self, row: int, now: float) -> None:
        """Forget the row's pair; it is bound for two more seconds and then free again."""

    def sender(self, row: int) -> Callable[[memoryview, Address], object]:
        """A callable that sends one datagram from the row's RTP port; may raise OSError."""

    def control_sender(self, row: int) -> Callable[[memoryview, Address], object]:
        """The same from the row's RTCP port."""

    def settle(self, row: int, source: Address) -> Callable[[memoryview], object] | None:
        """The row hears this source and nobody else. To be repeated, once a second, for as long as that is so: it
        takes a few steps. Gives what sends to the source from then on, when there is a cheaper way to."""

    def unsettle(self, row: int) -> None:
        """The row may hear somebody else."""

    def receive(self, inbox: list[memoryview], into: Pass) -> bool:
        """Read one datagram from every readable port, RTP into ``inbox[i]``; False when none was readable."""

    def discard(self) -> None:
        """Behind passes of which none found nothing: throw away what is left at the ports that every pass found
        readable, at most DISCARDS_A_TICK a port, counted in ``discarded[row]``. What came to others meanwhile waits."""

    def release(self, now: float) -> None:
        """Free the pairs whose quarantine is over. Once a second is enough."""

    def stop(self) -> None:
        """Close every socket."""


class _EpollPoll:
    """The readable file descriptors, by epoll."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self.readable: Callable[[float, int], list[tuple[int, int]]] = self._epoll.poll

    def register(self, fd: int) -> None:
        self._epoll.register(fd, select.EPOLLIN)

    def unregister(self, fd: int) -> None:
        self._epoll.unregister(fd)

    def close(self) -> None:
        self._epoll.close()


class _SelectorPoll:
    """The same where there is no epoll (macOS): good for a developer's call."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()

    def readable(self, timeout: float, most: int) -> list[tuple[int, int]]:
        return [(key.fd, events) for key, events in self._selector.select(timeout)[:most]]

    def register(self, fd: int) -> None:
        self._selector.register(fd, selectors.EVENT_READ)

    def unregister(self, fd: int) -> None:
        self._selector.unregister(fd)

    def close(self) -> None:
        self._selector.close()


@attrs.define(eq=False)
class _Pair:
    """The sockets of one row.

    :ivar connected: where ``rtp`` is connected to; then ``catcher`` gets what others send to its port.
    :ivar is_settled: what ``rtp`` holds can only be from there.
    """

    port: int
    rtp: socket.socket
    rtcp: socket.socket
    catcher: socket.socket | None = None
    connected: Address | None = None
    is_settled: bool = False

    def send_rtp(self, packet: memoryview, address: Address) -> object:
        try:
            return self.rtp.sendto(packet, address)
        except ConnectionRefusedError:  # ICMP's answer to an earlier packet, told instead of sending this one
            return self.rtp.sendto(packet, address)

    def close(self) -> None:
        for sock in (self.rtp, self.rtcp, self.catcher):
            if sock is not None:
                sock.close()


class KernelPorts:
    """Real UDP sockets.

    :param host: the IP literal to bind. :param host_v6: the one for calls over IPv6, where ``host`` is of IPv4.
    :param first: the lowest port number that may be used; rounded up to even.
    :param last: the highest, inclusive.
    :param rows: how many rows there can be.
    :param use_epoll: None decides by what the platform has.
    """

    def __init__(
        self, host: str, first: int, last: int, rows: int, use_epoll: bool | None = None, host_v6: str = ""
    ) -> None:
        if use_epoll is None:
            use_epoll = hasattr(select, "epoll")
        self._poll: Any = _EpollPoll() if use_epoll else _SelectorPoll()
        self._hosts = {":" in address: address for address in (host_v6, host) if address}
        self._free = deque(range(first + first % 2, last, 2))
        self._count = len(self._free)
        self._range = (first, last)
        self._pairs: dict[int, _Pair] = {}
        self._quarantine: deque[tuple[float, _Pair]] = deque()
        # fd -> (row, what reads it, the source if that is known); rows of RTCP ports are -1 - row. Those that are not
        # settled are read with recvfrom_into, the others with recv_into.
        self._by_fd: dict[int, tuple[int, Callable[[Any], Any], Address | None]] = {}
        self._catchers: dict[int, tuple[int, Callable[[Any], tuple[int, Any]]]] = {}
        self._can_settle = sys.platform == "linux"
        self._scratch = memoryview(bytearray(PACKET_CAPACITY))
        # Passes since one found nothing, and the file descriptors that each of them has found readable.
        self._passes = 0
        self._filled: set[int] = set()
        self.discarded = [0] * rows
        self.socket_errors = 0

    def open(self, row: int, now: float, *, is_v6: bool = False) -> int:
        host = self._hosts.get(is_v6)
        if host is None:
            raise ResourceError(f"RTP is not bound on an {'IPv6' if is_v6 else 'IPv4'} address: see [media] listen")
        self.release(now)
        refused = 0
        for _ in range(len(self._free)):
            port = self._free.popleft()
            try:
                pair = self._bind_pair(host, port)
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE):
                    self._free.appendleft(port)
                    raise ResourceError(
                        "no file descriptor is left for RTP ports: raise the open-files limit"
                    ) from None
                if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                    self._free.appendleft(port)
                    raise ResourceError(f"RTP cannot bind {host}: {error.strerror}") from None
                refused += 1
                self._free.append(port)  # somebody else's now, perhaps free later
                continue
            self._pairs[row] = pair
            self.discarded[row] = 0
            for sock, code in ((pair.rtp, row), (pair.rtcp, -1 - row)):
                self._by_fd[sock.fileno()] = (code, sock.recvfrom_into, None)
                self._poll.register(sock.fileno())
            return port
        first, last = self._range
        raise ResourceError(
            f"no RTP port pair is free in {first}-{last}: {self._count} pairs, {len(self._pairs)} in calls, "
            f"{len(self._quarantine)} draining, {refused} taken by other programs; widen [media] ports"
        )

    @classmethod
    def _bind_pair(cls, host: str, port: int) -> _Pair:
        rtp = cls._bind(host, port)
        try:
            return _Pair(port, rtp, cls._bind(host, port + 1))
        except OSError:
            rtp.close()
            raise

    @staticmethod
    def _bind(host: str, port: int) -> socket.socket:
        is_v6 = ":" in host
        sock = socket.socket(socket.AF_INET6 if is_v6 else socket.AF_INET, socket.SOCK_DGRAM)
        try:
            sock.setblocking(False)
            if is_v6:
                # An IPv4 caller would come as ::ffff:a.b.c.d here, which no description names.
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind((host, port))
        except OSError:
            sock.close()
            raise
        return sock

    def close(self, row: int, now: float) -> None:
        pair = self._pairs.pop(row)
        for sock in (pair.rtp, pair.rtcp):
            self._poll.unregister(sock.fileno())
            del self._by_fd[sock.fileno()]
        if pair.catcher is not None:
            self._poll.unregister(pair.catcher.fileno())
            del self._catchers[pair.catcher.fileno()]
        self._quarantine.append((now + QUARANTINE_S, pair))

    def release(self, now: float) -> None:
        while self._quarantine and self._quarantine[0][0] <= now:
            _, pair = self._quarantine.popleft()
            pair.close()
            self._free.append(pair.port)

    def sender(self, row: int) -> Callable[[memoryview, Address], object]:
        return self._pairs[row].send_rtp

    def control_sender(self, row: int) -> Callable[[memoryview, Address], object]:
        return self._pairs[row].rtcp.sendto

    def settle(self, row: int, source: Address) -> Callable[[memoryview], object] | None:
        pair = self._pairs[row]
        if pair.is_settled or not self._can_settle:
            return None
        if pair.connected != source:
            return self._connect(row, pair, source)
        # What had arrived before the socket was connected may be from anybody; behind that there is only the source.
        try:
            pair.rtp.recv_into(self._scratch, 1, socket.MSG_PEEK)
        except BlockingIOError:
            pair.is_settled = True
            self._by_fd[pair.rtp.fileno()] = (row, pair.rtp.recv_into, source)
        except OSError:
            self.socket_errors += 1
        return None

    def _connect(self, row: int, pair: _Pair, source: Address) -> Callable[[memoryview], object] | None:
        try:
            if pair.catcher is None:
                pair.catcher = self._bind_catcher(pair.rtp)
                self._catchers[pair.catcher.fileno()] = (row, pair.catcher.recvfrom_into)
                self._poll.register(pair.catcher.fileno())
            pair.rtp.connect(source)
        except OSError:  # no file descriptor is left, or no way leads there: the row stays as it is
            self.socket_errors += 1
            return None
        pair.connected = source
        return pair.rtp.send

    @staticmethod
    def _bind_catcher(rtp: socket.socket) -> socket.socket:
        """A second socket on the same address. Only for this moment may a port be shared, so that no other program of
        this user ever gets hold of it."""
        catcher = socket.socket(rtp.family, socket.SOCK_DGRAM)
        try:
            catcher.setblocking(False)
            if rtp.family == socket.AF_INET6:
                catcher.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            for sock in (rtp, catcher):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            catcher.bind(rtp.getsockname())
            return catcher
        except OSError:
            catcher.close()
            raise
        finally:
            for sock in (rtp, catcher):
                if sock.fileno() >= 0:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 0)

    def unsettle(self, row: int) -> None:
        pair = self._pairs[row]
        if pair.is_settled:
            pair.is_settled = False
            self._by_fd[pair.rtp.fileno()] = (row, pair.rtp.recvfrom_into, None)

    def receive(self, inbox: list[memoryview], into: Pass) -> bool:
        into.forget()
        rows, lengths, sources, others = into.rows, into.lengths, into.sources, into.others
        by_fd = self._by_fd
        caught = []
        found = self._poll.readable(0, 3 * len(inbox) + 1)
        if not found:
            self._passes = 0
            return False
        self._passes += 1
        if self._passes > 1:  # in the first one nearly all of them are there
            fds = {fd for fd, _ in found}
            self._filled = fds if self._passes == 2 else self._filled & fds
        at = 0
        for fd, _events in found:
            entry = by_fd.get(fd)
            if entry is None:
                caught.append(fd)
                continue
            row, read, source = entry
            try:
                if source is not None:
                    length = read(inbox[at])
                elif row < 0:
                    self._read_control(-1 - row, read, into)
                    continue
                else:
                    length, source = read(inbox[at])
                    others.append(at)
            except BlockingIOError:
                continue  # a datagram with a bad checksum wakes the poll and is gone when it is read
            except OSError:
                self.socket_errors += 1  # ECONNREFUSED: an ICMP answer to something that we sent
                continue
            rows.append(row)
            lengths.append(length)
            sources.append(source)
            at += 1
        for fd in caught:
            row, recvfrom_into = self._catchers[fd]
            if row not in rows:  # one datagram a row: else it is read in the next pass
                self._read_caught(row, recvfrom_into, inbox[len(rows)], into)
        return True

    def _read_caught(
        self, row: int, recvfrom_into: Callable[[Any], tuple[int, Any]], inbox: memoryview, into: Pass
    ) -> None:
        try:
            length, source = recvfrom_into(inbox)
        except OSError:
            return
        into.others.append(len(into.rows))
        into.rows.append(row)
        into.lengths.append(length)
        into.sources.append(source)

    def _read_control(self, row: int, recvfrom_into: Callable[[Any], tuple[int, Any]], into: Pass) -> None:
        try:
            length, source = recvfrom_into(self._scratch)
        except BlockingIOError:
            return
        except OSError:
            self.socket_errors += 1
            return
        into.control.append((row, bytes(self._scratch[:length]), source))

    def discard(self) -> None:
        self._passes = 0
        for fd in self._filled:
            row, read = self._by_fd[fd][:2] if fd in self._by_fd else self._catchers[fd]
            try:
                for _ in range(DISCARDS_A_TICK):
                    read(self._scratch)
                    self.discarded[row if row >= 0 else -1 - row] += 1
            except OSError:
                continue

    def stop(self) -> None:
        for pair in [*self._pairs.values(), *(pair for _, pair in self._quarantine)]:
            pair.close()
        self._pairs.clear()
        self._quarantine.clear()
        self._by_fd.clear()
        self._catchers.clear()
        self._poll.close()
