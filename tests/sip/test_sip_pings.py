"""Pings of a trunk's servers: who is up, who is down and why, and when they are asked."""

from __future__ import annotations

import pytest

from agentstream.sip.events import ServerChanged
from agentstream.sip.hop import Hop, Listener
from agentstream.sip.pings import TrunkPings
from agentstream.sip.uri import parse_uri
from agentstream.testing.sip_peer import SipPeer, read
from tests.sip.kit import Bench

ONE, TWO = Hop("udp", "192.0.2.1", 5060, "u"), Hop("tcp", "192.0.2.2", 5060, "t")

pytestmark = pytest.mark.rfc(3261)


class Pinging(Bench):
    """A trunk on a stack; the test is its servers.

    :ivar answers: the status that each server answers with; who is not in it says nothing.
    """

    def __init__(self, *hops: Hop, chance: float = 0.5) -> None:
        super().__init__()
        self.stack.add_listener("t", Listener("tcp", "127.0.0.1", 5060))
        self.hops = list(hops or (ONE,))
        self.answers: dict[Hop, int] = {}
        self.asked: list[tuple[float, Hop]] = []
        self.begun = self.now
        uri = parse_uri("sip:carrier.example")
        self.pings = TrunkPings(
            self.stack, "carrier", uri, 30.0, lambda found: found(self.hops, self.now), lambda: chance
        )
        self.pings.start(self.now)

    def wait(self, seconds: float) -> list[tuple[str, bool | None, bool | None]]:
        """Let time pass; (server, is it up, is the trunk) of each change."""
        end = self.now + seconds
        while (deadline := self.stack.next_timer()) is not None and deadline <= end:
            self.now = max(self.now, deadline)
            self.stack.handle_timer(self.now)
            while self.stack.out:
                data, hop = self.stack.out.popleft()
                request = read(data)
                if request.header("via") not in [via for via, *_ in self.asked]:
                    self.asked.append((request.header("via"), round(self.now - self.begun, 1), hop))
                status = self.answers.get(hop)
                if status:
                    self.stack.receive(SipPeer().respond(data, status, "Said"), hop, self.now)
        self.now = end
        return [
            (event.hop.host if event.hop else "", event.is_up, event.is_trunk_up)
            for event in self.events()
            if isinstance(event, ServerChanged)
        ]

    def times(self, hop: Hop = ONE) -> list[float]:
        return [at for _via, at, to in self.asked if to == hop]


def test_a_ping_is_options_outside_a_dialog():
    one = Pinging()
    one.now += 2.5
    one.stack.handle_timer(one.now)
    ((data, hop),) = one.stack.out
    request = read(data)
    assert (request.first, hop) == ("OPTIONS sip:carrier.example SIP/2.0", ONE)
    assert request.header("to") == "<sip:carrier.example>"
    assert request.header("from").startswith("<sip:127.0.0.1:5060>;tag=")
    assert request.header("contact") == "<sip:127.0.0.1:5060>"
    assert (request.header("cseq"), request.header("max-forwards")) == ("1 OPTIONS", "70")


@pytest.mark.parametrize("status", [200, 401, 403, 404, 405, 407, 481, 500, 603])
def test_any_answer_but_503_shows_that_a_server_is_up(status):
    one = Pinging()
    one.answers[ONE] = status
    assert one.pings.is_up is None
    assert one.wait(100.0) == [("192.0.2.1", True, True)]
    assert one.times() == [2.5, 32.5, 62.5, 92.5]
    assert one.pings.is_up is True


def test_503_says_at_once_that_no_calls_are_taken():
    one = Pinging()
    one.answers[ONE] = 200
    one.wait(10.0)
    one.answers[ONE] = 503
    assert one.wait(30.0) == [("192.0.2.1", False, False)]
    one.answers[ONE] = 200
    assert one.wait(30.0) == [("192.0.2.1", True, True)]


def test_only_three_in_a_row_without_an_answer_are_down_and_one_answer_is_up_again():
    one = Pinging()
    one.answers[ONE] = 200
    one.wait(30.0)
    del one.answers[ONE]
    # Two are lost, and the third one is answered.
    assert one.wait(15.0) == []
    one.answers[ONE] = 200
    assert one.wait(15.0) == []
    del one.answers[ONE]
    assert one.wait(21.0) == []
    assert one.wait(2.0) == [("192.0.2.1", False, False)]
    assert [round(b - a, 1) for a, b in zip(one.times(), one.times()[1:], strict=False)] == [30, 7, 7, 16, 7, 7]
    # Once it is down it is asked once a period, and said once.
    asked = len(one.times())
    assert one.wait(60.0) == []
    assert len(one.times()) == asked + 2
    one.answers[ONE] = 486
    assert one.wait(30.0) == [("192.0.2.1", True, True)]


def test_a_network_that_refuses_is_no_answer():
    one = Pinging(TWO)
    for _ in range(3):
        one.now = one.stack.next_timer()
        one.stack.handle_timer(one.now)
        one.stack.send_failed(TWO, one.now)
    (event,) = one.events()
    assert event == ServerChanged("carrier", TWO, False, "it cannot be reached", False)


def test_a_trunk_is_up_while_one_of_its_servers_is():
    one = Pinging(ONE, TWO)
    one.answers[TWO] = 200
    assert one.wait(5.0) == [("192.0.2.2", True, True)]
    assert one.wait(30.0) == [("192.0.2.1", False, True)]
    one.answers[TWO] = 503
    assert one.wait(30.0) == [("192.0.2.2", False, False)]


def test_a_server_that_the_name_leads_to_no_more_is_forgotten():
    one = Pinging(ONE, TWO)
    one.answers[TWO] = 200
    one.wait(31.0)
    one.hops = [TWO]
    assert one.wait(30.0) == [("192.0.2.1", None, True)]
    # That a name leads nowhere for once says nothing about the servers that are known.
    one.hops = []
    assert one.wait(90.0) == []
    assert one.pings.is_up is True


def test_a_name_that_leads_nowhere_is_a_trunk_that_is_down():
    one = Pinging()
    one.hops = []
    assert one.wait(100.0) == [("", False, False)]
    one.hops = [ONE]
    one.answers[ONE] = 200
    assert one.wait(30.0) == [("192.0.2.1", True, True)]


@pytest.mark.parametrize("seconds", [0.0, 3.0, 9.0, 60.0])
def test_nothing_is_left_of_one_that_is_over(seconds):
    one = Pinging(ONE, TWO)
    one.answers[TWO] = 200
    one.wait(seconds)
    one.pings.stop(one.now)
    assert all(event.is_up is None for event in one.events())
    one.advance(0.0)
    assert one.stack.next_timer() is None or one.advance(40.0) == []
    one.settle()
    # What was looked up meanwhile comes too late.
    one.pings._located([ONE], one.now)
    assert one.sent() == []


def test_trunks_do_not_ask_in_step():
    first, second = Pinging(chance=0.0), Pinging(chance=1.0)
    for one in (first, second):
        one.answers[ONE] = 200
        one.wait(70.0)
    assert first.times() == [0.0, 27.0, 54.0]
    assert second.times() == [5.0, 38.0]
