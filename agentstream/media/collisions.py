"""Far ends that use our own SSRC: by chance, or because our packets come back to us (RFC 3550 section 8.2).

The first time a host does so we take another SSRC, say goodbye for the old one in RTCP, and go on. When packets of the
same host carry the new one, too, they are our own: a loop, and not heard (what was under way with the old one is, for
it might be another's by now). A host is forgotten ten report intervals
after it was last seen doing so.

Two far ends with one SSRC do not meet here: the latch hears one address, and so the source that was first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from agentstream.rtp.interval import MINIMUM_S

COLLISION = "The packet has our own SSRC, which we have changed."
LOOP = "The packet has our own SSRC once more: it went round a loop."
FORGOTTEN_AFTER_S = 10 * MINIMUM_S


class Streams(Protocol):
    """What we send, one stream a row."""

    def ssrc(self, row: int) -> int:
        """Of the row's stream."""

    def renew_ssrc(self, row: int, ssrc: int) -> None:
        """Another one from the next packet on."""


class Collisions:
    """Who has used our SSRCs.

    :param say_goodbye: of a row: BYE for the SSRC that it has, before it gets the other one.
    :param random_bits: ``random_bits(n)`` gives n unpredictable bits.
    """

    def __init__(
        self, streams: Streams, say_goodbye: Callable[[int, int, float], None], random_bits: Callable[[int], int]
    ) -> None:
        self._streams = streams
        self._say_goodbye = say_goodbye
        self._random_bits = random_bits
        self._seen: dict[tuple[int, str], float] = {}

    def meet(self, row: int, ssrc: int, host: str, now: float) -> str | None:
        """A source of this host uses this SSRC: None where it is not ours, else why its packet is not heard."""
        if ssrc != self._streams.ssrc(row):
            return None
        before = self._seen.get((row, host))
        self._seen[row, host] = now
        if before is not None and now - before < FORGOTTEN_AFTER_S:
            return LOOP
        other = self._random_bits(32)
        while other == ssrc:
            other = self._random_bits(32)
        self._say_goodbye(row, other, now)
        self._streams.renew_ssrc(row, other)
        return COLLISION

    def close(self, row: int) -> None:
        """The row's call is over."""
        for key in [key for key in self._seen if key[0] == row]:
            del self._seen[key]
