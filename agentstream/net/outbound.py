"""Calls of ours to where a URI leads: to the best target that is not known to be dead, and on to the next.

:meth:`Outbound.call` is the door for whoever places calls; what comes of one are the events of its session.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from agentstream.errors import RemoteProtocolError
from agentstream.net.resolve import Locator
from agentstream.sip.events import InviteAnswered, InviteProgressed, InviteRefused, TargetFailed
from agentstream.sip.hop import Hop
from agentstream.sip.locate import Penalties, Target
from agentstream.sip.permissions import NOTHING, Permissions
from agentstream.sip.session import Session
from agentstream.sip.uac import MAX_FORWARDS
from agentstream.sip.uri import Uri

if TYPE_CHECKING:
    from agentstream.net.edge import SipEdge
    from agentstream.sip.digest import DigestClient

PREFERRED = ("udp", "tcp", "tls")
"""The transports that we speak, in the order in which they are tried where a domain has no opinion."""

NO_ANSWER = (408, 503)
"""What a call ends with that nobody has answered, too."""


class Outbound:
    """The calls of one edge.

    :ivar locator: finds targets. :ivar penalties: what has failed lately.
    """

    log = Logger()

    def __init__(self, reactor: Any, edge: SipEdge, locator: Locator | None = None) -> None:
        self._reactor = reactor
        self._edge = edge
        self.locator = locator or Locator(reactor)
        self.penalties = Penalties()

    def call(
        self,
        uri: Uri,
        *,
        from_uri: Uri,
        to_uri: Uri,
        sdp: bytes,
        via: Uri | None = None,
        headers: Iterable[tuple[str, str]] = (),
        credentials: DigestClient | None = None,
        began: Callable[[Session], object] | None = None,
        permissions: Permissions = NOTHING,
        max_forwards: int = MAX_FORWARDS,
    ) -> Deferred[Session]:
        """INVITE ``uri``, and fire with the session when it is sent.

        :param via: where it is sent, when that is not where the URI itself leads: a trunk's server.
        :param max_forwards: hops that it may take.
        :param began: is given the session before any event of it is told: that may be before the Deferred fires.
        :param permissions: what the callee may ask of the call.
        :return: errbacks with RemoteProtocolError (503) where nothing that we are bound for leads there. A cancel gives
            it up before it is sent.
        """

        def send(ways: list[Hop]) -> Session:
            if not ways:
                raise RemoteProtocolError("no address that can be reached from here belongs to the target", 503)
            return self._edge.invite_by(
                ways,
                uri,
                began,
                from_uri=from_uri,
                to_uri=to_uri,
                sdp=sdp,
                headers=headers,
                credentials=credentials,
                permissions=permissions,
                max_forwards=max_forwards,
            )

        return self.hops(via or uri).addCallback(send)

    def hops(self, uri: Uri) -> Deferred[list[Hop]]:
        """Fires with the ways to where the URI leads, best first and what is known to be dead last; an empty list where
        nothing that we are bound for leads there. Never errbacks."""
        listeners = list(self._edge.stack.listeners.values())
        bound = [transport for transport in PREFERRED if any(at.transport == transport for at in listeners)]
        found = self.locator.locate(uri, bound, {at.is_v6 for at in listeners})

        def ways(targets: list[Target]) -> list[Hop]:
            ordered = self.penalties.order(targets, self._reactor.seconds())
            return [hop for target in ordered for hop in self._hops(target)]

        return found.addCallback(ways)

    def _hops(self, target: Target) -> list[Hop]:
        local = self._edge.stack.listeners.find(target.transport, is_v6=":" in target.host)
        return [] if local is None else [Hop(target.transport, target.host, target.port, local, name=target.name)]

    def failed(self, event: TargetFailed) -> None:
        """The edge tells of a target that was given up."""
        hop = event.hop
        self.penalties.failed(_target(hop), self._reactor.seconds())
        self.log.info(
            "{transport} to {host} port {port} failed with {status}, and the call goes on to the next target",
            transport=hop.transport,
            host=hop.host,
            port=hop.port,
            status=event.status,
        )

    def heard(self, event: InviteProgressed | InviteAnswered | InviteRefused) -> None:
        """The edge tells of what came of a call: a target that has answered it is free of what it failed at before."""
        if isinstance(event, InviteRefused) and event.status in NO_ANSWER:
            return
        self.answered(event.session.remote)

    def answered(self, hop: Hop) -> None:
        """It is alive."""
        self.penalties.answered(_target(hop))

    def is_down(self, hop: Hop) -> None:
        """It is not, until it is heard of again."""
        self.penalties.down(_target(hop))


def _target(hop: Hop) -> Target:
    return Target(hop.transport, hop.host, hop.port, hop.name)
