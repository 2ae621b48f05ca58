from __future__ import annotations

import sys

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentstream.errors import RemoteProtocolError
from agentstream.rtp.matrix import NO_PAYLOAD_TYPE, HeaderMatrix, Reason
from agentstream.rtp.packet import Extension, Packet
from tests.rtp.test_packet import packets

WIDTH = 512
Lengths = npt.NDArray[np.int32]
Rows = npt.NDArray[np.uint8]


def lay_out(datagrams: list[bytes], filler: bytes) -> tuple[Rows, Lengths]:
    """The datagrams as rows, each over the leftovers of an earlier one (``filler``, repeated)."""
    rows = np.resize(np.frombuffer(filler, np.uint8), (len(datagrams), WIDTH)).copy()
    for row, datagram in zip(rows, datagrams, strict=True):
        row[: len(datagram)] = np.frombuffer(datagram, np.uint8)
    return rows, np.array([len(datagram) for datagram in datagrams], np.int32)


def assert_equals_the_scalar(headers: HeaderMatrix, rows: Rows, datagrams: list[bytes]) -> None:
    for i, datagram in enumerate(datagrams):
        try:
            expected = Packet.parse(datagram)
        except RemoteProtocolError as error:
            assert Reason(headers.reason[i]).sentence == error.sentence
            assert not headers.is_ok[i]
            assert (headers.payload_length[i], headers.payload_type[i]) == (0, NO_PAYLOAD_TYPE)
            continue
        offset, length = int(headers.payload_offset[i]), int(headers.payload_length[i])
        assert headers.is_ok[i]
        assert headers.reason[i] == Reason.OK
        assert rows[i, offset : offset + length].tobytes() == expected.payload
        assert (
            int(headers.payload_type[i]),
            bool(headers.marker[i]),
            int(headers.sequence_number[i]),
            int(headers.timestamp[i]),
            int(headers.ssrc[i]),
            int(headers.csrc_count[i]),
        ) == (
            expected.payload_type,
            expected.marker,
            expected.sequence_number,
            expected.timestamp,
            expected.ssrc,
            len(expected.csrc),
        )


# Headers that lie need the first byte to be nearly right, which plain random bytes rarely are.
nearly = st.builds(lambda first, rest: bytes([0x80 | first]) + rest, st.integers(0, 63), st.binary(max_size=90))
cut = st.builds(
    lambda packet, n: packet.serialise()[: max(0, len(packet.serialise()) - n)], packets, st.integers(0, 60)
)


@given(st.lists(st.binary(max_size=60) | nearly | cut, min_size=1, max_size=12), st.binary(min_size=1, max_size=30))
def test_the_matrix_equals_the_scalar_on_any_bytes(datagrams: list[bytes], filler: bytes) -> None:
    headers = HeaderMatrix(16)
    rows, lengths = lay_out(datagrams, filler)
    assert headers.parse(rows, lengths) == len(datagrams)
    assert_equals_the_scalar(headers, rows, datagrams)


@given(st.lists(packets, min_size=1, max_size=8), st.lists(packets, min_size=1, max_size=8))
def test_a_matrix_that_is_used_again_remembers_nothing(before: list[Packet], after: list[Packet]) -> None:
    headers = HeaderMatrix(8)
    headers.parse(*lay_out([packet.serialise() for packet in before], b"\0"))
    datagrams = [packet.serialise() for packet in after]
    rows, lengths = lay_out(datagrams, b"\xff")
    headers.parse(rows, lengths)
    assert_equals_the_scalar(headers, rows, datagrams)


def test_a_datagram_that_fills_its_row_is_oversize() -> None:
    headers = HeaderMatrix(2)
    rows, lengths = lay_out([Packet(0, 1, 2, 3, bytes(WIDTH - 12)).serialise(), Packet(0, 1, 2, 3).serialise()], b"\0")
    headers.parse(rows, lengths)
    assert headers.reason.tolist() == [Reason.OVERSIZE, Reason.OK]
    assert headers.payload_length.tolist() == [0, 0]


def test_no_rows_are_no_work() -> None:
    headers = HeaderMatrix(2)
    assert headers.parse(np.zeros((0, WIDTH), np.uint8), np.zeros(0, np.int32)) == 0
    assert headers.count == 0


@pytest.mark.parametrize("reason", list(Reason)[1:])
def test_every_refusal_has_a_sentence(reason: Reason) -> None:
    assert reason.sentence.endswith(".")


def count_calls(headers: HeaderMatrix, rows: Rows, lengths: Lengths) -> int:
    calls = 0

    def seen(frame: object, event: str, argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(seen)
    try:
        headers.parse(rows, lengths)
    finally:
        sys.setprofile(None)
    return calls


def test_python_calls_do_not_grow_with_rows() -> None:
    datagram = Packet(0, 1, 2, 3, b"abcd", csrc=(1,), extension=Extension(1, b"word"), padding=4).serialise()
    headers = HeaderMatrix(200)
    few, many = (count_calls(headers, *lay_out([datagram] * n, b"\0")) for n in (10, 200))
    assert few == many
