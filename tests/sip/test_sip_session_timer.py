"""Session timers (RFC 4028): what is agreed on, who refreshes, by what and when, and the end where nobody does."""

from __future__ import annotations

import pytest

from agentstream.sip.events import (
    InviteAnswered,
    InviteReceived,
    InviteRefused,
    ReinviteAnswered,
    ReinviteReceived,
    RequestRefused,
    SessionEnded,
    SessionRefreshed,
)
from agentstream.sip.headers import Headers
from agentstream.sip.session_timer import Intervals, SessionExpires, read_min_se, read_session_expires
from agentstream.sip.stack import Session
from agentstream.testing.sip_peer import Received, SipPeer, read
from tests.sip.kit import SDP, Bench
from tests.sip.test_sip_reinvite import offers
from tests.sip.test_sip_uac import call

pytestmark = pytest.mark.rfc(4028)

TIMER = "Supported: timer\r\n"
UPDATE = "Allow: INVITE, ACK, BYE, CANCEL, UPDATE\r\n"


def answered(bench: Bench, peer: SipPeer, headers: str) -> tuple[Session, Received]:
    """A call that is up, with these headers in its INVITE, and our 200."""
    bench.receive(peer.invite(headers=headers))
    session = bench.event(InviteReceived).session
    bench.stack.answer(session, SDP, bench.now)
    ok = peer.take(bench.sent()[0])
    bench.receive(peer.ack())
    bench.events()
    return session, ok


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("90", SessionExpires(90)),
        ("1800;refresher=uac", SessionExpires(1800, "uac")),
        (" 1800 ; REFRESHER = UAS ;other", SessionExpires(1800, "uas")),
        ("120;refresher=both", SessionExpires(120)),
        ("0", None),
        ("-90", None),
        ("soon", None),
        ("90;;", None),
        ("99999999999", None),
    ],
)
def test_the_value_of_session_expires(value: str, expected: SessionExpires | None) -> None:
    assert read_session_expires(Headers([("x", value)])) == expected


@pytest.mark.parametrize(("value", "expected"), [("120", 120), ("60", 90), ("x", 90), ("300;a=b", 300)])
def test_the_value_of_min_se(value: str, expected: int) -> None:
    assert read_min_se(Headers([("Min-SE", value)])) == expected
    assert read_min_se(Headers()) == 90


@pytest.mark.parametrize(
    ("headers", "session_expires", "requires"),
    [
        # Table 2 of section 9, row by row.
        ("Session-Expires: 300\r\n", "300;refresher=uas", ""),
        (TIMER + "Session-Expires: 300;refresher=uac\r\n", "300;refresher=uac", "timer"),
        (TIMER + "Session-Expires: 300;refresher=uas\r\n", "300;refresher=uas", ""),
        (TIMER + "Session-Expires: 300\r\n", "300;refresher=uas", ""),
        ("Require: timer\r\nSession-Expires: 300;refresher=uac\r\n", "300;refresher=uac", "timer"),
        # None is asked for: ours, if the caller knows of timers.
        (TIMER, "1800;refresher=uas", ""),
        (TIMER + "Min-SE: 3600\r\n", "3600;refresher=uas", ""),
        ("", "", ""),
        ("Session-Expires: nonsense\r\n", "", ""),
        # A proxy's wish, too short for anybody.
        ("Session-Expires: 30\r\n", "", ""),
    ],
)
def test_what_an_answer_agrees_to(headers: str, session_expires: str, requires: str) -> None:
    bench, peer = Bench(), SipPeer()
    _, ok = answered(bench, peer, headers)
    assert (ok.header("session-expires"), ok.header("require")) == (session_expires, requires)
    assert "timer" in ok.header("supported")


def test_no_interval_of_ours_where_none_is_wanted() -> None:
    bench, peer = Bench(intervals=Intervals(0)), SipPeer()
    _, ok = answered(bench, peer, TIMER)
    assert ok.header("session-expires") == ""
    bench.advance(10_000)
    bench.receive(peer.bye())
    bench.settle()


@pytest.mark.parametrize("least_s", [90, 600])
def test_an_interval_that_is_too_short_is_422(least_s: int) -> None:
    bench, peer = Bench(intervals=Intervals(1800, least_s)), SipPeer()
    (data,) = bench.receive(peer.invite(headers=TIMER + f"Session-Expires: {least_s - 1}\r\n"))
    refusal = read(data)
    assert (refusal.status, refusal.header("min-se")) == (422, str(least_s))
    assert bench.event(RequestRefused).status == 422
    bench.receive(peer.ack_refusal(data))
    _, ok = answered(bench, peer, TIMER + f"Session-Expires: {least_s}\r\nMin-SE: {least_s}\r\n")
    assert ok.header("session-expires") == f"{least_s};refresher=uas"


@pytest.mark.parametrize("method", ["INVITE", "UPDATE"])
def test_a_refresh_that_is_too_short_is_422_and_the_call_goes_on(method: str) -> None:
    bench, peer = Bench(), SipPeer()
    session, _ = answered(bench, peer, TIMER)
    headers = TIMER + "Session-Expires: 60\r\n"
    data = peer.invite(headers=headers) if method == "INVITE" else peer.request(method, headers=headers)
    assert read(bench.receive(data)[-1]).status == 422
    assert session.state == "confirmed"


class TestWeRefresh:
    """Section 7.4: at half of the interval."""

    def test_by_update_where_the_peer_allows_it(self) -> None:
        bench, peer = Bench(), SipPeer()
        session, _ = answered(bench, peer, TIMER + UPDATE + "Session-Expires: 90\r\n")
        for number in range(1, 6):
            assert bench.advance(44.9) == []
            bench.now += 0.2
            bench.stack.handle_timer(bench.now)
            (data,) = bench.sent()
            update = read(data)
            assert update.first.startswith("UPDATE ") and update.body == b""
            assert update.header("cseq") == f"{number} UPDATE"
            assert update.header("session-expires") == "90;refresher=uac"
            assert "timer" in update.header("supported")
            assert update.header("contact") == "<sip:127.0.0.1:5060>"
            bench.receive(peer.respond(data, 200, headers="Session-Expires: 90;refresher=uac\r\nRequire: timer\r\n"))
        assert bench.events() == [] and session.state == "confirmed"
        bench.receive(peer.bye())
        bench.settle()

    def test_by_a_reinvite_that_changes_nothing_where_not(self) -> None:
        bench, peer = Bench(), SipPeer()
        session, _ = answered(bench, peer, TIMER + "Session-Expires: 90\r\n")
        bench.now += 45
        bench.stack.handle_timer(bench.now)
        (data,) = bench.sent()
        invite = read(data)
        assert invite.first.startswith("INVITE ") and invite.body == SDP
        assert invite.header("session-expires") == "90;refresher=uac"
        (ack,) = bench.receive(peer.respond(data, 200, sdp=SDP, headers="Session-Expires: 90;refresher=uac\r\n"))
        assert read(ack).method == "ACK"
        assert bench.event(SessionRefreshed) == SessionRefreshed(session, SDP)
        assert "BYE" not in [line for _, line in bench.advance(45)]

    @pytest.mark.parametrize("status", [405, 501])
    def test_by_a_reinvite_where_update_is_refused_after_all(self, status: int) -> None:
        bench, peer = Bench(), SipPeer()
        answered(bench, peer, TIMER + UPDATE + "Session-Expires: 90\r\n")
        bench.now += 45
        bench.stack.handle_timer(bench.now)
        (data,) = bench.sent()
        assert [read(one).method for one in bench.receive(peer.respond(data, status, "No"))] == ["INVITE"]

    def test_with_a_longer_interval_behind_422(self) -> None:
        bench, peer = Bench(), SipPeer()
        session, _ = answered(bench, peer, TIMER + UPDATE + "Session-Expires: 90\r\n")
        bench.now += 45
        bench.stack.handle_timer(bench.now)
        (data,) = bench.sent()
        (data,) = bench.receive(peer.respond(data, 422, "Session Interval Too Small", headers="Min-SE: 200\r\n"))
        assert read(data).header("session-expires") == "200;refresher=uac"
        assert read(data).header("min-se") == "200"
        bench.receive(peer.respond(data, 200, headers="Session-Expires: 200;refresher=uac\r\n"))
        assert bench.advance(99) == [] and session.state == "confirmed"

    def test_again_when_it_was_refused_and_the_call_ends_when_it_expires(self) -> None:
        """Section 10: retried, and BYE when the interval ends without a 2xx."""
        bench, peer = Bench(), SipPeer()
        answered(bench, peer, TIMER + UPDATE + "Session-Expires: 90\r\n")
        tries = 0
        began = bench.now
        while True:
            bench.now = max(bench.now, bench.stack.next_timer() or 0)
            bench.stack.handle_timer(bench.now)
            for data in bench.sent():
                if read(data).method == "UPDATE":
                    tries += 1
                    bench.receive(peer.respond(data, 503, "Busy"))
                else:
                    assert read(data).method == "BYE"
            if events := bench.events():
                break
        assert tries >= 3
        assert bench.now - began == pytest.approx(60)
        assert events[0] == SessionEnded(events[0].session, "timeout", "the session was not refreshed in time")  # type: ignore[union-attr]
        bench.settle()

    @pytest.mark.parametrize(("status", "by"), [(408, "timeout"), (481, "remote")])
    def test_a_peer_that_has_lost_the_call_ends_it(self, status: int, by: str) -> None:
        bench, peer = Bench(), SipPeer()
        answered(bench, peer, TIMER + UPDATE + "Session-Expires: 90\r\n")
        bench.now += 45
        bench.stack.handle_timer(bench.now)
        (data,) = bench.sent()
        assert [read(one).method for one in bench.receive(peer.respond(data, status, "Gone"))] == ["BYE"]
        assert bench.event(SessionEnded).by == by
        bench.settle()

    def test_no_answer_at_all(self) -> None:
        bench, peer = Bench(), SipPeer()
        answered(bench, peer, TIMER + UPDATE + "Session-Expires: 1800\r\n")
        lines = bench.advance(900 + 33)
        assert lines[0] == (900.0, "UPDATE")
        assert (932.0, "BYE") in lines
        assert bench.event(SessionEnded).by == "timeout"
        bench.settle()

    def test_a_change_of_ours_waits_for_the_refresh(self) -> None:
        bench, peer = Bench(), SipPeer()
        session, _ = answered(bench, peer, TIMER + "Session-Expires: 90\r\n")
        bench.now += 45
        bench.stack.handle_timer(bench.now)
        (data,) = bench.sent()
        bench.stack.reinvite(session, offers(), bench.now)
        assert bench.sent() == []
        sent = bench.receive(peer.respond(data, 200, sdp=SDP, headers="Session-Expires: 90;refresher=uac\r\n"))
        assert [read(one).method for one in sent] == ["ACK", "INVITE"]
        assert read(sent[1]).body == b"v=0\r\no=1\r\n"
        bench.event(SessionRefreshed)
        bench.receive(peer.respond(sent[1], 200, sdp=SDP, headers="Session-Expires: 90;refresher=uac\r\n"))
        bench.event(ReinviteAnswered)


class TestThePeerRefreshes:
    def test_the_call_goes_on_as_long_as_it_does(self) -> None:
        bench, peer = Bench(), SipPeer()
        _, ok = answered(bench, peer, TIMER + "Session-Expires: 90;refresher=uac\r\n")
        for _ in range(5):
            assert bench.advance(45) == []
            (data,) = bench.receive(peer.request("UPDATE", headers=TIMER + "Session-Expires: 90;refresher=uac\r\n"))
            ok = read(data)
            assert (ok.status, ok.header("session-expires")) == (200, "90;refresher=uac")
            assert ok.header("require") == "timer"
        assert bench.events() == []

    def test_by_reinvite(self) -> None:
        bench, peer = Bench(), SipPeer()
        session, _ = answered(bench, peer, TIMER + "Session-Expires: 90;refresher=uac\r\n")
        bench.advance(45)
        bench.receive(peer.invite(headers=TIMER + "Session-Expires: 90;refresher=uac\r\n"))
        bench.event(ReinviteReceived)
        bench.stack.answer(session, SDP, bench.now)
        ok = peer.take(bench.sent()[0])
        assert ok.header("session-expires") == "90;refresher=uac"
        bench.receive(peer.ack())
        assert bench.advance(59) == []

    @pytest.mark.parametrize(("interval_s", "ends_s"), [(90, 60.0), (96, 64.0), (120, 88.0), (1800, 1768.0)])
    def test_one_that_does_not_is_hung_up_on(self, interval_s: int, ends_s: float) -> None:
        """Section 10: before the end, by the lesser of 32 s and a third of the interval."""
        bench, peer = Bench(), SipPeer()
        answered(bench, peer, TIMER + f"Session-Expires: {interval_s};refresher=uac\r\n")
        assert bench.advance(ends_s + 0.4) == [(ends_s, "BYE")]
        assert bench.event(SessionEnded).reason == "the session was not refreshed in time"
        bench.settle()

    def test_a_change_without_an_interval_keeps_interval_and_roles(self) -> None:
        bench, peer = Bench(), SipPeer()
        session, _ = answered(bench, peer, TIMER + "Session-Expires: 120;refresher=uac\r\n")
        bench.receive(peer.invite(headers=TIMER))
        bench.event(ReinviteReceived)
        bench.stack.answer(session, SDP, bench.now)
        assert read(bench.sent()[0]).header("session-expires") == "120;refresher=uac"

    def test_one_that_knows_no_timers_any_more_ends_the_timer_and_not_the_call(self) -> None:
        bench, peer = Bench(), SipPeer()
        session, _ = answered(bench, peer, TIMER + "Session-Expires: 120;refresher=uac\r\n")
        bench.receive(peer.invite())
        bench.event(ReinviteReceived)
        bench.stack.answer(session, SDP, bench.now)
        peer.take(bench.sent()[0])
        bench.receive(peer.ack())
        bench.events()
        assert bench.advance(1000) == [] and session.state == "confirmed"


class TestOurCalls:
    def test_what_our_invite_asks_for(self) -> None:
        bench = Bench(intervals=Intervals(600, 120))
        _, data = call(bench)
        invite = read(data)
        assert (invite.header("session-expires"), invite.header("min-se")) == ("600", "120")
        assert "timer" in invite.header("supported")

    @pytest.mark.parametrize(
        ("headers", "first"),
        [
            ("Session-Expires: 90;refresher=uac\r\nRequire: timer\r\n", (45.0, "INVITE")),
            ("Session-Expires: 90;refresher=uac\r\nRequire: timer\r\n" + UPDATE, (45.0, "UPDATE")),
            ("Session-Expires: 90;refresher=uas\r\n", (60.0, "BYE")),
        ],
    )
    def test_who_refreshes_is_what_the_callee_says(self, headers: str, first: tuple[float, str]) -> None:
        bench, peer = Bench(), SipPeer()
        _, data = call(bench)
        bench.receive(peer.respond(data, 200, sdp=SDP, headers=headers))
        bench.event(InviteAnswered)
        assert bench.advance(61)[0] == first

    def test_a_callee_without_timers_has_none(self) -> None:
        bench, peer = Bench(), SipPeer()
        session, data = call(bench)
        bench.receive(peer.respond(data, 200, sdp=SDP))
        bench.event(InviteAnswered)
        assert bench.advance(10_000) == [] and session.state == "confirmed"

    def test_422_is_tried_again_with_the_longer_interval(self) -> None:
        """Section 7.3: the same Call-ID, From and To; the next CSeq."""
        bench, peer = Bench(intervals=Intervals(90)), SipPeer()
        session, first = call(bench)
        bench.receive(peer.respond(first, 100, "Trying"))
        ack, second = bench.receive(peer.respond(first, 422, "Session Interval Too Small", headers="Min-SE: 300\r\n"))
        one, two = read(first), read(second)
        assert read(ack).method == "ACK"
        assert (two.header("session-expires"), two.header("min-se"), two.header("cseq")) == ("300", "300", "2 INVITE")
        for name in ("call-id", "from", "to", "x-campaign"):
            assert one.header(name) == two.header(name)
        assert one.header("via") != two.header("via") and two.body == SDP
        assert bench.events() == []
        (ack,) = bench.receive(peer.respond(second, 200, sdp=SDP, headers="Session-Expires: 300;refresher=uac\r\n"))
        assert read(ack).header("cseq") == "2 ACK"
        assert bench.event(InviteAnswered).session is session
        bench.stack.hang_up(session, bench.now)
        (bye,) = bench.sent()
        assert read(bye).header("cseq") == "3 BYE"
        bench.receive(peer.respond(bye, 200))
        bench.settle()

    def test_a_callee_that_is_never_content(self) -> None:
        bench, peer = Bench(), SipPeer()
        _, data = call(bench)
        least_s, tries = 2000, 1
        while True:
            sent = bench.receive(peer.respond(data, 422, "Too Small", headers=f"Min-SE: {least_s}\r\n"))
            least_s += 1000
            if len(sent) == 1:
                break
            data, tries = sent[1], tries + 1
        assert tries == 4
        assert bench.event(InviteRefused).status == 422
        bench.settle()

    def test_a_422_that_asks_for_nothing_longer(self) -> None:
        bench, peer = Bench(), SipPeer()
        _, data = call(bench)
        assert len(bench.receive(peer.respond(data, 422, "Too Small"))) == 1
        assert bench.event(InviteRefused).status == 422
        bench.settle()

    def test_a_cancelled_call_is_not_tried_again(self) -> None:
        bench, peer = Bench(), SipPeer()
        session, data = call(bench)
        bench.receive(peer.respond(data, 180, "Ringing"))
        bench.stack.hang_up(session, bench.now)
        (cancel,) = bench.sent()
        bench.receive(peer.respond(cancel, 200))
        assert len(bench.receive(peer.respond(data, 422, "Too Small", headers="Min-SE: 3000\r\n"))) == 1
        bench.settle()
