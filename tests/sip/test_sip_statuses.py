"""Each status that this server refuses with, by the section of RFC 3261 that asks for it: one row each."""

from __future__ import annotations

from collections.abc import Callable

import attrs
import pytest

from agentstream.sip.events import InviteReceived
from agentstream.sip.framing import Framer
from agentstream.sip.stack import Hop
from agentstream.testing.sip_peer import Received, SipPeer, read, tag_of
from tests.sip.kit import SDP, Bench
from tests.sip.test_sip_uas import answer, ring

FRIEND, STRANGER = Hop("udp", "127.0.0.1", 5060, "u"), Hop("udp", "203.0.113.5", 5060, "u")
FIRST = "Max-Forwards: 70"


@attrs.define
class Scene:
    """A stack and a phone."""

    bench: Bench
    peer: SipPeer

    def invited(self, *changes: tuple[str, str], body: bytes = SDP) -> Received:
        """The last thing that is said to an INVITE with these changes."""
        data = self.peer.invite(body)
        for old, new in changes:
            assert old.encode() in data
            data = data.replace(old.encode(), new.encode(), 1)
        return read(self.bench.receive(data)[-1])

    def with_header(self, line: str, body: bytes = SDP) -> Received:
        return self.invited((FIRST, f"{line}\r\n{FIRST}"), body=body)

    def owner_refuses(self, status: int) -> Received:
        session = ring(self.bench, self.peer)
        self.bench.stack.reject(session, status, self.bench.now, "the owner says why")
        return self.bench.read()[-1]

    def from_stranger(self) -> Received:
        return read(self.bench.receive(self.peer.invite(), STRANGER)[-1])

    def asked(self, method: str) -> Received:
        return read(self.bench.receive(self.peer.request(method))[-1])

    def merged(self) -> Received:
        data = self.peer.invite()
        self.bench.receive(data)
        return read(self.bench.receive(data.replace(b"branch=z9hG4bK", b"branch=z9hG4bKother"))[-1])

    def cancelled(self) -> Received:
        ring(self.bench, self.peer)
        return read(self.bench.receive(self.peer.cancel())[-1])

    def reinvited_early(self) -> Received:
        session = ring(self.bench, self.peer)
        self.bench.stack.answer(session, SDP, self.bench.now)
        self.peer.take(self.bench.sent()[0])
        return read(self.bench.receive(self.peer.invite())[-1])

    def glare(self) -> Received:
        session = answer(self.bench, self.peer)
        self.bench.stack.reinvite(session, lambda: SDP, self.bench.now)
        self.bench.sent()
        return read(self.bench.receive(self.peer.invite())[-1])

    def out_of_order(self) -> Received:
        answer(self.bench, self.peer)
        self.peer.cseq -= 1
        return read(self.bench.receive(self.peer.bye())[-1])

    def two_at_once(self) -> Received:
        answer(self.bench, self.peer)
        self.bench.receive(self.peer.invite())
        return read(self.bench.receive(self.peer.invite())[-1])

    def expired(self) -> Received:
        self.bench.receive(self.peer.invite(headers="Expires: 5\r\n"))
        self.bench.stack.handle_timer(self.bench.now + 5)
        return self.bench.read()[-1]

    def draining(self) -> Received:
        self.bench.stack.is_draining = True
        return read(self.bench.receive(self.peer.invite())[-1])

    def on_a_stream(self, old: bytes, new: bytes) -> Received:
        framer = Framer()
        data = self.peer.options()
        assert old in data
        framer.receive(data.replace(old, new), self.bench.now)
        assert framer.failure is not None
        self.bench.stack.receive_unframed(framer.failure, FRIEND)
        return self.bench.read()[-1]


Ask = Callable[[Scene], Received]

# status, section of RFC 3261, a header that the answer must hold, what is asked
ROWS: list[tuple[int, str, str, Ask]] = [
    (400, "8.1.1.5 the CSeq names the method", "", lambda s: s.invited(("CSeq: 1 INVITE", "CSeq: 1 BYE"))),
    (400, "21.4.1 malformed syntax", "", lambda s: s.invited((FIRST, "no colon here"))),
    (400, "8.1.1.6 Max-Forwards is a number", "", lambda s: s.invited((FIRST, "Max-Forwards: x"))),
    (400, "20.14 a stream needs Content-Length", "", lambda s: s.on_a_stream(b"Content-Length: 0\r\n", b"")),
    (403, "21.4.4 an address of no trunk", "", Scene.from_stranger),
    (404, "21.4.5 no route", "", lambda s: s.owner_refuses(404)),
    (405, "8.2.1 a method that is known and not served", "allow", lambda s: s.asked("REGISTER")),
    (406, "21.4.7 Accept without application/sdp", "", lambda s: s.with_header("Accept: text/plain")),
    (406, "20.1 an empty Accept accepts nothing", "", lambda s: s.with_header("Accept: ")),
    (413, "21.4.11 a body of 20 kB", "", lambda s: s.invited(body=b"v=0" + b"x" * 20_000)),
    (513, "21.5.7 a stream's message of 99 kB", "", lambda s: s.on_a_stream(b"Length: 0", b"Length: 99999")),
    (414, "21.4.12 a Request-URI of 3 kB", "", lambda s: s.invited((":1000@", f":{'1' * 3000}@"))),
    (415, "8.2.3 a body of another type", "accept", lambda s: s.invited(("application/sdp", "text/plain"))),
    (415, "8.2.3 an encoding", "accept-encoding", lambda s: s.with_header("Content-Encoding: gzip")),
    (
        416,
        "8.2.2.1 a URI scheme",
        "",
        lambda s: s.invited(("INVITE sip:1000@127.0.0.1:5060", "INVITE urn:service:sos")),
    ),
    (420, "8.2.2.3 Require", "unsupported", lambda s: s.with_header("Require: 100rel, foo")),
    (481, "12.2.2 no such dialog", "", lambda s: s.asked("BYE")),
    (481, "9.2 nothing to cancel", "", lambda s: s.asked("CANCEL")),
    (482, "8.2.2.2 a merged request", "", Scene.merged),
    (486, "21.4.24 busy", "", lambda s: s.owner_refuses(486)),
    (487, "9.2 cancelled", "", Scene.cancelled),
    (487, "13.3.1 expired", "", Scene.expired),
    (488, "13.3.1.3 an offer that is not acceptable", "warning", lambda s: s.owner_refuses(488)),
    (491, "14.2 while an INVITE of ours is in progress", "", Scene.glare),
    (491, "RFC 5407 3.1.5 before the ACK", "", Scene.reinvited_early),
    (500, "12.2.2 a CSeq that is too low", "", Scene.out_of_order),
    (500, "14.2 a second INVITE before the first has its answer", "retry-after", Scene.two_at_once),
    (501, "21.5.2 a method that nobody knows", "allow", lambda s: s.asked("DANCE")),
    (503, "21.5.4 a node that is being stopped", "retry-after", Scene.draining),
    (505, "21.5.6 another version", "", lambda s: s.invited(("SIP/2.0\r\n", "SIP/7.0\r\n"))),
    (513, "21.5.7 headers of 40 kB", "", lambda s: s.with_header("X: " + "x" * 40_000)),
    (513, "21.5.7 a stream's headers of 17 kB", "", lambda s: s.on_a_stream(b"Contact", b"X: " + b"x" * 17_000)),
]


@pytest.mark.rfc(3261)
@pytest.mark.parametrize(("status", "section", "header", "ask"), ROWS, ids=[f"{row[0]} {row[1]}" for row in ROWS])
def test_status(status: int, section: str, header: str, ask: Ask) -> None:
    bench = Bench(lambda host: host != STRANGER.host)
    answered = ask(Scene(bench, SipPeer()))
    assert answered.status == status, answered
    assert answered.header("warning"), "every refusal says why"
    assert tag_of(answered.header("to")), "8.2.6.2"
    if header:
        assert answered.header(header)


@pytest.mark.rfc(3261)
def test_the_values_of_what_helps() -> None:
    bench = Bench()
    assert Scene(bench, SipPeer()).with_header("Require: 100rel, foo").header("unsupported") == "foo"
    assert "application/sdp" in Scene(bench, SipPeer()).invited(("application/sdp", "text/plain")).header("accept")


@pytest.mark.rfc(3261)
def test_483_is_for_proxies_only() -> None:
    """8.1.1.6 and 16.3: Max-Forwards counts hops; the last one is here."""
    bench = Bench()
    assert read(bench.receive(SipPeer().invite().replace(FIRST.encode(), b"Max-Forwards: 0"))[0]).status == 100
    bench.event(InviteReceived)


@pytest.mark.rfc(3261)
@pytest.mark.parametrize("accept", ["application/sdp", "text/plain, application/*", "*/*", "application/sdp;q=0.5"])
def test_an_accept_that_holds_sdp(accept: str) -> None:
    assert Scene(Bench(), SipPeer()).with_header(f"Accept: {accept}").status == 100


@pytest.mark.rfc(3261)
def test_a_body_that_is_optional_is_left_alone() -> None:
    """8.2.3: 415 is for a body that is "not optional (as indicated by the Content-Disposition header field)"."""
    bench = Bench()
    line = "Content-Disposition: render;handling=optional"
    answered = Scene(bench, SipPeer()).invited(("application/sdp", f"text/plain\r\n{line}"))
    assert answered.status == 100
    assert bench.event(InviteReceived).sdp == b""
