"""Where phones and carriers reach this node: ``[sip]`` and ``[tls]``."""
# ruff: noqa: RUF009 - setting() makes an attrs field, and defaults are immutable

from __future__ import annotations

import functools
from pathlib import Path

import attrs

from agentstream.config.addresses import (
    Listener,
    expect_address_or_empty,
    expect_listener,
    expect_v6_or_empty,
    first_of_family,
    is_address,
    is_everywhere,
)
from agentstream.config.metadata import setting


@attrs.frozen
class Sip:
    """Where phones and carriers reach this node."""

    listen: tuple[str, ...] = setting(
        example='["udp:5060:interface=10.0.0.7", "tls:5061:interface=10.0.0.7:advertise=sip.example.com"]',
        default=("udp:5060:interface=127.0.0.1",),
        doc="Where SIP is listened for, over UDP (`udp:`), TCP (`tcp:`) and TLS (`tls:`, with `[tls]`). Without"
        " `interface=`, on every IPv4 address of the machine. `advertise=`, an address or a name, is what Via and"
        " Contact of this listener say.",
        least=1,
        check=expect_listener,
    )
    advertise: str = setting(
        default="",
        doc="The address in Via, Contact and SDP, as others can reach it, for the listeners of its family that say none"
        " themselves. Empty: each listener's interface.",
        example='"203.0.113.7"',
        check=expect_address_or_empty,
    )
    advertise_v6: str = setting(
        default="",
        doc="The same for IPv6 listeners, where `advertise` is an IPv4 address.",
        example='"2001:db8::7"',
        check=expect_v6_or_empty,
    )
    max_connections: int = setting(
        default=500,
        doc="TCP and TLS connections at once; a quarter of them may come from addresses of no trunk.",
        range=(8, 10000),
    )
    max_connections_per_host: int = setting(
        default=100,
        doc="TCP and TLS connections at once from one address.",
        range=(1, 10000),
    )
    session_expires_s: int = setting(
        default=1800,
        doc="How long a call may last before one side shows the other that it is still there (session timer, RFC 4028),"
        " where the phone knows of that and asks for no interval of its own; 0 for never.",
        unit="s",
        range=(0, 86400),
        check=lambda seconds: "" if not seconds or seconds >= 90 else "0, or 90 and more",
    )
    min_session_expires_s: int = setting(
        default=90,
        doc="The shortest such interval that a phone may ask for; a shorter one is answered 422.",
        unit="s",
        range=(90, 7200),
    )
    trace: bool = setting(
        default=False,
        doc="Write every SIP message to `trace_file`, with credentials, passwords and keys masked: to look for a fault,"
        " not for ever.",
    )
    trace_file: Path = setting(
        default=Path("sip-trace.log"),
        doc="That file; only the user that the server runs as can read it.",
    )
    trace_mb: int = setting(
        default=10,
        doc="After so much a new file begins; the one before it is kept beside it, with `.1` behind its name.",
        unit="MiB",
        range=(1, 1024),
    )

    def advertised(self, *, is_v6: bool) -> str:
        """The address of this family that others are told; "" where none is set."""
        return first_of_family((self.advertise, self.advertise_v6), is_v6=is_v6)

    @functools.cached_property
    def listeners(self) -> tuple[Listener, ...]:
        """``listen``, parsed."""
        return tuple(Listener.parse(text) for text in self.listen)

    @functools.cached_property
    def addresses(self) -> tuple[str, ...]:
        """The IP addresses that single listeners tell others, or are bound on."""
        told = (at.advertise if is_address(at.advertise) else at.interface for at in self.listeners)
        return tuple(address for address in told if address and not is_everywhere(address))


@attrs.frozen
class Tls:
    """SIP over TLS 1.2 and 1.3. Files that change are used from the next connection on, without a restart."""

    certificate: Path | None = setting(
        default=None,
        doc="Our certificate and behind it those between it and its authority (PEM): what `tls:` listeners show, and"
        " our own connections where they are asked.",
        example='"fullchain.pem"',
        file="certificates",
    )
    key: Path | None = setting(
        default=None,
        doc="Its private key (PEM, without a passphrase).",
        example='"privkey.pem"',
        file="any",
    )
    ca_file: Path | None = setting(
        default=None,
        doc="Certificates (PEM) to trust where we connect to others, instead of the system's. They must be for the name"
        " or the address that we call, too.",
        example='"ca.pem"',
        file="certificates",
    )
    client_ca_file: Path | None = setting(
        default=None,
        doc="Who connects to us must show a certificate that one of these (PEM) has signed. Empty: nobody is asked.",
        example='"clients.pem"',
        file="certificates",
    )
