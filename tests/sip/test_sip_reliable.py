"""Reliable provisional responses (RFC 3262), as UAS and as UAC."""

from __future__ import annotations

import pytest

from agentstream.errors import LocalProtocolError
from agentstream.sip.events import (
    AckReceived,
    InviteAnswered,
    InviteCancelled,
    InviteProgressed,
    InviteReceived,
    RequestRefused,
    SessionEnded,
    UpdateReceived,
)
from agentstream.sip.headers import Headers
from agentstream.sip.reliable import read_rack
from agentstream.sip.stack import Session
from agentstream.sip.uri import parse_uri
from agentstream.testing.sip_peer import SipPeer, read
from tests.sip.kit import PEER, SDP, Bench
from tests.sip.test_sip_uac import call

pytestmark = pytest.mark.rfc(3262)

SUPPORTED = "Supported: 100rel\r\n"
REQUIRED = "Require: 100rel\r\n"
ANSWER = SDP.replace(b"1 1 IN", b"1 2 IN")


def rung(bench: Bench, peer: SipPeer, headers: str = SUPPORTED) -> Session:
    bench.receive(peer.invite(headers=headers))
    return bench.event(InviteReceived).session


def prack(peer: SipPeer, rseq: str, body: bytes = b"") -> bytes:
    return peer.request("PRACK", headers=f"RAck: {rseq} {peer.invite_cseq} INVITE\r\n", body=body)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("776656 1 INVITE", (776656, 1, "INVITE")),
        ("  7   8  INVITE ", (7, 8, "INVITE")),
        ("7 8", None),
        ("a 8 INVITE", None),
        ("", None),
    ],
)
def test_the_value_of_rack(value: str, expected: tuple[int, int, str] | None) -> None:
    assert read_rack(Headers([("RAck", value)])) == expected


class TestAsUas:
    @pytest.mark.parametrize(
        ("headers", "sdp", "is_reliable"),
        [
            (SUPPORTED, ANSWER, True),
            (SUPPORTED, b"", False),
            (REQUIRED, b"", True),
            (REQUIRED, ANSWER, True),
            ("", ANSWER, False),
        ],
    )
    def test_which_are_reliable(self, headers: str, sdp: bytes, is_reliable: bool) -> None:
        bench, peer = Bench(), SipPeer()
        session = rung(bench, peer, headers)
        bench.stack.progress(session, bench.now, 183, sdp)
        response = peer.take(bench.sent()[0])
        assert response.body == sdp
        assert ("100rel" in response.header("require")) == is_reliable
        assert bool(response.header("rseq")) == is_reliable
        if is_reliable:
            assert 1 <= int(response.header("rseq")) < 2**31
            assert read(bench.receive(prack(peer, response.header("rseq")))[0]).status == 200

    def test_it_is_repeated_until_its_prack(self) -> None:
        """Section 3: from T1 on, doubled each time."""
        bench, peer = Bench(), SipPeer()
        session = rung(bench, peer)
        bench.stack.progress(session, bench.now, 183, ANSWER)
        response = peer.take(bench.sent()[0])
        assert bench.advance(8) == [(0.5, "183"), (1.5, "183"), (3.5, "183"), (7.5, "183")]
        data = prack(peer, response.header("rseq"))
        assert read(bench.receive(data)[0]).status == 200
        assert bench.advance(30) == []
        assert read(bench.receive(data)[0]).status == 200, "a repeated PRACK in its own transaction"

    def test_without_prack_the_call_is_refused(self) -> None:
        bench, peer = Bench(), SipPeer()
        session = rung(bench, peer)
        bench.stack.progress(session, bench.now, 183, ANSWER)
        bench.sent()
        assert (32.0, "504") in bench.advance(32)
        assert bench.event(SessionEnded) == SessionEnded(
            session, "timeout", "no PRACK came for our provisional response"
        )
        bench.settle()

    @pytest.mark.parametrize("what", ["rseq", "cseq", "method", "none"])
    def test_a_prack_for_nothing_is_481(self, what: str) -> None:
        bench, peer = Bench(), SipPeer()
        session = rung(bench, peer)
        if what == "none":
            bench.stack.progress(session, bench.now, 180)
            peer.take(bench.sent()[0])
            data = prack(peer, "1")
        else:
            bench.stack.progress(session, bench.now, 183, ANSWER)
            rseq = int(peer.take(bench.sent()[0]).header("rseq"))
            values = {"rseq": f"{rseq + 1} 1 INVITE", "cseq": f"{rseq} 2 INVITE", "method": f"{rseq} 1 UPDATE"}
            data = peer.request("PRACK", headers=f"RAck: {values[what]}\r\n")
        assert read(bench.receive(data)[0]).status == 481
        assert bench.event(RequestRefused).status == 481

    def test_a_prack_for_no_call_is_481(self) -> None:
        assert read(Bench().receive(prack(SipPeer(), "1"))[0]).status == 481

    def test_the_200_waits_for_the_prack_of_a_description(self) -> None:
        bench, peer = Bench(), SipPeer()
        session = rung(bench, peer)
        bench.stack.progress(session, bench.now, 183, ANSWER)
        response = peer.take(bench.sent()[0])
        bench.stack.answer(session, ANSWER, bench.now)
        assert bench.sent() == [] and session.state == "proceeding"
        with pytest.raises(LocalProtocolError):
            bench.stack.answer(session, ANSWER, bench.now)
        sent = [read(data) for data in bench.receive(prack(peer, response.header("rseq")))]
        assert [(one.status, one.method) for one in sent] == [(200, "PRACK"), (200, "INVITE")]
        assert sent[1].body == b"", "the INVITE's offer has its answer"
        bench.receive(peer.ack())
        bench.event(AckReceived)
        assert session.state == "confirmed"
        bench.receive(peer.bye())
        bench.settle()

    def test_the_200_does_not_wait_for_one_without(self) -> None:
        bench, peer = Bench(), SipPeer()
        session = rung(bench, peer, REQUIRED)
        bench.stack.progress(session, bench.now, 180)
        ringing = peer.take(bench.sent()[0])
        bench.stack.answer(session, ANSWER, bench.now)
        ok = peer.take(bench.sent()[0])
        assert (ok.status, ok.body) == (200, ANSWER)
        # "it MUST be prepared to process PRACK requests for those outstanding responses."
        assert read(bench.receive(prack(peer, ringing.header("rseq")))[0]).status == 200
        bench.receive(peer.ack())
        assert "180" not in [line for _, line in bench.advance(20)]

    def test_the_next_one_waits_for_the_prack_of_the_first(self) -> None:
        bench, peer = Bench(), SipPeer()
        session = rung(bench, peer, REQUIRED)
        bench.stack.progress(session, bench.now, 180)
        bench.stack.progress(session, bench.now, 183, ANSWER)
        first = peer.take(bench.sent()[0])
        ok, data = bench.receive(prack(peer, first.header("rseq")))
        second = peer.take(data)
        assert (first.status, read(ok).status, second.status) == (180, 200, 183)
        assert int(second.header("rseq")) == int(first.header("rseq")) + 1
        bench.stack.answer(session, ANSWER, bench.now)
        assert bench.sent() == []
        sent = bench.receive(prack(peer, second.header("rseq")))
        assert [read(one).method for one in sent] == ["PRACK", "INVITE"]

    def test_it_is_said_anew_every_two_and_a_half_minutes(self) -> None:
        bench, peer = Bench(), SipPeer()
        session = rung(bench, peer, REQUIRED)
        bench.stack.progress(session, bench.now, 180)
        first = peer.take(bench.sent()[0])
        bench.receive(prack(peer, first.header("rseq")))
        assert bench.advance(150.4) == [(150.0, "183")]

    def test_a_prack_with_another_offer(self) -> None:
        """Section 5: its 200 holds the answer."""
        bench, peer = Bench(), SipPeer()
        session = rung(bench, peer)
        bench.stack.progress(session, bench.now, 183, ANSWER)
        response = peer.take(bench.sent()[0])
        assert bench.receive(prack(peer, response.header("rseq"), SDP)) == []
        assert bench.event(UpdateReceived) == UpdateReceived(session, SDP)
        bench.stack.answer_update(session, ANSWER, bench.now)
        (ok,) = bench.read()
        assert (ok.status, ok.method, ok.body) == (200, "PRACK", ANSWER)

    @pytest.mark.rfc(3311)
    def test_an_update_behind_it_changes_the_session_before_the_answer(self) -> None:
        bench, peer = Bench(), SipPeer()
        session = rung(bench, peer)
        bench.stack.progress(session, bench.now, 183, ANSWER)
        response = peer.take(bench.sent()[0])
        assert "UPDATE" in response.header("allow")
        bench.receive(prack(peer, response.header("rseq")))
        bench.receive(peer.request("UPDATE", body=SDP))
        bench.event(UpdateReceived)
        bench.stack.answer_update(session, ANSWER, bench.now)
        assert bench.read()[0].body == ANSWER

    def test_a_cancel_ends_what_waits(self) -> None:
        bench, peer = Bench(), SipPeer()
        session = rung(bench, peer)
        bench.stack.progress(session, bench.now, 183, ANSWER)
        bench.sent()
        bench.stack.answer(session, ANSWER, bench.now)
        assert [read(one).status for one in bench.receive(peer.cancel())] == [200, 487]
        bench.event(InviteCancelled)
        assert "183" not in [line for _, line in bench.advance(20)]
        bench.settle()

    def test_an_offer_that_is_left_to_us_is_not_made_before_the_answer(self) -> None:
        bench, peer = Bench(), SipPeer()
        bench.receive(peer.invite(sdp=b"", headers=SUPPORTED))
        session = bench.event(InviteReceived).session
        with pytest.raises(LocalProtocolError):
            bench.stack.progress(session, bench.now, 183, ANSWER)
        bench.stack.progress(session, bench.now, 180)
        assert bench.lines() == ["180"]


class TestAsUac:
    def test_what_our_invite_supports(self) -> None:
        bench = Bench()
        _, data = call(bench)
        assert "100rel" in read(data).header("supported")
        bench.stack.invite(
            parse_uri("sip:bob@127.0.0.1:5090"),
            from_uri=parse_uri("sip:bot@127.0.0.1"),
            to_uri=parse_uri("sip:bob@example.org"),
            sdp=b"",
            hop=PEER,
            now=bench.now,
        )
        assert "100rel" not in bench.read()[0].header("supported"), "the PRACK would have to hold our answer"

    def test_each_is_acknowledged_once_and_in_its_order(self) -> None:
        bench, peer = Bench(), SipPeer()
        session, data = call(bench)

        def reliable(rseq: int, sdp: bytes = b"") -> bytes:
            return peer.respond(data, 183, "Progress", sdp, headers=f"{REQUIRED}RSeq: {rseq}\r\n")

        (first,) = bench.receive(reliable(10, SDP))
        assert (read(first).method, read(first).header("rack")) == ("PRACK", "10 1 INVITE")
        assert read(first).first == "PRACK sip:alice@127.0.0.1:5090 SIP/2.0"
        assert read(first).header("cseq") == "2 PRACK"
        assert bench.event(InviteProgressed) == InviteProgressed(session, 183, SDP)
        assert bench.receive(reliable(10, SDP)) == [], "it is repeated: our PRACK is under way"
        assert bench.receive(reliable(12)) == [], "the one before is missing"
        assert bench.events() == []
        (second,) = bench.receive(reliable(11))
        assert read(second).header("rack") == "11 1 INVITE"
        bench.receive(peer.respond(first, 200))
        bench.receive(peer.respond(second, 200))
        bench.event(InviteProgressed)
        (ack,) = bench.receive(peer.respond(data, 200))
        assert read(ack).header("cseq") == "1 ACK"
        assert bench.event(InviteAnswered) == InviteAnswered(session, b"")
        bench.stack.hang_up(session, bench.now)
        (bye,) = bench.sent()
        assert read(bye).header("cseq") == "4 BYE"
        bench.receive(peer.respond(bye, 200))
        bench.events()
        bench.settle()

    def test_a_prack_of_ours_is_repeated(self) -> None:
        bench, peer = Bench(), SipPeer()
        _, data = call(bench)
        bench.receive(peer.respond(data, 183, "Progress", SDP, headers=f"{REQUIRED}RSeq: 1\r\n"))
        assert bench.advance(2) == [(0.5, "PRACK"), (1.5, "PRACK")]

    def test_a_number_that_cannot_be_read_is_no_progress(self) -> None:
        bench, peer = Bench(), SipPeer()
        _, data = call(bench)
        assert bench.receive(peer.respond(data, 183, "Progress", headers=f"{REQUIRED}RSeq: x\r\n")) == []
        assert bench.events() == []
