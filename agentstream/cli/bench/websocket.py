"""As much of RFC 6455 as a bot needs to serve agentstream, and no more: bytes in, messages out.

The bench's bot must cost little beside the server that it measures, so this is written by hand: whole text messages,
pings, close; no extensions (none is agreed to, so none may come).
"""

from __future__ import annotations

import base64
import hashlib
import struct

import attrs
import numpy as np

TEXT = 0x1
CLOSE = 0x8
PING = 0x9
PONG = 0xA

_ACCEPT_SALT = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 section 1.3


def accept_upgrade(head: bytes) -> tuple[str, bytes]:
    """Answer a handshake: its whole head to (the request's path with its query, the answer to send).

    :raises ValueError: it is no WebSocket handshake.
    """
    request, _, fields = head.partition(b"\r\n")
    parts = request.split(b" ")
    if len(parts) != 3 or parts[0] != b"GET":
        raise ValueError("the first line is not an HTTP GET")
    for line in fields.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"sec-websocket-key":
            accept = base64.b64encode(hashlib.sha1(value.strip() + _ACCEPT_SALT).digest())
            answer = (
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
            )
            return parts[1].decode("ascii"), answer
    raise ValueError("the handshake has no Sec-WebSocket-Key")


def frame(opcode: int, payload: bytes) -> bytes:
    """One whole unmasked frame, as a server sends it (RFC 6455 section 5.2)."""
    length = len(payload)
    if length < 126:
        return bytes((0x80 | opcode, length)) + payload
    if length < 65536:
        return struct.pack("!BBH", 0x80 | opcode, 126, length) + payload
    return struct.pack("!BBQ", 0x80 | opcode, 127, length) + payload


def _unmask(payload: bytes, key: bytes) -> bytes:
    """Remove a mask (RFC 6455 section 5.3), four bytes at a time: 2 us for a message of 100 ms."""
    length = len(payload)
    words = np.frombuffer(payload.ljust(-(-length // 4) * 4, b"\0"), np.uint32) ^ np.frombuffer(key, np.uint32)
    return words.tobytes()[:length]


@attrs.define
class FrameReader:
    """Bytes of one connection in, whole messages out."""

    _rest: bytes = b""
    _fragments: list[bytes] = attrs.field(factory=list)

    def receive(self, data: bytes) -> list[tuple[int, bytes]]:
        """The messages that these bytes complete, as (opcode, payload); fragments of a text message are joined."""
        buffer = self._rest + data if self._rest else data
        messages: list[tuple[int, bytes]] = []
        at = 0
        while True:
            have = len(buffer) - at
            if have < 2:
                break
            first, second = buffer[at], buffer[at + 1]
            length, head = second & 0x7F, 2
            if length == 126:
                if have < 4:
                    break
                length, head = (buffer[at + 2] << 8) | buffer[at + 3], 4
            elif length == 127:
                if have < 10:
                    break
                length, head = int.from_bytes(buffer[at + 2 : at + 10], "big"), 10
            masked = 4 if second & 0x80 else 0
            if have < head + masked + length:
                break
            body = at + head + masked
            payload = buffer[body : body + length]
            if masked:
                payload = _unmask(payload, buffer[body - 4 : body])
            at = body + length
            self._message(first, payload, messages)
        self._rest = buffer[at:] if at else buffer
        return messages

    def _message(self, first: int, payload: bytes, messages: list[tuple[int, bytes]]) -> None:
        opcode = first & 0x0F
        if opcode >= CLOSE or (first & 0x80 and not self._fragments):
            messages.append((opcode, payload))
        else:
            self._fragments.append(payload)
            if first & 0x80:
                messages.append((TEXT, b"".join(self._fragments)))
                self._fragments.clear()
