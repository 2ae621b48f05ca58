"""Which source of RTP a leg hears: learnt from the description and from what arrives, so that nobody else is heard.

A source is considered only with a negotiated payload type (the caller sees to that). By the trunk's ``nat`` setting it
may then come from the SDP's address alone (``strict``), from the host of the SDP or of the signalling (``host``), or
from anywhere after five packets in sequence (``any``). The SDP's own address wins whenever it sends; another source is
learnt only while none is latched or the latched one has been silent for 500 ms. Everything else is foreign: counted and
not heard (RTPbleed).
"""

from __future__ import annotations

import attrs

from agentstream.media.ports import Address

SILENT_TICKS = 25
"""500 ms without a packet, and the latch may move."""

IN_SEQUENCE = 5
"""Packets in sequence that a source from anywhere must show."""


@attrs.define
class Latch:
    """The latch of one leg.

    :ivar described: the address in the far end's SDP.
    :ivar signalling_host: where its signalling comes from.
    :ivar nat: ``strict``, ``host`` or ``any``.
    :ivar left: the source that was heard before the far end described another address. What it still has under way is
        heard for 500 ms (not with ``strict``), but it is not learnt: nothing is to be sent there any more.
    """

    described: Address
    signalling_host: str
    nat: str
    left: Address | None = None
    _left_tick: int | None = None
    _hopeful: Address | None = None
    _next_sequence: int = 0
    _in_sequence: int = 0

    def is_leaving(self, source: Address, tick: int) -> bool:
        """Whether this is the source of before, within its time."""
        if source != self.left or self.nat == "strict":
            return False
        if self._left_tick is None:
            self._left_tick = tick
        return tick - self._left_tick < SILENT_TICKS

    def admits(self, source: Address, sequence: int, latched: Address | None, silent_ticks: int) -> bool:
        """Whether ``source`` becomes the latched one with this packet.

        :param latched: the one that is heard now, if any; never equal to ``source``.
        :param silent_ticks: ticks since that one was heard.
        """
        if source == self.described:
            return True
        if latched is not None and silent_ticks < SILENT_TICKS:
            return False
        if self.nat == "host":
            return source[0] in (self.described[0], self.signalling_host)
        if self.nat == "any":
            return self._is_in_sequence(source, sequence)
        return False

    def _is_in_sequence(self, source: Address, sequence: int) -> bool:
        if source == self._hopeful and sequence == self._next_sequence:
            self._in_sequence += 1
        else:
            self._hopeful, self._in_sequence = source, 1
        self._next_sequence = (sequence + 1) & 0xFFFF
        return self._in_sequence >= IN_SEQUENCE
