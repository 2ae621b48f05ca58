from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentstream.errors import LocalProtocolError, RemoteProtocolError
from agentstream.rtp import rtcp
from agentstream.rtp.rtcp import (
    Bye,
    Chunk,
    ExtendedReport,
    Other,
    ReceiverReport,
    ReportBlock,
    SenderReport,
    SourceDescription,
    VoipMetrics,
)

pytestmark = pytest.mark.rfc(3550)

EMPTY_RR = bytes.fromhex("80c90001 00000007")
RR = bytes.fromhex("81c90007 00000007 00000009 40fffffe 0001ffff 00000010 aabbccdd 00010000")
SR = bytes.fromhex("80c80006 00000007 83aa7e80 80000000 000000a0 00000064 00003e80")
SDES = bytes.fromhex("81ca0003 00000007 0103612e62 000000")
BYE = bytes.fromhex("81cb0003 00000007 0464 6f6e65 000000")
XR = bytes.fromhex("80cf000a 00000007 07000008 00000009 08040000 00640032 001e0046 ecba7f10 5d7f2b2a b0000028 003c00c8")
"""RFC 3611 section 4.7, field by field."""
METRICS = VoipMetrics(
    9,
    loss_rate=8,
    discard_rate=4,
    burst_ms=100,
    gap_ms=50,
    round_trip_ms=30,
    end_system_ms=70,
    signal_level=-20,
    noise_level=-70,
    r_factor=93,
    mos_listening=43,
    mos_conversational=42,
    configuration=0xB0,
    jitter_buffer_ms=40,
    jitter_buffer_maximum_ms=60,
    jitter_buffer_absolute_ms=200,
)

GOLDEN = {
    EMPTY_RR: (ReceiverReport(7),),
    RR: (ReceiverReport(7, (ReportBlock(9, 0x40, -2, 0x1FFFF, 16, 0xAABBCCDD, 65536),)),),
    SR + SDES: (SenderReport(7, 0x83AA7E8080000000, 160, 100, 16000), SourceDescription.of_cname(7, "a.b")),
    EMPTY_RR + SDES + BYE: (ReceiverReport(7), SourceDescription.of_cname(7, "a.b"), Bye((7,), b"done")),
    EMPTY_RR + XR: (ReceiverReport(7), ExtendedReport(7, (METRICS,))),
    EMPTY_RR + bytes.fromhex("85cc0001 6e616d65"): (ReceiverReport(7), Other(204, 5, b"name")),
}

U32 = st.integers(0, 2**32 - 1)
blocks = st.lists(
    st.builds(ReportBlock, U32, st.integers(0, 255), st.integers(-(2**23), 2**23 - 1), U32, U32, U32, U32), max_size=3
).map(tuple)
reports = st.builds(SenderReport, U32, st.integers(0, 2**64 - 1), U32, U32, U32, blocks) | st.builds(
    ReceiverReport, U32, blocks
)
items = st.lists(st.tuples(st.integers(1, 8), st.binary(max_size=20)), max_size=3).map(tuple)
others = (
    st.builds(SourceDescription, st.lists(st.builds(Chunk, U32, items), max_size=3).map(tuple))
    | st.builds(Bye, st.lists(U32, max_size=3).map(tuple), st.binary(max_size=20))
    | st.builds(
        ExtendedReport,
        U32,
        st.lists(st.builds(VoipMetrics, U32, signal_level=st.integers(-128, 127), gap_ms=st.integers(0, 65535))).map(
            tuple
        ),
    )
    | st.builds(Other, st.integers(204, 206), st.integers(0, 31), st.binary(max_size=3).map(lambda word: word * 4))
)


@pytest.mark.rfc(3611)
@pytest.mark.parametrize("data", GOLDEN)
def test_golden_bytes_both_ways(data: bytes) -> None:
    assert rtcp.parse(data) == GOLDEN[data]
    assert rtcp.compound(*GOLDEN[data]) == data


def test_the_cname_is_read() -> None:
    described = rtcp.parse(SR + SDES)[1]
    assert isinstance(described, SourceDescription)
    assert described.cnames == {7: "a.b"}


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", rtcp.TOO_SHORT),
        (EMPTY_RR[:3], rtcp.TOO_SHORT),
        (EMPTY_RR + b"\x80\xca", rtcp.TOO_SHORT),
        (b"\x40" + EMPTY_RR[1:], rtcp.WRONG_VERSION),
        (EMPTY_RR + b"\x00" + BYE[1:], rtcp.WRONG_VERSION),
        (BYE, rtcp.WRONG_FIRST),
        (SDES, rtcp.WRONG_FIRST),
        (EMPTY_RR[:4], rtcp.WRONG_LENGTH),
        (EMPTY_RR + SDES[:-4], rtcp.WRONG_LENGTH),
        (b"\xa0" + EMPTY_RR[1:], rtcp.WRONG_PADDING),
        (b"\xa0\xc9\x00\x02" + EMPTY_RR[4:] + b"\0\0\0\x03", rtcp.WRONG_PADDING),
        (b"\xa0\xc9\x00\x02" + EMPTY_RR[4:] + b"\0\0\0\x04" + SDES, rtcp.WRONG_PADDING),
        (b"\x81" + EMPTY_RR[1:], rtcp.REPORT_CUT),
        (bytes.fromhex("80c90000"), rtcp.REPORT_CUT),
        (bytes.fromhex("80c80001 00000007"), rtcp.REPORT_CUT),
        (EMPTY_RR + bytes.fromhex("81ca0000"), rtcp.ITEM_CUT),
        (EMPTY_RR + bytes.fromhex("81ca0001 00000007"), rtcp.ITEM_CUT),
        (EMPTY_RR + bytes.fromhex("81ca0002 00000007 01ff6162"), rtcp.ITEM_CUT),
        (EMPTY_RR + bytes.fromhex("81ca0002 00000007 01026162"), rtcp.ITEM_CUT),
        (EMPTY_RR + bytes.fromhex("82cb0001 00000007"), rtcp.BYE_CUT),
        (EMPTY_RR + bytes.fromhex("80cb0001 04616263"), rtcp.BYE_CUT),
        (EMPTY_RR + bytes.fromhex("80cf0000"), rtcp.XR_CUT),
        (EMPTY_RR + bytes.fromhex("80cf0002 00000007 07000008"), rtcp.XR_CUT),
    ],
)
def test_each_error_is_its_sentence(data: bytes, sentence: str) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        rtcp.parse(data)
    assert (caught.value.sentence, caught.value.status) == (sentence, 0)


def test_blocks_of_an_extended_report_that_are_no_voip_metrics_are_passed_over() -> None:
    receiver_time = "04000002 83aa7e80 80000000"
    other_length = "07000001 00000009"
    data = EMPTY_RR + bytes.fromhex(f"80cf0006 00000007 {receiver_time} {other_length}")
    assert rtcp.parse(data)[1] == ExtendedReport(7)


def test_padding_of_the_last_packet_is_taken_off() -> None:
    padded = bytes.fromhex("a0c90002 00000007 00000004")
    assert rtcp.parse(padded) == (ReceiverReport(7),)


@given(st.binary(max_size=60) | st.binary(max_size=60).map(lambda rest: EMPTY_RR + b"\x81\xca" + rest))
def test_any_bytes_are_packets_or_a_protocol_error(data: bytes) -> None:
    try:
        assert rtcp.parse(data)
    except RemoteProtocolError as error:
        assert error.sentence.endswith(".")


@given(reports, st.lists(others, max_size=3))
def test_what_is_built_is_parsed_again(first: SenderReport | ReceiverReport, rest: list[rtcp.RtcpPacket]) -> None:
    assert rtcp.parse(rtcp.compound(first, *rest)) == (first, *rest)


@pytest.mark.parametrize(
    "wrong",
    [
        (),
        (Bye((7,)),),
        (ReceiverReport(7), SourceDescription.of_cname(7, "x" * 256)),
        (ReceiverReport(7), Bye((7,), b"x" * 256)),
        (ReceiverReport(7), Bye((7,) * 32)),
        (ReceiverReport(7), Other(204, 0, b"abc")),
    ],
)
def test_what_cannot_be_built_is_ours_to_fix(wrong: tuple[rtcp.RtcpPacket, ...]) -> None:
    with pytest.raises(LocalProtocolError):
        rtcp.compound(*wrong)
