"""Cases of the jitter ring: order, loss, silence, and when a new anchor is taken."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentstream.media.arrivals import MOST_MS
from agentstream.media.ring import Rings

pytestmark = pytest.mark.rfc(3550)

BLOCK = 80
PLAYOUT_MS = 60


class Line:
    """One row of a Rings with a packet number to tell frames apart: sample value = frame number."""

    def __init__(self, row: int = 1, fixed: bool = False) -> None:
        self.rings = Rings(4, least_ms=PLAYOUT_MS, most_ms=PLAYOUT_MS) if fixed else Rings(4)
        self.row = row
        self.rings.open(row, PLAYOUT_MS)
        self.out = np.zeros((4, 2 * BLOCK), np.int16)

    def insert(self, sequence: int, timestamp: int, value: int, samples: int = 160, ssrc: int = 9) -> None:
        self.rings.insert(
            np.array([self.row]),
            np.array([sequence & 0xFFFF], np.uint16),
            np.array([timestamp & 0xFFFFFFFF], np.uint32),
            np.array([ssrc], np.uint32),
            np.full((1, samples), value, np.int16),
        )

    def play(self, slots: int = 1) -> list[int]:
        """The first sample of each 10 ms block that comes out."""
        values = []
        for _ in range(slots):
            self.rings.play(4, self.out)
            values += [int(self.out[self.row, 0]), int(self.out[self.row, BLOCK])]
        return values


@given(
    order=st.permutations(range(8)),
    first_sequence=st.integers(0, 0xFFFF),
    first_timestamp=st.integers(0, 0xFFFFFFFF),
    twice=st.lists(st.integers(0, 7), max_size=3),
)
def test_any_order_in_right_order_out(
    order: list[int], first_sequence: int, first_timestamp: int, twice: list[int]
) -> None:
    line = Line()
    line.insert(first_sequence, first_timestamp, 100)
    for number in [*order, *twice]:
        line.insert(first_sequence + 1 + number, first_timestamp + 160 * (1 + number), 101 + number)
    played = line.play(12)
    assert played == [0] * 6 + [100 + n // 2 for n in range(18)]
    assert line.rings.concealed[1] == 0
    assert line.rings.duplicate[1] == len(twice)


@pytest.mark.parametrize("samples", [80, 160, 240, 320, 480])
def test_any_ptime(samples: int) -> None:
    line = Line()
    for number in range(4):
        line.insert(number, number * samples, number + 1, samples)
    blocks = samples // BLOCK
    assert line.play(3 + 2 * blocks) == [0] * 6 + [1 + n // blocks for n in range(4 * blocks)]


def test_packets_that_are_no_whole_blocks_join() -> None:
    """25 ms packets: 200 samples, two and a half blocks."""
    line = Line()
    line.rings.open(1, PLAYOUT_MS)
    sound = np.arange(1, 1001, dtype=np.int16)
    for number in range(5):
        line.rings.insert(
            np.array([1]),
            np.array([number], np.uint16),
            np.array([200 * number], np.uint32),
            np.array([9], np.uint32),
            sound[None, 200 * number : 200 * number + 200],
        )
    heard = []
    for _ in range(9):
        line.rings.play(4, line.out)
        heard.append(line.out[1].copy())
    assert np.array_equal(np.concatenate(heard)[480:1440], sound[:960])


def test_a_missing_number_is_concealed_and_counted() -> None:
    line = Line()
    for number in (0, 1, 2, 4, 5):
        line.insert(number, 160 * number, 1000 + number)
    played = line.play(3 + 6)
    assert played[6:12] == [1000, 1000, 1001, 1001, 1002, 1002]
    assert played[12:14] == [1002, 1002]  # a constant goes on, and fades within the second block
    assert 802 <= played[14] <= 1002  # overlapped with the fading end of the loss
    assert played[15:18] == [1004, 1005, 1005]
    assert line.rings.concealed[1] == 2


def test_a_timestamp_step_without_a_missing_number_is_silence() -> None:
    """DTX: neither lost nor concealed."""
    line = Line()
    line.insert(0, 0, 7)
    line.insert(1, 160 * 4, 8)
    assert line.play(3 + 5) == [0] * 6 + [7, 7] + [0] * 6 + [8, 8]
    assert line.rings.concealed[1] == 0


def test_a_pause_of_seconds_keeps_the_anchor() -> None:
    line = Line()
    line.insert(0, 0, 7)
    assert line.play(103)[6:8] == [7, 7]
    line.insert(1, 160 * 100, 8)
    assert line.play(3)[:2] == [8, 8] or line.rings.depth_ms(1) <= PLAYOUT_MS
    assert line.rings.reanchored[1] == 0
    assert line.rings.concealed[1] == 0


def test_a_hold_with_a_frozen_timestamp_is_heard_again() -> None:
    """Without new anchors, every packet after such a hold was dropped."""
    line = Line()
    for number in range(50):
        line.insert(number, 160 * number, 1)
        line.play()
    line.play(500)  # ten seconds of nothing; the phone's timestamp stands still meanwhile
    heard = []
    for number in range(50, 70):
        line.insert(number, 160 * number, 2)
        heard += line.play()
    assert heard.count(2) >= 2 * (20 - 3 - 3)
    assert line.rings.reanchored[1] == 1


def test_a_timestamp_jump_of_an_hour() -> None:
    line = Line()
    for number in range(10):
        line.insert(number, 160 * number, 1)
        line.play()
    heard = []
    for number in range(10, 30):
        line.insert(number, 160 * number + 3600 * 8000, 2)
        heard += line.play()
    assert heard.count(2) == 2 * (20 - 4)  # two packets confirm it, and the first of them is not lost
    assert line.rings.reanchored[1] == 1


def test_a_new_ssrc_takes_two_packets_in_sequence() -> None:
    line = Line()
    heard = []
    for number in range(10):
        line.insert(number, 160 * number, 1)
        heard += line.play()
    line.insert(777, 160 * 5, 3, ssrc=66)  # one stray packet of another stream
    for number in range(10, 20):
        line.insert(number, 160 * number, 1)
        heard += line.play()
    assert 3 not in heard
    assert line.rings.reanchored[1] == 0
    for number in range(10):
        line.insert(3000 + number, 99 + 160 * number, 4, ssrc=77)
        heard += line.play()
    assert heard.count(4) == 2 * (10 - 4)


def test_two_ssrcs_interleaved_keep_the_first() -> None:
    line = Line()
    heard = []
    for number in range(30):
        line.insert(number, 160 * number, 1)
        line.insert(5000 + number, 40 + 160 * number, 2, ssrc=77)
        heard += line.play()
    assert 2 not in heard
    assert heard[6:] == [1] * (len(heard) - 6)


def test_a_sequence_that_jumps_back_is_followed() -> None:
    """Numbers from anywhere else in time: two in sequence, and a loss behind them is one again."""
    line = Line()
    for at, sequence in enumerate([*range(10), *range(-30000, -29990)]):
        if at != 15:
            line.insert(sequence, 160 * at, 5)
        line.play()
    assert line.rings.concealed[1] == 2, "the one that is missing behind the jump"
    assert (line.rings.late[1], line.rings.reanchored[1]) == (0, 0)


def test_one_number_from_elsewhere_changes_little() -> None:
    """A packet whose number alone is 30,000 ahead: those behind it are no older than it, and what is lost is known."""
    line = Line()
    for at in range(30):
        if at != 20:
            line.insert(at + 30000 * (at == 10), 160 * at, 5)
        line.play()
    assert (line.rings.concealed[1], line.rings.late[1], line.rings.reanchored[1]) == (2, 0, 0)


def test_the_numbers_of_another_source_are_its_own() -> None:
    """Digits under an SSRC of their own, with numbers of their own."""
    line = Line()
    for at in range(30):
        if at != 20:
            line.insert(at, 160 * at, 5)
        if at % 5 == 0:
            line.rings.skip_sequence(1, 20000 + at, ssrc=77)
        line.play()
    assert line.rings.concealed[1] == 2


def test_what_fits_no_anchor_is_counted() -> None:
    line = Line()
    for number in range(20):
        line.insert(number, 160 * number, 1)
        line.insert(5 * number, 7777 * number, 2, ssrc=10)
        line.play()
    # The last one may yet be followed by another.
    assert line.rings.stray[1] == 19


def test_a_path_that_became_longer_is_followed_at_once() -> None:
    line = Line()
    for number in range(10):
        line.insert(number, 160 * number, 1)
        line.play()
    line.play(10)  # 200 ms longer at one go
    heard = []
    for number in range(10, 30):
        line.insert(number, 160 * number, 2)
        heard += line.play()
    assert heard == [0, 0, 0] + [2] * 37  # the first block of voice rises from silence
    assert line.rings.late[1] == 0
    assert line.rings.reanchored[1] == 0


def test_three_late_packets_move_a_fixed_anchor() -> None:
    line = Line(fixed=True)
    for number in range(10):
        line.insert(number, 160 * number, 1)
        line.play()
    line.play(10)
    heard = []
    for number in range(10, 30):
        line.insert(number, 160 * number, 2)
        heard += line.play()
    assert heard.count(2) == 2 * (20 - 2 - 3)
    assert line.rings.late[1] == 3


def test_nothing_of_the_row_before_is_heard() -> None:
    line = Line()
    for number in range(20):
        line.insert(number, 160 * number, 1)
    line.rings.open(1, PLAYOUT_MS)
    assert line.play(64) == [0] * 128
    line.insert(0, 0, 2)
    line.insert(2, 320, 2)
    assert set(line.play(64)) <= {0, 2, 1}


@given(
    st.lists(
        st.tuples(
            st.integers(0, 0xFFFF),
            st.integers(0, 0xFFFFFFFF),
            st.integers(0, 3),
            st.integers(0, 500),
            st.integers(0, 3),
        ),
        max_size=60,
    )
)
def test_no_arrival_breaks_it(arrivals: list[tuple[int, int, int, int, int]]) -> None:
    line = Line()
    for sequence, timestamp, ssrc, samples, slots in arrivals:
        line.insert(sequence, timestamp, 5, samples, ssrc)
        line.play(slots)
    # Whatever came: two ordinary packets in sequence and their successors are heard again.
    heard = []
    for number in range(40):
        line.insert(40000 + number, 123456 + 160 * number, 6, ssrc=99)
        heard += line.play()
    assert heard.count(6) >= 2 * (40 - 3) - MOST_MS // 10
