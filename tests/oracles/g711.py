"""G.711 one sample at a time, by shifts, from the description in ITU-T G.191 (the software tool library)."""

from __future__ import annotations


def ulaw_decode(byte: int) -> int:
    sign = -1 if byte < 0x80 else 1
    inverted = ~byte & 0x7F
    exponent, mantissa = inverted >> 4, inverted & 0x0F
    step = 8 << exponent
    return sign * ((0x80 << exponent) + step * mantissa + step // 2 - 4 * 33)


def ulaw_encode(sample: int) -> int:
    magnitude = ((~sample if sample < 0 else sample) >> 2) + 33
    magnitude = min(magnitude, 0x1FFF)
    segment = 1
    rest = magnitude >> 6
    while rest:
        segment += 1
        rest >>= 1
    byte = ((8 - segment) << 4) | (0x0F - ((magnitude >> segment) & 0x0F))
    return byte | 0x80 if sample >= 0 else byte


def alaw_decode(byte: int) -> int:
    bits = (byte ^ 0x55) & 0x7F
    exponent, mantissa = bits >> 4, bits & 0x0F
    if exponent:
        mantissa += 16
    magnitude = (mantissa << 4) + 8
    if exponent > 1:
        magnitude <<= exponent - 1
    return magnitude if byte & 0x80 else -magnitude


def alaw_encode(sample: int) -> int:
    magnitude = (~sample if sample < 0 else sample) >> 4
    if magnitude > 15:
        exponent = 1
        while magnitude > 31:
            magnitude >>= 1
            exponent += 1
        magnitude = magnitude - 16 + (exponent << 4)
    return (magnitude | 0x80 if sample >= 0 else magnitude) ^ 0x55
