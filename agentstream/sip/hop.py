"""Where a message came from or goes to: the only thing that the pure stack knows of the network."""

from __future__ import annotations

import attrs


@attrs.frozen
class Hop:
    """One step on the wire.

    :ivar transport: ``udp``, ``tcp`` or ``tls``.
    :ivar host: an IPv4 or IPv6 address, without brackets. With a stream transport, host and port name a connection that
        was accepted from there, or that leads there.
    :ivar local: the name of our listener that received, or that shall send.
    :ivar fallback: where a new connection leads when the one that the hop names is gone; None is host and port. It is
        no part of the hop's identity.
    :ivar sent_by: the name and port of the Via, where the peer names itself so: where a response may go when that
        connection fails, too (RFC 3263 section 5). :ivar others: where what is sent to this hop goes when it fails.
        Both are no part of its identity, either.
    :ivar name: with ``tls``, whom the certificate of a connection that we open must be for (RFC 5922 section 4); "" is
        the host.
    """

    transport: str
    host: str
    port: int
    local: str = ""
    fallback: tuple[str, int] | None = attrs.field(default=None, eq=False)
    name: str = ""
    sent_by: tuple[str, int | None] | None = attrs.field(default=None, eq=False)
    others: tuple[Hop, ...] = attrs.field(default=(), eq=False)

    @property
    def is_reliable(self) -> bool:
        """Whether the transport itself repeats what is lost (RFC 3261 section 17)."""
        return self.transport != "udp"


@attrs.frozen
class Listener:
    """One of our listeners as others see it: what Via and Contact say.

    :ivar host: the advertised address or name, without brackets.
    :ivar is_v6: whether it is bound in IPv6, which a name does not tell.
    """

    transport: str
    host: str
    port: int
    is_v6: bool = attrs.field(default=attrs.Factory(lambda self: ":" in self.host, takes_self=True))
