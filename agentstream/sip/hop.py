"""Where a message came from or goes to: the only thing that the pure stack knows of the network."""

from __future__ import annotations

import attrs


@attrs.frozen
class Hop:
    """One step on the wire.

    :ivar transport: ``udp``; ``tcp`` and ``tls`` have their place here.
    :ivar host: an IPv4 or IPv6 address, without brackets.
    :ivar local: the name of our listener that received, or that shall send.
    """

    transport: str
    host: str
    port: int
    local: str = ""

    @property
    def is_reliable(self) -> bool:
        """Whether the transport itself repeats what is lost (RFC 3261 section 17)."""
        return self.transport != "udp"


@attrs.frozen
class Listener:
    """One of our listeners as others see it: what Via and Contact say.

    :ivar host: the advertised host, without brackets.
    """

    transport: str
    host: str
    port: int
