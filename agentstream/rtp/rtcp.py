"""RTCP (RFC 3550 section 6): compound packets in, and the reports, names and goodbyes that we send.

Contract: any bytes give a tuple of packets or RemoteProtocolError with one of the sentences below;
``parse(compound(...))`` gives the packets back. When to send is not decided here.
"""

from __future__ import annotations

import struct
from typing import TypeAlias

import attrs

from agentstream.errors import LocalProtocolError, RemoteProtocolError

SENDER_REPORT = 200
RECEIVER_REPORT = 201
SOURCE_DESCRIPTION = 202
BYE = 203
EXTENDED_REPORT = 207
CNAME = 1
VOIP_METRICS = 7
UNAVAILABLE = 127
"""Of the signed and the small fields of VoIP metrics: the figure is not known (RFC 3611 section 4.7)."""

TOO_SHORT = "The RTCP packet is shorter than its header."
WRONG_VERSION = "The RTCP version is not 2."
WRONG_FIRST = "The RTCP compound packet does not begin with a sender or receiver report."
WRONG_LENGTH = "The RTCP length field is longer than the packet."
WRONG_PADDING = "The RTCP padding is not in the last packet, or longer than it."
REPORT_CUT = "The RTCP report is shorter than its blocks."
ITEM_CUT = "The RTCP source description ends inside an item."
BYE_CUT = "The RTCP goodbye is shorter than its sources or its reason."
XR_CUT = "The RTCP extended report ends inside a block."

_HEADER = struct.Struct("!BBH")
_SENDER = struct.Struct("!QIII")
_BLOCK = struct.Struct("!IIIIII")
_VOIP = struct.Struct("!IBBBBHHHHbbBBBBBBBxHHH")


@attrs.frozen
class ReportBlock:
    """What the sender of a report has received from one source (section 6.4.1).

    :ivar fraction_lost: of the packets since the last report, 0 to 255 of 256.
    :ivar cumulative_lost: -2**23 to 2**23 - 1; duplicates make it negative.
    :ivar highest_sequence_number: extended by the number of wraps, 32 bits.
    :ivar jitter: units of the RTP clock.
    :ivar last_sr: middle 32 bits of the NTP time of the last sender report; 0 when there was none.
    :ivar delay_since_last_sr: in 1/65536 s.
    """

    ssrc: int
    fraction_lost: int = 0
    cumulative_lost: int = 0
    highest_sequence_number: int = 0
    jitter: int = 0
    last_sr: int = 0
    delay_since_last_sr: int = 0

    def serialise(self) -> bytes:
        """24 bytes."""
        lost = self.fraction_lost << 24 | self.cumulative_lost & 0xFFFFFF
        rest = (self.highest_sequence_number, self.jitter, self.last_sr, self.delay_since_last_sr)
        return _BLOCK.pack(self.ssrc, lost, *rest)


@attrs.frozen
class SenderReport:
    """SR (section 6.4.1).

    :ivar ntp_time: NTP timestamp, 64 bits; seconds since 1900 in the upper half.
    """

    ssrc: int
    ntp_time: int
    rtp_timestamp: int
    packet_count: int
    octet_count: int
    blocks: tuple[ReportBlock, ...] = ()

    def serialise(self) -> bytes:
        """One RTCP packet."""
        body = struct.pack("!I", self.ssrc) + _SENDER.pack(
            self.ntp_time, self.rtp_timestamp, self.packet_count, self.octet_count
        )
        return _packet(SENDER_REPORT, len(self.blocks), body + b"".join(block.serialise() for block in self.blocks))


@attrs.frozen
class ReceiverReport:
    """RR (section 6.4.2)."""

    ssrc: int
    blocks: tuple[ReportBlock, ...] = ()

    def serialise(self) -> bytes:
        """One RTCP packet."""
        body = struct.pack("!I", self.ssrc) + b"".join(block.serialise() for block in self.blocks)
        return _packet(RECEIVER_REPORT, len(self.blocks), body)


@attrs.frozen
class Chunk:
    """The items of one source in an SDES packet: (item type, text) pairs, text at most 255 bytes."""

    ssrc: int
    items: tuple[tuple[int, bytes], ...]


@attrs.frozen
class SourceDescription:
    """SDES (section 6.5)."""

    chunks: tuple[Chunk, ...]

    @classmethod
    def of_cname(cls, ssrc: int, cname: str) -> SourceDescription:
        """The one that every compound packet must carry."""
        return cls((Chunk(ssrc, ((CNAME, cname.encode()),)),))

    @property
    def cnames(self) -> dict[int, str]:
        """The canonical name of each source that gave one; bytes that are no UTF-8 are replaced."""
        return {
            chunk.ssrc: text.decode("utf-8", "replace")
            for chunk in self.chunks
            for item, text in chunk.items
            if item == CNAME
        }

    def serialise(self) -> bytes:
        """One RTCP packet."""
        body = b""
        for chunk in self.chunks:
            body += struct.pack("!I", chunk.ssrc)
            for item, text in chunk.items:
                if len(text) > 255:
                    raise LocalProtocolError("An item of an RTCP source description is at most 255 bytes.")
                body += bytes([item, len(text)]) + text
            body += bytes(4 - len(body) % 4)  # "terminated by one or more null octets ... to the next 32-bit boundary"
        return _packet(SOURCE_DESCRIPTION, len(self.chunks), body)


@attrs.frozen
class Bye:
    """BYE (section 6.6)."""

    sources: tuple[int, ...]
    reason: bytes = b""

    def serialise(self) -> bytes:
        """One RTCP packet."""
        body = struct.pack(f"!{len(self.sources)}I", *self.sources)
        if self.reason:
            if len(self.reason) > 255:
                raise LocalProtocolError("The reason of an RTCP goodbye is at most 255 bytes.")
            body += bytes([len(self.reason)]) + self.reason
            body += bytes(-len(body) % 4)
        return _packet(BYE, len(self.sources), body)


@attrs.frozen
class VoipMetrics:
    """The VoIP metrics block of an extended report (RFC 3611 section 4.7): how a source sounds where it is heard.

    Rates and densities are in 1/256, durations and delays in ms, R factors 0 to 100, scores in tenths (10 to 50);
    UNAVAILABLE where a figure is not known.

    :ivar configuration: packet loss concealment and kind of jitter buffer (section 4.7.6).
    """

    ssrc: int
    loss_rate: int = 0
    discard_rate: int = 0
    burst_density: int = 0
    gap_density: int = 0
    burst_ms: int = 0
    gap_ms: int = 0
    round_trip_ms: int = 0
    end_system_ms: int = 0
    signal_level: int = UNAVAILABLE
    noise_level: int = UNAVAILABLE
    echo_return_loss: int = UNAVAILABLE
    gap_threshold: int = 16
    r_factor: int = UNAVAILABLE
    external_r_factor: int = UNAVAILABLE
    mos_listening: int = UNAVAILABLE
    mos_conversational: int = UNAVAILABLE
    configuration: int = 0
    jitter_buffer_ms: int = 0
    jitter_buffer_maximum_ms: int = 0
    jitter_buffer_absolute_ms: int = 0

    def serialise(self) -> bytes:
        """The block with its header, 36 bytes."""
        return _HEADER.pack(VOIP_METRICS, 0, _VOIP.size // 4) + _VOIP.pack(*attrs.astuple(self))


@attrs.frozen
class ExtendedReport:
    """XR (RFC 3611); blocks of other kinds than VoIP metrics are passed over."""

    ssrc: int
    blocks: tuple[VoipMetrics, ...] = ()

    def serialise(self) -> bytes:
        """One RTCP packet."""
        body = struct.pack("!I", self.ssrc) + b"".join(block.serialise() for block in self.blocks)
        return _packet(EXTENDED_REPORT, 0, body)


@attrs.frozen
class Other:
    """A packet of a type that is not read here (APP, feedback).

    :ivar count: the five bits behind the padding bit. :ivar body: what follows the header, a whole number of words.
    """

    packet_type: int
    count: int
    body: bytes

    def serialise(self) -> bytes:
        """One RTCP packet."""
        return _packet(self.packet_type, self.count, self.body)


RtcpPacket: TypeAlias = SenderReport | ReceiverReport | SourceDescription | Bye | ExtendedReport | Other


def compound(*packets: RtcpPacket) -> bytes:
    """The datagram of several packets; the first is a report (section 6.1)."""
    if not packets or not isinstance(packets[0], SenderReport | ReceiverReport):
        raise LocalProtocolError("An RTCP compound packet begins with a sender or receiver report.")
    return b"".join(packet.serialise() for packet in packets)


def parse(data: bytes) -> tuple[RtcpPacket, ...]:
    """Read one datagram by the checks of RFC 3550 appendix A.2. Raises RemoteProtocolError with a fixed sentence."""
    packets: list[RtcpPacket] = []
    offset = 0
    while True:
        if len(data) - offset < _HEADER.size:
            raise RemoteProtocolError(TOO_SHORT)
        first, packet_type, words = _HEADER.unpack_from(data, offset)
        if first >> 6 != 2:
            raise RemoteProtocolError(WRONG_VERSION)
        if not packets and packet_type not in (SENDER_REPORT, RECEIVER_REPORT):
            raise RemoteProtocolError(WRONG_FIRST)
        start, offset = offset + _HEADER.size, offset + 4 * (words + 1)
        if offset > len(data):
            raise RemoteProtocolError(WRONG_LENGTH)
        end = offset
        if first & 0x20:
            padding = data[end - 1] if end > start else 0
            # 6.4.1: the count includes itself: "it will be a multiple of four".
            if end != len(data) or padding % 4 or not 0 < padding <= end - start:
                raise RemoteProtocolError(WRONG_PADDING)
            end -= padding
        packets.append(_parse_body(packet_type, first & 0x1F, bytes(data[start:end])))
        if offset == len(data):
            return tuple(packets)


def _packet(packet_type: int, count: int, body: bytes) -> bytes:
    if not 0 <= count <= 31 or len(body) % 4:
        raise LocalProtocolError("An RTCP packet has at most 31 blocks and a whole number of words.")
    return _HEADER.pack(2 << 6 | count, packet_type, len(body) // 4) + body


def _parse_body(packet_type: int, count: int, body: bytes) -> RtcpPacket:
    if packet_type == SENDER_REPORT:
        if len(body) < 4 + _SENDER.size:
            raise RemoteProtocolError(REPORT_CUT)
        blocks = _parse_blocks(body[4 + _SENDER.size :], count)
        ntp_time, rtp_timestamp, packet_count, octet_count = _SENDER.unpack_from(body, 4)
        ssrc = int.from_bytes(body[:4], "big")
        return SenderReport(ssrc, ntp_time, rtp_timestamp, packet_count, octet_count, blocks)
    if packet_type == RECEIVER_REPORT:
        if len(body) < 4:
            raise RemoteProtocolError(REPORT_CUT)
        return ReceiverReport(int.from_bytes(body[:4], "big"), _parse_blocks(body[4:], count))
    if packet_type == SOURCE_DESCRIPTION:
        return SourceDescription(_parse_chunks(body, count))
    if packet_type == BYE:
        return _parse_bye(body, count)
    if packet_type == EXTENDED_REPORT:
        return _parse_extended(body)
    return Other(packet_type, count, body)


def _parse_blocks(body: bytes, count: int) -> tuple[ReportBlock, ...]:
    # What follows the blocks is a profile's extension (section 6.4.3) and is passed over.
    if len(body) < count * _BLOCK.size:
        raise RemoteProtocolError(REPORT_CUT)
    blocks = []
    for ssrc, lost, highest, jitter, last_sr, delay in _BLOCK.iter_unpack(body[: count * _BLOCK.size]):
        cumulative = lost & 0xFFFFFF
        signed = cumulative - 0x1000000 if cumulative & 0x800000 else cumulative
        blocks.append(ReportBlock(ssrc, lost >> 24, signed, highest, jitter, last_sr, delay))
    return tuple(blocks)


def _parse_chunks(body: bytes, count: int) -> tuple[Chunk, ...]:
    chunks = []
    offset = 0
    for _ in range(count):
        if offset + 4 > len(body):
            raise RemoteProtocolError(ITEM_CUT)
        ssrc = int.from_bytes(body[offset : offset + 4], "big")
        offset += 4
        items: list[tuple[int, bytes]] = []
        while True:
            if offset >= len(body):
                raise RemoteProtocolError(ITEM_CUT)
            if body[offset] == 0:
                offset = (offset // 4 + 1) * 4
                break
            if offset + 2 > len(body) or offset + 2 + body[offset + 1] > len(body):
                raise RemoteProtocolError(ITEM_CUT)
            end = offset + 2 + body[offset + 1]
            items.append((body[offset], body[offset + 2 : end]))
            offset = end
        chunks.append(Chunk(ssrc, tuple(items)))
    return tuple(chunks)


def _parse_bye(body: bytes, count: int) -> Bye:
    if len(body) < 4 * count:
        raise RemoteProtocolError(BYE_CUT)
    sources = struct.unpack_from(f"!{count}I", body)
    rest = body[4 * count :]
    if not rest:
        return Bye(sources)
    if len(rest) < 1 + rest[0]:
        raise RemoteProtocolError(BYE_CUT)
    return Bye(sources, rest[1 : 1 + rest[0]])


def _parse_extended(body: bytes) -> ExtendedReport:
    if len(body) < 4:
        raise RemoteProtocolError(XR_CUT)
    blocks = []
    offset = 4
    while offset < len(body):
        if len(body) - offset < _HEADER.size:
            raise RemoteProtocolError(XR_CUT)
        kind, _, words = _HEADER.unpack_from(body, offset)
        start, offset = offset + _HEADER.size, offset + _HEADER.size + 4 * words
        if offset > len(body):
            raise RemoteProtocolError(XR_CUT)
        if kind == VOIP_METRICS and 4 * words == _VOIP.size:
            blocks.append(VoipMetrics(*_VOIP.unpack_from(body, start)))
    return ExtendedReport(int.from_bytes(body[:4], "big"), tuple(blocks))
