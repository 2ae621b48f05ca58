"""From a SIP event to a call: who may call, where it leads, whether there is room, and then the flow runs.

Every refusal is logged with its status and a sentence, and the sentence goes to the caller as Warning.
"""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Callable

import attrs
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from agentstream.errors import RemoteProtocolError, ResourceError
from agentstream.flow.access import Caller, caller_of, digest_client, permissions_of
from agentstream.flow.admission import Admission
from agentstream.flow.call import Call, Connector, nobody_to_connect, utc_now
from agentstream.flow.leg import Leg
from agentstream.flow.loader import Loaded
from agentstream.flow.moving import Moves
from agentstream.flow.outgoing_leg import OutgoingLeg
from agentstream.flow.prompts import Prompts
from agentstream.flow.recordings import Recordings
from agentstream.flow.stream import StreamOpener
from agentstream.flow.timeline import Event as TimelineEvent
from agentstream.flow.timeline import Timeline
from agentstream.interfaces import CallerIdentity, Diversion
from agentstream.media.plane import MediaPlane
from agentstream.net.edge import SipEdge, new_token
from agentstream.sdp import LocalMedia, SessionDescription, family_of, parse
from agentstream.sip.bans import source_of
from agentstream.sip.events import (
    AckReceived,
    DigitReceived,
    Event,
    InfoAnswered,
    InviteAnswered,
    InviteCancelled,
    InviteProgressed,
    InviteReceived,
    InviteRefused,
    ReferEnded,
    ReferProgressed,
    ReferReceived,
    ReinviteAnswered,
    ReinviteReceived,
    ReinviteRefused,
    SessionEnded,
    SessionRefreshed,
    UpdateReceived,
)
from agentstream.sip.grammar import format_host, plain_host, printable
from agentstream.sip.headers import Headers
from agentstream.sip.identity import read_identity
from agentstream.sip.replaces import Replaces
from agentstream.sip.session import Session

LegEvent = (
    InviteProgressed
    | InviteAnswered
    | InviteRefused
    | AckReceived
    | ReinviteReceived
    | ReinviteAnswered
    | ReinviteRefused
    | UpdateReceived
    | SessionRefreshed
    | DigitReceived
    | InfoAnswered
    | ReferReceived
    | ReferProgressed
    | ReferEnded
    | InviteCancelled
    | SessionEnded
)
"""What belongs to a call that is there already."""

RETRY_AFTER_S = 5
"""What a node that is full tells its callers (RFC 3261 section 20.33)."""

WARNED_S = 60.0
"""How often a trunk is said to send keys that can be read."""

LATE = "the media tick runs late: this node takes no more calls"


@attrs.define
class Switchboard:
    """All calls of one node.

    :ivar loaded: config, flows and applets; may be exchanged while calls are up, for the calls to come.
    :ivar new_sid: makes a call's id.
    :ivar random_bits: ``random_bits(n)`` gives n unpredictable bits, for the ids of SDP sessions.
    :ivar wall_clock: the time of day, in UTC.
    :ivar observers: told every event of every call's timeline.
    :ivar calls: the live calls by SID.
    :ivar refused: how many calls were refused, by status; ``refused_for``: by why.
    :ivar admission: how many calls there are, of whom. :ivar legs: all legs, those of calls of ours too.
    :ivar connector: connects callers with somebody else. :ivar moves: calls that their far ends move.
    """

    clock: IReactorTime
    loaded: Loaded
    edge: SipEdge
    plane: MediaPlane
    streams: StreamOpener
    recordings: Recordings
    prompts: Prompts
    new_sid: Callable[[], str]
    random_bits: Callable[[int], int]
    wall_clock: Callable[[], datetime.datetime] = utc_now
    observers: list[Callable[[TimelineEvent], None]] = attrs.Factory(list)
    calls: dict[str, Call] = attrs.Factory(dict)
    refused: Counter[int] = attrs.Factory(Counter)
    refused_for: Counter[str] = attrs.Factory(Counter)
    admission: Admission = attrs.Factory(Admission)
    connector: Connector = nobody_to_connect
    moves: Moves = attrs.field(init=False)
    legs: dict[Session, Leg] = attrs.Factory(dict)
    _warned_at: dict[str, float] = attrs.Factory(dict)
    _emptied: list[Deferred[None]] = attrs.Factory(list)

    log = Logger()

    def why_full(self) -> str:
        """Why no call at all would be taken now; "" while some would."""
        return LATE if self.plane.is_overloaded else self.admission.why_full(self.loaded.config)

    def handle(self, event: Event) -> None:
        """Take one event of the SIP stack."""
        if isinstance(event, InviteReceived):
            self._invited(event)
        elif isinstance(event, LegEvent):
            leg = self.legs.get(event.session)
            if leg is not None:
                self._tell(leg, event)

    def _tell(self, leg: Leg, event: LegEvent) -> None:
        if isinstance(event, InviteProgressed | InviteAnswered | InviteRefused):
            self._tell_outgoing(leg, event)
        elif isinstance(event, AckReceived):
            leg.acknowledged(event.sdp)
        elif isinstance(event, ReinviteReceived):
            leg.reoffered(event.sdp)
        elif isinstance(event, ReinviteAnswered):
            leg.change_answered(event.sdp)
        elif isinstance(event, ReinviteRefused):
            leg.change_refused(event.reason)
        elif isinstance(event, UpdateReceived):
            leg.updated(event.sdp)
        elif isinstance(event, SessionRefreshed):
            leg.refreshed(event.sdp)
        elif isinstance(event, DigitReceived):
            leg.digit_heard(event.digit, event.duration_ms, "info")
        elif isinstance(event, InfoAnswered):
            leg.info_answered(event.status, event.reason)
        elif isinstance(event, ReferReceived):
            self.moves.refer(leg, event)
        elif isinstance(event, ReferProgressed):
            leg.transfer_progressed(event.status)
        elif isinstance(event, ReferEnded):
            leg.transfer_ended(event.status, event.reason)
        else:
            del self.legs[event.session]
            if isinstance(event, SessionEnded) and self.moves.referrer_left(leg, event):
                return
            is_ours = isinstance(event, SessionEnded) and event.by != "remote"
            leg.over("server" if is_ours else "user", event.reason, event.causes)

    def _tell_outgoing(self, leg: Leg, event: InviteProgressed | InviteAnswered | InviteRefused) -> None:
        assert isinstance(leg, OutgoingLeg)
        if isinstance(event, InviteProgressed):
            leg.progressed(event.status, event.sdp, event.tag)
        elif isinstance(event, InviteAnswered):
            leg.accepted(event.sdp, event.tag)
        else:
            del self.legs[event.session]
            leg.refused(event.status, event.reason, event.contacts)

    # A new call

    def _invited(self, event: InviteReceived) -> None:
        config = self.loaded.config
        called = event.request.uri.user_text
        caller = caller_of(config, event)
        route = config.route_of(called)
        if caller is None:
            self._refuse(event, 403, f"{event.source.host} belongs to no trunk", reason="no trunk")
        elif event.replaces is not None:
            self._replace(event, caller, event.replaces)
        elif route is None:
            self._refuse(event, 404, "no route leads to this number", reason="no route")
        elif self.plane.is_overloaded:
            self._refuse(event, 503, LATE, reason="late tick")
        else:
            host = source_of(plain_host(event.source.host))
            denial = self.admission.ask(config, caller.trunk, host, self.clock.seconds(), caller.kind)
            if denial is None:
                self._admit(event, caller, route.flow)
            else:
                self._refuse(event, denial.status, denial.sentence, denial.retry_after_s, reason=denial.reason)

    def _replace(self, event: InviteReceived, caller: Caller, replaces: Replaces) -> None:
        try:
            self.moves.replace(event, caller, replaces)
        except RemoteProtocolError as error:
            self._refuse(event, error.status or 488, error.sentence, reason="replaces")

    def _admit(self, event: InviteReceived, caller: Caller, flow: str) -> None:
        """Look at the offer, and give the call ports of the IP family that it wants."""
        try:
            offer = parse(event.sdp) if event.sdp else None
            signalling_host = plain_host(event.source.host)
            is_v6 = self._is_v6(offer, signalling_host)
            address = self.loaded.config.media_address(is_v6=is_v6)
            if not address:
                raise RemoteProtocolError(f"RTP over {'IPv6' if is_v6 else 'IPv4'} is not served here", 488)
            media = self.plane.open_leg(is_v6=is_v6)
        except RemoteProtocolError as error:
            self._refuse(event, error.status, error.sentence, reason="offer")
            return
        except ResourceError as error:
            self._refuse(event, 503, str(error), reason="no room")
            return
        codecs = self.loaded.config.media.codecs
        local = LocalMedia(
            address,
            media.port,
            codecs,
            session_id=self.random_bits(62),
            srtp=caller.trunk.srtp,
            random_bytes=lambda count: self.random_bits(8 * count).to_bytes(count, "big"),
        )
        streams, recordings = self.streams, self.recordings
        leg = Leg(
            self.edge,
            event.session,
            media,
            local,
            signalling_host,
            caller.trunk.nat,
            streams,
            recordings,
            sends_info=caller.trunk.digits == "info",
        )
        try:
            leg.consider(offer)
        except RemoteProtocolError as error:
            media.close()
            self._refuse(event, error.status or 488, error.sentence, reason="offer")
            return
        if caller.trunk.srtp == "required" and event.source.transport != "tls":
            self._warn_of_keys(caller.name, event.source.transport)
        event.session.permissions = permissions_of(caller.trunk)
        self._begin(event, leg, flow, caller)

    def _warn_of_keys(self, caller: str, transport: str) -> None:
        """Once a minute and trunk or phone."""
        now = self.clock.seconds()
        if now - self._warned_at.get(caller, -WARNED_S) >= WARNED_S:
            self._warned_at[caller] = now
            self.log.warn(
                "{caller} wants SRTP and calls over {transport}: whoever can read its SIP has the keys; use TLS",
                caller=caller,
                transport=transport.upper(),
            )

    def _is_v6(self, offer: SessionDescription | None, source: str) -> bool:
        """The offer's own family; where the offer is ours to make, that of the signalling if RTP is bound in it."""
        kind = family_of(offer) if offer is not None else ""
        if kind:
            return kind == "IP6"
        is_v6 = ":" in source
        return is_v6 if self.loaded.config.media_address(is_v6=is_v6) else not is_v6

    def _begin(self, event: InviteReceived, leg: Leg, flow: str, caller: Caller) -> None:
        sid = self.new_sid()
        timeline = Timeline(sid, self.clock, list(self.observers))
        called = event.request.uri.user_text
        call = Call(
            sid,
            caller.user_of(event),
            called,
            self.loaded.flows[flow],
            leg,
            timeline,
            self.prompts,
            self._ended,
            created_at=self.wall_clock(),
            connector=self.connector,
            identity=_identity(event.request.headers, is_phone=bool(caller.phone)),
            trunk="" if caller.phone else caller.name,
            phone=caller.phone,
            sip_headers=tuple((name, value) for name, value in event.request.headers if name.lower().startswith("x-")),
        )
        leg.call = call
        self.calls[sid] = call
        self.admission.begin(sid, caller.trunk.name, source_of(plain_host(event.source.host)))
        self.legs[event.session] = leg
        event.session.authenticate(digest_client(caller.trunk, new_token))
        source = event.source
        where = f"{format_host(source.host)}:{source.port}"
        call.event("invite_received", **{caller.kind: caller.name}, source=where, transport=source.transport)
        call.start()

    def _refuse(
        self,
        event: InviteReceived,
        status: int,
        sentence: str,
        retry_after_s: int = RETRY_AFTER_S,
        *,
        reason: str,
    ) -> None:
        self.log.info(
            "the call from {source} to {called} was refused with {status}: {sentence}",
            source=f"{format_host(event.source.host)}:{event.source.port}",
            called=printable(event.request.uri.user_text),
            status=status,
            sentence=sentence,
        )
        self.refused[status] += 1
        self.refused_for[reason] += 1
        headers = [("Retry-After", str(retry_after_s))] if status == 503 else []
        self.edge.reject(event.session, status, sentence, headers)

    def _ended(self, call: Call) -> None:
        self.calls.pop(call.sid, None)
        self.admission.end(call.sid)
        if not self.calls:
            emptied, self._emptied = self._emptied, []
            for waiting in emptied:
                waiting.callback(None)

    # The end of the node

    def emptied(self) -> Deferred[None]:
        """Fires when no call is up."""
        if not self.calls:
            return succeed(None)
        waiting: Deferred[None] = Deferred(self._emptied.remove)
        self._emptied.append(waiting)
        return waiting

    def hang_up_all(self, reason: str) -> None:
        """End every call now."""
        for call in list(self.calls.values()):
            call.hang_up(reason)


def _identity(headers: Headers, *, is_phone: bool) -> CallerIdentity:
    """What a trunk says. A phone is not to be believed who it is, but that it wants to be nobody (RFC 3323)."""
    said = read_identity(headers)
    if is_phone:
        return CallerIdentity(privacy=said.privacy)
    diversions = tuple(Diversion(one.uri, one.user, one.reason) for one in said.diversions)
    return CallerIdentity(said.asserted, said.asserted_user, said.display, said.privacy, diversions, said.history)
