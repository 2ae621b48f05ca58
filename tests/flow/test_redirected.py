"""Where a redirected call goes on: outbound routing, five hops, no loop."""

from __future__ import annotations

import pytest

from agentstream.config.access import Trunk
from agentstream.config.model import Config
from agentstream.flow.outgoing_ways import Way, find_ways
from agentstream.flow.redirected import Redirected
from agentstream.sip.uri import parse_uri

pytestmark = pytest.mark.rfc(3261)

OBEYED = Trunk(name="carrier", server="sip:carrier.example", numbers=("+49*", "0*"), obeys=("3xx",))
CONFIG = Config(trunk=(OBEYED, Trunk(name="other", server="sip:other.example", numbers=("7*",))))


def way_to(number: str) -> Way:
    return find_ways(CONFIG, lambda user: (), number)[0]


def follow(redirected: Redirected, way: Way, *contacts: str) -> tuple[Way | None, str]:
    return redirected.follow(way, [parse_uri(contact) for contact in contacts], CONFIG, lambda user: ())


def test_the_number_counts_and_not_the_host() -> None:
    way = way_to("+491")
    found, sentence = follow(Redirected.of(way), way, "sip:+492@expensive.example:5099;transport=tls")
    assert found is not None and str(found.uri) == "sip:+492@carrier.example" and sentence == ""


def test_what_no_trunk_has_is_not_called() -> None:
    way = way_to("+491")
    found, sentence = follow(Redirected.of(way), way, "sip:+1900@carrier.example")
    assert found is None and "no trunk has it" in sentence


def test_a_number_of_another_trunk_which_obeys_nothing() -> None:
    way = way_to("+491")
    redirected = Redirected.of(way)
    other, _ = follow(redirected, way, "tel:71")
    assert other is not None and other.trunk.name == "other"
    assert follow(redirected, other, "sip:+493@x") == (None, "its redirections are not followed")


def test_five_hops() -> None:
    way = way_to("00")
    redirected = Redirected.of(way)
    for number in range(1, 6):
        found, _ = follow(redirected, way, f"sip:0{number}@x")
        assert found is not None and found.uri.user == f"0{number}"
    found, sentence = follow(redirected, way, "sip:09@x")
    assert found is None and "more than 5 times" in sentence


@pytest.mark.parametrize("back", ["sip:+491@carrier.example", "sip:+491@elsewhere.example", "tel:+49-1"])
def test_a_loop(back: str) -> None:
    way = way_to("+491")
    redirected = Redirected.of(way)
    assert follow(redirected, way, "sip:+492@x")[0] is not None
    assert follow(redirected, way, back) == (None, "the redirection leads back to where the call has been")


def test_the_others_where_the_first_does_not_answer() -> None:
    way = way_to("+491")
    redirected = Redirected.of(way)
    first, _ = follow(redirected, way, "sip:+492@x", "sip:+1900@x", "sip:+493@x")
    assert first is not None and first.uri.user == "+492"
    second, _ = follow(redirected, first)
    assert second is not None and second.uri.user == "+493"
    assert follow(redirected, second) == (None, "")
