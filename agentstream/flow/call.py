"""One run of a flow: steps one after the other, on a leg that may end at any moment.

A call goes on whatever an applet does: a run that raises, fails or answers nonsense ends its step, one that does not
stop is left behind, and a flow that runs in circles is cut off. Nothing here knows SIP, RTP or WebSockets.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from agentstream.flow.definition import Flow, Step
from agentstream.flow.frames import forget_frames
from agentstream.flow.ileg import ILeg, IRecording
from agentstream.flow.listeners import Listeners
from agentstream.flow.playlist import Playlist
from agentstream.flow.prompts import Prompts
from agentstream.flow.step_call import StepCall
from agentstream.flow.timeline import Timeline
from agentstream.interfaces import (
    CallerIdentity,
    ConnectEnd,
    ConnectSpec,
    EndCause,
)

Connector = Callable[["Call", ConnectSpec, Callable[[], None]], Deferred[ConnectEnd]]
"""Connects a caller with somebody else, and calls the function when they can talk; see ``ICall.connect``."""


def utc_now() -> datetime.datetime:
    """The wall clock, in UTC."""
    return datetime.datetime.now(datetime.UTC)


def nobody_to_connect(call: Call, spec: ConnectSpec, began: Callable[[], None]) -> Deferred[ConnectEnd]:
    """The connector of a call that has none."""
    return succeed(ConnectEnd("failed", 0, "no calls are placed here"))


MAXIMUM_STEPS = 1000
"""Steps of one call; a flow that goes through more has no way out of a circle."""


@attrs.define(eq=False)
class Call:
    """One call on one leg.

    :ivar on_end: called once, when both the leg and the flow are over.
    :ivar created_at: when it came in, in UTC.
    :ivar sip_headers: (name, value) of the INVITE's X- headers.
    :ivar identity: what a trunk that is trusted says of the caller beside From.
    :ivar trunk: the name of the trunk that it came by. :ivar phone: the user of the phone that calls; one of the two is
        "".
    :ivar end_causes: why the caller's side ended the leg.
    :ivar recording: the last one that was begun.
    :ivar listeners: the streams that only listen; they live as long as the leg.
    :ivar connector: connects its caller with somebody else.
    """

    sid: str
    caller: str
    callee: str
    flow: Flow
    leg: ILeg
    timeline: Timeline
    prompts: Prompts
    on_end: Callable[[Call], None] = attrs.field(default=lambda call: None)
    variables: dict[str, str] = attrs.field(factory=dict)
    created_at: datetime.datetime = attrs.field(factory=utc_now)
    sip_headers: tuple[tuple[str, str], ...] = ()
    identity: CallerIdentity = attrs.field(factory=CallerIdentity)
    trunk: str = ""
    phone: str = ""
    end_causes: tuple[EndCause, ...] = ()
    listeners: Listeners = attrs.field(factory=Listeners)
    connector: Connector = nobody_to_connect
    playlist: Playlist = attrs.field(init=False)
    step: StepCall | None = attrs.field(default=None, init=False)
    recording: IRecording | None = attrs.field(default=None, init=False)
    _step_count: int = attrs.field(default=0, init=False)
    _coming: list[Step | None] = attrs.field(factory=list, init=False)
    _answering: Deferred[None] | None = attrs.field(default=None, init=False)
    _answer_waiters: list[Deferred[None]] = attrs.field(factory=list, init=False)
    _leg_end: tuple[str, str] | None = attrs.field(default=None, init=False)
    _is_hanging_up: bool = attrs.field(default=False, init=False)
    _is_moving: bool = attrs.field(default=False, init=False)
    _is_leg_end_seen: bool = attrs.field(default=False, init=False)
    _is_flow_over: bool = attrs.field(default=False, init=False)
    _is_over: bool = attrs.field(default=False, init=False)

    log = Logger()

    def __attrs_post_init__(self) -> None:
        self.playlist = Playlist(self.leg, self.prompts)

    # -- from the switchboard and the leg --------------------------------------------------------------------------

    def start(self) -> None:
        """Begin with the flow's first step."""
        self.event("call_started", caller=self.caller, callee=self.callee, flow=self.flow.name)
        self._move(self.flow.steps[self.flow.start])

    def leg_ended(self, by: str, reason: str, causes: tuple[EndCause, ...] = ()) -> None:
        """The leg is over (``by`` is ``user`` or ``server``); steps that run after a hang-up are still gone through."""
        if self._leg_end is None:
            self._leg_end = (by, reason)
            self.end_causes = causes
            self._move()

    # -- for the steps ---------------------------------------------------------------------------------------------

    @property
    def is_leg_over(self) -> bool:
        """The caller is gone."""
        return self._leg_end is not None

    @property
    def stop_reason(self) -> str:
        """What runs and streams that end now are told."""
        return "callended" if self.is_leg_over else "stopped"

    @property
    def ended_by(self) -> str:
        """Who ended the leg: ``user`` or ``server``; "" while it is up."""
        return "" if self._leg_end is None else self._leg_end[0]

    def event(self, kind: str, **fields: Any) -> None:
        """Add to the timeline."""
        self.timeline.event(kind, fields)

    def record(self) -> bool:
        """Record the leg, unless that is being done already."""
        if self._leg_end is not None or (self.recording is not None and self.recording.is_running):
            return False
        self.recording = self.leg.record()
        return True

    def hang_up(self, reason: str) -> None:
        """End the leg; the flow follows when the leg says that it is over."""
        if self._leg_end is None and not self._is_hanging_up:
            self._is_hanging_up = True
            self.leg.hang_up(reason)

    def early_media(self) -> Deferred[None]:
        """Sound before the answer; nothing more is needed behind it."""
        if self.leg.is_answered or self._answering is not None:
            return self.answer()
        return self.leg.early_media()

    def answer(self) -> Deferred[None]:
        """Answer unless it is answered; any number may wait for the one answer."""
        if self.leg.is_answered and self._answering is None:
            return succeed(None)
        waiter: Deferred[None] = Deferred()
        self._answer_waiters.append(waiter)
        if self._answering is None:
            self._answering = maybeDeferred(self.leg.answer)
            self._answering.addBoth(self._answered)
        return waiter

    def _answered(self, result: Failure | None) -> None:
        self._answering = None
        if not isinstance(result, Failure):
            self.event("answered")
        waiters, self._answer_waiters = self._answer_waiters, []
        for waiter in waiters:
            if not waiter.called:
                waiter.callback(result)

    # -- the way through the flow ----------------------------------------------------------------------------------

    def _move(self, *coming: Step | None) -> None:
        """Go on: to a step, to the end of the flow (None), or with news of the leg.

        A loop and no recursion, however many steps end at once.
        """
        self._coming += coming
        if self._is_moving:
            return
        self._is_moving = True
        try:
            while True:
                if self._leg_end is not None and not self._is_leg_end_seen:
                    self._is_leg_end_seen = True
                    self.listeners.stop("", self.stop_reason)
                    self._stop_step()
                elif self._coming:
                    self._begin(self._coming.pop(0))
                else:
                    break
        finally:
            self._is_moving = False
        if self._is_flow_over and self._leg_end is not None and not self._is_over:
            self._end(*self._leg_end)

    def _begin(self, step: Step | None) -> None:
        is_gone = self._leg_end is not None or self._is_hanging_up
        if step is not None and not (is_gone and not step.applet.after_hangup):
            self._step_count += 1
            if self._step_count <= MAXIMUM_STEPS:
                self.step = StepCall(self, step)
                if step.applet.needs_answer and not is_gone and not self.leg.is_answered:
                    self.answer().addCallbacks(self._open, self._not_answered, (self.step,), {}, (self.step,), {})
                else:
                    self._open(None, self.step)
                return
            self.event("flow_cut_off", reason=f"the flow went through more than {MAXIMUM_STEPS} steps")
        self._is_flow_over = True
        self.hang_up("the flow has ended" if step is None else "the flow was cut off")

    def _not_answered(self, failure: Failure, at: StepCall) -> None:
        if not at.is_over:
            self.event("answer_failed", step=at.step.name, reason=failure.getErrorMessage())
            self._leave(at, is_silent=True)
            self.hang_up("the call could not be answered")
            self._move(None)

    def _open(self, _: None, at: StepCall) -> None:
        if at.is_over:
            return
        self.event("step_started", step=at.step.name, applet=at.step.applet.name)
        try:
            at.run = at.step.applet.open(at, at.step.options)
            done = at.run.start()
            if not isinstance(done, Deferred):
                raise TypeError(f"start() of the run gave {type(done).__name__}, expected a Deferred")
        except Exception:
            self.step_failed(at, Failure())
        else:
            done.addCallbacks(self._ended, self._run_failed, (at,), {}, (at,), {})

    def _ended(self, outcome: object, at: StepCall) -> None:
        if at.is_over:
            return
        if not isinstance(outcome, str) or not at.step.has_outcome(outcome):
            self.step_failed(at, Failure(ValueError(f"the run ended with {outcome!r}, which is none of its outcomes")))
            return
        self._leave(at, is_silent=at.is_stopping)
        at.run = None
        self.event("step_ended", step=at.step.name, applet=at.step.applet.name, outcome=outcome)
        self._move(self.flow.following(at.step, outcome))

    def _run_failed(self, failure: Failure, at: StepCall) -> None:
        if failure.check(CancelledError) and (at.is_over or at.is_stopping):
            self._ended(at.step.ordinary, at)
        else:
            self.step_failed(at, failure)

    def step_failed(self, at: StepCall, failure: Failure) -> None:
        """An applet broke: its fault is in the log and the timeline, and the flow goes on by ``failed`` if it can."""
        name, applet = at.step.name, at.step.applet.name
        error, text = failure.getErrorMessage(), failure.getTraceback()
        self.log.failure(
            "call {call_sid}: the step {step} ({applet}) failed", failure, call_sid=self.sid, step=name, applet=applet
        )
        self.event("step_failed", step=name, applet=applet, error=error, traceback=text)
        forget_frames(failure)
        if at.is_over:
            return
        self._leave(at, is_silent=True)
        if not at.is_stopping:
            self._stop_run(at, "stopped")
        at.run = None
        if at.step.has_outcome("failed"):
            self.event("step_ended", step=name, applet=applet, outcome="failed")
            self._move(self.flow.following(at.step, "failed"))
        else:
            self.hang_up(f"the step {name} failed")
            self._move(None)

    def _stop_step(self) -> None:
        """The leg is over: end the step that is at work, and wait for nothing."""
        at = self.step
        if at is None:
            return
        if at.run is None:
            # It was waiting for the answer. It may still be one that runs without a caller.
            self._leave(at, is_silent=True)
            self._move(at.step)
            return
        at.is_stopping = True
        self._stop_run(at, self.stop_reason)
        self._ended(at.step.ordinary, at)

    def _stop_run(self, at: StepCall, reason: str) -> None:
        if at.run is None:
            return
        try:
            at.run.stop(reason)
        except Exception:
            self.step_failed(at, Failure())

    def _leave(self, at: StepCall, *, is_silent: bool) -> None:
        self.step = None
        at.close(is_silent=is_silent)

    def _end(self, by: str, reason: str) -> None:
        self._is_over = True
        self.event("call_ended", by=by, reason=reason)
        try:
            self.on_end(self)
        except Exception:
            self.log.failure("call {call_sid}: what follows its end failed", call_sid=self.sid)
