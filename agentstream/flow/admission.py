"""How many calls there may be: of the node, of a trunk, from one address, at once and a second; in and out.

A full trunk is answered 486, as a full bundle of lines is: only this trunk is meant, and a proxy or a carrier that
reads 503 would take the whole node out of its list. What concerns the node, or is over in a second, is 503 with
Retry-After (RFC 3261 section 21.5.4). Pure: the time is an argument.
"""

from __future__ import annotations

import math
from collections import Counter, OrderedDict

import attrs

from agentstream.config.access import Trunk
from agentstream.config.model import Config

RETRY_AFTER_S = 5
"""What a node that is full tells its callers."""
SOURCES = 4096
"""Addresses whose rate is kept; one that has been quiet for a second has nothing to keep."""


@attrs.frozen
class Denial:
    """Why a call is refused. ``reason`` is the metric's label."""

    status: int
    reason: str
    sentence: str
    retry_after_s: int = RETRY_AFTER_S


@attrs.define
class _Bucket:
    """New calls that may still come: a second's worth at most, at least one."""

    filled: float
    at: float

    def level(self, rate: float, now: float) -> float:
        return min(max(1.0, rate), self.filled + rate * (now - self.at))


@attrs.define
class _Rates:
    """One bucket a name, of a bounded number of names."""

    buckets: OrderedDict[str, _Bucket] = attrs.Factory(OrderedDict)

    def wait_s(self, name: str, rate: float, now: float) -> float:
        """Seconds until one more may come; 0 for now."""
        bucket = self.buckets.get(name)
        level = 1.0 if bucket is None or not rate else bucket.level(rate, now)
        return 0.0 if level >= 1.0 else (1.0 - level) / rate

    def take(self, name: str, rate: float, now: float) -> None:
        """One has come."""
        if not rate:
            return
        bucket = self.buckets.pop(name, None)
        level = max(1.0, rate) if bucket is None else bucket.level(rate, now)
        self.buckets[name] = _Bucket(level - 1.0, now)
        if len(self.buckets) > SOURCES:
            self.buckets.popitem(last=False)


@attrs.define
class Admission:
    """The calls that came in, and those of ours, counted by whom they are of."""

    _by_call: dict[str, tuple[str, str]] = attrs.Factory(dict)
    _outgoing: dict[object, str] = attrs.Factory(dict)
    _by_trunk: Counter[str] = attrs.Factory(Counter)
    _by_source: Counter[str] = attrs.Factory(Counter)
    _node: _Rates = attrs.Factory(_Rates)
    _trunks: _Rates = attrs.Factory(_Rates)
    _sources: _Rates = attrs.Factory(_Rates)

    def ask(self, config: Config, trunk: Trunk, source: str, now: float, kind: str = "trunk") -> Denial | None:
        """Whether one more call may come in; None lets it, and its rates have been charged.

        :param source: the address that it comes from. :param kind: what the trunk is: a trunk, or a phone.
        """
        access, sentence = config.access, self.why_full(config)
        if sentence:
            return Denial(503, "node full", sentence)
        if trunk.max_calls and self._by_trunk[trunk.name] >= trunk.max_calls:
            return Denial(486, f"{kind} full", f"all {trunk.max_calls} calls of this {kind} are up")
        if access.source_calls and self._by_source[source] >= access.source_calls:
            return Denial(486, "source full", f"all {access.source_calls} calls of this address are up")
        rates = (
            ("node rate", self._node, "", access.calls_per_second, "for this node"),
            (f"{kind} rate", self._trunks, trunk.name, trunk.calls_per_second, f"for this {kind}"),
            ("source rate", self._sources, source, access.source_calls_per_second, "from this address"),
        )
        for reason, rated, name, rate, whose in rates:
            wait_s = rated.wait_s(name, rate, now)
            if wait_s:
                sentence = f"more than {rate:g} new calls a second are too many {whose}"
                return Denial(503, reason, sentence, max(1, math.ceil(wait_s)))
        for _reason, rated, name, rate, _whose in rates:
            rated.take(name, rate, now)
        return None

    def why_full(self, config: Config) -> str:
        """Why nobody at all may call in now; "" while somebody may."""
        kept = config.access.reserved_calls
        room = config.media.max_calls - kept
        if len(self._by_call) < room and not self._is_full(config):
            return ""
        also = f", and {kept} more are kept for calls that we make" if kept else ""
        return f"all {max(0, room)} calls of this node are up ([media] max_calls){also}"

    def _is_full(self, config: Config) -> bool:
        return len(self._by_call) + len(self._outgoing) >= config.media.max_calls

    def ask_out(self, config: Config, trunk: Trunk, now: float) -> Denial | None:
        """Whether one more call of ours may go out by this trunk; None lets it, and its rate has been charged. It may
        take what ``reserved_calls`` keeps from others."""
        if self._is_full(config):
            return Denial(503, "node full", f"all {config.media.max_calls} calls of this node are up")
        if trunk.max_calls and self._by_trunk[trunk.name] >= trunk.max_calls:
            return Denial(503, "trunk full", f"all {trunk.max_calls} calls of this trunk are up")
        if self._trunks.wait_s(trunk.name, trunk.calls_per_second, now):
            sentence = f"more than {trunk.calls_per_second:g} new calls a second are too many for this trunk"
            return Denial(503, "trunk rate", sentence)
        self._trunks.take(trunk.name, trunk.calls_per_second, now)
        return None

    def begin_out(self, leg: object, trunk: str) -> None:
        """A call of ours is under way; ``leg`` is what :meth:`end_out` knows it by."""
        self._outgoing[leg] = trunk
        self._by_trunk[trunk] += 1

    def end_out(self, leg: object) -> None:
        """It is over; harmless for one that never was."""
        trunk = self._outgoing.pop(leg, None)
        if trunk is not None:
            self._forget(self._by_trunk, trunk)

    @property
    def outgoing(self) -> int:
        """Calls of ours that are up or under way."""
        return len(self._outgoing)

    def begin(self, call: str, trunk: str, source: str) -> None:
        """It was let in and is up."""
        self._by_call[call] = (trunk, source)
        self._by_trunk[trunk] += 1
        self._by_source[source] += 1

    def end(self, call: str) -> None:
        """It is over; harmless for one that never was."""
        known = self._by_call.pop(call, None)
        if known is None:
            return
        for count, name in zip((self._by_trunk, self._by_source), known, strict=True):
            self._forget(count, name)

    @staticmethod
    def _forget(count: Counter[str], name: str) -> None:
        count[name] -= 1
        if count[name] <= 0:
            del count[name]

    def calls_of(self, trunk: str) -> int:
        """Calls of this trunk that are up."""
        return self._by_trunk[trunk]
