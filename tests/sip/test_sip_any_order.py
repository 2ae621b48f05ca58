"""Whatever comes in whatever order from a peer that knows the call: one end is told, and nothing is left."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentstream.errors import LocalProtocolError
from agentstream.sip.events import InviteCancelled, InviteReceived, InviteRefused, ReinviteReceived, SessionEnded
from agentstream.sip.stack import Session
from agentstream.sip.uri import parse_uri
from agentstream.testing.sip_peer import SipPeer, read
from tests.sip.kit import PEER, SDP, Bench

pytestmark = pytest.mark.rfc(3261)

STATUSES = st.sampled_from([100, 180, 183, 200, 302, 486, 487, 500, 603])
ENDS = (InviteCancelled, InviteRefused, SessionEnded)
ACTIONS = st.one_of(
    st.tuples(st.just("status"), STATUSES, st.integers(0, 1)),
    st.tuples(st.sampled_from(["bye", "reinvite", "cancel", "ack", "info", "options", "answer", "reject", "hang up"])),
    st.tuples(st.just("wait"), st.sampled_from([0.1, 0.6, 4.0, 33.0, 61.0])),
)


class Ends:
    """Counts the end of one session."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.session: Session | None = None
        self.ends: list[object] = []

    def look(self) -> None:
        for event in self.bench.events():
            if isinstance(event, InviteReceived) and self.session is None:
                self.session = event.session
            if isinstance(event, ENDS) and event.session is self.session:
                self.ends.append(event)
            if isinstance(event, ReinviteReceived):
                assert not self.ends

    def owner(self, action: str) -> None:
        session = self.session
        assert session is not None
        try:
            if action == "answer":
                self.bench.stack.answer(session, SDP, self.bench.now)
            elif action == "reject":
                self.bench.stack.reject(session, 486, self.bench.now)
            elif action == "hang up":
                self.bench.stack.hang_up(session, self.bench.now, "over")
        except LocalProtocolError:
            pass

    def finish(self) -> None:
        self.look()
        self.owner("hang up")
        self.look()
        assert len(self.ends) == 1
        assert self.session is not None
        assert self.session.state == "ended"
        for _ in range(10_000):
            deadline = self.bench.stack.next_timer()
            if deadline is None:
                break
            self.bench.now = max(self.bench.now, deadline)
            self.bench.stack.handle_timer(self.bench.now)
        self.look()
        assert len(self.ends) == 1
        self.bench.settle()


@given(st.lists(ACTIONS, max_size=10))
@settings(max_examples=300, deadline=None)
def test_a_call_of_ours(actions: list[tuple[object, ...]]) -> None:
    bench = Bench()
    ends = Ends(bench)
    uri = parse_uri("sip:bob@127.0.0.1:5090")
    ends.session = bench.stack.invite(uri, from_uri=uri, to_uri=uri, sdp=SDP, hop=PEER, now=bench.now)
    (invite,) = bench.sent()
    peers = SipPeer(user="one"), SipPeer(user="two")
    for peer in peers:
        peer.called_by(invite)
    peer = peers[0]
    for action in actions:
        match action:
            case ("status", int() as status, int() as which):
                bench.receive(peers[which].respond(invite, status, "X", SDP))
            case ("wait", float() as seconds):
                bench.advance(seconds)
            case ("bye",):
                bench.receive(peer.bye())
            case ("reinvite",):
                bench.receive(peer.invite(SDP))
            case ("cancel",):
                bench.receive(peer.cancel())
            case ("ack",):
                bench.receive(peer.ack())
            case ("info" | "options" as method,):
                bench.receive(peer.request(method.upper()))
            case (str() as command,):
                ends.owner(command)
        bench.sent()
        ends.look()
    ends.finish()


@given(st.lists(ACTIONS, max_size=10))
@settings(max_examples=300, deadline=None)
def test_a_call_to_us(actions: list[tuple[object, ...]]) -> None:
    bench, peer = Bench(), SipPeer()
    ends = Ends(bench)
    bench.receive(peer.invite())
    ends.look()
    for action in actions:
        answers: list[bytes] = []
        match action:
            case ("status", *_):
                continue
            case ("wait", float() as seconds):
                bench.advance(seconds)
            case ("bye",):
                answers = bench.receive(peer.bye())
            case ("reinvite",):
                answers = bench.receive(peer.invite(SDP))
            case ("cancel",):
                answers = bench.receive(peer.cancel())
            case ("ack",):
                answers = bench.receive(peer.ack())
            case ("info" | "options" as method,):
                answers = bench.receive(peer.request(method.upper()))
            case (str() as command,):
                ends.owner(command)
        for data in [*answers, *bench.sent()]:
            if read(data).status:
                peer.take(data)
        ends.look()
    ends.finish()
