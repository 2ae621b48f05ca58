"""run_applet: the packaged applets and odd ones, on a line in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
import soundfile
from twisted.internet.defer import Deferred, succeed
from twisted.plugin import IPlugin
from zope.interface import implementer

from agentstream.flow.registry import find_applets
from agentstream.interfaces import IApplet, ICall, IRun, Outcome
from agentstream.testing.applet import run_applet
from tests.server.kit import URL

KNOWN = find_applets().applets


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    soundfile.write(tmp_path / "a.wav", np.full(8000, 7, np.int16), 8000)
    return tmp_path / "a.wav"


def test_play_takes_as_long_as_its_sound(sound: Path) -> None:
    run = run_applet(KNOWN["play"], file=sound)
    assert run.line.is_answered and run.played.tolist() == [7] * 8000
    run.advance(0.99)
    assert run.outcome == "" and not run.is_over
    run.advance(0.02)
    assert run.outcome == "done" and run.is_over and run.line.hung_up == "the flow has ended"
    assert run.clock.getDelayedCalls() == []


def test_play_whose_caller_hangs_up(sound: Path) -> None:
    run = run_applet(KNOWN["play"], file=sound)
    run.advance(0.5)
    run.hang_up()
    assert run.outcome == "done" and run.line.silenced == 1 and run.line.hung_up == ""
    assert run.clock.getDelayedCalls() == []


def test_echo_says_what_it_hears() -> None:
    run = run_applet(KNOWN["echo"], seconds=1)
    said = np.arange(8000, dtype=np.int16)
    run.say(said[:1000])
    assert run.played.tolist() == said[:960].tolist()
    run.say(said[1000:])
    assert run.played.tolist() == said.tolist() and run.outcome == "done"


def test_a_bot_that_closes_and_one_that_breaks() -> None:
    run = run_applet(KNOWN["voicebot"], url=URL)
    assert run.stream.spec.url == URL
    run.stream.close()
    assert run.outcome == "done"
    run = run_applet(KNOWN["voicebot"], url=URL)
    run.stream.drop()
    assert run.outcome == "failed"


def test_a_bot_that_cannot_be_reached() -> None:
    assert run_applet(KNOWN["voicebot"], url=URL, refusal="nobody is there").outcome == "failed"


def test_a_caller_who_leaves_the_bot() -> None:
    run = run_applet(KNOWN["voicebot"], url=URL)
    run.hang_up()
    assert run.stream.stopped == "callended" and run.is_over


def test_options_may_be_given_whole() -> None:
    applet = KNOWN["hangup"]
    run = run_applet(applet, applet.options(reason="closed"))
    assert run.line.hung_up == "closed" and run.outcome == "done" and not run.line.is_answered


@attrs.frozen
class NoOptions:
    """Nothing to set."""


@implementer(IPlugin, IApplet)
@attrs.frozen
class Odd:
    """Does what a test gives it."""

    act: Any
    name = "odd"
    options = NoOptions
    outcomes = (Outcome("done"),)
    needs_answer = True
    after_hangup = False

    def open(self, call: ICall, options: Any) -> Any:
        act = self.act

        @implementer(IRun)
        class Run:
            def start(self) -> Deferred[str]:
                return succeed(act(call))

            def stop(self, reason: str) -> None:
                """Nothing is at work."""

        return Run()


def test_an_applet_that_raises(logged_failures: Any) -> None:
    run = run_applet(Odd(lambda call: 1 / 0))
    assert run.outcome == "" and "division" in run.error and run.is_over
    logged_failures.take(ZeroDivisionError)


def test_an_outcome_that_is_none(logged_failures: Any) -> None:
    run = run_applet(Odd(lambda call: "perfect"))
    assert "none of its outcomes" in run.error
    logged_failures.take(ValueError)


def test_what_the_call_says_of_itself() -> None:
    def act(call: ICall) -> str:
        call.variables["who"] = f"{call.caller} to {call.callee}"
        call.event("looked", rate_hz=call.rate_hz)
        return "done"

    run = run_applet(Odd(act), caller="100", callee="200")
    assert run.variables == {"who": "100 to 200"} and "looked" in run.kinds
