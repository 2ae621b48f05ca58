"""What the payload of a ``media`` message holds before base64, both ways, and what ``media_format`` says of it.

Contract: on our side it is always 16-bit little-endian mono samples. What a bot gets and sends is that as it is, or,
where a step asks for it, one mu-law byte for each sample, by the tables of :mod:`agentstream.audio.g711`.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs
import numpy as np
import numpy.typing as npt

from agentstream.audio.g711 import PCM_TO_ULAW, ULAW_TO_PCM

Pcm = bytes | bytearray | memoryview | npt.NDArray[np.int16]
"""16-bit little-endian mono samples in one contiguous buffer; only read, and not kept."""


@attrs.frozen
class Payload:
    """One kind of payload.

    :ivar name: what the option ``codec`` says.
    :ivar encoding: what ``media_format.encoding`` says of it unless a step says otherwise.
    :ivar bit_rate: what ``media_format.bit_rate`` says of it, likewise.
    :ivar rate_hz: the one sample rate that it has; None where it may have any.
    :ivar encode: samples -> payload, a new buffer.
    :ivar decode: payload -> samples. Both are None where the samples are the payload.
    """

    name: str
    encoding: str
    bit_rate: str
    rate_hz: int | None = None
    encode: Callable[[Pcm], npt.NDArray[np.uint8]] | None = None
    decode: Callable[[bytes], bytes] | None = None

    def rate(self, asked_hz: int) -> int:
        """The sample rate of a stream whose URL asks for this one."""
        return asked_hz if self.rate_hz is None else self.rate_hz


def _to_ulaw(pcm: Pcm) -> npt.NDArray[np.uint8]:
    encoded: npt.NDArray[np.uint8] = PCM_TO_ULAW[np.frombuffer(pcm, "<u2")]
    return encoded


def _from_ulaw(payload: bytes) -> bytes:
    return ULAW_TO_PCM[np.frombuffer(payload, np.uint8)].tobytes()


PCM16 = Payload("pcm16", "base64", "128kbps")
"""As it is seen on the wire."""

MULAW = Payload("mulaw", "audio/x-mulaw", "64kbps", 8000, _to_ulaw, _from_ulaw)
"""G.711 mu-law (RFC 3551 section 4.5.14): a byte is a sample, so there is no odd one."""

PAYLOADS = {payload.name: payload for payload in (PCM16, MULAW)}
