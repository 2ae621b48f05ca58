"""Calls of ours that leave UDP for their size, and calls that go on to the next target."""

from __future__ import annotations

import pytest

from agentstream.sip.digest import Credentials, DigestClient, DigestServer
from agentstream.sip.events import InviteAnswered, InviteRefused, SessionEnded, TargetFailed
from agentstream.sip.routing import NO_TCP_S
from agentstream.sip.stack import Hop, Listener, Session
from agentstream.sip.uri import parse_uri
from agentstream.testing.sip_peer import SipPeer, read
from tests.sip.kit import PEER, SDP, Bench

OTHER = Hop("udp", "127.0.0.2", 5090, "u")
THIRD = Hop("tcp", "127.0.0.3", 5090, "t")
LARGE = [("X-Large", "a" * 1000)]


def bench_with_tcp() -> Bench:
    bench = Bench()
    bench.stack.add_listener("t", Listener("tcp", "127.0.0.1", 5066))
    return bench


def call(bench: Bench, *others: Hop, hop: Hop = PEER, headers: list[tuple[str, str]] | None = None) -> Session:
    uri = parse_uri("sip:bob@example.com")
    return bench.stack.invite(
        uri, from_uri=uri, to_uri=uri, sdp=SDP, hop=hop, now=bench.now, headers=headers or [], others=others
    )


def out(bench: Bench) -> list[tuple[bytes, Hop]]:
    sent = list(bench.stack.out)
    bench.stack.out.clear()
    return sent


class TestSize:
    @pytest.mark.rfc(3261)
    def test_a_large_request_goes_by_tcp_and_its_via_says_so(self) -> None:
        """Section 18.1.1. The Contact stays: the call's own way is UDP."""
        bench = bench_with_tcp()
        call(bench, headers=LARGE)
        ((data, hop),) = out(bench)
        assert hop == Hop("tcp", PEER.host, PEER.port, "t")
        invite = read(data)
        assert invite.header("via").startswith("SIP/2.0/TCP 127.0.0.1:5066;branch=z9hG4bK")
        assert invite.header("contact") == "<sip:127.0.0.1:5060>"
        assert bench.advance(10.0) == []  # nothing is repeated over TCP

    @pytest.mark.rfc(3261)
    @pytest.mark.parametrize(("more", "transport"), [(0, "udp"), (1, "tcp")])
    def test_the_limit_is_1300_bytes(self, more: int, transport: str) -> None:
        bench = bench_with_tcp()
        call(bench)
        ((data, _),) = out(bench)
        call(bench, headers=[("X-Large", "a" * (1300 + more - len(data) - len("X-Large: \r\n")))])
        ((data, hop),) = out(bench)
        assert hop.transport == transport

    @pytest.mark.rfc(3261)
    def test_udp_again_when_tcp_is_refused(self) -> None:
        bench, peer = bench_with_tcp(), SipPeer()
        session = call(bench, headers=LARGE)
        ((_, hop),) = out(bench)
        bench.advance(3.0)
        bench.stack.send_failed(hop, bench.now)
        ((data, hop),) = out(bench)
        assert hop == PEER
        assert read(data).header("via").startswith("SIP/2.0/UDP 127.0.0.1:5060;branch=z9hG4bK")
        assert [line for _, line in bench.advance(1.6)] == ["INVITE", "INVITE"]  # and timer A runs
        bench.receive(peer.respond(data, 200, sdp=SDP))
        assert bench.event(InviteAnswered).session is session

    def test_who_has_refused_tcp_is_not_asked_again_for_a_while(self) -> None:
        bench = bench_with_tcp()
        call(bench, headers=LARGE)
        bench.stack.send_failed(out(bench)[0][1], bench.now)
        out(bench)
        call(bench, headers=LARGE)
        assert [hop.transport for _, hop in out(bench)] == ["udp"]
        bench.advance(NO_TCP_S)
        out(bench)
        call(bench, headers=LARGE)
        assert [hop.transport for _, hop in out(bench)] == ["tcp"]

    @pytest.mark.rfc(3261)
    def test_the_cancel_goes_the_way_of_its_invite(self) -> None:
        """Section 9.1: to the same address, with the same Via."""
        bench, peer = bench_with_tcp(), SipPeer()
        session = call(bench, headers=LARGE)
        ((invite, way),) = out(bench)
        bench.receive(peer.respond(invite, 180, "Ringing"))
        bench.stack.hang_up(session, bench.now)
        ((cancel, hop),) = out(bench)
        assert (read(cancel).method, hop) == ("CANCEL", way)
        assert read(cancel).header("via") == read(invite).header("via")

    def test_without_a_listener_for_tcp_the_connection_is_ours_alone(self) -> None:
        bench = Bench()
        call(bench, headers=LARGE)
        ((data, hop),) = out(bench)
        assert hop == Hop("tcp", PEER.host, PEER.port, "u")
        assert read(data).header("via").startswith("SIP/2.0/TCP 127.0.0.1:5060;")


@pytest.mark.rfc(3263)
class TestFailover:
    def test_the_next_target_gets_the_same_request_with_another_branch(self) -> None:
        """Section 4.3, with the transport of the next one in Via and Contact."""
        bench, peer = bench_with_tcp(), SipPeer()
        session = call(bench, THIRD)
        ((first, _),) = out(bench)
        bench.stack.receive(peer.respond(first, 503, "Service Unavailable"), PEER, bench.now)
        (ack, at), (second, hop) = out(bench)
        assert (read(ack).method, at, hop) == ("ACK", PEER, THIRD)
        before, after = read(first), read(second)
        for name in ("from", "to", "call-id", "cseq"):
            assert after.header(name) == before.header(name)
        assert after.header("via").startswith("SIP/2.0/TCP 127.0.0.1:5066;")
        assert after.header("contact") == "<sip:127.0.0.1:5066;transport=tcp>"
        assert bench.event(TargetFailed) == TargetFailed(session, PEER, 503)
        bench.receive(SipPeer().respond(second, 200, sdp=SDP))
        assert bench.event(InviteAnswered).session is session

    def test_one_that_cannot_be_reached(self) -> None:
        bench = bench_with_tcp()
        session = call(bench, PEER, hop=THIRD)
        out(bench)
        bench.stack.send_failed(THIRD, bench.now)
        ((_, hop),) = out(bench)
        assert hop == PEER
        assert bench.event(TargetFailed) == TargetFailed(session, THIRD, 503)

    def test_one_that_says_nothing_for_5_seconds(self) -> None:
        bench = Bench()
        session = call(bench, OTHER)
        out(bench)
        assert [line for _, line in bench.advance(4.9)] == ["INVITE"] * 3
        bench.events()
        bench.now += 0.2
        bench.stack.handle_timer(bench.now)
        ((_, hop),) = out(bench)
        assert hop == OTHER
        assert bench.event(TargetFailed) == TargetFailed(session, PEER, 408)

    def test_any_answer_is_an_answer(self) -> None:
        """A provisional response keeps the call where it is; a refusal that is no 503 is the callee's."""
        bench, peer = Bench(), SipPeer()
        session = call(bench, OTHER)
        ((data, _),) = out(bench)
        bench.receive(peer.respond(data, 100, "Trying"))
        bench.advance(20.0)
        assert bench.events() == []
        bench.receive(peer.respond(data, 486, "Busy Here"))
        assert bench.event(InviteRefused).session is session

    def test_when_all_have_failed_the_last_one_says_why(self) -> None:
        bench, peer = Bench(), SipPeer()
        session = call(bench, OTHER)
        for _ in range(2):
            sent = out(bench)
            bench.stack.receive(peer.respond(sent[-1][0], 503, "Service Unavailable"), PEER, bench.now)
        failed, refused = bench.events()
        assert isinstance(failed, TargetFailed)
        assert isinstance(refused, InviteRefused)
        assert (refused.session, refused.status) == (session, 503)

    def test_a_late_answer_is_acknowledged_and_ended(self) -> None:
        bench, peer = Bench(), SipPeer()
        session = call(bench, OTHER)
        ((first, _),) = out(bench)
        bench.advance(5.1)
        assert isinstance(bench.events()[0], TargetFailed)
        bench.receive(peer.respond(first, 180, "Ringing"))
        assert bench.stack.clients
        ok = peer.respond(first, 200, sdp=SDP)
        assert [read(one).method for one in bench.receive(ok)] == ["ACK", "BYE"]
        assert [read(one).method for one in bench.receive(ok)] == ["ACK"]
        assert bench.events() == []
        assert session.state == "calling"

    def test_each_branch_of_a_late_fork_is_ended(self) -> None:
        bench, peer = Bench(), SipPeer()
        call(bench, OTHER)
        ((first, _),) = out(bench)
        bench.advance(5.1)
        for tag in ("one", "two"):
            peer.local_tag = tag
            ok = peer.respond(first, 200, sdp=SDP)
            ack, bye = (read(one) for one in bench.receive(ok))
            assert (ack.method, bye.method) == ("ACK", "BYE")
            assert f"tag={tag}" in ack.header("to") and f"tag={tag}" in bye.header("to")
            assert [read(one).method for one in bench.receive(ok)] == ["ACK"]

    def test_a_target_that_dies_behind_its_challenge_is_given_up_as_soon(self) -> None:
        bench, peer = Bench(), SipPeer()
        uri = parse_uri("sip:bob@example.com")
        credentials = DigestClient(Credentials("us", "secret"), lambda: "c")
        bench.stack.invite(
            uri, from_uri=uri, to_uri=uri, sdp=SDP, hop=PEER, now=bench.now, others=[OTHER], credentials=credentials
        )
        ((first, _),) = out(bench)
        bench.receive(peer.respond(first, 100, "Trying"))
        (asks,) = DigestServer("here", lambda: "d").challenges(bench.now)[:1]
        bench.receive(peer.respond(first, 401, "Who", headers=f"WWW-Authenticate: {asks}\r\n"))
        out(bench)
        bench.events()
        bench.advance(5.1)
        (failed,) = bench.events()
        assert isinstance(failed, TargetFailed) and failed.status == 408

    @pytest.mark.parametrize("then", ["nothing", "ringing", "cancelled"])
    def test_the_target_behind_422_is_given_up_only_where_it_dies(self, then: str) -> None:
        bench, peer = Bench(), SipPeer()
        session = call(bench, OTHER)
        ((first, _),) = out(bench)
        bench.receive(peer.respond(first, 100, "Trying"))
        least = "Min-SE: 7200\r\n"
        _, second = bench.receive(peer.respond(first, 422, "Session Interval Too Small", headers=least))
        if then == "ringing":
            bench.receive(peer.respond(second, 180, "Ringing"))
        elif then == "cancelled":
            bench.stack.hang_up(session, bench.now)
        bench.events()
        bench.advance(5.1)
        assert [type(event) for event in bench.events()] == ([TargetFailed] if then == "nothing" else [])

    def test_a_late_ringing_is_cancelled_once(self) -> None:
        bench, peer = Bench(), SipPeer()
        call(bench, OTHER)
        ((first, _),) = out(bench)
        bench.advance(5.1)
        for expected in (["CANCEL"], []):
            assert [read(one).method for one in bench.receive(peer.respond(first, 180, "Ringing"))] == expected

    def test_a_call_that_was_given_up_goes_nowhere_else(self) -> None:
        bench = Bench()
        session = call(bench, OTHER)
        out(bench)
        bench.stack.hang_up(session, bench.now)
        assert bench.event(SessionEnded).session is session
        assert {line for _, line in bench.advance(40.0)} == {"INVITE"}
        assert not any(isinstance(event, TargetFailed) for event in bench.events())

    def test_nothing_is_left(self) -> None:
        bench = Bench()
        call(bench, OTHER)
        bench.advance(200.0)
        assert bench.stack.is_idle


class TestUnreachable:
    """RFC 3261 section 18.4, and who may say so."""

    @pytest.mark.rfc(3261)
    @pytest.mark.rfc(3263)
    def test_a_request_that_nobody_has_answered_hears_of_it(self) -> None:
        bench = Bench()
        session = call(bench)
        bench.stack.refused("127.0.0.2", PEER.port, bench.now)
        bench.stack.refused(PEER.host, PEER.port + 1, bench.now)
        assert bench.events() == []
        bench.stack.refused(PEER.host, PEER.port, bench.now)
        assert bench.event(InviteRefused) == InviteRefused(session, 503, "503 the peer cannot be reached")

    @pytest.mark.rfc(3261)
    @pytest.mark.rfc(3263)
    def test_icmp_ends_no_call_that_somebody_has_answered(self) -> None:
        """Anybody can write an ICMP message, and the addresses and ports of a call are no secret."""
        bench, peer = Bench(), SipPeer()
        session = call(bench)
        (invite,) = bench.sent()
        bench.receive(peer.respond(invite, 180))
        bench.stack.refused(PEER.host, PEER.port, bench.now)
        bench.receive(peer.respond(invite, 200, sdp=SDP))
        bench.stack.refused(PEER.host, PEER.port, bench.now)
        assert session.is_open
        bench.stack.hang_up(session, bench.now)
        bench.sent()
        bench.stack.refused(PEER.host, PEER.port, bench.now)
        # The BYE is repeated until it is answered.
        assert bench.advance(2.0) == [(0.5, "BYE"), (1.5, "BYE")]


@pytest.mark.rfc(3263)
def test_the_next_target_may_ask_for_credentials_as_the_one_before_it_has() -> None:
    bench, peer = Bench(), SipPeer()
    uri = parse_uri("sip:bob@example.com")
    client = DigestClient(Credentials("us", "right"), lambda: "c")
    bench.stack.invite(
        uri, from_uri=uri, to_uri=uri, sdp=SDP, hop=PEER, now=bench.now, others=[OTHER], credentials=client
    )
    went = []
    for status in (401, 503, 401):
        ((data, hop),) = out(bench)
        went.append(hop)
        asks = "".join(
            f"WWW-Authenticate: {value}\r\n" for value in DigestServer("c", iter("abcd").__next__).challenges(0)
        )
        bench.stack.receive(peer.respond(data, status, headers=asks if status == 401 else ""), hop, bench.now)
        del bench.stack.out[0]  # our ACK
    ((data, hop),) = out(bench)
    assert [*went, hop] == [PEER, PEER, OTHER, OTHER] and read(data).header("authorization")
    assert [type(event) for event in bench.events()] == [TargetFailed]
