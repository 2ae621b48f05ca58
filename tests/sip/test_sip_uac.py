"""The UAC side of INVITE (RFC 3261 sections 9.1, 13.2, 15; RFC 6026)."""

from __future__ import annotations

import pytest

from agentstream.errors import LocalProtocolError
from agentstream.sip.events import (
    AckReceived,
    InviteAnswered,
    InviteProgressed,
    InviteRefused,
    ReinviteReceived,
    SessionEnded,
)
from agentstream.sip.stack import Hop, Session
from agentstream.sip.uri import parse_uri
from agentstream.testing.sip_peer import SipPeer, read, tag_of
from tests.sip.kit import PEER, SDP, Bench

pytestmark = pytest.mark.rfc(3261)


def call(bench: Bench) -> tuple[Session, bytes]:
    """A call of ours and its INVITE."""
    session = bench.stack.invite(
        parse_uri("sip:bob@127.0.0.1:5090"),
        from_uri=parse_uri("sip:bot@127.0.0.1"),
        to_uri=parse_uri("sip:bob@example.org"),
        sdp=SDP,
        hop=PEER,
        now=bench.now,
        headers=[("X-Campaign", "7")],
    )
    (invite,) = bench.sent()
    return session, invite


def test_a_call_from_invite_to_our_bye() -> None:
    bench, peer = Bench(), SipPeer()
    session, data = call(bench)
    invite = read(data)
    assert invite.first == "INVITE sip:bob@127.0.0.1:5090 SIP/2.0"
    assert invite.header("x-campaign") == "7"
    assert invite.body == SDP
    assert invite.header("via").startswith("SIP/2.0/UDP 127.0.0.1:5060;branch=z9hG4bK")
    assert (session.state, session.is_incoming) == ("calling", False)
    bench.receive(peer.respond(data, 100, "Trying"))
    assert bench.events() == []
    bench.receive(peer.respond(data, 183, "Progress", SDP))
    assert bench.event(InviteProgressed) == InviteProgressed(session, 183, SDP)
    (ack_data,) = bench.receive(peer.respond(data, 200, "OK", SDP))
    ack = read(ack_data)
    assert bench.event(InviteAnswered) == InviteAnswered(session, SDP)
    assert ack.first == "ACK sip:alice@127.0.0.1:5090 SIP/2.0"
    assert ack.header("cseq") == "1 ACK"
    assert ack.header("via") != invite.header("via")
    assert tag_of(ack.header("to")) == peer.local_tag
    bench.stack.hang_up(session, bench.now, "done")
    (bye,) = bench.sent()
    assert read(bye).header("cseq") == "2 BYE"
    assert bench.event(SessionEnded) == SessionEnded(session, "local", "done")
    bench.receive(peer.respond(bye, 200))
    bench.settle()


def test_the_callees_bye() -> None:
    bench, peer = Bench(), SipPeer()
    session, data = call(bench)
    bench.receive(peer.respond(data, 200, "OK", SDP))
    bench.events()
    peer.called_by(data)
    assert [read(data).status for data in bench.receive(peer.bye())] == [200]
    assert bench.event(SessionEnded) == SessionEnded(session, "remote", "")
    assert bench.receive(peer.respond(data, 200, "OK", SDP)), "a repeated 200 is acknowledged behind the BYE too"
    bench.settle()


def test_the_callees_reinvite() -> None:
    bench, peer = Bench(), SipPeer()
    session, data = call(bench)
    bench.receive(peer.respond(data, 200, "OK", SDP))
    bench.events()
    peer.called_by(data)
    bench.receive(peer.invite(SDP))
    assert bench.event(ReinviteReceived).session is session
    bench.stack.answer(session, SDP, bench.now)
    assert bench.lines() == ["200"]
    bench.receive(peer.ack())
    assert bench.event(AckReceived).session is session


def test_invite_is_repeated_and_given_up() -> None:
    bench = Bench()
    session, _ = call(bench)
    sent = bench.advance(31.9)
    assert sent == [
        (0.5, "INVITE"),
        (1.5, "INVITE"),
        (3.5, "INVITE"),
        (7.5, "INVITE"),
        (15.5, "INVITE"),
        (31.5, "INVITE"),
    ]
    bench.advance(0.2)
    assert bench.event(InviteRefused) == InviteRefused(session, 408, "408 no answer to our INVITE")
    bench.settle()


def test_a_provisional_response_ends_the_repetition() -> None:
    bench, peer = Bench(), SipPeer()
    _, data = call(bench)
    bench.receive(peer.respond(data, 100, "Trying"))
    assert bench.advance(170) == []


def test_a_refusal_is_acknowledged_each_time_and_told_once() -> None:
    bench, peer = Bench(), SipPeer()
    session, data = call(bench)
    busy = peer.respond(data, 486, "Busy Here", headers='Warning: 399 x "in a meeting"\r\n')
    (ack,) = bench.receive(busy)
    assert read(ack).method == "ACK"
    assert read(ack).header("via") == read(data).header("via")
    assert bench.event(InviteRefused) == InviteRefused(session, 486, '486 Busy Here (399 x "in a meeting")')
    assert bench.receive(busy) == [ack]
    assert bench.events() == []
    bench.settle()


@pytest.mark.rfc(6026)
def test_the_ack_is_repeated_for_each_200() -> None:
    bench, peer = Bench(), SipPeer()
    _, data = call(bench)
    ok = peer.respond(data, 200, "OK", SDP)
    ack = bench.receive(ok)
    bench.event(InviteAnswered)
    bench.advance(20)
    assert bench.receive(ok) == ack
    assert bench.events() == []


def test_ack_and_bye_follow_the_routes_backwards() -> None:
    bench, peer = Bench(), SipPeer()
    session, data = call(bench)
    routes = "Record-Route: <sip:127.0.0.3;lr>\r\nRecord-Route: <sip:127.0.0.2:5062;lr>\r\n"
    bench.stack.receive(peer.respond(data, 200, "OK", SDP, routes), PEER, bench.now)
    data, hop = bench.stack.out.popleft()
    assert (hop.host, hop.port) == ("127.0.0.2", 5062)
    assert read(data).headers("route") == ["<sip:127.0.0.2:5062;lr>", "<sip:127.0.0.3;lr>"]
    bench.events()
    bench.stack.hang_up(session, bench.now)
    assert bench.stack.out[0][1].port == 5062


class TestCancel:
    def test_it_waits_for_a_provisional_response(self) -> None:
        bench, peer = Bench(), SipPeer()
        session, data = call(bench)
        bench.stack.hang_up(session, bench.now, "no longer wanted")
        assert bench.sent() == []
        assert bench.event(SessionEnded) == SessionEnded(session, "local", "no longer wanted")
        (cancel_data,) = bench.receive(peer.respond(data, 180, "Ringing"))
        cancel, invite = read(cancel_data), read(data)
        assert cancel.method == "CANCEL"
        assert cancel.first.replace("CANCEL", "INVITE") == invite.first
        for name in ("via", "from", "to", "call-id"):
            assert cancel.header(name) == invite.header(name)
        assert cancel.header("cseq") == "1 CANCEL"
        assert cancel.header("reason").endswith('"no longer wanted"')
        bench.receive(peer.respond(cancel_data, 200))
        (ack,) = bench.receive(peer.respond(data, 487, "Request Terminated"))
        assert read(ack).method == "ACK"
        assert bench.events() == []
        bench.settle()

    def test_behind_a_provisional_response_it_goes_at_once(self) -> None:
        bench, peer = Bench(), SipPeer()
        session, data = call(bench)
        bench.receive(peer.respond(data, 180, "Ringing"))
        bench.stack.hang_up(session, bench.now)
        assert bench.lines() == ["CANCEL"]
        bench.settle()

    def test_a_200_that_crosses_it_is_acknowledged_and_ended(self) -> None:
        bench, peer = Bench(), SipPeer()
        session, data = call(bench)
        bench.receive(peer.respond(data, 180, "Ringing"))
        bench.stack.hang_up(session, bench.now)
        bench.sent()
        bench.events()
        ok = peer.respond(data, 200, "OK", SDP)
        assert [read(data).method for data in bench.receive(ok)] == ["ACK", "BYE"]
        assert [read(data).method for data in bench.receive(ok)] == ["ACK"]
        assert bench.events() == []
        bench.settle()

    def test_a_200_without_any_provisional_response_as_well(self) -> None:
        bench, peer = Bench(), SipPeer()
        session, data = call(bench)
        bench.stack.hang_up(session, bench.now)
        assert [read(data).method for data in bench.receive(peer.respond(data, 200, "OK", SDP))] == ["ACK", "BYE"]

    def test_unanswered_it_is_given_up(self) -> None:
        bench, peer = Bench(), SipPeer()
        session, data = call(bench)
        bench.receive(peer.respond(data, 180, "Ringing"))
        bench.stack.hang_up(session, bench.now)
        bench.advance(32.5)
        assert bench.stack.is_idle

    def test_a_bye_instead_of_the_487(self) -> None:
        bench, peer = Bench(), SipPeer()
        session, data = call(bench)
        bench.receive(peer.respond(data, 180, "Ringing"))
        bench.stack.hang_up(session, bench.now)
        bench.sent()
        bench.events()
        peer.called_by(data)
        assert [read(data).status for data in bench.receive(peer.bye())] == [200]
        assert bench.events() == []
        bench.settle()

    def test_a_bye_instead_of_an_answer(self) -> None:
        bench, peer = Bench(), SipPeer()
        session, data = call(bench)
        bench.receive(peer.respond(data, 180, "Ringing"))
        bench.events()
        peer.called_by(data)
        ok, cancel = bench.receive(peer.bye())
        assert (read(ok).status, read(cancel).method) == (200, "CANCEL")
        assert bench.event(SessionEnded) == SessionEnded(session, "remote", "")
        bench.settle()

    def test_nobody_rings_for_ever(self) -> None:
        bench, peer = Bench(ring_limit_s=60), SipPeer()
        session, data = call(bench)
        bench.receive(peer.respond(data, 180, "Ringing"))
        bench.events()
        assert bench.advance(60.1) == [(60.0, "CANCEL")]
        assert bench.event(InviteRefused) == InviteRefused(session, 408, "nobody answered in time")
        bench.settle()


def test_of_a_fork_the_first_answer_wins_and_the_others_are_ended() -> None:
    bench = Bench()
    winner, loser = SipPeer(user="winner"), SipPeer(user="loser")
    session, data = call(bench)
    bench.receive(loser.respond(data, 180, "Ringing"))
    bench.receive(winner.respond(data, 180, "Ringing"))
    bench.receive(winner.respond(data, 200, "OK", SDP))
    bench.events()
    late = loser.respond(data, 200, "OK", SDP)
    ack, bye = bench.receive(late)
    assert read(ack).first == "ACK sip:loser@127.0.0.1:5090 SIP/2.0"
    assert read(bye).first == "BYE sip:loser@127.0.0.1:5090 SIP/2.0"
    assert tag_of(read(bye).header("to")) == loser.local_tag
    assert bench.receive(late) == [ack]
    assert bench.events() == []
    assert session.state == "confirmed"
    winner.called_by(data)
    assert [read(data).status for data in bench.receive(winner.bye())] == [200]
    bench.event(SessionEnded)
    bench.settle()


def test_the_early_dialog_goes_on_in_the_answer() -> None:
    """RFC 3261 section 13.2.2.4: the 2xx confirms the dialog that is there, with the sequence numbers that it has."""
    bench, peer = Bench(), SipPeer()
    _, data = call(bench)
    bench.receive(peer.respond(data, 180, "Ringing"))
    peer.called_by(data)
    assert [read(one).status for one in bench.receive(peer.request("OPTIONS", cseq=7))] == [200]
    bench.receive(peer.respond(data, 200, "OK", SDP))
    assert [read(one).status for one in bench.receive(peer.request("BYE", cseq=7))] == [500]
    assert [read(one).status for one in bench.receive(peer.request("BYE", cseq=8))] == [200]
    bench.settle()


def test_a_late_answer_of_another_branch_stops_nothing() -> None:
    """Our 200 to a re-INVITE goes on to be repeated until its ACK."""
    bench, peer = Bench(), SipPeer()
    session, data = call(bench)
    bench.receive(peer.respond(data, 200, "OK", SDP))
    peer.called_by(data)
    bench.receive(peer.invite(SDP))
    bench.stack.answer(session, SDP, bench.now)
    bench.receive(SipPeer().respond(data, 200, "OK", SDP))
    assert "200" in [what for _, what in bench.advance(0.6)]
    bench.receive(peer.ack())
    assert "200" not in [what for _, what in bench.advance(40)]
    bench.stack.hang_up(session, bench.now)
    bench.settle()


def test_of_three_answers_all_are_acknowledged_and_two_are_ended() -> None:
    """RFC 3261 section 13.2.2.4; each loser's repeated 200 gets the ACK of its own dialog again."""
    bench = Bench()
    peers = [SipPeer(user=f"branch{number}") for number in range(3)]
    session, data = call(bench)
    answers = [peer.respond(data, 200, "OK", SDP) for peer in peers]
    sent = [[read(one) for one in bench.receive(answer)] for answer in answers]
    assert [[one.method for one in ones] for ones in sent] == [["ACK"], ["ACK", "BYE"], ["ACK", "BYE"]]
    assert [tag_of(ones[0].header("to")) for ones in sent] == [peer.local_tag for peer in peers]
    assert [type(event) for event in bench.events()] == [InviteAnswered]
    for answer, ones in zip(answers, sent, strict=True):
        assert [read(one) for one in bench.receive(answer)] == ones[:1]
    # A loser that hangs up by itself is told that it need not.
    peers[1].called_by(data)
    assert [read(one).status for one in bench.receive(peers[1].bye())] == [481]
    bench.events()
    bench.stack.hang_up(session, bench.now)
    bench.settle()


def test_every_branch_that_answers_behind_our_cancel_is_ended() -> None:
    bench = Bench()
    peers = [SipPeer(user=f"branch{number}") for number in range(2)]
    session, data = call(bench)
    for peer in peers:
        bench.receive(peer.respond(data, 180, "Ringing"))
    bench.stack.hang_up(session, bench.now)
    assert bench.lines() == ["CANCEL"]
    bench.events()
    for peer in peers:
        sent = [read(one) for one in bench.receive(peer.respond(data, 200, "OK", SDP))]
        assert [one.method for one in sent] == ["ACK", "BYE"]
        assert {tag_of(one.header("to")) for one in sent} == {peer.local_tag}
        assert 'text="the call was cancelled"' in sent[1].header("reason")
    assert bench.events() == []
    bench.settle()


def test_an_answer_behind_the_refusal_of_another_branch_changes_nothing() -> None:
    """A proxy sends one final refusal, or 2xx; behind a refusal the transaction takes nothing else (figure 5)."""
    bench, peer = Bench(), SipPeer()
    _, data = call(bench)
    bench.receive(peer.respond(data, 486, "Busy Here"))
    bench.event(InviteRefused)
    assert bench.receive(SipPeer().respond(data, 200, "OK", SDP)) == []
    bench.settle()


def test_an_unreachable_peer() -> None:
    bench = Bench()
    session, _ = call(bench)
    bench.stack.send_failed(PEER, bench.now)
    assert bench.event(InviteRefused) == InviteRefused(session, 503, "503 the peer cannot be reached")
    bench.settle()


def test_what_is_no_response_to_us_is_dropped() -> None:
    bench, peer = Bench(), SipPeer()
    _, data = call(bench)
    good = peer.respond(data, 200, "OK", SDP)
    via = b"Via: SIP/2.0/UDP 10.0.0.1;branch=z9hG4bKother\r\n"
    for bad in (
        good.replace(b"branch=z9hG4bK", b"branch=z9hG4bKx"),
        good.replace(b"\r\nVia", b"\r\n" + via + b"Via"),
        good.replace(b"\r\nFrom", b"\r\n" + via + b"From"),
        good.replace(b"1 INVITE", b"1 BYE"),
        good.replace(b"To: <", b'To: "<'),
        good.replace(b"SIP/2.0 200", b"SIP/3.0 200"),
    ):
        assert bench.receive(bad) == []
    assert {type(event).__name__ for event in bench.events()} == {"MessageDropped"}


def test_what_we_may_not_ask_for() -> None:
    bench = Bench()
    uri = parse_uri("sip:a@127.0.0.1")
    for hop in (Hop("udp", "example.org", 5060, "u"), Hop("udp", "127.0.0.1", 5060, "nobody")):
        with pytest.raises(LocalProtocolError):
            bench.stack.invite(uri, from_uri=uri, to_uri=uri, sdp=b"", hop=hop, now=0.0)
    with pytest.raises(LocalProtocolError):
        bench.stack.invite(uri, from_uri=uri, to_uri=uri, sdp=b"", hop=PEER, now=0.0, headers=[("X", "1\r\nY: 2")])


class TestWithoutAnOffer:
    """RFC 3261 section 13.2.1: the callee's 200 holds the offer, and our ACK the answer."""

    def ask(self, bench: Bench, peer: SipPeer) -> tuple[Session, bytes]:
        uri = parse_uri("sip:bob@127.0.0.1:5090")
        session = bench.stack.invite(uri, from_uri=uri, to_uri=uri, sdp=b"", hop=PEER, now=bench.now)
        (data,) = bench.sent()
        assert read(data).body == b"" and read(data).header("content-type") == ""
        return session, data

    def test_the_ack_waits_for_our_answer(self) -> None:
        bench, peer = Bench(), SipPeer()
        session, data = self.ask(bench, peer)
        offer = peer.respond(data, 200, "OK", SDP)
        assert bench.receive(offer) == []
        assert bench.event(InviteAnswered) == InviteAnswered(session, SDP)
        assert bench.receive(offer) == [], "repeated while we think"
        bench.stack.acknowledge(session, SDP + b"a=x", bench.now)
        (ack,) = bench.sent()
        assert (read(ack).body, read(ack).header("content-type")) == (SDP + b"a=x", "application/sdp")
        assert bench.receive(offer) == [ack]
        assert bench.events() == []
        with pytest.raises(LocalProtocolError):
            bench.stack.acknowledge(session, SDP, bench.now)
        peer.called_by(data)
        assert [read(one).status for one in bench.receive(peer.bye())] == [200]
        bench.event(SessionEnded)
        bench.settle()

    def test_an_answer_without_an_offer_is_acknowledged_at_once(self) -> None:
        bench, peer = Bench(), SipPeer()
        _, data = self.ask(bench, peer)
        assert [read(one).method for one in bench.receive(peer.respond(data, 200))] == ["ACK"]
        assert bench.event(InviteAnswered).sdp == b""

    def test_an_offer_that_we_do_not_want(self) -> None:
        bench, peer = Bench(), SipPeer()
        session, data = self.ask(bench, peer)
        bench.receive(peer.respond(data, 200, "OK", SDP))
        bench.stack.hang_up(session, bench.now)
        assert bench.lines() == ["ACK", "BYE"]
        bench.settle()

    def test_a_callee_that_hangs_up_while_we_think(self) -> None:
        bench, peer = Bench(), SipPeer()
        session, data = self.ask(bench, peer)
        bench.receive(peer.respond(data, 200, "OK", SDP))
        bench.events()
        peer.called_by(data)
        sent = [read(one) for one in bench.receive(peer.bye())]
        assert [one.status or one.method for one in sent] == ["ACK", 200]
        assert bench.event(SessionEnded) == SessionEnded(session, "remote", "")
        bench.settle()

    def test_another_branch_while_we_think(self) -> None:
        bench, peer, other = Bench(), SipPeer(), SipPeer(user="other")
        session, data = self.ask(bench, peer)
        bench.receive(peer.respond(data, 200, "OK", SDP))
        bench.event(InviteAnswered)
        sent = [read(one) for one in bench.receive(other.respond(data, 200, "OK", SDP))]
        assert [one.method for one in sent] == ["ACK", "BYE"]
        bench.stack.acknowledge(session, SDP, bench.now)
        assert bench.lines() == ["ACK"]
        bench.stack.hang_up(session, bench.now)
        bench.settle()
