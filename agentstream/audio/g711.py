"""G.711: companded bytes to 16-bit samples and back, both laws, by table.

Contract: the tables are ITU-T G.711's (tables 1 and 2), aligned to 16 bits as the ITU's software tools (G.191) align
them, so mu-law peaks at 32124 and A-law at 32256. ``encode(decode(x)) == x`` for every byte but one: mu-law has two
zeros, and 0x7F comes back as 0xFF. The tables are read-only and shared by everybody; the helpers allocate nothing.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Pcm = npt.NDArray[np.int16]
Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int32]

ULAW_SILENCE = 0xFF
"""The mu-law byte of a zero sample (G.711 section 3.4's all-ones character)."""

ALAW_SILENCE = 0xD5
"""The A-law byte nearest to zero, a sample of +8: A-law has no zero."""

_ULAW_BIAS = 33  # G.711's mu-law is a piecewise line through -33, in 14-bit units
_ULAW_PEAK = 8158  # the largest magnitude that mu-law can tell from its neighbours, in 14-bit units


def _segments(first: int) -> tuple[Ints, Ints]:
    """Segment (0 to 7) and step within it (0 to 15) of the magnitudes numbered ``first`` to 127."""
    number = np.arange(first, 128, dtype=np.int32)
    return number >> 4, number & 15


def _ulaw_magnitudes() -> Ints:
    """The 128 mu-law output values, growing, in 16-bit units (int32[128]): table 2a of G.711 times four."""
    segment, step = _segments(0)
    return (((2 * step + _ULAW_BIAS) << segment) - _ULAW_BIAS) * np.int32(4)


def _alaw_magnitudes() -> Ints:
    """The 128 A-law output values, growing, in 16-bit units (int32[128]): table 1a of G.711 times eight."""
    segment, step = _segments(0)
    first = 2 * step + 1
    return np.where(segment == 0, first, (first + 32) << np.maximum(segment - 1, 0)) * np.int32(8)


def _ulaw_thresholds() -> Ints:
    """Decision values between neighbours (int32[127]), in 14-bit units; at or above one is the upper step."""
    segment, step = _segments(1)
    thresholds: Ints = ((step + 16) << (segment + 1)) - _ULAW_BIAS
    return thresholds


def _alaw_thresholds() -> Ints:
    """Decision values between neighbours (int32[127]), in 12-bit units without the sign."""
    segment, step = _segments(1)
    return np.where(segment == 0, step, (step + 16) << np.maximum(segment - 1, 0))


def _decoding(magnitudes: Ints, inversion: int) -> Pcm:
    """The table byte -> sample (int16[256]) of a law whose bytes are sign, number of the step, and inverted bits."""
    code = np.arange(256, dtype=np.int32) ^ inversion
    magnitude = magnitudes[code & 0x7F]
    table: Pcm = np.where(code & 0x80, magnitude, -magnitude).astype(np.int16)
    return table


def _encoding(thresholds: Ints, shift: int, peak: int, inversion: int) -> Bytes:
    """The table uint16 view of a sample -> byte (uint8[65536]).

    A negative sample is mirrored by one's complement before the low bits are cut, as G.191 does it: so the steps of
    both signs hold the same number of samples.
    """
    sample = np.arange(65536, dtype=np.uint16).view(np.int16).astype(np.int32)
    magnitude = np.minimum(np.where(sample < 0, ~sample, sample) >> shift, peak)
    step = np.searchsorted(thresholds, magnitude, side="right")
    code = np.where(sample < 0, step, step | 0x80) ^ inversion
    table: Bytes = code.astype(np.uint8)
    return table


# mu-law inverts the seven bits below the sign (G.711 table 2a), A-law the even ones (table 1a, note 2).
ULAW_TO_PCM: Pcm = _decoding(_ulaw_magnitudes(), 0x7F)
ALAW_TO_PCM: Pcm = _decoding(_alaw_magnitudes(), 0x55)
PCM_TO_ULAW: Bytes = _encoding(_ulaw_thresholds(), 2, _ULAW_PEAK, 0x7F)
PCM_TO_ALAW: Bytes = _encoding(_alaw_thresholds(), 4, 2047, 0x55)
for _table in (ULAW_TO_PCM, ALAW_TO_PCM, PCM_TO_ULAW, PCM_TO_ALAW):
    _table.setflags(write=False)


def decode(payload: Bytes, table: Pcm, out: Pcm) -> Pcm:
    """Write the samples of companded bytes to ``out``, of the same shape, and return it.

    :param payload: uint8 of any shape, the caller's.
    :param table: ULAW_TO_PCM or ALAW_TO_PCM.
    """
    return np.take(table, payload, out=out, mode="clip")


def encode(pcm: Pcm, table: Bytes, out: Bytes) -> Bytes:
    """Write the companded bytes of samples to ``out``, of the same shape, and return it.

    :param pcm: int16 of any shape, the caller's; its last axis is contiguous.
    :param table: PCM_TO_ULAW or PCM_TO_ALAW.
    """
    return np.take(table, pcm.view(np.uint16), out=out, mode="clip")
