"""We as a client of a registrar: refresh, credentials, 423, failover, pauses, and the end."""

from __future__ import annotations

import itertools

import pytest

from agentstream.sip.digest import Credentials, DigestClient, DigestServer, parse_answer
from agentstream.sip.events import RegistrationChanged
from agentstream.sip.hop import Hop
from agentstream.sip.registration import Account, Registration
from agentstream.sip.uri import parse_uri
from agentstream.testing.sip_peer import Received, SipPeer, read
from tests.sip.kit import Bench

ONE, TWO = Hop("udp", "192.0.2.1", 5060, "u"), Hop("udp", "192.0.2.2", 5060, "u")
AOR = parse_uri("sip:us@carrier.example")


class Client(Bench):
    """A registration on a stack; the test is the registrar."""

    def __init__(self, *targets: Hop, chance: float = 1.0, password: str = "right") -> None:
        super().__init__()
        numbers = itertools.count(1)
        self.targets = list(targets or (ONE,))
        self.account = Account("carrier", AOR, parse_uri("sip:carrier.example"), 3600)
        client = DigestClient(Credentials("us", password), lambda: f"c{next(numbers)}")
        self.one = Registration(
            self.stack, self.account, lambda found: found(self.targets, self.now), client, lambda: chance
        )

    def asked(self) -> tuple[Received, bytes, Hop]:
        """The one REGISTER that was sent."""
        ((data, hop),) = self.stack.out
        self.stack.out.clear()
        request = read(data)
        assert request.first == "REGISTER sip:carrier.example SIP/2.0"
        return request, data, hop

    def begun(self) -> bytes:
        self.one.start(self.now)
        return self.asked()[1]

    def answer(self, data: bytes, status: int, headers: str = "") -> None:
        contact = f"Contact: {read(data).header('contact')};expires=600\r\n" if status == 200 and not headers else ""
        answer = SipPeer().respond(data, status, "Said", headers=contact + headers)
        # The peer's own Contact is nothing that a registrar says.
        lines = [line for line in answer.split(b"\r\n") if b"alice@" not in line]
        self.stack.receive(b"\r\n".join(lines), ONE, self.now)

    def changes(self) -> list[tuple[str, float]]:
        return [(e.state, round(e.seconds, 1)) for e in self.events() if isinstance(e, RegistrationChanged)]

    def wait(self, seconds: float) -> list[Hop]:
        """Where the REGISTERs of this time went, without repetitions."""
        end, went = self.now + seconds, {}
        while (deadline := self.stack.next_timer()) is not None and deadline <= end:
            self.now = max(self.now, deadline)
            self.stack.handle_timer(self.now)
            for data, hop in self.stack.out:
                went.setdefault(read(data).header("cseq"), hop)
                self.last = data
            self.stack.out.clear()
        self.now = end
        return list(went.values())


@pytest.mark.rfc(3261)
def test_the_first_request_has_what_section_10_2_wants():
    client = Client()
    request = read(client.begun())
    assert request.header("from").startswith("<sip:us@carrier.example>;tag=")
    assert request.header("to") == "<sip:us@carrier.example>"
    assert request.header("contact") == "<sip:us@127.0.0.1:5060>"
    assert (request.header("cseq"), request.header("expires")) == ("1 REGISTER", "3600")


@pytest.mark.rfc(3261)
@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ("", 536.0),
        ("Contact: <sip:other@192.0.2.9>;expires=30, <sip:us@127.0.0.1:5060>;expires=100\r\n", 50.0),
        ("Contact: <sip:us@127.0.0.1:5060>\r\nExpires: 1000\r\n", 936.0),
        ("Expires: 200\r\n", 136.0),
        ("X-Nothing: 1\r\n", 3536.0),
        ("Contact: <sip:us@203.0.113.80:1234>;expires=300\r\n", 236.0),
    ],
)
def test_it_is_refreshed_before_what_was_granted_is_over(headers, seconds):
    client = Client()
    data = client.begun()
    client.answer(data, 200, headers)
    assert client.changes() == [("registered", seconds)]
    assert client.wait(seconds - 0.1) == []
    assert client.wait(0.2) == [ONE]
    again = read(client.last)
    assert again.header("call-id") == read(data).header("call-id")
    assert again.header("cseq") == "2 REGISTER"
    client.answer(client.last, 200)
    assert client.changes() == []
    assert client.one.state == "registered"


@pytest.mark.rfc(3261)
@pytest.mark.parametrize(
    ("status", "asks", "answers"),
    [(401, "WWW-Authenticate", "authorization"), (407, "Proxy-Authenticate", "proxy-authorization")],
)
def test_it_answers_a_challenge_with_the_strongest_algorithm_and_a_wrong_password_only_once(status, asks, answers):
    client, server = Client(), DigestServer("carrier", iter("abcdefgh").__next__)

    def challenge(*, is_stale: bool = False) -> str:
        return "".join(f"{asks}: {value}\r\n" for value in server.challenges(client.now, is_stale=is_stale)[::-1])

    client.answer(client.begun(), status, challenge())
    request, data, _hop = client.asked()
    answer = parse_answer(request.header(answers))
    assert answer.algorithm == "SHA-256"
    assert server.verify(answer, "right", "REGISTER", client.now) == "good"
    assert request.header("cseq") == "2 REGISTER"
    client.answer(data, status, challenge(is_stale=True))
    _request, data, _hop = client.asked()
    client.answer(data, status, challenge())
    assert client.stack.out == type(client.stack.out)()
    assert client.changes() == [("failed", 30.0)]


@pytest.mark.rfc(3261)
def test_423_is_answered_with_its_min_expires():
    client = Client()
    client.answer(client.begun(), 423, "Min-Expires: 7200\r\n")
    request, data, _hop = client.asked()
    assert request.header("expires") == "7200"
    client.answer(data, 423, "Min-Expires: 7200\r\n")
    assert client.changes() == [("failed", 30.0)]


@pytest.mark.rfc(3261)
@pytest.mark.parametrize("status", [503, 408, 500])
def test_a_target_that_cannot_serve_is_followed_by_the_next(status):
    client = Client(ONE, TWO)
    client.answer(client.begun(), status)
    _request, data, hop = client.asked()
    assert hop == TWO
    client.answer(data, 200)
    assert client.changes() == [("registered", 536.0)]
    # The one that serves is asked first.
    assert client.wait(536.1) == [TWO]


@pytest.mark.rfc(3261)
def test_a_target_that_is_silent_or_out_of_reach_is_followed_by_the_next():
    client = Client(ONE, TWO)
    client.begun()
    assert client.wait(4.9) == [ONE]
    assert client.wait(0.2)[-1] == TWO
    client.stack.send_failed(TWO, client.now)
    assert client.changes() == [("failed", 30.0)]


@pytest.mark.rfc(5626)
def test_the_pause_doubles_is_bounded_and_never_the_same():
    for chance, pauses in ((1.0, [30, 60, 120, 240, 480, 960, 1800, 1800]), (0.0, [15, 30, 60, 120, 240, 480, 900])):
        client = Client(chance=chance)
        data = client.begun()
        for pause in pauses:
            client.answer(data, 403)
            assert client.changes() == [("failed", pause)]
            assert client.wait(pause - 0.1) == []
            assert client.wait(0.2) == [ONE]
            data = client.last
        client.answer(data, 200)
        assert client.one.failures == 0


@pytest.mark.rfc(3261)
def test_retry_after_is_waited_for():
    client = Client()
    client.answer(client.begun(), 503, "Retry-After: 200 (busy)\r\n")
    assert client.changes() == [("failed", 200.0)]


@pytest.mark.rfc(3261)
def test_it_is_taken_back_at_the_end():
    client = Client()
    data = client.begun()
    client.answer(data, 200)
    client.one.stop(client.now)
    request, data, hop = client.asked()
    assert (request.header("expires"), hop) == ("0", ONE)
    assert not client.stack.is_settled
    server = DigestServer("carrier", iter("abc").__next__)
    client.answer(data, 401, f"WWW-Authenticate: {server.challenges(client.now)[0]}\r\n")
    request, data, _hop = client.asked()
    assert "username" in request.header("authorization")
    client.answer(data, 200)
    assert client.changes()[-1] == ("ended", 0.0)
    assert client.stack.is_settled
    client.settle()


def test_what_never_was_registered_is_not_taken_back():
    client = Client()
    client.answer(client.begun(), 403)
    client.one.stop(client.now)
    assert client.sent() == []
    client.settle()


@pytest.mark.rfc(3263)
def test_a_target_that_says_nothing_is_followed_by_the_next_within_seconds():
    client = Client(ONE, TWO)
    client.begun()
    assert client.wait(4.9) == [ONE]
    assert client.wait(0.2) == [TWO]
    client.answer(client.last, 200)
    assert client.changes() == [("registered", 536.0)]
    # The one that served is asked first, and alone while it answers.
    assert client.wait(536.0) == [TWO]
    client.answer(client.last, 200)
    assert client.wait(30.0) == []


@pytest.mark.rfc(3263)
def test_targets_that_are_looked_up_come_later_and_are_looked_up_again():
    client = Client()
    asked = []
    client.one = Registration(client.stack, client.account, asked.append, None, lambda: 1.0)
    client.one.start(client.now)
    client.one.start(client.now)
    (found,) = asked
    assert client.sent() == []
    client.now += 3.0
    found([TWO], client.now)
    client.answer(client.asked()[1], 200)
    client.wait(536.0)
    assert len(asked) == 2
    # A name that leads nowhere for once: the registrar that is known is asked.
    asked[1]([], client.now)
    assert client.asked()[2] == TWO


def test_what_is_looked_up_when_it_is_over_is_not_used():
    client = Client()
    asked = []
    client.one = Registration(client.stack, client.account, asked.append, None, lambda: 1.0)
    client.one.start(client.now)
    client.one.stop(client.now)
    asked[0]([ONE], client.now)
    assert client.sent() == []
    client.settle()


@pytest.mark.parametrize("status", [200, 401])
def test_an_answer_that_comes_behind_the_stop_begins_nothing(status):
    client = Client()
    data = client.begun()
    client.one.stop(client.now)
    (value,) = DigestServer("carrier", lambda: "n", ["MD5"]).challenges(client.now)
    client.answer(data, status, f"WWW-Authenticate: {value}\r\n" if status == 401 else "")
    assert client.one.state == "ended" and client.wait(4000) == [] and client.changes() == []
    assert client.stack.is_idle
