"""Frame numbers that survive resampling: each 20 ms frame is a chord whose tones are the bits of its number.

At 16 and 24 kHz a bot hears filtered samples, so no byte of the caller's is found again (agentstream.cli.bench.frames
has the numbers for 8 kHz). Here a frame holds 36 tones 80 Hz apart, from 480 to 3,280 Hz: one at each end that always
sounds, and 34 that sound or do not: 12 bits of the call, 16 of the frame, 6 to check them.

Read from 100 samples (12.5 ms, a whole number of periods of each tone) in the middle of where a frame may lie: 50
samples behind a block of 10 ms. Before them there is room for two filters' delays of 1.3 ms and what they smear. Each
tone must be clearly there or clearly not, so a frame that was faded, cut or blended shows no number, and one that was
concealed shows none or the one before it again. What is not checked is each sample.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from agentstream.audio.g711 import PCM_TO_ULAW
from agentstream.cli.bench import frames

BASE_HZ = 8000
SPACING_HZ = 80
WINDOW = BASE_HZ // SPACING_HZ
READ_AT = 50

CALL_BITS, FRAME_BITS, CHECK_BITS = 12, 16, 6
MAX_FRAMES = 1 << FRAME_BITS
"""Frames of a call that have numbers of their own: 21 minutes."""

_BITS = CALL_BITS + FRAME_BITS + CHECK_BITS
_TONES = _BITS + 2
_FIRST_HZ = 480
_AMPLITUDE = 900.0
# A tone counts as there or not there by its part of what the two outer ones have.
_OFF, _ON, _MOST = 0.25, 0.75, 1.3
_NO_CODE = np.zeros(frames.CODE_BYTES, np.uint8)

Pcm = npt.NDArray[np.int16]
Ints = npt.NDArray[np.int64]


def _chord(rate_hz: int) -> npt.NDArray[np.float32]:
    """Each tone for 20 ms: float32 (tones, samples). Phases grow with the square, which keeps peaks low (Newman)."""
    number = np.arange(_TONES)[:, None]
    at_s = np.arange(rate_hz // 50) / rate_hz
    phase = np.pi * number**2 / _TONES
    tones = _AMPLITUDE * np.cos(2 * np.pi * (_FIRST_HZ + SPACING_HZ * number) * at_s + phase)
    return tones.astype(np.float32)


_CHORDS = {rate_hz: _chord(rate_hz) for rate_hz in (8000, 16000, 24000)}


def _check(values: Ints) -> Ints:
    """Six bits that differ wherever a bit of the number or two neighbours do: the remainder by 61, a prime."""
    remainder: Ints = values % 61
    return remainder


def _pattern(call: int, frame: int) -> npt.NDArray[np.float32]:
    number = (call << FRAME_BITS) | frame
    word = (1 << (_BITS + 1)) | (number << (CHECK_BITS + 1)) | (number % 61 << 1) | 1
    bits = np.unpackbits(np.frombuffer(word.to_bytes(8, "big"), np.uint8))[-_TONES:]
    return bits.astype(np.float32)


def pcm_of(call: int, frame: int, rate_hz: int) -> Pcm:
    """The 20 ms that say that this is that frame (0 to 65,535) of that call (0 to 4,095), at 8, 16 or 24 kHz."""
    samples: Pcm = np.rint(_pattern(call, frame) @ _CHORDS[rate_hz]).astype(np.int16)
    return samples


def ulaw_of(call: int, frame: int) -> bytes:
    """The same as a caller sends it."""
    return np.take(PCM_TO_ULAW, pcm_of(call, frame, BASE_HZ).view(np.uint16)).tobytes()


def read(samples: Pcm) -> frames.Codes:
    """Find the frames in a run of samples at 8 kHz, of which one began (before filters delayed it) at a 10 ms block.

    :return: uint8 (blocks, 8): the code of agentstream.cli.bench.frames for each block in which a frame begins; zeros
        for the others.
    """
    blocks = len(samples) // frames.BLOCK
    codes = np.tile(_NO_CODE, (blocks, 1))
    readable = (len(samples) - READ_AT - WINDOW) // frames.BLOCK + 1
    if readable <= 0:
        return codes
    at = np.arange(WINDOW)
    tones = np.exp(-2j * np.pi * np.outer(at, _FIRST_HZ / SPACING_HZ + np.arange(_TONES)) / WINDOW) * 2 / WINDOW
    windows = np.lib.stride_tricks.sliding_window_view(samples, WINDOW)[READ_AT :: frames.BLOCK][:readable]
    for begin in range(0, readable, 4096):
        part = np.abs(windows[begin : begin + 4096].astype(np.float64) @ tones)
        reference = (part[:, 0] + part[:, -1]) / 2
        is_loud = (reference > _AMPLITUDE / 2) & (np.abs(part[:, 0] - part[:, -1]) < _OFF * reference)
        share = part[:, 1:-1] / np.maximum(reference, 1.0)[:, None]
        is_on = share >= _ON
        is_clear = is_loud & ((is_on & (share <= _MOST)) | (share <= _OFF)).all(axis=1)
        words = is_on[is_clear] @ (1 << np.arange(_BITS - 1, -1, -1, dtype=np.int64))
        numbers = words >> CHECK_BITS
        is_right = _check(numbers) == words & ((1 << CHECK_BITS) - 1)
        numbers = numbers[is_right]
        places = begin + np.flatnonzero(is_clear)[is_right]
        for place, number in zip(places.tolist(), numbers.tolist(), strict=True):
            code = frames.code_of(number >> FRAME_BITS, number & (MAX_FRAMES - 1))
            codes[place] = np.frombuffer(code, np.uint8)
    return codes


def read_streams(streams: npt.NDArray[np.generic], blocks: Pcm) -> frames.Codes:
    """The same for blocks of several streams that are mixed.

    :param streams: (n,), which stream each block belongs to; blocks of one stream are in order.
    :param blocks: int16 (n, 80).
    :return: uint8 (n, 8).
    """
    codes = np.tile(_NO_CODE, (len(blocks), 1))
    for stream in np.unique(streams):
        mine = np.flatnonzero(streams == stream)
        codes[mine] = read(np.ascontiguousarray(blocks[mine]).ravel())
    return codes
