"""Where a target leads: phones, numbers of trunks, URIs, and what others may name."""

from __future__ import annotations

import pytest

from agentstream.config.access import Trunk
from agentstream.config.model import Config
from agentstream.config.phones import Phone
from agentstream.flow.outgoing_ways import MOST_WAYS, NoWay, Way, caller_uri, find_ways
from agentstream.sip.hop import Hop
from agentstream.sip.registrar import Binding

FLOW = Hop("tcp", "192.0.2.9", 41000, "tcp0")
CONFIG = Config(
    trunk=(
        Trunk(name="mobile", server="sip:203.0.113.5:5070;transport=tcp", numbers=("+491[567]*",)),
        Trunk(name="deaf", numbers=("*",)),
        Trunk(
            name="rest",
            server="sip:sbc.example.com",
            numbers=("+*", "0*", "[*]21#"),
            address_of_record="sip:4930@carrier.example",
        ),
    ),
    phone=(Phone(user="alice", password="x"), Phone(user="0815", password="x")),
)


def binding(number: int = 0) -> Binding:
    return Binding("alice", f"sip:alice@10.0.0.7:{5060 + number}", "id", 1, 99.0, ("<sip:edge;lr>",), FLOW)


def ways(target: str, bindings: int = 1, *, is_trusted: bool = True) -> list[Way]:
    def find(user: str) -> list[Binding]:
        return [binding(number) for number in range(bindings)] if user == "alice" else []

    return find_ways(CONFIG, find, target, is_trusted=is_trusted)


@pytest.mark.parametrize(
    ("target", "trunk", "uri"),
    [
        ("+4915123", "mobile", "sip:+4915123@203.0.113.5:5070"),
        ("+49 (30) 12-34", "rest", "sip:+49301234@sbc.example.com"),
        ("tel:+4930;phone-context=x", "rest", "sip:+4930@sbc.example.com"),
        ("*21#", "rest", "sip:*21%23@sbc.example.com"),
    ],
)
def test_a_number(target: str, trunk: str, uri: str) -> None:
    (way,) = ways(target)
    assert (way.trunk.name, str(way.uri), str(way.to_uri)) == (trunk, uri, uri)
    assert str(way.via) == way.trunk.server
    assert way.hop is None


def test_a_phone_at_every_contact_and_at_no_more_than_ten() -> None:
    (way,) = ways("alice")
    assert (str(way.uri), way.hop, way.routes) == ("sip:alice@10.0.0.7:5060", FLOW, ("<sip:edge;lr>",))
    assert len(ways("alice", 30)) == MOST_WAYS


@pytest.mark.parametrize(
    ("target", "status", "sentence"),
    [
        ("alice", 480, "the phone alice is not registered"),
        ("0815", 480, "the phone 0815 is not registered"),
        ("bob", 404, "bob is no phone, and no trunk has it among its numbers"),
        ("sip:", 416, "sip:: a URI has no valid scheme"),
        ("()", 404, "() is no phone, and no trunk has it among its numbers"),
    ],
)
def test_nowhere(target: str, status: int, sentence: str) -> None:
    with pytest.raises(NoWay) as caught:
        ways(target, 0)
    assert (caught.value.status, caught.value.sentence) == (status, sentence)


def test_a_uri_leads_where_it_says_to_whom_it_is_believed() -> None:
    (way,) = ways("sip:dave@192.0.2.1:5080;transport=tcp?X-A=b")
    assert str(way.uri) == "sip:dave@192.0.2.1:5080;transport=tcp"
    assert (way.via, way.hop) == (None, None)


def test_what_others_name_is_a_phone_or_a_number_of_a_trunk() -> None:
    (way,) = ways("sip:+4930@evil.example;transport=tcp", is_trusted=False)
    assert str(way.uri) == "sip:+4930@sbc.example.com"
    assert ways("sip:alice@evil.example", is_trusted=False)[0].hop == FLOW
    with pytest.raises(NoWay):
        ways("sip:dave@evil.example", is_trusted=False)


@pytest.mark.parametrize("user", ["+4930;tgrp=premium", "+4930;ext=1", "+4930%3Btgrp=premium", "+4930,1", "+4930&x=y"])
def test_what_others_name_holds_no_parameters(user: str) -> None:
    """RFC 4904: a carrier may send a call by what stands behind the number."""
    with pytest.raises(NoWay, match="was named by somebody else, and holds more than a number"):
        ways(f"sip:{user}@evil.example", is_trusted=False)
    assert str(ways("+4930;tgrp=ours")[0].uri) == "sip:+4930;tgrp=ours@sbc.example.com", "a flow's own target may"


@pytest.mark.parametrize(
    ("target", "caller", "uri"),
    [
        ("+4930", "+4999", "sip:+4999@carrier.example"),
        ("+4915", "+4999", "sip:+4999@203.0.113.5"),
        ("alice", "carol", "sip:carol@10.1.1.1"),
        ("alice", "sip:desk@example.com;x=y", "sip:desk@example.com"),
        ("alice", "a b@c", "sip:a%20b%40c@10.1.1.1"),
        ("alice", "", "sip:anonymous@anonymous.invalid"),
    ],
)
def test_who_we_say_we_are(target: str, caller: str, uri: str) -> None:
    assert str(caller_uri(ways(target)[0], caller, "10.1.1.1")) == uri
