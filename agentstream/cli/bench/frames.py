"""Numbers inside the audio: each 20 ms frame of a caller says whose and which it is, and a probe's burst does too.

Contract: a frame is 160 mu-law bytes, and its first eight are a code: two of the loudest samples there are (which
speech at a modest level never holds side by side) and six digits of six bits, twelve bits for the call and 24 for the
frame. Every byte of a code survives mu-law to PCM16 and back, so whoever sees the frame, as RTP or in a message, sees
the number; a frame that was faded, repeated with a fade or cut shows none.

The server under test moves sound in 10 ms blocks, so codes are looked for at every 80th sample and nowhere else. A
server that moved frames by any other amount would be reported as losing them.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from agentstream.audio.g711 import PCM_TO_ULAW

RATE_HZ = 8000

FRAME_BYTES = 160
"""Samples, and so mu-law bytes, of 20 ms at 8 kHz."""

BLOCK = 80
"""Samples of 10 ms: where a code may begin."""

CODE_BYTES = 8
MAX_CALLS = 4096
"""Numbers of calls that a code can hold; those from PROBE_CALL on are bursts of a probe, so that nobody takes them for
a caller's frames."""

PROBE_CALL = 2048

BURST_FRAMES = 2
"""Frames of one burst of a probe: 40 ms."""

UTTERANCE_FRAMES = 20
"""Frames of what a probe says to clear it: 400 ms."""

MAX_FRAMES = 1 << 24

_SYNC = b"\x80\x00"
_DIGIT_0 = 0xBF  # mu-law bytes 0xBF to 0xFE: 64 quiet positive samples, none of them a zero
_PAIRS = [bytes((_DIGIT_0 + (value >> 6), _DIGIT_0 + (value & 63))) for value in range(MAX_CALLS)]

Codes = npt.NDArray[np.uint8]


def code_of(call: int, frame: int) -> bytes:
    """The eight bytes that say that this is that frame (0 to 2**24 - 1) of that call (0 to 4095)."""
    return _SYNC + _PAIRS[call] + _PAIRS[frame >> 12] + _PAIRS[frame & 4095]


def write_codes(out: Codes, calls: npt.NDArray[np.int64], frames: npt.NDArray[np.int64]) -> None:
    """The same for many at once: uint8[n, 8]."""
    out[:, 0], out[:, 1] = _SYNC
    for place, digit in enumerate((calls >> 6, calls, frames >> 18, frames >> 12, frames >> 6, frames), start=2):
        out[:, place] = (digit & 63) + _DIGIT_0


def read_codes(codes: Codes) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Read what may be codes: uint8[n, 8] to (is a code: bool[n], call: int64[n], frame: int64[n]).

    Call and frame mean nothing where the first says that there is no code.
    """
    digits = codes[:, 2:].astype(np.int64) - _DIGIT_0
    is_code = (codes[:, 0] == _SYNC[0]) & (codes[:, 1] == _SYNC[1]) & ((digits >= 0) & (digits < 64)).all(axis=1)
    call = (digits[:, 0] << 6) | digits[:, 1]
    frame = (digits[:, 2] << 18) | (digits[:, 3] << 12) | (digits[:, 4] << 6) | digits[:, 5]
    return is_code, call, frame


def pcm_code_fields(pcm: bytes) -> bytes:
    """The samples of PCM16 (little-endian) where codes may be: 16 bytes for each whole 10 ms block."""
    whole = len(pcm) // (2 * BLOCK)
    blocks = np.frombuffer(pcm, dtype="<u2", count=whole * BLOCK).reshape(whole, BLOCK)
    return blocks[:, :CODE_BYTES].tobytes()


def codes_of_samples(fields: npt.NDArray[np.int16]) -> Codes:
    """Turn what pcm_code_fields collected, int16[blocks, 8], into mu-law, uint8[blocks, 8]."""
    codes: Codes = np.take(PCM_TO_ULAW, fields.view(np.uint16))
    return codes
