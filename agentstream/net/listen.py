"""Listen strings: ``udp:5060:interface=127.0.0.1``, ``tcp:5060:interface=127.0.0.1``.

Twisted's endpoint strings know no UDP, so that form is read here; ``tcp:`` is Twisted's own, of which the same words
are understood.
"""

from __future__ import annotations

import ipaddress

import attrs

from agentstream.errors import StartError

TRANSPORTS = ("udp", "tcp")


@attrs.frozen
class ListenAddress:
    """Where to bind.

    :ivar transport: ``udp`` or ``tcp``.
    :ivar port: 0 lets the system choose.
    :ivar interface: an IPv4 or IPv6 address; "" is every IPv4 address.
    """

    transport: str
    port: int
    interface: str = ""

    @property
    def is_wildcard(self) -> bool:
        """Whether it binds every address, so that nobody can tell from it where we are."""
        return self.interface == "" or ipaddress.ip_address(self.interface).is_unspecified

    @property
    def is_v6(self) -> bool:
        """Whether its family is IPv6."""
        return ":" in self.interface

    @property
    def endpoint(self) -> str:
        """The same as a Twisted endpoint string."""
        escaped = self.interface.replace(":", "\\:")
        return f"{self.transport}:{self.port}" + (f":interface={escaped}" if escaped else "")


def parse_listen(text: str) -> ListenAddress:
    """Read a listen string; raises StartError with one sentence.

    Colons inside an IPv6 address are written with a backslash before them, as in Twisted's strings; a bare address at
    the end is understood as well.
    """
    transport, _, rest = text.partition(":")
    if transport not in TRANSPORTS:
        raise StartError(
            f"{text!r} is not a SIP listen string: expected udp: or tcp: with PORT or PORT:interface=ADDRESS"
        )
    port_text, _, option = rest.partition(":")
    if not (port_text.isascii() and port_text.isdigit()) or int(port_text[:6]) > 65535:
        raise StartError(f"{text!r} has no port from 0 to 65535")
    interface = ""
    if option:
        name, equals, interface = option.partition("=")
        interface = interface.replace("\\:", ":").strip("[]")
        if name != "interface" or not equals or not interface:
            raise StartError(f"{text!r} has an option that is not interface=ADDRESS")
        try:
            interface = str(ipaddress.ip_address(interface))
        except ValueError:
            raise StartError(f"{text!r} has an interface that is not an IP address") from None
    return ListenAddress(transport, int(port_text), interface)
