"""UPDATE (RFC 3311): theirs and ours, and what they meet."""

from __future__ import annotations

import pytest

from agentstream.errors import LocalProtocolError
from agentstream.sip.events import (
    InviteReceived,
    ReinviteReceived,
    RequestRefused,
    SessionEnded,
    UpdateAnswered,
    UpdateReceived,
    UpdateRefused,
)
from agentstream.sip.reinvite import MOST_TRIES
from agentstream.sip.stack import Session
from agentstream.testing.sip_peer import SipPeer, read
from tests.sip.kit import SDP, Bench
from tests.sip.test_sip_reinvite import EITHER, Begin, answered_by_us, offers, reinvited
from tests.sip.test_sip_uac import call

pytestmark = pytest.mark.rfc(3311)

ALLOWED = "Allow: INVITE, ACK, BYE, CANCEL, UPDATE\r\n"


def allowing(bench: Bench, peer: SipPeer, begin: Begin) -> Session:
    """A call that is up, whose peer has said that it takes UPDATE."""
    session = begin(bench, peer)
    bench.receive(peer.request("OPTIONS", headers=ALLOWED))
    return session


def updated(bench: Bench, session: Session) -> bytes:
    bench.stack.update(session, offers(), bench.now)
    (data,) = bench.sent()
    return data


class TestTheirs:
    @EITHER
    def test_one_with_an_offer_is_answered(self, begin: Begin) -> None:
        bench, peer = Bench(), SipPeer()
        session = begin(bench, peer)
        peer.port = 5099
        assert bench.receive(peer.request("UPDATE", body=SDP)) == []
        assert bench.event(UpdateReceived) == UpdateReceived(session, SDP)
        bench.stack.answer_update(session, SDP, bench.now)
        (ok,) = bench.read()
        assert (ok.status, ok.body, ok.header("content-type")) == (200, SDP, "application/sdp")
        assert ok.header("contact") == "<sip:127.0.0.1:5060>"
        # Section 5.1: UPDATE is a target refresh request.
        bench.stack.hang_up(session, bench.now)
        assert ":5099 SIP/2.0" in bench.read()[0].first
        bench.events()
        bench.settle()

    def test_one_that_cannot_be_served_leaves_the_call_as_it_is(self) -> None:
        bench, peer = Bench(), SipPeer()
        session = answered_by_us(bench, peer)
        bench.receive(peer.request("UPDATE", body=SDP))
        bench.event(UpdateReceived)
        bench.stack.reject_update(session, 488, bench.now, "no codec")
        (refusal,) = bench.read()
        assert refusal.status == 488 and "no codec" in refusal.header("warning")
        assert session.state == "confirmed"

    def test_one_without_an_offer_is_answered_at_once(self) -> None:
        bench, peer = Bench(), SipPeer()
        answered_by_us(bench, peer)
        (data,) = bench.receive(peer.request("UPDATE"))
        assert read(data).status == 200 and bench.events() == []

    def test_without_an_offer_before_the_answer(self) -> None:
        bench, peer = Bench(), SipPeer()
        bench.receive(peer.invite())
        session = bench.event(InviteReceived).session
        bench.stack.progress(session, bench.now)
        peer.take(bench.sent()[0])
        (data,) = bench.receive(peer.request("UPDATE"))
        assert read(data).status == 200

    def test_an_offer_before_the_first_one_has_its_answer_is_500(self) -> None:
        bench, peer = Bench(), SipPeer()
        bench.receive(peer.invite())
        session = bench.event(InviteReceived).session
        bench.stack.progress(session, bench.now)
        peer.take(bench.sent()[0])
        refusal = read(bench.receive(peer.request("UPDATE", body=SDP))[0])
        assert refusal.status == 500 and 0 <= int(refusal.header("retry-after")) <= 10
        bench.event(RequestRefused)
        bench.stack.answer(session, SDP, bench.now)
        assert bench.lines() == ["200"]

    @EITHER
    def test_glare_with_a_reinvite_of_ours_is_491(self, begin: Begin) -> None:
        bench, peer = Bench(), SipPeer()
        session = begin(bench, peer)
        reinvited(bench, session)
        assert read(bench.receive(peer.request("UPDATE", body=SDP))[0]).status == 491
        assert read(bench.receive(peer.request("UPDATE"))[0]).status == 200, "it holds no offer"

    def test_glare_with_our_own_is_491(self) -> None:
        bench, peer = Bench(), SipPeer()
        session = allowing(bench, peer, answered_by_us)
        updated(bench, session)
        assert read(bench.receive(peer.request("UPDATE", body=SDP))[0]).status == 491
        assert read(bench.receive(peer.invite())[0]).status == 491

    def test_one_while_our_offer_waits_for_its_ack_is_491(self) -> None:
        bench, peer = Bench(), SipPeer()
        bench.receive(peer.invite(sdp=b""))
        session = bench.event(InviteReceived).session
        bench.stack.answer(session, SDP, bench.now)
        peer.take(bench.sent()[0])
        assert read(bench.receive(peer.request("UPDATE", body=SDP))[0]).status == 491
        bench.receive(peer.ack(SDP))
        bench.events()
        bench.receive(peer.request("UPDATE", body=SDP))
        bench.event(UpdateReceived)

    def test_one_while_their_reinvite_has_no_answer_is_500(self) -> None:
        bench, peer = Bench(), SipPeer()
        answered_by_us(bench, peer)
        bench.receive(peer.invite())
        bench.event(ReinviteReceived)
        assert read(bench.receive(peer.request("UPDATE", body=SDP))[0]).status == 500

    def test_two_at_once(self) -> None:
        bench, peer = Bench(), SipPeer()
        answered_by_us(bench, peer)
        bench.receive(peer.request("UPDATE", body=SDP))
        bench.event(UpdateReceived)
        refusal = read(bench.receive(peer.request("UPDATE", body=SDP))[0])
        assert refusal.status == 500 and refusal.header("retry-after")
        assert read(bench.receive(peer.invite())[0]).status == 491

    def test_one_for_nothing(self) -> None:
        bench, peer = Bench(), SipPeer()
        assert read(bench.receive(peer.request("UPDATE"))[0]).status == 481

    def test_the_call_ends_while_it_waits(self) -> None:
        bench, peer = Bench(), SipPeer()
        session = answered_by_us(bench, peer)
        bench.receive(peer.request("UPDATE", body=SDP))
        bench.event(UpdateReceived)
        bench.stack.hang_up(session, bench.now)
        assert sorted(bench.lines()) == ["487", "BYE"]
        with pytest.raises(LocalProtocolError):
            bench.stack.answer_update(session, SDP, bench.now)
        bench.settle()


class TestOurs:
    @EITHER
    def test_it_is_sent_and_answered(self, begin: Begin) -> None:
        bench, peer = Bench(), SipPeer()
        session = allowing(bench, peer, begin)
        data = updated(bench, session)
        assert read(data).method == "UPDATE" and read(data).body == b"v=0\r\no=1\r\n"
        peer.port = 5099
        assert bench.receive(peer.respond(data, 200, sdp=SDP)) == []
        assert bench.event(UpdateAnswered) == UpdateAnswered(session, SDP)
        bench.stack.hang_up(session, bench.now)
        assert ":5099 SIP/2.0" in bench.read()[0].first

    def test_not_to_a_peer_that_does_not_take_it(self) -> None:
        bench, peer = Bench(), SipPeer()
        session = answered_by_us(bench, peer)
        with pytest.raises(LocalProtocolError):
            bench.stack.update(session, offers(), bench.now)

    def test_one_at_a_time(self) -> None:
        bench, peer = Bench(), SipPeer()
        session = allowing(bench, peer, answered_by_us)
        updated(bench, session)
        with pytest.raises(LocalProtocolError):
            bench.stack.update(session, offers(), bench.now)

    @pytest.mark.parametrize(("headers", "status", "most_s"), [("", 491, 2.0), ("Retry-After: 3\r\n", 500, 3.0)])
    def test_it_comes_again_behind_491_and_500(self, headers: str, status: int, most_s: float) -> None:
        bench, peer = Bench(), SipPeer()
        session = allowing(bench, peer, answered_by_us)
        data = updated(bench, session)
        bench.receive(peer.respond(data, status, "Later", headers=headers))
        assert bench.events() == []
        when = next(when for when, _, at in bench.stack.timers._heap if at.owner is session.updates)
        assert 0 <= when - bench.now <= most_s
        bench.now = when
        bench.stack.handle_timer(when)
        (again,) = bench.sent()
        assert read(again).body == b"v=0\r\no=2\r\n", "made again"

    def test_a_peer_that_says_491_for_ever(self) -> None:
        bench, peer = Bench(), SipPeer()
        session = allowing(bench, peer, answered_by_us)
        data, tries = updated(bench, session), 1
        while True:
            bench.receive(peer.respond(data, 491, "Request Pending"))
            if bench.stack.events:
                break
            data, tries = bench.next_sent()[0], tries + 1
        assert tries == MOST_TRIES
        assert bench.event(UpdateRefused).status == 491
        assert session.state == "confirmed"

    def test_it_waits_for_theirs(self) -> None:
        """Section 5.1: no offer while one of either side has no answer."""
        bench, peer = Bench(), SipPeer()
        session = allowing(bench, peer, answered_by_us)
        bench.receive(peer.invite())
        bench.event(ReinviteReceived)
        bench.stack.update(session, offers(), bench.now)
        assert bench.sent() == []
        bench.stack.answer(session, SDP, bench.now)
        peer.take(bench.sent()[0])
        bench.receive(peer.ack())
        bench.events()
        assert next(line for _, line in bench.advance(3)) == "UPDATE"

    def test_a_reinvite_of_ours_waits_for_it(self) -> None:
        bench, peer = Bench(), SipPeer()
        session = allowing(bench, peer, answered_by_us)
        data = updated(bench, session)
        bench.stack.reinvite(session, offers(), bench.now)
        assert bench.sent() == []
        bench.receive(peer.respond(data, 200, sdp=SDP))
        bench.event(UpdateAnswered)
        assert next(line for _, line in bench.advance(3)) == "INVITE"

    @pytest.mark.parametrize(("status", "by"), [(408, "timeout"), (481, "remote")])
    def test_a_peer_that_has_lost_the_dialog(self, status: int, by: str) -> None:
        bench, peer = Bench(), SipPeer()
        session = allowing(bench, peer, answered_by_us)
        data = updated(bench, session)
        assert [read(one).method for one in bench.receive(peer.respond(data, status, "Gone"))] == ["BYE"]
        assert bench.event(SessionEnded).by == by
        bench.settle()

    def test_the_call_ends_meanwhile(self) -> None:
        bench, peer = Bench(), SipPeer()
        session = allowing(bench, peer, answered_by_us)
        data = updated(bench, session)
        bench.receive(peer.bye())
        bench.event(SessionEnded)
        bench.receive(peer.respond(data, 200, sdp=SDP))
        assert bench.events() == []
        bench.settle()


def test_a_call_of_ours_learns_from_any_response_that_update_is_taken() -> None:
    bench, peer = Bench(), SipPeer()
    session, data = call(bench)
    bench.receive(peer.respond(data, 183, "Progress", headers=ALLOWED))
    assert "UPDATE" in session.peer_allows
