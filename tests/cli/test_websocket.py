"""The bench's minimal WebSocket server side, against RFC 6455's own examples and awkward cuts."""

from __future__ import annotations

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentstream.cli.bench.websocket import CLOSE, PING, TEXT, FrameReader, accept_upgrade, frame


def masked(opcode: int, payload: bytes, key: bytes = b"\x37\xfa\x21\x3d", final: bool = True) -> bytes:
    """A client's frame, by the letter of section 5.3."""
    plain = bytearray(frame(opcode, payload))
    head = len(plain) - len(payload)
    plain[0] = plain[0] if final else plain[0] & 0x7F
    plain[1] |= 0x80
    return bytes(plain[:head]) + key + bytes(byte ^ key[i % 4] for i, byte in enumerate(payload))


def test_the_handshake_of_rfc_6455_section_1_3() -> None:
    path, answer = accept_upgrade(
        b"GET /echo?sample-rate=8000 HTTP/1.1\r\nHost: x\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    )
    assert path == "/echo?sample-rate=8000"
    assert answer.startswith(b"HTTP/1.1 101 ")
    assert b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in answer


@pytest.mark.parametrize("head", [b"", b"POST / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nHost: x\r\n"])
def test_what_is_no_handshake(head: bytes) -> None:
    with pytest.raises(ValueError, match=r"the first line|Sec-WebSocket-Key"):
        accept_upgrade(head)


def test_the_masked_hello_of_rfc_6455_section_5_7() -> None:
    assert FrameReader().receive(bytes.fromhex("818537fa213d7f9f4d5158")) == [(TEXT, b"Hello")]


@given(st.lists(st.integers(0, 70_000), min_size=1, max_size=4), st.integers(1, 5000))
@settings(max_examples=20, deadline=None)
def test_messages_survive_any_cut(lengths: list[int], step: int) -> None:
    payloads = [os.urandom(length) for length in lengths]
    data = b"".join(masked(TEXT, payload) for payload in payloads)
    reader = FrameReader()
    received = [message for at in range(0, len(data), step) for message in reader.receive(data[at : at + step])]
    assert received == [(TEXT, payload) for payload in payloads]


def test_fragments_are_joined_and_a_ping_may_come_between() -> None:
    data = masked(TEXT, b"one ", final=False) + masked(PING, b"?") + masked(0, b"two") + masked(CLOSE, b"\x03\xe8")
    assert FrameReader().receive(data) == [(PING, b"?"), (TEXT, b"one two"), (CLOSE, b"\x03\xe8")]
