"""The bench's callers without sound, against answers made by hand: what they say, when, and what they count."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from agentstream.cli.bench.sip_load import GIVEN_UP_S, T1_S, Load, Pace
from agentstream.sip.message import Request
from agentstream.sip.parser import parse_message


@attrs.define
class Wire:
    """A socket that keeps what was sent."""

    sent: list[bytes] = attrs.Factory(list)

    def getsockname(self) -> tuple[str, int]:
        return ("127.0.0.1", 5999)

    def sendto(self, data: bytes, address: tuple[str, int]) -> None:
        assert address == ("127.0.0.1", 5060)
        self.sent.append(data)

    def take(self) -> list[Request]:
        """What was sent since the last time, as the server reads it."""
        read = [parse_message(data) for data in self.sent]
        self.sent.clear()
        assert all(isinstance(message, Request) for message in read)
        return read  # type: ignore[return-value]  # the line before says so


@pytest.fixture
def wire() -> Wire:
    return Wire()


@pytest.fixture
def load(wire: Wire) -> Load:
    sock: Any = wire
    return Load(sock, 5060, 7000)


def answer(request: Request, status: int, tag: str = "theirs") -> bytes:
    fields = [f"{name}: {request.headers.get(name)}" for name in ("Via", "From", "Call-ID", "CSeq")]
    to = f"To: {request.headers.get('To')}".partition(";tag=")[0] + f";tag={tag}"
    lines = [f"SIP/2.0 {status} Whatever", *fields, to, "Contact: <sip:node@127.0.0.1:5060>", "Content-Length: 0"]
    return "\r\n".join([*lines, "", ""]).encode()


def test_a_call_is_acknowledged_and_ended_at_once(load: Load, wire: Wire) -> None:
    load.place(10.0)
    (invite,) = wire.take()
    assert invite.method == "INVITE" and b"m=audio 7000" in invite.body
    invited_s = load.callers[0].invited_s
    load.take(answer(invite, 100), invited_s + 0.001)
    assert wire.take() == [] and load.setup_ms == []
    load.take(answer(invite, 200), invited_s + 0.004)
    ack, bye = wire.take()
    assert (ack.method, bye.method) == ("ACK", "BYE")
    assert load.setup_ms == [pytest.approx(4.0)]
    for request in (ack, bye):
        assert str(request.uri) == "sip:node@127.0.0.1:5060"
        assert request.headers.get("Call-ID") == invite.headers.get("Call-ID")
        assert request.to.tag == "theirs" and request.from_.tag == invite.from_.tag
    branches = {request.headers.get("Via") for request in (invite, ack, bye)}
    assert len(branches) == 3
    load.take(answer(bye, 200), 10.01)
    assert not load.callers and load.tally()["repeated"] == 0
    load.repeat_due(100.0)
    assert wire.take() == [] and load.tally()["repeated"] == 0


def test_an_answer_that_comes_again_is_counted_and_acknowledged_again(load: Load, wire: Wire) -> None:
    load.place(10.0)
    (invite,) = wire.take()
    load.take(answer(invite, 200), 10.0)
    wire.take()
    load.take(answer(invite, 200), 10.5)
    (ack,) = wire.take()
    assert ack.method == "ACK" and load.repeated == 1


def test_what_is_not_answered_is_sent_again_and_given_up_in_the_end(load: Load, wire: Wire) -> None:
    load.place(10.0)
    began = load.callers[0].invited_s
    wire.take()
    load._again[:] = [(began + T1_S, 0, b"INVITE", T1_S)]
    at_s = began
    times = []
    while load.callers:
        at_s += 0.25
        load.repeat_due(at_s)
        times += [round(at_s - began, 2) for _ in wire.take()]
    assert times == [0.5, 1.5, 3.5, 7.5, 15.5, 31.5]
    assert (load.repeated, load.unanswered) == (6, 1) and at_s - began > GIVEN_UP_S


def test_a_bye_is_sent_again_every_4_s_in_the_end(load: Load, wire: Wire) -> None:
    load.place(10.0)
    began = load.callers[0].invited_s
    (invite,) = wire.take()
    load.take(answer(invite, 200), began)
    wire.take()
    times, at_s = [], began
    while at_s - began < 16:
        at_s += 0.25
        load.repeat_due(at_s)
        times += [round(at_s - began, 2) for _ in wire.take()]
    assert times == [0.5, 1.5, 3.5, 7.5, 11.5, 15.5]


def test_a_refusal_is_acknowledged_in_the_transaction_of_its_invite(load: Load, wire: Wire) -> None:
    load.place(10.0)
    (invite,) = wire.take()
    load.take(answer(invite, 503), 10.0)
    (ack,) = wire.take()
    assert ack.method == "ACK" and ack.headers.get("Via") == invite.headers.get("Via")
    assert load.tally()["refused"] == {"503": 1} and not load.callers


def test_what_is_no_answer_changes_nothing(load: Load, wire: Wire) -> None:
    load.place(10.0)
    wire.take()
    for data in (b"", b"\r\n\r\n", b"OPTIONS sip:x SIP/2.0\r\n\r\n", b"SIP/2.0 200 OK\r\n\r\n"):
        load.take(data, 10.0)
    assert len(load.callers) == 1 and wire.take() == []


def test_calls_are_due_at_their_rate() -> None:
    pace = Pace(5.0, 0.25, 2)
    assert pace.next_s == 5.0
    pace.placed = 1
    assert pace.next_s == 5.25
    pace.placed = 2
    assert pace.next_s is None
