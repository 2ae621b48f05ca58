"""A network that is worse than it should be, as lists; and where in what was heard something that was said is missing.

The lists: 5 % of the packets are lost, one by one and in pairs; each packet is late by 0 to 40 ms; and now and then one
is held back until three that left after it are there. What was heard is compared by blocks of 10 ms that are each found
once in what was said, so that a block is either recognised, or silent, concealed or blended.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import attrs
import numpy as np
import numpy.typing as npt

from tests.oracles.g711 import ulaw_decode

FRAME_MS = 20
BLOCK_SAMPLES = 80
BLOCKS = 2
"""Blocks of 10 ms in a frame."""

JITTER_MS = (0, 12, 31, 5, 22, 40, 17, 3, 28, 9, 36, 14, 0, 25, 39, 7, 19, 33, 2, 11, 27, 16, 38, 8, 21, 35, 4, 30, 13)
"""Milliseconds of each packet in turn, over and over: 29 of them, so that they meet every place of the lists below."""

LOST_OF_200 = (11, 29, 52, 53, 88, 104, 121, 142, 160, 187)
HELD_BACK_OF_200 = (17, 41, 70, 96, 133, 150, 175)
MOST_MS = 3 * FRAME_MS + max(JITTER_MS)
"""The lateness of a packet that is held back: beyond what jitter does, so that three or more overtake it."""

PCM = np.array([ulaw_decode(code) for code in range(256)], "<i2")


def lost_of(packets: int) -> frozenset[int]:
    """Which of so many packets, counted from 0, never arrive: 5 %."""
    return frozenset(number for number in range(packets) if number % 200 in LOST_OF_200)


def delays_ms_of(packets: int) -> tuple[int, ...]:
    """Milliseconds by which each of so many packets is late; the first one by none."""
    return tuple(
        MOST_MS if number % 200 in HELD_BACK_OF_200 else JITTER_MS[number % len(JITTER_MS)] for number in range(packets)
    )


def overtaken(delays_ms: Sequence[float], lost: Collection[int] = ()) -> list[int]:
    """For each packet, how many that left after it arrive before it."""
    arrivals = [FRAME_MS * number + late for number, late in enumerate(delays_ms)]
    return [
        sum(arrivals[later] < at for later in range(number + 1, len(arrivals)) if later not in lost)
        for number, at in enumerate(arrivals)
    ]


@attrs.frozen
class Comparison:
    """What became of what was said.

    :ivar delays: of each recognised block in turn, by how many blocks it is later in what was heard than in what was
        said.
    :ivar gaps: stretches between recognised blocks that are none, as (first frame, last frame) of what should be there.
    """

    delays: tuple[int, ...]
    gaps: tuple[tuple[int, int], ...]

    def unexplained(self, missing: Collection[int]) -> list[tuple[int, int]]:
        """The gaps that reach further than one frame from every frame that is missing."""
        near = {frame + step for frame in missing for step in (-1, 0, 1)}
        return [gap for gap in self.gaps if not set(range(gap[0], gap[1] + 1)) <= near]


def samples_of(ulaw: bytes) -> npt.NDArray[np.int16]:
    """Mu-law, decoded."""
    return PCM[np.frombuffer(ulaw, np.uint8)]


def compare(said: Sequence[bytes], heard: bytes) -> Comparison:
    """Find each block of what was said in what was heard.

    :param said: mu-law of 20 ms each, by its number; no block of 10 ms may be there twice.
    :param heard: PCM16 (little-endian) at 8 kHz, block by block.
    """
    samples = samples_of(b"".join(said)).reshape(-1, BLOCK_SAMPLES)
    numbers = {block.tobytes(): number for number, block in enumerate(samples)}
    assert len(numbers) == len(samples), "a block that is said twice cannot be recognised"
    whole = len(heard) // (2 * BLOCK_SAMPLES)
    blocks = np.frombuffer(heard, "<i2", whole * BLOCK_SAMPLES).reshape(whole, BLOCK_SAMPLES)
    found = [numbers.get(block.tobytes()) for block in blocks]
    places = [place for place, number in enumerate(found) if number is not None]
    delays = tuple(place - number for place in places if (number := found[place]) is not None)
    gaps = []
    for place, after, delay in zip(places, places[1:], delays, strict=False):
        if after > place + 1:
            gaps.append(((place + 1 - delay) // BLOCKS, (after - 1 - delay) // BLOCKS))
    return Comparison(delays, tuple(gaps))
