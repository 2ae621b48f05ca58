from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentstream.rtp import serial

pytestmark = pytest.mark.rfc(3550)

U16 = st.integers(0, 0xFFFF)
U32 = st.integers(0, 0xFFFFFFFF)


@given(U16, st.integers(-0x7FFF, 0x7FFF))
def test_16_bits_count_across_the_wrap(a: int, n: int) -> None:
    assert serial.subtract_16(serial.add_16(a, n), a) == n
    assert serial.is_after_16(serial.add_16(a, n), a) == (n > 0)


@given(U32, st.integers(-0x7FFFFFFF, 0x7FFFFFFF))
def test_32_bits_count_across_the_wrap(a: int, n: int) -> None:
    assert serial.subtract_32(serial.add_32(a, n), a) == n
    assert serial.is_after_32(serial.add_32(a, n), a) == (n > 0)


def test_half_the_circle_has_no_order() -> None:
    assert not serial.is_after_16(0, 0x8000)
    assert not serial.is_after_16(0x8000, 0)
    assert not serial.is_after_32(0, 0x80000000)
    assert not serial.is_after_32(0x80000000, 0)


@given(st.lists(st.tuples(U16, U16), min_size=1, max_size=20))
def test_16_bit_rows_equal_the_scalar(pairs: list[tuple[int, int]]) -> None:
    a, b = np.array(pairs, np.uint16).T.copy()
    expected = [serial.subtract_16(x, y) for x, y in pairs]
    out = np.zeros(len(pairs), np.int16)
    assert serial.subtract_rows_16(a, b).tolist() == expected
    assert serial.subtract_rows_16(a, b, out) is out
    assert out.tolist() == expected


@given(st.lists(st.tuples(U32, U32), min_size=1, max_size=20))
def test_32_bit_rows_equal_the_scalar(pairs: list[tuple[int, int]]) -> None:
    a, b = np.array(pairs, np.uint32).T.copy()
    expected = [serial.subtract_32(x, y) for x, y in pairs]
    out = np.zeros(len(pairs), np.int32)
    assert serial.subtract_rows_32(a, b).tolist() == expected
    assert serial.subtract_rows_32(a, b, out) is out
    assert out.tolist() == expected
