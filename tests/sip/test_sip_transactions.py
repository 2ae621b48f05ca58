"""Each state against each input of the four machines, as the figures of RFC 3261 section 17 and RFC 6026 draw them."""

from __future__ import annotations

from collections import deque
from typing import Any

import pytest

from agentstream.sip.hop import Hop
from agentstream.sip.message import Request, Response
from agentstream.sip.parser import parse_message
from agentstream.sip.timers import Timers
from agentstream.sip.transactions import (
    ClientTransaction,
    InviteClientTransaction,
    InviteServerTransaction,
    NonInviteClientTransaction,
    NonInviteServerTransaction,
    Transaction,
)
from agentstream.testing.sip_peer import SipPeer

pytestmark = pytest.mark.rfc(3261)

# (state, input): (next state, what happens). What happens: "tu" told, "send" something, "fail" told, timers that run
# after it. A pair that is not here changes nothing and does nothing.
FIGURE_5: dict[tuple[str, str], tuple[str, str, str]] = {
    ("calling", "timer A"): ("calling", "send", "A"),
    ("calling", "timer B"): ("terminated", "fail 408", ""),
    ("calling", "transport error"): ("terminated", "fail 503", ""),
    ("calling", "1xx"): ("proceeding", "tu", ""),
    ("calling", "2xx"): ("accepted", "tu", "M"),
    ("calling", "3xx-6xx"): ("completed", "send tu", "D"),
    ("proceeding", "1xx"): ("proceeding", "tu", ""),
    ("proceeding", "2xx"): ("accepted", "tu", "M"),
    ("proceeding", "3xx-6xx"): ("completed", "send tu", "D"),
    ("completed", "3xx-6xx"): ("completed", "send", ""),
    ("completed", "transport error"): ("terminated", "fail 503", ""),
    ("completed", "timer D"): ("terminated", "", ""),
    ("accepted", "2xx"): ("accepted", "tu", ""),
    ("accepted", "timer M"): ("terminated", "", ""),
}
FIGURE_6: dict[tuple[str, str], tuple[str, str, str]] = {
    ("trying", "timer E"): ("trying", "send", "E"),
    ("trying", "timer F"): ("terminated", "fail 408", ""),
    ("trying", "transport error"): ("terminated", "fail 503", ""),
    ("trying", "1xx"): ("proceeding", "tu", ""),
    ("trying", "2xx"): ("completed", "tu", "K"),
    ("trying", "3xx-6xx"): ("completed", "tu", "K"),
    ("proceeding", "timer E"): ("proceeding", "send", "E"),
    ("proceeding", "timer F"): ("terminated", "fail 408", ""),
    ("proceeding", "transport error"): ("terminated", "fail 503", ""),
    ("proceeding", "1xx"): ("proceeding", "tu", ""),
    ("proceeding", "2xx"): ("completed", "tu", "K"),
    ("proceeding", "3xx-6xx"): ("completed", "tu", "K"),
    ("completed", "timer K"): ("terminated", "", ""),
}
FIGURE_7: dict[tuple[str, str], tuple[str, str, str]] = {
    ("proceeding", "INVITE"): ("proceeding", "again", ""),
    ("proceeding", "send 1xx"): ("proceeding", "send", ""),
    ("proceeding", "send 2xx"): ("accepted", "send", "L"),
    ("proceeding", "send 3xx-6xx"): ("completed", "send", "GH"),
    ("completed", "INVITE"): ("completed", "again", ""),
    ("completed", "ACK"): ("confirmed", "", "I"),
    ("completed", "timer G"): ("completed", "again", "G"),
    ("completed", "timer H"): ("terminated", "", ""),
    ("confirmed", "timer I"): ("terminated", "", ""),
    ("accepted", "send 2xx"): ("accepted", "send", ""),
    ("accepted", "timer L"): ("terminated", "", ""),
}
FIGURE_8: dict[tuple[str, str], tuple[str, str, str]] = {
    ("trying", "send 1xx"): ("proceeding", "send", ""),
    ("trying", "send 2xx"): ("completed", "send", "J"),
    ("trying", "send 3xx-6xx"): ("completed", "send", "J"),
    ("proceeding", "request"): ("proceeding", "again", ""),
    ("proceeding", "send 1xx"): ("proceeding", "send", ""),
    ("proceeding", "send 2xx"): ("completed", "send", "J"),
    ("proceeding", "send 3xx-6xx"): ("completed", "send", "J"),
    ("proceeding", "transport error"): ("terminated", "", ""),
    ("completed", "request"): ("completed", "again", ""),
    ("completed", "transport error"): ("terminated", "", ""),
    ("completed", "timer J"): ("terminated", "", ""),
}
CLIENT_INPUTS = ("1xx", "2xx", "3xx-6xx", "transport error")
SERVER_INPUTS = ("send 1xx", "send 2xx", "send 3xx-6xx", "transport error")
MACHINES: list[tuple[type[Transaction], dict[tuple[str, str], tuple[str, str, str]], str, tuple[str, ...]]] = [
    (InviteClientTransaction, FIGURE_5, "ABDM", CLIENT_INPUTS),
    (NonInviteClientTransaction, FIGURE_6, "EFK", CLIENT_INPUTS),
    (InviteServerTransaction, FIGURE_7, "GHIL", (*SERVER_INPUTS, "INVITE", "ACK")),
    (NonInviteServerTransaction, FIGURE_8, "J", (*SERVER_INPUTS, "request")),
]
STATUS = {"1xx": 180, "2xx": 200, "3xx-6xx": 486}


class User:
    """The TU, as a list."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def response_received(self, transaction: ClientTransaction, response: Response, now: float) -> None:
        self.heard.append("tu")

    def transaction_failed(self, transaction: ClientTransaction, status: int, now: float) -> None:
        self.heard.append(f"fail {status}")

    def transaction_ended(self, transaction: Transaction, now: float) -> None:
        self.heard.append("ended")


def _cases() -> list[Any]:
    cases = []
    for machine, figure, letters, inputs in MACHINES:
        states = sorted({state for state, _ in figure} - {"terminated"})
        for state in states:
            for event in (*inputs, *(f"timer {letter}" for letter in letters)):
                cases.append(pytest.param(machine, figure, state, event, id=f"{machine.__name__}-{state}-{event}"))
    return cases


@pytest.mark.rfc(6026)
@pytest.mark.parametrize(("machine", "figure", "state", "event"), _cases())
def test_figure(machine: Any, figure: dict[tuple[str, str], tuple[str, str, str]], state: str, event: str) -> None:
    peer = SipPeer()
    method = "INVITE" if machine in (InviteClientTransaction, InviteServerTransaction) else "OPTIONS"
    request = parse_message(peer.request(method))
    assert isinstance(request, Request)
    out: deque[tuple[bytes, Hop]] = deque()
    timers = Timers()
    forgotten: list[Transaction] = []
    user = User()
    hop = Hop("udp", "127.0.0.1", 5090, "u")
    transaction = machine(request, ("key",), hop, out, timers, forgotten.append, user)
    transaction.state = state
    if isinstance(transaction, InviteClientTransaction):
        transaction.ack = b"ack"
    if hasattr(transaction, "response"):
        transaction.response = b"last"
    if event.startswith("send "):
        transaction.feed(event[5:], b"new", 10.0)
    elif event in STATUS:
        response = parse_message(peer.respond(request.serialise(), STATUS[event], "Whatever"))
        assert isinstance(response, Response)
        transaction.receive(response, 10.0)
    elif event.startswith("timer "):
        transaction.timer_fired(event[6:], 10.0)
    else:
        transaction.feed(event, request, 10.0)

    next_state, effect, running = figure.get((state, event), (state, "", ""))
    assert transaction.state == next_state
    sent = [data for data, _ in out]
    if "send" in effect:
        assert len(sent) == 1
    elif "again" in effect:
        assert sent == [b"last"]
    else:
        assert sent == []
    told = [word for word in user.heard if word != "ended"]
    assert told == ([effect] if effect.startswith("fail") else ["tu"] if "tu" in effect else [])
    assert "".join(sorted(transaction.deadlines)) == running
    assert (transaction in forgotten) == (next_state == "terminated")
    assert ("ended" in user.heard) == (next_state == "terminated")


@pytest.mark.parametrize(
    ("machine", "state", "event", "letter", "seconds"),
    [
        (InviteClientTransaction, "calling", "3xx-6xx", "D", 32.0),
        (InviteClientTransaction, "calling", "2xx", "M", 32.0),
        (NonInviteClientTransaction, "trying", "2xx", "K", 5.0),
        (NonInviteClientTransaction, "proceeding", "timer E", "E", 4.0),
        (NonInviteClientTransaction, "trying", "timer E", "E", 1.0),
        (InviteClientTransaction, "calling", "timer A", "A", 1.0),
    ],
)
@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_timer_values(machine: Any, state: str, event: str, letter: str, seconds: float, transport: str) -> None:
    """RFC 3261, table 4; D and K are zero over a reliable transport."""
    peer = SipPeer()
    request = parse_message(peer.request("INVITE" if machine is InviteClientTransaction else "OPTIONS"))
    assert isinstance(request, Request)
    timers = Timers()
    hop = Hop(transport, "127.0.0.1", 5090, "u")
    transaction = machine(request, ("key",), hop, deque(), timers, lambda _transaction: None, None)
    transaction.state = state
    if event in STATUS:
        transaction.receive(parse_message(peer.respond(request.serialise(), STATUS[event], "Whatever")), 100.0)
    else:
        transaction.timer_fired(event[6:], 100.0)
    if transport == "tcp" and letter in "DK":
        seconds = 0.0
    assert timers.next() == 100.0 + seconds
    assert set(transaction.deadlines) == {letter}


def test_reliable_transports_repeat_nothing() -> None:
    peer = SipPeer()
    for machine, method in ((InviteClientTransaction, "INVITE"), (NonInviteClientTransaction, "OPTIONS")):
        request = parse_message(peer.request(method))
        assert isinstance(request, Request)
        hop = Hop("tcp", "127.0.0.1", 5090, "u")
        transaction = machine(request, ("key",), hop, deque(), Timers(), lambda _transaction: None, None)
        transaction.start(0.0)
        assert set(transaction.deadlines) <= {"B", "F"}


class TestTimers:
    class Owner:
        def __init__(self) -> None:
            self.deadlines: dict[str, Any] = {}
            self.fired: list[tuple[str, float]] = []

        def timer_fired(self, letter: str, now: float) -> None:
            self.fired.append((letter, now))

    def test_earliest_first_and_restarted_ones_once(self) -> None:
        timers, owner = Timers(), self.Owner()
        timers.set(owner, "B", 3.0)
        timers.set(owner, "A", 5.0)
        timers.set(owner, "A", 1.0)
        timers.set(owner, "C", 2.0)
        timers.cancel(owner, "C")
        timers.cancel(owner, "nothing")
        assert (timers.next(), len(timers)) == (1.0, 2)
        timers.fire(4.0)
        assert owner.fired == [("A", 4.0), ("B", 4.0)]
        assert (timers.next(), len(timers), owner.deadlines) == (None, 0, {})

    def test_cancelled_ones_are_swept(self) -> None:
        timers, owner = Timers(), self.Owner()
        for when in range(10_000):
            timers.set(owner, "A", float(when))
        assert len(timers) == 1
        assert len(timers._heap) < 2500
        timers.cancel_all(owner)
        assert timers.next() is None
