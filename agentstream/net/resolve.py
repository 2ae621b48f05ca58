"""The DNS for calls of ours: :func:`agentstream.sip.locate.locate` asks, twisted.names answers.

Answers are kept for as long as their records allow, and that there was none for a few seconds.
"""

from __future__ import annotations

import secrets
import socket
from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.names import client, dns, hosts
from twisted.python.filepath import FilePath

from agentstream.sip.locate import Naptr, Query, Record, Srv, Target, locate
from agentstream.sip.uri import Uri

TIMEOUTS_S = (1, 2)
"""Seconds for an answer, first and second try."""
MOST_S = 3600.0
"""Seconds for which an answer is kept, whatever it says itself."""
NOTHING_S = 5.0
"""Seconds for which it is kept that there was none."""
SIZE = 1000
"""Answers that are kept."""


def system_resolver(reactor: Any) -> Any:
    """The servers of /etc/resolv.conf, asked from this reactor."""
    return client.Resolver(resolv="/etc/resolv.conf", reactor=reactor, timeout=TIMEOUTS_S)


class Locator:
    """Finds the targets of URIs.

    :param resolver: an IResolver; None is made at the first question, so that without names there are no sockets.
    :param names: gives the addresses of a name that this machine's own table has (/etc/hosts).
    """

    def __init__(
        self,
        reactor: Any,
        resolver: Any = None,
        names: Callable[[str], Sequence[str]] | None = None,
        draw: Callable[[int], int] = lambda most: secrets.randbelow(most + 1),
    ) -> None:
        self._reactor = reactor
        self._resolver = resolver
        self._names = names or _own_names
        self._draw = draw
        self._kept: OrderedDict[Query, tuple[float, Sequence[Record]]] = OrderedDict()

    def locate(self, uri: Uri, transports: Collection[str], families: Collection[bool]) -> Deferred[list[Target]]:
        """Fires with the targets, best first; an empty list where nothing leads there. Errbacks only where it is
        cancelled: nobody waits any more, and what was asked is kept for the next call."""
        told: Deferred[list[Target]] = Deferred()
        Deferred.fromCoroutine(self._locate(uri, transports, families)).chainDeferred(told)
        return told

    def stop(self) -> None:
        """Look at /etc/resolv.conf no more, which twisted.names does once a minute and knows no end of."""
        reading = getattr(self._resolver, "_parseCall", None)
        if reading is not None and reading.active():
            reading.cancel()

    async def _locate(self, uri: Uri, transports: Collection[str], families: Collection[bool]) -> list[Target]:
        lookup = locate(uri, transports, families, self._draw)
        try:
            query = next(lookup)
            while True:
                query = lookup.send(await self._answer(query))
        except StopIteration as end:
            targets: list[Target] = end.value
            return targets

    async def _answer(self, query: Query) -> Sequence[Record]:
        now = self._reactor.seconds()
        until, kept = self._kept.get(query, (0.0, ()))
        if until > now:
            return kept
        if query.kind == "address":
            own = self._names(query.name)
            if own:
                return own
        if self._resolver is None:
            self._resolver = system_resolver(self._reactor)
        resolver = self._resolver
        asked = {
            "NAPTR": (resolver.lookupNamingAuthorityPointer,),
            "SRV": (resolver.lookupService,),
            "address": (resolver.lookupAddress, resolver.lookupIPV6Address),
        }[query.kind]
        # No such name, no server, no answer in time: for a call it is the same.
        found = await gatherResults([ask(query.name).addErrback(lambda _failure: ((), (), ())) for ask in asked])
        records: list[Record] = []
        ttl_s = MOST_S
        for answers, _authority, _additional in found:
            for header in answers:
                record = _record(header.payload)
                if record is not None:
                    records.append(record)
                    ttl_s = min(ttl_s, float(header.ttl))
        self._kept[query] = (self._reactor.seconds() + (ttl_s if records else NOTHING_S), records)
        self._kept.move_to_end(query)
        if len(self._kept) > SIZE:
            self._kept.popitem(last=False)
        return records


def _record(payload: Any) -> Record | None:
    """What a record says; None for those that only lead to others, such as CNAME."""
    if isinstance(payload, dns.Record_A):
        return str(payload.dottedQuad())
    if isinstance(payload, dns.Record_AAAA):
        return socket.inet_ntop(socket.AF_INET6, payload.address)
    if isinstance(payload, dns.Record_SRV):
        return Srv(payload.priority, payload.weight, payload.port, _text(payload.target.name))
    if isinstance(payload, dns.Record_NAPTR):
        return Naptr(
            payload.order,
            payload.preference,
            _text(payload.flags.string),
            _text(payload.service.string),
            _text(payload.replacement.name),
        )
    return None


def _text(raw: bytes) -> str:
    return raw.decode("ascii", "replace")


def _own_names(name: str) -> Sequence[str]:
    found: Sequence[str] = hosts.searchFileForAll(FilePath(b"/etc/hosts"), name.encode("ascii", "replace"))
    return found
