"""Frames from a client to a server (RFC 6455 section 5.2), pure. One frame holds one message: we never fragment."""

from __future__ import annotations

import struct

import numpy as np

TEXT = 0x1
CLOSE = 0x8
PING = 0x9
PONG = 0xA

_FIN = 0x80
_MASKED = 0x80


def masked_frame(opcode: int, payload: bytes, key: bytes) -> bytes:
    """One whole frame.

    :param key: 4 bytes that the peer cannot foresee (RFC 6455 section 5.3).
    """
    size = len(payload)
    if size <= 125:
        head = struct.pack("!BB", _FIN | opcode, _MASKED | size)
    elif size <= 0xFFFF:
        head = struct.pack("!BBH", _FIN | opcode, _MASKED | 126, size)
    else:
        head = struct.pack("!BBQ", _FIN | opcode, _MASKED | 127, size)
    # Words of four bytes at once, so that no compiled masker is needed; the last word is filled up and cut off again.
    words = np.frombuffer(payload + bytes(-size % 4), np.uint32)
    masked = np.bitwise_xor(words, np.frombuffer(key, np.uint32)).tobytes()
    return b"".join((head, key, masked[:size]))
