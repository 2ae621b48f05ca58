"""Parsing in slices: media.md section 5, "100 bots each sending 60 s at once may not make a tick 10 ms late"."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock

from agentstream.ws.turns import SHARE_S, SLICE_S, WINDOW_S, ReadTurns, turns_of

STEP_S = 0.00005


class WorkingClock(Clock):
    """A clock that work moves on, and that can run one turn of a reactor: what was due when it began."""

    def turn(self) -> float:
        """Run one turn; returns the seconds that it took."""
        began = self.seconds()
        due, self.calls = self.calls, []
        for call in due:
            call.called = 1
            call.func(*call.args, **call.kw)
        return self.seconds() - began


class Work:
    """A reader with so many steps to do."""

    def __init__(self, clock: WorkingClock, turns: ReadTurns, steps: int, order: list[Work]) -> None:
        self.clock, self.turns, self.steps, self.order = clock, turns, steps, order
        self.is_waiting = False
        self.longest = 0.0

    def read_until(self, deadline: float) -> bool:
        began = self.clock.seconds()
        while self.steps:
            self.steps -= 1
            self.clock.rightNow += STEP_S
            if self.clock.seconds() >= deadline:
                break
        self.order.append(self)
        self.longest = max(self.longest, self.clock.seconds() - began)
        return self.steps > 0

    def set_waiting(self, waiting: bool) -> None:
        self.is_waiting = waiting


def a_hundred(steps: int) -> tuple[WorkingClock, list[Work], list[Work]]:
    clock = WorkingClock()
    turns = ReadTurns(clock)
    order: list[Work] = []
    works = [Work(clock, turns, steps, order) for _ in range(100)]
    began = clock.seconds()
    for work in works:
        turns.admit(work)
    # All of them came in one turn of the reactor: not much more than a slice was spent on it.
    assert clock.seconds() - began <= SLICE_S + SHARE_S + STEP_S
    return clock, works, order


def test_no_turn_takes_longer_than_a_slice() -> None:
    clock, works, _ = a_hundred(steps=50)
    while clock.getDelayedCalls():
        assert clock.turn() <= SLICE_S + SHARE_S + STEP_S
    assert not any(work.steps or work.is_waiting for work in works)
    assert max(work.longest for work in works) <= SHARE_S + STEP_S


def test_a_late_one_waits_for_shares_and_not_for_all() -> None:
    clock, works, order = a_hundred(steps=1000)
    late = Work(clock, works[0].turns, 1, order)
    order.clear()
    works[0].turns.admit(late)
    while late not in order:
        clock.turn()
    assert order.index(late) <= 100
    for work in works:
        work.steps = 0
    while clock.getDelayedCalls():
        clock.turn()


def test_little_work_is_done_at_once() -> None:
    clock = WorkingClock()
    turns = ReadTurns(clock)
    order: list[Work] = []
    for _ in range(1000):
        work = Work(clock, turns, 1, order)
        turns.admit(work)
        assert order[-1] is work
        clock.rightNow += WINDOW_S / 10
    assert not clock.getDelayedCalls()


def test_one_for_each_reactor(clock: Clock) -> None:
    other: Any = Clock()
    turns = turns_of(clock)
    assert turns_of(clock) is turns
    assert turns_of(other) is not turns
