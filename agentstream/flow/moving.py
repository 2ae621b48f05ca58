"""Calls that their other end moves: a REFER that is obeyed (RFC 3515, RFC 5589), an INVITE with Replaces (RFC 3891).

Either way it is the far end of a leg that changes, and nothing else: the bot, the recording or the other caller that is
connected with the leg goes on with whoever comes.
"""

from __future__ import annotations

from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from agentstream.errors import LocalProtocolError, RemoteProtocolError
from agentstream.flow.access import Caller, digest_client, permissions_of
from agentstream.flow.dialer import DialEnd, Dialer
from agentstream.flow.frames import forget_frames
from agentstream.flow.leg import Leg
from agentstream.flow.outgoing_leg import OutgoingLeg
from agentstream.flow.outgoing_ways import named_by_others
from agentstream.sip.events import InviteReceived, ReferReceived, SessionEnded
from agentstream.sip.grammar import plain_host
from agentstream.sip.replaces import Replaces
from agentstream.sip.session import Session

RINGS_S = 60.0
"""How long whom a REFER names may ring."""
MOVED = "the call was moved"


@attrs.define
class Moves:
    """Those of one node.

    :ivar dialer: calls whom a REFER names, as outbound routing has it.
    """

    dialer: Dialer
    _moving: dict[Leg, Move] = attrs.Factory(dict)

    def __len__(self) -> int:
        """Legs whose far end has sent us elsewhere, while somebody is rung there."""
        return len(self._moving)

    def refer(self, leg: Leg, event: ReferReceived) -> None:
        """The far end of the leg, which may, sends us elsewhere."""
        move = Move(self, leg, event.session)
        self._moving[leg] = move
        leg.at_end(move.stop)
        move.begin(str(event.target), event.replaces, event.referred_by)

    def referrer_left(self, leg: Leg, event: SessionEnded) -> bool:
        """Whether a session that its far end has ended leaves a leg behind that goes on: whoever sends a call elsewhere
        may hang up at once (RFC 5589 section 6.1)."""
        move = self._moving.get(leg)
        return move is not None and event.by == "remote" and move.left(event)

    def over(self, leg: Leg) -> None:
        """This leg is not being moved any more."""
        move = self._moving.pop(leg, None)
        if move is not None:
            leg.not_at_end(move.stop)

    def replace(self, event: InviteReceived, caller: Caller, replaces: Replaces) -> None:
        """An INVITE takes the place of a session of ours; RemoteProtocolError with the status to refuse it with."""
        dialer, trunk = self.dialer, caller.trunk
        if "replaces" not in trunk.obeys:
            raise RemoteProtocolError("a call is not replaced by others", 403)
        replaced = dialer.edge.stack.replaced(replaces)
        leg = dialer.legs.get(replaced)
        if leg is None or not (leg.is_answered or isinstance(leg, OutgoingLeg)) or leg in self._moving:
            raise RemoteProtocolError("there is no such call to replace", 481)
        event.session.permissions = permissions_of(trunk)
        event.session.authenticate(digest_client(trunk, dialer.token))
        host, call = plain_host(event.source.host), leg.call
        leg.take_over(event.session, event.sdp, host, trunk.nat, trunk.srtp, sends_info=trunk.digits == "info")
        del dialer.legs[replaced]
        dialer.legs[event.session] = leg
        who = caller.user_of(event)
        call.event("leg_replaced", **{caller.kind: caller.name}, source=host, caller=who)
        dialer.edge.hang_up(replaced, MOVED)


class Move:
    """One REFER that is followed; the watch of its ringing."""

    log = Logger()

    def __init__(self, moves: Moves, leg: Leg, session: Session) -> None:
        self._moves = moves
        self._dialer = moves.dialer
        self._leg: Leg | None = leg
        self._session = session
        self._is_referrer_here = True
        self._dialing: Deferred[DialEnd] | None = None

    def begin(self, target: str, replaces: Replaces | None, referred_by: str) -> None:
        """Ring whom it names, as whom the far end knows us."""
        leg = self._leg
        assert leg is not None
        headers = []
        if referred_by:
            # RFC 3892 section 2.3: it is copied into the request that follows.
            headers.append(("Referred-By", referred_by))
        if replaces is not None:
            headers += [("Replaces", str(replaces)), ("Require", "replaces")]
        self.event("move_asked", to=target, referred_by=referred_by, is_attended=replaces is not None)
        dialing = self._dialing = self._dialer.dial(
            [target],
            self,
            caller=named_by_others(leg.local_user),
            timeout_s=RINGS_S,
            is_trusted=False,
            headers=headers,
            hops_left=leg.hops_left,
        )
        dialing.addCallback(self._dialed)

    def event(self, kind: str, **fields: Any) -> None:
        """For the timeline of the call."""
        if self._leg is not None and self._leg.call is not None:
            self._leg.call.event(kind, **fields)

    def ringing(self) -> None:
        """It rings."""
        self._tell(180)

    def early_media(self, leg: OutgoingLeg) -> None:
        """It can be heard already, by nobody here: who sends us there has not left yet."""
        self._tell(183)

    def gone(self, leg: OutgoingLeg) -> None:
        """What becomes of the dialing follows."""

    def _tell(self, status: int) -> None:
        if self._is_referrer_here:
            try:
                self._dialer.edge.tell_referrer(self._session, status)
            except LocalProtocolError:
                self._is_referrer_here = False  # its session has ended, and its event is under way

    def left(self, event: SessionEnded) -> bool:
        """The referrer has hung up; whether somebody is still rung in its place."""
        self._is_referrer_here = False
        if self._leg is None or self._dialing is None:
            return False
        self._leg.desert()
        self.event("referrer_left", reason=event.reason)
        return True

    def stop(self) -> None:
        """The leg is over."""
        leg, self._leg = self._leg, None
        if leg is not None:
            self._moves.over(leg)
        dialing, self._dialing = self._dialing, None
        if dialing is not None:
            dialing.cancel()

    def _dialed(self, end: DialEnd) -> None:
        self._dialing = None
        leg = self._leg
        if end.leg is None:
            self._failed(end)
        elif leg is None:
            end.leg.call = self
            end.leg.hang_up("the call is over")
        else:
            self._answered(leg, end.leg, end.target)

    def leg_ended(self, by: str, reason: str, causes: object) -> None:
        """A leg that came too late."""

    def _failed(self, end: DialEnd) -> None:
        leg, self._leg = self._leg, None
        if leg is None:
            return
        self._moves.over(leg)
        leg.call.event("move_failed", status=end.status, reason=end.reason)
        if self._is_referrer_here:
            self._tell(end.status or 480)
        else:
            leg.over("user", f"who was sent elsewhere has left, and nobody is there: {end.reason}")

    def _answered(self, leg: Leg, other: OutgoingLeg, target: str) -> None:
        """Whom we called is at the far end of the leg from now on."""
        legs = self._dialer.legs
        legs.pop(self._session, None)
        self.event("leg_moved", to=target)
        agreed = leg.adopt(other, other.surrender())
        legs[leg.session] = leg
        self._moves.over(leg)
        self._leg = None
        self._tell(200)
        agreed.addCallbacks(self._agreed, self._not_agreed, (other,), {}, (leg, other), {})

    def _agreed(self, _: None, other: OutgoingLeg) -> None:
        other.close_media()

    def _not_agreed(self, failure: Failure, leg: Leg, other: OutgoingLeg) -> None:
        """It answers and does not take our port: there is nothing to hear."""
        other.close_media()
        sentence = failure.getErrorMessage()
        forget_frames(failure)
        if leg.session is other.session:  # nobody has come in its place meanwhile
            leg.hang_up(f"the new far end refused our description: {sentence}")
