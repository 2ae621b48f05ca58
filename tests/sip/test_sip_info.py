"""INFO (RFC 6086): digits of both forms, in and out; and Reason (RFC 3326) with all its values."""

from __future__ import annotations

import pytest

from agentstream.errors import LocalProtocolError
from agentstream.sip.events import DigitReceived, InfoAnswered, InviteCancelled, RequestRefused, SessionEnded
from agentstream.sip.headers import Reason
from agentstream.sip.info import read_digit
from agentstream.testing.sip_peer import SipPeer, read
from tests.sip.kit import Bench
from tests.sip.test_sip_reinvite import answered_by_us
from tests.sip.test_sip_uas import ring

RELAY, PLAIN = "application/dtmf-relay", "application/dtmf"


@pytest.mark.rfc(6086)
@pytest.mark.parametrize(
    ("kind", "body", "expected"),
    [
        (RELAY, b"Signal=5\r\nDuration=160\r\n", ("5", 160)),
        (RELAY, b"Signal= 5\r\nDuration= 160", ("5", 160)),
        (RELAY, b"signal=a\nduration=80\n", ("A", 80)),
        (RELAY, b"Signal=*\r\n", ("*", 100)),
        (RELAY, b"Signal=11\r\nDuration=250\r\n", ("#", 250)),
        (RELAY, b"Signal=10\r\nDuration=0\r\n", ("*", 100)),
        (RELAY, b"Signal=5\r\nDuration=999999\r\n", ("5", 100)),
        (RELAY, b"Duration=160\r\n", None),
        (RELAY, b"Signal=E\r\n", None),
        (RELAY, b"Signal=55\r\n", None),
        (PLAIN, b"#", ("#", 100)),
        (PLAIN, b"7\r\n", ("7", 100)),
        (PLAIN, b"\xff", None),
        (PLAIN, b"", None),
        ("text/plain", b"5", None),
    ],
)
def test_the_digit_of_a_body(kind: str, body: bytes, expected: tuple[str, int] | None) -> None:
    assert read_digit(kind, body) == expected


@pytest.mark.rfc(6086)
def test_a_digit_of_the_peers() -> None:
    bench, peer = Bench(), SipPeer()
    session = answered_by_us(bench, peer)
    data = peer.request("INFO", body=b"Signal=5\r\nDuration=160\r\n", content_type=RELAY)
    assert read(bench.receive(data)[0]).status == 200
    assert bench.event(DigitReceived) == DigitReceived(session, "5", 160)
    assert read(bench.receive(data)[0]).status == 200
    assert bench.events() == [], "it was repeated"


@pytest.mark.rfc(6086)
@pytest.mark.parametrize(
    ("headers", "body", "status", "header"),
    [
        ("", b"", 200, ""),
        ("", b"hello", 415, "accept"),
        ("Info-Package: foo\r\n", b"hello", 469, "recv-info"),
    ],
)
def test_what_is_no_digit(headers: str, body: bytes, status: int, header: str) -> None:
    bench, peer = Bench(), SipPeer()
    answered_by_us(bench, peer)
    response = read(bench.receive(peer.request("INFO", headers=headers, body=body, content_type="text/plain"))[0])
    assert response.status == status
    assert not header or header in dict(response.fields)
    if status != 200:
        assert bench.event(RequestRefused).status == status


@pytest.mark.rfc(6086)
def test_an_info_for_nothing() -> None:
    assert read(Bench().receive(SipPeer().request("INFO"))[0]).status == 481


@pytest.mark.rfc(6086)
@pytest.mark.parametrize("status", [200, 415])
def test_a_digit_of_ours(status: int) -> None:
    bench, peer = Bench(), SipPeer()
    session = answered_by_us(bench, peer)
    bench.stack.send_digit(session, "#", 160, bench.now)
    (data,) = bench.sent()
    info = read(data)
    assert (info.method, info.header("content-type")) == ("INFO", RELAY)
    assert info.body == b"Signal=#\r\nDuration=160\r\n"
    bench.receive(peer.respond(data, status, "So"))
    assert bench.event(InfoAnswered) == InfoAnswered(session, status, f"{status} So")


@pytest.mark.rfc(6086)
def test_a_digit_that_is_not_answered() -> None:
    bench, peer = Bench(), SipPeer()
    session = answered_by_us(bench, peer)
    bench.stack.send_digit(session, "1", 100, bench.now)
    bench.advance(33)
    assert bench.event(InfoAnswered).status == 408
    bench.stack.hang_up(session, bench.now)
    with pytest.raises(LocalProtocolError):
        bench.stack.send_digit(session, "1", 100, bench.now)
    bench.events()
    bench.settle()


REASONS = 'Reason: SIP;cause=486;text="Busy Here"\r\nReason: Q.850;cause=17\r\n'


@pytest.mark.rfc(3326)
def test_every_cause_of_a_bye_is_kept() -> None:
    bench, peer = Bench(), SipPeer()
    answered_by_us(bench, peer)
    bench.receive(peer.bye(REASONS))
    ended = bench.event(SessionEnded)
    assert ended.reason == "Busy Here"
    assert ended.causes == (Reason("SIP", 486, "Busy Here"), Reason("Q.850", 17))


@pytest.mark.rfc(3326)
def test_every_cause_of_a_cancel_is_kept() -> None:
    bench, peer = Bench(), SipPeer()
    ring(bench, peer)
    bench.receive(peer.cancel('Reason: SIP;cause=200;text="Call completed elsewhere", Q.850;cause=26\r\n'))
    cancelled = bench.event(InviteCancelled)
    assert cancelled.causes == (Reason("SIP", 200, "Call completed elsewhere"), Reason("Q.850", 26))


@pytest.mark.rfc(3326)
def test_a_cause_that_cannot_be_read_is_nobodys_reason_to_refuse() -> None:
    bench, peer = Bench(), SipPeer()
    answered_by_us(bench, peer)
    assert read(bench.receive(peer.bye('Reason: Q.850;cause=16;text="never closed\r\n'))[0]).status == 200
    assert bench.event(SessionEnded).causes == ()
