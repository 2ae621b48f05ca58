"""Frames from a client: RFC 6455 section 5."""

from __future__ import annotations

import os
import struct

import pytest

from agentstream.ws.frame import KEYS, TEXT, FrameMaker

pytestmark = pytest.mark.rfc(6455)


def plain_mask(payload: bytes, key: bytes) -> bytes:
    return bytes(byte ^ key[index % 4] for index, byte in enumerate(payload))


def with_key(key: bytes) -> FrameMaker:
    return FrameMaker(lambda count: (key * count)[:count])


def test_the_example_of_the_rfc() -> None:
    """RFC 6455 section 5.7: a masked text message "Hello"."""
    expected = bytes.fromhex("818537fa213d7f9f4d5158")
    assert with_key(bytes.fromhex("37fa213d")).frame(TEXT, b"Hello") == expected


@pytest.mark.parametrize("size", [0, 1, 2, 3, 4, 5, 125, 126, 127, 8191, 8192, 8193, 65535, 65536, 65539])
def test_every_length_has_its_shortest_header(size: int) -> None:
    """RFC 6455 section 5.2."""
    payload, key = bytes(i % 253 for i in range(size)), b"\x01\xfe\x80\x7f"
    if size < 126:
        head = struct.pack("!BB", 0x81, 0x80 | size)
    elif size < 65536:
        head = struct.pack("!BBH", 0x81, 0xFE, size)
    else:
        head = struct.pack("!BBQ", 0x81, 0xFF, size)
    assert with_key(key).frame(TEXT, payload) == head + key + plain_mask(payload, key)


def test_a_frame_is_not_changed_by_the_next() -> None:
    frames = FrameMaker(os.urandom)
    first = frames.frame(TEXT, b"a" * 9000)
    kept = first[:]
    frames.frame(TEXT, b"b" * 200)
    assert first == kept


def test_each_frame_has_a_key_of_its_own() -> None:
    """RFC 6455 section 5.3: fresh for each frame, from a strong source, and none is used twice."""
    asked: list[bytes] = []

    def random_bytes(count: int) -> bytes:
        asked.append(os.urandom(count))
        return asked[-1]

    frames = FrameMaker(random_bytes)
    keys = [frames.frame(TEXT, b"x" * 200)[4:8] for _ in range(2 * KEYS + 1)]
    assert b"".join(keys) == b"".join(asked)[: 4 * len(keys)]
    assert len(asked) == 3
