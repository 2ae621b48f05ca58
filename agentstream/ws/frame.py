"""Frames from a client to a server (RFC 6455 section 5.2), pure. One frame holds one message: we never fragment."""

from __future__ import annotations

import struct
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

TEXT = 0x1
CLOSE = 0x8
PING = 0x9
PONG = 0xA

KEYS = 1024
"""Mask keys that are asked for at once."""

_FIN = 0x80
_MASKED = 0x80
_AT = 16
"""Where a payload begins in the buffer: behind the longest head, and on a word."""

_SHORT, _MEDIUM, _LONG = (struct.Struct(layout).pack_into for layout in ("!BB4s", "!BBH4s", "!BBQ4s"))


class FrameMaker:
    """Masks in one buffer, which all connections of a process may share.

    :param random_bytes: ``random_bytes(n)`` gives n bytes that the peer cannot foresee (RFC 6455 section 5.3). Every
        frame has a key of its own, from bytes that were asked for many keys at once.
    """

    def __init__(self, random_bytes: Callable[[int], bytes]) -> None:
        self._random_bytes = random_bytes
        self._keys = b""
        self._key_words: npt.NDArray[np.uint32] = np.zeros(0, np.uint32)
        self._next = 0
        self._make_room(8192)

    def _make_room(self, size: int) -> None:
        self._buffer = bytearray(_AT + size + -size % 4)
        self._view = memoryview(self._buffer)
        self._words = np.frombuffer(self._buffer, np.uint32, offset=_AT)

    def frame(self, opcode: int, payload: bytes) -> bytes:
        """One whole frame."""
        at = self._next
        if at >= len(self._keys):
            self._keys = self._random_bytes(4 * KEYS)
            self._key_words = np.frombuffer(self._keys, np.uint32)
            at = 0
        self._next = at + 4
        key = self._keys[at : at + 4]
        size = len(payload)
        if size + _AT > len(self._buffer):
            self._make_room(size)
        buffer = self._buffer
        if size <= 125:
            begin = _AT - 6
            _SHORT(buffer, begin, _FIN | opcode, _MASKED | size, key)
        elif size <= 0xFFFF:
            begin = _AT - 8
            _MEDIUM(buffer, begin, _FIN | opcode, _MASKED | 126, size, key)
        else:
            begin = _AT - 14
            _LONG(buffer, begin, _FIN | opcode, _MASKED | 127, size, key)
        end = _AT + size
        buffer[_AT:end] = payload
        # Words of four bytes at once, so that no compiled masker is needed; what the last one has too much is not sent.
        words = self._words[: (size + 3) >> 2]
        np.bitwise_xor(words, self._key_words[at >> 2], words)
        return bytes(self._view[begin:end])
