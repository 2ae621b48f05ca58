"""One INVITE of a call of ours, from its place among the calls of its trunk to its answer or its end."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from agentstream.config.model import Config
from agentstream.errors import AgentstreamError, LocalProtocolError, RemoteProtocolError
from agentstream.flow.access import digest_client, permissions_of
from agentstream.flow.outgoing_leg import OutgoingLeg
from agentstream.flow.outgoing_ways import Way, caller_uri
from agentstream.flow.redirected import Redirected
from agentstream.interfaces import EndCause
from agentstream.media.leg import MediaLeg
from agentstream.sdp import LocalMedia, make_offer
from agentstream.sip.grammar import parse_address
from agentstream.sip.session import Session
from agentstream.sip.uri import Uri

if TYPE_CHECKING:
    from agentstream.flow.dialer import Dialing


def tell_of_leg(event: Callable[..., None], target: str, kind: str, fields: Mapping[str, Any]) -> None:
    """An event of a leg of ours, under a name that no event of the caller's leg has: ``dialed_`` stands before it."""
    told = dict(fields)
    if told.get("by") == "user":
        told["by"] = "callee"
    event(f"dialed_{kind}", target=target, **told)


class Ring:
    """One INVITE of one Dialing; the ``call`` of its leg until it is handed over.

    :ivar leg: once the INVITE is on its way.
    """

    log = Logger()

    def __init__(self, dialing: Dialing, way: Way, redirected: Redirected | None = None) -> None:
        self._dialing = dialing
        self._dialer = dialing.dialer
        self.way = way
        self._redirected = redirected or Redirected.of(way)
        self.leg: OutgoingLeg | None = None
        self._media: MediaLeg | None = None
        self._opening: Deferred[Session] | None = None

    def begin(self) -> None:
        """Take a place and ports, and send the INVITE."""
        dialer, trunk = self._dialer, self.way.trunk
        denial = dialer.admission.ask_out(dialer.config(), trunk, dialer.clock.seconds())
        if denial is not None:
            self._dialing.refused(self, denial.status, denial.sentence)
            return
        dialer.admission.begin_out(self, trunk.name)
        self._opening = maybeDeferred(self._invite)
        self._opening.addCallbacks(self._sent, self._not_sent)

    def _invite(self) -> Deferred[Session]:
        dialer, way = self._dialer, self.way
        config = dialer.config()
        is_v6 = self._is_v6(config)
        address = config.media_address(is_v6=is_v6)
        if not address:
            raise RemoteProtocolError(f"RTP over {'IPv6' if is_v6 else 'IPv4'} is not served here", 488)
        media = self._media = dialer.plane.open_leg(is_v6=is_v6)
        local = LocalMedia(
            address,
            media.port,
            config.media.codecs,
            session_id=dialer.random_bits(62),
            srtp=way.trunk.srtp,
            random_bytes=lambda count: dialer.random_bits(8 * count).to_bytes(count, "big"),
        )
        offer = make_offer(local)
        from_uri = caller_uri(way, self._dialing.caller, config.sip_address or dialer.edge.listeners[0].host)

        def began(session: Session) -> None:
            self.leg = OutgoingLeg(
                dialer.edge,
                session,
                media,
                local,
                offer,
                way.trunk.nat,
                dialer.streams,
                dialer.recordings,
                sends_info=way.trunk.digits == "info",
                waiting=self,
                on_over=self._release,
            )
            self.leg.call = self
            dialer.legs[session] = self.leg

        headers = [*(("Route", route) for route in way.routes), *self._dialing.headers]
        self.event("dial_started", uri=str(way.uri), trunk=way.trunk.name, caller=str(from_uri))
        if way.hop is not None:
            sent = dialer.edge.invite_by(
                [way.hop],
                way.uri,
                began,
                from_uri=from_uri,
                to_uri=way.to_uri,
                sdp=offer.serialise(),
                headers=headers,
                permissions=permissions_of(way.trunk),
                max_forwards=self._dialing.hops_left,
            )
            found: Deferred[Session] = Deferred()
            found.callback(sent)
            return found
        trunk = way.trunk
        credentials = digest_client(trunk, dialer.token)
        return dialer.edge.outbound.call(
            way.uri,
            from_uri=from_uri,
            to_uri=way.to_uri,
            sdp=offer.serialise(),
            via=way.via,
            headers=headers,
            credentials=credentials,
            began=began,
            permissions=permissions_of(trunk),
            max_forwards=self._dialing.hops_left,
        )

    def _is_v6(self, config: Config) -> bool:
        """The family of the address that the INVITE goes to, where it is known; else the one that RTP is bound in."""
        host = self.way.hop.host if self.way.hop is not None else (self.way.via or self.way.uri).host
        known = parse_address(host)
        return known.version == 6 if known is not None else not config.media_address(is_v6=False)

    def _sent(self, session: Session) -> None:
        self._opening = None

    def _not_sent(self, failure: Failure) -> None:
        """It could not be sent at all."""
        self._opening = None
        if self._media is not None:
            self._media.close()
        self._release()
        if failure.check(CancelledError):
            return
        if not failure.check(AgentstreamError):
            self.log.failure("a call to {target} could not be sent", failure, target=self.way.target)
        error = failure.value
        status = error.status if isinstance(error, RemoteProtocolError) and error.status else 503
        sentence = str(error)
        if isinstance(error, LocalProtocolError) and self.way.hop is not None:
            sentence = "the way that the phone registered on is no more"
        self._dialing.refused(self, status, sentence)

    def _release(self) -> None:
        self._dialer.admission.end_out(self)

    def give_up(self, reason: str, status: int) -> None:
        """Take it back."""
        if self.leg is not None:
            self.leg.give_up(reason, status)
        elif self._opening is not None:
            self._opening.cancel()

    # What the leg tells (RingsFor)

    def progressed(self, status: int, *, has_sound: bool) -> None:
        """A provisional response."""
        self.event("dial_progressed", status=status, has_sound=has_sound)
        if has_sound and self.leg is not None:
            self._dialing.watch.early_media(self.leg)
        elif status == 180:
            self._dialing.watch.ringing()

    def answered(self) -> None:
        """200."""
        self.event("dial_answered")
        self._dialing.answered(self)

    def refused(self, status: int, reason: str, contacts: Sequence[Uri] = ()) -> None:
        """Over, unless it says where else to go, or another one did."""
        dialer, now = self._dialer, self._redirected
        way, sentence = now.follow(self.way, contacts, dialer.config(), dialer.bindings)
        if way is None:
            self._dialing.refused(self, status, f"{reason}: {sentence}" if sentence else reason)
        else:
            self.event("dial_redirected", status=status, to=way.target)
            self._dialing.redirected(self, Ring(self._dialing, way, now))

    # As the call of its leg

    def event(self, kind: str, **fields: Any) -> None:
        """What the leg says of itself is told of this target."""
        if kind.startswith("dial_"):
            self._dialing.watch.event(kind, target=self.way.target, **fields)
        else:
            tell_of_leg(self._dialing.watch.event, self.way.target, kind, fields)

    def leg_ended(self, by: str, reason: str, causes: tuple[EndCause, ...]) -> None:
        """Whoever waits was told already."""
