"""Listen strings as the edge binds them: ``udp:5060:interface=127.0.0.1``, ``tcp:``, and ``tls:`` likewise.

They are read by :class:`agentstream.config.addresses.Listener`; Twisted's endpoint strings know no UDP and would take a
certificate into the string.
"""

from __future__ import annotations

from agentstream.config.addresses import Listener as ListenAddress
from agentstream.errors import StartError

__all__ = ["ListenAddress", "endpoint_string", "parse_listen"]


def parse_listen(text: str) -> ListenAddress:
    """Read a listen string; raises StartError with one sentence."""
    try:
        return ListenAddress.parse(text)
    except ValueError as error:
        raise StartError(f"{text!r} is not a SIP listen string: expected {error}") from None


def endpoint_string(address: ListenAddress) -> str:
    """The TCP port of a stream listener, as Twisted's endpoint string."""
    escaped = address.interface.replace(":", "\\:")
    return f"tcp:{address.port}" + (f":interface={escaped}" if escaped else "")
