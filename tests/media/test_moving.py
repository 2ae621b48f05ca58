"""A far end that describes another address: what is under way from the old one is heard, and nothing is sent there."""

from __future__ import annotations

import pytest

from agentstream.media.latch import SILENT_TICKS
from tests.media.kit import FarEnd, World, decode, make_plan, ulaw_noise

OLD_HOST = "10.0.0.2"


def moved(world: World, far: FarEnd, nat: str = "host", host: str = OLD_HOST, **changes: object) -> FarEnd:
    """The far end at its new address; its SSRC and numbers go on."""
    new = FarEnd(world.network, (host, far.address[1] + 500), far.leg, far.ssrc, far.sequence, far.timestamp)
    far.leg.describe(make_plan(new.address, **changes), OLD_HOST, nat)
    return new


@pytest.mark.parametrize("nat", ["host", "any"])
@pytest.mark.parametrize("host", [OLD_HOST, "10.0.0.77"])
def test_what_is_under_way_is_heard_and_not_answered(world: World, nat: str, host: str) -> None:
    far = world.call(nat=nat)
    chunks = world.record(far.leg)
    frames = ulaw_noise(8, seed=3)
    for frame in frames[:3]:
        far.say(frame)
        world.ticks(1)
    new = moved(world, far, nat, host)
    before = len(far.got)
    for frame in frames[3:6]:
        far.say(frame)
        world.ticks(1)
    new.sequence, new.timestamp = far.sequence, far.timestamp
    for frame in frames[6:]:
        new.say(frame)
        world.ticks(1)
    world.ticks(10)
    assert len(far.got) == before, "from the answer on, everything goes to the new address"
    assert len(new.got) == 15
    heard = b"".join(chunk.tobytes() for chunk in chunks)
    for frame in frames:
        assert decode(frame).tobytes() in heard
    assert far.leg.statistics().foreign == 0


def test_one_that_moves_and_says_nothing_is_sent_to(world: World) -> None:
    """A phone that only listens at its new place: packets of before must not call the sound back to the old one."""
    far = world.call()
    far.say(b"\x10" * 160)
    world.ticks(1)
    new = moved(world, far, may_receive=False)
    before = len(far.got)
    for _ in range(5):
        far.say(b"\x10" * 160)
        world.ticks(1)
    world.ticks(100)
    assert len(far.got) == before
    assert len(new.got) == 105


def test_one_that_says_it_moved_and_did_not_is_learnt_again(world: World) -> None:
    """Its SDP names an address that it does not use (a NAT): after half a second its packets say where it is."""
    far = world.call()
    far.say(b"\x10" * 160)
    world.ticks(1)
    moved(world, far)
    before = len(far.got)
    for _ in range(SILENT_TICKS + 5):
        far.say(b"\x10" * 160)
        world.ticks(1)
    assert len(far.got) > before


def test_the_same_address_again_is_no_move(world: World) -> None:
    far = world.call()
    for _ in range(3):
        far.say(b"\x10" * 160)
        world.ticks(1)
        far.leg.describe(make_plan(far.address, ptime_ms=30), OLD_HOST, "host")
    world.ticks(1)
    assert far.leg.statistics().foreign == 0
    assert len(far.got) == 4
