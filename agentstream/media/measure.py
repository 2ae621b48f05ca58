"""What is measured: of the tick and of streams as histograms that cost next to nothing to fill, of legs as numbers."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping
from typing import Any

import attrs

BIN_MS = 0.1
BINS = 2000
"""Up to 200 ms; what is longer counts in the last bin."""


class TimeHistogram:
    """Durations in bins of 0.1 ms."""

    def __init__(self) -> None:
        self._counts = [0] * (BINS + 1)
        self.count = 0
        self.sum_s = 0.0
        self.most_s = 0.0

    def add(self, seconds: float) -> None:
        """Count one duration; below zero counts as zero."""
        at = int(seconds * (1000.0 / BIN_MS))
        self._counts[0 if at < 0 else min(at, BINS)] += 1
        self.count += 1
        self.sum_s += seconds
        self.most_s = max(self.most_s, seconds)

    def percentile_ms(self, percent: float) -> float:
        """The upper edge, in ms, of the bin that this share of the durations does not pass; 0 when there are none."""
        wanted = self.count * percent / 100.0
        if not self.count:
            return 0.0
        seen = 0
        for at, count in enumerate(self._counts):
            seen += count
            if seen >= wanted:
                return round((at + 1) * BIN_MS, 1)
        return round((BINS + 1) * BIN_MS, 1)

    def buckets(self, edges_s: tuple[float, ...]) -> list[int]:
        """Cumulative counts at these upper edges, as Prometheus wants them."""
        totals, seen, at = [], 0, 0
        for edge in edges_s:
            until = min(round(edge * 1000.0 / BIN_MS), BINS + 1)
            while at < until:
                seen += self._counts[at]
                at += 1
            totals.append(seen)
        return totals


@attrs.frozen
class LegStatistics:
    """What one leg's wire saw; packets unless said otherwise.

    :ivar lost: missing sequence numbers (RFC 3550 A.3); never below zero.
    :ivar misplaced: whose sequence number fitted nowhere and was not confirmed by the next one (RFC 3550 A.1); they are
        heard where their timestamps say.
    :ivar jitter_ms: interarrival jitter (RFC 3550 A.8) of the ticks that found the packets, so in steps of 20 ms.
    :ivar concealed_ms: lost audio that was made up.
    :ivar playout_ms: the delay by which the far end's sound is held back now.
    :ivar waited_p50_ms: and ``waited_p95_ms``: how long its packets waited for their turn, from the tick that read
        them, in steps of 10 ms; those that came too late waited for nothing.
    :ivar to_bot_p50_ms: and ``to_bot_p95_ms``: from the tick that read the packet with a chunk's last sample until bots
        were written that chunk; upper edges of bins, None where there was no chunk.
    :ivar stretched_ms: what was added to that delay while it grew, and ``left_out_ms`` what was taken while it shrank.
    :ivar foreign: from sources that were not heard.
    :ivar discarded: of a flood, unread.
    :ivar refused: packets that were not heard, by a fixed sentence.
    :ivar send_errors: packets that the kernel refused.
    :ivar round_trip_ms: network and far end, as RTCP measured it last, up to 20 ms too long; this and the four below
        are None where nothing is known.
    :ivar remote_lost: packets of ours that the far end says it missed. :ivar remote_jitter_ms: its interarrival jitter.
    :ivar mos_heard: mean opinion score, 1 to 4.5, of what we hear (ITU-T G.107). :ivar mos_remote: of what it hears.
    :ivar rtcp_foreign: RTCP packets from hosts that were not believed.
    """

    received: int
    lost: int
    misplaced: int
    late: int
    duplicate: int
    jitter_ms: float
    concealed_ms: int
    playout_ms: int
    waited_p50_ms: int
    waited_p95_ms: int
    to_bot_p50_ms: float | None
    to_bot_p95_ms: float | None
    stretched_ms: int
    left_out_ms: int
    foreign: int
    discarded: int
    refused: dict[str, int]
    sent: int
    send_errors: int
    underruns: int
    round_trip_ms: float | None
    remote_lost: int | None
    remote_jitter_ms: float | None
    mos_heard: float | None
    mos_remote: float | None
    rtcp_sent: int
    rtcp_received: int
    rtcp_foreign: int


class LegTotals:
    """What the statistics of many legs add up to.

    :ivar counts: every number of them by its name; :ivar refused: packets by the reason.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()

    def add(self, statistics: Mapping[str, Any]) -> None:
        """Those of one leg; what is None was not known."""
        for name, value in statistics.items():
            if isinstance(value, dict):
                self.refused.update(value)
            elif value is not None:
                self.counts[name] += value

    def copy(self) -> LegTotals:
        """The same, to add to."""
        other = LegTotals()
        other.counts.update(self.counts)
        other.refused.update(self.refused)
        return other


SPREAD_EDGES_S = (0.01, 0.02, 0.03, 0.04, 0.06, 0.08, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0)
"""Upper edges of what a :class:`Spread` tells apart."""


class Spread:
    """How durations spread, in a few bins: small enough for each stream to have its own.

    :param whole: what each one is added to as well.
    """

    def __init__(self, whole: Spread | None = None) -> None:
        self._whole = whole
        self._counts = [0] * (len(SPREAD_EDGES_S) + 1)
        self.count = 0
        self.sum_s = 0.0
        self.most_s = 0.0

    def add(self, seconds: float) -> None:
        """Count one duration."""
        self._counts[bisect_left(SPREAD_EDGES_S, seconds)] += 1
        self.count += 1
        self.sum_s += seconds
        self.most_s = max(self.most_s, seconds)
        if self._whole is not None:
            self._whole.add(seconds)

    def buckets(self) -> list[int]:
        """Cumulative counts at SPREAD_EDGES_S."""
        totals, seen = [], 0
        for count in self._counts[:-1]:
            seen += count
            totals.append(seen)
        return totals

    def percentile_ms(self, percent: float) -> float:
        """The upper edge, in ms, of the bin that this share does not pass, and never more than the longest."""
        wanted, most = self.count * percent / 100.0, round(self.most_s * 1000, 1)
        for edge, seen in zip(SPREAD_EDGES_S, self.buckets(), strict=True):
            if seen >= wanted:
                return min(edge * 1000, most)
        return most
