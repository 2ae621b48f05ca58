"""Pairs of legs that hear each other, against a plain model of one frame after the other; and no more calls for more
pairs."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentstream.errors import LocalProtocolError
from agentstream.media.bridges import DEPTH, QUIET, Bridges, Passed, add_passed
from tests.media.kit import make_world, ulaw_noise
from tests.media.test_codecs import G722

ROWS = 5


def frames(rows: int, seed: int, loudness: int = 8000) -> np.ndarray:
    return np.random.default_rng(seed).integers(-loudness, loudness, (rows, 160)).astype(np.int16)


def sent(passed: Passed | None) -> dict[int, np.ndarray]:
    outgoing = np.zeros((ROWS, 160), np.int16)
    if passed is None:
        return {}
    add_passed(passed, outgoing)
    return {int(row): outgoing[row] for row in passed.rows}


@given(st.lists(st.tuples(st.integers(1, 7), st.booleans()), min_size=1, max_size=20), st.integers(0, 99))
def test_frames_come_out_in_their_order(ticks: list[tuple[int, bool]], seed: int) -> None:
    """Each tick sends a number of frames and hears as many; a plain queue a row says what comes out."""
    bridges = Bridges(ROWS, 160, 320)
    bridges.join(1, 3)
    plain: dict[int, deque[np.ndarray]] = {1: deque(), 3: deque()}
    for slots, is_quiet in ticks:
        for _ in range(min(slots, 5)):
            for queue in plain.values():
                if slots == 1 and len(queue) > 1 and np.abs(queue[0].astype(int)).max() <= QUIET:
                    queue.popleft()
            expected = {row: queue.popleft() for row, queue in plain.items() if queue}
            got = sent(bridges.take(None, is_late=slots > 1))
            assert got.keys() == expected.keys()
            for row, frame in expected.items():
                np.testing.assert_array_equal(got[row], frame)
        for _ in range(slots):
            seed += 1
            heard = frames(ROWS, seed, 100 if is_quiet else 8000)
            bridges.hear(heard, None)
            for row, other in ((1, 3), (3, 1)):
                plain[row].append(heard[other])
                if len(plain[row]) > DEPTH:
                    plain[row].popleft()


def test_what_was_there_before_is_not_heard() -> None:
    bridges = Bridges(ROWS, 160, 320)
    bridges.join(0, 1)
    bridges.hear(frames(ROWS, 1), None)
    bridges.part(1)
    assert bridges.take(None, is_late=False) is None
    bridges.join(1, 2)
    passed = bridges.take(None, is_late=False)
    assert passed is not None
    assert len(passed.rows) == 0


def test_a_leg_is_in_one_pair() -> None:
    bridges = Bridges(ROWS, 160, 320)
    bridges.join(0, 1)
    with pytest.raises(LocalProtocolError):
        bridges.join(1, 2)
    with pytest.raises(LocalProtocolError):
        bridges.join(3, 3)
    bridges.part(0)
    bridges.part(0)
    assert len(bridges) == 0


@pytest.mark.parametrize("codec", [{}, G722], ids=["PCMU", "G722"])
def test_tones_of_a_digit_are_in_place_of_what_the_other_hears(codec: dict[str, Any]) -> None:
    """A row of 16,000 samples is no other: what is put over a tone keeps the far end from hearing the digit."""
    got = []
    for noise in (b"", bytes(range(160))):
        world = make_world(4, codecs=("PCMU", "G722"))
        one, other = (world.call(send_digit_payload_type=None, **codec) for _ in range(2))
        one.leg.join(other.leg)
        other.leg.send_digits("5", duration_ms=400)
        for _ in range(20):
            if noise:
                one.send(one.packet(noise, codec.get("send_payload_type", 0)))
            world.ticks(1)
        got.append([packet.payload for packet in other.got])
        world.plane.stop()
    assert got[0] == got[1]
    assert len(set(got[0][1:])) > 1


def test_sound_passes_beside_what_is_played_and_ends_with_either_leg() -> None:
    world = make_world(4)
    one, other = world.call(), world.call()
    part = one.leg.join(other.leg)
    said = ulaw_noise(20, 7)
    for frame in said:
        one.say(frame)
        world.ticks(1)
    world.ticks(10)
    assert b"".join(bytes(frame) for frame in said) in other.heard()
    other.leg.close()
    assert len(world.plane.bridges) == 0
    third = world.call()
    part_third = third.leg.join(one.leg)
    part()  # of what is over already: neither row is that pair's any more
    assert len(world.plane.bridges) == 1
    part_third()
    assert len(world.plane.bridges) == 0
    third.leg.join(one.leg)
    one.leg.close()
    third.leg.close()
    world.plane.stop()
