"""Samples as they are, in network byte order (RFC 3551 section 4.5.11), at 8,000 a second; mono."""

from __future__ import annotations

import numpy as np

from agentstream.audio.codecs.codec import Bytes, Codec, Pcm


def decode(payloads: Bytes) -> Pcm:
    """A byte behind the last whole sample says nothing."""
    whole = payloads.shape[1] // 2 * 2
    return np.ascontiguousarray(payloads[:, :whole]).view(">i2").astype(np.int16)


def encode(pcm: Pcm) -> Bytes:
    """The byte order is turned where the machine's is another."""
    return np.ascontiguousarray(pcm).astype(">i2").view(np.uint8)


# The static numbers 10 and 11 are L16 at 44,100 samples a second.
CODEC = Codec("L16", None, clock_hz=8000, rate_hz=8000, frame_bytes=320, decode=decode, encode=encode)
