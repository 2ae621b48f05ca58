"""WAV files that are good while they grow: a header of fixed length, which says how much sound there is so far."""

from __future__ import annotations

import struct

HEADER_BYTES = 44
MOST_BYTES = 0xFFFFFFFF - HEADER_BYTES
"""What the 32-bit lengths of RIFF can say."""

SAMPLE_BYTES = 2


def header(channels: int, rate_hz: int, sound_bytes: int) -> bytes:
    """The 44 bytes before this much 16-bit PCM."""
    frame = channels * SAMPLE_BYTES
    return struct.pack(
        "<4sI4s4sIHHIIHH4sI",
        b"RIFF",
        HEADER_BYTES - 8 + sound_bytes,
        b"WAVE",
        b"fmt ",
        16,
        1,
        channels,
        rate_hz,
        rate_hz * frame,
        frame,
        8 * SAMPLE_BYTES,
        b"data",
        sound_bytes,
    )


def repaired(head: bytes, file_bytes: int) -> bytes | None:
    """The header that a file of this length needs, from the one that it has; None when it is no file of ours.

    A file that was cut off anywhere holds whole samples up to there, whatever its header had come to say.
    """
    if len(head) < HEADER_BYTES or head[:4] != b"RIFF" or head[8:16] != b"WAVEfmt " or head[36:40] != b"data":
        return None
    channels, rate_hz = struct.unpack_from("<HI", head, 22)
    if not channels or head != header(channels, rate_hz, struct.unpack_from("<I", head, 40)[0]):
        return None
    sound = min(file_bytes - HEADER_BYTES, MOST_BYTES)
    return header(channels, rate_hz, sound - sound % (channels * SAMPLE_BYTES))


def lengths(head: bytes) -> tuple[int, int, int]:
    """(channels, samples a second, bytes of sound) that a header says."""
    channels, rate_hz = struct.unpack_from("<HI", head, 22)
    return channels, rate_hz, struct.unpack_from("<I", head, 40)[0]
