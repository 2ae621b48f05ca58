"""A codec that changes in the middle of a call: nothing that was said is lost, whatever is under way (media.md 3)."""

from __future__ import annotations

import numpy as np
import pytest

from agentstream.audio import g711
from tests.media.kit import World, decode, make_plan, ulaw_noise

A_LAW = {"codec": "PCMA", "send_payload_type": 8, "receive_payload_type": 8}


def voice(chunks: list[np.ndarray]) -> np.ndarray:
    """What was heard, from the first sample that is not silence to the last."""
    heard = np.concatenate(chunks)
    at = np.flatnonzero(heard)
    return heard[at[0] : at[-1] + 1]


@pytest.mark.rfc(3264)
def test_what_is_under_way_is_heard_in_the_old_law_until_the_first_new_packet(world: World) -> None:
    far = world.call()
    chunks = world.record(far.leg)
    mu_law, a_law = ulaw_noise(8, seed=1), [bytes([0x20 + number]) * 160 for number in range(8)]
    for number in range(4):
        far.say(mu_law[number])
        world.ticks(1)
    far.leg.describe(make_plan(far.address, **A_LAW), "10.0.0.2", "host")
    # The answer is on its way to the far end, which goes on as before for four packets more.
    for number in range(4, 8):
        far.say(mu_law[number])
        world.ticks(1)
    for payload in a_law:
        far.send(far.packet(payload, 8))
        world.ticks(1)
    world.ticks(10)
    expected = np.concatenate([decode(b"".join(mu_law)), g711.ALAW_TO_PCM[np.frombuffer(b"".join(a_law), np.uint8)]])
    assert np.array_equal(voice(chunks), expected), "no gap, no doubling, each packet in its own law"
    assert far.leg.statistics().lost == 0
    assert far.leg.statistics().refused == {}
    late = far.packet(mu_law[0])
    far.send(late)
    world.ticks(1)
    assert far.leg.statistics().refused == {"The payload type was not negotiated.": 1}, "the old codec is over"


def test_the_egress_changes_at_the_answer(world: World) -> None:
    far = world.call()
    told: list[bool] = []
    sound = decode(b"".join(ulaw_noise(10, seed=2)))
    far.leg.playback.write(sound.tobytes())
    far.leg.playback.mark(told.append)
    world.ticks(4)
    far.leg.describe(make_plan(far.address, **A_LAW), "10.0.0.2", "host")
    world.ticks(8)
    assert [packet.payload_type for packet in far.got] == [0] * 4 + [8] * 8
    first, rest = far.got[:4], far.got[4:10]
    heard = np.concatenate(
        [
            decode(b"".join(packet.payload for packet in first)),
            g711.ALAW_TO_PCM[np.frombuffer(b"".join(packet.payload for packet in rest), np.uint8)],
        ]
    )
    assert np.array_equal(heard[: 4 * 160], sound[: 4 * 160])
    expected = g711.ALAW_TO_PCM[g711.PCM_TO_ALAW[sound[4 * 160 :].view(np.uint16)]]
    assert np.array_equal(heard[4 * 160 :], expected), "the queue stays"
    assert told == [True], "and so does its mark"


def test_a_stranger_does_not_end_the_old_codec(world: World) -> None:
    far = world.call()
    far.say(b"\x10" * 160)
    world.ticks(1)
    far.leg.describe(make_plan(far.address, **A_LAW), "10.0.0.2", "host")
    far.say(b"\x11" * 160)
    world.ticks(1)
    far.send(far.packet(b"\x12" * 160, 8), ("10.9.9.9", 9))
    far.sequence -= 1
    far.timestamp -= 160
    world.ticks(1)
    chunks = world.record(far.leg)
    far.say(b"\x13" * 160)
    world.ticks(10)
    assert int(decode(b"\x13")[0]) in np.concatenate(chunks)
    assert far.leg.statistics().foreign == 1


def test_the_old_codec_is_gone_with_its_call(world: World) -> None:
    far = world.call()
    far.leg.describe(make_plan(far.address, **A_LAW), "10.0.0.2", "host")
    far.leg.close()
    again = world.call(**A_LAW)
    again.say(b"\x10" * 160)
    world.ticks(1)
    assert again.leg.statistics().received == 0


def test_a_codec_that_changes_back_and_forth(world: World) -> None:
    far = world.call()
    chunks = world.record(far.leg)
    for turn in range(4):
        far.say(b"\x10" * 160) if turn % 2 == 0 else far.send(far.packet(b"\x20" * 160, 8))
        world.ticks(1)
        plan = make_plan(far.address, **A_LAW) if turn % 2 == 0 else make_plan(far.address)
        far.leg.describe(plan, "10.0.0.2", "host")
    world.ticks(10)
    one, other = int(decode(b"\x10")[0]), int(g711.ALAW_TO_PCM[0x20])
    assert [int(value) for value in voice(chunks)[::160]] == [one, other, one, other]
