"""What happened, in the past tense: everything that the stack tells its owner.

A session begins with one InviteReceived, or with ``Stack.invite``, and ends with exactly one of InviteCancelled,
InviteRefused and SessionEnded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from agentstream.sip.gate import Guest
from agentstream.sip.headers import Reason
from agentstream.sip.hop import Hop
from agentstream.sip.message import Request
from agentstream.sip.replaces import Replaces
from agentstream.sip.uri import Uri

if TYPE_CHECKING:
    from agentstream.sip.session import Session


@attrs.frozen
class InviteReceived:
    """A new call comes in; 100 has been sent. Answer with progress, answer, reject or hang_up.

    :ivar sdp: the offer; b"" when the caller wants ours.
    :ivar guest: whose credentials it came with.
    :ivar replaces: the call whose place it wants to take (RFC 3891); ``Stack.replaced`` finds its session.
    """

    session: Session
    request: Request
    source: Hop
    sdp: bytes
    guest: Guest = attrs.field(factory=Guest)
    replaces: Replaces | None = None


@attrs.frozen
class InviteProgressed:
    """Our INVITE got a provisional response above 100.

    :ivar tag: of whoever sent it: forking proxies bring several.
    """

    session: Session
    status: int
    sdp: bytes
    tag: str = attrs.field(default="", eq=False)


@attrs.frozen
class InviteAnswered:
    """Our INVITE got its 2xx; the ACK has been sent, unless our INVITE held no offer: then ``sdp`` is the callee's, and
    ``Stack.acknowledge`` sends the ACK with our answer.

    :ivar sdp: the answer; b"" where a reliable provisional response of the same ``tag`` held it.
    """

    session: Session
    sdp: bytes
    tag: str = attrs.field(default="", eq=False)


@attrs.frozen
class InviteRefused:
    """Our INVITE failed: a final refusal, 408 for no answer in time, 503 for an unreachable peer. The session is over.

    :ivar reason: status, phrase and what Warning or Reason added.
    :ivar contacts: where a 3xx says to go, the dearest first.
    """

    session: Session
    status: int
    reason: str
    contacts: tuple[Uri, ...] = attrs.field(default=(), eq=False)


@attrs.frozen
class TargetFailed:
    """Our INVITE got no answer from this hop, did not reach it, or was answered 503; where there is another one, it has
    gone there."""

    session: Session
    hop: Hop
    status: int


@attrs.frozen
class InviteCancelled:
    """The caller gave up before our answer; 487 has been sent. The session is over.

    :ivar causes: what the CANCEL's Reason headers say (RFC 3326).
    """

    session: Session
    reason: str
    causes: tuple[Reason, ...] = attrs.field(default=(), eq=False)


@attrs.frozen
class AckReceived:
    """Our 200 (to the INVITE or to a re-INVITE) has been acknowledged.

    :ivar sdp: the answer, where our 200 held the offer; else usually b"".
    """

    session: Session
    sdp: bytes


@attrs.frozen
class ReinviteReceived:
    """A re-INVITE wants to change the session: answer with answer or reject; a rejected one leaves the session as it
    was."""

    session: Session
    request: Request
    sdp: bytes


@attrs.frozen
class ReinviteCancelled:
    """The re-INVITE was taken back before its answer; the session goes on as it was."""

    session: Session


@attrs.frozen
class ReinviteAnswered:
    """Our re-INVITE was accepted; the ACK has been sent.

    :ivar sdp: the answer to our offer.
    """

    session: Session
    sdp: bytes


@attrs.frozen
class ReinviteRefused:
    """Our re-INVITE was refused; the session goes on as it was.

    :ivar reason: status, phrase and what Warning or Reason added.
    """

    session: Session
    status: int
    reason: str


@attrs.frozen
class UpdateReceived:
    """An UPDATE wants to change the session, perhaps before its INVITE is answered: answer it now, with
    answer_update or reject_update (RFC 3311 section 5.2)."""

    session: Session
    sdp: bytes


@attrs.frozen
class UpdateAnswered:
    """Our UPDATE with an offer was accepted.

    :ivar sdp: the answer.
    """

    session: Session
    sdp: bytes


@attrs.frozen
class UpdateRefused:
    """Our UPDATE with an offer was refused; the session goes on as it was."""

    session: Session
    status: int
    reason: str


@attrs.frozen
class SessionRefreshed:
    """A re-INVITE of ours that changes nothing was accepted (RFC 4028 section 7.4).

    :ivar sdp: the answer to the description that we sent last.
    """

    session: Session
    sdp: bytes


@attrs.frozen
class DigitReceived:
    """A digit came in an INFO request; it has been answered."""

    session: Session
    digit: str
    duration_ms: int


@attrs.frozen
class InfoAnswered:
    """Our INFO got its final response, or none in time (408)."""

    session: Session
    status: int
    reason: str


@attrs.frozen
class ReferReceived:
    """The peer, which may, sends us elsewhere; 202 has been sent. ``Stack.tell_referrer`` says what comes of it.

    :ivar target: whom to call. :ivar replaces: the call there whose place ours shall take.
    :ivar referred_by: its Referred-By (RFC 3892), for the request that follows; "" where there is none.
    """

    session: Session
    target: Uri
    replaces: Replaces | None
    referred_by: str


@attrs.frozen
class ReferProgressed:
    """The far end is on its way to where our REFER sent it.

    :ivar status: of its own call: 100 to 199.
    """

    session: Session
    status: int


@attrs.frozen
class ReferEnded:
    """What became of our REFER.

    :ivar status: a 2xx: the far end has reached the target. Else the refusal, of REFER itself or of the far end's call;
        408 when nothing was said in time, 0 when nothing was said at all.
    """

    session: Session
    status: int
    reason: str


@attrs.frozen
class SessionEnded:
    """The session is over.

    :ivar by: ``remote`` (BYE, or 481 to a re-INVITE of ours), ``local`` (hang_up or reject) or ``timeout`` (no ACK for
        our 200, no answer to our re-INVITE, no refresh in time).
    :ivar causes: what the Reason headers of the peer's BYE say (RFC 3326).
    """

    session: Session
    by: str
    reason: str
    causes: tuple[Reason, ...] = attrs.field(default=(), eq=False)


@attrs.frozen
class RequestRefused:
    """A request that never became a session was refused, for the operator's log and counters."""

    source: Hop
    method: str
    status: int
    sentence: str


@attrs.frozen
class MessageDropped:
    """A datagram that has no answer was dropped."""

    source: Hop
    sentence: str


@attrs.frozen
class SourceBanned:
    """Too much of what a source sent was refused: all of it is ignored now.

    :ivar source: an IPv4 address, or the /64 of an IPv6 address.
    """

    source: str
    transport: str
    seconds: float
    refused: int


@attrs.frozen
class RegistrationChanged:
    """What has become of a registration of ours.

    :ivar state: ``registered``, ``failed`` (it is tried again) or ``ended``.
    :ivar hop: where the last REGISTER went. :ivar seconds: until the next one.
    """

    name: str
    state: str
    hop: Hop
    reason: str
    seconds: float


@attrs.frozen
class ServerChanged:
    """A server of a trunk has begun or ceased to answer our pings.

    :ivar hop: the way to it; None where nothing leads to any server of the trunk.
    :ivar is_up: None when it is pinged no more.
    :ivar is_trunk_up: what that makes of the trunk; None while it is not known.
    """

    name: str
    hop: Hop | None
    is_up: bool | None
    reason: str
    is_trunk_up: bool | None


@attrs.frozen
class ContactChanged:
    """A contact of a phone has begun or ceased to answer our pings."""

    user: str
    hop: Hop
    is_up: bool
    reason: str


@attrs.frozen
class BindingsChanged:
    """A phone has registered, or no longer is.

    :ivar contacts: how many it has now.
    """

    user: str
    source: Hop
    contacts: int


Event = (
    InviteReceived
    | InviteProgressed
    | InviteAnswered
    | InviteRefused
    | TargetFailed
    | InviteCancelled
    | AckReceived
    | ReinviteReceived
    | ReinviteAnswered
    | ReinviteCancelled
    | ReinviteRefused
    | UpdateReceived
    | UpdateAnswered
    | UpdateRefused
    | SessionRefreshed
    | DigitReceived
    | InfoAnswered
    | ReferReceived
    | ReferProgressed
    | ReferEnded
    | SessionEnded
    | RequestRefused
    | MessageDropped
    | SourceBanned
    | RegistrationChanged
    | ServerChanged
    | ContactChanged
    | BindingsChanged
)
