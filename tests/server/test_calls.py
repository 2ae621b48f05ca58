"""Whole calls: from the INVITE to the last timer, with a bot behind them."""

from __future__ import annotations

import numpy as np
import pytest

from agentstream.audio import g711
from agentstream.testing.bots import Echo, Speaker
from agentstream.testing.phone import SILENT, speech
from agentstream.testing.server import ServerUnderTest
from tests.server.kit import DONE, TICK_S, bot_flow, branching_server, pcm, samples, without_lead


def test_what_the_caller_says_reaches_the_bot_and_comes_back_byte_for_byte() -> None:
    with ServerUnderTest(bot_flow()) as server:
        bot = server.bot(Echo)
        phone = server.call()
        said = speech(1000)
        phone.say(said)
        server.advance(2)
        assert phone.statuses == [100, 200]
        assert phone.heard_sound() == said
        assert without_lead(bot.session.audio).startswith(pcm(said))
        assert bot.session.events[:3] == ["connected", "start", "media"]


def test_what_the_bot_is_told() -> None:
    with ServerUnderTest(bot_flow(url="ws://127.0.0.1:5001/media?name=asha"), {"account": {"sid": "tenant"}}) as server:
        bot = server.bot()
        phone = server.phone(user="carol")
        phone.dial("555")
        server.advance(1)
        (call,) = server.live_calls
        heard = bot.session
        assert heard.request.path == "/media" and heard.request.params == {"name": ["asha"]}
        assert heard.start["call_sid"] == call.sid and heard.start["account_sid"] == "tenant"
        assert heard.start["from"] == "carol" and heard.start["to"] == "555"
        assert heard.start["custom_parameters"] == {"name": "asha"}
        media = heard.bodies("media")
        assert [body["media"]["timestamp"] for body in media] == [str(100 * number) for number in range(len(media))]
        assert [body["media"]["chunk"] for body in media] == [str(1 + number) for number in range(len(media))]
        numbered = [body for body in (message.body for message in heard.heard) if body["event"] != "connected"]
        assert [body["sequence_number"] for body in numbered] == [str(1 + number) for number in range(len(numbered))]


def test_the_server_sends_every_20_ms_from_the_answer_on() -> None:
    with ServerUnderTest(bot_flow()) as server:
        bot = server.bot(lambda: Speaker(pcm(speech(300))))
        phone = server.call()
        (answered,) = server.events("answered")
        server.advance(1.98)
        arrivals = phone.arrivals
        assert arrivals[0].at - answered.at <= TICK_S and len(arrivals) == 100
        np.testing.assert_allclose(np.diff([arrival.at for arrival in arrivals]), TICK_S, atol=1e-6)
        packets = [arrival.packet for arrival in arrivals]
        assert set(np.diff([packet.sequence_number for packet in packets]) % 65536) == {1}
        assert set(np.diff([packet.timestamp for packet in packets]) % 2**32) == {160}
        assert [packet.marker for packet in packets] == [True] + [False] * 99
        assert bot.session.marks == ["said"]


def test_the_timeline_of_a_call_that_its_caller_ends() -> None:
    with ServerUnderTest(bot_flow()) as server:
        bot = server.bot(Echo)
        phone = server.call()
        server.advance(1)
        phone.hang_up()
        server.advance(1)
        assert [event.kind for event in server.timeline] == [
            "invite_received",
            "call_started",
            "media_agreed",
            "answered",
            "step_started",
            "stream_connecting",
            "stream_started",
            "leg_ended",
            "stream_ended",
            "playback_ended",
            "step_ended",
            "call_ended",
        ]
        assert server.events("call_ended")[0].fields["by"] == "user"
        assert server.events("leg_ended")[0].fields["rtp_lost"] == 0
        assert server.steps == [("bot", "done")]
        assert bot.session.stop_reason == "callended" and bot.session.events[-1] == "stop"
        assert bot.session.closed_with == 1000
        assert [reply.status for reply in phone.replies] == [200]


def test_a_mark_comes_back_behind_the_last_packet_of_its_sound() -> None:
    with ServerUnderTest(bot_flow()) as server:
        said = speech(500)
        bot = server.bot(lambda: Speaker(pcm(said), chunk_bytes=640))
        phone = server.call()
        server.advance(1)
        (mark,) = [message for message in bot.session.heard if message.body["event"] == "mark"]
        sounding = [arrival.at for arrival in phone.arrivals if set(arrival.packet.payload) != {SILENT["PCMU"]}]
        assert phone.heard_sound() == said
        assert sounding[-1] <= mark.at <= sounding[-1] + TICK_S
        bot.session.mark("nothing is queued")
        asked = server.now
        server.advance(TICK_S)
        assert bot.session.heard[-1].body["event"] in ("mark", "media") and "nothing is queued" in bot.session.marks
        assert next(message.at for message in bot.session.heard if message.at >= asked) - asked < TICK_S


def test_barge_in_is_a_fade_of_at_most_5_ms_and_then_silence() -> None:
    with ServerUnderTest(bot_flow()) as server:
        loud = g711.PCM_TO_ULAW[np.full(80_000, 8000, np.int16).view(np.uint16)].tobytes()
        bot = server.bot(lambda: Speaker(pcm(loud), chunk_bytes=3200))
        phone = server.call()
        server.advance(2)
        bot.session.mark("pending too")
        bot.session.clear()
        cleared = server.now
        server.advance(1)
        after = phone.heard(since=cleared)
        sound = np.flatnonzero(samples(after))
        assert len(after) == 8000 and len(sound) and sound[-1] < 40
        levels = np.abs(samples(after)[:40].astype(int))
        assert (np.diff(levels) <= 0).all()
        assert bot.session.marks == ["said", "pending too"]
        assert [message.at for message in bot.session.heard if message.body["event"] == "mark"][-1] - cleared < TICK_S
        assert 7900 <= server.events("playback_cleared")[0].fields["dropped_ms"] <= 8000
        later = speech(200, seed=7)
        bot.session.say(pcm(later))
        resumed = server.now
        server.advance(0.5)
        assert phone.heard_sound(since=resumed) == later


def test_digits_reach_the_bot_once_each() -> None:
    with ServerUnderTest(bot_flow()) as server:
        bot = server.bot()
        phone = server.call()
        server.advance(0.1)
        phone.press("12*#", duration_ms=100)
        server.advance(2)
        assert bot.session.digits == "12*#"
        assert [body["dtmf"]["duration"] for body in bot.session.bodies("dtmf")] == ["100"] * 4
        assert [event.fields["digit"] for event in server.events("digit_received")] == list("12*#")


@pytest.mark.rfc(4733)
def test_digits_whose_packets_are_lost_and_doubled() -> None:
    with ServerUnderTest(bot_flow()) as server:
        bot = server.bot()
        phone = server.call()
        phone.path_out.lost = frozenset({0, 5, 6})  # the first of digit 1; two ends of it
        phone.path_out.twice = frozenset({2, 4})
        phone.press("17", duration_ms=100)
        server.advance(2)
        assert bot.session.digits == "17"


def test_a_bot_that_closes_is_played_out_and_the_next_step_follows() -> None:
    with branching_server() as server:
        said = speech(400, seed=5)
        bot = server.bot(lambda: Speaker(pcm(said)))
        phone = server.call()
        server.advance(0.1)
        bot.session.close()
        server.advance(2)
        assert server.steps == [("bot", "done"), ("goodbye", "done")]
        assert phone.heard_sound() == said + DONE
        assert phone.ended_by == "server"
        assert server.events("stream_ended")[0].fields["by"] == "bot"


def test_a_bot_that_closes_without_being_played_out() -> None:
    with branching_server(play_out=False) as server:
        said = speech(400, seed=5)
        bot = server.bot(lambda: Speaker(pcm(said)))
        phone = server.call()
        server.advance(0.1)
        bot.session.close()
        closed = server.now
        server.advance(2)
        assert DONE in phone.heard_sound(since=closed)
        assert len(phone.heard_sound(since=closed)) <= len(DONE) + 160


@pytest.mark.parametrize("ptime_ms", [10, 20, 30, 40, 60])
def test_packets_of_any_length(ptime_ms: int) -> None:
    with ServerUnderTest(bot_flow()) as server:
        server.bot(Echo)
        phone = server.call(ptime_ms=ptime_ms)
        said = speech(1200)
        phone.say(said)
        server.advance(2.2)
        assert phone.heard_sound() == said


def test_packets_whose_length_changes() -> None:
    with ServerUnderTest(bot_flow()) as server:
        server.bot(Echo)
        phone = server.call()
        said = speech(1000)
        phone.say(said, ptimes_ms=[20, 30, 10, 60, 40, 20, 30, 30])
        server.advance(2)
        assert phone.heard_sound() == said


def test_a_law() -> None:
    with ServerUnderTest(bot_flow()) as server:
        bot = server.bot(Echo)
        phone = server.call(codecs=("PCMA",))
        said = bytes(code for code in speech(1000) if code != SILENT["PCMA"])[:7840]
        phone.say(said)
        server.advance(2)
        assert phone.codec == "PCMA" and phone.answer is not None and phone.answer.numbers == (8, 101)
        assert phone.heard_sound() == said
        decoded = g711.ALAW_TO_PCM[np.frombuffer(said, np.uint8)].astype("<i2").tobytes()
        assert decoded in bot.session.audio


def test_calls_at_the_same_time_hear_nothing_of_each_other() -> None:
    with ServerUnderTest(bot_flow()) as server:
        server.bot(Echo)
        said = [speech(600, seed=seed) for seed in range(6)]
        phones = [server.call(host=f"127.0.0.{10 + number}") for number in range(6)]
        for phone, sound in zip(phones, said, strict=True):
            phone.say(sound)
        server.advance(1.5)
        assert [phone.heard_sound() for phone in phones] == said
        assert len({call.sid for call in server.live_calls}) == 6
        phones[0].hang_up()
        phones[3].hang_up()
        server.advance(0.1)
        more = speech(600, seed=9)
        phones[1].say(more)
        server.advance(1.5)
        assert phones[1].heard_sound() == said[1] + more


def test_a_port_that_is_used_again_brings_nothing_of_the_call_before() -> None:
    with ServerUnderTest(bot_flow(), {"media": {"max_calls": 1}}) as server:
        bot = server.bot()
        first = server.call()
        first.say(speech(400, seed=1))
        server.advance(0.3)
        first.hang_up()
        server.advance(TICK_S)
        second = server.call(host="127.0.0.3")
        server.advance(1)
        assert set(bot.session.audio) == {0}
        assert set(second.heard()) == {SILENT["PCMU"]}


def test_an_answer_that_is_never_acknowledged_ends_the_call() -> None:
    with ServerUnderTest(bot_flow()) as server:
        bot = server.bot()
        phone = server.phone()
        phone.acknowledges = False
        phone.dial()
        server.advance(33)
        assert phone.statuses.count(200) == 11
        assert server.events("leg_ended")[0].fields["reason"] == "no ACK came for our 200"
        assert phone.ended_by == "server" and bot.session.stop_reason


def test_an_invite_that_is_sent_again_is_one_call() -> None:
    with ServerUnderTest(bot_flow()) as server:
        server.bot()
        phone = server.phone()
        server.reactor.network.path(server.address).twice = frozenset(range(20))
        phone.dial()
        server.advance(1)
        assert len(server.live_calls) == 1 and len(server.events("invite_received")) == 1
        phone.hang_up()
        server.advance(1)
        assert not server.live_calls
