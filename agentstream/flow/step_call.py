"""The call as one step of a flow sees it, and what ends when the step does (docs/adr/0002-what-ends-with-a-step.md)."""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import attrs
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from zope.interface import implementer

from agentstream.flow.definition import Step
from agentstream.flow.frames import forget_frames
from agentstream.flow.ileg import IRecording
from agentstream.interfaces import (
    Audio,
    CallerIdentity,
    ConnectEnd,
    ConnectSpec,
    EndCause,
    ICall,
    IRun,
    IStream,
    StreamSpec,
    TransferEnd,
)

if TYPE_CHECKING:
    from agentstream.flow.call import Call

T = TypeVar("T")


@implementer(ICall)
@attrs.define(eq=False)
class StepCall:
    """The call as one step sees it.

    When the step is over, whatever it still asks for does not happen and whatever it waits for does not come: so a run
    that was left behind cannot disturb the steps after it.
    """

    call: Call
    step: Step
    run: IRun | None = None
    is_over: bool = False
    is_stopping: bool = False
    _recording: IRecording | None = None
    _ends: dict[int, Callable[[], None]] = attrs.field(factory=dict)
    _playing: set[Deferred[None]] = attrs.field(factory=set)
    _waiting: set[Deferred[None]] = attrs.field(factory=set)
    _connecting: set[Deferred[IStream]] = attrs.field(factory=set)
    _connections: set[Deferred[ConnectEnd]] = attrs.field(factory=set)
    _streams: list[IStream] = attrs.field(factory=list)

    @property
    def sid(self) -> str:
        """The call's id."""
        return self.call.sid

    @property
    def caller(self) -> str:
        """Who calls."""
        return self.call.caller

    @property
    def callee(self) -> str:
        """Who is called."""
        return self.call.callee

    @property
    def rate_hz(self) -> int:
        """Samples a second."""
        return self.call.leg.rate_hz

    @property
    def created_at(self) -> datetime.datetime:
        """When the call came in."""
        return self.call.created_at

    @property
    def sip_headers(self) -> tuple[tuple[str, str], ...]:
        """The X- headers of the INVITE."""
        return self.call.sip_headers

    @property
    def identity(self) -> CallerIdentity:
        """What the trunk says of the caller."""
        return self.call.identity

    @property
    def trunk(self) -> str:
        """The trunk that it came by."""
        return self.call.trunk

    @property
    def phone(self) -> str:
        """The phone that calls."""
        return self.call.phone

    @property
    def ended_by(self) -> str:
        """Who ended the call."""
        return self.call.ended_by

    @property
    def end_causes(self) -> tuple[EndCause, ...]:
        """Why the caller's side did."""
        return self.call.end_causes

    @property
    def variables(self) -> dict[str, str]:
        """Shared by the steps of the call."""
        return self.call.variables

    def event(self, kind: str, **fields: Any) -> None:
        """Add to the timeline, with the name of the step."""
        self.call.timeline.event(kind, {"step": self.step.name, **fields})

    def answer(self) -> Deferred[None]:
        """Answer unless it is answered."""
        return Deferred() if self.is_over else self._while_here(self.call.answer(), set())

    def early_media(self) -> Deferred[None]:
        """Sound before the answer."""
        return Deferred() if self.is_over else self._while_here(self.call.early_media(), set())

    def hold(self) -> Deferred[None]:
        """Ask the phone to send nothing."""
        return Deferred() if self.is_over else self._while_here(self.call.leg.hold(), set())

    def resume(self) -> Deferred[None]:
        """Ask it to send again."""
        return Deferred() if self.is_over else self._while_here(self.call.leg.resume(), set())

    def send_digits(self, digits: str, duration_ms: int = 100, gap_ms: int = 60) -> Deferred[None]:
        """Send DTMF digits."""
        if not digits or not set(digits) <= set("0123456789*#ABCD"):
            raise ValueError(f"{digits!r} are no digits: 0 to 9, *, # and A to D")
        if self.is_over:
            return Deferred()
        self.event("digits_sent", digits=digits)
        return self._while_here(self.call.leg.send_digits(digits, duration_ms, gap_ms), set())

    def transfer(self, target: str, timeout_s: float = 30) -> Deferred[TransferEnd]:
        """Send the other end elsewhere."""
        if self.is_over:
            return Deferred()
        self.event("transfer_started", target=target)
        return self._while_here(self.call.leg.transfer(target, timeout_s), set())

    def connect(self, spec: ConnectSpec) -> Deferred[ConnectEnd]:
        """Ring somebody else."""
        if self.is_over:
            return Deferred()

        if self._connections:
            end = ConnectEnd("failed", 0, "the caller is being connected already")
            self.event("connect_refused", to=", ".join(spec.to), reason=end.reason)
            return succeed(end)

        def began() -> None:
            if spec.record:
                self.record()

        return self._while_here(self.call.connector(self.call, spec, began), self._connections)

    def play(self, audio: Audio | Path) -> Deferred[None]:
        """Queue sound."""
        return Deferred() if self.is_over else self._while_here(self.call.playlist.play(audio), self._playing)

    def wait(self, seconds: float) -> Deferred[None]:
        """Let time pass."""
        if not 0 <= seconds < math.inf:
            raise ValueError(f"a wait of {seconds} s: it is zero seconds or more")
        if self.is_over:
            return Deferred()
        return self._while_here(deferLater(self.call.timeline.clock, seconds, lambda: None), self._waiting)

    def hear(self, chunk_ms: int, fn: Callable[[Audio, int], None]) -> Callable[[], None]:
        """Hear the caller until the step is over."""
        return self._listen(lambda guarded: self.call.leg.hear(chunk_ms, guarded), fn)

    def hear_digits(self, fn: Callable[[str, int], None]) -> Callable[[], None]:
        """Hear digits until the step is over."""
        return self._listen(self.call.leg.hear_digits, fn)

    def hear_speech(self, fn: Callable[[bool, float], None]) -> Callable[[], None]:
        """Hear when the caller speaks, until the step is over."""
        return self._listen(self.call.leg.hear_speech, fn)

    def open_stream(self, spec: StreamSpec) -> Deferred[IStream]:
        """Connect a bot. One that speaks is gone when the step is over, one that only listens when the call is."""
        if self.is_over:
            return Deferred()

        opening = self.call.leg.open_stream(spec, self)
        if not spec.two_way:
            return self._while_here(self.call.listeners.add(spec.name, opening), set())

        def opened(stream: IStream) -> IStream:
            if self.is_over:
                stream.stop("stopped")
            else:
                self._streams.append(stream)
            return stream

        return self._while_here(opening.addCallback(opened), self._connecting)

    def stop_streams(self, name: str = "") -> int:
        """Stop those that only listen."""
        return 0 if self.is_over else self.call.listeners.stop(name, "stopped")

    def record(self, *, whole_call: bool = False) -> bool:
        """Record both sides."""
        if self.is_over or not self.call.record():
            return False
        self._recording = None if whole_call else self.call.recording
        return True

    def pause_recording(self) -> bool:
        """Record silence."""
        recording = self._running_recording()
        if recording is not None:
            recording.pause()
        return recording is not None

    def resume_recording(self) -> bool:
        """Record sound again."""
        recording = self._running_recording()
        if recording is not None:
            recording.resume()
        return recording is not None

    def stop_recording(self) -> bool:
        """End the recording that runs."""
        recording = self._running_recording()
        if recording is not None:
            recording.stop()
        return recording is not None

    def _running_recording(self) -> IRecording | None:
        recording = self.call.recording
        return None if self.is_over or recording is None or not recording.is_running else recording

    def hang_up(self, reason: str) -> None:
        """End the call."""
        if not self.is_over:
            self.call.hang_up(reason)

    def _while_here(self, work: Deferred[T], kept: set[Deferred[T]]) -> Deferred[T]:
        """A Deferred for the applet that fires with ``work`` as long as the step is not over."""
        told: Deferred[T] = Deferred(lambda _: work.cancel())

        def tell(result: T | Failure) -> None:
            kept.discard(work)
            if not self.is_over and not told.called:
                told.callback(result)
            forget_frames(result)

        kept.add(work)
        work.addBoth(tell)
        return told

    def _listen(
        self, listen: Callable[[Callable[..., None]], Callable[[], None]], fn: Callable[..., None]
    ) -> Callable[[], None]:
        if self.is_over:
            return lambda: None

        def guarded(*heard: Any) -> None:
            if self.is_over:
                return
            try:
                fn(*heard)
            except Exception:
                self.call.step_failed(self, Failure())

        end = listen(guarded)
        self._ends[id(end)] = end

        def end_once() -> None:
            if self._ends.pop(id(end), None):
                end()

        return end_once

    def close(self, *, is_silent: bool) -> None:
        """The step is over. ``is_silent`` also drops what it has queued to be played."""
        self.is_over = True
        ends, self._ends = list(self._ends.values()), {}
        for end in ends:
            end()
        for work in [*self._waiting, *self._connecting, *self._connections, *(self._playing if is_silent else ())]:
            work.cancel()
        # What the step asked for knows the step: it keeps nothing of that.
        streams, self._streams = self._streams, []
        for stream in streams:
            stream.stop(self.call.stop_reason)
        if self._recording is not None:
            self._recording.stop()
