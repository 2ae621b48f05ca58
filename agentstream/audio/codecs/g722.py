"""G.722 at 64 kbit/s: 16,000 samples a second in the bytes of a telephone's 8,000.

RFC 3551 section 4.5.2: "Even though the actual sampling rate for G.722 audio is 16,000 Hz, the RTP clock rate for the
G722 payload format is 8,000 Hz because that value was erroneously assigned in RFC 1890 and must remain unchanged".
"""

from __future__ import annotations

import numpy as np
from G722 import G722

from agentstream.audio.codecs.codec import Codec, Pcm

RATE_HZ = 16000
BIT_RATE = 64000


class G722Coder:
    """One direction of one call; both sub-bands adapt to what they have seen."""

    def __init__(self, parameters: str = "") -> None:
        self._coder = G722(RATE_HZ, BIT_RATE)

    def encode(self, pcm: Pcm) -> bytes:
        """A byte for every two samples."""
        payload: bytes = self._coder.encode(pcm)
        return payload

    def decode(self, payload: bytes) -> Pcm:
        """Two samples for every byte."""
        return np.frombuffer(self._coder.decode(payload), np.int16)


CODEC = Codec("G722", 9, clock_hz=8000, rate_hz=RATE_HZ, frame_bytes=160, make_coder=G722Coder)
