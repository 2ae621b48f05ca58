"""What a flow does with its caller: early media, digits, hold, transfers; and what it is told of him."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest

from agentstream.testing.bots import Echo
from agentstream.testing.phone import Description, Phone, speech
from agentstream.testing.server import ServerUnderTest
from tests.server.kit import bot_flow, samples
from tests.server.test_moving import replaces

MUSIC = speech(600, seed=41)
RELAY = "application/dtmf-relay"

TELLS = '''
"""Writes down what a call says of its caller, and of its end."""
import attrs
from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer
from agentstream.interfaces import Applet, IRun, Outcome

@attrs.frozen
class Options:
    pass

@implementer(IRun)
@attrs.define
class Run:
    call: object
    options: Options

    def start(self):
        identity = self.call.identity
        self.call.event(
            "told",
            asserted=identity.asserted_user,
            display=identity.display,
            privacy=identity.privacy,
            diverted=[(one.user, one.reason) for one in identity.diversions],
            history=identity.history,
            causes=[(cause.protocol, cause.code, cause.text) for cause in self.call.end_causes],
        )
        return succeed("done")

    def stop(self, reason):
        pass

tells = Applet(
    name="tells", options=Options, run=Run, outcomes=(Outcome("done"),), needs_answer=False, after_hangup=True
)
'''


def told(server: ServerUnderTest) -> dict[str, Any]:
    return dict(server.events("told")[-1].fields)


def step_flow(**options: Any) -> dict[str, Any]:
    """One step, then the bot; another bot step where it failed."""
    steps = {
        "first": {**options, "next": "bot"},
        "bot": bot_flow()["step"]["bot"],
    }
    return {"start": "first", "step": steps}


def asked(phone: Phone, method: str) -> list[Any]:
    return [request for request in phone.requests if request.method == method]


def prack(phone: Phone) -> None:
    """Acknowledge the 183 that came last."""
    rseq = phone.responses[-1].header("rseq")
    phone.send(phone.sip.request("PRACK", headers=f"RAck: {rseq} {phone.sip.invite_cseq} INVITE\r\n"))


class TestEarlyMedia:
    FLOW = step_flow(applet="play", file="music.wav", early=True)

    def server(self) -> ServerUnderTest:
        return ServerUnderTest(self.FLOW, sounds={"music.wav": samples(MUSIC)})

    def test_the_caller_hears_it_before_the_answer(self) -> None:
        with self.server() as server:
            server.bot(Echo)
            phone = server.phone()
            phone.dial()
            server.advance(0.4)
            assert phone.statuses == [100, 183]
            phone.answer = Description.read(phone.responses[-1].body)
            assert len(phone.arrivals) >= 15
            server.advance(1)
            assert phone.heard_sound() == MUSIC
            assert phone.statuses == [100, 183, 200]
            assert phone.responses[-1].body == phone.responses[1].body
            began, said = server.now, speech(400, seed=2)
            phone.say(said)
            server.advance(1)
            assert phone.heard_sound(since=began) == said
            assert len(server.events("media_agreed")) == 1

    @pytest.mark.rfc(3262)
    def test_reliably_and_the_200_waits_for_the_prack(self) -> None:
        with self.server() as server:
            server.bot(Echo)
            phone = server.phone()
            phone.dial(headers="Supported: 100rel\r\n")
            server.advance(0.1)
            assert phone.responses[-1].status == 183 and phone.responses[-1].header("require") == "100rel"
            server.advance(1)
            assert 200 not in phone.statuses and server.steps == [("first", "done")]
            prack(phone)
            server.advance(0.1)
            assert phone.statuses[-1] == 200 and phone.responses[-1].body == b""
            assert phone.replies[-1].status == 200
            phone.answer = Description.read(phone.responses[1].body)
            began, said = server.now, speech(400, seed=2)
            phone.say(said)
            server.advance(1)
            assert phone.heard_sound(since=began) == said

    @pytest.mark.rfc(3262)
    def test_a_phone_that_never_acknowledges_it(self) -> None:
        with self.server() as server:
            server.bot(Echo)
            phone = server.phone()
            phone.dial(headers="Supported: 100rel\r\n")
            server.advance(33)
            assert phone.statuses[-1] == 504 and not server.live_calls

    @pytest.mark.rfc(3311)
    def test_an_update_before_the_answer_moves_the_sound(self) -> None:
        with self.server() as server:
            server.bot(Echo)
            phone, moved = server.phone(), server.phone()
            phone.dial(headers="Supported: 100rel\r\n")
            server.advance(0.1)
            prack(phone)
            server.advance(0.1)
            address, phone.rtp_address = phone.rtp_address, moved.rtp_address
            phone.send(phone.sip.request("UPDATE", body=phone.description()))
            phone.rtp_address = address
            server.advance(0.2)
            assert phone.replies[-1].status == 200 and moved.arrivals
            server.advance(1)
            assert phone.statuses[-1] == 200

    def test_it_is_not_made_up_where_the_offer_is_left_to_us(self) -> None:
        flow = step_flow(applet="play", file="music.wav", early=True, on={"failed": "bot"})
        with ServerUnderTest(flow, sounds={"music.wav": samples(MUSIC)}) as server:
            server.bot(Echo)
            phone = server.phone()
            phone.dial(sdp=b"")
            server.advance(0.5)
            assert phone.statuses == [100, 200] and server.steps[0] == ("first", "failed")
            (told_of,) = server.events("early_media_refused")
            assert "left the offer to us" in told_of.fields["reason"]

    def test_a_caller_who_gives_up_while_it_plays(self) -> None:
        with self.server() as server:
            phone = server.phone()
            phone.dial()
            server.advance(0.2)
            phone.cancel()
            server.advance(0.2)
            assert phone.statuses[-1] == 487 and not server.live_calls

    def test_a_call_that_is_up_goes_on_as_it_is(self) -> None:
        flow = step_flow(applet="play", file="music.wav", next="again")
        flow["step"]["first"]["next"] = "again"
        flow["step"]["again"] = {"applet": "play", "file": "music.wav", "early": True, "next": "bot"}
        with ServerUnderTest(flow, sounds={"music.wav": samples(MUSIC)}) as server:
            server.bot(Echo)
            phone = server.call()
            server.advance(1.5)
            assert phone.heard_sound() == MUSIC * 2 and phone.statuses == [100, 200]


class TestDigits:
    def test_by_telephone_event(self) -> None:
        with ServerUnderTest(step_flow(applet="send_digits", digits="12#")) as server:
            server.bot(Echo)
            phone = server.call()
            server.advance(1)
            events = [arrival.packet for arrival in phone.arrivals if arrival.packet.payload_type == 101]
            assert [packet.payload[0] for packet in events if packet.marker] == [1, 2, 11]
            assert server.steps == [("first", "done")]
            assert server.events("digits_sent")[0].fields["digits"] == "12#"

    @pytest.mark.rfc(6086)
    def test_by_info_where_the_trunk_wants_that(self) -> None:
        trunk = [{"name": "carrier", "address": ["127.0.0.0/8"], "digits": "info"}]
        flow = step_flow(applet="send_digits", digits="1*", duration_ms=160)
        with ServerUnderTest(flow, {"trunk": trunk}) as server:
            server.bot(Echo)
            phone = server.phone()
            phone.serves = {"INFO"}
            phone.dial()
            server.advance(1)
            bodies = [request.body for request in asked(phone, "INFO")]
            assert bodies == [b"Signal=1\r\nDuration=160\r\n", b"Signal=*\r\nDuration=160\r\n"]
            assert server.steps == [("first", "done")]

    @pytest.mark.rfc(6086)
    def test_a_phone_that_takes_none(self) -> None:
        trunk = [{"name": "carrier", "address": ["127.0.0.0/8"], "digits": "info"}]
        flow = step_flow(applet="send_digits", digits="12", on={"failed": "bot"})
        with ServerUnderTest(flow, {"trunk": trunk}) as server:
            server.bot(Echo)
            phone = server.call()
            server.advance(1)
            assert len(asked(phone, "INFO")) == 1 and server.steps == [("first", "failed")]
            assert "501" in server.events("digits_refused")[0].fields["reason"]

    @pytest.mark.rfc(6086)
    def test_those_of_the_phone_by_info_reach_the_bot(self) -> None:
        with ServerUnderTest(bot_flow()) as server:
            bot = server.bot()
            phone = server.call()
            phone.send(phone.sip.request("INFO", body=b"Signal=5\r\nDuration=160\r\n", content_type=RELAY))
            server.advance(0.2)
            assert phone.replies[-1].status == 200
            (message,) = bot.session.bodies("dtmf")
            assert message["dtmf"]["digit"] == "5"
            assert server.events("digit_received")[0].fields == {"digit": "5", "duration_ms": 160}

    @pytest.mark.rfc(6086)
    def test_a_phone_that_says_each_in_both_ways_is_heard_once(self) -> None:
        with ServerUnderTest(bot_flow()) as server:
            bot = server.bot()
            phone = server.call()
            for digit in "12":
                phone.press(digit)
                server.advance(0.5)
                body = f"Signal={digit}\r\nDuration=100\r\n".encode()
                phone.send(phone.sip.request("INFO", body=body, content_type=RELAY))
                server.advance(0.5)
            assert [message["dtmf"]["digit"] for message in bot.session.bodies("dtmf")] == ["1", "2"]


class TestHold:
    def test_hold_and_resume(self) -> None:
        flow = step_flow(applet="hold", next="music")
        flow["step"]["first"]["next"] = "music"
        flow["step"]["music"] = {"applet": "play", "file": "music.wav", "next": "back"}
        flow["step"]["back"] = {"applet": "hold", "action": "resume", "next": "bot"}
        with ServerUnderTest(flow, sounds={"music.wav": samples(MUSIC)}) as server:
            server.bot(Echo)
            phone = server.phone()
            phone.serves = {"INVITE"}
            phone.dial()
            server.advance(2)
            directions = [Description.read(request.body).direction for request in asked(phone, "INVITE")]
            assert directions == ["sendonly", "sendrecv"]
            assert phone.heard_sound() == MUSIC
            assert [outcome for _, outcome in server.steps] == ["done"] * 3

    def test_a_phone_that_refuses(self) -> None:
        with ServerUnderTest(step_flow(applet="hold", on={"failed": "bot"})) as server:
            server.bot(Echo)
            server.call()
            server.advance(1)
            assert server.steps == [("first", "failed")]
            assert "501" in server.events("hold_refused")[0].fields["reason"]


@pytest.mark.rfc(3515)
class TestTransfer:
    FLOW: ClassVar[dict[str, Any]] = {
        "start": "move",
        "step": {
            "move": {"applet": "transfer", "to": "2000", "timeout_s": 20, "on": {"failed": "bot"}},
            "bot": bot_flow()["step"]["bot"],
        },
    }

    def begin(self, server: ServerUnderTest) -> Phone:
        phone = server.phone()
        phone.serves = {"REFER"}
        phone.dial()
        server.advance(0.3)
        return phone

    def notify(self, server: ServerUnderTest, phone: Phone, status: str, state: str = "active") -> int:
        headers = f"Event: refer\r\nSubscription-State: {state}\r\n"
        body = f"SIP/2.0 {status}\r\n".encode()
        phone.send(phone.sip.request("NOTIFY", headers=headers, body=body, content_type="message/sipfrag"))
        server.advance(0.1)
        return phone.replies[-1].status

    @pytest.mark.rfc(3892)
    def test_it_gets_through_and_we_hang_up(self) -> None:
        with ServerUnderTest(self.FLOW) as server:
            phone = self.begin(server)
            (refer,) = asked(phone, "REFER")
            assert refer.header("refer-to") == "<sip:2000@127.0.0.2>"
            assert refer.header("referred-by").startswith("<sip:1000@")
            assert self.notify(server, phone, "180 Ringing") == 200
            assert not phone.is_over
            self.notify(server, phone, "200 OK", "terminated;reason=noresource")
            assert phone.ended_by == "server" and server.steps == [("move", "done")]
            assert server.events("transfer_progressed")[0].fields == {"status": 180}
            assert server.events("transfer_ended")[0].fields == {"is_done": True, "status": 200, "reason": "200 OK"}

    def test_it_does_not_and_the_caller_is_still_there(self) -> None:
        with ServerUnderTest(self.FLOW) as server:
            server.bot(Echo)
            phone = self.begin(server)
            self.notify(server, phone, "486 Busy Here", "terminated")
            server.advance(0.3)
            assert server.steps == [("move", "failed")] and not phone.is_over
            began, said = server.now, speech(400, seed=2)
            phone.say(said)
            server.advance(1)
            assert phone.heard_sound(since=began) == said

    @pytest.mark.parametrize("how", ["refused", "silent"])
    def test_a_phone_that_does_not_do_it(self, how: str) -> None:
        with ServerUnderTest(self.FLOW) as server:
            server.bot(Echo)
            phone = server.phone()
            phone.serves = {"REFER"} if how == "silent" else set()
            phone.dial()
            server.advance(21)
            assert server.steps == [("move", "failed")] and not phone.is_over

    def test_a_phone_that_hangs_up_meanwhile(self) -> None:
        with ServerUnderTest(self.FLOW) as server:
            phone = self.begin(server)
            phone.hang_up()
            server.advance(0.2)
            assert server.events("transfer_ended")[0].fields["reason"] == "the call is over"
            assert not server.live_calls

    @pytest.mark.parametrize("target", ["sip:a b@c", "sip:", "tel:"])
    def test_a_target_that_is_none(self, target: str) -> None:
        flow = {"start": "move", "step": {**self.FLOW["step"], "move": {**self.FLOW["step"]["move"], "to": target}}}
        with ServerUnderTest(flow) as server:
            server.bot(Echo)
            phone = server.call()
            server.advance(0.3)
            assert server.steps == [("move", "failed")] and not asked(phone, "REFER")

    def test_nobody_else_moves_a_call(self) -> None:
        with ServerUnderTest(bot_flow()) as server:
            server.bot(Echo)
            phone = server.call()
            phone.send(phone.sip.request("REFER", headers="Refer-To: <sip:+9999@expensive.example>\r\n"))
            server.advance(0.2)
            assert phone.replies[-1].status == 603 and not phone.is_over

    @pytest.mark.rfc(3891)
    @pytest.mark.parametrize("require", ["", "Require: replaces\r\n"])
    def test_nobody_else_replaces_a_call(self, require: str) -> None:
        with ServerUnderTest(bot_flow()) as server:
            server.bot(Echo)
            phone = server.call()
            other = server.phone()
            other.dial(headers=replaces(phone) + require)
            server.advance(0.2)
            assert other.statuses[-1] == 403 and not phone.is_over


class TestWhatIsTold:
    FLOW: ClassVar[dict[str, Any]] = {"start": "tells", "step": {"tells": {"applet": "tells"}}}

    @pytest.mark.rfc(3325)
    @pytest.mark.rfc(3323)
    @pytest.mark.rfc(5806)
    @pytest.mark.rfc(7044)
    def test_who_calls(self) -> None:
        headers = (
            'P-Asserted-Identity: "Alice" <sip:+491234@carrier.example>\r\nPrivacy: id\r\n'
            "Diversion: <sip:+4955@carrier.example>;reason=no-answer\r\n"
            "History-Info: <sip:+4955@carrier.example>;index=1\r\n"
        )
        with ServerUnderTest(self.FLOW, applets={"tells": TELLS}) as server:
            phone = server.phone()
            phone.dial(headers=headers)
            server.advance(0.2)
            said = told(server)
            assert (said["asserted"], said["display"], said["privacy"]) == ("+491234", "Alice", ("id",))
            assert said["diverted"] == [("+4955", "no-answer")]
            assert said["history"] == ("sip:+4955@carrier.example",)

    @pytest.mark.rfc(3326)
    @pytest.mark.parametrize("how", ["BYE", "CANCEL"])
    def test_why_it_ended(self, how: str) -> None:
        first = bot_flow()["step"]["bot"] if how == "BYE" else {"applet": "play", "file": "music.wav", "early": True}
        flow = {"start": "bot", "step": {"bot": {**first, "next": "tells"}, "tells": {"applet": "tells"}}}
        reasons = 'Reason: SIP;cause=200;text="Call completed elsewhere"\r\nReason: Q.850;cause=26\r\n'
        with ServerUnderTest(flow, applets={"tells": TELLS}, sounds={"music.wav": samples(MUSIC)}) as server:
            server.bot(Echo)
            phone = server.phone()
            phone.dial()
            server.advance(0.3)
            phone.send(phone.sip.bye(reasons) if how == "BYE" else phone.sip.cancel(reasons))
            server.advance(0.2)
            assert told(server)["causes"] == [("SIP", 200, "Call completed elsewhere"), ("Q.850", 26, "")]
            ended = server.events("leg_ended")[0].fields
            assert ended["reason"] == "Call completed elsewhere" and ended["causes"] == "SIP 200, Q.850 26"


@pytest.mark.rfc(3264)
@pytest.mark.parametrize("method", ["INVITE", "UPDATE"])
def test_fax_is_refused_and_the_call_stays(method: str) -> None:
    """A gateway that hears a fax tone asks for T.38 in place of audio."""
    t38 = (
        b"v=0\r\no=- 1 2 IN IP4 127.0.0.2\r\ns=-\r\nc=IN IP4 127.0.0.2\r\nt=0 0\r\n"
        b"m=image 40000 udptl t38\r\na=T38FaxVersion:0\r\na=T38MaxBitRate:14400\r\n"
    )
    with ServerUnderTest(bot_flow()) as server:
        server.bot(Echo)
        phone = server.call()
        phone.send(phone.sip.invite(t38) if method == "INVITE" else phone.sip.request(method, body=t38))
        server.advance(0.3)
        assert (phone.responses if method == "INVITE" else phone.replies)[-1].status == 488
        said, began = speech(400, seed=2), server.now
        phone.say(said)
        server.advance(1)
        assert phone.heard_sound(since=began) == said and not phone.is_over
