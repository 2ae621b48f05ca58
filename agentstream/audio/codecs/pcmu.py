"""G.711 mu-law (RFC 3551 section 4.5.14)."""

from __future__ import annotations

import numpy as np

from agentstream.audio import g711
from agentstream.audio.codecs.codec import Bytes, Codec, Pcm


def decode(payloads: Bytes) -> Pcm:
    """By table."""
    pcm: Pcm = g711.ULAW_TO_PCM.take(payloads, mode="clip")
    return pcm


def encode(pcm: Pcm) -> Bytes:
    """By table."""
    payloads: Bytes = g711.PCM_TO_ULAW.take(pcm.view(np.uint16), mode="clip")
    return payloads


CODEC = Codec("PCMU", 0, clock_hz=8000, rate_hz=8000, frame_bytes=160, decode=decode, encode=encode)
