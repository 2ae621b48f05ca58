"""Which addresses a URL from outside may lead to: public ones, so that it cannot reach into this machine's own network.

A name is resolved here and connected to by what it resolved to, so that it cannot mean something else a moment later.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.defer import Deferred, fail
from twisted.internet.error import DNSLookupError
from twisted.internet.interfaces import (
    IHostnameResolver,
    IHostResolution,
    IReactorPluggableNameResolver,
    IResolutionReceiver,
    IStreamClientEndpoint,
)
from twisted.python.failure import Failure
from zope.interface import implementer

NOT_PUBLIC = (
    "The URL came from an HTTP answer and leads to an address that is not public; [stream] allow_private allows it."
)

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_6TO4 = ipaddress.IPv6Network("2002::/16")


class AddressRefused(Exception):
    """No address of the host is one that may be reached."""


def is_public(host: str) -> bool:
    """This IP address belongs to the open internet: it is not loopback, link-local, private, shared or reserved.

    An IPv6 address that only wraps an IPv4 address is judged by that one.
    """
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped
        if address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        elif address in _6TO4:
            inner = ipaddress.IPv4Address(int(address) >> 80 & 0xFFFFFFFF)
        if inner is not None:
            address = inner
    return address.is_global and not address.is_multicast


def is_literal(host: str) -> bool:
    """It is an IP address in its usual spelling and no name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


@implementer(IStreamClientEndpoint)
@attrs.define
class PublicEndpoint:
    """An endpoint that reaches public addresses only; errbacks with AddressRefused when a host has none.

    :ivar host: a name or an address.
    :ivar make: makes the endpoint proper from the reactor that it is given, whose names lead to public addresses only.
    """

    reactor: Any
    host: str
    make: Callable[[Any], IStreamClientEndpoint]

    def connect(self, protocolFactory: Any) -> Deferred[Any]:
        """See IStreamClientEndpoint."""
        if is_literal(self.host) and not is_public(self.host):
            return fail(AddressRefused())
        names = _PublicNames(self.reactor.nameResolver)
        connecting: Deferred[Any] = self.make(_Screened(self.reactor, names)).connect(protocolFactory)

        def explained(failure: Failure) -> Failure:
            return Failure(AddressRefused()) if names.refused and failure.check(DNSLookupError) else failure

        return connecting.addErrback(explained)


@implementer(IReactorPluggableNameResolver)
class _Screened:
    """A reactor with another resolver."""

    def __init__(self, reactor: Any, names: _PublicNames) -> None:
        self._reactor = reactor
        self.nameResolver = names

    def installNameResolver(self, resolver: Any) -> Any:
        raise NotImplementedError("this view of the reactor lasts for one connection")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)


@implementer(IHostnameResolver)
class _PublicNames:
    """A resolver that keeps addresses back.

    :ivar refused: how many it kept back.
    """

    def __init__(self, names: Any) -> None:
        self._names = names
        self.refused = 0

    def resolveHostName(self, resolutionReceiver: Any, *arguments: Any, **named: Any) -> IHostResolution:
        resolution: IHostResolution = self._names.resolveHostName(
            _PublicReceiver(self, resolutionReceiver), *arguments, **named
        )
        return resolution


@implementer(IResolutionReceiver)
@attrs.define
class _PublicReceiver:
    names: _PublicNames
    receiver: Any

    def resolutionBegan(self, resolutionInProgress: Any) -> None:
        self.receiver.resolutionBegan(resolutionInProgress)

    def addressResolved(self, address: Any) -> None:
        if is_public(getattr(address, "host", "")):
            self.receiver.addressResolved(address)
        else:
            self.names.refused += 1

    def resolutionComplete(self) -> None:
        self.receiver.resolutionComplete()
