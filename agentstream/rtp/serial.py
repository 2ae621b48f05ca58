"""Serial number arithmetic (RFC 1982) for what wraps in RTP: sequence numbers (16 bits) and timestamps (32 bits).

Contract: scalars are Python ints within their width and stay so; arrays are uint16 or uint32 and the differences int16
or int32. Two numbers that are exactly half the circle apart have no order (RFC 1982 section 3.2): their difference is
the most negative number, and neither is after the other.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

UInt16s = npt.NDArray[np.uint16]
UInt32s = npt.NDArray[np.uint32]
Int16s = npt.NDArray[np.int16]
Int32s = npt.NDArray[np.int32]


def add_16(a: int, n: int) -> int:
    """The number n steps after a (n may be negative)."""
    return (a + n) & 0xFFFF


def add_32(a: int, n: int) -> int:
    """The number n steps after a (n may be negative)."""
    return (a + n) & 0xFFFFFFFF


def subtract_16(a: int, b: int) -> int:
    """How many steps a is after b, -32768 to 32767: negative when it is before."""
    return ((a - b + 0x8000) & 0xFFFF) - 0x8000


def subtract_32(a: int, b: int) -> int:
    """How many steps a is after b, -2**31 to 2**31 - 1: negative when it is before."""
    return ((a - b + 0x80000000) & 0xFFFFFFFF) - 0x80000000


def is_after_16(a: int, b: int) -> bool:
    """Whether a is later than b on the circle."""
    return subtract_16(a, b) > 0


def is_after_32(a: int, b: int) -> bool:
    """Whether a is later than b on the circle."""
    return subtract_32(a, b) > 0


def subtract_rows_16(a: UInt16s, b: UInt16s, out: Int16s | None = None) -> Int16s:
    """How many steps each a is after its b, as subtract_16; into ``out`` when it is given (contiguous, same shape)."""
    if out is None:
        return np.asarray(np.subtract(a, b, dtype=np.uint16)).view(np.int16)
    np.subtract(a, b, out=out.view(np.uint16))
    return out


def subtract_rows_32(a: UInt32s, b: UInt32s, out: Int32s | None = None) -> Int32s:
    """How many steps each a is after its b, as subtract_32; into ``out`` when it is given (contiguous, same shape)."""
    if out is None:
        return np.asarray(np.subtract(a, b, dtype=np.uint32)).view(np.int32)
    np.subtract(a, b, out=out.view(np.uint32))
    return out
