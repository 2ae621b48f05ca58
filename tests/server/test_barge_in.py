"""Barge-in as the caller hears it: every mode with speech, noise, silence and the echo of the bot, by RTP packets."""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np
import pytest

from agentstream.audio.g711 import PCM_TO_ULAW
from agentstream.testing.bots import Session, Speaker
from agentstream.testing.phone import Phone, speech
from agentstream.testing.server import ServerUnderTest
from tests.audio.voices import background, voice
from tests.server.kit import bot_flow, pcm, samples

SAID_MS = 5000
CALLER_AT_MS = 1000
CALLER_MS = 1200
PLAYOUT_MS = 60
SPEECH_MS, DEADLINE_MS = 200, 1500
FADE = 40
SLOT_MS = 20

ULAW_SILENCE = 0xFF


def ulaw(sound: np.ndarray) -> bytes:
    return PCM_TO_ULAW[np.ascontiguousarray(sound, np.int16).view(np.uint16)].tobytes()


BOT_VOICE = ulaw(voice("demo-congrats", SAID_MS)).replace(b"\xff", b"\xfe").replace(b"\x7f", b"\xfe")
"""Without the two zeros of mu-law: its silence is never taken for the server's."""


def caller(kind: str) -> np.ndarray:
    """What the caller sends while the bot says all of BOT_VOICE."""
    line = background(SAID_MS)
    if kind == "echo":
        return np.rint(samples(BOT_VOICE) * 10 ** (-30 / 20)).astype(np.int16)
    if kind == "silence":
        return line
    hiss = np.random.default_rng(5).normal(0, 2500, CALLER_MS * 8)
    line[CALLER_AT_MS * 8 : (CALLER_AT_MS + CALLER_MS) * 8] = hiss if kind == "noise" else voice("vm-intro", CALLER_MS)
    return line


@attrs.define
class Scene:
    """One call: the bot says everything at once and asks for a mark behind it; the caller says his part meanwhile."""

    server: ServerUnderTest
    bot: Session
    phone: Phone
    began: float

    def run(self, ms: int) -> None:
        self.server.advance(ms / 1000)

    @property
    def heard(self) -> bytes:
        """What the phone has got since the bot began, packet by packet."""
        return self.phone.heard(self.began)

    @property
    def kinds(self) -> list[str]:
        return [event.kind for event in self.server.timeline if event.kind.startswith(("playback", "barge"))]

    def fields(self, kind: str) -> dict[str, Any]:
        (event,) = self.server.events(kind)
        return dict(event.fields)

    def at_ms(self, kind: str) -> float:
        (event,) = self.server.events(kind)
        return (event.at - self.began) * 1000


def begin(server: ServerUnderTest, script: Any = None) -> Scene:
    bots = server.bot(script or (lambda: Speaker(pcm(BOT_VOICE), chunk_bytes=3200)))
    phone = server.call()
    sounding = lambda: [a for a in phone.arrivals if set(a.packet.payload) != {ULAW_SILENCE}]  # noqa: E731
    server.advance_until(sounding)
    return Scene(server, bots.session, phone, sounding()[0].at)


def flow(mode: str, **options: Any) -> dict[str, Any]:
    times = {"barge_in_speech_ms": SPEECH_MS, "barge_in_deadline_ms": DEADLINE_MS}
    return bot_flow(barge_in=mode, **times, **options)


def heard_until(scene: Scene) -> int:
    """Samples of the bot's voice that arrived unchanged from its beginning."""
    heard, said = np.frombuffer(scene.heard, np.uint8), np.frombuffer(BOT_VOICE, np.uint8)
    size = min(len(heard), len(said))
    differing = np.flatnonzero(heard[:size] != said[:size])
    return int(differing[0]) if len(differing) else size


def interrupted(scene: Scene) -> int:
    """The samples heard before the interruption: in time, whole packets, a fade of 5 ms and then nothing at all."""
    cut = heard_until(scene) // 160 * 160
    assert CALLER_AT_MS + PLAYOUT_MS + SPEECH_MS - 60 <= cut / 8 <= CALLER_AT_MS + PLAYOUT_MS + SPEECH_MS + 500
    behind = scene.heard[cut + FADE : cut + FADE + 4000]
    assert behind == bytes([ULAW_SILENCE]) * 4000
    fade = np.abs(samples(scene.heard[cut : cut + FADE]).astype(int))
    assert np.all(fade <= np.abs(samples(BOT_VOICE[cut : cut + FADE]).astype(int)) + 8)
    return cut


@pytest.mark.parametrize("kind", ["speech", "noise", "silence", "echo"])
@pytest.mark.parametrize("mode", ["off", "notify", "clear", "pause"])
def test_matrix(mode: str, kind: str) -> None:
    with ServerUnderTest(flow(mode)) as server:
        scene = begin(server)
        scene.phone.say(ulaw(caller(kind)))
        scene.run(SAID_MS + DEADLINE_MS + 1000)
        events = [name for name in scene.bot.events if name.startswith(("speech", "playback"))]
        said = np.frombuffer(BOT_VOICE, np.uint8)
        if kind != "speech" or mode in ("off", "notify"):
            # The caller hears all of it in one piece, and the bot of nothing but speech.
            assert scene.heard[: len(said)] == BOT_VOICE and scene.kinds == []
            assert bool(server.events("speech_started")) == (kind == "speech")
            told = mode != "off" and kind == "speech"
            assert set(events) == ({"speech_started", "speech_stopped"} if told else set())
            assert scene.bot.marks == ["said"]
            return
        cut = interrupted(scene)
        if mode == "clear":
            assert set(scene.heard[cut + FADE :]) == {ULAW_SILENCE}
            assert scene.kinds == ["playback_cleared", "barge_in_ended"] and events == []
            cleared = scene.fields("playback_cleared")
            assert cleared["by"] == "caller" and cleared["held_ms"] == 0
            assert cleared["played_ms"] == cut // 8 + 5 == SAID_MS - cleared["dropped_ms"]
            assert scene.bot.marks == ["said"]
        else:
            paused, resumed = scene.fields("playback_paused"), scene.fields("playback_resumed")
            assert scene.kinds == ["playback_paused", "playback_resumed"] and resumed["by"] == "deadline"
            assert paused["played_ms"] == resumed["played_ms"] == cut // 8 == SAID_MS - paused["queued_ms"]
            assert {"playback_paused", "playback_resumed", "speech_started", "speech_stopped"} == set(events)
            # It goes on at the sample where it was held, and the mark comes behind its end.
            gap = DEADLINE_MS * 8
            goes_on = scene.heard.find(BOT_VOICE[cut : cut + 800], cut + FADE)
            assert goes_on - cut == pytest.approx(gap, abs=320)
            assert scene.heard[goes_on : goes_on + len(said) - cut] == BOT_VOICE[cut:]
            assert scene.bot.bodies("mark")[0]["mark"] == {
                "name": "said",
                "played": True,
                "played_ms": str(SAID_MS),
                "held_ms": "0",
            }


def test_after_a_clear_by_the_server_the_same_sentence_is_not_heard_and_the_next_is() -> None:
    """A bot that knows nothing of it sends on in real time, with marks; 300 ms without media are its next sentence."""
    with ServerUnderTest(flow("clear")) as server:
        scene = begin(server)
        scene.phone.say(ulaw(caller("speech")))
        server.advance_until(lambda: server.events("playback_cleared"))
        for number in range(150):
            scene.bot.say(pcm(speech(20, seed=number)))
            scene.bot.mark(f"m{number}")
            scene.run(SLOT_MS)
        assert scene.bot.marks == ["said", *(f"m{number}" for number in range(150))]
        assert not server.events("barge_in_ended")
        cut = interrupted(scene)
        assert set(scene.heard[cut + FADE :]) == {ULAW_SILENCE}
        scene.run(320)
        ended = scene.fields("barge_in_ended")
        assert ended["by"] == "quiet" and ended["refused_ms"] == 3000
        said = speech(400, seed=99)
        now = server.now
        scene.bot.say(pcm(said))
        scene.run(500)
        assert scene.phone.heard_sound(now) == said


def test_the_bots_own_clear_ends_it_at_once() -> None:
    with ServerUnderTest(flow("clear", playout_events=True)) as server:
        scene = begin(server)
        scene.phone.say(ulaw(caller("speech")))
        server.advance_until(lambda: server.events("playback_cleared"))
        scene.bot.say(pcm(speech(100, seed=7)))
        scene.bot.clear()
        said = speech(160, seed=8)
        now = server.now
        scene.bot.say(pcm(said))
        scene.run(200)
        assert scene.fields("barge_in_ended")["by"] == "clear"
        assert said in scene.phone.heard_sound(now)
        cleared = [body["playback_cleared"]["by"] for body in scene.bot.bodies("playback_cleared")]
        assert cleared == ["caller", "bot"]
        (mark,) = scene.bot.bodies("mark")
        assert mark["mark"]["played"] is False
        sequence = [int(message.body["sequence_number"]) for message in scene.bot.heard[1:]]
        assert sequence == list(range(1, len(sequence) + 1))


def test_a_clear_confirms_a_pause() -> None:
    with ServerUnderTest(flow("pause")) as server:
        scene = begin(server)
        scene.phone.say(ulaw(caller("speech")))
        server.advance_until(lambda: server.events("playback_paused"))
        scene.run(200)
        scene.bot.clear()
        said = speech(300, seed=8)
        now = server.now
        scene.bot.say(pcm(said))
        scene.run(2000)
        assert scene.phone.heard_sound(now) == said
        paused, cleared = scene.fields("playback_paused"), scene.fields("playback_cleared")
        assert cleared["played_ms"] == paused["played_ms"] == SAID_MS - cleared["dropped_ms"]
        assert scene.fields("playback_resumed")["by"] == "clear"


def test_what_is_said_in_the_guard_does_not_count() -> None:
    with ServerUnderTest(flow("clear", barge_in_guard_ms=3000)) as server:
        scene = begin(server)
        scene.phone.say(ulaw(caller("speech")))
        scene.run(SAID_MS + 500)
        assert scene.heard[: len(BOT_VOICE)] == BOT_VOICE and scene.kinds == []


def test_a_short_word_is_no_barge_in_whatever_the_hang_over() -> None:
    """400 ms of speech and 300 of hang-over are less than 600 ms of speech."""
    with ServerUnderTest(bot_flow(barge_in="clear", barge_in_speech_ms=600)) as server:
        scene = begin(server)
        sound = background(SAID_MS)
        sound[8000 : 8000 + 3200] = voice("vm-intro", 400)
        scene.phone.say(ulaw(sound))
        scene.run(SAID_MS + 500)
        assert server.events("speech_started")
        assert scene.heard[: len(BOT_VOICE)] == BOT_VOICE and scene.kinds == []


def test_a_bot_that_goes_while_it_is_held_is_played_out() -> None:
    with ServerUnderTest(flow("pause")) as server:
        scene = begin(server)
        scene.phone.say(ulaw(caller("speech")))
        server.advance_until(lambda: server.events("playback_paused"))
        scene.bot.close()
        scene.run(SAID_MS)
        assert scene.heard.endswith(bytes([ULAW_SILENCE])) or scene.phone.is_over
        assert BOT_VOICE[-8000:] in scene.heard
        ended = scene.fields("playback_ended")
        assert (ended["played_ms"], ended["held_ms"], ended["dropped_ms"]) == (SAID_MS, 0, 0)


@pytest.mark.parametrize("mode", ["clear", "pause"])
def test_positions_are_those_of_the_bots_own_samples(mode: str) -> None:
    """A bot of 16 kHz on a line of 8: silence behind the fade and the filter's end, and sums that are right."""
    options = flow(mode)
    options["step"]["bot"]["url"] = "ws://127.0.0.1:5001/media?sample-rate=16000"
    with ServerUnderTest(options) as server:
        said = np.repeat(samples(BOT_VOICE), 2).astype("<i2").tobytes()
        scene = begin(server, lambda: Speaker(said, chunk_bytes=6400))
        scene.phone.say(ulaw(caller("speech")))
        kind = "playback_cleared" if mode == "clear" else "playback_paused"
        server.advance_until(lambda: server.events(kind))
        cut = server.now
        scene.run(1000)
        heard = np.abs(samples(scene.phone.heard(cut + 0.03)).astype(int))
        assert heard.max() <= 8
        fields = scene.fields(kind)
        rest = fields["dropped_ms" if mode == "clear" else "queued_ms"]
        assert SAID_MS - 1 <= fields["played_ms"] + rest <= SAID_MS
        assert fields["played_ms"] == pytest.approx((cut - scene.began) * 1000, abs=25)
        scene.run(SAID_MS)
        played = scene.at_ms("playback_resumed") if mode == "pause" else 0
        assert (played > 0) == (mode == "pause") and scene.bot.marks == ["said"]


def test_hold_says_held_and_stop_says_everything() -> None:
    with ServerUnderTest(flow("off", playout_events=True)) as server:
        scene = begin(server)
        scene.run(1000)
        scene.phone.hold()
        scene.run(1000)
        scene.phone.resume()
        scene.run(1000)
        scene.phone.hang_up()
        scene.run(100)
        stop = scene.bot.bodies("stop")[0]["stop"]
        played, held, dropped = (int(stop[name]) for name in ("played_ms", "held_ms", "dropped_ms"))
        assert held == pytest.approx(1000, abs=40) and played == pytest.approx(2000, abs=40)
        assert SAID_MS - 1 <= played + held + dropped <= SAID_MS
        ended = scene.fields("playback_ended")
        assert (ended["played_ms"], ended["held_ms"], ended["dropped_ms"]) == (played, held, dropped)


def test_a_live_downlink_catches_up_after_a_stall() -> None:
    """Two seconds come at once: what is heard lags 400 ms at the most, and ends with what was said last."""
    with ServerUnderTest(bot_flow(downlink="live", live_ms=400)) as server:
        bots = server.bot()
        phone = server.call()
        server.advance(0.5)
        said = speech(2000)
        now = server.now
        bots.session.say(pcm(said), 320)
        bots.session.mark("end")
        server.advance(0.5)
        assert phone.heard_sound(now) == said[-3200:] and bots.session.marks == ["end"]
        server.advance(0.1)
        bots.session.close()
        server.advance(0.2)
        assert server.events("playback_ended")[0].fields["dropped_ms"] == 1600


def test_speech_events_carry_the_time_of_the_stream() -> None:
    """Where the bot finds the caller's first and last loud samples in what it has heard; the call is older."""
    steps = {"play": {"applet": "play", "file": "hello.wav", "next": "bot"}, **bot_flow(speech_events=True)["step"]}
    with ServerUnderTest({"start": "play", "step": steps}, sounds={"hello.wav": samples(speech(700))}) as server:
        bots = server.bot()
        phone = server.call()
        server.advance(1.31)
        phone.say(ulaw(caller("speech")))
        server.advance(SAID_MS / 1000)
        started, stopped = (bots.session.bodies(f"speech_{end}") for end in ("started", "stopped"))
        assert len(started) == len(stopped) >= 1
        heard = np.abs(np.frombuffer(bots.session.audio, "<i2").astype(int))
        loud_ms = np.flatnonzero(heard > 400) / 8
        first, last = started[0]["speech_started"], stopped[-1]["speech_stopped"]
        assert int(first["timestamp"]) == pytest.approx(loud_ms[0], abs=250)
        assert int(last["timestamp"]) == pytest.approx(loud_ms[-1], abs=120)
        assert -40 < float(first["level"]) < 0 and float(first["level"]) - 12 < float(last["level"]) < 0
        assert server.events("speech_started")[0].fields["at_ms"] >= 700 + int(first["timestamp"])
