"""The rings of many rows at once equal a plain buffer that takes packet by packet, whatever arrives."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentstream.media.ring import Rings
from tests.oracles.ring import Block, PlainRing

pytestmark = pytest.mark.rfc(3550)

ROWS = 3
BLOCK = 80
DELAY = 6
COUNTERS = ("late", "duplicate", "stray", "reanchored", "concealed", "starved")

NEXT, LOST, AGAIN, OLD, JUMP, BACK, CLOCK, OFF_GRID, OTHER, EVENT, NOTHING = range(11)

arrival = st.tuples(
    st.sampled_from([NEXT] * 12 + [LOST, AGAIN, OLD, JUMP, BACK, CLOCK, OFF_GRID, OTHER, EVENT, NOTHING]),
    st.integers(0, 12),
    st.sampled_from([1, 2, 2, 2, 3, 4]),
)
"""What a row gets in a slot: the kind, how much of it, and the blocks of the packet."""


class Sender:
    """A far end whose packets go wrong as it is told."""

    def __init__(self, ssrc: int, sequence: int, timestamp: int) -> None:
        self.ssrc, self.sequence, self.timestamp = ssrc, sequence, timestamp

    def packet(self, kind: int, much: int, blocks: int) -> tuple[int, int, int]:
        """Sequence number, timestamp and SSRC."""
        if kind == LOST:
            self._go_on(blocks)
        elif kind == JUMP:
            self.sequence += 30_000 + much
        elif kind == BACK:
            self.timestamp -= 4 * BLOCK * much
        elif kind == CLOCK:
            self.timestamp += 100 * BLOCK * much
        elif kind == OFF_GRID:
            self.timestamp += much
        elif kind == OTHER:
            self.ssrc ^= 1
        sequence, timestamp = self.sequence, self.timestamp
        if kind == AGAIN:
            sequence, timestamp = sequence - 1, timestamp - blocks * BLOCK
        elif kind == OLD:
            sequence, timestamp = sequence - much, timestamp - 2 * BLOCK * much
        else:
            self._go_on(0 if kind == EVENT else blocks)
        return sequence & 0xFFFF, timestamp & 0xFFFFFFFF, self.ssrc

    def _go_on(self, blocks: int) -> None:
        self.sequence += 1
        self.timestamp += blocks * BLOCK


@settings(max_examples=60)
@given(
    slots=st.lists(st.tuples(*[arrival] * ROWS), min_size=10, max_size=60),
    sequence=st.integers(0, 0xFFFF),
    timestamp=st.integers(0, 0xFFFFFFFF),
    seed=st.integers(0, 99),
)
def test_rows_equal_the_plain_ring(
    slots: list[tuple[tuple[int, int, int], ...]], sequence: int, timestamp: int, seed: int
) -> None:
    rings = Rings(ROWS, least_ms=10 * DELAY, most_ms=10 * DELAY)
    for row in range(ROWS):
        rings.open(row, 10 * DELAY)
    plain = [PlainRing(DELAY, BLOCK) for _ in range(ROWS)]
    senders = [Sender(100 * row, sequence + row, timestamp + 1000 * row) for row in range(ROWS)]
    chance = np.random.default_rng(seed)
    out = np.zeros((ROWS, 2 * BLOCK), np.int16)
    for slot in slots:
        by_length: dict[int, list[tuple[int, tuple[int, int, int], list[Block]]]] = {}
        for row, (kind, much, blocks) in enumerate(slot):
            if kind == NOTHING:
                continue
            header = senders[row].packet(kind, much, blocks)
            if kind == EVENT:
                rings.skip_sequence(row, header[0], header[2])
                plain[row].skip(header[0], header[2])
                continue
            sound = [tuple(chance.integers(-9000, 9000, BLOCK).tolist()) for _ in range(blocks)]
            by_length.setdefault(blocks, []).append((row, header, sound))
            plain[row].insert(*header, sound)
        for packets in by_length.values():
            sequences, timestamps, ssrcs = zip(*(header for _, header, _ in packets), strict=True)
            rings.insert(
                np.array([row for row, _, _ in packets]),
                np.array(sequences, np.uint16),
                np.array(timestamps, np.uint32),
                np.array(ssrcs, np.uint32),
                np.array([sound for _, _, sound in packets], np.int16).reshape(len(packets), -1),
            )
        rings.play(ROWS, out)
        for row in range(ROWS):
            assert out[row].tolist() == plain[row].play() + plain[row].play()
    for name in COUNTERS:
        assert getattr(rings, name).tolist() == [getattr(each, name) for each in plain], name
