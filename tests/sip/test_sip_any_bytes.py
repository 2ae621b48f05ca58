"""Whatever arrives: nothing is raised, OPTIONS is still answered, and in the end nothing is left in any table."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentstream.errors import RemoteProtocolError
from agentstream.sip.events import InviteReceived, ReinviteReceived
from agentstream.sip.grammar import split_outside
from agentstream.sip.headers import parse_cseq, parse_name_addr, parse_reason, parse_via, stamp_via
from agentstream.sip.parser import parse_message
from agentstream.sip.uri import parse_uri
from agentstream.testing.sip_peer import SipPeer, read
from tests.sip.kit import SDP, Bench
from tests.sip.pieces import PIECES

pytestmark = pytest.mark.rfc(3261)

TEXT = st.text(alphabet=st.sampled_from('abz019<>"\\;,=:@?%&/[]. \t\r\n-_é\x00²٣'), max_size=60) | st.text(max_size=40)
MESSAGES = (
    SipPeer().invite(),
    SipPeer().options(),
    SipPeer(remote_tag="t0000001").bye(),
    SipPeer().cancel(),
    SipPeer().ack(),
    SipPeer().respond(SipPeer().invite(), 200, "OK", SDP),
)
BREAKING = st.sampled_from(
    [
        *PIECES,
        b"\t",
        b"z9hG4bK",
        b"Via: ",
        b"To: ",
        b"From: ",
        b"CSeq: ",
        b"Contact: ",
        b"Record-Route: ",
        b"Require: ",
        b"[::1%a]",
        b"99999999999",
    ]
)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A good message with a few cuts, insertions, repetitions and exchanges."""
    data = draw(st.sampled_from(MESSAGES))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        to = draw(st.integers(at, min(len(data), at + 30)))
        data = data[:at] + draw(BREAKING | st.binary(max_size=6) | st.just(data[at:to] * 2)) + data[to:]
    return data


@given(TEXT)
@settings(max_examples=300)
def test_parsers_raise_nothing_but_a_protocol_error(text: str) -> None:
    for parse in (parse_uri, parse_name_addr, parse_via, parse_cseq, parse_reason):
        try:
            parse(text)
        except RemoteProtocolError as error:
            assert error.status == 400
    try:
        stamp_via(text, "127.0.0.1", 1)
        split_outside(text, ",")
    except RemoteProtocolError as error:
        assert error.status == 400


@given(st.binary(max_size=300) | mutated())
@settings(max_examples=300)
def test_messages_raise_nothing_but_a_protocol_error(data: bytes) -> None:
    try:
        message = parse_message(data)
    except RemoteProtocolError:
        return
    assert message.encoding in ("utf-8", "iso-8859-1")


@given(st.lists(st.binary(max_size=200) | mutated(), min_size=1, max_size=4))
@settings(max_examples=250, deadline=None)
def test_the_stack_goes_on(datagrams: list[bytes]) -> None:
    bench = Bench()
    live, peer = SipPeer(user="live"), SipPeer(user="pinger")
    bench.receive(live.invite())
    session = bench.event(InviteReceived).session
    bench.stack.answer(session, SDP, bench.now)
    live.take(bench.sent()[0])
    bench.receive(live.ack())
    bench.events()
    for data in datagrams:
        bench.receive(data)
        for event in bench.events():
            if isinstance(event, InviteReceived | ReinviteReceived):
                bench.stack.answer(event.session, SDP, bench.now)
                bench.sent()
        (pong,) = bench.receive(peer.options())
        assert read(pong).status == 200
    assert session.state == "confirmed", "another call is not disturbed"
    (ok,) = bench.receive(live.bye())
    assert read(ok).status == 200
    bench.settle()


@given(st.lists(mutated(), min_size=1, max_size=3), st.sampled_from(["reject", "hang up", "nothing"]))
@settings(max_examples=100, deadline=None)
def test_nothing_is_left_whatever_the_owner_does(datagrams: list[bytes], choice: str) -> None:
    bench = Bench()
    for data in datagrams:
        bench.receive(data)
        for event in bench.events():
            if isinstance(event, InviteReceived):
                bench.stack.progress(event.session, bench.now)
                if choice == "reject":
                    bench.stack.reject(event.session, 486, bench.now, "busy")
                elif choice == "hang up":
                    bench.stack.hang_up(event.session, bench.now, "over")
                bench.sent()
    bench.settle()


def test_no_parser_is_slow_for_any_length() -> None:
    """What would be quadratic, or worse, takes many seconds at this length; all of this a few hundredths of one."""
    start = time.process_time()
    for piece in (b"<", b'"', b"\\", b";", b",", b" ", b"\t", b"\r\n ", b"%", b'"\\', b"a=", b"[", b"@", b"/"):
        data = SipPeer().invite().replace(b"Max-Forwards: 70", b"Contact: " + piece * (30_000 // len(piece)))
        Bench().receive(data)
        Bench().receive(data.replace(b"Contact: ", b"Via: "))
        Bench().receive(data.replace(b"Contact: ", b"Record-Route: "))
    assert time.process_time() - start < 2
