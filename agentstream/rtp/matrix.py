"""RTP headers of many datagrams at once: one datagram a row, no Python per packet.

Contract: for every row, ``reason`` is 0 exactly where :meth:`agentstream.rtp.packet.Packet.parse` accepts the datagram,
and then all arrays hold what it returns. Only the first ``length`` bytes of a row decide; what an earlier, longer
datagram left behind them is never read. Where ``reason`` is not 0, ``payload_length`` is 0 and ``payload_type`` is
NO_PAYLOAD_TYPE, so that a row that was refused is in no group; the other arrays hold nothing there.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
import numpy.typing as npt

from agentstream.rtp import packet

NO_PAYLOAD_TYPE = 255


class Reason(IntEnum):
    """Why a datagram was refused; OK is 0. The sentences are those of rtp/packet.py."""

    OK = 0
    TOO_SHORT = 1
    WRONG_VERSION = 2
    IS_RTCP = 3
    CSRC_TOO_LONG = 4
    EXTENSION_TOO_LONG = 5
    PADDING_TOO_LONG = 6
    OVERSIZE = 7

    @property
    def sentence(self) -> str:
        """The fixed sentence of the reason, "" for OK."""
        return _SENTENCES[self]


_SENTENCES: dict[int, str] = {
    Reason.OK: "",
    Reason.TOO_SHORT: packet.TOO_SHORT,
    Reason.WRONG_VERSION: packet.WRONG_VERSION,
    Reason.IS_RTCP: packet.IS_RTCP,
    Reason.CSRC_TOO_LONG: packet.CSRC_TOO_LONG,
    Reason.EXTENSION_TOO_LONG: packet.EXTENSION_TOO_LONG,
    Reason.PADDING_TOO_LONG: packet.PADDING_TOO_LONG,
    Reason.OVERSIZE: "The RTP packet fills the receive row: it may have been cut.",
}


class HeaderMatrix:
    """The parsed headers of up to ``capacity`` datagrams; reused, never grown.

    Arrays of shape (capacity,), of which the first ``count`` belong to the last parse:

    :ivar reason: uint8, a Reason.
    :ivar payload_type: uint8.
    :ivar marker: bool.
    :ivar sequence_number: uint16.
    :ivar timestamp: uint32.
    :ivar ssrc: uint32.
    :ivar csrc_count: uint8, the number of contributing sources.
    :ivar payload_offset: int32, where the payload begins in the row.
    :ivar payload_length: int32, bytes of payload without padding; may be 0.
    :ivar is_ok: bool, ``reason == 0``. :ivar is_bare: bool, no padding, extension or contributing sources.
    :ivar count: rows of the last parse.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.count = 0
        self.reason = np.zeros(capacity, np.uint8)
        self.is_ok = np.zeros(capacity, np.bool_)
        self.is_bare = np.zeros(capacity, np.bool_)
        self.payload_type = np.zeros(capacity, np.uint8)
        self.marker = np.zeros(capacity, np.bool_)
        self.sequence_number = np.zeros(capacity, np.uint16)
        self.timestamp = np.zeros(capacity, np.uint32)
        self.ssrc = np.zeros(capacity, np.uint32)
        self.csrc_count = np.zeros(capacity, np.uint8)
        self.payload_offset = np.zeros(capacity, np.int32)
        self.payload_length = np.zeros(capacity, np.int32)
        self._head = np.zeros((capacity, packet.HEADER_LENGTH), np.uint8)
        self._words = self._head.view(">u2")
        self._longs = self._head.view(">u4")
        self._byte = np.zeros(capacity, np.uint8)
        self._is_bad = np.zeros(capacity, np.bool_)

    def parse(self, rows: npt.NDArray[np.uint8], lengths: npt.NDArray[np.int32]) -> int:
        """Parse ``rows[i, :lengths[i]]`` for every i into the arrays; returns the number of rows.

        :param rows: uint8[n, width] with n at most the capacity and width at least 12 (2,048 in the tick).
        :param lengths: int32[n], bytes received. A datagram that fills its row may have been cut: OVERSIZE.
        """
        n, width = len(rows), rows.shape[1]
        self.count = n
        if n == 0:
            return 0
        head, byte, is_bad = self._head[:n], self._byte[:n], self._is_bad[:n]
        reason, offset = self.reason[:n], self.payload_offset[:n]
        np.copyto(head, rows[:, : packet.HEADER_LENGTH])
        first, second = head[:, 0], head[:, 1]

        np.bitwise_and(second, 0x7F, out=self.payload_type[:n])
        np.greater_equal(second, 0x80, out=self.marker[:n])
        np.copyto(self.sequence_number[:n], self._words[:n, 1])
        np.copyto(self.timestamp[:n], self._longs[:n, 1])
        np.copyto(self.ssrc[:n], self._longs[:n, 2])
        np.bitwise_and(first, 0x0F, out=self.csrc_count[:n])
        np.multiply(self.csrc_count[:n], 4, out=offset, casting="same_kind", dtype=np.int32)
        offset += packet.HEADER_LENGTH

        # The last reason written wins, so they stand here in the reverse of the order in which the scalar parser asks.
        reason[:] = Reason.OK
        np.greater(offset, lengths, out=is_bad)
        np.copyto(reason, np.uint8(Reason.CSRC_TOO_LONG), where=is_bad)
        np.less(lengths, packet.HEADER_LENGTH, out=is_bad)
        np.copyto(reason, np.uint8(Reason.TOO_SHORT), where=is_bad)
        # 192 to 223: the first three bits are 110 (see packet.is_rtcp).
        np.right_shift(second, 5, out=byte)
        np.equal(byte, 6, out=is_bad)
        np.copyto(reason, np.uint8(Reason.IS_RTCP), where=is_bad)
        np.right_shift(first, 6, out=byte)
        np.not_equal(byte, packet.VERSION, out=is_bad)
        np.copyto(reason, np.uint8(Reason.WRONG_VERSION), where=is_bad)
        np.less(lengths, 2, out=is_bad)
        np.copyto(reason, np.uint8(Reason.TOO_SHORT), where=is_bad)
        np.greater_equal(lengths, width, out=is_bad)
        np.copyto(reason, np.uint8(Reason.OVERSIZE), where=is_bad)

        length = self.payload_length[:n]
        np.subtract(lengths, offset, out=length)
        np.equal(first, packet.VERSION << 6, out=self.is_bare[:n])
        # Extension and padding are rare from phones, so only the rows that have them are looked at again.
        np.bitwise_and(first, 0x30, out=byte)
        if byte.any():
            self._take_extensions(rows, lengths)
            self._take_padding(rows, lengths)
        is_ok = self.is_ok[:n]
        np.equal(reason, Reason.OK, out=is_ok)
        np.logical_not(is_ok, out=is_bad)
        np.copyto(length, np.int32(0), where=is_bad)
        np.copyto(self.payload_type[:n], np.uint8(NO_PAYLOAD_TYPE), where=is_bad)
        return n

    def _take_extensions(self, rows: npt.NDArray[np.uint8], lengths: npt.NDArray[np.int32]) -> None:
        n = self.count
        chosen = np.flatnonzero((self._head[:n, 0] & 0x10 != 0) & (self.reason[:n] == Reason.OK))
        start = self.payload_offset[chosen]
        has_words = start + 4 <= lengths[chosen]
        self.reason[chosen[~has_words]] = Reason.EXTENSION_TOO_LONG
        chosen, start = chosen[has_words], start[has_words]
        words = rows[chosen, start + 2].astype(np.int32) << 8 | rows[chosen, start + 3]
        end = start + 4 + 4 * words
        self.reason[chosen[end > lengths[chosen]]] = Reason.EXTENSION_TOO_LONG
        self.payload_offset[chosen] = end
        self.payload_length[chosen] = lengths[chosen] - end

    def _take_padding(self, rows: npt.NDArray[np.uint8], lengths: npt.NDArray[np.int32]) -> None:
        n = self.count
        chosen = np.flatnonzero((self._head[:n, 0] & 0x20 != 0) & (self.reason[:n] == Reason.OK))
        padding = rows[chosen, lengths[chosen] - 1].astype(np.int32)
        # Without a payload byte the last byte belongs to the header, and is then longer than the empty payload.
        is_lying = (padding == 0) | (padding > self.payload_length[chosen])
        self.reason[chosen[is_lying]] = Reason.PADDING_TOO_LONG
        self.payload_length[chosen] -= padding
