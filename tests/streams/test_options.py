"""What a bot gets only where its step asks for it: mu-law and ``clear`` (contract.md 1.3 and 2.1, rows 8 and 11)."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from agentstream.errors import Problem
from agentstream.flow.loader import examine
from agentstream.testing.bots import Session, Speaker
from agentstream.testing.phone import Phone, speech
from agentstream.testing.server import ServerUnderTest
from tests.audio.voices import voice
from tests.cases import cases
from tests.flow.http import WebServer, answer
from tests.server.kit import TICK_S, URL, bot_flow, pcm
from tests.server.test_barge_in import BOT_VOICE, ulaw
from tests.streams.kit import listening_flow, sound_of

pytestmark = pytest.mark.contract

FIRST, SECOND = pcm(speech(200, seed=23)), pcm(speech(200, seed=24))
SAID, HEARD = speech(400, seed=21), speech(400, seed=22)
"""As mu-law."""

MULAW = {"encoding": "audio/x-mulaw", "sample_rate": "8000", "bit_rate": "64kbps"}


def without_mulaw_lead(heard: bytes) -> bytes:
    return heard.lstrip(b"\xff")


# Row 8: mu-law


def test_row_8_mulaw_both_ways_where_a_step_asks_for_it() -> None:
    with ServerUnderTest(bot_flow(codec="mulaw")) as server:
        bot = server.bot(lambda: Speaker(HEARD))
        phone = server.call()
        server.advance(0.1)
        phone.say(SAID)
        server.advance(1)
        assert bot.session.start["media_format"] == MULAW
        assert without_mulaw_lead(bot.session.audio).startswith(SAID)
        assert phone.heard_sound() == HEARD


def test_row_8_mulaw_keeps_chunks_timestamps_marks_and_digits() -> None:
    with ServerUnderTest(bot_flow(codec="mulaw", chunk_ms=60)) as server:
        bot = server.bot()
        phone = server.call()
        server.advance(0.3)
        began = server.now
        bot.session.say(HEARD[:1601], chunk_bytes=401)  # 200.125 ms, in chunks of odd sizes
        bot.session.mark("said")
        phone.press("5")
        server.advance(0.6)
        bodies = [body["media"] for body in bot.session.bodies("media")]
        assert {len(base64.b64decode(media["payload"])) for media in bodies} == {480}
        assert [media["timestamp"] for media in bodies] == [str(60 * index) for index in range(len(bodies))]
        (marked,) = (message.at for message in bot.session.heard if message.body["event"] == "mark")
        assert 0.2 <= marked - began <= 0.2 + 3 * TICK_S and bot.session.digits == "5"
        assert phone.heard_sound()[:1600] == HEARD[:1600]


def test_row_8_mulaw_of_a_stream_that_only_listens_and_of_the_node() -> None:
    with ServerUnderTest(listening_flow({"applet": "echo"}), {"stream": {"codec": "mulaw"}}) as server:
        bot = server.bot(port=5002)
        phone = server.call()
        server.advance(0.2)
        phone.say(SAID)
        server.advance(1)
        assert bot.session.start["media_format"] == MULAW
        assert without_mulaw_lead(sound_of(bot.session)).startswith(SAID)


def test_row_8_mulaw_what_a_bot_that_does_not_read_loses_is_counted_in_its_milliseconds() -> None:
    lost = []
    for codec in ("pcm16", "mulaw"):
        with ServerUnderTest(bot_flow(codec=codec)) as server:
            bot = server.bot()
            phone = server.call()
            server.advance(0.2)
            bot.session.pause()
            server.advance(30)
            phone.hang_up()
            server.advance(0.2)
            (end,) = server.events("stream_ended")
            assert end.fields["media_dropped"] * 100 == end.fields["dropped_ms"]
            lost.append(end.fields["dropped_ms"])
    assert 0 < lost[1] < lost[0], "half the bytes fill the way to the bot half as fast"


def test_row_8_mulaw_where_an_answer_names_another_rate_it_is_8000() -> None:
    url = "http://127.0.0.1:8000/where"
    with ServerUnderTest(bot_flow(url=url, codec="mulaw"), {"stream": {"allow_private": True}}) as server:
        bot = server.bot()
        WebServer(server.reactor, [answer('{"url": "ws://127.0.0.1:5001/?sample-rate=16000"}')])
        server.call()
        server.advance(0.6)
        assert bot.session.start["media_format"] == MULAW
        (event,) = server.events("sample_rate_not_taken")
        assert (event.fields["asked_hz"], event.fields["codec"]) == (16000, "mulaw")


@cases("codec", ["pcm16", "mulaw"])
def test_rows_2_3_what_media_format_says_is_the_steps_own_business(codec: str) -> None:
    with ServerUnderTest(bot_flow(codec=codec, encoding="raw/slin", bit_rate="16")) as server:
        bot = server.bot()
        server.call()
        server.advance(0.3)
        assert bot.session.start["media_format"] == {"encoding": "raw/slin", "sample_rate": "8000", "bit_rate": "16"}


# Row 11: clear


@contextmanager
def interrupted(**options: Any) -> Iterator[tuple[ServerUnderTest, Session, Phone]]:
    """A bot with a mark behind 5 s of speech, after the caller has begun to speak over it."""
    with ServerUnderTest(bot_flow(barge_in="clear", **options)) as server:
        bot = server.bot()
        phone = server.call()
        server.advance(0.2)
        bot.session.say(pcm(BOT_VOICE), chunk_bytes=3200)
        bot.session.mark("said")
        server.advance(0.5)
        phone.say(ulaw(voice("vm-intro", 1200)))
        server.advance_until(lambda: server.events("playback_cleared"))
        yield server, bot.session, phone


def test_row_11_clear_is_not_sent_to_a_bot_that_was_not_set_up_for_it() -> None:
    with interrupted(playout_events=True) as (server, session, _):
        server.advance(3)
        assert "clear" not in session.events and "playback_cleared" in session.events


def test_row_11_clear_is_sent_where_it_is_configured_before_the_marks_of_what_was_dropped() -> None:
    with interrupted(barge_in_clear=True) as (server, session, _):
        server.advance(3)
        behind = [message.body for message in session.heard if message.body["event"] in ("clear", "mark")]
        assert [body["event"] for body in behind] == ["clear", "mark"]
        clear = behind[0]
        assert list(clear) == ["event", "sequence_number", "stream_sid"]
        assert clear["stream_sid"] == session.start["stream_sid"]
        numbers = [int(message.body["sequence_number"]) for message in session.heard[1:]]
        assert numbers == list(range(1, len(numbers) + 1)), "clear counts like every message"


def test_row_11_clear_is_no_answer_to_the_bots_own() -> None:
    with interrupted(barge_in_clear=True) as (server, session, _):
        server.advance(3)
        for _ in range(3):
            session.say(FIRST)
            session.clear()
            server.advance(0.2)
        assert session.events.count("clear") == 1
        assert [event.fields["by"] for event in server.events("playback_cleared")] == ["caller", "bot", "bot", "bot"]


def test_row_11_a_bot_that_answers_clear_with_clear_is_heard_from_there_on() -> None:
    with interrupted(barge_in_clear=True) as (server, session, phone):
        server.advance(2 * TICK_S)  # the fade has left
        assert session.events.count("clear") == 1
        session.say(FIRST)  # the rest of what it was about to say
        session.clear()
        session.say(SECOND)
        since = server.now
        server.advance(0.5)
        assert pcm(phone.heard_sound(since=since)) == SECOND
        assert session.events.count("clear") == 1
        assert [event.fields["by"] for event in server.events("barge_in_ended")] == ["clear"]


def test_row_11_a_slow_reader_gets_clear_in_its_place() -> None:
    with ServerUnderTest(bot_flow(barge_in="clear", barge_in_clear=True)) as server:
        bot = server.bot()
        phone = server.call()
        server.advance(0.2)
        bot.session.say(pcm(BOT_VOICE), chunk_bytes=3200)
        bot.session.mark("said")
        server.advance(0.1)
        bot.session.pause()
        phone.say(ulaw(voice("vm-intro", 1200)))
        server.advance_until(lambda: server.events("playback_cleared"))
        server.advance(10)
        bot.session.resume()
        server.advance(1)
        assert [event for event in bot.session.events if event in ("clear", "mark")] == ["clear", "mark"]
        numbers = [int(message.body["sequence_number"]) for message in bot.session.heard[1:]]
        assert numbers == list(range(1, len(numbers) + 1))


@cases("mode", ["off", "notify", "pause"])
def test_row_11_a_step_that_clears_nothing_cannot_tell_of_it(tmp_path: Path, mode: str) -> None:
    problems = checked(tmp_path / mode, f'barge_in = "{mode}"\nbarge_in_clear = true\n')
    assert [problem.sentence for problem in problems] == [
        'is refused: barge_in_clear needs barge_in = "clear"; with any other the server clears nothing'
    ]


# Row 6: small chunks


@cases(
    ("codec", "sizes", "small", "uneven"),
    [
        ("pcm16", [3200, 6400, 32000], 0, 0),
        ("pcm16", [640, 320], 2, 0),
        ("pcm16", [3201, 100, 0], 2, 2),
        ("mulaw", [1600, 3200], 0, 0),
        ("mulaw", [160, 1601], 1, 1),
    ],
)
def test_2_2_and_row_6_chunks_smaller_or_less_even_than_asked_for_are_counted_warned_of_once_and_played(
    codec: str, sizes: list[int], small: int, uneven: int
) -> None:
    with ServerUnderTest(bot_flow(codec=codec)) as server:
        bot = server.bot()
        phone = server.call()
        server.advance(0.2)
        for size in sizes * 2:
            bot.session.say(bytes([0x31]) * size)
            if not size:
                bot.session.send({"event": "media", "media": {"payload": ""}})
        server.advance(10)
        samples = sum(sizes) * 2 // (2 if codec == "pcm16" else 1)
        assert samples - 160 <= len(phone.heard_sound()) <= samples + 160
        phone.hang_up()
        server.advance(0.2)
        (end,) = server.events("stream_ended")
        assert (end.fields["small_received"], end.fields["uneven_received"]) == (2 * small, 2 * uneven)
        warnings = [line for line in server.log if "or more are asked for" in line]
        assert len(warnings) == (1 if small or uneven else 0)


def test_row_6_many_streams_of_one_bot_are_warned_of_once_a_minute() -> None:
    with ServerUnderTest(bot_flow()) as server:
        server.bot(lambda: Speaker(b"\1" * 640))
        for _ in range(3):
            phone = server.call()
            server.advance(0.5)
            phone.hang_up()
            server.advance(0.5)
        assert len([line for line in server.log if "or more are asked for" in line]) == 1
        server.advance(60)
        server.call()
        server.advance(0.5)
        assert len([line for line in server.log if "or more are asked for" in line]) == 2


# What agentstream check says


def checked(folder: Path, options: str) -> list[Problem]:
    (folder / "flows").mkdir(parents=True)
    step = f'name = "a"\nstart = "a"\n[step.a]\napplet = "voicebot"\nurl = "{URL}"\n{options}'
    (folder / "flows" / "a.toml").write_text(step)
    (folder / "a.toml").write_text("[[route]]\nto = '*'\nflow = 'a'\n")
    return examine(folder / "a.toml")[1]


@cases("applet", ["voicebot", "stream"])
@cases("where", ["step", "node"])
def test_row_8_mulaw_at_another_rate_is_refused_by_check(tmp_path: Path, applet: str, where: str) -> None:
    def problems(query: str) -> list[tuple[str, str]]:
        folder = tmp_path / applet / where / (query or "none")
        (folder / "flows").mkdir(parents=True)
        codec = 'codec = "mulaw"\n'
        url = f'url = "ws://127.0.0.1:5001/?{query}"\n'
        step = f'name = "a"\nstart = "a"\n[step.a]\napplet = "{applet}"\n{url}' + codec * (where == "step")
        (folder / "flows" / "a.toml").write_text(step)
        node = f"[stream]\n{codec}" * (where == "node")
        (folder / "a.toml").write_text(f"{node}[[route]]\nto = '*'\nflow = 'a'\n")
        return [(problem.path, problem.sentence) for problem in examine(folder / "a.toml")[1]]

    assert problems("") == problems("sample-rate=8000") == problems("sample-rate=44100") == []
    sentence = (
        'asks for 16000 samples a second, but the codec mulaw has 8000; take sample-rate out, or set codec = "pcm16"'
    )
    assert problems("sample-rate=16000") == problems("sample_rate=16000") == [("step.a.url", sentence)]
