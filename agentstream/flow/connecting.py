"""Two legs and one conversation: a call whose caller is connected with whoever answers a call of ours.

While it rings the caller hears a ringback tone, or what the far end sends before it answers; his own leg is answered
when the other one is, unless it has been before. Then each hears the other, and digits pass, until one of them hangs
up; or until the caller's phone has called the other one in our place, where it is to (RFC 5589 section 7).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from agentstream.audio.tones import silence, tone
from agentstream.flow.call import Call, Connector
from agentstream.flow.dialer import DialEnd, Dialer
from agentstream.flow.frames import forget_frames
from agentstream.flow.ileg import ILeg
from agentstream.flow.outgoing_leg import OutgoingLeg
from agentstream.flow.outgoing_ways import named_by_others
from agentstream.flow.playlist import Playlist
from agentstream.flow.ring import tell_of_leg
from agentstream.interfaces import Audio, ConnectEnd, ConnectSpec, EndCause, TransferEnd

RINGBACK_HZ = (425,)
RINGBACK_MS = (1000, 4000)
"""The tone that most countries know (ITU-T E.180): on, and off."""
RINGBACK_DBOV = -22.0

DIGIT_MS = (40, 2000)
"""A digit that passes is at least and at most so long."""
GAP_MS = 60
DIGITS_WAITING = 32
"""Digits that wait for the one before at the most."""


def ringback(rate_hz: int) -> Audio:
    """One period of it."""
    return tone_and_pause(RINGBACK_HZ, *RINGBACK_MS, rate_hz)


def tone_and_pause(frequencies_hz: tuple[int, ...], on_ms: int, off_ms: int, rate_hz: int) -> Audio:
    """A tone with the pause behind it."""
    return np.concatenate([tone(frequencies_hz, on_ms, rate_hz, RINGBACK_DBOV), silence(off_ms, rate_hz)])


class Looped:
    """A sound that is played again and again."""

    def __init__(self, playlist: Playlist, clock: IReactorTime, sound: Audio | Path) -> None:
        self._playlist = playlist
        self._clock = clock
        self._sound = sound
        self._playing: Deferred[None] | None = None
        self._began_at = 0.0

    def start(self) -> None:
        """Once more."""
        self._began_at = self._clock.seconds()
        playing = self._playing = self._playlist.play(self._sound)
        playing.addCallbacks(self._again, self._failed)

    def _again(self, _: None) -> None:
        # What takes no time would be played for ever without any passing.
        if self._playing is not None and self._clock.seconds() > self._began_at:
            self.start()

    def _failed(self, failure: Failure) -> None:
        forget_frames(failure)

    def stop(self) -> None:
        """Silence. Harmless when repeated."""
        playing, self._playing = self._playing, None
        if playing is not None:
            playing.cancel()


class DigitRelay:
    """Digits of one leg, sent to the other one after the other."""

    def __init__(self, source: ILeg, to: ILeg) -> None:
        self._source = source
        self._to = to
        self._waiting: deque[tuple[str, int]] = deque()
        self._is_sending = False
        self._stop: Callable[[], None] = source.hear_digits(self._heard)

    def stop(self) -> None:
        """No more."""
        stop, self._stop = self._stop, _nothing  # which holds this
        stop()
        self._waiting.clear()

    def _heard(self, digit: str, duration_ms: int) -> None:
        # A tone in the sound has passed already, in the sound.
        if not self._source.hears_tones and len(self._waiting) < DIGITS_WAITING:
            least, most = DIGIT_MS
            self._waiting.append((digit, min(max(duration_ms, least), most)))
            self._send()

    def _send(self) -> None:
        while self._waiting and not self._is_sending:
            digit, duration_ms = self._waiting.popleft()
            self._is_sending = True
            self._to.send_digits(digit, duration_ms, GAP_MS).addBoth(self._sent)

    def _sent(self, result: Failure | None) -> None:
        self._is_sending = False
        forget_frames(result)
        self._send()


@attrs.define(eq=False)
class Connection:
    """One caller, and whom he is connected with; the ``call`` of the other leg while they talk.

    :ivar began: called when they can talk.
    """

    call: Call
    spec: ConnectSpec
    dialer: Dialer
    began: Callable[[], None]
    _done: Deferred[ConnectEnd] | None = None
    _dialing: Deferred[DialEnd] | None = None
    _ringback: Looped | None = None
    _other: OutgoingLeg | None = None
    _target: str = ""
    _rings: bool = False
    _sounding: list[OutgoingLeg] = attrs.field(factory=list)
    _part: Callable[[], None] | None = None
    _joined: OutgoingLeg | None = None
    _relays: list[DigitRelay] = attrs.field(factory=list)
    _connected_at: float | None = None
    _is_handing_over: bool = False

    def start(self) -> Deferred[ConnectEnd]:
        """Ring; fires when it is over, never errbacks. A cancel ends it, whatever it has come to."""
        done = self._done = Deferred(lambda _: self._cancelled())
        self.event("connect_started", to=", ".join(self.spec.to))
        if self.call.is_leg_over:
            self._finish(ConnectEnd("failed", 0, "the caller is gone"))
            return done
        caller = self.spec.caller or _caller_of(self.call)
        self._dialing = self.dialer.dial(
            self.spec.to,
            self,
            caller=caller,
            timeout_s=self.spec.timeout_s,
            in_turn=self.spec.in_turn,
            hops_left=self.call.leg.hops_left,
        )
        self._dialing.addCallback(self._dialed)
        return done

    def event(self, kind: str, **fields: Any) -> None:
        """For the timeline; also what the other leg says of itself."""
        if kind.startswith(("connect", "dial")):
            self.call.event(kind, **fields)
        else:
            tell_of_leg(self.call.event, self._target, kind, fields)

    # While it rings (Watch)

    def ringing(self) -> None:
        """Somebody is rung: the caller hears that, from us or from his own phone."""
        self._rings = True
        if self._ringback is not None or self._part is not None:
            return
        if self.call.leg.is_heard:
            sound = self.spec.ringback or ringback(self.call.leg.rate_hz)
            self._ringback = Looped(self.call.playlist, self.dialer.clock, sound)
            self._ringback.start()
        elif self.spec.ringback is not None:
            self._ringback = Looped(self.call.playlist, self.dialer.clock, self.spec.ringback)
            self.call.early_media().addCallbacks(self._play_ringback, self._not_early)
        else:
            self.call.leg.ring()

    def _play_ringback(self, _: None) -> None:
        if self._ringback is not None:
            self._ringback.start()

    def _not_early(self, failure: Failure) -> None:
        self._ringback = None
        forget_frames(failure)
        if self._done is not None:
            self.call.leg.ring()

    def early_media(self, leg: OutgoingLeg) -> None:
        """What the far end sends before its answer is what the caller hears: the first one's, where several ring."""
        if leg not in self._sounding:
            self._sounding.append(leg)
        if self._part is None:
            self.call.early_media().addCallbacks(self._join_early, self._no_early, (leg,))

    def gone(self, leg: OutgoingLeg) -> None:
        """Whom the caller heard has gone; perhaps others can be heard, or ring."""
        if leg in self._sounding:
            self._sounding.remove(leg)
        if leg is self._joined:
            self._unjoin()
            if self._sounding:
                self.early_media(self._sounding[0])
            elif self._rings:
                self.ringing()

    def _join_early(self, _: None, leg: OutgoingLeg) -> None:
        if self._done is not None and self._part is None and leg.call is not None:
            self._join(leg)

    def _no_early(self, failure: Failure) -> None:
        forget_frames(failure)
        if self._done is not None:
            self.ringing()

    def _join(self, leg: OutgoingLeg) -> None:
        self._stop_ringback()
        if self._joined is not leg:
            self._unjoin()
            self._joined, self._part = leg, self.call.leg.join(leg)

    def _unjoin(self) -> None:
        part, self._part, self._joined = self._part, None, None
        if part is not None:
            part()

    def _stop_ringback(self) -> None:
        looped, self._ringback = self._ringback, None
        if looped is not None:
            looped.stop()

    # The answer

    def _dialed(self, end: DialEnd) -> None:
        self._dialing = None
        self._sounding.clear()
        if end.leg is None:
            self._finish(ConnectEnd(end.outcome, end.status, end.reason))
            return
        self._other, self._target = end.leg, end.target
        end.leg.call = self
        if self._done is None:
            self._hang_up_other("the caller is gone")
            return
        self._join(end.leg)
        self.call.answer().addCallbacks(self._connected, self._not_answered)

    def _connected(self, _: None) -> None:
        if self._other is None or self._done is None:
            return
        leg = self.call.leg
        self._connected_at = self.dialer.clock.seconds()
        self._relays = [DigitRelay(leg, self._other), DigitRelay(self._other, leg)]
        self.event("connected", target=self._target)
        self.began()
        if self.spec.hand_over_s:
            self._is_handing_over = True
            self.call.event("transfer_started", target=self._target, is_attended=True)
            leg.hand_over(self._other, self.spec.hand_over_s).addCallback(self._handed_over)

    def _handed_over(self, end: TransferEnd) -> None:
        """The caller's phone has said what became of it, or nothing in time."""
        outcome = "done" if end.is_done else "failed"
        self._finish(ConnectEnd(outcome, end.status, end.reason, self._target, self._talked_s, "server"))

    def _not_answered(self, failure: Failure) -> None:
        sentence = failure.getErrorMessage()
        forget_frames(failure)
        if self._done is not None:
            self._hang_up_other(sentence)
            self._finish(ConnectEnd("failed", 0, sentence, self._target))

    def leg_ended(self, by: str, reason: str, causes: tuple[EndCause, ...]) -> None:
        """The other end has hung up, or its leg broke."""
        self._other = None
        if self._is_handing_over:
            # Who is replaced hangs up, perhaps before the caller's phone says that it got through (RFC 3891 section 3).
            self._silence()
        elif self._done is not None:
            ended_by = "callee" if by == "user" else "server"
            self._finish(ConnectEnd("done", 200, reason, self._target, self._talked_s, ended_by, causes))

    @property
    def _talked_s(self) -> float:
        return 0.0 if self._connected_at is None else self.dialer.clock.seconds() - self._connected_at

    # The end

    def _hang_up_other(self, reason: str) -> None:
        other, self._other = self._other, None
        if other is not None:
            other.hang_up(reason)

    def _cancelled(self) -> None:
        reason = "the caller has hung up" if self.call.is_leg_over else "the step was ended"
        was_connected = self._connected_at is not None
        by = "caller" if self.call.is_leg_over else "server"
        outcome = "failed" if self._is_handing_over else "done" if was_connected else "no_answer"
        self._finish(ConnectEnd(outcome, 0, reason, self._target, self._talked_s, by))

    def _finish(self, end: ConnectEnd) -> None:
        done, self._done = self._done, None
        if done is None:
            return
        self._silence()
        dialing, self._dialing = self._dialing, None
        if dialing is not None:
            dialing.cancel()
        self._hang_up_other(end.reason)
        self.event(
            "connect_ended", outcome=end.outcome, status=end.status, reason=end.reason, by=end.by, talked_s=end.talked_s
        )
        done.callback(end)

    def _silence(self) -> None:
        """Nobody hears anybody any more."""
        self._stop_ringback()
        for relay in self._relays:
            relay.stop()
        self._relays = []
        self._unjoin()


def _nothing() -> None:
    pass


def connector_of(dialer: Dialer) -> Connector:
    """What connects the callers of a node."""

    def connect(call: Call, spec: ConnectSpec, began: Callable[[], None]) -> Deferred[ConnectEnd]:
        return Connection(call, spec, dialer, began).start()

    return connect


def _caller_of(call: Call) -> str:
    """Who called us, unless he wants to be nobody (RFC 3323, RFC 3325 section 7)."""
    if {"id", "user", "header", "session"} & {one.lower() for one in call.identity.privacy}:
        return ""
    return named_by_others(call.caller)
