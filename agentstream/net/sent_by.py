"""Responses whose connection is gone, to peers that name themselves in Via by a host name (RFC 3261 section 18.2.2).

Such a response goes to the address that its request came from first; where nobody takes a connection there, the name is
looked up (RFC 3263 section 5). Nothing else waits for that, and neither the lookups at once nor the addresses that are
tried have no end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs
from twisted.internet.defer import Deferred

from agentstream.sip.hop import Hop
from agentstream.sip.uri import Uri

MOST_LOOKUPS = 32
"""Names that are looked up at once; a response that is one too many is lost, as it would be without all this."""
MOST_TRIES = 4
"""Addresses of one name that are tried."""


class SentBy:
    """The responses of one edge that have lost their connection.

    :param locate: fires with the ways to where a URI leads. :param send: sends bytes on a hop.
    :param is_known: whether this address belongs to a trunk: a name that a stranger wrote is not looked up.
    :ivar lookups: names that are looked up now.
    """

    def __init__(
        self,
        locate: Callable[[Uri], Deferred[list[Hop]]],
        send: Callable[[bytes, Hop], None],
        is_known: Callable[[str], bool],
    ) -> None:
        self.lookups = 0
        self._locate = locate
        self._send = send
        self._is_known = is_known

    def lost(self, hop: Hop, unsent: Sequence[bytes]) -> None:
        """This was not sent, because no connection leads to the hop any more."""
        responses = [data for data in unsent if data.startswith(b"SIP/2.0 ")]
        if not responses:
            return
        if hop.others:
            self._try(responses, hop.others)
        elif hop.sent_by is not None and self.lookups < MOST_LOOKUPS and self._is_known(hop.host):
            self.lookups += 1
            name, port = hop.sent_by
            # Section 5: by the transport of the Via, and by SRV records where it names no port.
            uri = Uri("sip", host=name, port=port, parameters=(("transport", hop.transport),))
            self._locate(uri).addBoth(self._looked_up).addCallback(lambda ways: self._found(hop, responses, ways))

    def _looked_up(self, ways: list[Hop]) -> list[Hop]:
        self.lookups -= 1
        return ways

    def _found(self, hop: Hop, responses: Sequence[bytes], ways: Sequence[Hop]) -> None:
        tried = hop.fallback or (hop.host, hop.port)
        self._try(responses, tuple(way for way in ways if (way.host, way.port) != tried)[:MOST_TRIES])

    def _try(self, responses: Sequence[bytes], ways: tuple[Hop, ...]) -> None:
        if ways:
            way = attrs.evolve(ways[0], others=ways[1:])
            for data in responses:
                self._send(data, way)
