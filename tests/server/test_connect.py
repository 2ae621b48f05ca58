"""A flow connects its caller with somebody: phones that register, numbers of trunks, URIs; whole calls on a Clock."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from agentstream.testing.phone import Phone, speech
from agentstream.testing.server import ServerUnderTest
from agentstream.testing.sip_peer import authorization
from tests.server.kit import samples

CARRIER = {"name": "carrier", "address": ["127.0.0.2"]}
PASSWORD = "very-secret"


def connect_flow(to: Any = "alice", **options: Any) -> dict[str, Any]:
    """Connect, and a sound of its own behind each outcome but ``failed``."""
    step = {"applet": "connect", "to": to, "next": "after", "on": {"busy": "busy", "no_answer": "gone"}, **options}
    sounds = {name: {"applet": "play", "file": f"{name}.wav"} for name in ("after", "busy", "gone")}
    return {"start": "connect", "step": {"connect": step, **sounds}}


SOUNDS = {f"{name}.wav": samples(speech(200, seed=seed)) for name, seed in (("after", 61), ("busy", 62), ("gone", 63))}


def server(flow: dict[str, Any], *users: str, tmp: Any = None, **more: Any) -> ServerUnderTest:
    """A server where these users have phones and the caller is a trunk's."""
    phones = [{"user": user, "password": PASSWORD} for user in users or ("alice", "bob")]
    config = {"trunk": [CARRIER], "phone": phones, **more}
    return ServerUnderTest(flow, config, sounds=SOUNDS)


def registered(one: ServerUnderTest, host: str, user: str = "alice", headers: str = "", **options: Any) -> Phone:
    """A phone of this user that waits for calls."""
    phone = one.phone(host=host, user=user, **options)
    phone.takes_calls = True
    phone.sip.called = user
    phone.send(phone.sip.request("REGISTER", uri="sip:here", headers=headers))
    one.advance(0.1)
    proof = authorization(phone.replies[-1].headers("www-authenticate"), user, PASSWORD, "REGISTER", "sip:here")
    lines = f"{headers}Expires: 600\r\nAuthorization: {proof}\r\n"
    phone.send(phone.sip.request("REGISTER", uri="sip:here", headers=lines))
    one.advance(0.1)
    assert phone.replies[-1].status == 200
    return phone


def caller_of(one: ServerUnderTest, **options: Any) -> Phone:
    """Somebody who has just called."""
    phone = one.phone(host="127.0.0.2", user="carol", **options)
    phone.dial("1000")
    one.advance(0.1)
    return phone


def hears(one: ServerUnderTest, speaker: Phone, listener: Phone, seed: int) -> bool:
    """What one says is what the other gets, byte for byte, where both have the same codec."""
    said, now = speech(400, seed=seed), one.now
    speaker.say(said)
    one.advance(1.0)
    return said in listener.heard(now)


def test_a_phone_is_rung_and_both_hear_each_other() -> None:
    with server(connect_flow()) as one:
        alice = registered(one, "127.0.0.9")
        caller = caller_of(one)
        assert alice.invite is not None
        assert alice.invite.first.split()[1] == alice.sip.contact()[1:-1]
        assert alice.invite.header("from").startswith("<sip:carol@127.0.0.1>")
        assert caller.statuses == [100]
        alice.ring()
        one.advance(0.1)
        assert caller.statuses == [100, 180]
        alice.pick_up()
        one.advance_until(lambda: caller.is_answered)
        assert hears(one, caller, alice, 1)
        assert hears(one, alice, caller, 2)
        alice.hang_up()
        one.advance_until(lambda: caller.is_over)
        assert one.steps == [("connect", "done"), ("after", "done")]
        (end,) = one.events("connect_ended")
        assert (end.fields["by"], end.fields["status"], end.fields["outcome"]) == ("callee", 200, "done")
        assert end.fields["talked_s"] == pytest.approx(2.0, abs=0.2)
        assert one.service.switchboard.admission.outgoing == 0


def test_the_caller_hangs_up_and_so_do_we() -> None:
    with server(connect_flow()) as one:
        alice = registered(one, "127.0.0.9")
        caller = caller_of(one)
        alice.pick_up()
        one.advance_until(lambda: caller.is_answered)
        caller.hang_up()
        one.advance(0.1)
        assert alice.requests[-1].method == "BYE"
        (end,) = one.events("connect_ended")
        assert (end.fields["by"], end.fields["outcome"]) == ("caller", "done")


@pytest.mark.rfc(3261)
def test_the_caller_gives_up_while_it_rings_and_the_phone_is_cancelled() -> None:
    with server(connect_flow()) as one:
        alice = registered(one, "127.0.0.9")
        caller = caller_of(one)
        alice.ring()
        one.advance(0.1)
        caller.cancel()
        one.advance(0.1)
        assert [request.method for request in alice.requests] == ["INVITE", "CANCEL", "ACK"]
        assert caller.statuses[-1] == 487
        (end,) = one.events("connect_ended")
        assert end.fields["outcome"] == "no_answer"


@pytest.mark.parametrize(
    ("status", "outcome"), [(486, "busy"), (603, "busy"), (480, "no_answer"), (500, "failed"), (404, "failed")]
)
def test_what_a_refusal_comes_to(status: int, outcome: str) -> None:
    with server(connect_flow()) as one:
        alice = registered(one, "127.0.0.9")
        caller_of(one)
        alice.refuse(status, "No")
        one.advance(1.0)
        assert one.steps[0] == ("connect", outcome)
        (end,) = one.events("connect_ended")
        assert end.fields["status"] == status


def test_nobody_answers_in_time() -> None:
    with server(connect_flow(timeout_s=5)) as one:
        alice = registered(one, "127.0.0.9")
        caller_of(one)
        alice.ring()
        one.advance(4.0)
        assert one.steps == []
        one.advance(1.5)
        assert [request.method for request in alice.requests] == ["INVITE", "CANCEL", "ACK"]
        assert one.steps[0] == ("connect", "no_answer")
        (end,) = one.events("connect_ended")
        assert end.fields["status"] == 408


def test_a_phone_that_is_not_registered() -> None:
    with server(connect_flow()) as one:
        caller_of(one)
        one.advance(1.0)
        assert one.steps[0] == ("connect", "no_answer")
        (failed,) = one.events("dial_failed")
        assert (failed.fields["status"], failed.fields["reason"]) == (480, "the phone alice is not registered")


def loudest(phone: Phone, since: float) -> int:
    """The largest sample that it has heard since then."""
    heard = samples(phone.heard(since))
    return int(np.abs(heard.astype(np.int32)).max()) if len(heard) else 0
