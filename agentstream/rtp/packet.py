"""One RTP packet (RFC 3550 section 5.1), parsed and serialised one at a time: for the test phone and the tests.

The tick reads headers by :mod:`agentstream.rtp.matrix`, which agrees with this module on every datagram. Contract: any
bytes give a Packet or RemoteProtocolError with one of the sentences below, and ``Packet.parse(packet.serialise()) ==
packet``.
"""

from __future__ import annotations

import struct

import attrs

from agentstream.errors import LocalProtocolError, RemoteProtocolError

HEADER_LENGTH = 12
VERSION = 2

TOO_SHORT = "The RTP packet is shorter than its 12 byte header."
WRONG_VERSION = "The RTP version is not 2."
IS_RTCP = "The packet is RTCP and came on the RTP port."
CSRC_TOO_LONG = "The RTP packet is shorter than its CSRC list."
EXTENSION_TOO_LONG = "The RTP packet is shorter than its header extension."
PADDING_TOO_LONG = "The RTP padding count is zero or longer than the payload."

_FIXED = struct.Struct("!BBHII")
_EXTENSION = struct.Struct("!HH")


def is_rtcp(data: bytes) -> bool:
    """Whether a datagram of two bytes or more is RTCP and not RTP: packet types 192 to 223 (RFC 5761 section 4).

    These are the RTP payload types 64 to 95 with the marker set, 72 to 76 for RFC 3550's own five; RFC 5761 keeps all
    of them free for this.
    """
    return 192 <= data[1] <= 223


@attrs.frozen
class Extension:
    """A header extension (RFC 3550 section 5.3.1).

    :ivar profile: the 16 bits that the profile defines (0xBEDE for RFC 8285's one-byte form).
    :ivar body: a whole number of 32-bit words.
    """

    profile: int
    body: bytes


@attrs.frozen
class Packet:
    """An RTP packet.

    :ivar payload_type: 0 to 127.
    :ivar sequence_number: 0 to 65535.
    :ivar timestamp: units of the RTP clock, 32 bits.
    :ivar ssrc: 32 bits.
    :ivar payload: without padding.
    :ivar csrc: contributing sources, at most 15.
    :ivar padding: bytes of padding behind the payload, its count byte included; 0 to 255.
    """

    payload_type: int
    sequence_number: int
    timestamp: int
    ssrc: int
    payload: bytes = b""
    marker: bool = False
    csrc: tuple[int, ...] = ()
    extension: Extension | None = None
    padding: int = 0

    @classmethod
    def parse(cls, data: bytes) -> Packet:
        """Read one datagram. Raises RemoteProtocolError with a fixed sentence."""
        if len(data) < 2:
            raise RemoteProtocolError(TOO_SHORT)
        if data[0] >> 6 != VERSION:
            raise RemoteProtocolError(WRONG_VERSION)
        if is_rtcp(data):
            raise RemoteProtocolError(IS_RTCP)
        if len(data) < HEADER_LENGTH:
            raise RemoteProtocolError(TOO_SHORT)
        first, second, sequence_number, timestamp, ssrc = _FIXED.unpack_from(data)
        csrc_count = first & 0x0F
        offset = HEADER_LENGTH + 4 * csrc_count
        if offset > len(data):
            raise RemoteProtocolError(CSRC_TOO_LONG)
        csrc = struct.unpack_from(f"!{csrc_count}I", data, HEADER_LENGTH)
        extension = None
        if first & 0x10:
            if offset + 4 > len(data):
                raise RemoteProtocolError(EXTENSION_TOO_LONG)
            profile, words = _EXTENSION.unpack_from(data, offset)
            body = offset + 4
            offset = body + 4 * words
            if offset > len(data):
                raise RemoteProtocolError(EXTENSION_TOO_LONG)
            extension = Extension(profile, bytes(data[body:offset]))
        padding = 0
        if first & 0x20:
            # A count of zero would not even hold its own byte, and a packet that ends with its header has no count at
            # all.
            padding = data[-1] if len(data) > offset else 0
            if padding == 0 or offset + padding > len(data):
                raise RemoteProtocolError(PADDING_TOO_LONG)
        return cls(
            payload_type=second & 0x7F,
            sequence_number=sequence_number,
            timestamp=timestamp,
            ssrc=ssrc,
            payload=bytes(data[offset : len(data) - padding]),
            marker=bool(second & 0x80),
            csrc=csrc,
            extension=extension,
            padding=padding,
        )

    def serialise(self) -> bytes:
        """The datagram. Raises LocalProtocolError for a field that its bits cannot hold."""
        if not 0 <= self.padding <= 255 or len(self.csrc) > 15 or not 0 <= self.payload_type <= 127:
            raise LocalProtocolError("Padding is at most 255 bytes, sources at most 15, a payload type at most 127.")
        first = VERSION << 6 | bool(self.padding) << 5 | (self.extension is not None) << 4 | len(self.csrc)
        try:
            parts = [
                _FIXED.pack(
                    first, self.marker << 7 | self.payload_type, self.sequence_number, self.timestamp, self.ssrc
                ),
                struct.pack(f"!{len(self.csrc)}I", *self.csrc),
            ]
            if self.extension is not None:
                words, rest = divmod(len(self.extension.body), 4)
                if rest:
                    raise LocalProtocolError("A header extension is a whole number of 32-bit words.")
                parts += [_EXTENSION.pack(self.extension.profile, words), self.extension.body]
        except struct.error as error:
            raise LocalProtocolError("An RTP header field is out of the range of its bits.") from error
        parts.append(self.payload)
        if self.padding:
            parts.append(bytes(self.padding - 1) + bytes([self.padding]))
        return b"".join(parts)
