"""The rules of barge-in alone, on a clock."""

from __future__ import annotations

import attrs
import pytest
from twisted.internet.task import Clock

from agentstream.flow.barge_in import BargeInWatch
from agentstream.interfaces import BargeIn


@attrs.define
class Talk:
    """A bot whose queue is a number, and a caller who is loud or not."""

    rules: BargeIn
    clock: Clock = attrs.Factory(Clock)
    audible_until: float = 0.0
    loud_until: float = 1e9
    log: list[tuple[str, float]] = attrs.Factory(list)
    watch: BargeInWatch = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.watch = BargeInWatch(
            self.clock,
            self.rules,
            is_audible=lambda: self.clock.seconds() < self.audible_until,
            quiet_s=lambda: max(0.0, self.clock.seconds() - self.loud_until),
            interrupt=lambda: self.say("interrupt"),
            release=self.say,
        )

    def say(self, what: str) -> None:
        self.log.append((what, round(self.clock.seconds(), 3)))

    def media(self, seconds: float) -> None:
        if self.watch.is_dropping:
            self.watch.media_dropped()
            return
        self.audible_until = max(self.audible_until, self.clock.seconds()) + seconds
        self.watch.media_queued(self.audible_until - self.clock.seconds())

    def until(self, at: float) -> None:
        self.clock.pump([0.01] * round((at - self.clock.seconds()) / 0.01))


def talk(mode: str = "clear", **rules: int) -> Talk:
    made = Talk(BargeIn(mode, speech_ms=200, guard_ms=0, **rules))
    made.media(10.0)
    made.until(1.0)
    return made


def test_speech_counts_from_where_it_began() -> None:
    case = talk()
    case.watch.speech_started(0.08)
    case.until(2.0)
    assert case.log == [("interrupt", 1.12)]


def test_only_loud_time_counts() -> None:
    case = talk()
    case.loud_until = 1.05
    case.watch.speech_started(0.08)
    case.until(1.3)
    case.watch.speech_stopped(0.25)
    case.until(3.0)
    assert case.log == [] and case.clock.getDelayedCalls() == []


def test_a_bot_that_begins_while_the_caller_speaks_is_interrupted_behind_its_guard() -> None:
    case = Talk(BargeIn("clear", speech_ms=200, guard_ms=300))
    case.watch.speech_started(0.0)
    case.until(1.0)
    case.media(5.0)
    case.until(3.0)
    assert case.log == [("interrupt", 1.5)]


def test_a_bot_that_answers_within_the_hang_over_is_not() -> None:
    case = Talk(BargeIn("clear", speech_ms=200, guard_ms=0))
    case.watch.speech_started(0.0)
    case.loud_until = 1.0
    case.until(1.1)
    case.media(5.0)
    case.until(1.3)
    case.watch.speech_stopped(0.3)
    case.until(3.0)
    assert case.log == []


def test_messages_of_one_utterance_do_not_begin_the_guard_again() -> None:
    case = Talk(BargeIn("clear", speech_ms=100, guard_ms=500))
    for _ in range(100):
        case.media(0.02)
        case.until(case.clock.seconds() + 0.03)  # every frame comes 10 ms late
        if case.clock.seconds() > 1 and not case.log:
            case.media(0.2)
            case.watch.speech_started(0.1)
            case.until(case.clock.seconds() + 0.05)
    assert case.log and case.log[0][1] < 1.1


def test_quiet_counts_from_the_last_of_speech_and_media() -> None:
    case = talk(quiet_ms=300)
    case.watch.speech_started(0.2)
    assert case.watch.is_dropping
    case.until(2.0)
    case.watch.speech_stopped(0.3)  # at 1.7
    assert case.log == [("interrupt", 1.0), ("quiet", 2.0)]
    case = talk(quiet_ms=300)
    case.watch.speech_started(0.2)
    case.until(2.0)
    case.media(1.0)
    case.watch.speech_stopped(0.3)
    case.until(2.2)
    case.media(1.0)
    case.until(4.0)
    assert case.log == [("interrupt", 1.0), ("quiet", pytest.approx(2.5, abs=0.011))]


def test_a_caller_who_speaks_again_keeps_the_bot_silent() -> None:
    case = talk(quiet_ms=300)
    case.watch.speech_started(0.2)
    case.until(1.5)
    case.watch.speech_stopped(0.1)
    case.until(1.6)
    case.watch.speech_started(0.0)
    case.until(5.0)
    assert case.log == [("interrupt", 1.0)] and case.watch.is_dropping
    case.watch.clear_received()
    assert case.log[1:] == [("clear", 5.0)] and not case.watch.is_dropping


def test_behind_the_deadline_the_bot_goes_on_until_the_caller_speaks_anew() -> None:
    case = talk("pause", deadline_ms=1000)
    case.watch.speech_started(0.2)
    case.audible_until = 20.0
    case.until(4.0)
    assert case.log == [("interrupt", 1.0), ("deadline", 2.0)]
    case.watch.speech_stopped(0.3)
    case.watch.speech_started(0.2)
    case.until(4.5)
    assert case.log[2:] == [("interrupt", 4.0)]


def test_a_second_word_in_a_pause_moves_no_deadline() -> None:
    case = talk("pause", deadline_ms=1000)
    case.audible_until = 20.0
    case.watch.speech_started(0.2)
    case.until(1.4)
    case.watch.speech_stopped(0.3)
    case.until(1.6)
    case.watch.speech_started(0.0)
    case.until(3.0)
    assert case.log == [("interrupt", 1.0), ("deadline", 2.0)]


@pytest.mark.parametrize("mode", ["clear", "pause"])
def test_close_leaves_no_timer_and_no_hold(mode: str) -> None:
    case = talk(mode)
    case.watch.speech_started(0.2)
    case.watch.close()
    assert case.log == [("interrupt", 1.0), ("end", 1.0)] and case.clock.getDelayedCalls() == []
    case.media(1.0)
    case.until(3.0)
    assert len(case.log) == 2
