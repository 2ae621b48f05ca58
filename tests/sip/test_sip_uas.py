"""The UAS side of INVITE (RFC 3261 sections 9.2, 13.3, 15; RFC 6026; RFC 5407)."""

from __future__ import annotations

import pytest

from agentstream.errors import LocalProtocolError
from agentstream.sip.capabilities import ALLOW
from agentstream.sip.events import (
    AckReceived,
    InviteCancelled,
    InviteReceived,
    ReinviteCancelled,
    ReinviteReceived,
    SessionEnded,
)
from agentstream.sip.stack import Hop, Session
from agentstream.testing.sip_peer import SipPeer, read, tag_of
from tests.sip.kit import PEER, SDP, Bench

pytestmark = pytest.mark.rfc(3261)


def ring(bench: Bench, peer: SipPeer) -> Session:
    """An INVITE that waits for its answer."""
    (trying,) = bench.receive(peer.invite())
    assert read(trying).status == 100
    assert tag_of(read(trying).header("to")) == ""
    return bench.event(InviteReceived).session


def answer(bench: Bench, peer: SipPeer) -> Session:
    """A call that is up."""
    session = ring(bench, peer)
    bench.stack.answer(session, SDP, bench.now)
    (ok,) = bench.sent()
    peer.take(ok)
    assert bench.receive(peer.ack()) == []
    bench.event(AckReceived)
    return session


@pytest.mark.rfc(3326)
def test_a_call_from_invite_to_the_callers_bye() -> None:
    bench, peer = Bench(), SipPeer()
    session = ring(bench, peer)
    assert session.request.uri.user_text == "1000"
    assert session.request.from_.uri.user_text == "alice"
    assert session.remote == PEER
    bench.stack.progress(session, bench.now)
    (ringing,) = bench.read()
    assert (ringing.status, ringing.header("contact")) == (180, "<sip:127.0.0.1:5060>")
    bench.stack.answer(session, SDP, bench.now)
    (ok_data,) = bench.sent()
    ok = peer.take(ok_data)
    assert (ok.status, ok.body, ok.header("content-type")) == (200, SDP, "application/sdp")
    assert ok.header("to") == ringing.header("to")
    assert ok.header("allow") == ALLOW
    assert session.state == "accepted"
    assert bench.receive(peer.ack()) == []
    assert bench.event(AckReceived).session is session
    assert session.state == "confirmed"
    (bye,) = bench.receive(peer.bye('Reason: Q.850;cause=16;text="bye now"\r\n'))
    assert read(bye).status == 200
    assert bench.event(SessionEnded) == SessionEnded(session, "remote", "bye now")
    assert not bench.stack.dialogs
    bench.settle()


@pytest.mark.rfc(3581)
def test_answers_go_to_the_source_and_say_so() -> None:
    bench = Bench()
    bench.stack.receive(SipPeer(host="10.1.1.1").invite(), Hop("udp", "127.0.0.9", 40404, "u"), bench.now)
    data, hop = bench.stack.out.popleft()
    assert (hop.host, hop.port) == ("127.0.0.9", 40404)
    assert read(data).header("via").endswith(";received=127.0.0.9;rport=40404")


@pytest.mark.parametrize(
    ("sent_by", "port"),
    [
        ("127.0.0.9:5070", 5070),
        ("127.0.0.9", 5060),
        ("gateway.example.org:5070", 5070),
        ("gateway.example.org", 5060),
        ("192.168.1.7:5070", 40404),
    ],
)
def test_without_rport_answers_go_to_the_port_of_the_sent_by(sent_by: str, port: int) -> None:
    """RFC 3261 section 18.2.2; but whoever is behind NAT hears only at the port that the request came from."""
    bench = Bench()
    invite = SipPeer().invite().replace(b"UDP 127.0.0.1:5090", b"UDP " + sent_by.encode()).replace(b";rport", b"")
    source = Hop("udp", "127.0.0.9", 40404, "u")
    for data in (invite, invite.replace(b"Max-Forwards: 70", b"Max-Forwards: x").replace(b"bKpeer", b"bKbad")):
        bench.stack.receive(data, source, bench.now)
        _, hop = bench.stack.out.popleft()
        assert (hop.host, hop.port) == ("127.0.0.9", port)


def test_a_repeated_invite_gets_the_last_response_again() -> None:
    bench, peer = Bench(), SipPeer()
    invite = peer.invite()
    bench.receive(invite)
    session = bench.event(InviteReceived).session
    assert [read(data).status for data in bench.receive(invite)] == [100]
    bench.stack.progress(session, bench.now, 183, SDP)
    progress = bench.sent()
    assert bench.receive(invite) == progress
    assert bench.events() == []


def test_the_200_is_repeated_until_the_ack() -> None:
    bench, peer = Bench(), SipPeer()
    session = ring(bench, peer)
    bench.stack.answer(session, SDP, bench.now)
    peer.take(bench.sent()[0])
    assert bench.advance(8) == [(0.5, "200"), (1.5, "200"), (3.5, "200"), (7.5, "200")]
    bench.receive(peer.ack())
    assert bench.advance(3600) == []
    assert bench.event(AckReceived).session is session


def test_without_ack_the_session_ends_by_bye() -> None:
    bench, peer = Bench(), SipPeer()
    session = ring(bench, peer)
    bench.stack.answer(session, SDP, bench.now)
    bench.sent()
    sent = bench.advance(31.9)
    assert [line for _, line in sent] == ["200"] * 10
    assert [gap for gap, _ in sent] == [0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5]
    assert bench.advance(0.2) == [(0.1, "BYE")]
    assert bench.event(SessionEnded) == SessionEnded(session, "timeout", "no ACK came for our 200")
    bench.settle()


def test_an_invite_without_an_offer_gets_ours_and_the_ack_has_the_answer() -> None:
    bench, peer = Bench(), SipPeer()
    bench.receive(peer.invite(sdp=b""))
    received = bench.event(InviteReceived)
    assert received.sdp == b""
    bench.stack.answer(received.session, SDP, bench.now)
    peer.take(bench.sent()[0])
    bench.receive(peer.ack(SDP))
    assert bench.event(AckReceived).sdp == SDP


def test_a_refusal_is_repeated_until_its_ack() -> None:
    bench, peer = Bench(), SipPeer()
    session = ring(bench, peer)
    bench.stack.reject(session, 486, bench.now, 'all "lines" are taken', [("Retry-After", "5")])
    (busy_data,) = bench.sent()
    busy = read(busy_data)
    assert busy.status == 486
    assert busy.header("warning") == '399 agentstream "all \\"lines\\" are taken"'
    assert busy.header("retry-after") == "5"
    assert tag_of(busy.header("to"))
    assert bench.event(SessionEnded).by == "local"
    assert bench.advance(2) == [(0.5, "486"), (1.5, "486")]
    assert bench.receive(peer.ack_refusal(busy_data)) == []
    assert bench.advance(4.9) == []
    bench.settle()


@pytest.mark.parametrize(("status", "code"), [(488, "305"), (404, "399")])
def test_warning_codes(status: int, code: str) -> None:
    bench = Bench()
    bench.stack.reject(ring(bench, SipPeer()), status, bench.now, "no")
    assert bench.read()[0].header("warning").startswith(code)


class TestCancel:
    @pytest.mark.rfc(3326)
    def test_before_the_answer(self) -> None:
        bench, peer = Bench(), SipPeer()
        session = ring(bench, peer)
        ok, terminated = bench.receive(peer.cancel('Reason: SIP;cause=200;text="elsewhere"\r\n'))
        assert (read(ok).method, read(ok).status) == ("CANCEL", 200)
        assert (read(terminated).method, read(terminated).status) == ("INVITE", 487)
        assert tag_of(read(ok).header("to")) == tag_of(read(terminated).header("to")) != ""
        assert bench.event(InviteCancelled) == InviteCancelled(session, "elsewhere")
        bench.receive(peer.ack_refusal(terminated))
        with pytest.raises(LocalProtocolError):
            bench.stack.answer(session, SDP, bench.now)
        bench.stack.hang_up(session, bench.now)
        assert bench.sent() == []
        bench.settle()

    def test_after_a_provisional_it_has_the_same_tag(self) -> None:
        bench, peer = Bench(), SipPeer()
        bench.stack.progress(ring(bench, peer), bench.now)
        tag = tag_of(bench.read()[0].header("to"))
        ok, terminated = bench.receive(peer.cancel())
        assert tag_of(read(ok).header("to")) == tag_of(read(terminated).header("to")) == tag

    def test_repeated_it_gets_the_same_answer(self) -> None:
        bench, peer = Bench(), SipPeer()
        ring(bench, peer)
        cancel = peer.cancel()
        ok, _ = bench.receive(cancel)
        assert bench.receive(cancel) == [ok]
        bench.event(InviteCancelled)

    def test_behind_the_200_it_changes_nothing(self) -> None:
        bench, peer = Bench(), SipPeer()
        session = ring(bench, peer)
        bench.stack.answer(session, SDP, bench.now)
        peer_ok = bench.sent()[0]
        cancel = peer.cancel()
        assert [read(data).status for data in bench.receive(cancel)] == [200]
        peer.take(peer_ok)
        bench.receive(peer.ack())
        assert bench.event(AckReceived).session is session

    def test_behind_a_refusal_of_the_stack_it_has_the_same_tag(self) -> None:
        """RFC 3261 section 9.2: the To tag of both answers SHOULD be the same."""
        bench, peer = Bench(), SipPeer()
        refusal = peer.take(bench.receive(peer.invite(headers="Require: foo\r\n"))[0])
        (answer,) = bench.receive(peer.cancel())
        assert (refusal.status, read(answer).status) == (420, 200)
        assert tag_of(read(answer).header("to")) == tag_of(refusal.header("to"))

    def test_behind_a_refusal_it_changes_nothing(self) -> None:
        bench, peer = Bench(), SipPeer()
        bench.stack.reject(ring(bench, peer), 486, bench.now)
        bench.sent()
        bench.events()
        assert [read(data).status for data in bench.receive(peer.cancel())] == [200]
        assert bench.events() == []

    def test_of_nothing_gets_481(self) -> None:
        bench, peer = Bench(), SipPeer()
        peer.invite()
        assert [read(data).status for data in bench.receive(peer.cancel())] == [481]
        bench.settle()


class TestHangUp:
    def test_an_unanswered_call_is_refused(self) -> None:
        bench, peer = Bench(), SipPeer()
        session = ring(bench, peer)
        bench.stack.hang_up(session, bench.now, "the flow ended")
        (refusal,) = bench.read()
        assert refusal.status == 480
        assert refusal.header("reason") == 'Q.850;cause=16;text="the flow ended"'
        assert bench.event(SessionEnded) == SessionEnded(session, "local", "the flow ended")
        bench.settle()

    @pytest.mark.rfc(3326)
    def test_an_answered_call_gets_a_bye(self) -> None:
        bench, peer = Bench(), SipPeer()
        session = answer(bench, peer)
        bench.stack.hang_up(session, bench.now, "done\r\nEvil: 1")
        (bye_data,) = bench.sent()
        bye = read(bye_data)
        assert bye.first == "BYE sip:alice@127.0.0.1:5090 SIP/2.0"
        assert bye.header("reason") == 'Q.850;cause=16;text="done  Evil: 1"'
        assert bye.header("evil") == ""
        assert tag_of(bye.header("from")) == peer.remote_tag
        assert tag_of(bye.header("to")) == peer.local_tag
        assert bench.event(SessionEnded).by == "local"
        bench.receive(peer.respond(bye_data, 200))
        assert bench.advance(4.9) == []
        bench.settle()

    def test_the_bye_waits_for_the_ack(self) -> None:
        """RFC 3261 section 15: no BYE before the ACK, unless it never comes."""
        bench, peer = Bench(), SipPeer()
        session = ring(bench, peer)
        bench.stack.answer(session, SDP, bench.now)
        peer.take(bench.sent()[0])
        bench.stack.hang_up(session, bench.now, "at once")
        assert bench.sent() == []
        assert bench.event(SessionEnded).reason == "at once"
        (bye,) = bench.receive(peer.ack())
        assert read(bye).header("reason").endswith('"at once"')
        assert bench.events() == []
        bench.settle()

    def test_the_bye_is_repeated_and_given_up(self) -> None:
        bench, peer = Bench(), SipPeer()
        session = answer(bench, peer)
        bench.stack.hang_up(session, bench.now)
        bench.sent()
        sent = bench.advance(40)
        assert [gap for gap, _ in sent] == [0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5]
        bench.settle()

    def test_crossing_byes_are_both_answered_200(self) -> None:
        bench, peer = Bench(), SipPeer()
        session = answer(bench, peer)
        bench.stack.hang_up(session, bench.now)
        (ours,) = bench.sent()
        (ok,) = bench.receive(peer.bye())
        assert read(ok).status == 200
        assert bench.event(SessionEnded).by == "local"
        bench.receive(peer.respond(ours, 481, "Call/Transaction Does Not Exist"))
        bench.settle()

    def test_twice_is_once(self) -> None:
        bench, peer = Bench(), SipPeer()
        session = answer(bench, peer)
        bench.stack.hang_up(session, bench.now)
        bench.stack.hang_up(session, bench.now)
        assert bench.lines() == ["BYE"]
        assert len(bench.events()) == 1

    def test_a_header_of_ours_may_not_hold_a_line_break(self) -> None:
        bench = Bench()
        session = ring(bench, SipPeer())
        with pytest.raises(LocalProtocolError):
            bench.stack.hang_up(session, bench.now, "", [("X-A", "1\r\nB: 2")])
        assert bench.sent() == []


@pytest.mark.rfc(6026)
@pytest.mark.parametrize("is_accepted", [True, False])
def test_an_answer_that_cannot_be_sent_leaves_no_room_for_a_second_call(is_accepted: bool) -> None:
    """RFC 6026 section 7.1: the transaction stays, and takes the repeated INVITE."""
    bench, peer = Bench(), SipPeer()
    invite = peer.invite()
    bench.receive(invite)
    session = bench.event(InviteReceived).session
    if is_accepted:
        bench.stack.answer(session, SDP, bench.now)
    else:
        bench.stack.reject(session, 486, bench.now)
    bench.sent()
    bench.events()
    bench.stack.send_failed(PEER, bench.now)
    bench.receive(invite)
    assert bench.events() == []
    bench.settle()


class TestInsideTheDialog:
    def test_a_bye_on_an_early_dialog_ends_it(self) -> None:
        bench, peer = Bench(), SipPeer()
        session = ring(bench, peer)
        bench.stack.progress(session, bench.now)
        peer.take(bench.sent()[0])
        assert [read(data).status for data in bench.receive(peer.bye())] == [200, 487]
        assert bench.event(SessionEnded).by == "remote"
        bench.settle()

    def test_a_bye_after_the_end_gets_481(self) -> None:
        bench, peer = Bench(), SipPeer()
        answer(bench, peer)
        bye = peer.bye()
        (first,) = bench.receive(bye)
        assert bench.receive(bye) == [first]
        assert [read(data).status for data in bench.receive(peer.bye())] == [481]

    def test_a_lower_cseq_gets_500(self) -> None:
        bench, peer = Bench(), SipPeer()
        answer(bench, peer)
        assert [read(data).status for data in bench.receive(peer.request("BYE", cseq=1))] == [500]
        assert [read(data).status for data in bench.receive(peer.bye())] == [200]

    def test_options(self) -> None:
        bench, peer = Bench(), SipPeer()
        answer(bench, peer)
        assert [read(data).status for data in bench.receive(peer.request("OPTIONS"))] == [200]
        assert bench.events() == []

    @pytest.mark.parametrize("method", ["SUBSCRIBE", "MESSAGE"])
    def test_what_is_not_served(self, method: str) -> None:
        bench, peer = Bench(), SipPeer()
        answer(bench, peer)
        (data,) = bench.receive(peer.request(method))
        assert read(data).status == 405
        assert "BYE" in read(data).header("allow")
        assert [read(data).status for data in bench.receive(peer.bye())] == [200]

    def test_the_way_back_leads_over_the_recorded_routes(self) -> None:
        bench, peer = Bench(), SipPeer()
        routes = "Record-Route: <sip:127.0.0.2;lr>, <sip:127.0.0.3:5070;lr>\r\n"
        bench.receive(peer.invite(headers=routes))
        session = bench.event(InviteReceived).session
        bench.stack.answer(session, SDP, bench.now)
        (ok,) = bench.sent()
        assert peer.take(ok).header("record-route") == "<sip:127.0.0.2;lr>, <sip:127.0.0.3:5070;lr>"
        peer.routes = []
        bench.receive(peer.ack())
        bench.stack.hang_up(session, bench.now)
        data, hop = bench.stack.out.popleft()
        assert (hop.host, hop.port) == ("127.0.0.2", 5060)
        assert read(data).headers("route") == ["<sip:127.0.0.2;lr>", "<sip:127.0.0.3:5070;lr>"]
        assert read(data).first == "BYE sip:alice@127.0.0.1:5090 SIP/2.0"

    def test_a_strict_router_gets_the_request_uri_that_it_wants(self) -> None:
        """RFC 3261 section 12.2.1.1, without lr."""
        bench, peer = Bench(), SipPeer()
        bench.receive(peer.invite(headers="Record-Route: <sip:127.0.0.2>, <sip:127.0.0.3;lr>\r\n"))
        session = bench.event(InviteReceived).session
        bench.stack.answer(session, SDP, bench.now)
        peer.take(bench.sent()[0])
        bench.receive(peer.ack())
        bench.stack.hang_up(session, bench.now)
        (bye,) = bench.read()
        assert bye.first == "BYE sip:127.0.0.2 SIP/2.0"
        assert bye.headers("route") == ["<sip:127.0.0.3;lr>", "<sip:alice@127.0.0.1:5090>"]

    def test_a_contact_behind_nat_is_answered_where_it_came_from(self) -> None:
        bench = Bench()
        peer = SipPeer(host="192.168.1.7")
        public = Hop("udp", "5.6.7.8", 31000, "u")
        assert bench.receive(peer.invite(), public)
        session = bench.event(InviteReceived).session
        bench.stack.answer(session, SDP, bench.now)
        peer.take(bench.sent()[0])
        bench.receive(peer.ack(), public)
        bench.stack.hang_up(session, bench.now)
        assert bench.stack.out[0][1] == public


class TestReinvite:
    def test_it_is_the_owners_to_answer(self) -> None:
        bench, peer = Bench(), SipPeer()
        session = answer(bench, peer)
        peer.port = 5099
        (trying,) = bench.receive(peer.invite(SDP))
        assert read(trying).status == 100
        received = bench.event(ReinviteReceived)
        assert (received.session, received.sdp) == (session, SDP)
        bench.stack.answer(session, b"v=0\r\n", bench.now)
        (ok,) = bench.sent()
        assert peer.take(ok).body == b"v=0\r\n"
        assert bench.advance(0.6) == [(0.5, "200")]
        bench.receive(peer.ack())
        assert bench.event(AckReceived).session is session
        bench.stack.hang_up(session, bench.now)
        assert bench.read()[0].first == "BYE sip:alice@127.0.0.1:5099 SIP/2.0"
        bench.settle()

    def test_a_refused_one_leaves_the_session_as_it_was(self) -> None:
        bench, peer = Bench(), SipPeer()
        session = answer(bench, peer)
        peer.port = 5099
        bench.receive(peer.invite(SDP))
        bench.events()
        bench.stack.reject(session, 488, bench.now, "no")
        assert bench.lines() == ["488"]
        assert bench.events() == []
        assert session.state == "confirmed"
        bench.stack.hang_up(session, bench.now)
        assert bench.read()[0].first == "BYE sip:alice@127.0.0.1:5090 SIP/2.0"

    def test_a_second_one_before_the_answer_gets_500(self) -> None:
        bench, peer = Bench(), SipPeer()
        answer(bench, peer)
        bench.receive(peer.invite(SDP))
        bench.events()
        (refusal,) = bench.receive(peer.invite(SDP))
        assert read(refusal).status == 500
        assert 0 <= int(read(refusal).header("retry-after")) <= 10

    def test_one_that_overtakes_the_ack_gets_491(self) -> None:
        bench, peer = Bench(), SipPeer()
        session = ring(bench, peer)
        bench.stack.answer(session, SDP, bench.now)
        peer.take(bench.sent()[0])
        assert [read(data).status for data in bench.receive(peer.invite(SDP))] == [491]

    def test_a_cancelled_one(self) -> None:
        bench, peer = Bench(), SipPeer()
        session = answer(bench, peer)
        bench.receive(peer.invite(SDP))
        bench.events()
        assert [read(data).status for data in bench.receive(peer.cancel())] == [200, 487]
        assert bench.event(ReinviteCancelled).session is session
        assert session.state == "confirmed"

    def test_a_bye_while_it_waits_ends_both(self) -> None:
        bench, peer = Bench(), SipPeer()
        answer(bench, peer)
        bench.receive(peer.invite(SDP))
        bench.events()
        assert [read(data).status for data in bench.receive(peer.bye())] == [200, 487]
        bench.event(SessionEnded)
        bench.settle()

    def test_without_ack_the_session_ends(self) -> None:
        bench, peer = Bench(), SipPeer()
        session = answer(bench, peer)
        bench.receive(peer.invite(SDP))
        bench.events()
        bench.stack.answer(session, SDP, bench.now)
        bench.sent()
        assert bench.advance(32.1)[-1] == (32.0, "BYE")
        assert bench.event(SessionEnded).by == "timeout"
        bench.settle()


def test_an_invitation_that_expires_gets_487() -> None:
    bench, peer = Bench(), SipPeer()
    bench.receive(peer.invite(headers="Expires: 3\r\n"))
    session = bench.event(InviteReceived).session
    bench.stack.progress(session, bench.now)
    bench.sent()
    assert bench.advance(3.1) == [(3.0, "487")]
    assert bench.event(InviteCancelled).reason == "the invitation expired before it was answered"
    bench.settle()


def test_ringing_is_said_every_minute_and_not_for_ever() -> None:
    bench, peer = Bench(), SipPeer()
    session = ring(bench, peer)
    bench.stack.progress(session, bench.now)
    bench.sent()
    assert bench.advance(180.1)[:3] == [(60.0, "180"), (120.0, "180"), (180.0, "487")]
    bench.events()
    bench.settle()


def test_commands_in_the_wrong_state_are_bugs_of_ours() -> None:
    bench, peer = Bench(), SipPeer()
    session = answer(bench, peer)
    with pytest.raises(LocalProtocolError):
        bench.stack.answer(session, SDP, bench.now)
    with pytest.raises(LocalProtocolError):
        bench.stack.progress(session, bench.now)
    with pytest.raises(LocalProtocolError):
        bench.stack.reject(session, 486, bench.now)
    with pytest.raises(LocalProtocolError):
        bench.stack.reject(session, 200, bench.now)
