"""Signalling beside the plain answer: refusals, CANCEL, offers that come late, hold, a codec that changes, drain."""

from __future__ import annotations

import pytest

from agentstream.testing.bots import Echo, Speaker
from agentstream.testing.phone import SILENT, Phone, speech
from agentstream.testing.server import ServerUnderTest
from tests.server.kit import TICK_S, bot_flow, pcm

WAITING = '''
"""Waits before the call is answered."""
import attrs
from twisted.internet.defer import Deferred
from zope.interface import implementer
from agentstream.interfaces import Applet, IRun, Outcome

@attrs.frozen
class Options:
    pass

@implementer(IRun)
class Run:
    def start(self):
        self.done = Deferred()
        return self.done

    def stop(self, reason):
        self.done.callback("done")

wait = Applet(
    name="wait",
    options=Options,
    run=lambda call, options: Run(),
    outcomes=(Outcome("done"),),
    needs_answer=False,
)
'''
WAITING_FLOW = {"start": "wait", "step": {"wait": {"applet": "wait"}}}
VIDEO = (
    b"v=0\r\no=- 1 1 IN IP4 127.0.0.2\r\ns=-\r\nc=IN IP4 127.0.0.2\r\nt=0 0\r\n"
    b"m=audio 40000 RTP/AVP 18\r\na=rtpmap:18 G729/8000\r\n"
)


def refused(server: ServerUnderTest, phone: Phone, status: int, sentence: str) -> None:
    """The call was refused so, the operator and the caller can read why, and nothing is left of it."""
    assert phone.statuses[-1] == status and phone.ended_by == "server"
    assert sentence in phone.responses[-1].header("warning")
    assert any(f"refused with {status}: {sentence}" in line for line in server.log), server.log
    assert not server.live_calls and server.service.plane.legs == 0


def test_a_number_without_a_route_is_404() -> None:
    with ServerUnderTest(bot_flow(), {"route": [{"to": "1*", "flow": "main"}]}) as server:
        phone = server.phone()
        phone.dial("2000")
        server.advance(0.1)
        refused(server, phone, 404, "no route leads to this number")


def test_an_offer_without_a_codec_of_ours_is_488() -> None:
    with ServerUnderTest(bot_flow()) as server:
        phone = server.phone()
        phone.dial(sdp=VIDEO)
        server.advance(0.1)
        refused(server, phone, 488, "the offer holds none of our audio codecs: PCMU, PCMA")


def test_a_node_that_is_full_is_503_until_a_call_ends() -> None:
    with ServerUnderTest(bot_flow(), {"media": {"max_calls": 2}}) as server:
        server.bot(Echo)
        first, _ = server.call(), server.call(host="127.0.0.3")
        third = server.phone(host="127.0.0.4")
        third.dial()
        server.advance(0.1)
        assert third.statuses[-1] == 503
        assert third.responses[-1].header("retry-after") == "5"
        assert "[media] max_calls" in third.responses[-1].header("warning")
        assert any("refused with 503: all 2 calls" in line for line in server.log)
        first.hang_up()
        server.advance(0.1)
        assert server.call(host="127.0.0.5").is_answered


def test_who_belongs_to_no_trunk_is_403() -> None:
    trunk = [{"name": "carrier", "address": ["127.0.0.7"]}]
    with ServerUnderTest(bot_flow(), {"trunk": trunk}) as server:
        server.bot()
        stranger = server.phone(host="127.0.0.8")
        stranger.dial()
        server.advance(0.1)
        assert stranger.statuses[-1] == 403 and stranger.is_over
        assert any("127.0.0.8" in line and "403" in line for line in server.log), server.log
        assert server.call(host="127.0.0.7").is_answered


def test_a_caller_who_gives_up_before_the_answer() -> None:
    with ServerUnderTest(WAITING_FLOW, applets={"wait": WAITING}) as server:
        phone = server.phone()
        phone.dial()
        server.advance(2)
        assert phone.statuses == [100] and len(server.live_calls) == 1
        phone.cancel()
        server.advance(0.1)
        assert phone.statuses == [100, 487]
        assert [reply.status for reply in phone.replies] == [200]
        assert server.steps == [("wait", "done")]
        assert server.events("call_ended")[0].fields["by"] == "user"
        assert server.service.plane.legs == 0


def test_a_call_that_nobody_answers_expires() -> None:
    with ServerUnderTest(WAITING_FLOW, applets={"wait": WAITING}) as server:
        phone = server.phone()
        phone.dial(headers="Expires: 20\r\n")
        server.advance(21)
        assert phone.statuses == [100, 487] and not server.live_calls


def test_a_flow_that_hangs_up_unanswered_refuses_the_call() -> None:
    with ServerUnderTest({"start": "no", "step": {"no": {"applet": "hangup", "reason": "closed"}}}) as server:
        phone = server.phone()
        phone.dial()
        server.advance(0.1)
        assert phone.statuses == [100, 480] and server.steps == [("no", "done")]
        assert server.events("call_ended")[0].fields == {"by": "server", "reason": "closed"}


def test_an_offer_that_is_left_to_the_server() -> None:
    with ServerUnderTest(bot_flow()) as server:
        server.bot(Echo)
        phone = server.phone()
        phone.dial(sdp=b"")
        server.advance(1)
        assert phone.answer is not None and phone.answer.numbers[:2] == (0, 8)
        said = speech(400)
        phone.say(said)
        server.advance(1)
        assert phone.heard_sound() == said


def test_an_offer_left_to_the_server_whose_answer_cannot_be_used() -> None:
    with ServerUnderTest(bot_flow()) as server:
        phone = server.phone()
        phone.description = lambda: VIDEO  # type: ignore[method-assign]
        phone.dial(sdp=b"")
        server.advance(1)
        assert phone.ended_by == "server"
        assert server.events("call_ended")[0].fields["reason"] == "the answer names no audio codec of the offer"
        assert not server.live_calls and server.service.plane.legs == 0


@pytest.mark.parametrize(
    ("direction", "host", "hears_bot", "heard_by_bot"),
    [
        ("inactive", None, False, False),
        ("sendonly", None, False, True),
        ("recvonly", None, True, False),
        ("sendrecv", "0.0.0.0", False, True),
    ],
)
def test_hold_and_resume(direction: str, host: str | None, hears_bot: bool, heard_by_bot: bool) -> None:
    with ServerUnderTest(bot_flow()) as server:
        bot = server.bot()
        phone = server.call()
        server.advance(0.2)
        own_host = phone.connection_host
        phone.connection_host = host or own_host
        phone.reinvite(direction)
        server.advance(0.1)
        mirrored = {"sendonly": "recvonly", "recvonly": "sendonly"}.get(direction, direction)
        assert phone.answer is not None and phone.answer.direction in (mirrored, "recvonly")
        held = server.now
        said, spoken = speech(600, seed=3), speech(600, seed=4)
        packets, messages = len(phone.arrivals), len(bot.session.bodies("media"))
        bot.session.say(pcm(spoken))
        bot.session.mark("spoken")
        phone.say(said)
        server.advance(1)
        marked = next(message for message in bot.session.heard if message.body["event"] == "mark")
        assert 0.55 <= marked.at - held <= 0.65  # what may not be sent is played in real time into nothing
        assert len(bot.session.bodies("media")) == messages + 10
        assert (pcm(said) in bot.session.audio) == heard_by_bot
        assert (phone.heard_sound(since=held) == spoken) == hears_bot
        if not hears_bot:
            assert len(phone.arrivals) == packets
        phone.connection_host = own_host
        phone.resume()
        server.advance(0.1)
        resumed = server.now
        phone.say(said)
        bot.session.say(pcm(spoken))
        server.advance(1)
        assert bot.session.audio.count(pcm(said)) == (2 if heard_by_bot else 1)
        assert phone.heard_sound(since=resumed) == spoken
        assert phone.statuses.count(200) == 3


def test_a_reinvite_that_cannot_be_served_leaves_the_call_as_it_is() -> None:
    with ServerUnderTest(bot_flow()) as server:
        server.bot(Echo)
        phone = server.call()
        phone.reinvite(sdp=VIDEO)
        server.advance(0.1)
        assert phone.statuses[-1] == 488 and not phone.is_over
        said = speech(400)
        phone.say(said)
        server.advance(1)
        assert phone.heard_sound() == said


def test_a_reinvite_without_an_offer() -> None:
    with ServerUnderTest(bot_flow()) as server:
        server.bot(Echo)
        phone = server.call()
        phone.reinvite(sdp=b"")
        server.advance(0.1)
        said = speech(400)
        phone.say(said)
        server.advance(1)
        assert phone.statuses[-1] == 200 and phone.heard_sound() == said


def test_a_codec_that_changes_in_the_middle_keeps_what_is_queued() -> None:
    with ServerUnderTest(bot_flow()) as server:
        bot = server.bot(lambda: Speaker(pcm(speech(1000))))
        phone = server.call()
        server.advance(0.4)
        phone.codecs = ("PCMA",)
        phone.reinvite()
        server.advance(1)
        numbers = [arrival.packet.payload_type for arrival in phone.arrivals]
        changed = numbers.index(8)
        assert set(numbers[:changed]) == {0} and set(numbers[changed:]) == {8}
        assert bot.session.marks == ["said"]
        sounding = [
            arrival for arrival in phone.arrivals if not set(arrival.packet.payload) <= frozenset(SILENT.values())
        ]
        assert len(sounding) == 50
        said = bytes(code for code in speech(600) if code != SILENT["PCMA"])[:3200]
        phone.say(said)
        server.advance(1)
        assert bot.session.audio and not phone.is_over


def test_an_address_that_moves_in_the_middle() -> None:
    with ServerUnderTest(bot_flow()) as server:
        server.bot(Echo)
        phone = server.call()
        moved = server.phone(host="127.0.0.2")
        before = len(phone.arrivals)
        address, phone.rtp_address = phone.rtp_address, moved.rtp_address
        phone.reinvite()
        phone.rtp_address = address
        server.advance(1)
        assert len(moved.arrivals) >= 48 and len(phone.arrivals) <= before + 1
        moved.answer = phone.answer
        said = speech(400)
        moved.say(said)
        server.advance(1)
        assert moved.heard_sound() == said


# The end of a node


def test_a_node_that_stops_lets_its_calls_end() -> None:
    with ServerUnderTest(bot_flow(), {"node": {"drain_s": 30}}) as server:
        server.bot(Echo)
        phone = server.call()
        stopped = server.begin_stop()
        server.advance(0.1)
        late = server.phone(host="127.0.0.3")
        late.dial()
        server.advance(0.1)
        assert late.statuses[-1] == 503
        said = speech(400)
        phone.say(said)
        server.advance(10)
        assert phone.heard_sound() == said and not stopped.called
        phone.hang_up()
        server.advance(2)
        assert stopped.called


def test_a_node_that_stops_waits_no_longer_than_it_is_told() -> None:
    with ServerUnderTest(bot_flow(), {"node": {"drain_s": 3}}) as server:
        bot = server.bot(Echo)
        phone = server.call()
        stopped = server.begin_stop()
        server.advance(2.9)
        assert not phone.is_over
        server.advance(0.2)
        assert phone.ended_by == "server" and bot.session.stop_reason
        assert "the node stopped" in phone.requests[-1].header("reason")
        server.advance(0.1)
        assert stopped.called, "the BYE has its answer"


def test_a_node_that_stops_waits_a_second_for_the_answer_to_its_bye() -> None:
    with ServerUnderTest(bot_flow(), {"node": {"drain_s": 3}}) as server:
        server.bot(Echo)
        phone = server.call()
        phone.close()
        stopped = server.begin_stop()
        server.advance(3.9)
        assert not stopped.called
        server.advance(0.2)
        assert stopped.called


def test_a_node_whose_calls_have_just_ended_stops_at_once() -> None:
    """Transactions last for 32 s behind a call, and nobody waits for them."""
    with ServerUnderTest(bot_flow()) as server:
        server.bot(Echo)
        phone = server.call()
        phone.hang_up()
        server.advance(0.1)
        assert phone.is_over and server.service.edge.stack.servers
        stopped = server.begin_stop()
        server.advance(TICK_S)
        assert stopped.called


def test_a_node_without_calls_stops_at_once() -> None:
    with ServerUnderTest(bot_flow()) as server:
        stopped = server.begin_stop()
        server.advance(TICK_S)
        assert stopped.called
