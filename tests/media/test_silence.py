"""Far ends that stop sending."""

from __future__ import annotations

import numpy as np

from agentstream.media.silence import RESUMED, STOPPED, TIMED_OUT, RtpChange, SilenceWatch
from tests.media.kit import FarEnd, World, make_plan, make_world, ulaw_noise

FRAME = ulaw_noise(1, 5)[0]


def changes(far: FarEnd) -> list[RtpChange]:
    told: list[RtpChange] = []
    far.leg.on_rtp = told.append
    return told


def talk(world: World, far: FarEnd, seconds: float) -> None:
    for _ in range(round(seconds * 50)):
        far.say(FRAME)
        world.ticks(1)


def test_stopped_and_back() -> None:
    world = make_world(silence_event_s=3)
    far = world.call()
    told = changes(far)
    talk(world, far, 5)
    assert told == []
    world.ticks(6 * 50)
    assert told == [RtpChange(STOPPED, 3)]
    talk(world, far, 5)
    assert [change.kind for change in told] == [STOPPED, RESUMED]
    assert told[1].silent_s in (6, 7)
    world.plane.stop()


def test_one_that_never_sends() -> None:
    world = make_world(silence_event_s=2, rtp_timeout_s=6)
    told = changes(world.call())
    world.ticks(20 * 50)
    assert told == [RtpChange(STOPPED, 2), RtpChange(TIMED_OUT, 6)]
    world.plane.stop()


def test_no_limits_no_events() -> None:
    world = make_world(silence_event_s=0, rtp_timeout_s=0)
    told = changes(world.call())
    world.ticks(60 * 50)
    assert told == []
    world.plane.stop()


def test_a_hold_is_no_silence_and_its_time_does_not_count() -> None:
    world = make_world(silence_event_s=3, rtp_timeout_s=5)
    far = world.call()
    told = changes(far)
    talk(world, far, 2)
    far.leg.describe(make_plan(far.address, may_receive=False), "10.0.0.2", "host")
    world.ticks(30 * 50)
    assert told == []
    far.leg.describe(make_plan(far.address), "10.0.0.2", "host")
    world.ticks(2 * 50)
    assert told == []
    world.ticks(2 * 50)
    assert told == [RtpChange(STOPPED, 3)]
    world.plane.stop()


def test_a_description_that_is_repeated_starts_no_new_time() -> None:
    world = make_world(rtp_timeout_s=5)
    far = world.call()
    told = changes(far)
    for _ in range(8):
        far.leg.describe(make_plan(far.address), "10.0.0.2", "host")
        world.ticks(50)
    assert [change.kind for change in told] == [TIMED_OUT]
    world.plane.stop()


def test_the_next_call_in_the_row_begins_anew() -> None:
    world = make_world(rows=1, silence_event_s=2)
    far = world.call()
    told = changes(far)
    world.ticks(3 * 50)
    far.leg.close()
    again = world.call()
    told_again = changes(again)
    talk(world, again, 3)
    assert ([change.kind for change in told], told_again) == ([STOPPED], [])
    world.plane.stop()


def test_what_is_told_may_close_legs() -> None:
    world = make_world(rtp_timeout_s=2)
    ends = [world.call() for _ in range(3)]
    closed: list[int] = []

    def close_all(change: RtpChange) -> None:
        for far in ends:
            closed.append(1)
            far.leg.close()

    for far in ends:
        far.leg.on_rtp = close_all
    world.ticks(4 * 50)
    assert world.plane.legs == 0
    assert len(closed) == 3, "a leg that is closed is told nothing"
    world.plane.stop()


def test_rtcp_is_a_sign_of_life_for_the_limit_alone() -> None:
    watch = SilenceWatch(2, 3, 5)
    heard, reported = np.zeros(2, np.int64), np.zeros(2, np.int64)
    for row in range(2):
        watch.describe(row, True, 0)
    reported[1] = 200
    found = watch.look(2, 250, heard, reported)
    assert found == [(0, RtpChange(STOPPED, 5)), (1, RtpChange(STOPPED, 5)), (0, RtpChange(TIMED_OUT, 5))]
    assert watch.look(2, 449, heard, reported) == []
    assert watch.look(2, 450, heard, reported) == [(1, RtpChange(TIMED_OUT, 9))]
