"""Where messages go: the hop of a request, the way back of a response, and what we say of ourselves in Via and Contact
(RFC 3261 sections 8.1.2 and 18).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import attrs

from agentstream.errors import LocalProtocolError
from agentstream.sip.grammar import format_host, parse_address
from agentstream.sip.headers import Headers, Via
from agentstream.sip.hop import Hop, Listener
from agentstream.sip.message import Request
from agentstream.sip.uri import Uri

if TYPE_CHECKING:
    from agentstream.sip.dialog import Dialog

COOKIE = "z9hG4bK"
"""What every branch begins with (RFC 3261 section 8.1.1.7)."""
MOST_BY_UDP = 1300
"""Bytes of the largest request that goes by UDP (RFC 3261 section 18.1.1)."""
NO_TCP_S = 600.0
"""Seconds for which a peer that has refused TCP is not asked for it again."""
DEFAULT_PORTS = {"tls": 5061}
"""By transport, where it is not 5060 (RFC 3261 section 19.1.2)."""


def default_port(transport: str) -> int:
    """The port of a URI or a Via that names none."""
    return DEFAULT_PORTS.get(transport, 5060)


class Listeners(dict[str, Listener]):
    """Our listeners by name, as ``Hop.local`` names them.

    :ivar is_flow: whether a phone has registered over this hop, and is reached over it alone.
    """

    def __init__(self, listeners: Mapping[str, Listener] | None = None) -> None:
        super().__init__(listeners or {})
        self.is_flow: Callable[[Hop], bool] = lambda hop: False

    def of(self, hop: Hop) -> Listener:
        """The one that the hop names."""
        listener = self.get(hop.local)
        if listener is None:
            raise LocalProtocolError("the hop names no listener of ours")
        return listener

    def find(self, transport: str, *, is_v6: bool) -> str | None:
        """The name of the first one of this transport and family."""
        return next((name for name, at in self.items() if at.transport == transport and at.is_v6 == is_v6), None)

    def contact(self, hop: Hop, *, is_secure: bool = False) -> str:
        """Our Contact for messages on this hop.

        :param is_secure: RFC 3261 sections 8.1.1.8 and 12.1.1: a request to a sips URI, or from a Contact or over a
            Record-Route with one, wants a sips URI back.
        """
        listener = self.of(hop)
        if is_secure:
            secure = hop.local if listener.transport == "tls" else self.find("tls", is_v6=listener.is_v6)
            if secure is not None:
                return f"<sips:{format_host(self[secure].host)}:{self[secure].port}>"
        # RFC 3261 section 19.1.2: without the parameter a sip URI means UDP.
        transport = "" if listener.transport == "udp" else f";transport={listener.transport}"
        return f"<sip:{format_host(listener.host)}:{listener.port}{transport}>"

    def via(self, hop: Hop, token: str) -> str:
        """Our Via for a request on this hop, with a branch of that token."""
        listener = self.of(hop)
        where = f"{format_host(listener.host)}:{listener.port}"
        # RFC 3581 section 3: the empty rport asks for the answer to come back the way that the request went.
        return f"SIP/2.0/{hop.transport.upper()} {where};branch={COOKIE}{token};rport"

    def for_size(self, request: Request, hop: Hop) -> tuple[Request, Hop] | None:
        """The request and the hop that it takes where it is too large for UDP; None where it is not.

        RFC 3261 section 18.1.1: a request "within 200 bytes of the path MTU, or if it is larger than 1300 bytes and the
        path MTU is unknown, ... MUST be sent using an RFC 2914 congestion controlled transport protocol, such as TCP"
        and its Via says so. Its Contact stays what it was.
        """
        if hop.transport != "udp" or len(request.serialise()) <= MOST_BY_UDP:
            return None
        local = self.find("tcp", is_v6=":" in hop.host) or hop.local
        way = Hop("tcp", hop.host, hop.port, local)
        via = self.via(way, request.via.branch.removeprefix(COOKIE))
        fields = Headers((name, via if name == "Via" else value) for name, value in request.headers)
        return Request(request.method, request.uri_text, fields, request.body, request.encoding), way

    def next_hop(self, dialog: Dialog) -> Hop:
        """Where the dialog's next request goes, from a listener of ours that speaks that transport; where there is
        none, to where the peer's messages come from."""
        source = dialog.source
        if not dialog.route_set and (dialog.is_over_flow or self.is_flow(source)):
            # RFC 5626 section 5.3: what goes to a phone takes the flow that it registered on, or calls by, whatever its
            # Contact says of itself.
            return source
        hop = reachable(dialog.next_uri, source)
        if hop.transport == source.transport:
            return hop
        name = self.find(hop.transport, is_v6=":" in hop.host)
        return attrs.evolve(hop, local=name) if name is not None else source


class NoTcp:
    """The peers by UDP that have refused TCP not long ago, a bounded number of them."""

    def __init__(self) -> None:
        self._until: OrderedDict[tuple[str, int], float] = OrderedDict()

    def remember(self, hop: Hop, now: float) -> None:
        """It cannot be reached by TCP."""
        self._until[hop.host, hop.port] = now + NO_TCP_S
        self._until.move_to_end((hop.host, hop.port))
        if len(self._until) > 1000:
            self._until.popitem(last=False)

    def is_known(self, hop: Hop, now: float) -> bool:
        """It is not worth a try."""
        return self._until.get((hop.host, hop.port), now) > now


def reply_hop(via: Via, source: Hop) -> Hop:
    """The way back of the response to a request that came from ``source`` (RFC 3261 section 18.2.2, RFC 3581 section
    4): over its connection, or to its address and, where it asks for that with rport, its port.

    Without rport the port is that of sent-by: gateways that send from one port listen on another. A sent-by of another
    address is somebody behind NAT, whom only the port that the request came from can reach.
    """
    port = via.port or default_port(source.transport)
    if source.is_reliable:
        # 18.2.2: when the connection of a request is gone, its response goes to the address in "received" and the port
        # in sent-by.
        name = (via.host, via.port) if parse_address(via.host) is None else None
        return attrs.evolve(source, fallback=(source.host, port), sent_by=name)
    if "rport" in via.parameters or port == source.port:
        return source
    sent_by = parse_address(via.host)
    if sent_by is not None and sent_by != parse_address(source.host):
        return source
    return attrs.evolve(source, port=port)


def reachable(uri: Uri, source: Hop) -> Hop:
    """The hop that the URI names, or ``source`` where that cannot be right.

    Names are not resolved here. An address of the other IP family, an unspecified or multicast one, and one that is
    private or loopback while the peer itself is not (a phone behind NAT) all mean: where its messages come from.

    A peer of the same host that came by a connection is reached through that connection while it lives, and where the
    URI leads when it does not: a phone behind NAT can be reached in no other way.
    """
    theirs, seen = parse_address(uri.host), parse_address(source.host)
    if not uri.is_sip or theirs is None or seen is None:
        return source
    if theirs.version != seen.version or theirs.is_unspecified or theirs.is_multicast:
        return source
    if (theirs.is_loopback and not seen.is_loopback) or (seen.is_global and not theirs.is_global):
        return source
    # 26.2.2: a sips URI is reached by TLS, whatever transport it names besides.
    transport = "tls" if uri.scheme == "sips" else (uri.parameter("transport") or source.transport).lower()
    port = uri.port or default_port(transport)
    if source.is_reliable and theirs == seen and transport == source.transport:
        return attrs.evolve(source, fallback=(uri.host, port))
    return Hop(transport, uri.host, port, source.local)
