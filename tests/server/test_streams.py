"""Streams beside the plain voicebot, on whole calls: other rates, an URL that is asked for, bots that only listen."""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np
import pytest

from agentstream.audio import g711
from agentstream.audio.tones import tone
from agentstream.testing.bots import Echo, Session, Speaker
from agentstream.testing.phone import SILENT, speech
from agentstream.testing.server import ServerUnderTest
from agentstream.testing.web import Answer, Asked
from tests.cases import cases
from tests.server.kit import SORRY, bot_flow, pcm, samples, without_lead

ASKED = "http://127.0.0.1:8080/where?order=17"
BOT_URL = b'{"url": "ws://127.0.0.1:5001/media?order=17"}'


def asking_flow() -> dict[str, Any]:
    steps = {
        "bot": {"applet": "voicebot", "url": ASKED, "on": {"failed": "sorry"}},
        "sorry": {"applet": "play", "file": "sorry.wav"},
    }
    return {"start": "bot", "step": steps}


def asking_server(**stream: Any) -> ServerUnderTest:
    config = {"stream": {"allow_private": True, **stream}}
    return ServerUnderTest(asking_flow(), config, sounds={"sorry.wav": samples(SORRY)})


def test_a_url_that_is_asked_for() -> None:
    with asking_server() as server:
        web = server.web(lambda asked: Answer(BOT_URL))
        bot = server.bot(Echo)
        phone = server.call()
        server.advance(0.1)
        said = speech(300)
        phone.say(said)
        server.advance(1)
        assert phone.heard_sound() == said
        (asked,) = web.asked
        assert asked.query["order"] == ["17"] and asked.query["Direction"] == ["incoming"]
        assert asked.query["CallSid"] == [server.live_calls[0].sid]
        assert bot.session.start["custom_parameters"] == {"order": "17"}


def redirects_for_ever(asked: Asked) -> Answer:
    return Answer(status=302, headers={"Location": ASKED})


@pytest.mark.parametrize(
    ("answer", "after_s"),
    [
        (lambda asked: Answer(b"no", 500), 0.5),
        (lambda asked: Answer(b"{"), 0.5),
        (lambda asked: Answer(json.dumps({"url": "gopher://x"}).encode()), 0.5),
        (lambda asked: Answer(b" " * 100_000), 0.5),
        (redirects_for_ever, 0.5),
        (lambda asked: None, 5.5),
    ],
    ids=["500", "no JSON", "no bot", "too long", "a circle", "no answer"],
)
def test_a_url_that_cannot_be_had(answer: Any, after_s: float) -> None:
    with asking_server() as server:
        server.web(answer)
        phone = server.call()
        server.advance_until(lambda: server.steps, most_s=after_s)
        server.advance(1)
        assert server.steps == [("bot", "failed"), ("sorry", "done")] and phone.heard_sound() == SORRY
        assert len(server.events("stream_failed")) == 1


def test_an_answer_may_not_lead_into_the_house() -> None:
    with asking_server(allow_private=False) as server:
        server.web(lambda asked: Answer(BOT_URL))
        bot = server.bot(Echo)
        server.call()
        server.advance(1)
        assert server.steps[0] == ("bot", "failed") and bot.sessions == []


def test_a_caller_who_hangs_up_while_the_url_is_asked_for() -> None:
    with asking_server() as server:
        server.web(lambda asked: None)
        phone = server.call()
        server.advance(1)
        phone.hang_up()
        server.advance(0.5)
        assert server.steps == [("bot", "done")] and not server.live_calls
        assert not server.reactor.tcp.open_connections


@pytest.mark.contract
@cases("rate_hz", [16000, 24000])
def test_2_1_a_bot_at_another_rate_hears_and_says_the_same_sound(rate_hz: int) -> None:
    url = f"ws://127.0.0.1:5001/media?sample-rate={rate_hz}"
    with ServerUnderTest(bot_flow(url=url)) as server:
        bot = server.bot(Echo)
        phone = server.call()
        assert bot.session.start["media_format"]["sample_rate"] == str(rate_hz)
        sent = tone((1000,), 1000, level_dbov=-12.0)
        phone.say(g711.PCM_TO_ULAW[sent.view(np.uint16)].tobytes())
        server.advance(2)
        heard = np.frombuffer(without_lead(bot.session.audio), "<i2").astype(float)
        middle = heard[rate_hz // 4 : rate_hz // 4 + rate_hz // 2]
        spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle))))
        assert np.argmax(spectrum) * 2 == 1000
        back = samples(phone.heard_sound()).astype(float)
        assert abs(len(back) - 8000) <= 320
        assert abs(20 * np.log10(back[2000:6000].std() / sent[2000:6000].astype(float).std())) < 0.5


def listening_flow(track: str) -> dict[str, Any]:
    steps = {
        "listen": {
            "applet": "stream",
            "url": "ws://127.0.0.1:5002/",
            "track": track,
            "name": "ear",
            "next": "bot",
        },
        "bot": {"applet": "voicebot", "url": "ws://127.0.0.1:5001/", "next": "deafen"},
        "deafen": {"applet": "stream", "action": "stop", "name": "ear", "next": "sorry"},
        "sorry": {"applet": "play", "file": "sorry.wav"},
    }
    return {"start": "listen", "step": steps}


def test_a_bot_that_only_listens_hears_both_sides_and_is_never_heard() -> None:
    with ServerUnderTest(listening_flow("both"), sounds={"sorry.wav": samples(SORRY)}) as server:
        spoken, said = speech(400, seed=4), speech(400, seed=3)
        bot, ear = server.bot(lambda: Speaker(pcm(spoken))), server.bot(Session, port=5002)
        phone = server.call()
        server.advance(0.2)
        ear.session.say(pcm(speech(200, seed=66)))
        ear.session.clear()
        phone.say(said)
        server.advance(1)
        assert phone.heard_sound() == spoken
        tracks: dict[str, bytes] = {}
        for body in ear.session.bodies("media"):
            track = body["media"]["track"]
            tracks[track] = tracks.get(track, b"") + base64.b64decode(body["media"]["payload"])
        assert pcm(said) in tracks["inbound"] and pcm(spoken) in tracks["outbound"]
        bot.session.close()
        server.advance(1)
        assert ear.session.stop_reason == "stopped" and phone.ended_by == "server"
        assert phone.heard_sound() == spoken + SORRY


def test_a_bot_that_only_listens_and_breaks_is_no_business_of_the_call() -> None:
    with ServerUnderTest(listening_flow("inbound"), sounds={"sorry.wav": samples(SORRY)}) as server:
        server.bot(Echo)
        ear = server.bot(Session, port=5002)
        phone = server.call()
        server.advance(0.2)
        ear.session.drop()
        said = speech(300)
        phone.say(said)
        server.advance(1)
        assert phone.heard_sound() == said
        assert [event.fields["clean"] for event in server.events("stream_ended")] == [False]


def test_a_stream_is_stopped_when_its_time_is_over() -> None:
    with ServerUnderTest(bot_flow(max_s=2)) as server:
        bot = server.bot(Session)
        phone = server.call()
        server.advance(1.9)
        assert not bot.session.stop_reason
        server.advance(0.3)
        assert bot.session.stop_reason == "stopped" and phone.ended_by == "server"
        assert server.steps == [("bot", "done")] and set(phone.heard()) == {SILENT["PCMU"]}
