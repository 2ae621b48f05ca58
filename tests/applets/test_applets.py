"""The applets that come with the server, on a leg that appends to a list."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from agentstream.errors import StreamFailed
from agentstream.flow.definition import Flow, Step
from agentstream.interfaces import IApplet, StreamEnd, StreamSpec
from agentstream.testing.applet import run_applet
from applets.connect import connect
from applets.echo import echo
from applets.hangup import hangup
from applets.hold import hold
from applets.play import play
from applets.send_digits import send_digits
from applets.transfer import transfer
from applets.voicebot import voicebot
from tests.flow.fakes import FakeApplet, FakeStream, Scene

URL = "ws://127.0.0.1:5001/media"


def scene_of(applet: IApplet, **options: Any) -> Scene:
    """One step of the applet; every outcome leads to a step named after it."""
    follow = [outcome.name for outcome in applet.outcomes]
    steps = {"it": Step("it", applet, applet.options(**options), {name: name for name in follow})}
    steps |= {name: Step(name, FakeApplet(name, after_hangup=True), None) for name in follow}
    scene = Scene(Flow("flow", "it", steps))
    scene.call.start()
    return scene


def test_voicebot_is_connected_after_the_answer_and_done_when_the_bot_closes() -> None:
    scene = scene_of(voicebot, url=URL, chunk_ms=40, play_out=False)
    assert scene.leg.log == ["answer", StreamSpec(URL, chunk_ms=40, play_out=False)]
    stream = FakeStream()
    scene.leg.opening[0].callback(stream)
    assert scene.steps == []
    stream.end(StreamEnd(True, "bot", 1000, "closed"))
    assert scene.steps == [("it", "done"), ("done", "done")]


def test_voicebot_whose_connection_breaks() -> None:
    scene = scene_of(voicebot, url=URL)
    stream = FakeStream()
    scene.leg.opening[0].callback(stream)
    stream.end(StreamEnd(False, "NA", 1006, "no close frame came"))
    assert scene.steps == [("it", "failed"), ("failed", "done")]


def test_voicebot_that_refuses() -> None:
    scene = scene_of(voicebot, url=URL)
    scene.leg.opening[0].errback(StreamFailed("the bot refused the handshake with status 403"))
    assert scene.steps == [("it", "failed"), ("failed", "done")]


def test_voicebot_whose_caller_hangs_up() -> None:
    scene = scene_of(voicebot, url=URL)
    stream = FakeStream()
    scene.leg.opening[0].callback(stream)
    scene.call.leg_ended("user", "BYE")
    assert stream.log == ["stop callended"]
    assert scene.steps == [("it", "done"), ("done", "done")]


def test_voicebot_whose_caller_hangs_up_while_it_is_being_connected() -> None:
    scene = scene_of(voicebot, url=URL)
    scene.call.leg_ended("user", "BYE")
    assert scene.leg.log[-1] == "give up"
    assert scene.steps == [("it", "done"), ("done", "done")]


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    soundfile.write(tmp_path / "a.wav", np.zeros(800, np.int16), 8000)
    return tmp_path / "a.wav"


def test_play_is_done_when_the_last_sample_has_left(sound: Path) -> None:
    scene = scene_of(play, file=sound)
    assert scene.leg.log == ["answer", "play 800"] and scene.steps == []
    scene.leg.playing[0].callback(None)
    assert scene.steps == [("it", "done"), ("done", "done")]


def test_play_whose_caller_hangs_up(sound: Path) -> None:
    scene = scene_of(play, file=sound)
    scene.call.leg_ended("user", "BYE")
    assert scene.leg.log[-1] == "silence"
    assert scene.steps == [("it", "done"), ("done", "done")]


def test_play_of_a_file_that_has_gone(sound: Path, logged_failures: Any) -> None:
    sound.unlink()
    scene = scene_of(play, file=sound)
    assert scene.steps == [("it", "failed"), ("failed", "done")]
    (failure,) = logged_failures.take()
    assert failure.getErrorMessage() == f"the step names {sound}, which cannot be read: No such file or directory"


def test_echo_until_the_caller_hangs_up() -> None:
    scene = scene_of(echo)
    for chunk in range(3):
        scene.leg.ears[0](np.full(160, chunk, np.int16), 20 * chunk)
    assert scene.leg.log == ["answer", "play 160", "play 160", "play 160"]
    scene.call.leg_ended("user", "BYE")
    assert scene.steps == [("it", "done"), ("done", "done")] and not scene.leg.ears


def test_echo_for_a_second() -> None:
    scene = scene_of(echo, seconds=1)
    for chunk in range(50):
        assert scene.steps == []
        scene.leg.ears[0](np.zeros(160, np.int16), 20 * chunk)
    assert scene.steps == [("it", "done"), ("done", "done")] and not scene.leg.ears
    assert scene.leg.log.count("play 160") == 50


def test_hangup_refuses_a_call_that_was_not_answered() -> None:
    scene = scene_of(hangup, reason="closed")
    assert scene.leg.log == ["hang up: closed"]
    assert scene.steps == [("it", "done"), ("done", "done")]


def test_play_early_does_not_answer() -> None:
    sound = Path(__file__).parents[2] / "agentstream" / "samples" / "welcome.wav"
    scene = scene_of(play, file=sound, early=True)
    assert scene.leg.log[0] == "early media" and "answer" not in scene.leg.log
    assert scene_of(play, file=sound).leg.log[0] == "answer"


@pytest.mark.parametrize(
    ("applet", "options", "asked"),
    [
        (send_digits, {"digits": "12#"}, "digits 12#"),
        (hold, {}, "hold"),
        (hold, {"action": "resume"}, "resume"),
        (transfer, {"to": "2000"}, "transfer 2000"),
    ],
)
@pytest.mark.parametrize("refusal", ["", "no"])
def test_what_is_asked_of_the_phone_is_done_or_has_failed(
    applet: IApplet, options: dict[str, str], asked: str, refusal: str
) -> None:
    run = run_applet(applet, refusal=refusal, **options)
    assert run.line.asked == [asked]
    assert run.outcome == ("failed" if refusal else "done")
    assert run.line.is_answered and not run.error


class TestAttendedTransfer:
    def test_it_rings_there_first(self) -> None:
        run = run_applet(transfer, to="alice", attended=True, ring_s=20, timeout_s=10)
        spec = run.conversation.spec
        assert (spec.to, spec.timeout_s, spec.hand_over_s) == (("alice",), 20, 10)
        run.conversation.pick_up()
        assert run.outcome == ""
        run.conversation.hang_up()
        assert run.outcome == "done" and run.line.asked == []

    @pytest.mark.parametrize("outcome", ["busy", "no_answer", "failed"])
    def test_nobody_answers(self, outcome: str) -> None:
        run = run_applet(transfer, to="alice", attended=True)
        run.conversation.refuse(outcome, 480, "480 Not Here")
        assert run.outcome == "failed" and run.line.asked == []

    @pytest.mark.parametrize("is_up", [False, True])
    def test_the_caller_hangs_up(self, is_up: bool) -> None:
        run = run_applet(transfer, to="alice", attended=True)
        if is_up:
            run.conversation.pick_up()
        run.hang_up()
        assert run.conversation.end is not None and run.is_over


class TestConnect:
    @pytest.mark.contract
    def test_4_5_they_talk_and_the_other_end_hangs_up(self) -> None:
        run = run_applet(connect, to=("alice", "+4930"), ring="in_turn", timeout_s=20, record=True)
        spec = run.conversation.spec
        assert (spec.to, spec.in_turn, spec.timeout_s) == (("alice", "+4930"), True, 20)
        assert run.line.recordings == []
        run.conversation.pick_up("+4930")
        assert run.line.recordings[0].done == ["record"]
        run.advance(12.2)
        run.conversation.hang_up()
        assert run.outcome == "done"
        assert run.line.recordings[0].done == ["record", "stop"]
        assert run.variables == {
            "DialCallStatus": "completed",
            "DialCallDuration": "12",
            "DialWhomNumber": "+4930",
            "DialSipStatus": "200",
            "DialReason": "BYE",
        }

    @pytest.mark.contract
    @pytest.mark.parametrize(("outcome", "said"), [("busy", "busy"), ("no_answer", "no-answer"), ("failed", "failed")])
    def test_4_5_nobody_answers(self, outcome: str, said: str) -> None:
        run = run_applet(connect, to=("alice",))
        run.conversation.refuse(outcome, 500, "500 Oh")
        assert run.outcome == outcome
        assert (run.variables["DialCallStatus"], run.variables["DialSipStatus"]) == (said, "500")
        assert run.variables["DialWhomNumber"] == ""

    def test_nobody_hangs_up_who_has_not_picked_up(self) -> None:
        """What a test of somebody's applet has mixed up is told, and is no conversation since the clock's beginning."""
        run = run_applet(connect, to=("alice",))
        with pytest.raises(AssertionError, match="nobody has picked up"):
            run.conversation.hang_up()
        run.conversation.refuse()
        with pytest.raises(AssertionError, match="it is over"):
            run.conversation.pick_up()
        assert run.outcome == "busy"

    @pytest.mark.parametrize(("is_up", "said"), [(False, "canceled"), (True, "completed")])
    def test_the_caller_hangs_up(self, is_up: bool, said: str) -> None:
        run = run_applet(connect, to=("alice",))
        if is_up:
            run.conversation.pick_up()
        run.hang_up()
        assert run.conversation.end is not None
        assert run.variables["DialCallStatus"] == said
        assert run.is_over
