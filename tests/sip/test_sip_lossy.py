"""Two stacks, one calling the other over a pipe that loses what a list says: the call works, and both end empty."""

from __future__ import annotations

import itertools

import pytest

from agentstream.sip.events import AckReceived, InviteAnswered, InviteReceived, SessionEnded
from agentstream.sip.stack import Hop, Listener, Stack
from agentstream.sip.uri import parse_uri
from tests.sip.kit import SDP

pytestmark = pytest.mark.rfc(3261)

DELAY_S = 0.03
CALLER = ("127.0.0.1", 5071)
CALLEE = ("127.0.0.1", 5072)


class Pipe:
    """Both stacks and the datagrams between them; the n-th is lost where ``lost`` is true at n."""

    def __init__(self, lost: list[bool]) -> None:
        self.now = 0.0
        self.stacks: dict[tuple[str, int], Stack] = {}
        for where in (CALLER, CALLEE):
            numbers = itertools.count(1)
            self.stacks[where] = Stack(
                token=lambda numbers=numbers, where=where: f"{where[1]}x{next(numbers)}",  # type: ignore[misc]
                listeners={"u": Listener("udp", *where)},
            )
        self.lost = iter(lost)
        self.flying: list[tuple[float, int, bytes, tuple[str, int], tuple[str, int]]] = []
        self.number = itertools.count()
        self.heard: list[object] = []

    def collect(self) -> None:
        for where, stack in self.stacks.items():
            while stack.out:
                data, hop = stack.out.popleft()
                if not next(self.lost, False):
                    self.flying.append((self.now + DELAY_S, next(self.number), data, where, (hop.host, hop.port)))
            while stack.events:
                event = stack.events.popleft()
                self.heard.append(event)
                if isinstance(event, InviteReceived):
                    stack.progress(event.session, self.now)
                    stack.answer(event.session, SDP, self.now)
                    self.collect()

    def run(self, until: float) -> None:
        while True:
            self.collect()
            times = [when for when, *_ in self.flying]
            times += [when for stack in self.stacks.values() if (when := stack.next_timer()) is not None]
            if not times or min(times) > until:
                self.now = until
                return
            self.now = max(self.now, min(times))
            due = sorted(one for one in self.flying if one[0] <= self.now)
            self.flying = [one for one in self.flying if one[0] > self.now]
            for _, _, data, source, destination in due:
                self.stacks[destination].receive(data, Hop("udp", *source, "u"), self.now)
            for stack in self.stacks.values():
                stack.handle_timer(self.now)


@pytest.mark.parametrize(
    "lost",
    [
        [],
        [True],
        [True, True, False, True],
        [False, True, True, True, True],
        [False, False, False, True, False, True, True],
        [False, False, False, False, True, True, False, True],
        [index % 2 == 0 for index in range(12)],
        [index % 3 != 0 for index in range(15)],
    ],
    ids=lambda lost: "".join("x" if one else "." for one in lost) or "clean",
)
@pytest.mark.parametrize("who", ["caller", "callee"])
def test_a_call_over_a_lossy_pipe(lost: list[bool], who: str) -> None:
    pipe = Pipe(lost)
    caller, callee = pipe.stacks[CALLER], pipe.stacks[CALLEE]
    uri = parse_uri("sip:bob@127.0.0.1:5072")
    outgoing = caller.invite(uri, from_uri=uri, to_uri=uri, sdp=SDP, hop=Hop("udp", *CALLEE, "u"), now=0.0)
    pipe.run(25.0)
    assert outgoing.state == "confirmed"
    (received,) = [event for event in pipe.heard if isinstance(event, InviteReceived)]
    assert received.session.state == "confirmed"
    assert len([event for event in pipe.heard if isinstance(event, InviteAnswered)]) == 1
    assert len([event for event in pipe.heard if isinstance(event, AckReceived)]) == 1
    if who == "caller":
        caller.hang_up(outgoing, pipe.now, "enough")
    else:
        callee.hang_up(received.session, pipe.now, "enough")
    pipe.run(200.0)
    ends = sorted(event.by for event in pipe.heard if isinstance(event, SessionEnded))
    assert ends == ["local", "remote"]
    assert caller.is_idle
    assert callee.is_idle


def test_on_a_clean_network_nothing_is_sent_twice() -> None:
    pipe = Pipe([])
    caller, callee = pipe.stacks[CALLER], pipe.stacks[CALLEE]
    uri = parse_uri("sip:bob@127.0.0.1:5072")
    session = caller.invite(uri, from_uri=uri, to_uri=uri, sdp=SDP, hop=Hop("udp", *CALLEE, "u"), now=0.0)
    pipe.run(1.0)
    caller.hang_up(session, pipe.now)
    pipe.run(200.0)
    # INVITE, 100, 180, 200, ACK, BYE, 200.
    assert next(pipe.number) == 7
    assert (caller.is_idle, callee.is_idle) == (True, True)
