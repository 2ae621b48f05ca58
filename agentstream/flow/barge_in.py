"""When a caller who speaks over a bot interrupts it, and until when.

The rules alone, on a clock: who listens, silences and holds is :class:`agentstream.flow.stream.Stream`. Time
counts only while the caller is loud, so that the hang-over of the detector makes no word longer than it is.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from agentstream.interfaces import BargeIn

UTTERANCE_GAP_S = 0.2
"""Media behind a longer gap than this is a new utterance, whose beginning is guarded."""

LEAST_WAIT_S = 0.02
_HAIR_S = 1e-6


@attrs.define(eq=False)
class BargeInWatch:
    """One bot that may be interrupted.

    :ivar rules: the step's options; ``clear`` or ``pause``.
    :ivar is_audible: something of what the bot said has yet to be heard.
    :ivar quiet_s: how long ago the caller was loud.
    :ivar interrupt: silence the bot, or hold it.
    :ivar release: it is heard again; told why: ``clear`` (the bot's own), ``quiet`` or ``deadline``.
    """

    clock: IReactorTime
    rules: BargeIn
    is_audible: Callable[[], bool]
    quiet_s: Callable[[], float]
    interrupt: Callable[[], None]
    release: Callable[[str], None]
    is_interrupted: bool = False
    _spoke_at: float | None = None  # since when the caller speaks
    _stopped_at: float = 0.0
    _utterance_at: float = 0.0
    _utterance_ends: float = -UTTERANCE_GAP_S
    _media_at: float = 0.0
    _is_forgiven: bool = False  # the bot goes on although the caller has not stopped
    _timer: IDelayedCall | None = None

    @property
    def is_dropping(self) -> bool:
        """What the bot sends is not for the caller."""
        return self.is_interrupted and self.rules.mode == "clear"

    # What happens

    def speech_started(self, ago_s: float) -> None:
        """The caller speaks, since so long ago."""
        self._spoke_at = self.clock.seconds() - ago_s
        if self.is_dropping:
            self._cancel()
        else:
            self._consider()

    def speech_stopped(self, ago_s: float) -> None:
        """The caller has stopped, so long ago."""
        self._spoke_at = None
        self._is_forgiven = False
        self._stopped_at = self.clock.seconds() - ago_s
        if self.is_dropping:
            self._await_quiet()
        elif not self.is_interrupted:
            self._cancel()

    def media_queued(self, queued_s: float) -> None:
        """The bot has said something; so much of what it said has yet to be heard."""
        now = self.clock.seconds()
        if now > self._utterance_ends + UTTERANCE_GAP_S:
            self._utterance_at = now
        self._utterance_ends = now + queued_s
        if self._timer is None:
            self._consider()

    def media_dropped(self) -> None:
        """The bot goes on with what nobody hears."""
        self._media_at = self.clock.seconds()

    def clear_received(self) -> None:
        """The bot has noticed."""
        if self.is_interrupted:
            self._let_go("clear")

    def close(self) -> None:
        """The bot is gone, or what it says is over. A held one is held no more."""
        self._cancel()
        self._spoke_at = None
        if self.is_interrupted:
            self._let_go("end")

    # The rules

    def _consider(self) -> None:
        """Has the caller been speaking over the bot for long enough?"""
        if self._spoke_at is None or self.is_interrupted or self._is_forgiven or not self.is_audible():
            return
        since = max(self._spoke_at, self._utterance_at + self.rules.guard_ms / 1000)
        missing = since + self.rules.speech_ms / 1000 - (self.clock.seconds() - self.quiet_s())
        if missing > _HAIR_S:
            self._wait(missing, self._consider_again)
            return
        self.is_interrupted = True
        self._media_at = 0.0
        if self.rules.mode == "pause":
            self._wait(self.rules.deadline_ms / 1000, self._pass_deadline)
        self.interrupt()

    def _consider_again(self) -> None:
        self._timer = None
        self._consider()

    def _pass_deadline(self) -> None:
        self._timer = None
        self._is_forgiven = self._spoke_at is not None
        self._let_go("deadline")

    def _await_quiet(self) -> None:
        """The caller has stopped: wait until the bot has, too."""
        self._timer = None
        due = max(self._stopped_at, self._media_at) + self.rules.quiet_ms / 1000
        missing = due - self.clock.seconds()
        if missing > _HAIR_S:
            self._wait(missing, self._await_quiet)
        else:
            self._let_go("quiet")

    def _let_go(self, why: str) -> None:
        self._cancel()
        self.is_interrupted = False
        self._utterance_ends = -UTTERANCE_GAP_S  # what comes next is an utterance of its own
        self.release(why)

    def _wait(self, seconds: float, then: Callable[[], None]) -> None:
        self._cancel()
        self._timer = self.clock.callLater(max(LEAST_WAIT_S, seconds), then)

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
