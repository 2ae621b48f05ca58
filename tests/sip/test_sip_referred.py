"""REFER to us (RFC 3515, RFC 3892, RFC 4488): who may, what we say of it, and how it ends."""

from __future__ import annotations

import pytest

from agentstream.errors import LocalProtocolError
from agentstream.sip.events import ReferReceived, RequestRefused, SessionEnded
from agentstream.sip.permissions import Permissions
from agentstream.sip.referred import LEAVES_S
from agentstream.sip.replaces import Replaces
from agentstream.sip.stack import Session
from agentstream.sip.uri import parse_uri
from agentstream.testing.sip_peer import Received, SipPeer, read
from tests.sip.kit import SDP, Bench
from tests.sip.test_sip_reinvite import EITHER, Begin, answered_by_us
from tests.sip.test_sip_uas import ring

pytestmark = pytest.mark.rfc(3515)

MAY = Permissions(refer=True)
TO = "Refer-To: <sip:2000@pbx.example>\r\n"


def up(begin: Begin = answered_by_us) -> tuple[Bench, SipPeer, Session]:
    bench, peer = Bench(), SipPeer()
    session = begin(bench, peer)
    session.permissions = MAY
    return bench, peer, session


def refer(bench: Bench, peer: SipPeer, headers: str = TO) -> list[Received]:
    return [read(data) for data in bench.receive(peer.request("REFER", headers=headers))]


def answered(bench: Bench, peer: SipPeer, notify: Received, status: int = 200) -> list[Received]:
    """The peer's answer to a NOTIFY, and what that makes us send."""
    lines = [notify.first, *(f"{name}: {value}" for name, value in notify.fields)]
    data = ("\r\n".join(lines) + "\r\n\r\n").encode()
    return [read(data) for data in bench.receive(peer.respond(data, status))]


def fragment(notify: Received) -> tuple[str, str]:
    assert notify.method == "NOTIFY" and notify.header("content-type").startswith("message/sipfrag")
    return notify.body.decode().strip(), notify.header("subscription-state").partition(";")[0]


@EITHER
@pytest.mark.rfc(3892)
@pytest.mark.rfc(5589)
def test_a_transfer_that_gets_through(begin: Begin) -> None:
    bench, peer, session = up(begin)
    accepted, trying = refer(bench, peer, TO + "Referred-By: <sip:alice@pbx.example>\r\n")
    assert accepted.status == 202 and accepted.header("contact") == "<sip:127.0.0.1:5060>"
    assert fragment(trying) == ("SIP/2.0 100 Trying", "active") and trying.header("event") == "refer"
    target = parse_uri("sip:2000@pbx.example")
    assert bench.event(ReferReceived) == ReferReceived(session, target, None, "<sip:alice@pbx.example>")
    assert answered(bench, peer, trying) == []
    bench.stack.tell_referrer(session, 180, "", bench.now)
    (ringing,) = bench.read()
    assert fragment(ringing) == ("SIP/2.0 180 Ringing", "active")
    answered(bench, peer, ringing)
    bench.stack.tell_referrer(session, 200, "", bench.now)
    (done,) = bench.read()
    assert fragment(done) == ("SIP/2.0 200 OK", "terminated")
    answered(bench, peer, done)
    assert read(bench.receive(peer.bye())[0]).status == 200
    assert bench.event(SessionEnded).by == "remote"
    bench.settle()


def test_we_hang_up_where_they_do_not() -> None:
    bench, peer, session = up()
    refer(bench, peer)
    bench.events()
    bench.stack.tell_referrer(session, 200, "", bench.now)
    sent = [line for at, line in bench.advance(LEAVES_S + 0.1) if at >= LEAVES_S]
    assert sent == ["BYE"] and bench.event(SessionEnded).by == "local"
    bench.settle()


def test_one_that_fails_leaves_the_call_as_it_was_and_another_may_follow() -> None:
    bench, peer, session = up()
    _, trying = refer(bench, peer)
    bench.events()
    answered(bench, peer, trying)
    bench.stack.tell_referrer(session, 486, "", bench.now)
    (busy,) = bench.read()
    assert fragment(busy) == ("SIP/2.0 486 Busy Here", "terminated")
    answered(bench, peer, busy)
    bench.advance(10)
    assert session.state == "confirmed" and bench.events() == []
    accepted, trying = refer(bench, peer)
    assert accepted.status == 202 and trying.header("event") == f"refer;id={accepted.header('cseq').split()[0]}"


def test_the_last_word_does_not_overtake_the_first() -> None:
    bench, peer, session = up()
    _, trying = refer(bench, peer)
    for status in (180, 183, 180, 200):
        bench.stack.tell_referrer(session, status, "", bench.now)
    assert bench.sent() == [], "the first NOTIFY has no answer yet"
    (done,) = answered(bench, peer, trying)
    assert fragment(done) == ("SIP/2.0 200 OK", "terminated")
    assert int(done.header("cseq").split()[0]) == int(trying.header("cseq").split()[0]) + 1


@pytest.mark.parametrize("status", [405, 481])
def test_a_peer_that_takes_no_notify(status: int) -> None:
    bench, peer, session = up()
    _, trying = refer(bench, peer)
    bench.events()
    answered(bench, peer, trying, status)
    assert session.state == "confirmed" and bench.events() == []
    bench.stack.tell_referrer(session, 200, "", bench.now)
    bench.advance(LEAVES_S)
    assert bench.event(SessionEnded).by == "local"
    bench.settle()


@pytest.mark.rfc(4488)
def test_nobody_wants_to_be_told() -> None:
    bench, peer, session = up()
    (accepted,) = refer(bench, peer, TO + "Require: norefersub\r\nRefer-Sub: false\r\n")
    assert accepted.status == 202 and accepted.header("refer-sub") == "false"
    bench.event(ReferReceived)
    bench.stack.tell_referrer(session, 200, "", bench.now)
    assert bench.sent() == []
    bench.advance(LEAVES_S)
    assert bench.event(SessionEnded).reason == "the call was transferred"


@pytest.mark.rfc(3891)
def test_an_attended_transfer_names_the_call_that_is_replaced() -> None:
    bench, peer, session = up()
    uri = "sip:2000@pbx.example;method=INVITE;user=phone?Replaces=a%40b%3Bto-tag%3D7%3Bfrom-tag%3D8&Subject=x"
    refer(bench, peer, f"Refer-To: <{uri}>\r\n")
    event = bench.event(ReferReceived)
    assert str(event.target) == "sip:2000@pbx.example;user=phone" and event.session is session
    assert event.replaces == Replaces("a@b", "7", "8")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ("", 400),
        (TO + TO, 400),
        ("Refer-To: <mailto:a@b>\r\n", 416),
        ("Refer-To: <sip:a@b;method=BYE>\r\n", 603),
        ("Refer-To: <sip:a@b?Replaces=nonsense>\r\n", 400),
        ("Refer-To: <sip:>\r\n", 400),
        (TO + "Require: multiple-refer\r\n", 420),
    ],
)
def test_what_cannot_be_followed(headers: str, status: int) -> None:
    bench, peer, session = up()
    (refusal,) = refer(bench, peer, headers)
    assert refusal.status == status and session.state == "confirmed"
    assert bench.event(RequestRefused).status == status


def test_one_at_a_time() -> None:
    bench, peer, session = up()
    refer(bench, peer)
    bench.events()
    (refusal,) = refer(bench, peer)
    assert refusal.status == 491
    bench.events()
    bench.stack.tell_referrer(session, 486, "", bench.now)
    with pytest.raises(LocalProtocolError):
        bench.stack.tell_referrer(session, 200, "", bench.now)


def test_none_before_the_answer() -> None:
    bench, peer = Bench(), SipPeer()
    session = ring(bench, peer)
    session.permissions = MAY
    bench.stack.progress(session, bench.now)
    peer.take(bench.sent()[0])
    (refusal,) = refer(bench, peer)
    assert refusal.status == 403


@pytest.mark.parametrize("by", ["them", "us"])
def test_the_session_ends_meanwhile(by: str) -> None:
    """A phone may hang up as soon as it has the 202: its subscription is not served behind that."""
    bench, peer, session = up()
    _, trying = refer(bench, peer)
    bench.events()
    if by == "them":
        bench.receive(peer.bye())
    else:
        bench.stack.hang_up(session, bench.now)
    bench.event(SessionEnded)
    assert not session.subscription.is_under_way
    bench.sent()
    answered(bench, peer, trying)
    bench.settle()


def test_allow_and_supported_say_who_may() -> None:
    for permissions, is_said in ((MAY, True), (Permissions(), False)):
        bench, peer = Bench(), SipPeer()
        session = ring(bench, peer)
        session.permissions = permissions
        bench.stack.answer(session, b"", bench.now)
        (ok,) = bench.read()
        assert ("REFER" in ok.header("allow")) is is_said
        assert ("norefersub" in ok.header("supported")) is is_said


def test_a_refused_one_counts_for_the_name_of_the_next() -> None:
    """RFC 3515 section 2.4.6 says of those that were received, and not of those that were accepted."""
    bench, peer, _ = up()
    (refusal,) = refer(bench, peer, "Refer-To: <mailto:a@b>\r\n")
    assert refusal.status == 416
    accepted, trying = refer(bench, peer)
    assert trying.header("event") == f"refer;id={accepted.header('cseq').split()[0]}"


@pytest.mark.rfc(4488)
def test_refer_sub_may_have_parameters() -> None:
    bench, peer, _ = up()
    (accepted,) = refer(bench, peer, TO + "Refer-Sub: False ;why=not\r\n")
    assert accepted.status == 202 and accepted.header("refer-sub") == "false"


def test_who_has_forgotten_the_subscription_is_told_no_more() -> None:
    """RFC 6665 section 4.2.2; the call that it asked for goes on."""
    bench, peer, session = up()
    _, trying = refer(bench, peer)
    bench.stack.tell_referrer(session, 180, "", bench.now)
    assert answered(bench, peer, trying, 481) == []
    bench.stack.tell_referrer(session, 486, "", bench.now)
    assert bench.sent() == [] and session.is_up


@pytest.mark.parametrize("method", ["INVITE", "UPDATE"])
def test_every_offer_of_ours_says_what_the_peer_may(method: str) -> None:
    bench, peer, session = up()
    bench.receive(peer.request("INFO", headers="Allow: UPDATE\r\n"))
    (bench.stack.reinvite if method == "INVITE" else bench.stack.update)(session, lambda: SDP, bench.now)
    (offer,) = bench.read()
    assert offer.method == method
    assert "REFER" in offer.header("allow") and "norefersub" in offer.header("supported")
