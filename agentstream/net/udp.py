"""A UDP port that hears of what ICMP says: nobody listens there, or nothing leads there (RFC 3261 section 18.4).

Linux tells a socket that is not connected of that only when it is asked to (IP_RECVERR), and then in two ways: the
next call of the socket fails, whomever it is for, and a queue of errors says which destination it was. Twisted knows
neither; its reactor takes a socket with an error for one that is over.
"""

from __future__ import annotations

import errno
import socket
import struct
import sys
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IHalfCloseableDescriptor, IReactorFDSet
from twisted.internet.udp import Port
from zope.interface import implementer

IP_RECVERR, IPV6_RECVERR = 11, 25
MSG_ERRQUEUE = 0x2000
EXTENDED_ERROR = struct.Struct("=IBBBxII")
"""struct sock_extended_err of ip(7): errno, origin, ICMP type, code, info, data."""
UNREACHABLE = {2: 3, 3: 1}
"""ICMP types by origin (ICMP, ICMPv6) that say "destination unreachable". Others, such as "TTL exceeded", "SHOULD be
ignored"."""
TOO_LARGE = 4
"""The code of ICMP's type 3 that speaks of the packet and not of the destination."""
MOST_ERRORS = 64
"""Errors that are read in one go."""
TOLD = frozenset((errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EPROTO, errno.EACCES))
"""What a call of the socket may fail with for an earlier datagram's sake."""

Refused = Callable[[str, int], None]


def listen_udp(reactor: Any, port: int, protocol: Any, interface: str, refused: Refused) -> Any:
    """Bind as ``listenUDP`` does; raises CannotListenError.

    :param refused: called with the address and port that cannot be reached, where the system says so.
    """
    if sys.platform != "linux" or not IReactorFDSet.providedBy(reactor):
        return reactor.listenUDP(port, protocol, interface=interface, maxPacketSize=65536)
    made: Any = TellingPort
    bound = made(port, protocol, interface, 65536, reactor)
    bound.refused = refused
    bound.startListening()
    return bound


@implementer(IHalfCloseableDescriptor)
class TellingPort(Port):
    """:ivar refused: see :func:`listen_udp`."""

    refused: Refused

    def createInternetSocket(self) -> socket.socket:
        made: socket.socket = super().createInternetSocket()
        if self.addressFamily == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVERR, 1)
        else:
            made.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
        return made

    def doRead(self) -> None:
        """Errors first: they would be what the next read fails with."""
        self._read_errors()
        try:
            Port.doRead(self)
        except OSError as error:
            # One more has come in between, and makes the socket readable again.
            if error.errno not in TOLD:
                raise

    def readConnectionLost(self, reason: Any) -> None:
        """The reactor has seen an error and nothing to read, which it takes for the end."""
        self._read_errors()
        if self.connected:
            self.startReading()  # type: ignore[no-untyped-call]  # Twisted has no types here

    def writeConnectionLost(self, reason: Any = None) -> None:
        """There is no such thing; the interface has it."""

    def write(self, datagram: bytes, addr: tuple[str, int] | None = None) -> Any:
        """Send; what fails for an earlier datagram's sake is sent once more."""
        try:
            sent = super().write(datagram, addr)
        except OSError as error:
            if error.errno not in TOLD or not self._read_errors():
                raise
            return super().write(datagram, addr)
        if sent is None:
            self._read_errors()
            sent = super().write(datagram, addr)
        return sent

    def _read_errors(self) -> int:
        """Tell of each destination; how many errors there were."""
        refused: list[tuple[str, int]] = []
        number = 0
        while number < MOST_ERRORS:
            try:
                _data, ancillary, _flags, address = self.socket.recvmsg(0, 512, MSG_ERRQUEUE)
            except OSError:
                break
            number += 1
            for _level, kind, data in ancillary:
                if kind in (IP_RECVERR, IPV6_RECVERR) and len(data) >= EXTENDED_ERROR.size and is_unreachable(data):
                    refused.append((address[0], address[1]))
        for host, port in dict.fromkeys(refused):
            self.refused(host, port)
        return number


def is_unreachable(data: bytes) -> bool:
    """A struct sock_extended_err says that the destination of a datagram cannot be reached."""
    _errno, origin, kind, code, _info, _data = EXTENDED_ERROR.unpack_from(data)
    return UNREACHABLE.get(origin) == kind and not (origin == 2 and code == TOO_LARGE)
