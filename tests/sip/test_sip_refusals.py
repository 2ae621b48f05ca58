"""What is refused, with which status and which words (RFC 3261 section 8.2)."""

from __future__ import annotations

import pytest

from agentstream.sip.capabilities import ALLOW
from agentstream.sip.events import InviteReceived, RequestRefused
from agentstream.sip.stack import Hop
from agentstream.testing.sip_peer import SipPeer, read, tag_of
from tests.sip.kit import Bench

pytestmark = pytest.mark.rfc(3261)

STRANGER = Hop("udp", "203.0.113.5", 5060, "u")


def only_loopback(host: str) -> bool:
    return host.startswith("127.")


@pytest.mark.parametrize(
    ("change", "status", "header"),
    [
        ((b"INVITE sip:1000@127.0.0.1:5060", b"INVITE urn:service:sos"), 416, "warning"),
        ((b"Max-Forwards", b"Require: 100rel, foo\r\nMax-Forwards"), 420, "unsupported"),
        ((b"application/sdp", b"text/plain"), 415, "accept"),
        ((b"Content-Type", b"Content-Encoding: gzip\r\nContent-Type"), 415, "accept-encoding"),
        ((b"Max-Forwards", b"Accept: text/plain\r\nMax-Forwards"), 406, "warning"),
        ((b"SIP/2.0\r\n", b"SIP/3.0\r\n"), 505, "warning"),
        ((b"Max-Forwards: 70", b"Max-Forwards: x"), 400, "warning"),
        ((b"Max-Forwards: 70", b"Max-Forwards: 256"), 400, "warning"),
        ((b"Max-Forwards: 70", b"Max-Forwards: \xc2\xb2"), 400, "warning"),
        ((b"CSeq: 1 INVITE", b"CSeq: " + b"9" * 5000 + b" INVITE"), 400, "warning"),
        ((b"CSeq: 1 INVITE", b"CSeq: 1 BYE"), 400, "warning"),
        ((b"Contact: <sip:alice", b"Contact: <tel:alice"), 400, "warning"),
        ((b";tag=peer", b";tag=pe er"), 400, "warning"),
        ((b"127.0.0.1:5060 SIP", b"127.0.0.1:99999 SIP"), 400, "warning"),
        ((b"Max-Forwards: 70", b"Max-Forwards: 70\r\nno colon here"), 400, "warning"),
        ((b"Max-Forwards: 70", b"X: a\nVia: evil"), 400, "warning"),
        ((b"\r\nCall-ID: call", b"\r\nCall-ID: c all"), 400, "warning"),
        ((b"Max-Forwards: 70", b"X: " + b"x" * 40_000), 513, "warning"),
        ((b"Max-Forwards: 70\r\n", b"X: 1\r\n" * 600), 513, "warning"),
        ((b"Record-Route", b"Record-Route"), 0, ""),
        ((b"Max-Forwards", b"Record-Route: <sip:a b>\r\nMax-Forwards"), 400, "warning"),
        ((b"Max-Forwards", b'Require: "100rel\r\nMax-Forwards'), 400, "warning"),
        ((b"Max-Forwards", b"Accept: <application/sdp\r\nMax-Forwards"), 400, "warning"),
        ((b"Content-Type", b'Content-Encoding: "gzip\r\nContent-Type'), 400, "warning"),
    ],
)
def test_an_invite_that_is_refused(change: tuple[bytes, bytes], status: int, header: str) -> None:
    bench = Bench()
    data = SipPeer().invite().replace(*change, 1)
    (answer,) = bench.receive(data)
    assert read(answer).status == (status or 100)
    if status:
        assert read(answer).header(header)
        assert tag_of(read(answer).header("to"))
        refused = bench.event(RequestRefused)
        assert refused.status == status
        assert refused.sentence
    else:
        bench.event(InviteReceived)
    bench.settle()


def test_a_body_that_is_too_long() -> None:
    bench = Bench()
    assert read(bench.receive(SipPeer().invite(b"v=0" + b"x" * 20_000))[0]).status == 413


@pytest.mark.parametrize("method", ["REGISTER", "SUBSCRIBE", "PUBLISH", "MESSAGE"])
def test_known_methods_that_are_not_served(method: str) -> None:
    (answer,) = Bench().receive(SipPeer().request(method))
    assert read(answer).status == 405
    assert read(answer).header("allow") == ALLOW


def test_an_unknown_method() -> None:
    assert read(Bench().receive(SipPeer().request("DANCE"))[0]).status == 501


def test_a_bye_for_nothing() -> None:
    bench, peer = Bench(), SipPeer()
    assert read(bench.receive(peer.bye())[0]).status == 481
    peer.remote_tag = "x"
    assert read(bench.receive(peer.bye())[0]).status == 481
    assert read(bench.receive(peer.invite())[0]).status == 481
    bench.settle()


def test_an_ack_for_nothing_is_never_answered() -> None:
    bench = Bench(only_loopback)
    assert bench.receive(SipPeer().ack()) == []
    assert bench.receive(SipPeer().ack(), STRANGER) == []
    assert bench.receive(SipPeer().ack().replace(b"CSeq: 0 ACK", b"CSeq: x")) == []
    assert bench.receive(SipPeer().ack().replace(b"Content-Length: 0", b"Content-Length: 9")) == []
    assert bench.stack.is_idle


def test_the_same_request_by_another_way() -> None:
    """RFC 3261 section 8.2.2.2."""
    bench, peer = Bench(), SipPeer()
    invite = peer.invite()
    bench.receive(invite)
    bench.event(InviteReceived)
    (answer,) = bench.receive(invite.replace(b"branch=z9hG4bK", b"branch=z9hG4bKother"))
    assert read(answer).status == 482
    assert bench.event(RequestRefused).status == 482


def test_options_says_what_we_can() -> None:
    (answer,) = Bench().receive(SipPeer().options())
    options = read(answer)
    assert options.status == 200
    assert options.header("allow") == ALLOW
    assert "application/sdp" in options.header("accept")
    assert options.header("accept-language")
    assert "supported" in dict(options.fields)


@pytest.mark.rfc(3261)
def test_a_full_node_says_so_to_options_and_goes_on_in_its_calls() -> None:
    """Section 11.2: a balancer that asks learns what an INVITE would be told."""
    bench, peer = Bench(), SipPeer()
    bench.receive(peer.invite())
    session = bench.event(InviteReceived).session
    bench.stack.answer(session, b"v=0\r\n", bench.now)
    peer.take(bench.sent()[0])
    bench.receive(peer.ack())
    bench.stack.why_full = lambda: "all 2 calls are up"
    full = read(bench.receive(SipPeer().options())[0])
    assert (full.status, full.header("retry-after")) == (503, "10")
    assert "all 2 calls are up" in full.header("warning")
    assert read(bench.receive(peer.request("OPTIONS"))[0]).status == 200
    bench.stack.why_full = str
    assert read(bench.receive(SipPeer().options())[0]).status == 200


def test_draining() -> None:
    bench, peer = Bench(), SipPeer()
    bench.receive(peer.invite())
    session = bench.event(InviteReceived).session
    bench.stack.is_draining = True
    for data in (SipPeer().invite(), SipPeer().options()):
        (answer,) = bench.receive(data)
        assert read(answer).status == 503
        assert read(answer).header("retry-after") == "10"
    bench.stack.answer(session, b"v=0\r\n", bench.now)
    peer.take(bench.sent()[0])
    bench.receive(peer.ack())
    assert read(bench.receive(peer.bye())[0]).status == 200


class TestStrangers:
    def test_get_403_and_no_memory_is_spent_on_them(self) -> None:
        bench = Bench(only_loopback)
        invite = SipPeer().invite()
        (first,) = bench.receive(invite, STRANGER)
        assert read(first).status == 403
        assert read(first).header("warning") == '399 agentstream "this address may not call here"'
        assert bench.receive(invite, STRANGER) == [first], "the same tag each time (RFC 3261 section 8.2.7)"
        assert bench.stack.is_idle
        for data in (SipPeer().options(), SipPeer().request("REGISTER"), SipPeer().bye(), SipPeer().cancel()):
            assert read(bench.receive(data, STRANGER)[0]).status == 403

    def test_get_400_for_bad_syntax(self) -> None:
        bench = Bench(only_loopback)
        assert read(bench.receive(SipPeer().invite().replace(b"CSeq: 1", b"CSeq: x"), STRANGER)[0]).status == 400

    def test_are_heard_inside_a_dialog(self) -> None:
        """A proxy may send a call's BYE from another address."""
        bench, peer = Bench(only_loopback), SipPeer()
        bench.receive(peer.invite())
        session = bench.event(InviteReceived).session
        bench.stack.answer(session, b"v=0\r\n", bench.now)
        peer.take(bench.sent()[0])
        bench.receive(peer.ack(), STRANGER)
        assert session.state == "confirmed"
        assert read(bench.receive(peer.bye(), STRANGER)[0]).status == 200


@pytest.mark.parametrize("data", [b"", b"\r\n\r\n", b"\r\n", b"\x00\x00"])
def test_keepalives_are_no_mistake(data: bytes) -> None:
    bench = Bench()
    assert bench.receive(data) == []
    assert bench.events() == []
    assert bench.stack.counters == {"keepalives": 1}


def test_the_sdp_part_of_a_multipart_is_the_offer() -> None:
    """SIP-I carriers send the ISUP message beside the offer."""
    bench = Bench()
    body = (
        b"--b1\r\nContent-Type: application/isup\r\n\r\n\x01\x02\r\n"
        b"--b1\r\nContent-Type: application/sdp\r\n\r\nv=0\r\no=x\r\n--b1--\r\n"
    )
    bench.receive(SipPeer().request("INVITE", body=body, content_type='multipart/mixed;boundary="b1"'))
    assert bench.event(InviteReceived).sdp == b"v=0\r\no=x"


@pytest.mark.parametrize("method", ["BYE", "OPTIONS", "INVITE"])
def test_a_header_that_cannot_be_read_inside_a_dialog(method: str) -> None:
    """Nothing waits for an answer that never comes."""
    bench, peer = Bench(), SipPeer()
    bench.receive(peer.invite())
    session = bench.event(InviteReceived).session
    bench.stack.answer(session, b"v=0\r\n", bench.now)
    peer.take(bench.sent()[0])
    bench.receive(peer.ack())
    (answer,) = bench.receive(peer.request(method, headers='Require: "a\r\n'))
    assert read(answer).status == 400
    assert [read(data).status for data in bench.receive(peer.bye())] == [200]
    bench.settle()


def test_the_timestamp_comes_back_in_the_100() -> None:
    """RFC 3261 section 8.2.6.1."""
    bench, peer = Bench(), SipPeer()
    (trying,) = bench.receive(peer.invite(headers="Timestamp: 54.21\r\n"))
    assert (read(trying).status, read(trying).header("timestamp")) == (100, "54.21")
    session = bench.event(InviteReceived).session
    bench.stack.progress(session, bench.now)
    assert bench.read()[0].header("timestamp") == ""
