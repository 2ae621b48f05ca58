"""Where a request to a URI can go (RFC 3263): transports, ports and addresses, best first, without a resolver.

:func:`locate` is a generator: it yields what it wants to know of the DNS, is sent what the DNS knows, and returns the
targets. :class:`Penalties` keeps those that have failed behind the others for a while.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Collection, Generator, Iterable, Sequence

import attrs

from agentstream.sip.grammar import parse_address
from agentstream.sip.routing import default_port
from agentstream.sip.uri import Uri

MOST_TARGETS = 16
"""Targets of one URI: what a zone names beyond them is not looked up."""

SERVICES = {"udp": "_sip._udp", "tcp": "_sip._tcp", "tls": "_sips._tcp"}
"""The SRV name of each transport (RFC 3263 section 4.1)."""
NAPTR_SERVICES = {"SIP+D2U": "udp", "SIP+D2T": "tcp", "SIPS+D2T": "tls"}


@attrs.frozen
class Naptr:
    """One NAPTR record (RFC 3403). ``replacement`` is the name to look up SRV records of."""

    order: int
    preference: int
    flags: str
    service: str
    replacement: str


@attrs.frozen
class Srv:
    """One SRV record (RFC 2782)."""

    priority: int
    weight: int
    port: int
    target: str


Record = Naptr | Srv | str
"""What a question is answered with; an address is its text."""


@attrs.frozen
class Query:
    """A question to the DNS.

    :ivar kind: ``NAPTR``, ``SRV`` or ``address`` (A and AAAA). An answer of no records says that there are none, or
        that they could not be had.
    """

    kind: str
    name: str


@attrs.frozen
class Target:
    """Where a request can be sent.

    :ivar host: an IP address.
    :ivar name: with ``tls``, whom the certificate must be for: the host of the URI, whatever records led here (RFC 5922
        section 4); "" where that is the address itself.
    """

    transport: str
    host: str
    port: int
    name: str = ""


Lookup = Generator[Query, Sequence[Record], list[Target]]


def locate(uri: Uri, transports: Collection[str], families: Collection[bool], draw: Callable[[int], int]) -> Lookup:
    """The targets of a URI, best first; none where nothing that we speak leads there.

    :param transports: what we speak, in the order in which we like it.
    :param families: the IP families that we are bound in, as ``is_v6``.
    :param draw: ``draw(n)`` gives a number from 0 to n, by chance, for the weights of SRV records.
    """
    host = uri.parameter("maddr") or uri.host
    address = parse_address(host)
    named = (uri.parameter("transport") or "").lower()
    wanted = named
    if uri.scheme == "sips":
        # 26.2.2 of RFC 3261: a sips URI is reached by TLS over TCP, and by nothing else.
        if named not in ("", "tcp", "tls"):
            return []
        wanted = "tls"
    if address is not None or uri.port is not None:
        # 4.1: without a transport in the URI a numeric host, or a port, means UDP, and TLS for a sips URI.
        transport = wanted or "udp"
        port = uri.port or default_port(transport)
        found = [str(address)] if address is not None else (yield from _addresses(host))
        places = [(transport, one, port) for one in found]
    else:
        spoken = [one for one in transports if wanted in ("", one)]
        places = yield from _by_service(host, wanted, spoken, draw, is_open=not named)
    targets = [
        Target(transport, where, port, host if transport == "tls" and where != host else "")
        for transport, where, port in places
        if transport in transports and (":" in where) in families and 0 < port < 65536
    ]
    return list(dict.fromkeys(targets))[:MOST_TARGETS]


Places = list[tuple[str, str, int]]
"""(transport, address, port)."""
Step = Generator[Query, Sequence[Record], Places]


def _by_service(
    host: str, wanted: str, transports: Sequence[str], draw: Callable[[int], int], *, is_open: bool
) -> Step:
    services: list[tuple[str, str]] = []
    if is_open and transports:
        # 4.1: where the URI names no transport, NAPTR records say which ones the domain prefers; those that we do not
        # speak are discarded, and for a sips URI all but TLS.
        answer = yield Query("NAPTR", host)
        records = sorted((one for one in answer if isinstance(one, Naptr)), key=lambda one: (one.order, one.preference))
        for record in records:
            transport = NAPTR_SERVICES.get(record.service.upper(), "")
            if record.flags.lower() == "s" and transport in transports and record.replacement:
                services.append((transport, record.replacement))
    services = services or [(transport, f"{SERVICES[transport]}.{host}") for transport in transports]
    places: Places = []
    is_served = False
    for transport, service in services:
        answer = yield Query("SRV", service)
        records_of = [one for one in answer if isinstance(one, Srv)]
        is_served = is_served or bool(records_of)
        for server in in_order(records_of, draw):
            # RFC 2782: a target of "." means that the service is not there.
            if server.target.strip(".") and len(places) < MOST_TARGETS:
                found = yield from _addresses(server.target)
                places += [(transport, address, server.port) for address in found]
    if is_served:
        return places
    # 4.2: "If no SRV records were found, the client performs an A or AAAA record lookup of the domain name."
    transport = wanted or "udp"
    found = yield from _addresses(host)
    return [(transport, address, default_port(transport)) for address in found]


def _addresses(name: str) -> Generator[Query, Sequence[Record], list[str]]:
    if parse_address(name) is not None:
        return [name]
    answer = yield Query("address", name)
    return [one for one in answer if isinstance(one, str)]


def in_order(records: Iterable[Srv], draw: Callable[[int], int]) -> list[Srv]:
    """Priorities from the lowest; within one, RFC 2782's draw by weight."""
    ordered: list[Srv] = []
    left = sorted(records, key=lambda one: (one.priority, one.weight != 0))
    while left:
        same = [one for one in left if one.priority == left[0].priority]
        # "Choose a uniform random number between 0 and the sum computed (inclusive), and select the RR whose running
        # sum value is the first in the selected order which is greater than or equal to the random number selected."
        drawn, running = draw(sum(one.weight for one in same)), 0
        for chosen in same:
            running += chosen.weight
            if running >= drawn:
                break
        ordered.append(chosen)
        left.remove(chosen)
    return ordered


class Penalties:
    """Targets that have failed, and until when they stand behind the others.

    The first failure counts for ``first_s``, each further one twice as long as the one before, up to ``most_s``. The
    number of targets that are remembered is bounded.
    """

    def __init__(self, first_s: float = 30.0, most_s: float = 600.0, size: int = 1000) -> None:
        self._first_s = first_s
        self._most_s = most_s
        self._size = size
        self._until: OrderedDict[Target, tuple[float, float]] = OrderedDict()

    def failed(self, target: Target, now: float) -> None:
        """It did not answer, was not reached, or answered 503."""
        until, length = self._until.pop(target, (0.0, 0.0))
        if until <= now or not length:
            length = min(self._most_s, 2 * length) if length else self._first_s
            until = now + length
        self._keep(target, until, length)

    def _keep(self, target: Target, until: float, length: float) -> None:
        self._until[target] = (until, length)
        if len(self._until) > self._size:
            self._until.popitem(last=False)

    def down(self, target: Target) -> None:
        """It is known to be dead, and that is looked after: it stands behind the others until it has answered."""
        self._until.pop(target, None)
        self._keep(target, math.inf, self._first_s)

    def answered(self, target: Target) -> None:
        """It is alive."""
        self._until.pop(target, None)

    def __len__(self) -> int:
        return len(self._until)

    def is_dead(self, target: Target, now: float) -> bool:
        """It has failed not long ago."""
        return self._until.get(target, (0.0, 0.0))[0] > now

    def order(self, targets: Iterable[Target], now: float) -> list[Target]:
        """The same, with the dead ones behind the others: where all are dead, each is still tried."""
        return sorted(targets, key=lambda target: self._until[target][0] if self.is_dead(target, now) else 0.0)
