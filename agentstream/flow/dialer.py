"""The door for calls of ours: :meth:`Dialer.dial` rings targets through the config's outbound routing.

Phones that register here are reached over the flow that they registered on, numbers through the first trunk that has
them among its ``numbers``, URIs of the operator's where they lead (:mod:`agentstream.flow.outgoing_ways`). Each INVITE
has a leg of its own from its beginning on, with ports and a place among the calls of its trunk. The first one that is
answered is handed over; the others are cancelled.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, MutableMapping, Sequence
from typing import Any, Protocol

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from agentstream.config.model import Config
from agentstream.flow.admission import Admission
from agentstream.flow.leg import Leg
from agentstream.flow.outgoing_leg import OutgoingLeg
from agentstream.flow.outgoing_ways import MOST_WAYS, NoWay, Way, find_ways
from agentstream.flow.recordings import Recordings
from agentstream.flow.ring import Ring
from agentstream.flow.stream import StreamOpener
from agentstream.media.plane import MediaPlane
from agentstream.net.edge import SipEdge
from agentstream.sip.registrar import Binding
from agentstream.sip.session import Session
from agentstream.sip.uac import MAX_FORWARDS

ELSEWHERE = "another phone answered"
BUSY = frozenset({486, 600, 603})
UNANSWERED = frozenset({408, 480, 487})


class Watch(Protocol):
    """Whoever wants to know how the ringing goes on."""

    def event(self, kind: str, **fields: Any) -> None:
        """For the timeline."""

    def ringing(self) -> None:
        """A far end rings; told for each that does."""

    def early_media(self, leg: OutgoingLeg) -> None:
        """This far end can be heard before it answers."""

    def gone(self, leg: OutgoingLeg) -> None:
        """It will not answer."""


@attrs.frozen
class DialEnd:
    """What became of it.

    :ivar leg: the one that was answered, which is the receiver's to hang up; its ``call`` must be set to whoever is to
        be told ``event`` and ``leg_ended``. None where nobody answered.
    :ivar status: 200, or the SIP status that tells most of why not; 0 where it was taken back.
    :ivar target: who answered, as it was asked for.
    """

    leg: OutgoingLeg | None
    status: int
    reason: str
    target: str = ""

    @property
    def outcome(self) -> str:
        """``answered``, ``busy``, ``no_answer`` or ``failed``."""
        if self.leg is not None:
            return "answered"
        if self.status in BUSY:
            return "busy"
        return "no_answer" if self.status in UNANSWERED else "failed"


@attrs.define
class Dialer:
    """All calls of ours of one node.

    :ivar config: the present one. :ivar bindings: where the phone of a user is.
    :ivar admission: how many calls there may be. :ivar legs: the legs by session, as the switchboard tells them events.
    :ivar token: gives unpredictable words. :ivar random_bits: ``random_bits(n)`` gives n unpredictable bits.
    """

    clock: IReactorTime
    config: Callable[[], Config]
    edge: SipEdge
    plane: MediaPlane
    streams: StreamOpener
    recordings: Recordings
    admission: Admission
    legs: MutableMapping[Session, Leg]
    bindings: Callable[[str], Sequence[Binding]]
    token: Callable[[], str]
    random_bits: Callable[[int], int]

    def dial(
        self,
        targets: Sequence[str],
        watch: Watch,
        *,
        caller: str = "",
        timeout_s: float = 30.0,
        in_turn: bool = False,
        is_trusted: bool = True,
        headers: Sequence[tuple[str, str]] = (),
        hops_left: int = MAX_FORWARDS,
    ) -> Deferred[DialEnd]:
        """Ring these targets until one of them answers; fires with what became of it, perhaps at once, and never
        errbacks. A cancel takes it back: what rings is cancelled, and it fires with status 0.

        :param caller: who we say we are: a number, a name or a SIP URI; "" for nobody (RFC 3323).
        :param timeout_s: how long they may ring; ``in_turn``, each of them.
        :param is_trusted: False where somebody else named the targets: then only phones and the numbers of trunks are
            called.
        :param headers: more header fields of each INVITE.
        :param hops_left: Max-Forwards of each; below 1 nothing is sent, and the status is 483.
        """
        ways: list[Way] = []
        dialing = Dialing(self, watch, caller, timeout_s, in_turn, headers, hops_left)
        for target in targets:
            if hops_left < 1:
                dialing.failed(target, 483, "the call has taken too many hops already")
                continue
            try:
                ways += find_ways(self.config(), self.bindings, target, is_trusted=is_trusted)
            except NoWay as no_way:
                dialing.failed(target, no_way.status, no_way.sentence)
        for way in ways[MOST_WAYS:]:
            watch.event("dial_left_out", target=way.target, uri=str(way.uri), reason=f"only {MOST_WAYS} are called")
        return dialing.begin(ways[:MOST_WAYS])


class Dialing:
    """One :meth:`Dialer.dial`."""

    def __init__(
        self,
        dialer: Dialer,
        watch: Watch,
        caller: str,
        timeout_s: float,
        in_turn: bool,
        headers: Sequence[tuple[str, str]],
        hops_left: int,
    ) -> None:
        self.hops_left = hops_left
        self.dialer = dialer
        self.watch = watch
        self.caller = caller
        self.headers = tuple(headers)
        self._timeout_s = timeout_s
        self._in_turn = in_turn
        self._to_come: deque[Way] = deque()
        self._ringing: list[Ring] = []
        self._failures: list[tuple[int, str]] = []
        self._timer: IDelayedCall | None = None
        self._is_moving = False
        self._done: Deferred[DialEnd] | None = Deferred(self._cancelled)

    def begin(self, ways: Sequence[Way]) -> Deferred[DialEnd]:
        """Ring them."""
        done = self._done
        assert done is not None
        self._to_come.extend(ways)
        self._go_on()
        return done

    def failed(self, target: str, status: int, reason: str) -> None:
        """This one will not answer."""
        self._failures.append((status, reason))
        self.watch.event("dial_failed", target=target, status=status, reason=reason)

    def _go_on(self) -> None:
        """Ring what is next, as long as nobody rings; a loop and no recursion, however soon each fails."""
        if self._is_moving:
            return
        self._is_moving = True
        while self._to_come and not self._ringing:
            self._stop_timer()
            batch = 1 if self._in_turn else len(self._to_come)
            rings = [Ring(self, self._to_come.popleft()) for _ in range(batch)]
            self._ringing += rings
            self._timer = self.dialer.clock.callLater(self._timeout_s, self._timed_out)
            for ring in rings:
                if self._done is not None:
                    ring.begin()
        self._is_moving = False
        if not self._ringing and self._done is not None:
            status, reason = self._what_tells_most()
            self._finish(DialEnd(None, status, reason))

    def _what_tells_most(self) -> tuple[int, str]:
        """Of several refusals: that somebody is busy, or else that somebody was not there, or else the last one."""
        for kind in (BUSY, UNANSWERED):
            for status, reason in self._failures:
                if status in kind:
                    return status, reason
        return self._failures[-1] if self._failures else (404, "there is nobody to call")

    def _timed_out(self) -> None:
        self._timer = None
        ringing, self._ringing = self._ringing, []
        for ring in ringing:
            ring.give_up("nobody answered in time", 408)
            self._tell_gone(ring)
            self.failed(ring.way.target, 408, "nobody answered in time")
        self._go_on()

    def _cancelled(self, _: Deferred[DialEnd]) -> None:
        self._to_come.clear()
        self._finish(DialEnd(None, 0, "it was taken back"))

    def _finish(self, end: DialEnd, reason: str = "the caller gave up", status: int = 0) -> None:
        self._stop_timer()
        self._to_come.clear()
        ringing, self._ringing = self._ringing, []
        for ring in ringing:
            if ring.leg is None or ring.leg is not end.leg:
                ring.give_up(reason, status)
        done, self._done = self._done, None
        if done is not None:
            done.callback(end)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # What rings tell

    def refused(self, ring: Ring, status: int, reason: str) -> None:
        """One has failed."""
        if ring in self._ringing:
            self._ringing.remove(ring)
            self._tell_gone(ring)
            self.failed(ring.way.target, status, reason)
            self._go_on()

    def redirected(self, ring: Ring, to: Ring) -> None:
        """One goes on elsewhere, in the time that it has left."""
        if ring in self._ringing:
            self._ringing[self._ringing.index(ring)] = to
            self._tell_gone(ring)
            to.begin()

    def _tell_gone(self, ring: Ring) -> None:
        if ring.leg is not None:
            self.watch.gone(ring.leg)

    def answered(self, ring: Ring) -> None:
        """One has answered: the others need not ring any more (RFC 3326 section 3.1)."""
        assert ring.leg is not None
        self._finish(DialEnd(ring.leg, 200, "200 OK", ring.way.target), ELSEWHERE, 200)
