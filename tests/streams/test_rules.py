"""The rules of contract.md sections 1 to 3 and the defaults of section 10, by their numbers, in whole calls.

tests/wire/test_fields.py is the table of fields; here is what is said when, and what is taken.
"""

from __future__ import annotations

import base64
import re
from typing import Any

import pytest

from agentstream.testing.bots import Echo, Session, Speaker
from agentstream.testing.hostile_bots import Refuses
from agentstream.testing.phone import speech
from agentstream.testing.server import ServerUnderTest
from tests.cases import cases
from tests.server.kit import DONE, TICK_S, bot_flow, branching_server, pcm, without_lead
from tests.streams.kit import listening_flow

pytestmark = pytest.mark.contract

FIRST, SECOND = pcm(speech(200, seed=11)), pcm(speech(200, seed=12))


def one_of_each(applet: str) -> Session:
    """A bot's session in which everything happened that can: both sides spoke, a key, a mark, a clear, a hang-up."""
    flow = bot_flow() if applet == "voicebot" else listening_flow({"applet": "echo"}, url="ws://127.0.0.1:5001/")
    with ServerUnderTest(flow) as server:
        bot = server.bot()
        phone = server.call()
        server.advance(0.3)
        phone.press("5")
        bot.session.say(FIRST)
        bot.session.mark("m")
        server.advance(0.5)
        bot.session.clear()
        server.advance(0.5)
        phone.hang_up()
        server.advance(0.5)
        return bot.session


# 1. Messages


def test_1_order_connected_start_media_stop_close() -> None:
    session = one_of_each("voicebot")
    assert session.events[:2] == ["connected", "start"] and session.events[-1] == "stop"
    assert {"connected", "start", "stop"}.isdisjoint(session.events[2:-1])
    assert session.closed_with == 1000


@pytest.mark.parametrize(
    ("event", "voicebot", "stream"),
    [
        ("connected", 1, 1),
        ("start", 1, 1),
        ("media", 12, 12),
        ("dtmf", 1, 0),
        ("mark", 1, 0),
        ("stop", 1, 1),
        ("clear", 0, 0),
    ],
    ids=["connected", "start", "media", "dtmf", "mark", "stop", "clear"],
)
def test_1_1_to_a_voicebot_and_to_a_stream(event: str, voicebot: int, stream: int) -> None:
    """Of media at least as often, of the others exactly."""
    found = tuple(one_of_each(applet).events.count(event) for applet in ("voicebot", "stream"))
    if event == "media":
        assert min(found) >= voicebot
    else:
        assert found == (voicebot, stream)


def test_1_2_dtmf_digit_is_one_of_0_to_9_star_and_hash_each_in_order() -> None:
    with ServerUnderTest(bot_flow()) as server:
        bot = server.bot()
        phone = server.call()
        for digit in "0123456789*#":
            server.advance(0.2)
            phone.press(digit)
        server.advance(0.3)
        assert bot.session.digits == "0123456789*#"
        durations = [int(body["dtmf"]["duration"]) for body in bot.session.bodies("dtmf")]
        assert len(durations) == 12 and min(durations) > 0


def test_1_2_ids_are_32_lower_case_characters_and_the_same_everywhere() -> None:
    session = one_of_each("voicebot")
    assert re.fullmatch(r"[0-9a-z]{32}", session.start["stream_sid"])
    assert re.fullmatch(r"[0-9a-z]{32}", session.start["call_sid"])
    assert {message.body["stream_sid"] for message in session.heard[1:]} == {session.start["stream_sid"]}
    assert session.bodies("stop")[0]["stop"]["call_sid"] == session.start["call_sid"]


def test_1_2_sequence_number_counts_all_from_start_and_chunk_all_media() -> None:
    session = one_of_each("voicebot")
    numbers = [message.body["sequence_number"] for message in session.heard[1:]]
    assert numbers == [str(1 + index) for index in range(len(numbers))]
    chunks = [body["media"]["chunk"] for body in session.bodies("media")]
    assert chunks == [str(1 + index) for index in range(len(chunks))]


MESSAGES = {
    "media": {"event": "media", "media": {"payload": base64.b64encode(FIRST).decode()}},
    "mark": {"event": "mark", "mark": {"name": "m"}},
    "clear": {"event": "clear"},
}


@pytest.mark.parametrize("event", list(MESSAGES))
@cases(
    "extra",
    [
        {},
        {"stream_sid": "made up"},
        {"streamSid": "made up"},
        {"sequence_number": "x", "sequenceNumber": 9, "unknown": {}},
    ],
    ids=["no id", "a wrong id", "a camelCase id", "further keys"],
)
def test_1_3_taken_with_any_or_no_id_and_further_keys(event: str, extra: dict[str, Any]) -> None:
    with ServerUnderTest(bot_flow()) as server:
        bot = server.bot()
        phone = server.call()
        server.advance(0.2)
        if event == "clear":
            bot.session.say(FIRST * 10)
            server.advance(0.2)
        bot.session.send(MESSAGES[event] | extra)
        server.advance(0.4)
        if event == "media":
            assert pcm(phone.heard_sound()) == FIRST
        elif event == "mark":
            assert bot.session.marks == ["m"]
        else:
            assert len(server.events("playback_cleared")) == 1


@pytest.mark.parametrize(
    ("event", "bodies"),
    [
        ("media.payload", [{}, {"media": {}}, {"media": {"payload": 5}}, {"media": "x"}]),
        ("mark.name", [{}, {"mark": {}}, {"mark": {"name": None}}, {"mark": []}]),
    ],
    ids=["media.payload", "mark.name"],
)
def test_1_3_without_its_one_required_field_a_message_is_none_and_the_stream_goes_on(
    event: str, bodies: list[dict[str, Any]]
) -> None:
    with ServerUnderTest(bot_flow()) as server:
        bot = server.bot()
        phone = server.call()
        server.advance(0.2)
        for body in bodies:
            bot.session.send({"event": event.partition(".")[0], **body})
        bot.session.say(FIRST)
        server.advance(0.5)
        assert pcm(phone.heard_sound()) == FIRST and bot.session.marks == []
        phone.hang_up()
        server.advance(0.2)
        assert server.events("stream_ended")[0].fields["invalid"] == len(bodies)


@cases(
    "counters",
    [{}, {"chunk": 7, "timestamp": "x"}, {"chunk": None, "timestamp": -1, "sequenceNumber": "1"}],
)
def test_1_3_sequence_number_chunk_and_timestamp_of_a_bot_are_ignored(counters: dict[str, Any]) -> None:
    with ServerUnderTest(bot_flow()) as server:
        bot = server.bot()
        phone = server.call()
        server.advance(0.2)
        for payload in (FIRST, SECOND):
            media = {"payload": base64.b64encode(payload).decode(), **counters}
            bot.session.send({"event": "media", "sequence_number": "99", "media": media})
        server.advance(0.6)
        assert pcm(phone.heard_sound()) == FIRST + SECOND


def test_1_6_rule_1_the_server_is_the_client_and_sends_connected_and_start_at_once() -> None:
    with ServerUnderTest(bot_flow()) as server:
        bot = server.bot()
        server.call()
        server.advance_until(lambda: bot.sessions and bot.session.heard)
        assert bot.session.events[:2] == ["connected", "start"]
        assert bot.session.heard[1].at - bot.session.heard[0].at < TICK_S


def test_1_6_rule_3_unknown_events_and_ours_are_ignored_and_never_closed_for() -> None:
    with ServerUnderTest(bot_flow()) as server:
        bot = server.bot()
        phone = server.call()
        server.advance(0.2)
        for event in ("connected", "start", "dtmf", "stop", "interrupt", ""):
            bot.session.send({"event": event})
        bot.session.send(b"no JSON")
        bot.session.send_binary(b"\0\1")
        bot.session.say(FIRST)
        server.advance(0.5)
        assert pcm(phone.heard_sound()) == FIRST and not bot.session.is_over


def test_1_6_rule_4_no_mark_that_was_not_asked_for_and_no_clear() -> None:
    with ServerUnderTest(bot_flow()) as server:
        bot = server.bot()
        server.call()
        server.advance(0.2)
        bot.session.say(FIRST)
        bot.session.clear()
        server.advance(1)
        assert {"mark", "clear"}.isdisjoint(bot.session.events)


def test_1_6_rule_5_marks_come_back_in_order_duplicates_and_at_once_when_nothing_is_queued() -> None:
    with ServerUnderTest(bot_flow()) as server:
        bot = server.bot()
        server.call()
        server.advance(0.2)
        for name in ("a", "b", "a", ""):
            bot.session.mark(name)
        server.advance(TICK_S)
        assert bot.session.marks == ["a", "b", "a", ""]


@pytest.mark.rfc(6455)
def test_1_6_rule_7_pings_are_answered() -> None:
    with ServerUnderTest(bot_flow()) as server:
        bot = server.bot()
        server.call()
        server.advance(0.2)
        pongs: list[bytes] = []
        bot.session.wire.onPong = pongs.append
        bot.session.wire.sendPing(b"alive?")
        server.advance(0.2)
        assert pongs == [b"alive?"]
        server.advance(25)
        assert not bot.session.is_over


def test_1_6_rule_8_after_stop_the_server_closes() -> None:
    session = one_of_each("voicebot")
    assert session.events[-1] == "stop" and session.closed_with == 1000 and session.is_over


def test_1_6_rule_9_the_query_stays_on_the_handshake() -> None:
    with ServerUnderTest(bot_flow(url="ws://127.0.0.1:5001/p?sample-rate=16000&a=1&b=2&c=3&d=4&e")) as server:
        bot = server.bot()
        server.call()
        server.advance(0.2)
        assert list(bot.session.request.params) == ["sample-rate", "a", "b", "c", "d"]
        assert bot.session.start["custom_parameters"] == {"a": "1", "b": "2", "c": "3"}
        assert server.events("custom_parameters_left_out")[0].fields["names"] == ["d", "e"]


@cases("size", [0, 1, 2, 319, 320, 640, 1600, 3200, 3201, 32000, 150_000])
def test_1_6_rule_10_and_row_6_a_payload_of_any_size(size: int) -> None:
    with ServerUnderTest(bot_flow()) as server:
        bot = server.bot()
        phone = server.call()
        server.advance(0.2)
        long = (FIRST * 60)[:size]
        bot.session.say(long)
        bot.session.mark("said")
        server.advance(0.2 + size / 16000)
        assert bot.session.marks == ["said"]
        whole = size - size % 320  # a frame that is not full fades out
        assert pcm(phone.heard_sound())[:whole] == long[:whole]


# 2. Audio


def test_2_1_and_row_8_audio_is_16_bit_little_endian_mono_pcm_both_ways() -> None:
    with ServerUnderTest(bot_flow()) as server:
        bot = server.bot(lambda: Speaker(SECOND))
        phone = server.call()
        server.advance(0.1)
        phone.say(speech(200, seed=11))
        server.advance(1)
        assert without_lead(bot.session.audio).startswith(FIRST)
        assert pcm(phone.heard_sound()) == SECOND


def test_2_3_media_is_played_in_order_without_a_gap() -> None:
    with ServerUnderTest(bot_flow()) as server:
        bot = server.bot()
        phone = server.call()
        server.advance(0.2)
        bot.session.say(FIRST + SECOND, chunk_bytes=250)
        server.advance(1)
        assert pcm(phone.heard_sound()) == FIRST + SECOND


def test_2_3_a_mark_comes_back_when_what_is_before_it_has_been_played() -> None:
    with ServerUnderTest(bot_flow()) as server:
        bot = server.bot()
        server.call()
        server.advance(0.2)
        bot.session.say(FIRST)
        bot.session.mark("first")
        bot.session.say(SECOND)
        bot.session.mark("second")
        began = server.now
        server.advance(1)
        first, second = (message.at - began for message in bot.session.heard if message.body["event"] == "mark")
        assert 0.199 <= first <= 0.2 + 3 * TICK_S and 0.2 - TICK_S <= second - first <= 0.2 + TICK_S


def test_1_6_rule_6_and_row_32_clear_drops_what_is_queued_and_pending_marks_come_back_at_once() -> None:
    with ServerUnderTest(bot_flow()) as server:
        bot = server.bot()
        phone = server.call()
        server.advance(0.2)
        bot.session.say(FIRST * 10)
        bot.session.mark("a")
        bot.session.mark("b")
        server.advance(0.3)
        bot.session.clear()
        cleared = server.now
        server.advance(0.5)
        marks = [message.at for message in bot.session.heard if message.body["event"] == "mark"]
        assert bot.session.marks == ["a", "b"] and max(marks) - cleared < TICK_S
        assert len(phone.heard_sound(since=cleared + TICK_S)) == 0


def test_2_3_caller_audio_goes_on_while_the_bot_speaks_and_while_it_is_silent() -> None:
    with ServerUnderTest(bot_flow()) as server:
        bot = server.bot(lambda: Speaker(FIRST * 5))
        server.call()
        server.advance(3)
        times = [int(body["media"]["timestamp"]) for body in bot.session.bodies("media")]
        assert times == [100 * index for index in range(len(times))] and len(times) >= 28


@cases("applet", ["voicebot", "stream"])
def test_2_4_and_3_2_at_most_3_custom_parameters_for_a_bot_of_either_applet(applet: str) -> None:
    url = "ws://127.0.0.1:5001/?a=1&b&c=3&d=4"
    flow = bot_flow(url=url) if applet == "voicebot" else listening_flow({"applet": "echo"}, url=url)
    with ServerUnderTest(flow) as server:
        bot = server.bot()
        server.call()
        server.advance(0.3)
        assert bot.session.start["custom_parameters"] == {"a": "1", "b": "", "c": "3"}


# 3. URL, authentication, limits


def test_3_1_ws_is_used_directly() -> None:
    with ServerUnderTest(bot_flow(url="ws://127.0.0.1:5001/path")) as server:
        bot = server.bot()
        server.call()
        server.advance(0.2)
        assert bot.session.request.path == "/path" and not server.events("stream_url_asked")


def test_3_2_256_characters_of_custom_parameters_in_all() -> None:
    fits = "a" * 100 + "=" + "b" * 155
    with ServerUnderTest(bot_flow(url=f"ws://127.0.0.1:5001/?{fits}&c&dd")) as server:
        bot = server.bot()
        server.call()
        server.advance(0.2)
        assert bot.session.start["custom_parameters"] == {"a" * 100: "b" * 155, "c": ""}


def test_3_3_credentials_leave_the_url_and_become_basic_auth() -> None:
    with ServerUnderTest(bot_flow(url="ws://KEY:TOKEN@127.0.0.1:5001/")) as server:
        bot = server.bot()
        server.call()
        server.advance(0.2)
        assert bot.session.request.headers["authorization"] == "Basic S0VZOlRPS0VO"
        assert "TOKEN" not in server.story() and not any("TOKEN" in line for line in server.log)


@cases(
    ("query", "rate_hz"),
    [
        ("sample-rate=8000", 8000),
        ("sample-rate=16000", 16000),
        ("sample-rate=24000", 24000),
        ("sample_rate=16000", 16000),
        ("sample-rate=44100", 8000),
        ("", 8000),
    ],
    ids=lambda value: str(value) or "none",
)
def test_3_4_and_row_18_sample_rate(query: str, rate_hz: int) -> None:
    with ServerUnderTest(bot_flow(url=f"ws://127.0.0.1:5001/?{query}")) as server:
        bot = server.bot()
        server.call()
        server.advance(0.5)
        assert bot.session.start["media_format"]["sample_rate"] == str(rate_hz)
        assert "custom_parameters" not in bot.session.start
        assert len(base64.b64decode(bot.session.bodies("media")[0]["media"]["payload"])) == rate_hz // 5


def test_3_5_ten_seconds_to_connect_and_one_retry() -> None:
    with branching_server() as server:
        server.reactor.tcp.path(("127.0.0.1", 5001)).is_black_hole = True
        server.call()
        server.advance(19.5)
        assert not server.steps
        server.advance(1)
        assert server.steps[0] == ("bot", "failed")


def test_3_5_the_retry_may_succeed() -> None:
    with ServerUnderTest(bot_flow()) as server:
        bot = server.bot(Refuses, Echo)
        server.call()
        server.advance(0.5)
        assert len(bot.sessions) == 2 and bot.session.start


def test_3_6_a_bot_that_closes_hands_over_to_the_next_applet() -> None:
    with branching_server() as server:
        bot = server.bot()
        phone = server.call()
        server.advance(0.2)
        bot.session.close()
        server.advance(1)
        assert server.steps == [("bot", "done"), ("goodbye", "done")] and phone.heard_sound() == DONE


def test_3_6_a_caller_who_hangs_up_is_callended_and_a_close() -> None:
    session = one_of_each("voicebot")
    assert session.stop_reason == "callended" and session.closed_with == 1000


# 10. Defaults that are told by no field alone


def test_row_9_custom_parameters_arrive_in_start() -> None:
    with ServerUnderTest(bot_flow(url="ws://127.0.0.1:5001/?a=1")) as server:
        bot = server.bot()
        server.call()
        server.advance(0.2)
        assert bot.session.heard[0].body == {"event": "connected"}
        assert bot.session.start["custom_parameters"] == {"a": "1"}


def test_row_10_dtmf_is_nested() -> None:
    (body,) = one_of_each("voicebot").bodies("dtmf")
    assert body["dtmf"]["digit"] == "5" and "digit" not in body


def test_row_11_clear_is_never_sent() -> None:
    assert "clear" not in one_of_each("voicebot").events


def test_row_28_timestamp_is_that_of_the_first_sample() -> None:
    times = [body["media"]["timestamp"] for body in one_of_each("voicebot").bodies("media")]
    assert times[:3] == ["0", "100", "200"]


def test_row_30_an_odd_byte_waits_for_the_next_message() -> None:
    with ServerUnderTest(bot_flow()) as server:
        bot = server.bot()
        phone = server.call()
        server.advance(0.2)
        bot.session.say(FIRST, chunk_bytes=321)
        server.advance(0.5)
        assert pcm(phone.heard_sound()) == FIRST
