"""Calls that their other end moves: REFER and Replaces that are obeyed, and 3xx that are followed; on a Clock."""

from __future__ import annotations

from typing import Any

import pytest

from agentstream.testing.bots import Echo
from agentstream.testing.phone import Phone, speech
from agentstream.testing.server import ServerUnderTest
from tests.server.kit import bot_flow
from tests.server.test_connect import CARRIER, PASSWORD, SOUNDS, caller_of, connect_flow, hears, registered

OBEYED = {**CARRIER, "obeys": ["refer", "replaces"]}


def server(
    flow: dict[str, Any] | None = None,
    trunks: Any = (OBEYED,),
    obeys: Any = ("refer", "replaces", "3xx"),
    **more: Any,
) -> ServerUnderTest:
    """A server whose trunk and phones may move calls; a bot answers, unless there is another flow."""
    phones = [{"user": user, "password": PASSWORD} for user in ("alice", "bob")]
    config = {"trunk": list(trunks), "phone": phones, "registrar": {"obeys": list(obeys)}, **more}
    return ServerUnderTest(flow or bot_flow(), config, sounds=SOUNDS)


def refer(one: ServerUnderTest, phone: Phone, target: str = "sip:alice@here", headers: str = "") -> int:
    """The phone sends us elsewhere; what it is answered."""
    phone.serves = {"NOTIFY"}
    phone.send(phone.sip.request("REFER", headers=f"Refer-To: <{target}>\r\n{headers}"))
    one.advance(0.1)
    return phone.replies[-1].status


def told(phone: Phone) -> list[str]:
    """What NOTIFYs said, in their order."""
    return [request.body.decode().strip() for request in phone.requests if request.method == "NOTIFY"]


def echoes(one: ServerUnderTest, phone: Phone, seed: int) -> bool:
    """The bot hears the phone, and the phone the bot."""
    said, now = speech(400, seed=seed), one.now
    phone.say(said)
    one.advance(1.5)
    return phone.heard_sound(since=now) == said


def replaces(phone: Phone, tail: str = "") -> str:
    """The header line that means the call of this phone with us."""
    tags = f"to-tag={phone.sip.remote_tag};from-tag={phone.sip.local_tag}"
    return f"Replaces: {phone.sip.call_id};{tags}{tail}\r\n"


def left_nothing(one: ServerUnderTest) -> None:
    """No leg, no place at a trunk, and no session is kept."""
    one.advance(40)  # what transactions and ports wait for
    assert one.left() == []


@pytest.mark.rfc(3515)
@pytest.mark.rfc(3892)
@pytest.mark.rfc(5589)
def test_a_caller_sends_us_elsewhere_and_the_bot_goes_on_with_who_answers() -> None:
    with server() as one:
        bot = one.bot(Echo)
        alice = registered(one, "127.0.0.9")
        alice.serves = {"INVITE"}
        caller = caller_of(one)
        one.advance_until(lambda: caller.is_answered)
        assert echoes(one, caller, 1)
        assert refer(one, caller, headers="Referred-By: <sip:carol@pbx.example>\r\n") == 202
        assert alice.invite is not None and alice.invite.header("referred-by") == "<sip:carol@pbx.example>"
        assert alice.invite.header("from").startswith("<sip:1000@")
        assert echoes(one, caller, 2), "who sends us elsewhere is here until somebody answers there"
        alice.ring()
        one.advance(0.1)
        alice.pick_up()
        one.advance(0.3)
        assert told(caller) == ["SIP/2.0 100 Trying", "SIP/2.0 180 Ringing", "SIP/2.0 200 OK"]
        assert echoes(one, alice, 3)
        one.advance(2)
        assert caller.requests[-1].method == "BYE", "it does not hang up, so we do"
        assert not alice.is_over and len(one.live_calls) == 1
        alice.hang_up()
        one.advance(0.3)
        assert bot.session.bodies("stop") and one.events("call_ended")
        left_nothing(one)


@pytest.mark.rfc(5589)
def test_who_sends_us_elsewhere_may_hang_up_at_once() -> None:
    with server() as one:
        one.bot(Echo)
        alice = registered(one, "127.0.0.9")
        alice.serves = {"INVITE"}
        caller = caller_of(one)
        one.advance_until(lambda: caller.is_answered)
        refer(one, caller)
        caller.hang_up()
        one.advance(0.5)
        assert len(one.live_calls) == 1 and one.events("referrer_left")
        alice.pick_up()
        one.advance(0.3)
        assert echoes(one, alice, 3)
        alice.hang_up()
        one.advance(0.3)
        left_nothing(one)


@pytest.mark.rfc(3515)
@pytest.mark.parametrize("is_here", [True, False])
def test_nobody_answers_there(is_here: bool) -> None:
    with server() as one:
        one.bot(Echo)
        alice = registered(one, "127.0.0.9")
        caller = caller_of(one)
        one.advance_until(lambda: caller.is_answered)
        refer(one, caller)
        if not is_here:
            caller.hang_up()
            one.advance(0.2)
        alice.refuse()
        one.advance(0.3)
        if is_here:
            assert told(caller)[-1] == "SIP/2.0 486 Busy Here" and not caller.is_over
            assert echoes(one, caller, 2)
            caller.hang_up()
            one.advance(0.3)
        assert one.events("call_ended")[0].fields["by"] == "user"
        left_nothing(one)


@pytest.mark.rfc(3515)
@pytest.mark.parametrize("target", ["sip:+9999@expensive.example", "sip:mallory@127.0.0.9:5999", "tel:+9999"])
def test_only_phones_and_the_numbers_of_trunks_are_called(target: str) -> None:
    """Toll fraud: whoever may send us elsewhere may not send us anywhere."""
    with server() as one:
        one.bot(Echo)
        caller = caller_of(one)
        one.advance_until(lambda: caller.is_answered)
        assert refer(one, caller, target) == 202
        assert told(caller) == ["SIP/2.0 100 Trying", "SIP/2.0 404 Not Found"] and not caller.is_over
        assert not one.events("dial_started")


def test_the_call_ends_while_it_rings_there() -> None:
    with server() as one:
        bot = one.bot(Echo)
        alice = registered(one, "127.0.0.9")
        caller = caller_of(one)
        one.advance_until(lambda: caller.is_answered)
        refer(one, caller)
        alice.ring()
        caller.hang_up()
        one.advance(0.3)
        bot.session.close()
        one.advance(1)
        assert alice.requests[-2].method == "CANCEL" or alice.requests[-1].method == "CANCEL"
        left_nothing(one)


def test_a_new_far_end_that_refuses_our_port_is_hung_up() -> None:
    with server() as one:
        one.bot(Echo)
        alice = registered(one, "127.0.0.9")
        caller = caller_of(one)
        one.advance_until(lambda: caller.is_answered)
        refer(one, caller)
        alice.pick_up()
        one.advance(3)
        assert (
            alice.requests[-1].method == "BYE"
            and "refused our description" in one.events("leg_ended")[0].fields["reason"]
        )
        left_nothing(one)


@pytest.mark.rfc(5589)
@pytest.mark.parametrize("who", ["caller", "callee"])
def test_one_of_two_that_are_connected_sends_the_other_elsewhere(who: str) -> None:
    with server(connect_flow()) as one:
        alice, bob = registered(one, "127.0.0.9"), registered(one, "127.0.0.10", "bob")
        caller = caller_of(one)
        alice.pick_up()
        one.advance_until(lambda: caller.is_answered)
        assert hears(one, caller, alice, 1)
        sender, stays = (caller, alice) if who == "caller" else (alice, caller)
        bob.serves = {"INVITE"}
        assert refer(one, sender, "sip:bob@here") == 202
        bob.pick_up()
        one.advance(0.3)
        assert told(sender)[-1] == "SIP/2.0 200 OK"
        sender.hang_up()
        one.advance(0.2)
        assert hears(one, stays, bob, 2) and hears(one, bob, stays, 3)
        bob.hang_up()
        one.advance(1)
        if who == "callee":
            caller.hang_up()
            one.advance(0.3)
        else:
            assert stays.is_over
        left_nothing(one)


@pytest.mark.rfc(3891)
@pytest.mark.parametrize("is_offered", [True, False])
def test_a_new_call_takes_the_place_of_one_with_a_bot(is_offered: bool) -> None:
    with server() as one:
        bot = one.bot(Echo)
        caller = caller_of(one)
        one.advance_until(lambda: caller.is_answered)
        assert echoes(one, caller, 1)
        other = one.phone(host="127.0.0.2", user="dave")
        other.dial("1000", headers=replaces(caller) + "Require: replaces\r\n", sdp=None if is_offered else b"")
        one.advance(0.3)
        assert other.statuses == [100, 200] and caller.requests[-1].method == "BYE"
        assert echoes(one, other, 2)
        assert len(one.live_calls) == 1 and len(bot.session.bodies("start")) == 1
        assert one.events("leg_replaced")[0].fields["caller"] == "dave"
        other.hang_up()
        one.advance(0.3)
        assert bot.session.bodies("stop")
        left_nothing(one)


@pytest.mark.rfc(3891)
def test_somebody_else_picks_up_for_a_phone_that_rings() -> None:
    with server(connect_flow()) as one:
        alice = registered(one, "127.0.0.9")
        caller = caller_of(one)
        alice.ring()
        one.advance(0.1)
        picker = one.phone(host="127.0.0.2", user="dave")
        picker.dial("alice", headers=replaces(alice, ";early-only"))
        one.advance(0.3)
        assert picker.statuses == [100, 200] and caller.is_answered
        assert "CANCEL" in [request.method for request in alice.requests]
        assert hears(one, caller, picker, 1) and hears(one, picker, caller, 2)
        caller.hang_up()
        one.advance(0.3)
        assert picker.is_over
        left_nothing(one)


@pytest.mark.rfc(3891)
@pytest.mark.parametrize(("tail", "status"), [(";early-only", 486), ("x", 481)])
def test_what_is_not_replaced(tail: str, status: int) -> None:
    with server() as one:
        one.bot(Echo)
        caller = caller_of(one)
        one.advance_until(lambda: caller.is_answered)
        other = one.phone(host="127.0.0.2", user="dave")
        other.dial("1000", headers=replaces(caller, tail))
        one.advance(0.3)
        assert other.statuses[-1] == status and echoes(one, caller, 1)
        assert one.service.switchboard.refused_for == {"replaces": 1}


@pytest.mark.rfc(3891)
def test_a_description_that_fits_not_leaves_the_call_as_it_was() -> None:
    with server() as one:
        one.bot(Echo)
        caller = caller_of(one)
        one.advance_until(lambda: caller.is_answered)
        other = one.phone(host="127.0.0.2", user="dave", codecs=("G722",))
        other.dial("1000", headers=replaces(caller))
        one.advance(0.3)
        assert other.statuses[-1] == 488 and echoes(one, caller, 1)


class TestRedirections:
    """3xx to our INVITEs (RFC 3261 section 8.1.3.4)."""

    @staticmethod
    def moved(phone: Phone, *contacts: str) -> None:
        """Its own Contact is in it, too: nobody is called twice."""
        phone.refuse(302, "Moved Temporarily", "".join(f"Contact: {contact}\r\n" for contact in contacts))

    @pytest.mark.rfc(3261)
    def test_it_is_followed_through_outbound_routing(self) -> None:
        with server(connect_flow()) as one:
            alice, bob = registered(one, "127.0.0.9"), registered(one, "127.0.0.10", "bob")
            caller = caller_of(one)
            self.moved(alice, "<sip:nobody@x>;q=0.9, <sip:bob@elsewhere.example>;q=0.5")
            one.advance(0.3)
            assert bob.invite is not None and one.events("dial_redirected")
            bob.pick_up()
            one.advance_until(lambda: caller.is_answered)
            assert hears(one, caller, bob, 1)
            caller.hang_up()
            one.advance(0.3)
            left_nothing(one)

    @pytest.mark.rfc(3261)
    def test_not_where_the_trunk_may_not(self) -> None:
        with server(connect_flow(), obeys=()) as one:
            alice, bob = registered(one, "127.0.0.9"), registered(one, "127.0.0.10", "bob")
            caller_of(one)
            self.moved(alice, "<sip:bob@here>")
            one.advance(0.3)
            assert bob.invite is None and one.steps[0] == ("connect", "failed")
            assert "redirections are not followed" in one.events("dial_failed")[0].fields["reason"]

    @pytest.mark.rfc(3261)
    def test_a_loop_ends(self) -> None:
        with server(connect_flow()) as one:
            alice, bob = registered(one, "127.0.0.9"), registered(one, "127.0.0.10", "bob")
            caller_of(one)
            self.moved(alice, "<sip:bob@here>")
            one.advance(0.3)
            self.moved(bob, "<sip:alice@there>")
            one.advance(0.3)
            assert one.steps[0] == ("connect", "failed")
            assert "leads back" in one.events("dial_failed")[0].fields["reason"]

    @pytest.mark.rfc(3261)
    def test_the_next_contact_where_the_first_is_busy(self) -> None:
        with server(connect_flow()) as one:
            alice, bob = registered(one, "127.0.0.9"), registered(one, "127.0.0.10", "bob")
            caller = caller_of(one)
            self.moved(alice, "<sip:bob@here>, <sip:+49@here>;q=0.1")
            one.advance(0.3)
            bob.refuse()
            one.advance(0.3)
            assert one.steps[0] == ("connect", "busy") and caller.invite is None
