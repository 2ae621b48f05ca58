"""Sources that are ignored for a while, because too much of what they sent was refused.

Over UDP anybody can write any source address. So such a ban is short, their number is bounded, and whoever matters is
never banned at all (see :class:`agentstream.sip.gate.Gate`).
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict

import attrs

from agentstream.sip.grammar import parse_address

WINDOW_S = 60.0
"""Refusals are counted for this long, from the first one on."""
UDP_BAN_S = 60.0
"""The longest ban where the source address proves nothing."""
SOURCES = 4096
"""Sources whose refusals are counted; the one that was heard of longest ago is forgotten."""
BANNED = 1024
"""Sources that are ignored at once; with one more, the ban that is oldest ends."""


@attrs.frozen
class Ban:
    """A source that is ignored from now on.

    :ivar source: an address, or the /64 of an IPv6 address.
    :ivar refused: its requests that were refused.
    """

    source: str
    seconds: float
    refused: int


def source_of(host: str) -> str:
    """Whom an address belongs to: an IPv6 host has all of its /64."""
    address = parse_address(host)
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.IPv6Network((int(address) >> 64 << 64, 64)))
    return host


class Bans:
    """What is counted and who is ignored."""

    def __init__(self) -> None:
        self._counted: OrderedDict[str, tuple[float, int]] = OrderedDict()
        self._until: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._until)

    def is_banned(self, host: str, now: float) -> bool:
        """Whether what it sends is ignored."""
        if not self._until:
            return False
        source = source_of(host)
        until = self._until.get(source)
        if until is None:
            return False
        if now < until:
            return True
        del self._until[source]
        return False

    def count(self, host: str, transport: str, after: int, seconds: float, now: float) -> Ban | None:
        """One refused request; a Ban where it was one too many.

        :param after: how many in a minute make a ban; 0 for never. :param seconds: how long it lasts at most.
        """
        source = source_of(host)
        began, refused = self._counted.pop(source, (now, 0))
        if now - began >= WINDOW_S:
            began, refused = now, 0
        refused += 1
        if not after or refused < after:
            self._counted[source] = (began, refused)
            if len(self._counted) > SOURCES:
                self._counted.popitem(last=False)
            return None
        seconds = min(seconds, UDP_BAN_S) if transport == "udp" else seconds
        self._until[source] = now + seconds
        self._until.move_to_end(source)
        if len(self._until) > BANNED:
            self._until.popitem(last=False)
        return Ban(source, seconds, refused)

    def forgive(self, host: str) -> None:
        """It has shown that it belongs here."""
        source = source_of(host)
        self._counted.pop(source, None)
        self._until.pop(source, None)
