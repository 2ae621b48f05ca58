"""What crosses: an end and a beginning, two moves at once, an answer behind the end; whole calls on a Clock."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
from twisted.internet.defer import Deferred
from twisted.names import dns

from agentstream.testing.bots import Echo
from agentstream.testing.phone import Phone
from agentstream.testing.server import ServerUnderTest
from tests.server import test_moving as moving
from tests.server.kit import bot_flow, samples
from tests.server.test_connect import CARRIER, PASSWORD, TRUNKS, caller_of, connect_flow, hears, loudest, registered
from tests.server.test_connect import server as connecting
from tests.server.test_moved_calls import MUSIC, asked
from tests.server.test_moving import OBEYED, echoes, left_nothing, refer, replaces

TRANSFER: dict[str, Any] = {"applet": "transfer", "to": "2000", "timeout_s": 20, "on": {"failed": "bot"}}


def trunk_phone(one: ServerUnderTest, port: int = 5070) -> Phone:
    """The server of the trunk "other", which takes one call at a time."""
    phone = one.phone(host="127.0.0.6", sip_port=port)
    phone.takes_calls = True
    return phone


class SlowNames:
    """A resolver whose answers come when the test says: no NAPTR, no SRV, and one address."""

    def __init__(self) -> None:
        self.asked: list[tuple[Deferred[Any], Any]] = []

    def _ask(self, *found: Any) -> Deferred[Any]:
        question: Deferred[Any] = Deferred()
        self.asked.append((question, ([dns.RRHeader("x", one.TYPE, ttl=60, payload=one) for one in found], [], [])))
        return question

    def lookupNamingAuthorityPointer(self, name: str) -> Deferred[Any]:
        return self._ask()

    lookupService = lookupIPV6Address = lookupNamingAuthorityPointer

    def lookupAddress(self, name: str) -> Deferred[Any]:
        return self._ask(dns.Record_A("127.0.0.6", ttl=60))

    def answer(self) -> None:
        """Everything, and what is asked then."""
        while self.asked:
            question, found = self.asked.pop()
            if not question.called:
                question.callback(found)


@pytest.mark.rfc(3263)
def test_a_caller_who_leaves_while_a_name_is_looked_up_has_nobody_rung() -> None:
    """What has been asked for him is there for the next one."""
    trunk = {**TRUNKS[1], "server": "sip:sbc.example.com"}
    with connecting(connect_flow("07"), trunk=[CARRIER, trunk]) as one:
        names, other = SlowNames(), trunk_phone(one, 5060)
        one.service.edge.outbound.locator._resolver = names
        caller = caller_of(one)
        assert names.asked and one.service.switchboard.admission.outgoing == 1
        caller.cancel()
        one.advance(0.1)
        legs = one.service.plane.legs
        names.answer()
        one.advance(0.1)
        assert other.invite is None and legs == one.service.switchboard.admission.outgoing == 0
        caller_of(one)
        assert other.invite is not None


class TestPlaces:
    """What is over has given its place back before the next one asks for one."""

    @pytest.mark.parametrize("how", ["refused", "without sdp"])
    def test_in_turn_by_a_trunk_that_takes_one_call(self, how: str) -> None:
        with connecting(connect_flow(["07", "08"], ring="in_turn"), trunk=TRUNKS) as one:
            other = trunk_phone(one)
            caller = caller_of(one)
            if how == "refused":
                other.refuse()
            else:
                other.send(other.sip.respond(other.invite_data, 200, "OK"))
            one.advance(0.2)
            assert other.invite is not None and other.invite.first.startswith("INVITE sip:08@")
            other.pick_up()
            one.advance_until(lambda: caller.is_answered)
            assert one.service.switchboard.admission.outgoing == 1

    def test_a_redirection_by_a_trunk_that_takes_one_call(self) -> None:
        with connecting(connect_flow("07"), trunk=[TRUNKS[0], {**TRUNKS[1], "obeys": ["3xx"]}]) as one:
            other = trunk_phone(one)
            caller_of(one)
            other.refuse(302, "Moved", "Contact: <sip:08@here>\r\n")
            one.advance(0.2)
            assert other.invite is not None and other.invite.first.startswith("INVITE sip:08@")

    def test_who_has_been_sent_on_has_no_place_any_more(self) -> None:
        """Caller, bot; the trunk's phone takes the caller's place, and is sent on to alice: its trunk is free."""
        trunks = (OBEYED, {**TRUNKS[1], "obeys": ["refer"]})
        with moving.server(trunks=trunks) as one:
            one.bot(Echo)
            alice, other = registered(one, "127.0.0.9"), trunk_phone(one)
            alice.serves = other.serves = {"INVITE"}
            caller = caller_of(one)
            one.advance_until(lambda: caller.is_answered)
            assert refer(one, caller, "sip:07@here") == 202
            other.pick_up()
            one.advance(0.3)
            other.serves = {"INVITE", "NOTIFY"}
            other.send(other.sip.request("REFER", headers="Refer-To: <sip:alice@here>\r\n"))
            one.advance(0.2)
            alice.pick_up()
            one.advance(3)
            assert echoes(one, alice, 3)
            assert one.service.switchboard.admission.calls_of("other") == 0
            assert one.service.switchboard.admission.outgoing == 1
            alice.hang_up()
            one.advance(0.3)
            left_nothing(one)


def test_calls_to_a_phone_are_none_of_a_trunk_of_the_same_name() -> None:
    trunks = [{**CARRIER, "name": "alice", "max_calls": 2}]
    with connecting(connect_flow(), trunk=trunks) as one:
        alice = registered(one, "127.0.0.9")
        caller_of(one)
        alice.ring()
        one.advance(0.1)
        assert one.service.switchboard.admission.calls_of("alice") == 1


@pytest.mark.parametrize("sound", [True, False])
def test_behind_the_sound_of_one_that_redirects_the_next_one_is_heard(sound: bool) -> None:
    flow = connect_flow()
    flow["start"] = "welcome"
    flow["step"]["welcome"] = {"applet": "play", "file": "after.wav", "next": "connect"}
    with moving.server(flow) as one:
        alice, bob = registered(one, "127.0.0.9"), registered(one, "127.0.0.10", "bob")
        caller = one.call(host="127.0.0.2", user="carol")
        one.advance(0.5)
        alice.ring(183, has_sound=True)
        one.advance(0.2)
        alice.refuse(302, "Moved", "Contact: <sip:bob@here>\r\n")
        one.advance(0.2)
        bob.ring(183 if sound else 180, has_sound=sound)
        one.advance(0.2)
        if sound:
            assert hears(one, bob, caller, 7)
        else:
            rang = one.now
            one.advance(0.5)
            assert loudest(caller, rang) > 1000


def test_behind_the_sound_of_one_that_declines_that_of_the_other_is_heard() -> None:
    with connecting(connect_flow(["alice", "bob"])) as one:
        alice, bob = registered(one, "127.0.0.9"), registered(one, "127.0.0.10", "bob")
        caller = caller_of(one)
        alice.ring(183, has_sound=True)
        one.advance(0.1)
        bob.ring(183, has_sound=True)
        one.advance(0.2)
        assert hears(one, alice, caller, 5) and not hears(one, bob, caller, 6)
        alice.refuse()
        one.advance(0.2)
        assert hears(one, bob, caller, 7)


class TestTransferAndMove:
    FLOW: ClassVar[dict[str, Any]] = {"start": "move", "step": {"move": TRANSFER, "bot": bot_flow()["step"]["bot"]}}

    def test_a_caller_who_is_replaced_while_a_transfer_is_under_way(self) -> None:
        with moving.server(self.FLOW) as one:
            one.bot(Echo)
            caller = one.phone(host="127.0.0.2", user="carol")
            caller.serves = {"REFER"}
            caller.dial("1000")
            one.advance(0.3)
            assert asked(caller, "REFER")
            other = one.phone(host="127.0.0.2", user="dave")
            other.dial("1000", headers=replaces(caller))
            one.advance(0.5)
            assert other.statuses == [100, 200] and one.steps == [("move", "failed")]
            assert echoes(one, other, 2)

    def test_who_was_moved_here_is_transferred_as_himself(self) -> None:
        flow = {"start": "bot", "step": {"bot": {**bot_flow()["step"]["bot"], "next": "move"}, "move": {**TRANSFER}}}
        flow["step"]["move"]["on"] = {}
        with moving.server(flow) as one:
            bot = one.bot(Echo)
            alice = registered(one, "127.0.0.9")
            alice.serves = {"INVITE", "REFER"}
            caller = caller_of(one)
            one.advance_until(lambda: caller.is_answered)
            refer(one, caller)
            alice.pick_up()
            one.advance(0.3)
            bot.session.close()
            one.advance(1)
            (sent,) = asked(alice, "REFER")
            assert sent.header("refer-to") == "<sip:2000@127.0.0.9>"
            assert sent.header("referred-by").startswith("<sip:1000@")

    def test_not_to_the_domain_of_a_caller_who_wants_to_be_nobody(self) -> None:
        with moving.server(self.FLOW) as one:
            caller = one.phone(host="127.0.0.2", user="anonymous")
            caller.serves = {"REFER"}
            invite = caller.sip.invite(caller.description())
            caller.send(invite.replace(b"<sip:anonymous@127.0.0.2>;tag", b"<sip:anonymous@anonymous.invalid>;tag"))
            one.advance(0.3)
            (sent,) = asked(caller, "REFER")
            assert sent.header("refer-to") == "<sip:2000@127.0.0.2>"

    @pytest.mark.rfc(3262)
    def test_a_transfer_before_the_200_has_left(self) -> None:
        """It waits for a PRACK; nobody is transferred before it is answered."""
        flow = {
            "start": "music",
            "step": {"music": {"applet": "play", "file": "m.wav", "early": True, "next": "move"}, **self.FLOW["step"]},
        }
        with ServerUnderTest(flow, sounds={"m.wav": samples(MUSIC)}) as one:
            one.bot(Echo)
            phone = one.phone()
            phone.dial(headers="Supported: 100rel\r\n")
            one.advance(1)
            assert 200 not in phone.statuses
            assert ("move", "failed") in one.steps and not one.events("step_failed")


@pytest.mark.rfc(5589)
def test_who_has_left_gets_no_sound_and_the_call_waits_without_his() -> None:
    """For longer than rtp_timeout_s, which is for far ends that are there."""
    with moving.server(media={"rtp_timeout_s": 10, "ports": "20000-20999", "max_calls": 16}) as one:
        one.bot(Echo)
        alice = registered(one, "127.0.0.9")
        alice.serves = {"INVITE"}
        caller = caller_of(one)
        one.advance_until(lambda: caller.is_answered)
        assert echoes(one, caller, 1)
        refer(one, caller)
        caller.hang_up()
        one.advance(0.1)
        got = len(caller.arrivals)
        one.advance(15)
        assert len(caller.arrivals) == got and len(one.live_calls) == 1
        alice.pick_up()
        one.advance(0.3)
        assert echoes(one, alice, 3)


class TestMovedTwice:
    """The new far end has not agreed to our port yet when somebody else comes in its place."""

    @staticmethod
    def half_moved(one: ServerUnderTest, caller: Phone, alice: Phone) -> None:
        """Alice is at the far end, and says nothing to our re-INVITE."""
        refer(one, caller)
        alice._asked = lambda data, request: alice.requests.append(request)  # type: ignore[method-assign]
        alice.pick_up()
        one.advance(0.2)
        assert one.events("leg_moved") and alice.requests[-1].method == "INVITE"

    def test_by_an_invite_with_replaces(self) -> None:
        with moving.server() as one:
            one.bot(Echo)
            alice = registered(one, "127.0.0.9")
            caller = caller_of(one)
            one.advance_until(lambda: caller.is_answered)
            self.half_moved(one, caller, alice)
            other = one.phone(host="127.0.0.2", user="dave")
            other.dial("1000", headers=replaces(alice))
            one.advance(0.3)
            assert other.statuses == [100, 200] and len(one.live_calls) == 1
            assert echoes(one, other, 2)
            other.hang_up()
            one.advance(0.3)
            left_nothing(one)

    def test_by_a_refer(self) -> None:
        with moving.server() as one:
            one.bot(Echo)
            alice, bob = registered(one, "127.0.0.9"), registered(one, "127.0.0.10", "bob")
            bob.serves = {"INVITE"}
            caller = caller_of(one)
            one.advance_until(lambda: caller.is_answered)
            self.half_moved(one, caller, alice)
            alice.send(alice.sip.request("REFER", headers="Refer-To: <sip:bob@here>\r\n"))
            one.advance(0.2)
            bob.pick_up()
            one.advance(0.5)
            assert len(one.live_calls) == 1 and echoes(one, bob, 2)
            bob.hang_up()
            one.advance(40)
            left_nothing(one)


def test_a_caller_is_replaced_before_the_ack_that_holds_the_answer() -> None:
    with moving.server() as one:
        one.bot(Echo)
        caller = one.phone(host="127.0.0.2", user="carol")
        caller.acknowledges = False
        caller.dial("1000", sdp=b"")
        one.advance(0.1)
        assert caller.is_answered and one.events("answered") == []
        other = one.phone(host="127.0.0.2", user="dave")
        other.dial("1000", headers=replaces(caller))
        one.advance(0.5)
        assert other.statuses == [100, 200] and echoes(one, other, 2)


RINGS_LATE = '''
"""Rings somebody when the caller has gone."""
import attrs
from twisted.internet.defer import succeed
from agentstream.interfaces import Applet, ConnectSpec, Outcome

@attrs.frozen
class Options:
    pass

@attrs.define
class Run:
    call: object
    options: Options

    def start(self):
        return self.call.connect(ConnectSpec(("alice",))).addCallback(lambda end: end.outcome)

    def stop(self, reason):
        pass

rings_late = Applet(name="rings_late", options=Options, run=Run, outcomes=(Outcome("done"), Outcome("failed")),
                    needs_answer=False, after_hangup=True)
'''


RINGS_TWO = RINGS_LATE.replace("rings_late", "rings_two").replace(
    "        return self.call.connect(",
    """        self.call.connect(ConnectSpec(("bob",)))
        return self.call.connect(""",
)


def test_a_caller_is_connected_once_at_a_time() -> None:
    flow = {"start": "two", "step": {"two": {"applet": "rings_two"}}}
    phones = [{"user": user, "password": PASSWORD} for user in ("alice", "bob")]
    with ServerUnderTest(flow, {"trunk": [CARRIER], "phone": phones}, applets={"rings_two": RINGS_TWO}) as one:
        alice, bob = registered(one, "127.0.0.9"), registered(one, "127.0.0.10", "bob")
        caller_of(one)
        one.advance(0.5)
        assert one.steps == [("two", "failed")]
        assert bob.invite is not None and alice.invite is None
        (refused,) = one.events("connect_refused")
        assert refused.fields["reason"] == "the caller is being connected already"
        assert len(one.events("connect_ended")) == 1


def test_more_than_ten_ways_are_said_to_be_left_out() -> None:
    numbers = [f"+49{number}" for number in range(12)]
    trunk = {"name": "out", "server": "sip:127.0.0.5:5070", "numbers": ["+*"]}
    with connecting(connect_flow(numbers), trunk=[CARRIER, trunk]) as one:
        caller_of(one)
        one.advance(0.5)
        left = [event.fields for event in one.events("dial_left_out")]
        assert [fields["target"] for fields in left] == ["+4910", "+4911"]
        assert {fields["reason"] for fields in left} == {"only 10 are called"}


def test_nobody_is_rung_for_a_caller_who_is_gone() -> None:
    flow = {"start": "bot", "step": {**bot_flow()["step"], "late": {"applet": "rings_late"}}}
    flow["step"]["bot"] = {**flow["step"]["bot"], "next": "late"}
    phones = [{"user": "alice", "password": PASSWORD}]
    with ServerUnderTest(flow, {"trunk": [CARRIER], "phone": phones}, applets={"rings_late": RINGS_LATE}) as one:
        one.bot(Echo)
        alice = registered(one, "127.0.0.9")
        caller = caller_of(one)
        one.advance_until(lambda: caller.is_answered)
        caller.hang_up()
        one.advance(0.5)
        assert one.steps[-1] == ("late", "failed") and alice.invite is None
        assert one.events("connect_ended")[0].fields["reason"] == "the caller is gone"


@pytest.mark.rfc(3262)
def test_one_that_rings_cannot_be_told_to_a_caller_who_left_the_offer_to_us() -> None:
    """A reliable 180 would have to hold an offer: the caller hears nothing of it, and is answered all the same."""
    with connecting(connect_flow()) as one:
        alice = registered(one, "127.0.0.9")
        caller = one.phone(host="127.0.0.2", user="carol")
        caller.dial("1000", sdp=b"", headers="Require: 100rel\r\n")
        one.advance(0.1)
        alice.ring()
        one.advance(0.2)
        assert caller.statuses == [100]
        alice.pick_up()
        one.advance_until(lambda: caller.is_answered)
        assert hears(one, alice, caller, 41)


@pytest.mark.rfc(3261)
@pytest.mark.parametrize("user", ["sip%3Aceo%40bank.example", "sips%3Aceo%40bank.example", "sip%3A%5B"])
def test_a_caller_chooses_no_domain_of_ours(user: str) -> None:
    """The user part of a From that reads as a URI is nobody's number."""
    with connecting(connect_flow("07"), trunk=TRUNKS) as one:
        other = trunk_phone(one)
        caller = one.phone(host="127.0.0.2", user=user)
        caller.dial("1000")
        one.advance(0.2)
        assert other.invite is not None
        assert other.invite.header("from").startswith("<sip:anonymous@anonymous.invalid>")
