"""Frames from a client: RFC 6455 section 5."""

from __future__ import annotations

import struct

import pytest

from agentstream.ws.frame import TEXT, masked_frame

pytestmark = pytest.mark.rfc(6455)


def plain_mask(payload: bytes, key: bytes) -> bytes:
    return bytes(byte ^ key[index % 4] for index, byte in enumerate(payload))


def test_the_example_of_the_rfc() -> None:
    """RFC 6455 section 5.7: a masked text message "Hello"."""
    expected = bytes.fromhex("818537fa213d7f9f4d5158")
    assert masked_frame(TEXT, b"Hello", bytes.fromhex("37fa213d")) == expected


@pytest.mark.parametrize("size", [0, 1, 2, 3, 4, 5, 125, 126, 127, 65535, 65536, 65539])
def test_every_length_has_its_shortest_header(size: int) -> None:
    """RFC 6455 section 5.2."""
    payload, key = bytes(i % 253 for i in range(size)), b"\x01\xfe\x80\x7f"
    if size < 126:
        head = struct.pack("!BB", 0x81, 0x80 | size)
    elif size < 65536:
        head = struct.pack("!BBH", 0x81, 0xFE, size)
    else:
        head = struct.pack("!BBQ", 0x81, 0xFF, size)
    assert masked_frame(TEXT, payload, key) == head + key + plain_mask(payload, key)
