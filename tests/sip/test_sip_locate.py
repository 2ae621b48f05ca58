"""Where a URI leads (RFC 3263), with the DNS as a table."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentstream.sip.locate import MOST_TARGETS, Naptr, Penalties, Query, Record, Srv, Target, in_order, locate
from agentstream.sip.uri import parse_uri

Zone = dict[tuple[str, str], Sequence[Record]]

ALL = ("udp", "tcp", "tls")
BOTH = (False, True)


def first(_most: int) -> int:
    return 0


def located(
    text: str, zone: Zone, transports: Sequence[str] = ALL, families: Sequence[bool] = BOTH
) -> tuple[list[Target], list[Query]]:
    """The targets, and what was asked for."""
    asked: list[Query] = []
    lookup = locate(parse_uri(text), transports, families, first)
    answer: Sequence[Record] | None = None
    while True:
        try:
            query = lookup.send(answer) if answer is not None else next(lookup)  # type: ignore[arg-type]
        except StopIteration as end:
            return end.value, asked
        asked.append(query)
        answer = zone.get((query.kind, query.name), ())


HOST: Zone = {("address", "example.com"): ["192.0.2.1"]}
SERVED: Zone = {
    ("NAPTR", "example.com"): [
        Naptr(20, 10, "s", "SIP+D2U", "_sip._udp.example.com"),
        Naptr(10, 20, "s", "SIP+D2T", "_sip._tcp.example.com"),
        Naptr(10, 10, "S", "sips+d2t", "_sips._tcp.example.com"),
        Naptr(1, 1, "u", "E2U+sip", ""),
    ],
    ("SRV", "_sips._tcp.example.com"): [Srv(2, 0, 5061, "b.example.com"), Srv(1, 0, 5061, "a.example.com")],
    ("SRV", "_sip._tcp.example.com"): [Srv(1, 0, 5060, "a.example.com")],
    ("SRV", "_sip._udp.example.com"): [Srv(1, 0, 5070, "a.example.com")],
    ("address", "a.example.com"): ["192.0.2.1", "2001:db8::1"],
    ("address", "b.example.com"): ["192.0.2.2"],
}


@pytest.mark.rfc(3263)
@pytest.mark.parametrize(
    ("uri", "targets"),
    [
        ("sip:192.0.2.7", [Target("udp", "192.0.2.7", 5060)]),
        ("sip:192.0.2.7:5070", [Target("udp", "192.0.2.7", 5070)]),
        ("sip:[2001:db8::7]", [Target("udp", "2001:db8::7", 5060)]),
        ("sip:192.0.2.7;transport=TCP", [Target("tcp", "192.0.2.7", 5060)]),
        ("sip:192.0.2.7;transport=tls", [Target("tls", "192.0.2.7", 5061)]),
        ("sips:192.0.2.7", [Target("tls", "192.0.2.7", 5061)]),
        ("sips:192.0.2.7;transport=tcp", [Target("tls", "192.0.2.7", 5061)]),
        ("sips:192.0.2.7;transport=udp", []),
        ("sip:192.0.2.7;transport=sctp", []),
        ("sip:example.com:5080", [Target("udp", "192.0.2.1", 5080)]),
        ("sips:example.com:5081", [Target("tls", "192.0.2.1", 5081, "example.com")]),
        ("sip:example.com", [Target("udp", "192.0.2.1", 5060)]),
        ("sips:example.com", [Target("tls", "192.0.2.1", 5061, "example.com")]),
        ("sip:example.com;transport=tcp", [Target("tcp", "192.0.2.1", 5060)]),
        ("sip:elsewhere.example;maddr=192.0.2.9", [Target("udp", "192.0.2.9", 5060)]),
        ("sip:nobody.example", []),
    ],
)
def test_without_services(uri: str, targets: list[Target]) -> None:
    assert located(uri, HOST)[0] == targets


@pytest.mark.rfc(3263)
def test_a_domain_says_which_transports_it_likes() -> None:
    """Section 4.1: by order and preference; each way's servers by priority, with all of their addresses."""
    targets, asked = located("sip:1000@example.com", SERVED)
    assert targets == [
        Target("tls", "192.0.2.1", 5061, "example.com"),
        Target("tls", "2001:db8::1", 5061, "example.com"),
        Target("tls", "192.0.2.2", 5061, "example.com"),
        Target("tcp", "192.0.2.1", 5060),
        Target("tcp", "2001:db8::1", 5060),
        Target("udp", "192.0.2.1", 5070),
        Target("udp", "2001:db8::1", 5070),
    ]
    assert asked[0] == Query("NAPTR", "example.com")


@pytest.mark.rfc(3263)
def test_what_we_do_not_speak_is_left_out() -> None:
    assert located("sip:example.com", SERVED, ("udp",), (False,))[0] == [Target("udp", "192.0.2.1", 5070)]
    assert located("sip:192.0.2.7", SERVED, ("tcp",))[0] == []
    assert located("sip:192.0.2.7", SERVED, families=(True,))[0] == []


@pytest.mark.rfc(3263)
def test_a_sips_uri_leads_nowhere_but_to_tls() -> None:
    assert {target.transport for target in located("sips:example.com", SERVED)[0]} == {"tls"}
    assert located("sips:example.com", SERVED, ("udp", "tcp"))[0] == []


@pytest.mark.rfc(3263)
def test_a_sips_uri_asks_the_domain_too_where_tls_is_served() -> None:
    """Section 4.1: NAPTR for every URI that names no transport; its replacement may be in another domain."""
    zone: Zone = {
        ("NAPTR", "b.example"): [
            Naptr(10, 10, "s", "SIP+D2T", "_sip._tcp.b.example"),
            Naptr(20, 10, "s", "SIPS+D2T", "_sips._tcp.example.com"),
        ],
        **SERVED,
    }
    targets, asked = located("sips:b.example", zone, families=(False,))
    assert targets == [Target("tls", "192.0.2.1", 5061, "b.example"), Target("tls", "192.0.2.2", 5061, "b.example")]
    assert asked[:2] == [Query("NAPTR", "b.example"), Query("SRV", "_sips._tcp.example.com")]
    # With a transport in the URI the domain is not asked.
    assert located("sips:b.example;transport=tcp", zone)[1][0] == Query("SRV", "_sips._tcp.b.example")


@pytest.mark.rfc(3263)
def test_a_transport_in_the_uri_needs_no_naptr() -> None:
    targets, asked = located("sip:example.com;transport=udp", SERVED)
    assert [target.port for target in targets] == [5070, 5070]
    assert asked[0] == Query("SRV", "_sip._udp.example.com")


@pytest.mark.rfc(3263)
def test_without_naptr_each_service_is_asked_for() -> None:
    zone = {key: value for key, value in SERVED.items() if key[0] != "NAPTR"}
    targets, asked = located("sip:example.com", zone)
    assert [target.transport for target in targets] == ["udp", "udp", "tcp", "tcp", "tls", "tls", "tls"]
    assert [query.name for query in asked if query.kind == "SRV"] == [
        "_sip._udp.example.com",
        "_sip._tcp.example.com",
        "_sips._tcp.example.com",
    ]


@pytest.mark.rfc(3263)
def test_a_service_that_is_not_there_is_not_replaced_by_an_address() -> None:
    """RFC 2782: a target of "." is a decided no."""
    zone: Zone = {("SRV", "_sip._udp.example.com"): [Srv(0, 0, 0, ".")], **HOST}
    assert located("sip:example.com;transport=udp", zone)[0] == []


def test_a_zone_that_does_not_end() -> None:
    zone: Zone = {
        ("SRV", "_sip._udp.example.com"): [Srv(n, 0, 5060, f"h{n}.example.com") for n in range(1000)],
        **{("address", f"h{n}.example.com"): [f"192.0.2.{n % 250}", f"198.51.100.{n % 250}"] for n in range(1000)},
    }
    targets, asked = located("sip:example.com;transport=udp", zone)
    assert len(targets) == MOST_TARGETS
    assert len(asked) <= MOST_TARGETS + 1


def test_weights() -> None:
    """RFC 2782's draw: of two records with weights 3 and 1 the sums are 3 and 4, and 0 to 4 can be drawn."""
    records = [Srv(1, 3, 1, "a"), Srv(1, 1, 2, "b"), Srv(0, 0, 3, "c")]
    for drawn, names in ((0, "cab"), (3, "cab"), (4, "cba")):
        assert "".join(one.target for one in in_order(records, lambda most, drawn=drawn: min(most, drawn))) == names


@given(st.lists(st.builds(Srv, st.integers(0, 3), st.integers(0, 3), st.just(1), st.text("ab", max_size=2))), st.data())
@settings(max_examples=50)
def test_any_records_come_out_once_by_priority(records: list[Srv], data: st.DataObject) -> None:
    ordered = in_order(records, lambda most: data.draw(st.integers(0, most)))
    assert sorted(map(repr, ordered)) == sorted(map(repr, records))
    assert [one.priority for one in ordered] == sorted(one.priority for one in records)


class TestPenalties:
    A, B = Target("udp", "192.0.2.1", 5060), Target("udp", "192.0.2.2", 5060)

    def test_the_dead_come_last_and_are_tried_all_the_same(self) -> None:
        penalties = Penalties()
        penalties.failed(self.A, 100.0)
        assert penalties.order([self.A, self.B], 100.0) == [self.B, self.A]
        penalties.failed(self.B, 101.0)
        assert penalties.order([self.B, self.A], 101.0) == [self.A, self.B]
        assert penalties.order([self.A, self.B], 131.0) == [self.A, self.B]

    def test_each_time_for_longer(self) -> None:
        penalties = Penalties(30.0, 100.0)
        now = 0.0
        for length in (30.0, 60.0, 100.0, 100.0):
            penalties.failed(self.A, now)
            # Calls that were under way at the time tell nothing new.
            penalties.failed(self.A, now + 1.0)
            assert penalties.is_dead(self.A, now + length - 0.1)
            now += length
            assert not penalties.is_dead(self.A, now)
        penalties.answered(self.A)
        penalties.failed(self.A, now)
        assert not penalties.is_dead(self.A, now + 30.0)

    def test_not_more_than_so_many(self) -> None:
        penalties = Penalties(size=10)
        for number in range(100):
            penalties.failed(Target("udp", f"192.0.2.{number}", 5060), 0.0)
        assert len(penalties._until) == 10
