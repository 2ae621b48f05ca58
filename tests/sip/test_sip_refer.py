"""Transfers that we ask for (RFC 3515, RFC 3892); others ask us for none unless the owner of the stack says so."""

from __future__ import annotations

import pytest

from agentstream.errors import LocalProtocolError
from agentstream.sip.events import InviteReceived, ReferEnded, ReferProgressed, RequestRefused, SessionEnded
from agentstream.sip.refer import read_sipfrag
from agentstream.sip.stack import Session
from agentstream.sip.uri import parse_uri
from agentstream.testing.sip_peer import SipPeer, read
from tests.sip.kit import SDP, Bench
from tests.sip.test_sip_reinvite import EITHER, Begin, answered_by_us

pytestmark = pytest.mark.rfc(3515)


def referred(bench: Bench, session: Session, within_s: float = 30.0) -> bytes:
    bench.stack.refer(session, parse_uri("sip:2000@pbx.example"), "<sip:1000@127.0.0.1>", within_s, bench.now)
    (data,) = bench.sent()
    return data


def notify(peer: SipPeer, fragment: str, state: str = "active;expires=60", event: str = "refer") -> bytes:
    headers = f"Event: {event}\r\nSubscription-State: {state}\r\n"
    body = f"SIP/2.0 {fragment}\r\n".encode() if fragment else b""
    return peer.request("NOTIFY", headers=headers, body=body, content_type="message/sipfrag;version=2.0")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"SIP/2.0 100 Trying\r\n", (100, "Trying")),
        (b"SIP/2.0 200", (200, "")),
        (b"\r\nSIP/2.0 486 Busy Here\r\nTo: <sip:a@b>\r\n", (486, "Busy Here")),
        (b"INVITE sip:a@b SIP/2.0", None),
        (b"SIP/2.0 700 x", None),
        (b"", None),
    ],
)
def test_the_status_of_a_sipfrag(body: bytes, expected: tuple[int, str] | None) -> None:
    assert read_sipfrag(body) == expected


@EITHER
@pytest.mark.rfc(3892)
def test_a_transfer_that_is_followed(begin: Begin) -> None:
    bench, peer = Bench(), SipPeer()
    session = begin(bench, peer)
    data = referred(bench, session)
    refer = read(data)
    assert refer.method == "REFER"
    assert refer.header("refer-to") == "<sip:2000@pbx.example>"
    assert refer.header("referred-by") == "<sip:1000@127.0.0.1>"
    assert refer.header("contact") == "<sip:127.0.0.1:5060>"
    assert bench.receive(peer.respond(data, 202, "Accepted")) == []
    number = refer.header("cseq").split()[0]
    for fragment, status in (("100 Trying", 100), ("180 Ringing", 180)):
        assert read(bench.receive(notify(peer, fragment, event=f"refer;id={number}"))[0]).status == 200
        assert bench.event(ReferProgressed) == ReferProgressed(session, status)
    bench.receive(notify(peer, "200 OK", "terminated;reason=noresource"))
    assert bench.event(ReferEnded) == ReferEnded(session, 200, "200 OK")
    assert read(bench.receive(notify(peer, "200 OK"))[0]).status == 481, "it is over"
    bench.stack.hang_up(session, bench.now)
    bench.events()
    bench.settle()


def test_a_notify_that_overtakes_the_202() -> None:
    bench, peer = Bench(), SipPeer()
    session = answered_by_us(bench, peer)
    data = referred(bench, session)
    bench.receive(notify(peer, "200 OK", "terminated"))
    assert bench.event(ReferEnded).status == 200
    bench.receive(peer.respond(data, 202, "Accepted"))
    assert bench.events() == []


@pytest.mark.parametrize("status", [405, 603])
def test_a_peer_that_is_not_transferred(status: int) -> None:
    bench, peer = Bench(), SipPeer()
    session = answered_by_us(bench, peer)
    bench.receive(peer.respond(referred(bench, session), status, "No"))
    assert bench.event(ReferEnded) == ReferEnded(session, status, f"{status} No")
    assert session.state == "confirmed"
    referred(bench, session)


def test_a_target_that_does_not_answer() -> None:
    bench, peer = Bench(), SipPeer()
    session = answered_by_us(bench, peer)
    bench.receive(peer.respond(referred(bench, session), 202, "Accepted"))
    bench.receive(notify(peer, "486 Busy Here", "terminated;reason=noresource"))
    assert bench.event(ReferEnded) == ReferEnded(session, 486, "486 Busy Here")


def test_a_subscription_that_ends_without_a_word() -> None:
    bench, peer = Bench(), SipPeer()
    session = answered_by_us(bench, peer)
    bench.receive(peer.respond(referred(bench, session), 202, "Accepted"))
    bench.receive(notify(peer, "", "terminated;reason=timeout"))
    assert bench.event(ReferEnded).status == 0


def test_nobody_says_what_became_of_it() -> None:
    bench, peer = Bench(), SipPeer()
    session = answered_by_us(bench, peer)
    bench.receive(peer.respond(referred(bench, session, within_s=20), 202, "Accepted"))
    bench.advance(19.9)
    assert bench.events() == []
    bench.advance(0.2)
    assert bench.event(ReferEnded).status == 408


def test_no_answer_to_it() -> None:
    bench, peer = Bench(), SipPeer()
    session = answered_by_us(bench, peer)
    referred(bench, session, within_s=60)
    bench.advance(33)
    assert bench.event(ReferEnded).status == 408
    assert session.state == "confirmed"


def test_one_at_a_time_and_none_when_it_is_over() -> None:
    bench, peer = Bench(), SipPeer()
    session = answered_by_us(bench, peer)
    data = referred(bench, session)
    with pytest.raises(LocalProtocolError):
        referred(bench, session)
    bench.receive(peer.bye())
    bench.event(SessionEnded)
    with pytest.raises(LocalProtocolError):
        referred(bench, session)
    bench.receive(peer.respond(data, 202, "Accepted"))
    assert bench.events() == []
    bench.settle()


def test_a_notify_of_something_else() -> None:
    bench, peer = Bench(), SipPeer()
    session = answered_by_us(bench, peer)
    referred(bench, session)
    for event, status in (("presence", 489), ("refer;id=7777", 481), ("refer;x=1;id=7777", 481), ("", 489)):
        assert read(bench.receive(notify(peer, "200 OK", event=event))[0]).status == status
        assert bench.event(RequestRefused).status == status


def test_the_id_of_a_notify_may_stand_behind_other_parameters() -> None:
    bench, peer = Bench(), SipPeer()
    session = answered_by_us(bench, peer)
    refer = read(referred(bench, session))
    event = f"refer;x=1;id={refer.header('cseq').split()[0]}"
    assert read(bench.receive(notify(peer, "200 OK", event=event))[0]).status == 200
    assert bench.event(ReferEnded).status == 200


@EITHER
def test_we_are_not_transferred(begin: Begin) -> None:
    """Whom we call is not for whoever calls us to say, unless the owner of the stack says so (test_sip_referred.py)."""
    bench, peer = Bench(), SipPeer()
    session = begin(bench, peer)
    refusal = read(bench.receive(peer.request("REFER", headers="Refer-To: <sip:+9999@expensive.example>\r\n"))[0])
    assert refusal.status == 603 and "not transferred" in refusal.header("warning")
    assert session.state == "confirmed"
    bench.event(RequestRefused)


def test_nor_outside_a_call() -> None:
    (data,) = Bench().receive(SipPeer().request("REFER", headers="Refer-To: <sip:+9999@expensive.example>\r\n"))
    assert read(data).status == 603


@pytest.mark.rfc(3891)
def test_an_ordinary_call_replaces_none() -> None:
    bench = Bench()
    bench.receive(SipPeer().invite(SDP))
    assert bench.event(InviteReceived).replaces is None
