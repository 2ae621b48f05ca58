"""A call's way through its flow, whatever applets, the leg and the caller do."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from twisted.internet.defer import CancelledError, Deferred, fail, succeed

from agentstream.errors import StreamFailed
from agentstream.flow.call import MAXIMUM_STEPS
from agentstream.interfaces import ICall, Outcome, StreamSpec
from tests.flow.fakes import WAIT, FakeApplet, FakeLeg, FakeStream, Scene, flow_of

FAILING = (Outcome("done"), Outcome("failed"))
SILENCE = np.zeros(160, np.int16)


def test_steps_follow_their_outcomes_and_the_last_ends_the_call() -> None:
    one = FakeApplet("one", lambda call: succeed("other"), (Outcome("done"), Outcome("other")))
    two, three = FakeApplet("two"), FakeApplet("three")
    scene = Scene(flow_of((one, {"done": "three", "other": "two"}), (two, {"done": "three"}), (three, {})))
    scene.call.start()
    assert scene.steps == [("one", "other"), ("two", "done"), ("three", "done")]
    assert scene.leg.log == ["hang up: the flow has ended"]
    assert scene.kinds[0] == "call_started" and scene.kinds[-1] == "call_ended"
    assert scene.ended == [scene.call]


def test_it_is_answered_before_the_first_step_that_needs_it_and_once() -> None:
    early, late = FakeApplet("early"), FakeApplet("late", needs_answer=True)
    later = FakeApplet("later", needs_answer=True)
    scene = Scene(flow_of((early, {"done": "late"}), (late, {"done": "later"}), (later, {})))
    scene.call.start()
    assert scene.kinds == [
        "call_started",
        *("step_started", "step_ended", "answered"),
        *("step_started", "step_ended", "step_started", "step_ended"),
        "call_ended",
    ]
    assert scene.leg.log.count("answer") == 1


def test_the_caller_is_gone_while_it_is_being_answered() -> None:
    applet = FakeApplet("one", needs_answer=True)
    scene = Scene(flow_of((applet, {})), FakeLeg(answering=Deferred()))
    scene.call.start()
    scene.call.leg_ended("user", "cancelled")
    assert not applet.runs
    assert scene.kinds == ["call_started", "call_ended"]
    scene.leg.answering.callback(None)  # type: ignore[union-attr]
    assert not applet.runs


def test_an_answer_that_fails_ends_the_call() -> None:
    scene = Scene(flow_of((FakeApplet("one", needs_answer=True), {})), FakeLeg(answering=fail(RuntimeError("no port"))))
    scene.call.start()
    assert scene.kinds == ["call_started", "answer_failed", "call_ended"]
    assert scene.leg.log == ["answer", "hang up: the call could not be answered"]


def test_the_end_before_the_start() -> None:
    scene = Scene(flow_of((FakeApplet("one"), {})))
    scene.call.leg_ended("user", "cancelled")
    scene.call.start()
    assert scene.steps == [] and scene.ended == [scene.call]


def test_a_hang_up_stops_the_step_and_goes_on_through_steps_that_run_after_it() -> None:
    talk = FakeApplet("talk", lambda call: WAIT, FAILING, at_stop=lambda run: run.done.callback("done"))
    report, sorry = FakeApplet("report", after_hangup=True), FakeApplet("sorry")
    last = FakeApplet("last", after_hangup=True)
    scene = Scene(
        flow_of(
            (talk, {"done": "report", "failed": "sorry"}),
            (report, {"done": "sorry"}),
            (sorry, {"done": "last"}),
            (last, {}),
        )
    )
    scene.call.start()
    scene.call.leg_ended("user", "BYE")
    assert talk.stopped == ["callended"]
    assert scene.steps == [("talk", "done"), ("report", "done")]
    assert scene.events[-1].fields == {"by": "user", "reason": "BYE"}
    assert not scene.leg.log


def test_a_run_that_does_not_stop_is_left_behind() -> None:
    talk = FakeApplet("talk", lambda call: WAIT, FAILING)
    report = FakeApplet("report", lambda call: WAIT, after_hangup=True)
    scene = Scene(flow_of((talk, {"done": "report"}), (report, {})))
    scene.call.start()
    scene.call.leg_ended("user", "BYE")
    assert scene.steps == [("talk", "done")] and len(report.runs) == 1
    talk.runs[0].done.callback("failed")
    assert scene.steps == [("talk", "done")]
    report.runs[0].done.callback("done")
    assert scene.ended == [scene.call]


def _raise(call: ICall) -> Any:
    raise RuntimeError("broken")


BREAKDOWNS = {
    "raises": _raise,
    "errbacks": lambda call: fail(RuntimeError("broken")),
    "nonsense": lambda call: succeed("nonsense"),
    "unhashable": lambda call: succeed([]),
    "no Deferred": lambda call: "done",
}


@pytest.mark.parametrize("act", BREAKDOWNS.values(), ids=BREAKDOWNS)
def test_a_broken_applet_is_failed_where_it_has_that_outcome(act: Any, logged_failures: Any) -> None:
    one = FakeApplet("one", act, FAILING)
    two, sorry = FakeApplet("two"), FakeApplet("sorry")
    scene = Scene(flow_of((one, {"done": "two", "failed": "sorry"}), (two, {}), (sorry, {})))
    scene.call.start()
    assert scene.steps == [("one", "failed"), ("sorry", "done")]
    (failed,) = [event for event in scene.events if event.kind == "step_failed"]
    assert failed.fields["step"] == "one" and "Traceback" in failed.fields["traceback"]
    assert one.stopped == ["stopped"]
    assert len(logged_failures.take(RuntimeError, ValueError, TypeError)) == 1


def test_a_broken_applet_without_that_outcome_ends_the_call(logged_failures: Any) -> None:
    one = FakeApplet("one", lambda call: fail(RuntimeError("broken")))
    two = FakeApplet("two", after_hangup=True)
    scene = Scene(flow_of((one, {"done": "two"}), (two, {})))
    scene.call.start()
    assert scene.leg.log == ["hang up: the step one failed"]
    assert not two.runs and scene.ended == [scene.call]
    logged_failures.take(RuntimeError)


def test_an_exception_while_hearing_ends_the_step(logged_failures: Any) -> None:
    def listen(call: ICall) -> Any:
        call.hear(20, lambda chunk, timestamp_ms: 1 / 0)
        call.hear_digits(lambda digit, duration_ms: None)
        return WAIT

    one, two = FakeApplet("one", listen, FAILING), FakeApplet("two")
    scene = Scene(flow_of((one, {"failed": "two"}), (two, {})))
    scene.call.start()
    scene.leg.ears[0](SILENCE, 0)
    assert scene.steps == [("one", "failed"), ("two", "done")]
    assert not scene.leg.ears
    logged_failures.take(ZeroDivisionError)


def test_a_run_that_breaks_when_it_is_stopped(logged_failures: Any) -> None:
    def break_down(run: Any) -> None:
        raise RuntimeError("broken")

    one = FakeApplet("one", lambda call: WAIT, FAILING, at_stop=break_down)
    two = FakeApplet("two", after_hangup=True)
    scene = Scene(flow_of((one, {"failed": "two"}), (two, {})))
    scene.call.start()
    scene.call.leg_ended("user", "BYE")
    assert one.stopped == ["callended"]
    assert scene.steps == [("one", "failed"), ("two", "done")]
    logged_failures.take(RuntimeError)


def test_a_circle_is_cut_off_without_recursion() -> None:
    one, two = FakeApplet("one"), FakeApplet("two")
    scene = Scene(flow_of((one, {"done": "two"}), (two, {"done": "one"})))
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len(_frames()) + 120)
    try:
        scene.call.start()
    finally:
        sys.setrecursionlimit(limit)
    assert len(scene.steps) == MAXIMUM_STEPS
    assert scene.kinds[-2:] == ["flow_cut_off", "call_ended"]
    assert scene.leg.log == ["hang up: the flow was cut off"]


def _frames() -> list[Any]:
    found, frame = [], sys._getframe()
    while frame:
        found.append(frame)
        frame = frame.f_back  # type: ignore[assignment]
    return found


def test_a_step_that_hangs_up_is_followed_by_what_runs_after_it() -> None:
    def hang_up(call: ICall) -> Any:
        call.hang_up("enough")
        call.hang_up("again")
        return succeed("done")

    one, two = FakeApplet("one", hang_up), FakeApplet("two")
    three = FakeApplet("three", after_hangup=True)
    scene = Scene(flow_of((one, {"done": "three"}), (three, {"done": "two"}), (two, {})))
    scene.call.start()
    assert scene.leg.log == ["hang up: enough"]
    assert scene.steps == [("one", "done"), ("three", "done")]
    assert scene.events[-1].fields == {"by": "server", "reason": "enough"}


def test_what_a_step_that_is_over_asks_for_does_not_happen() -> None:
    one, two = FakeApplet("one"), FakeApplet("two", lambda call: WAIT)
    scene = Scene(flow_of((one, {"done": "two"}), (two, {})))
    scene.call.start()
    stale = one.runs[0].call
    stale.play(SILENCE)
    stale.answer()
    stale.open_stream(StreamSpec("ws://127.0.0.1/"))
    stale.hear(20, lambda chunk, timestamp_ms: None)()
    stale.hang_up("late")
    assert scene.leg.log == [] and scene.leg.ears == []
    scene.call.leg_ended("user", "BYE")


def test_a_stream_that_speaks_ends_with_its_step_and_one_that_listens_with_the_call() -> None:
    streams = []

    def connect(call: ICall) -> Any:
        for two_way in (True, False):
            call.open_stream(StreamSpec("ws://127.0.0.1/", two_way=two_way)).addCallback(streams.append)
        return WAIT

    one, two = FakeApplet("one", connect), FakeApplet("two", lambda call: WAIT)
    scene = Scene(flow_of((one, {"done": "two"}), (two, {})))
    scene.call.start()
    speaks, listens = FakeStream(), FakeStream()
    for opening, stream in zip(scene.leg.opening, (speaks, listens), strict=True):
        opening.callback(stream)
    assert streams == [speaks, listens]
    one.runs[0].done.callback("done")
    assert speaks.log == ["stop stopped"] and listens.log == []
    scene.call.leg_ended("user", "BYE")
    assert listens.log == ["stop callended"]


def test_connecting_is_given_up_when_the_step_is_over() -> None:
    def connect(call: ICall) -> Any:
        call.open_stream(StreamSpec("ws://127.0.0.1/"))
        return WAIT

    one = FakeApplet("one", connect)
    scene = Scene(flow_of((one, {})))
    scene.call.start()
    scene.call.leg_ended("user", "BYE")
    assert scene.leg.log[1:] == ["give up"]


def test_a_bot_that_refuses_is_the_applets_to_deal_with() -> None:
    def connect(call: ICall) -> Any:
        opened = call.open_stream(StreamSpec("ws://127.0.0.1/"))
        return opened.addErrback(lambda failure: failure.trap(StreamFailed) and "failed")

    one = FakeApplet("one", connect, FAILING)
    scene = Scene(flow_of((one, {})))
    scene.call.start()
    scene.leg.opening[0].errback(StreamFailed("the bot refused the handshake with status 403"))
    assert scene.steps == [("one", "failed")]


def test_sounds_keep_their_order_while_a_file_is_read(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(800, np.int16), 8000)
    reading: Deferred[None] = Deferred()
    finished = []

    def play(call: ICall) -> Any:
        call.play(tmp_path / "a.wav").addCallback(lambda _: finished.append("file"))
        call.play(SILENCE).addCallback(lambda _: finished.append("samples"))
        return WAIT

    one = FakeApplet("one", play)
    scene = Scene(flow_of((one, {})), defer=lambda fn, *args: reading.addCallback(lambda _: fn(*args)))
    scene.call.start()
    assert scene.leg.log == []
    reading.callback(None)
    assert scene.leg.log == ["play 800", "play 160"]
    for playing in scene.leg.playing:
        playing.callback(None)
    assert finished == ["file", "samples"]
    scene.call.leg_ended("user", "BYE")


def test_cancelling_a_sound_reaches_the_leg_and_lets_the_next_go_on(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(800, np.int16), 8000)
    cancelled = []

    def play(call: ICall) -> Any:
        for audio in (tmp_path / "a.wav", SILENCE):
            playing = call.play(audio)
            playing.addErrback(lambda failure: cancelled.append(failure.type.__name__))
            playing.cancel()
        return WAIT

    one = FakeApplet("one", play)
    scene = Scene(flow_of((one, {})), defer=lambda fn, *args: Deferred())
    scene.call.start()
    assert scene.leg.log == ["play 160", "silence"]
    assert cancelled == ["CancelledError", "CancelledError"]
    scene.call.leg_ended("user", "BYE")


def test_a_wait_takes_its_time() -> None:
    one = FakeApplet("one", lambda call: call.wait(1.5).addCallback(lambda _: "done"))
    scene = Scene(flow_of((one, {})))
    scene.call.start()
    scene.clock.advance(1.4)
    assert not scene.steps
    scene.clock.advance(0.1)
    assert scene.steps == [("one", "done")] and not scene.clock.getDelayedCalls()


def test_a_wait_that_is_cancelled_is_over() -> None:
    waits: list[Deferred[None]] = []

    def act(call: ICall) -> Any:
        waits.append(call.wait(60))
        return waits[0].addErrback(lambda failure: failure.trap(CancelledError) and None).addCallback(lambda _: "done")

    scene = Scene(flow_of((FakeApplet("one", act), {})))
    scene.call.start()
    waits[0].cancel()
    assert scene.steps == [("one", "done")] and not scene.clock.getDelayedCalls()


@pytest.mark.parametrize("is_caller", [True, False])
def test_a_wait_ends_with_its_step_and_tells_nobody(is_caller: bool) -> None:
    told: list[Any] = []

    def act(call: ICall) -> Any:
        call.wait(60).addBoth(told.append)
        return WAIT

    one, two = FakeApplet("one", act), FakeApplet("two", lambda call: WAIT)
    scene = Scene(flow_of((one, {"done": "two"}), (two, {})))
    scene.call.start()
    if is_caller:
        scene.call.leg_ended("user", "BYE")
    else:
        one.runs[0].done.callback("done")
    assert not scene.clock.getDelayedCalls() and not told
    one.runs[0].call.wait(1).addBoth(told.append)
    assert not scene.clock.getDelayedCalls()
    if not is_caller:
        scene.call.leg_ended("user", "BYE")
    assert not told


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf")])
def test_a_wait_of_no_time_that_there_is_is_the_applets_fault(seconds: float, logged_failures: Any) -> None:
    scene = Scene(flow_of((FakeApplet("one", lambda call: call.wait(seconds), FAILING), {})))
    scene.call.start()
    assert scene.steps == [("one", "failed")]
    logged_failures.take(ValueError)


def test_wrong_samples_are_the_applets_fault(logged_failures: Any) -> None:
    one = FakeApplet("one", lambda call: call.play(np.zeros(3)), FAILING)  # type: ignore[arg-type]
    scene = Scene(flow_of((one, {})))
    scene.call.start()
    assert scene.steps == [("one", "failed")]
    logged_failures.take(TypeError)


def test_an_observer_that_breaks_harms_nobody(logged_failures: Any) -> None:
    scene = Scene(flow_of((FakeApplet("one"), {})))
    scene.call.timeline.observers.insert(0, lambda event: 1 / 0)
    scene.clock.advance(2.5)
    scene.call.start()
    assert scene.kinds[-1] == "call_ended" and scene.events[0].at == 2.5
    assert len(logged_failures.take(ZeroDivisionError)) == len(scene.events)


def test_variables_and_events_of_an_applet() -> None:
    def act(call: ICall) -> Any:
        call.variables["digit"] = "1"
        call.event("menu_chosen", digit="1")
        return succeed("done")

    scene = Scene(flow_of((FakeApplet("one", act), {})))
    scene.call.start()
    (chosen,) = [event for event in scene.events if event.kind == "menu_chosen"]
    assert str(chosen) == "menu_chosen step=one digit=1" and scene.call.variables == {"digit": "1"}
