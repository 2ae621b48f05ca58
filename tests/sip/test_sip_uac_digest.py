"""Our INVITE that is asked for credentials (RFC 3261 section 22.2 and 22.3)."""

from __future__ import annotations

import itertools

import pytest

from agentstream.sip.digest import Credentials, DigestClient, DigestServer, parse_answer
from agentstream.sip.events import InviteAnswered, InviteRefused
from agentstream.sip.hop import Hop
from agentstream.sip.uri import parse_uri
from agentstream.testing.sip_peer import OFFER, SipPeer, read
from tests.sip.kit import SDP, Bench

TARGET = Hop("udp", "127.0.0.1", 5090, "u")
_numbers = itertools.count()


def token() -> str:
    return f"d{next(_numbers)}"


SERVER = DigestServer("carrier", token)
ANSWERS = {401: ("WWW-Authenticate", "authorization"), 407: ("Proxy-Authenticate", "proxy-authorization")}


def challenge(status: int, realm: DigestServer = SERVER) -> str:
    return "".join(f"{ANSWERS[status][0]}: {value}\r\n" for value in realm.challenges(1000.0))


def calling(credentials: Credentials | None = Credentials("us", "right")) -> tuple[Bench, SipPeer, bytes]:  # noqa: B008
    bench, peer = Bench(), SipPeer()
    uri = parse_uri("sip:bob@127.0.0.1:5090")
    client = None if credentials is None else DigestClient(credentials, lambda: "cnonce")
    bench.stack.invite(uri, from_uri=uri, to_uri=uri, sdp=SDP, hop=TARGET, now=bench.now, credentials=client)
    (invite,) = bench.sent()
    return bench, peer, invite


@pytest.mark.rfc(3261)
@pytest.mark.parametrize("status", [401, 407])
def test_it_is_sent_again_with_credentials_which_the_ack_carries_too(status):
    bench, peer, invite = calling()
    ack, again = bench.receive(peer.respond(invite, status, "Who", headers=challenge(status)))
    assert read(ack).method == "ACK"
    first, second = read(invite), read(again)
    assert (first.header("cseq"), second.header("cseq")) == ("1 INVITE", "2 INVITE")
    for name in ("call-id", "from", "to"):
        assert first.header(name) == second.header(name)
    assert first.header("via") != second.header("via")
    answer = parse_answer(second.header(ANSWERS[status][1]))
    assert answer.algorithm == "SHA-256"
    assert SERVER.verify(answer, "right", "INVITE", 1000.0) == "good"
    (acknowledged,) = bench.receive(peer.respond(again, 200, sdp=OFFER))
    bench.event(InviteAnswered)
    assert read(acknowledged).header(ANSWERS[status][1]) == second.header(ANSWERS[status][1])
    assert bench.advance(40) == []


@pytest.mark.rfc(3261)
def test_a_proxy_and_the_callee_may_both_ask():
    bench, peer, invite = calling()
    other = DigestServer("pbx", token)
    again = bench.receive(peer.respond(invite, 407, "Who", headers=challenge(407)))[-1]
    both = read(bench.receive(peer.respond(again, 401, "Who", headers=challenge(401, other)))[-1])
    assert (
        parse_answer(both.header("authorization")).realm,
        parse_answer(both.header("proxy-authorization")).realm,
    ) == (
        "pbx",
        "carrier",
    )
    # Each request is a count of its own to the one that asked first.
    assert parse_answer(both.header("proxy-authorization")).count == "00000002"
    assert both.header("cseq") == "3 INVITE"


@pytest.mark.rfc(3261)
def test_a_password_that_is_wrong_is_tried_once():
    bench, peer, invite = calling()
    again = bench.receive(peer.respond(invite, 401, "Who", headers=challenge(401)))[-1]
    (ack,) = bench.receive(peer.respond(again, 401, "Who", headers=challenge(401)))
    assert read(ack).method == "ACK"
    assert bench.event(InviteRefused).status == 401
    bench.settle()


@pytest.mark.rfc(3261)
def test_without_credentials_it_is_a_refusal():
    bench, peer, invite = calling(None)
    bench.receive(peer.respond(invite, 407, "Who", headers=challenge(407)))
    assert bench.event(InviteRefused).status == 407


@pytest.mark.rfc(7616)
def test_auth_int_alone_is_a_refusal():
    bench, peer, invite = calling()
    asks = 'WWW-Authenticate: Digest realm="r", nonce="n", qop="auth-int"\r\n'
    bench.receive(peer.respond(invite, 401, "Who", headers=asks))
    assert bench.event(InviteRefused).status == 401
