"""Our own re-INVITEs, and what they meet (RFC 3261 sections 12.2.1 and 14)."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest

from agentstream.errors import LocalProtocolError
from agentstream.sip.events import (
    AckReceived,
    InviteAnswered,
    ReinviteAnswered,
    ReinviteReceived,
    ReinviteRefused,
    RequestRefused,
    SessionEnded,
)
from agentstream.sip.reinvite import MOST_TRIES
from agentstream.sip.stack import Session
from agentstream.testing.sip_peer import SipPeer, read
from tests.sip.kit import SDP, Bench
from tests.sip.test_sip_uac import call
from tests.sip.test_sip_uas import answer, ring

pytestmark = pytest.mark.rfc(3261)


def answered_by_us(bench: Bench, peer: SipPeer) -> Session:
    """A call that came in and is up; the peer owns its Call-ID."""
    return answer(bench, peer)


def answered_by_them(bench: Bench, peer: SipPeer) -> Session:
    """A call of ours that is up; we own its Call-ID."""
    session, invite = call(bench)
    bench.receive(peer.respond(invite, 200, sdp=SDP))
    bench.event(InviteAnswered)
    peer.called_by(invite)
    return session


Begin = Callable[[Bench, SipPeer], Session]
EITHER = pytest.mark.parametrize("begin", [answered_by_us, answered_by_them])


def offers() -> Callable[[], bytes]:
    """A new offer each time: o=1, o=2, ..."""
    numbers = itertools.count(1)
    return lambda: b"v=0\r\no=%d\r\n" % next(numbers)


def reinvited(bench: Bench, session: Session, make_offer: Callable[[], bytes] | None = None) -> bytes:
    bench.stack.reinvite(session, make_offer or offers(), bench.now)
    (invite,) = bench.sent()
    return invite


@EITHER
def test_a_change_that_is_accepted(begin: Begin) -> None:
    bench, peer = Bench(), SipPeer()
    session = begin(bench, peer)
    data = reinvited(bench, session)
    invite = read(data)
    assert invite.first == "INVITE sip:alice@127.0.0.1:5090 SIP/2.0"
    assert invite.header("cseq") == ("1 INVITE" if session.is_incoming else "2 INVITE")
    assert invite.header("contact") == "<sip:127.0.0.1:5060>"
    assert (invite.body, invite.header("content-type")) == (b"v=0\r\no=1\r\n", "application/sdp")
    assert bench.receive(peer.respond(data, 100, "Trying")) == []
    ok = peer.respond(data, 200, sdp=SDP)
    (ack,) = bench.receive(ok)
    assert read(ack).header("cseq") == invite.header("cseq").replace("INVITE", "ACK")
    assert read(ack).header("via") != invite.header("via")
    assert bench.event(ReinviteAnswered) == ReinviteAnswered(session, SDP)
    assert bench.receive(ok) == [ack], "each repeated 200 is acknowledged (13.2.2.4)"
    assert bench.events() == []
    assert reinvited(bench, session), "and the next one may follow"
    bench.stack.hang_up(session, bench.now)
    bench.settle()


@EITHER
def test_the_contact_of_its_answer_is_the_new_target(begin: Begin) -> None:
    bench, peer = Bench(), SipPeer()
    session = begin(bench, peer)
    data = reinvited(bench, session)
    moved = SipPeer(host="127.0.0.77", port=5999, local_tag=peer.local_tag)
    bench.stack.receive(moved.respond(data, 200, sdp=SDP), session.remote, bench.now)
    ack, hop = bench.stack.out.popleft()
    assert read(ack).first == "ACK sip:alice@127.0.0.77:5999 SIP/2.0"
    assert (hop.host, hop.port) == ("127.0.0.77", 5999)


@EITHER
@pytest.mark.parametrize("contact", ["<sip:a b>", "<tel:+4930>", '"a'])
def test_an_answer_with_a_broken_contact_is_acknowledged(begin: Begin, contact: str) -> None:
    """RFC 3261 section 13.2.2.4: a 2xx gets its ACK, whatever it carries; the target stays what it was."""
    bench, peer = Bench(), SipPeer()
    session = begin(bench, peer)
    ok = peer.respond(reinvited(bench, session), 200, sdp=SDP).replace(peer.contact().encode(), contact.encode())
    assert contact.encode() in ok
    (ack,) = bench.receive(ok)
    assert read(ack).first == "ACK sip:alice@127.0.0.1:5090 SIP/2.0"
    assert bench.event(ReinviteAnswered).session is session


@EITHER
def test_a_change_that_is_refused_leaves_the_session_as_it_was(begin: Begin) -> None:
    bench, peer = Bench(), SipPeer()
    session = begin(bench, peer)
    data = reinvited(bench, session)
    (ack,) = bench.receive(peer.respond(data, 488, "Not Acceptable Here"))
    assert read(ack).header("via") == read(data).header("via")
    assert bench.event(ReinviteRefused) == ReinviteRefused(session, 488, "488 Not Acceptable Here")
    assert session.state == "confirmed"
    assert [read(one).status for one in bench.receive(peer.bye())] == [200]
    bench.event(SessionEnded)
    bench.settle()


@pytest.mark.parametrize(("begin", "least", "most"), [(answered_by_us, 0.0, 2.0), (answered_by_them, 2.1, 4.0)])
def test_after_491_it_comes_again_in_its_time(begin: Begin, least: float, most: float) -> None:
    """14.1: 2.1 to 4 s for the owner of the Call-ID, 0 to 2 s for the other, in units of 10 ms."""
    pauses = set()
    for name in "abcdef":
        bench, peer = Bench(name=name), SipPeer()
        session = begin(bench, peer)
        data = reinvited(bench, session)
        bench.receive(peer.respond(data, 491, "Request Pending"))
        assert bench.events() == []
        deadlines = [when - bench.now for when, _, at in bench.stack.timers._heap if at.letter == "491"]
        pauses.add(round(deadlines[0], 3))
        assert bench.advance(most)[0] == (round(deadlines[0], 3), "INVITE")
    assert all(least <= pause <= most for pause in pauses)
    assert len(pauses) > 3
    assert all(round(pause * 100, 6) == round(pause * 100) for pause in pauses)


def test_the_offer_is_made_again_for_each_try() -> None:
    bench, peer = Bench(), SipPeer()
    session = answered_by_us(bench, peer)
    data = reinvited(bench, session)
    bench.receive(peer.respond(data, 491, "Request Pending"))
    sent = bench.next_sent()
    assert read(sent[0]).body == b"v=0\r\no=2\r\n"
    assert read(sent[0]).header("cseq") == "2 INVITE"
    bench.receive(peer.respond(sent[0], 200, sdp=SDP))
    bench.event(ReinviteAnswered)


def test_a_peer_that_says_491_for_ever() -> None:
    bench, peer = Bench(), SipPeer()
    session = answered_by_us(bench, peer)
    data, tries = reinvited(bench, session), 1
    while True:
        bench.receive(peer.respond(data, 491, "Request Pending"))
        if events := bench.events():
            break
        data, tries = bench.next_sent()[0], tries + 1
    assert tries == MOST_TRIES
    assert [type(event) for event in events] == [ReinviteRefused]


@EITHER
def test_glare_theirs_meets_ours(begin: Begin) -> None:
    """14.2: 491 to the one that comes while ours has no final response."""
    bench, peer = Bench(), SipPeer()
    session = begin(bench, peer)
    data = reinvited(bench, session)
    (refusal,) = bench.receive(peer.invite())
    assert read(refusal).status == 491
    assert bench.event(RequestRefused).status == 491
    bench.receive(peer.ack_refusal(refusal))
    bench.receive(peer.respond(data, 491, "Request Pending"))
    assert bench.events() == []
    bench.receive(peer.invite())
    bench.event(ReinviteReceived)
    bench.stack.answer(session, SDP, bench.now)
    peer.take(bench.sent()[0])
    assert "INVITE" not in [line for _, line in bench.advance(4)], "theirs has no ACK yet"
    assert [read(one).method for one in bench.receive(peer.ack())] == ["INVITE"], "and our pause is over"


@EITHER
def test_ours_waits_for_theirs(begin: Begin) -> None:
    """14.1: no INVITE while another transaction is in progress in either direction."""
    bench, peer = Bench(), SipPeer()
    session = begin(bench, peer)
    bench.receive(peer.invite())
    bench.event(ReinviteReceived)
    make_offer = offers()
    bench.stack.reinvite(session, make_offer, bench.now)
    assert bench.sent() == []
    bench.stack.answer(session, SDP, bench.now)
    peer.take(bench.sent()[0])
    (invite,) = bench.receive(peer.ack())
    assert read(invite).method == "INVITE"
    assert read(invite).body == b"v=0\r\no=1\r\n", "made when it is sent"
    bench.event(AckReceived)


@pytest.mark.parametrize("how", ["rejected", "cancelled"])
def test_ours_follows_when_theirs_came_to_nothing(how: str) -> None:
    bench, peer = Bench(), SipPeer()
    session = answered_by_us(bench, peer)
    bench.receive(peer.invite())
    bench.event(ReinviteReceived)
    bench.stack.reinvite(session, offers(), bench.now)
    if how == "rejected":
        bench.stack.reject(session, 488, bench.now)
        lines = bench.lines()
    else:
        lines = [str(one.status or one.method) for one in map(read, bench.receive(peer.cancel()))]
    assert lines[-1] == "INVITE"


def test_ours_waits_for_the_first_ack() -> None:
    bench, peer = Bench(), SipPeer()
    session = ring(bench, peer)
    with pytest.raises(LocalProtocolError):
        bench.stack.reinvite(session, offers(), bench.now)
    bench.stack.answer(session, SDP, bench.now)
    peer.take(bench.sent()[0])
    bench.stack.reinvite(session, offers(), bench.now)
    assert bench.sent() == []
    assert [read(one).method for one in bench.receive(peer.ack())] == ["INVITE"]


def test_one_at_a_time() -> None:
    bench, peer = Bench(), SipPeer()
    session = answered_by_us(bench, peer)
    reinvited(bench, session)
    with pytest.raises(LocalProtocolError):
        bench.stack.reinvite(session, offers(), bench.now)
    bench.stack.hang_up(session, bench.now)
    with pytest.raises(LocalProtocolError):
        bench.stack.reinvite(session, offers(), bench.now)


@EITHER
@pytest.mark.parametrize(("status", "by"), [(481, "remote"), (408, "timeout")])
def test_a_peer_that_has_lost_the_dialog(begin: Begin, status: int, by: str) -> None:
    """12.2.1.2: 481 and 408 end the dialog, with a BYE."""
    bench, peer = Bench(), SipPeer()
    session = begin(bench, peer)
    data = reinvited(bench, session)
    ack, bye = bench.receive(peer.respond(data, status, "Gone"))
    assert (read(ack).method, read(bye).method) == ("ACK", "BYE")
    ended = bench.event(SessionEnded)
    assert (ended.by, ended.reason) == (by, f"our re-INVITE: {status} Gone")
    bench.settle()


@EITHER
def test_a_peer_that_does_not_answer(begin: Begin) -> None:
    bench, peer = Bench(), SipPeer()
    session = begin(bench, peer)
    reinvited(bench, session)
    sent = bench.advance(33)
    assert [line for _, line in sent].count("INVITE") == 6
    assert "BYE" in [line for _, line in sent]
    assert bench.event(SessionEnded).by == "timeout"
    bench.settle()


def test_a_peer_that_is_always_trying() -> None:
    bench, peer = Bench(ring_limit_s=60), SipPeer()
    session = answered_by_us(bench, peer)
    data = reinvited(bench, session)
    bench.receive(peer.respond(data, 100, "Trying"))
    assert (60.0, "BYE") in bench.advance(61)
    assert bench.event(SessionEnded).reason == "no final answer to our re-INVITE"


def test_a_peer_that_is_always_trying_and_then_hangs_up() -> None:
    """Its INVITE never gets the 487 that 15.1.2 asks for."""
    bench, peer = Bench(), SipPeer()
    session = answered_by_us(bench, peer)
    data = reinvited(bench, session)
    bench.receive(peer.respond(data, 100, "Trying"))
    bench.receive(peer.bye())
    bench.event(SessionEnded)
    bench.advance(32.5)
    assert not bench.stack.clients
    bench.settle()


def test_an_unreachable_peer_keeps_its_call() -> None:
    bench, peer = Bench(), SipPeer()
    session = answered_by_us(bench, peer)
    reinvited(bench, session)
    bench.stack.send_failed(session.remote, bench.now)
    assert bench.event(ReinviteRefused).status == 503
    assert session.state == "confirmed"


@EITHER
def test_a_bye_that_crosses_it(begin: Begin) -> None:
    bench, peer = Bench(), SipPeer()
    session = begin(bench, peer)
    data = reinvited(bench, session)
    assert [read(one).status for one in bench.receive(peer.bye())] == [200]
    assert bench.event(SessionEnded).by == "remote"
    assert [read(one).method for one in bench.receive(peer.respond(data, 487, "Request Terminated"))] == ["ACK"]
    assert bench.events() == []
    bench.settle()


@EITHER
def test_our_bye_behind_it(begin: Begin) -> None:
    bench, peer = Bench(), SipPeer()
    session = begin(bench, peer)
    data = reinvited(bench, session)
    bench.stack.hang_up(session, bench.now)
    assert bench.lines() == ["BYE"]
    bench.event(SessionEnded)
    assert [read(one).method for one in bench.receive(peer.respond(data, 200, sdp=SDP))] == ["ACK"]
    assert bench.events() == []
    bench.settle()


def test_a_pause_after_491_ends_with_the_session() -> None:
    bench, peer = Bench(), SipPeer()
    session = answered_by_them(bench, peer)
    data = reinvited(bench, session)
    bench.receive(peer.respond(data, 491, "Request Pending"))
    bench.stack.hang_up(session, bench.now)
    assert "INVITE" not in [line for _, line in bench.advance(60)]
    bench.settle()
