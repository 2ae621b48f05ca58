"""The flow rings somebody, and the caller's phone takes our place there (RFC 5589): whole calls on a Clock."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

import pytest

from agentstream.testing.bots import Echo
from agentstream.testing.phone import Phone
from agentstream.testing.server import ServerUnderTest
from tests.server.kit import bot_flow
from tests.server.test_connect import hears, loudest, registered, server
from tests.server.test_moving import echoes, left_nothing

FLOW: dict[str, Any] = {
    "start": "move",
    "step": {
        "move": {
            "applet": "transfer",
            "to": "alice",
            "attended": True,
            "ring_s": 5,
            "timeout_s": 10,
            "on": {"failed": "bot"},
        },
        "bot": bot_flow()["step"]["bot"],
    },
}


def asked(phone: Phone, method: str) -> list[Any]:
    """Its requests of this method."""
    return [request for request in phone.requests if request.method == method]


def caller_of(one: ServerUnderTest) -> Phone:
    """Somebody who has called, and whose phone can be transferred."""
    phone = one.phone(host="127.0.0.2", user="carol")
    phone.serves = {"REFER"}
    phone.dial("1000")
    one.advance(0.3)
    assert phone.is_answered
    return phone


def notify(one: ServerUnderTest, phone: Phone, status: str, state: str = "active") -> None:
    """The caller's phone says how far it has come."""
    headers = f"Event: refer\r\nSubscription-State: {state}\r\n"
    body = f"SIP/2.0 {status}\r\n".encode()
    phone.send(phone.sip.request("NOTIFY", headers=headers, body=body, content_type="message/sipfrag"))
    one.advance(0.2)
    assert phone.replies[-1].status == 200


def picked_up(one: ServerUnderTest, alice: Phone, caller: Phone) -> Any:
    """Alice answers; the REFER that the caller is sent."""
    assert not asked(caller, "REFER"), "nobody is sent to a phone that has not answered"
    alice.pick_up()
    one.advance(0.3)
    (refer,) = asked(caller, "REFER")
    return refer


def stays(one: ServerUnderTest, caller: Phone) -> None:
    """The step has failed, and the caller talks to the bot."""
    assert one.steps == [("move", "failed")] and not caller.is_over
    assert one.service.switchboard.admission.outgoing == 0 and one.service.plane.legs == 1
    assert echoes(one, caller, 9)
    caller.hang_up()
    one.advance(0.3)
    left_nothing(one)


@pytest.mark.rfc(5589)
@pytest.mark.rfc(3891)
@pytest.mark.rfc(3892)
@pytest.mark.parametrize("leaves_first", [True, False])
def test_the_caller_takes_our_place_at_whoever_has_answered(leaves_first: bool) -> None:
    with server(FLOW) as one:
        alice = registered(one, "127.0.0.9")
        caller = caller_of(one)
        now = one.now
        alice.ring()
        one.advance(1)
        assert loudest(caller, now) > 1000, "the caller hears that it rings"
        refer = picked_up(one, alice, caller)
        where, _, replaces = refer.header("refer-to").removeprefix("<").removesuffix(">").partition("?Replaces=")
        assert f"<{where}>" == alice.sip.contact()
        assert not set(replaces) & set(";=@&<>, ")
        tags = f"to-tag={alice.sip.local_tag};from-tag={alice.sip.remote_tag}"
        assert unquote(replaces) == f"{alice.sip.call_id};{tags}"
        assert refer.header("referred-by").startswith("<sip:1000@")
        assert hears(one, caller, alice, 1) and hears(one, alice, caller, 2), "until then they talk through us"
        notify(one, caller, "180 Ringing")
        if leaves_first:
            alice.hang_up()  # RFC 3891 section 3: who is replaced gets BYE
            one.advance(0.2)
        assert one.steps == [] and not caller.is_over
        notify(one, caller, "200 OK", "terminated;reason=noresource")
        assert one.steps == [("move", "done")] and caller.ended_by == "server"
        assert alice.ended_by == ("phone" if leaves_first else "server")
        (end,) = one.events("connect_ended")
        assert (end.fields["outcome"], end.fields["status"]) == ("done", 200)
        left_nothing(one)


@pytest.mark.rfc(5589)
@pytest.mark.parametrize("how", ["busy", "silent", "away"])
def test_nobody_answers_and_the_caller_is_still_here(how: str) -> None:
    with server(FLOW) as one:
        one.bot(Echo)
        alice = registered(one, "127.0.0.9") if how != "away" else None
        caller = caller_of(one)
        if alice is not None and how == "busy":
            alice.refuse(486)
        elif alice is not None:
            alice.ring()
        one.advance(6)
        assert not asked(caller, "REFER")
        stays(one, caller)


@pytest.mark.rfc(5589)
@pytest.mark.parametrize("how", ["refused", "failed", "silent", "left"])
def test_a_refer_that_comes_to_nothing_leaves_the_caller_here(how: str) -> None:
    with server(FLOW) as one:
        one.bot(Echo)
        alice = registered(one, "127.0.0.9")
        caller = caller_of(one)
        if how == "refused":
            caller.serves = set()
        picked_up(one, alice, caller)
        if how == "failed":
            notify(one, caller, "603 Declined", "terminated")
        elif how == "silent":
            one.advance(10)
        elif how == "left":
            alice.hang_up()  # of herself: there is nobody to be replaced
            one.advance(0.2)
            assert one.steps == []
            notify(one, caller, "481 Call/Transaction Does Not Exist", "terminated")
        one.advance(0.3)
        assert alice.ended_by == ("phone" if how == "left" else "server")
        stays(one, caller)


@pytest.mark.rfc(5589)
def test_a_caller_who_leaves_while_it_rings() -> None:
    with server(FLOW) as one:
        alice = registered(one, "127.0.0.9")
        caller = caller_of(one)
        alice.ring()
        one.advance(0.2)
        caller.hang_up()
        one.advance(0.3)
        assert [request.method for request in alice.requests] == ["INVITE", "CANCEL", "ACK"]
        assert not one.live_calls and not asked(caller, "REFER")
        left_nothing(one)


@pytest.mark.rfc(5589)
def test_a_caller_who_leaves_behind_the_answer() -> None:
    with server(FLOW) as one:
        alice = registered(one, "127.0.0.9")
        caller = caller_of(one)
        picked_up(one, alice, caller)
        caller.hang_up()
        one.advance(0.3)
        assert alice.ended_by == "server" and not one.live_calls
        (end,) = one.events("connect_ended")
        assert (end.fields["outcome"], end.fields["by"]) == ("failed", "caller")
        left_nothing(one)
