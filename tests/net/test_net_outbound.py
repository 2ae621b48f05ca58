"""Calls of ours to where a URI leads, with a DNS of the test's own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail, succeed
from twisted.names import dns
from twisted.names.error import DNSNameError, DNSQueryTimeoutError
from twisted.python.failure import Failure

from agentstream.errors import RemoteProtocolError
from agentstream.net.resolve import NOTHING_S, Locator
from agentstream.sip.events import InviteAnswered
from agentstream.sip.hop import Hop
from agentstream.sip.uri import parse_uri
from agentstream.testing.sip_peer import SipPeer, read
from tests.net.test_net_tcp import US, House
from tests.sip.kit import SDP

pytestmark = pytest.mark.rfc(3263)


class Zone:
    """A resolver that knows a few records.

    :ivar asked: (type, name) of each question.
    """

    def __init__(self, records: dict[tuple[str, str], Sequence[Any]]) -> None:
        self.records = records
        self.asked: list[tuple[str, str]] = []
        self.error: Exception = DNSNameError("no such name")

    def _look_up(self, kind: str, name: str) -> Deferred[Any]:
        self.asked.append((kind, name))
        found = self.records.get((kind, name))
        if not found:
            return fail(Failure(self.error))
        return succeed(([dns.RRHeader(name, one.TYPE, ttl=one.ttl, payload=one) for one in found], [], []))

    def lookupNamingAuthorityPointer(self, name: str) -> Deferred[Any]:
        return self._look_up("NAPTR", name)

    def lookupService(self, name: str) -> Deferred[Any]:
        return self._look_up("SRV", name)

    def lookupAddress(self, name: str) -> Deferred[Any]:
        return self._look_up("A", name)

    def lookupIPV6Address(self, name: str) -> Deferred[Any]:
        return self._look_up("AAAA", name)


def zone() -> Zone:
    """Two servers by UDP, and by preference one by TCP."""
    return Zone(
        {
            ("NAPTR", "example.com"): [
                dns.Record_NAPTR(20, 1, b"s", b"SIP+D2U", b"", b"_sip._udp.example.com", ttl=60),
                dns.Record_NAPTR(10, 1, b"s", b"SIP+D2T", b"", b"_sip._tcp.example.com", ttl=60),
            ],
            ("SRV", "_sip._tcp.example.com"): [dns.Record_SRV(1, 0, 5091, b"a.example.com", ttl=60)],
            ("SRV", "_sip._udp.example.com"): [dns.Record_SRV(1, 0, 5090, b"a.example.com", ttl=60)],
            ("A", "a.example.com"): [
                dns.Record_CNAME(b"b.example.com", ttl=10),
                dns.Record_A("127.0.0.1", ttl=60),
            ],
            ("AAAA", "a.example.com"): [dns.Record_AAAA("2001:db8::1", ttl=60)],
        }
    )


@pytest.fixture
def dns_zone() -> Zone:
    return zone()


@pytest.fixture
def house(dns_zone: Zone) -> Iterator[House]:
    house = House()
    house.edge.outbound.locator = Locator(house.reactor, dns_zone, lambda _name: (), lambda _most: 0)
    yield house
    house.stop()


def call(house: House, text: str = "sip:1000@example.com", **more: Any) -> list[Any]:
    uri, results = parse_uri(text), []
    house.edge.outbound.call(uri, from_uri=uri, to_uri=uri, sdp=SDP, **more).addBoth(results.append)
    house.pass_time(0.01)
    return results


def test_a_call_goes_where_the_domain_says(house: House) -> None:
    """TCP first, because its NAPTR record says so; the address of the family that is bound."""
    house.listen(5091)
    (session,) = call(house)
    (invite,) = house.accepted[0].take()
    assert read(invite).first == "INVITE sip:1000@example.com SIP/2.0"
    assert house.datagrams == []
    house.send(house.accepted[0], SipPeer().respond(invite, 200, sdp=SDP))
    assert house.event(InviteAnswered).session is session
    house.edge.hang_up(session)
    house.pass_time(0.01)


def test_a_target_that_refuses_is_followed_by_the_next_and_comes_last_then(house: House) -> None:
    """Nothing listens on TCP: the call goes on by UDP, and the next call begins with that."""
    counters = house.edge.connections.counters
    for refusals in (1, 1):
        call(house)
        (invite,) = house.datagrams
        assert read(invite).header("via").startswith("SIP/2.0/UDP ")
        assert counters["not connected"] == refusals
        house.reactor.network.send(SipPeer().respond(invite, 486, "Busy Here"), ("127.0.0.1", 5090), US)
        house.pass_time(0.01)
        house.datagrams.clear()
    house.pass_time(31.0)
    call(house)
    assert counters["not connected"] == 2


def test_a_trunk_has_an_address_of_its_own(house: House) -> None:
    call(house, "sip:+4930123456@carrier.example", via=parse_uri("sip:127.0.0.1:5090"))
    assert read(house.datagrams[0]).first == "INVITE sip:+4930123456@carrier.example SIP/2.0"


def test_a_uri_that_leads_nowhere(house: House) -> None:
    (failure,) = call(house, "sip:1000@nobody.example")
    assert failure.check(RemoteProtocolError)
    assert failure.value.status == 503
    (failure,) = call(house, "sips:1000@example.com")
    assert failure.value.sentence == "no address that can be reached from here belongs to the target"


def test_answers_are_kept_for_as_long_as_they_say(house: House, dns_zone: Zone) -> None:
    call(house)
    asked = len(dns_zone.asked)
    call(house)
    assert len(dns_zone.asked) == asked
    house.pass_time(61.0)
    call(house)
    assert len(dns_zone.asked) == 2 * asked


def test_a_server_that_does_not_answer_is_asked_again_soon(house: House, dns_zone: Zone) -> None:
    dns_zone.error = DNSQueryTimeoutError("timed out")
    known, dns_zone.records = dns_zone.records, {}
    assert call(house)[0].check(RemoteProtocolError)
    dns_zone.records = known
    assert call(house)[0].check(RemoteProtocolError)
    house.pass_time(NOTHING_S)
    call(house)
    assert house.datagrams


def test_nothing_of_the_systems_resolver_is_left_at_the_end() -> None:
    house = House()
    house.edge.outbound.locator = Locator(house.reactor, None, lambda _name: ())
    call(house, "sip:1000@pbx.example:5090")
    house.pass_time(10.0)
    house.stop()
    assert house.reactor.getDelayedCalls() == []


def test_the_machines_own_names_come_first(dns_zone: Zone) -> None:
    house = House()
    house.edge.outbound.locator = Locator(house.reactor, dns_zone, {"pbx": ["127.0.0.1"]}.get)  # type: ignore[arg-type]
    call(house, "sip:1000@pbx:5090")
    assert len(house.datagrams) == 1
    assert dns_zone.asked == []
    house.stop()


def hops(house: House) -> list[Hop]:
    """The ways to example.com."""
    found: list[Hop] = []
    house.edge.outbound.hops(parse_uri("sip:1000@example.com")).addCallback(found.extend)
    return found


def answered(house: House, status: int) -> None:
    """One call to example.com, which its server by UDP answers."""
    (session,) = call(house)
    (invite,) = house.datagrams
    house.reactor.network.send(SipPeer().respond(invite, status, sdp=SDP), ("127.0.0.1", 5090), US)
    house.pass_time(0.01)
    if status == 200:
        house.edge.hang_up(session)
    house.pass_time(0.01)
    house.datagrams.clear()


@pytest.mark.parametrize("status", [180, 200, 404])
def test_a_target_that_has_answered_is_free_of_its_penalty(house: House, dns_zone: Zone, status: int) -> None:
    """It was the only one when it answered, so it was tried in spite of its penalty; then it comes first again."""
    del dns_zone.records["NAPTR", "example.com"], dns_zone.records["SRV", "_sip._tcp.example.com"]
    (hop,) = hops(house)
    penalties = house.edge.outbound.penalties
    house.edge.outbound.is_down(hop)
    house.pass_time(3600.0)
    assert len(penalties) == 1
    answered(house, status)
    assert len(penalties) == 0


@pytest.mark.parametrize("status", [503, 408])
def test_what_nobody_has_answered_frees_nothing(house: House, dns_zone: Zone, status: int) -> None:
    del dns_zone.records["NAPTR", "example.com"], dns_zone.records["SRV", "_sip._tcp.example.com"]
    (hop,) = hops(house)
    house.edge.outbound.is_down(hop)
    answered(house, status)
    assert len(house.edge.outbound.penalties) == 1
