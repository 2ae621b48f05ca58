"""Dialogs (RFC 3261 section 12): who talks to whom, over which way, with which sequence numbers."""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from agentstream.errors import RemoteProtocolError
from agentstream.sip.digest import Answers
from agentstream.sip.headers import Headers, parse_name_addr
from agentstream.sip.hop import Hop
from agentstream.sip.message import Request, Response
from agentstream.sip.uri import Uri

DialogKey = tuple[str, str, str]
"""(Call-ID, local tag, remote tag)."""


@attrs.define(eq=False)
class Dialog:
    """One dialog.

    :ivar local_text: our From value in requests, with our tag. :ivar remote_text: the peer's, byte for byte as it came.
    :ivar route_set: Route values in the order in which our requests carry them.
    :ivar source: where the peer's messages came from: the way back when its Contact leads nowhere.
    :ivar remote_cseq: the peer's latest sequence number, None before its first request.
    :ivar answers: what 401 and 407 to requests of ours are answered with; None where we have no credentials.
    :ivar is_over_flow: the peer is only to be reached where its messages come from, whatever its Contact says.
    """

    call_id: str
    local_tag: str
    remote_tag: str
    local_text: str
    remote_text: str
    remote_target: Uri
    route_set: list[str]
    source: Hop
    local_cseq: int = 0
    remote_cseq: int | None = None
    encoding: str = "utf-8"
    answers: Answers | None = attrs.field(default=None, repr=False)
    is_over_flow: bool = False

    @property
    def key(self) -> DialogKey:
        return (self.call_id, self.local_tag, self.remote_tag)

    def refresh_target(self, message: Request | Response) -> None:
        """RFC 3261 section 12.2: the Contact of a target refresh request, or of its 2xx, replaces the remote target;
        one that leads nowhere does not."""
        try:
            contact = message.contact
        except RemoteProtocolError:
            return
        if contact is not None and contact.uri.is_sip:
            self.remote_target = attrs.evolve(contact.uri, headers="")

    @property
    def next_uri(self) -> Uri:
        """Where the next request goes: the first route, else the remote target (RFC 3261 sections 8.1.2 and
        12.2.1.1)."""
        return parse_name_addr(self.route_set[0]).uri if self.route_set else self.remote_target

    def build_request(
        self,
        method: str,
        via: str,
        *,
        cseq: int | None = None,
        headers: Iterable[tuple[str, str]] = (),
        body: bytes = b"",
    ) -> Request:
        """A request inside the dialog; ``cseq`` only for an ACK, which takes its INVITE's number (RFC 3261 section
        13.2.2.4)."""
        if cseq is None:
            # 12.2.1.1: "Requests within a dialog MUST contain strictly monotonically increasing and contiguous CSeq
            # sequence numbers".
            self.local_cseq += 1
            cseq = self.local_cseq
        uri = str(self.remote_target)
        routes = list(self.route_set)
        if routes:
            first = parse_name_addr(routes[0]).uri
            if first.parameter("lr") is None:
                # 12.2.1.1: without lr in the first route "the UAC MUST place the first URI from the route set into the
                # Request-URI" and "place the remote target URI into the Route header field as the last value".
                uri = str(attrs.evolve(first, headers=""))
                routes = [*routes[1:], f"<{self.remote_target}>"]
        fields = Headers()
        fields.add("Via", via)
        fields.add("Max-Forwards", "70")
        for route in routes:
            fields.add("Route", route)
        fields.add("From", self.local_text)
        fields.add("To", self.remote_text)
        fields.add("Call-ID", self.call_id)
        fields.add("CSeq", f"{cseq} {method}")
        for name, value in headers:
            fields.add(name, value)
        return Request(method, uri, fields, body, self.encoding)


def uas_dialog(request: Request, local_tag: str, source: Hop) -> Dialog:
    """The dialog that our response to the INVITE creates (RFC 3261 12.1.1); raises RemoteProtocolError (400)."""
    routes = request.headers.values_of("record-route")
    for route in routes:
        parse_name_addr(route)
    contact = request.contact
    # RFC 2543 callers send no Contact (RFC 4475 section 3.4.1): their From is all there is, and the way back is where
    # it came from.
    target = contact.uri if contact is not None else request.from_.uri
    if not target.is_sip:
        raise RemoteProtocolError("the Contact is not a SIP URI", 400)
    return Dialog(
        call_id=request.call_id,
        local_tag=local_tag,
        remote_tag=request.from_.tag,
        local_text=f"{request.headers.get('to')};tag={local_tag}",
        remote_text=request.headers.get("from") or "",
        remote_target=attrs.evolve(target, headers=""),
        route_set=routes,
        source=source,
        remote_cseq=request.cseq.number,
        encoding=request.encoding,
    )


def uac_dialog(invite: Request, response: Response, hop: Hop) -> Dialog:
    """The dialog that a response to our INVITE creates (RFC 3261 section 12.1.2)."""
    routes: list[str] = []
    target = invite.uri
    try:
        routes = response.headers.values_of("record-route")[::-1]
        for route in routes:
            parse_name_addr(route)
        contact = response.contact
        if contact is not None and contact.uri.is_sip:
            target = attrs.evolve(contact.uri, headers="")
    except RemoteProtocolError:
        # A 2xx must be acknowledged whatever it carries; the way that the INVITE went is then the best there is.
        routes = []
    return Dialog(
        call_id=invite.call_id,
        local_tag=invite.from_.tag,
        remote_tag=response.to.tag,
        local_text=invite.headers.get("from") or "",
        remote_text=response.headers.get("to") or "",
        remote_target=target,
        route_set=routes,
        source=hop,
        local_cseq=invite.cseq.number,
        encoding=response.encoding,
    )
