"""Opus (RFC 6716) for speech, at 16,000 samples a second and mono; with the extra ``agentstream[opus]``.

RFC 7587: the RTP clock is 48,000 whatever the coded rate, and the rtpmap always says two channels. What the far end's
``a=fmtp`` asks for is followed by the encoder, where it is about more than the channels; DTX is never used, because a
packet leaves every 20 ms here.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from typing import Any

import numpy as np

from agentstream.audio.codecs.codec import Codec, Pcm

try:
    from opuslib_next import APPLICATION_VOIP
    from opuslib_next.api import ctl
    from opuslib_next.api import decoder as decoding
    from opuslib_next.api import encoder as encoding
except ModuleNotFoundError as error:
    raise ModuleNotFoundError('`pip install "agentstream[opus]"`', name=error.name) from error
except Exception as error:  # the module raises a bare one where the library is not found
    raise ModuleNotFoundError("the library libopus (Debian: `apt install libopus0`)", name="libopus") from error

RATE_HZ = 16000
UNIT_SAMPLES = RATE_HZ // 400
"""Of 2.5 ms, the shortest frame."""

LONGEST_UNITS = 48
"""RFC 6716 section 3.1: "A packet ... up to 120 ms"."""

BIT_RATE = 24_000
"""Wide-band speech (RFC 7587 section 3.1.1: 16 to 20 kbit/s) and some room for in-band FEC."""

COMPLEXITY = 5
"""Of 0 to 10: half the time of 10, and hardly to be told from it."""

EXPECTED_LOSS_PERCENT = 10
"""What in-band FEC is made for; with 0 there is none of it."""

MOST_BYTES = 320
"""Of a packet of ours."""

_NARROW, _MEDIUM, _WIDE = 1101, 1102, 1103
"""OPUS_BANDWIDTH_NARROWBAND and so on."""

_FRAMES: tuple[int, ...] = (*(4, 8, 16, 24) * 3, *(4, 8) * 2, *(1, 2, 4, 8) * 4)
"""RFC 6716 table 2: 2.5 ms that a frame of each configuration lasts."""


def units_of(payload: bytes) -> int:
    """The 2.5 ms that a packet lasts; 0 for one that is malformed (RFC 6716 section 3.4)."""
    if not payload:
        return 0
    frame, code = _FRAMES[payload[0] >> 3], payload[0] & 3
    counts = (1, 2, 2, payload[1] & 0x3F if len(payload) > 1 else 0)
    if code == 1 and len(payload) % 2 == 0:
        return 0
    units = frame * counts[code]
    return units if units <= LONGEST_UNITS else 0


def read_parameters(text: str) -> dict[str, int]:
    """The numbers of an ``a=fmtp``, by their names in small letters; what is no number is passed over."""
    found: dict[str, int] = {}
    for part in text.split(";"):
        name, _, value = part.partition("=")
        value = value.strip()
        if value.isascii() and value.isdigit() and len(value) < 10:
            found[name.strip().lower()] = int(value)
    return found


def _make_encoder(wanted: Mapping[str, int]) -> Any:
    encoder = encoding.create_state(RATE_HZ, 1, APPLICATION_VOIP)
    playback_hz = wanted.get("maxplaybackrate", 48_000)
    bit_rate = min(BIT_RATE, max(6000, wanted.get("maxaveragebitrate", BIT_RATE)))
    has_fec = wanted.get("useinbandfec") == 1
    for setting, value in (
        (ctl.set_bitrate, bit_rate),
        (ctl.set_complexity, COMPLEXITY),
        (ctl.set_vbr, int(wanted.get("cbr") != 1)),
        (ctl.set_max_bandwidth, _NARROW if playback_hz <= 8000 else _MEDIUM if playback_hz <= 12_000 else _WIDE),
        (ctl.set_inband_fec, int(has_fec)),
        (ctl.set_packet_loss_perc, EXPECTED_LOSS_PERCENT if has_fec else 0),
    ):
        encoding.encoder_ctl(encoder, setting, value)
    return encoder


class OpusCoder:
    """One direction of one call.

    :param parameters: the far end's ``a=fmtp``.
    """

    def __init__(self, parameters: str = "") -> None:
        self._wanted = read_parameters(parameters)
        self._encoder: Any = None
        self._decoder: Any = None
        self._payload = (ctypes.c_char * MOST_BYTES)()
        self._samples = (ctypes.c_int16 * (LONGEST_UNITS * UNIT_SAMPLES))()
        self._pcm = np.frombuffer(memoryview(self._samples), np.int16)

    def __del__(self) -> None:
        if getattr(self, "_encoder", None) is not None:
            encoding.destroy(self._encoder)
        if getattr(self, "_decoder", None) is not None:
            decoding.destroy(self._decoder)

    def encode(self, pcm: Pcm) -> bytes:
        """10 or 20 ms; at most MOST_BYTES."""
        if self._encoder is None:
            self._encoder = _make_encoder(self._wanted)
        self._pcm[: len(pcm)] = pcm
        size = encoding.libopus_encode(self._encoder, self._samples, len(pcm), self._payload, MOST_BYTES)
        if size < 0:
            raise ValueError(f"libopus refused {len(pcm)} samples: {size}")
        return self._payload.raw[:size]

    def decode(self, payload: bytes) -> Pcm:
        """The samples of a packet; none for one that is malformed."""
        return self._decode(payload, LONGEST_UNITS * UNIT_SAMPLES, is_lost=False)

    def conceal(self, samples: int, following: bytes = b"") -> Pcm:
        """What a missing packet may have been; after a packet of DTX, the noise that goes on.

        :param samples: that are missing, a multiple of UNIT_SAMPLES.
        :param following: the packet behind them, if it is here: it may hold a second copy of what is missing.
        """
        return self._decode(following or None, samples, is_lost=True)

    def _decode(self, payload: bytes | None, samples: int, is_lost: bool) -> Pcm:
        if self._decoder is None:
            self._decoder = decoding.create_state(RATE_HZ, 1)
        size = len(payload) if payload is not None else 0
        count = decoding.libopus_decode(self._decoder, payload, size, self._samples, samples, int(is_lost))
        pcm: Pcm = self._pcm[: max(0, count)].copy()
        return pcm


CODEC = Codec(
    "OPUS",
    None,
    clock_hz=48_000,
    rate_hz=RATE_HZ,
    frame_bytes=MOST_BYTES,
    make_coder=OpusCoder,
    channels=2,
    spelling="opus",
    # What we play has 16 kHz, and so has what we send; a second copy of each frame helps us where packets are lost.
    parameters=f"maxplaybackrate={RATE_HZ};sprop-maxcapturerate={RATE_HZ};useinbandfec=1",
    units_of=units_of,
)
