"""Neighbours of a call: a leg that appends to one list, and applets that do what a test tells them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.task import Clock
from zope.interface import implementer

from agentstream.flow.call import Call
from agentstream.flow.definition import Flow, Step
from agentstream.flow.ileg import ILeg, IRecording
from agentstream.flow.prompts import Prompts
from agentstream.flow.timeline import Event, Timeline
from agentstream.interfaces import IApplet, ICall, IRun, IStream, Outcome, StreamEnd, TransferEnd
from agentstream.testing.applet import LineRecording


@implementer(ILeg)
@attrs.define(eq=False)
class FakeLeg:
    """Does at once what it is asked; ``say`` and ``end`` are the caller's part."""

    log: list[Any] = attrs.field(factory=list)
    is_answered: bool = False
    rate_hz: int = 8000
    answering: Deferred[None] | None = None
    ears: list[Any] = attrs.field(factory=list)
    playing: list[Deferred[None]] = attrs.field(factory=list)
    opening: list[Deferred[Any]] = attrs.field(factory=list)
    call: Call | None = None

    def answer(self) -> Deferred[None]:
        self.log.append("answer")
        if self.answering is not None:
            return self.answering
        self.is_answered = True
        return succeed(None)

    @property
    def is_heard(self) -> bool:
        return self.is_answered

    @property
    def hears_tones(self) -> bool:
        return False

    @property
    def hops_left(self) -> int:
        return 69

    def ring(self) -> None:
        self.log.append("ring")

    def join(self, other: ILeg) -> Callable[[], None]:
        self.log.append("join")
        return lambda: self.log.append("part")

    def early_media(self) -> Deferred[None]:
        self.log.append("early media")
        return succeed(None)

    def hold(self) -> Deferred[None]:
        self.log.append("hold")
        return succeed(None)

    def resume(self) -> Deferred[None]:
        self.log.append("resume")
        return succeed(None)

    def send_digits(self, digits: str, duration_ms: int, gap_ms: int) -> Deferred[None]:
        self.log.append(f"digits {digits} {duration_ms} {gap_ms}")
        return succeed(None)

    def transfer(self, target: str, timeout_s: float) -> Deferred[TransferEnd]:
        self.log.append(f"transfer {target} {timeout_s}")
        return succeed(TransferEnd(True, 200, "200 OK"))

    def hand_over(self, other: ILeg, timeout_s: float) -> Deferred[TransferEnd]:
        self.log.append(f"hand over {timeout_s}")
        return succeed(TransferEnd(True, 200, "200 OK"))

    def play(self, audio: Any) -> Deferred[None]:
        self.log.append(f"play {len(audio)}")
        self.playing.append(Deferred(lambda _: self.log.append("silence")))
        return self.playing[-1]

    def hear(self, chunk_ms: int, fn: Callable[..., None]) -> Callable[[], None]:
        self.ears.append(fn)
        return lambda: self.ears.remove(fn)

    def hear_digits(self, fn: Callable[..., None]) -> Callable[[], None]:
        self.ears.append(fn)
        return lambda: self.ears.remove(fn)

    def record(self) -> IRecording:
        self.log.append("record")
        return LineRecording()

    def hear_speech(self, fn: Callable[..., None]) -> Callable[[], None]:
        self.ears.append(fn)
        return lambda: self.ears.remove(fn)

    def open_stream(self, spec: Any, call: ICall) -> Deferred[Any]:
        self.log.append(spec)
        self.opening.append(Deferred(lambda _: self.log.append("give up")))
        return self.opening[-1]

    def hang_up(self, reason: str) -> None:
        self.log.append(f"hang up: {reason}")
        if self.call is not None:
            self.call.leg_ended("server", reason)


@implementer(IStream)
@attrs.define(eq=False)
class FakeStream:
    """A stream that is over when it is stopped, or when the bot says so."""

    log: list[Any] = attrs.field(factory=list)
    sid: str = "5" * 32
    waiting: list[Deferred[StreamEnd]] = attrs.field(factory=list)
    over: StreamEnd | None = None

    def ended(self) -> Deferred[StreamEnd]:
        if self.over is not None:
            return succeed(self.over)
        self.waiting.append(Deferred())
        return self.waiting[-1]

    def stop(self, reason: str) -> None:
        if self.over is None:
            self.log.append(f"stop {reason}")
            self.end(StreamEnd(True, "user" if reason == "callended" else "NA", 1000, reason))

    def end(self, end: StreamEnd) -> None:
        self.over = end
        waiting, self.waiting = self.waiting, []
        for one in waiting:
            one.callback(end)


@implementer(IRun)
@attrs.define(eq=False)
class FakeRun:
    """Runs the function of its applet."""

    applet: FakeApplet
    call: ICall
    done: Deferred[Any] = attrs.field(factory=Deferred)

    def start(self) -> Any:
        result = self.applet.act(self.call)
        return self.done if result is WAIT else result

    def stop(self, reason: str) -> None:
        self.applet.stopped.append(reason)
        if self.applet.at_stop is not None:
            self.applet.at_stop(self)


WAIT = object()


@attrs.frozen
class NoOptions:
    """Nothing to set."""


@implementer(IApplet)
@attrs.define(eq=False)
class FakeApplet:
    """``act(call)`` gives what start() returns; WAIT leaves the run waiting in ``runs[-1].done``."""

    name: str
    act: Callable[[ICall], Any] = lambda call: succeed("done")
    outcomes: tuple[Outcome, ...] = (Outcome("done"),)
    needs_answer: bool = False
    after_hangup: bool = False
    options: type = NoOptions
    at_stop: Callable[[FakeRun], None] | None = None
    runs: list[FakeRun] = attrs.field(factory=list)
    stopped: list[str] = attrs.field(factory=list)

    def open(self, call: ICall, options: Any) -> FakeRun:
        self.runs.append(FakeRun(self, call))
        return self.runs[-1]


def flow_of(*steps: tuple[FakeApplet, dict[str, str]]) -> Flow:
    """A flow whose steps have their applets' names; the first is the start."""
    made = {applet.name: Step(applet.name, applet, applet.options(), targets) for applet, targets in steps}
    return Flow("flow", steps[0][0].name, made)


@attrs.define(eq=False)
class Scene:
    """A call on a fake leg with its timeline written down."""

    flow: Flow
    leg: FakeLeg = attrs.field(factory=FakeLeg)
    events: list[Event] = attrs.field(factory=list)
    ended: list[Call] = attrs.field(factory=list)
    clock: Clock = attrs.field(factory=Clock)
    defer: Callable[..., Deferred[Any]] = maybeDeferred
    call: Call = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        timeline = Timeline("1" * 32, self.clock, [self.events.append])
        prompts = Prompts(defer=self.defer)
        self.call = Call("1" * 32, "100", "1000", self.flow, self.leg, timeline, prompts, self.ended.append)
        self.leg.call = self.call

    @property
    def kinds(self) -> list[str]:
        return [event.kind for event in self.events]

    @property
    def steps(self) -> list[tuple[str, str]]:
        """(step, outcome) in order."""
        return [(event.fields["step"], event.fields["outcome"]) for event in self.events if event.kind == "step_ended"]
