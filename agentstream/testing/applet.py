"""One applet on a line of its own: how the author of a drop-in tests it in a few lines.

    run = run_applet(ask, file=Path("question.wav"))
    run.press("1")
    assert run.outcome == "yes"

The applet runs in a real call of a flow that has it as its only step; what is below the call (the telephone line, the
bot's WebSocket) is played by a :class:`Line`, on a Clock. :mod:`agentstream.testing.server` is for whole servers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import numpy as np
from twisted.internet.defer import Deferred, fail, maybeDeferred, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import Clock
from zope.interface import implementer
from zope.interface.verify import verifyObject

from agentstream.errors import AgentstreamError, StreamFailed
from agentstream.flow.call import Call
from agentstream.flow.definition import Flow, Step
from agentstream.flow.ileg import ILeg, IRecording
from agentstream.flow.prompts import Prompts
from agentstream.flow.timeline import Event, Timeline
from agentstream.interfaces import (
    Audio,
    ConnectEnd,
    ConnectSpec,
    IApplet,
    ICall,
    IStream,
    StreamEnd,
    StreamSpec,
    TransferEnd,
)

STEP = "step"
SID = "0123456789abcdef0123456789ab1a11"


@implementer(IStream)
@attrs.define(eq=False)
class BotStream:
    """A stream that an applet has opened, as seen from the bot.

    :ivar spec: what the applet asked for.
    :ivar stopped: the reason that the applet, or the end of its step, stopped it for; "" while it goes on.
    """

    spec: StreamSpec
    sid: str = SID
    stopped: str = ""
    over: StreamEnd | None = None
    _waiting: list[Deferred[StreamEnd]] = attrs.field(factory=list)

    def ended(self) -> Deferred[StreamEnd]:
        """See :class:`agentstream.interfaces.IStream`."""
        if self.over is not None:
            return succeed(self.over)
        self._waiting.append(Deferred(self._waiting.remove))
        return self._waiting[-1]

    def stop(self, reason: str) -> None:
        """See :class:`agentstream.interfaces.IStream`."""
        if self.over is None:
            self.stopped = reason
            self._end(StreamEnd(True, "user" if reason == "callended" else "NA", 1000, reason))

    def close(self, code: int = 1000) -> None:
        """The bot closes the stream with a close frame."""
        self._end(StreamEnd(True, "bot", code, "the bot closed the stream"))

    def drop(self) -> None:
        """The connection breaks."""
        self._end(StreamEnd(False, "NA", 1006, "the connection broke"))

    def _end(self, end: StreamEnd) -> None:
        if self.over is None:
            self.over = end
            waiting, self._waiting = self._waiting, []
            for one in waiting:
                one.callback(end)


@attrs.define(eq=False)
class Conversation:
    """What an applet has asked for with ``connect``, as seen from whoever is rung.

    :ivar spec: whom it asked for.
    :ivar is_up: somebody has picked up.
    :ivar end: what became of it; None while it goes on.
    """

    spec: ConnectSpec
    clock: Clock
    began: Callable[[], None]
    is_up: bool = False
    end: ConnectEnd | None = None
    _began_at: float = 0.0
    _target: str = ""
    _done: Deferred[ConnectEnd] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._done = Deferred(lambda _: self._taken_back())

    def pick_up(self, target: str = "") -> None:
        """This one of the targets, or else the first, answers. AssertionError where nobody can any more."""
        if self.is_up or self.end is not None:
            raise AssertionError("somebody has picked up already, or it is over")
        self._target, self._began_at, self.is_up = target or self.spec.to[0], self.clock.seconds(), True
        self.began()

    def hang_up(self) -> None:
        """The other end hangs up. AssertionError where nobody has picked up."""
        if not self.is_up:
            raise AssertionError("nobody has picked up, so nobody can hang up")
        self._over(ConnectEnd("done", 200, "BYE", self._target, self.clock.seconds() - self._began_at, "callee"))

    def refuse(self, outcome: str = "busy", status: int = 486, reason: str = "486 Busy Here") -> None:
        """Nobody answers, for this reason."""
        self._over(ConnectEnd(outcome, status, reason))

    def _taken_back(self) -> None:
        talked_s = self.clock.seconds() - self._began_at if self.is_up else 0.0
        outcome = "done" if self.is_up else "no_answer"
        self._over(ConnectEnd(outcome, 0, "it was taken back", self._target, talked_s, "caller"))

    def _over(self, end: ConnectEnd) -> None:
        if self.end is None:
            self.end = end
            self._done.callback(end)


@implementer(IRecording)
@attrs.define(eq=False)
class LineRecording:
    """What an applet has asked to be recorded.

    :ivar done: ``record``, ``pause``, ``resume`` and ``stop`` in the order in which they happened.
    """

    done: list[str] = attrs.field(factory=lambda: ["record"])
    is_running: bool = True

    def pause(self) -> None:
        """See :class:`agentstream.flow.ileg.IRecording`."""
        self.done.append("pause")

    def resume(self) -> None:
        """See :class:`agentstream.flow.ileg.IRecording`."""
        self.done.append("resume")

    def stop(self) -> None:
        """See :class:`agentstream.flow.ileg.IRecording`."""
        if self.is_running:
            self.is_running = False
            self.done.append("stop")


@attrs.define(eq=False)
class _Ear:
    chunk_ms: int
    fn: Callable[[Audio, int], None]
    heard: Audio = attrs.field(factory=lambda: np.zeros(0, np.int16))
    timestamp_ms: int = 0


@implementer(ILeg)
@attrs.define(eq=False)
class Line:
    """A telephone line that plays in the time of a Clock.

    :ivar played: what the caller has been promised to hear, one array for each ``play``.
    :ivar silenced: how many of them were cancelled before their end.
    :ivar streams: the streams that were opened.
    :ivar recordings: the recordings that were begun.
    :ivar refusal: with this sentence every stream fails and everything in ``asked`` is refused; "" for neither.
    :ivar asked: ``hold``, ``resume``, ``digits DIGITS`` and ``transfer TARGET``, in their order.
    :ivar is_early: sound was asked for before the answer.
    :ivar hung_up: the reason for which the server hung up; "" while it has not.
    """

    clock: Clock
    refusal: str = ""
    rate_hz: int = 8000
    is_answered: bool = False
    is_early: bool = False
    asked: list[str] = attrs.field(factory=list)
    played: list[Audio] = attrs.field(factory=list)
    silenced: int = 0
    streams: list[BotStream] = attrs.field(factory=list)
    recordings: list[LineRecording] = attrs.field(factory=list)
    hung_up: str = ""
    call: Call | None = None
    _free_at: float = 0.0
    _playing: dict[Deferred[None], IDelayedCall] = attrs.field(factory=dict)
    _ears: list[_Ear] = attrs.field(factory=list)
    _digit_fns: list[Callable[[str, int], None]] = attrs.field(factory=list)
    _speech_fns: list[Callable[[bool, float], None]] = attrs.field(factory=list)
    _is_over: bool = False

    def answer(self) -> Deferred[None]:
        self.is_answered = True
        return succeed(None)

    @property
    def is_heard(self) -> bool:
        return self.is_early or self.is_answered

    @property
    def hears_tones(self) -> bool:
        return False

    @property
    def hops_left(self) -> int:
        return 69

    def ring(self) -> None:
        self.asked.append("ring")

    def join(self, other: ILeg) -> Callable[[], None]:
        self.asked.append("join")
        return lambda: None

    def early_media(self) -> Deferred[None]:
        self.is_early = not self.is_answered
        return succeed(None)

    def hold(self) -> Deferred[None]:
        self.asked.append("hold")
        return self._agreed()

    def resume(self) -> Deferred[None]:
        self.asked.append("resume")
        return self._agreed()

    def send_digits(self, digits: str, duration_ms: int, gap_ms: int) -> Deferred[None]:
        self.asked.append(f"digits {digits}")
        return self._agreed()

    def transfer(self, target: str, timeout_s: float) -> Deferred[TransferEnd]:
        self.asked.append(f"transfer {target}")
        if self.refusal:
            return succeed(TransferEnd(False, 603, self.refusal))
        return succeed(TransferEnd(True, 200, "200 OK"))

    def hand_over(self, other: ILeg, timeout_s: float) -> Deferred[TransferEnd]:
        self.asked.append("hand over")
        return succeed(TransferEnd(True, 200, "200 OK"))

    def _agreed(self) -> Deferred[None]:
        return fail(AgentstreamError(self.refusal)) if self.refusal else succeed(None)

    def play(self, audio: Audio) -> Deferred[None]:
        if self._is_over:
            return fail(AgentstreamError("the caller is gone"))
        self.played.append(audio)
        now = self.clock.seconds()
        self._free_at = max(self._free_at, now) + len(audio) / self.rate_hz
        done: Deferred[None] = Deferred(self._silence)
        self._playing[done] = self.clock.callLater(self._free_at - now, self._played, done)
        return done

    def _played(self, done: Deferred[None]) -> None:
        del self._playing[done]
        done.callback(None)

    def _silence(self, cancelled: Deferred[None]) -> None:
        """Everything that is queued is dropped with the one that is cancelled, as on a real line."""
        playing, self._playing = self._playing, {}
        self._free_at = self.clock.seconds()
        self.silenced += len(playing)
        for done, call in playing.items():
            call.cancel()
            if done is not cancelled:
                done.callback(None)

    def hear(self, chunk_ms: int, fn: Callable[[Audio, int], None]) -> Callable[[], None]:
        if chunk_ms % 20 or not 20 <= chunk_ms <= 200:
            raise ValueError("a chunk is 20 to 200 ms, a multiple of 20")
        ear = _Ear(chunk_ms, fn)
        self._ears.append(ear)
        return lambda: self._ears.remove(ear)

    def hear_digits(self, fn: Callable[[str, int], None]) -> Callable[[], None]:
        self._digit_fns.append(fn)
        return lambda: self._digit_fns.remove(fn)

    def record(self) -> IRecording:
        self.recordings.append(LineRecording())
        return self.recordings[-1]

    def hear_speech(self, fn: Callable[[bool, float], None]) -> Callable[[], None]:
        self._speech_fns.append(fn)
        return lambda: self._speech_fns.remove(fn)

    def open_stream(self, spec: StreamSpec, call: ICall) -> Deferred[IStream]:
        if self.refusal:
            return fail(StreamFailed(self.refusal))
        self.streams.append(BotStream(spec))
        return succeed(self.streams[-1])

    def hang_up(self, reason: str) -> None:
        if not self._is_over:
            self.hung_up = reason
            self.over("server", reason)

    def over(self, by: str, reason: str) -> None:
        """The line is dead."""
        if not self._is_over:
            self._is_over = True
            assert self.call is not None
            self.call.leg_ended(by, reason)
            if self._playing:
                self._silence(Deferred())

    def say(self, samples: Audio) -> None:
        """Let every listener hear this."""
        for ear in list(self._ears):
            ear.heard = np.concatenate([ear.heard, samples])
            size = ear.chunk_ms * self.rate_hz // 1000
            while len(ear.heard) >= size and ear in self._ears:
                chunk, ear.heard = ear.heard[:size].copy(), ear.heard[size:]
                timestamp_ms, ear.timestamp_ms = ear.timestamp_ms, ear.timestamp_ms + ear.chunk_ms
                ear.fn(chunk, timestamp_ms)

    def press(self, digit: str, duration_ms: int) -> None:
        """Let every listener have this digit."""
        for fn in list(self._digit_fns):
            fn(digit, duration_ms)

    def speak(self, is_speaking: bool, level_dbov: float) -> None:
        """Let every listener know that the caller speaks, or does not any more."""
        for fn in list(self._speech_fns):
            fn(is_speaking, level_dbov)

    @property
    def has_listeners(self) -> bool:
        """Somebody listens to the caller."""
        return bool(self._ears or self._digit_fns or self._speech_fns)


@attrs.define(eq=False)
class AppletRun:
    """One run of one applet.

    :ivar clock: time; moves by :meth:`advance` only.
    :ivar events: the call's timeline.
    :ivar conversations: what the applet has asked for with ``connect``.
    """

    clock: Clock
    line: Line
    call: Call
    events: list[Event]
    conversations: list[Conversation]

    @property
    def outcome(self) -> str:
        """How the step ended; "" while it runs, or when it failed and its applet has no outcome ``failed``."""
        return next((str(event.fields["outcome"]) for event in self.events if event.kind == "step_ended"), "")

    @property
    def error(self) -> str:
        """The message of the exception that ended the step; "" when there was none. Its traceback is in the log."""
        return next((str(event.fields["error"]) for event in self.events if event.kind == "step_failed"), "")

    @property
    def is_over(self) -> bool:
        """The call has ended, and with it everything that the applet could still do."""
        return any(event.kind == "call_ended" for event in self.events)

    @property
    def variables(self) -> dict[str, str]:
        """The call's variables."""
        return self.call.variables

    @property
    def stream(self) -> BotStream:
        """The stream that was opened last."""
        return self.line.streams[-1]

    @property
    def conversation(self) -> Conversation:
        """The one that was asked for last."""
        return self.conversations[-1]

    @property
    def played(self) -> Audio:
        """Everything that was queued to be played, in one array."""
        return np.concatenate([np.zeros(0, np.int16), *self.line.played])

    @property
    def kinds(self) -> list[str]:
        """The kinds of the timeline's events, in order."""
        return [event.kind for event in self.events]

    def advance(self, seconds: float) -> None:
        """Let time pass: what is being played is played."""
        self.clock.advance(seconds)

    def say(self, samples: Audio) -> None:
        """The caller says this: int16 samples at 8 kHz. Listeners get it at once, in chunks of their size."""
        self.line.say(np.asarray(samples, np.int16))

    def press(self, digits: str, duration_ms: int = 100) -> None:
        """The caller presses these keys."""
        for digit in digits:
            self.line.press(digit, duration_ms)

    def begin_to_speak(self, level_dbov: float = -20.0) -> None:
        """The server notices that the caller speaks."""
        self.line.speak(True, level_dbov)

    def stop_speaking(self, level_dbov: float = -20.0) -> None:
        """The server notices that the caller has stopped."""
        self.line.speak(False, level_dbov)

    def hang_up(self) -> None:
        """The caller hangs up."""
        self.line.over("user", "BYE")


def run_applet(
    applet: IApplet,
    options: Any = None,
    /,
    *,
    caller: str = "+15550100",
    callee: str = "1000",
    refusal: str = "",
    clock: Clock | None = None,
    **set_options: Any,
) -> AppletRun:
    """Run one applet on a line whose caller has just called; by the return, its ``start`` has been called.

    :param options: an instance of the applet's options; or give them one by one as keywords.
    :param refusal: with this sentence every stream fails that the applet opens.
    :param clock: to use another than a new one.
    """
    verifyObject(IApplet, applet)
    clock = clock or Clock()
    step = Step(STEP, applet, applet.options(**set_options) if options is None else options, {})
    events: list[Event] = []
    line = Line(clock, refusal)
    timeline = Timeline(SID, clock, [events.append])
    call = Call(SID, caller, callee, Flow("test", STEP, {STEP: step}), line, timeline, Prompts(defer=maybeDeferred))
    line.call = call
    conversations: list[Conversation] = []

    def connect(call: Call, spec: ConnectSpec, began: Callable[[], None]) -> Deferred[ConnectEnd]:
        conversations.append(Conversation(spec, clock, began))
        return conversations[-1]._done

    call.connector = connect
    call.start()
    return AppletRun(clock, line, call, events, conversations)
