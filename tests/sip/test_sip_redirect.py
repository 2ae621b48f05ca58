"""3xx to our INVITEs (RFC 3261 section 8.1.3.4): where it leads, and when it is not followed."""

from __future__ import annotations

import pytest

from agentstream.errors import RemoteProtocolError
from agentstream.sip.events import InviteRefused
from agentstream.sip.redirect import MOST_CONTACTS, MOST_HOPS, Redirections
from agentstream.sip.uri import Uri, parse_uri
from agentstream.testing.sip_peer import SipPeer
from tests.sip.kit import Bench
from tests.sip.test_sip_uac import call

pytestmark = pytest.mark.rfc(3261)


def told(status: int, *contacts: str) -> list[str]:
    bench, peer = Bench(), SipPeer()
    _session, invite = call(bench)
    response = peer.respond(invite, status, "Moved").replace(f"Contact: {peer.contact()}\r\n".encode(), b"")
    more = "".join(f"Contact: {contact}\r\n" for contact in contacts).encode()
    bench.receive(response.replace(b"Content-Length", more + b"Content-Length"))
    refused = bench.event(InviteRefused)
    assert refused.status == status
    bench.settle()
    return [str(uri) for uri in refused.contacts]


@pytest.mark.parametrize("status", [300, 301, 302])
def test_the_dearest_comes_first(status: int) -> None:
    contacts = told(status, "<sip:a@x>;q=0.2, <sip:b@x>;q=0.9", "<tel:+49301>;q=0.5", "<sip:c@x>")
    assert contacts == ["sip:c@x", "sip:b@x", "tel:+49301", "sip:a@x"]


@pytest.mark.parametrize("status", [305, 380, 486])
def test_what_names_nobody_else_to_call(status: int) -> None:
    assert told(status, "<sip:a@x>") == []


def test_what_is_left_out() -> None:
    contacts = ["<mailto:a@x>", "<sip:>", "*", "<sip:a@x?Replaces=b>;q=nonsense", "<sip:b@x>;q=7", "<sip:c@x>;q=0.1"]
    assert told(302, *contacts) == ["sip:c@x", "sip:a@x", "sip:b@x"]
    assert told(302) == []
    assert len(told(302, ", ".join(f"<sip:{n}@x>" for n in range(50)))) == MOST_CONTACTS


def uris(*texts: str) -> tuple[Uri, ...]:
    return tuple(parse_uri(text) for text in texts)


def test_five_in_a_row_and_no_more() -> None:
    """Toll fraud: a chain of redirections ends."""
    redirections = Redirections.of(parse_uri("sip:0@x"))
    for number in range(1, MOST_HOPS + 1):
        assert redirections.follow(uris(f"sip:{number}@x")).user == str(number)
    with pytest.raises(RemoteProtocolError, match="more than 5 times"):
        redirections.follow(uris("sip:9@x"))


@pytest.mark.parametrize("back", ["sip:0@X", "sip:0@x;transport=tcp", "sip:%30@x", "sip:1@x"])
def test_a_loop_is_seen(back: str) -> None:
    redirections = Redirections.of(parse_uri("sip:0@x"))
    redirections.follow(uris("sip:1@x"))
    with pytest.raises(RemoteProtocolError, match="leads back"):
        redirections.follow(uris(back))


def test_nobody_named() -> None:
    with pytest.raises(RemoteProtocolError, match="nobody"):
        Redirections.of(parse_uri("sip:0@x")).follow(())


def test_the_others_in_turn() -> None:
    redirections = Redirections.of(parse_uri("sip:0@x"))
    assert redirections.follow(uris("sip:1@x", "sip:0@x", "sip:2@x", "sip:1@x")).user == "1"
    assert redirections.follow(uris("sip:3@x")).user == "3"
    rest = [redirections.another(), redirections.another()]
    assert [None if uri is None else uri.user for uri in rest] == ["2", None]
