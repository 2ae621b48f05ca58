from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentstream.errors import LocalProtocolError, RemoteProtocolError
from agentstream.rtp import packet
from agentstream.rtp.packet import Extension, Packet

pytestmark = pytest.mark.rfc(3550)

PLAIN = bytes.fromhex("8080 0001 000000a0 deadbeef ffd5aa55")
CSRC = bytes.fromhex("8208 ffff ffffffff 00000001 11111111 22222222 d5d5")
EXTENDED = bytes.fromhex("9000 1234 00000140 cafebabe bede0001 10ff0000 00ff")
PADDED = bytes.fromhex("a065 0002 00000000 00000007 0a0b0c00000004")
EVERYTHING = bytes.fromhex("b1e0 0002 00000000 00000007 00000009 0000 0000 aa 0002")

GOLDEN = {
    PLAIN: Packet(0, 1, 160, 0xDEADBEEF, b"\xff\xd5\xaa\x55", marker=True),
    CSRC: Packet(8, 0xFFFF, 0xFFFFFFFF, 1, b"\xd5\xd5", csrc=(0x11111111, 0x22222222)),
    EXTENDED: Packet(0, 0x1234, 320, 0xCAFEBABE, b"\x00\xff", extension=Extension(0xBEDE, b"\x10\xff\x00\x00")),
    PADDED: Packet(101, 2, 0, 7, b"\x0a\x0b\x0c", padding=4),
    EVERYTHING: Packet(96, 2, 0, 7, b"\xaa", marker=True, csrc=(9,), extension=Extension(0, b""), padding=2),
}

packets = st.builds(
    Packet,
    payload_type=st.integers(0, 63) | st.integers(96, 127),
    sequence_number=st.integers(0, 0xFFFF),
    timestamp=st.integers(0, 0xFFFFFFFF),
    ssrc=st.integers(0, 0xFFFFFFFF),
    payload=st.binary(max_size=40),
    marker=st.booleans(),
    csrc=st.lists(st.integers(0, 0xFFFFFFFF), max_size=15).map(tuple),
    extension=st.none()
    | st.builds(Extension, st.integers(0, 0xFFFF), st.binary(max_size=5).map(lambda body: body * 4)),
    padding=st.integers(0, 255),
)


@pytest.mark.parametrize("data", GOLDEN, ids=["plain", "csrc", "extended", "padded", "everything"])
def test_golden_bytes_both_ways(data: bytes) -> None:
    assert Packet.parse(data) == GOLDEN[data]
    assert GOLDEN[data].serialise() == data


@pytest.mark.rfc(5761)
@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", packet.TOO_SHORT),
        (b"\x80", packet.TOO_SHORT),
        (PLAIN[:11], packet.TOO_SHORT),
        (b"\x00" + PLAIN[1:], packet.WRONG_VERSION),
        (b"\xc0" + PLAIN[1:], packet.WRONG_VERSION),
        (bytes.fromhex("80c9 0001 00000007"), packet.IS_RTCP),
        (bytes.fromhex("81ca 0001 00000007 00000000"), packet.IS_RTCP),
        (CSRC[:19], packet.CSRC_TOO_LONG),
        (EXTENDED[:12], packet.EXTENSION_TOO_LONG),
        (EXTENDED[:15], packet.EXTENSION_TOO_LONG),
        (EXTENDED[:19], packet.EXTENSION_TOO_LONG),
        (PADDED[:-1] + b"\x08", packet.PADDING_TOO_LONG),
        (PADDED[:-1] + b"\x00", packet.PADDING_TOO_LONG),
        (PADDED[:12], packet.PADDING_TOO_LONG),
    ],
)
def test_each_error_is_its_sentence(data: bytes, sentence: str) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        Packet.parse(data)
    assert (caught.value.sentence, caught.value.status) == (sentence, 0)


def test_padding_may_be_all_there_is() -> None:
    assert Packet.parse(PADDED[:-1] + b"\x07").payload == b""


@given(st.binary(max_size=80))
def test_any_bytes_are_a_packet_or_a_protocol_error(data: bytes) -> None:
    try:
        parsed = Packet.parse(data)
    except RemoteProtocolError:
        return
    assert len(parsed.serialise()) == len(data)


@given(packets)
def test_what_is_serialised_is_parsed_again(sent: Packet) -> None:
    assert Packet.parse(sent.serialise()) == sent


@pytest.mark.parametrize(
    "wrong",
    [
        Packet(128, 0, 0, 0),
        Packet(0, 65536, 0, 0),
        Packet(0, 0, -1, 0),
        Packet(0, 0, 0, 0, csrc=(0,) * 16),
        Packet(0, 0, 0, 0, padding=256),
        Packet(0, 0, 0, 0, extension=Extension(0, b"abc")),
    ],
)
def test_fields_that_do_not_fit_are_ours_to_fix(wrong: Packet) -> None:
    with pytest.raises(LocalProtocolError):
        wrong.serialise()
