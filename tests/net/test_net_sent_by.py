"""Answers whose connection is gone, to peers whose Via has a name (RFC 3261 section 18.2.2, RFC 3263 section 5)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.protocol import ClientFactory
from twisted.names import dns

from agentstream.net.resolve import Locator
from agentstream.net.sent_by import MOST_LOOKUPS, MOST_TRIES, SentBy
from agentstream.sip.events import InviteReceived
from agentstream.sip.hop import Hop
from agentstream.testing.sip_peer import SipPeer, read
from tests.net.test_net_outbound import Zone
from tests.net.test_net_tcp import US, House, Wire, tcp
from tests.sip.kit import SDP

pytestmark = pytest.mark.rfc(3263)


@pytest.fixture
def zone() -> Zone:
    return Zone(
        {
            ("SRV", "_sip._tcp.pbx.example"): [dns.Record_SRV(1, 0, 5071, b"a.pbx.example", ttl=60)],
            ("A", "a.pbx.example"): [dns.Record_A("127.0.0.3", ttl=60)],
            ("A", "pbx.example"): [dns.Record_A("127.0.0.2", ttl=60), dns.Record_A("127.0.0.3", ttl=60)],
        }
    )


@pytest.fixture
def house(zone: Zone) -> Iterator[House]:
    house = House()
    house.edge.outbound.locator = Locator(house.reactor, zone, lambda _name: (), lambda _most: 0)
    yield house
    house.stop()


def call(house: House, sent_by: bytes) -> Any:
    """An INVITE with this sent-by, over a connection that is gone."""
    wire = Wire()
    house.reactor.connectTCP(*US, ClientFactory.forProtocol(lambda: wire), bindAddress=("127.0.0.9", 0))
    house.pass_time(0.01)
    house.send(wire, tcp(SipPeer().invite()).replace(b"TCP 127.0.0.1:5090;", b"TCP " + sent_by + b";", 1))
    wire.transport.loseConnection()  # type: ignore[union-attr]  # it is connected here
    house.pass_time(0.1)
    return house.event(InviteReceived).session


def statuses(house: House) -> list[int]:
    """What has come by the one connection of ours."""
    house.pass_time(0.1)
    (wire,) = house.accepted
    return [read(one).status for one in wire.take()]


@pytest.mark.parametrize(
    ("sent_by", "host", "port"),
    [
        (b"pbx.example:5070", "127.0.0.2", 5070),
        # The first address of the name takes no connection, the second one does.
        (b"pbx.example:5070", "127.0.0.3", 5070),
        # Without a port, SRV records of the Via's transport say it.
        (b"pbx.example", "127.0.0.3", 5071),
        # Where the request came from is asked first: no name is looked up.
        (b"nobody.example:5072", "127.0.0.9", 5072),
    ],
)
def test_an_answer_goes_where_the_name_leads(house: House, zone: Zone, sent_by: bytes, host: str, port: int) -> None:
    house.listen(port, host)
    session = call(house, sent_by)
    house.edge.progress(session)
    house.edge.answer(session, SDP)
    assert statuses(house) == [180, 200]
    assert bool(zone.asked) == (host != "127.0.0.9")
    # The 200 that no ACK came for is sent again, by the same way.
    house.pass_time(0.6)
    assert statuses(house) == [200]
    house.edge.hang_up(session)


def test_a_name_that_leads_nowhere_is_no_news(house: House) -> None:
    session = call(house, b"nobody.example:5070")
    house.edge.answer(session, SDP)
    house.pass_time(1.0)
    assert house.accepted == []
    house.edge.hang_up(session)
    house.pass_time(40.0)
    assert house.edge.stack.is_settled


def test_nothing_waits_for_a_lookup(house: House) -> None:
    waiting: list[Deferred[Any]] = []

    def never(_name: str) -> Deferred[Any]:
        waiting.append(Deferred())
        return waiting[-1]

    zone: Any = house.edge.outbound.locator._resolver
    zone.lookupAddress = never
    house.listen(5070, "127.0.0.2")
    session = call(house, b"pbx.example:5070")
    house.edge.reject(session, 486)
    house.pass_time(1.0)
    assert len(waiting) == 1
    # Meanwhile others are answered.
    other = house.connect()
    assert [read(one).status for one in house.send(other, tcp(SipPeer().options()))] == [200]
    answers = [dns.RRHeader("pbx.example", 1, ttl=60, payload=dns.Record_A("127.0.0.2", ttl=60))]
    waiting[0].callback((answers, [], []))
    assert statuses(house) == [486]


GONE = Hop("tcp", "192.0.2.1", 40000, "t", ("192.0.2.1", 5060), sent_by=("pbx.example", None))
ANSWER = b"SIP/2.0 200 OK\r\n\r\n"


class Found:
    """A SentBy whose lookups the test answers.

    :ivar asked: what it was asked for. :ivar sent: where answers went.
    """

    def __init__(self) -> None:
        self.asked: list[tuple[str, Deferred[list[Hop]]]] = []
        self.sent: list[Hop] = []
        self.one = SentBy(self._locate, lambda _data, hop: self.sent.append(hop), lambda host: host == "192.0.2.1")

    def _locate(self, uri: Any) -> Deferred[list[Hop]]:
        self.asked.append((str(uri), Deferred()))
        return self.asked[-1][1]


def test_lookups_and_tries_are_bounded() -> None:
    found = Found()
    for _ in range(2 * MOST_LOOKUPS):
        found.one.lost(GONE, [ANSWER])
    assert [uri for uri, _ in found.asked] == ["sip:pbx.example;transport=tcp"] * MOST_LOOKUPS
    ways = [Hop("tcp", f"192.0.2.{n}", 5060, "t") for n in range(1, 20)]
    found.asked[0][1].callback(ways)
    # The first of them is where the connection failed.
    assert found.sent == [ways[1]]
    while len(found.sent) < 10 and found.sent[-1].others:
        found.one.lost(found.sent[-1], [ANSWER])
    found.one.lost(found.sent[-1], [ANSWER])
    assert found.sent == ways[1 : 1 + MOST_TRIES]
    for _uri, waiting in found.asked[1:]:
        waiting.callback([])
    assert found.one.lookups == 0


def test_only_answers_to_those_who_are_known_are_looked_after() -> None:
    found = Found()
    found.one.lost(GONE, [b"BYE sip:a@b SIP/2.0\r\n\r\n"])
    found.one.lost(Hop("tcp", "192.0.2.2", 40000, "t", sent_by=("pbx.example", None)), [ANSWER])
    found.one.lost(Hop("tcp", "192.0.2.1", 40000, "t"), [ANSWER])
    assert found.asked == []
