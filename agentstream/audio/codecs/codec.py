"""The form of a codec's file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import attrs
import numpy as np
import numpy.typing as npt

Pcm = npt.NDArray[np.int16]
Bytes = npt.NDArray[np.uint8]

FRAME_MS = 20


class Coder(Protocol):
    """One direction of one call in a codec with a memory."""

    def encode(self, pcm: Pcm) -> bytes:
        """The payload of these samples, int16 (n,)."""

    def decode(self, payload: bytes) -> Pcm:
        """The samples of this payload, int16 (n,)."""


class PacketCoder(Coder, Protocol):
    """One direction of one call in a codec whose decoder makes up what is lost."""

    def conceal(self, samples: int, following: bytes = b"") -> Pcm:
        """So many samples that are missing; ``following`` is the payload behind them, if it is here."""


class MakeCoder(Protocol):
    """Makes a coder that has heard nothing yet."""

    def __call__(self, parameters: str = "") -> Coder:
        """``parameters`` is what the far end's ``a=fmtp`` says of the codec."""


@attrs.frozen
class Codec:
    """How sound becomes bytes.

    :ivar name: what SDP calls it (RFC 3551), in capitals.
    :ivar payload_type: its static number (RFC 3551 section 6), or None for one of the dynamic ones.
    :ivar clock_hz: RTP timestamp units a second.
    :ivar rate_hz: samples a second.
    :ivar frame_bytes: the payload of 20 ms; the longest there is where their lengths vary.
    :ivar decode: payloads, uint8 (k, n), to samples, int16 (k, m); None for a codec with a memory.
    :ivar encode: samples, int16 (k, 20 ms), to payloads, uint8 (k, frame_bytes); None for a codec with a memory.
    :ivar make_coder: a coder for one direction; None for a codec without a memory.
    :ivar channels: as its rtpmap has it; what is coded is mono.
    :ivar spelling: its name in our SDP, "" for ``name``.
    :ivar parameters: the ``a=fmtp`` of our SDP, "" for none.
    :ivar units_of: for a codec whose payloads have no fixed length, and whose coders are PacketCoders: how many 2.5 ms
        a payload lasts, 0 for one that is malformed.
    """

    name: str
    payload_type: int | None
    clock_hz: int
    rate_hz: int
    frame_bytes: int
    decode: Callable[[Bytes], Pcm] | None = None
    encode: Callable[[Pcm], Bytes] | None = None
    make_coder: MakeCoder | None = None
    channels: int = 1
    spelling: str = ""
    parameters: str = ""
    units_of: Callable[[bytes], int] | None = None

    @property
    def rtpmap(self) -> str:
        """The encoding as our SDP has it."""
        return f"{self.spelling or self.name}/{self.clock_hz}" + (f"/{self.channels}" if self.channels > 1 else "")

    @property
    def units(self) -> int:
        """RTP timestamp units of 20 ms."""
        return self.clock_hz * FRAME_MS // 1000
