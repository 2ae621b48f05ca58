"""The packet that each row gets next, if nothing happens: so one comparison tells that it is what has come.

Nearly every packet of a call is the one that follows the one before: the same source, the next number, the timestamp
one packet on, the same length. Then all that its header says is known already.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from agentstream.rtp.packet import HEADER_LENGTH, VERSION

_WORDS = HEADER_LENGTH // 4 + 1
"""The header, and the length of the datagram."""

_NONE = 0xFFFFFFFF
"""No datagram is as long as this."""

Rows = npt.NDArray[np.int64]


class ExpectedPackets:
    """One packet a row.

    :param rows: how many rows there can be.
    """

    def __init__(self, rows: int) -> None:
        # Two words at once are compared, so a packet is two numbers of 64 bits.
        self._packets = np.zeros((rows, _WORDS), np.uint32)
        self._packets[:, -1] = _NONE
        self._pairs = self._packets.view(np.uint64)
        octets = self._packets.view(np.uint8)
        self._octets = octets
        self._sequences = octets[:, 2:4].view(">u2")[:, 0]
        self._timestamps = octets[:, 4:8].view(">u4")[:, 0]
        self._ssrcs = octets[:, 8:12].view(">u4")[:, 0]
        self._units = np.zeros(rows, np.uint32)
        self._came = np.zeros((rows, _WORDS), np.uint32)
        self._came_pairs = self._came.view(np.uint64)
        self._came_octets = self._came.view(np.uint8)

    def match(
        self, rows: Rows, datagrams: npt.NDArray[np.uint8], lengths: npt.NDArray[np.int32]
    ) -> npt.NDArray[np.bool_]:
        """Which of these datagrams are what their rows expect.

        :param rows: int64 (n,); ``datagrams`` uint8 (n, width), one a row; ``lengths`` int32 (n,), bytes of each.
        """
        n = len(rows)
        self._came_octets[:n, :HEADER_LENGTH] = datagrams[:, :HEADER_LENGTH]
        self._came[:n, -1] = lengths
        is_same = self._came_pairs[:n] == self._pairs[rows]
        matches: npt.NDArray[np.bool_] = is_same[:, 0] & is_same[:, 1]
        return matches

    def headers(self, rows: Rows) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.uint32], npt.NDArray[np.uint32]]:
        """Sequence numbers, timestamps and SSRCs of what these rows expect."""
        return (
            self._sequences[rows].astype(np.uint16),
            self._timestamps[rows].astype(np.uint32),
            self._ssrcs[rows].astype(np.uint32),
        )

    def units(self, rows: Rows) -> npt.NDArray[np.uint32]:
        """Timestamp units from one packet of each row to the next."""
        return self._units[rows]

    def advance(self, rows: Rows) -> None:
        """What these rows expected has come: they expect the one behind it."""
        self._sequences[rows] = self._sequences[rows].astype(np.uint16) + np.uint16(1)
        self._timestamps[rows] = self._timestamps[rows].astype(np.uint32) + self._units[rows]

    def expect(
        self,
        rows: Rows,
        payload_types: npt.NDArray[np.integer],
        headers: tuple[npt.NDArray[np.uint16], npt.NDArray[np.uint32], npt.NDArray[np.uint32]],
        lengths: npt.NDArray[np.int32],
        units: int,
    ) -> None:
        """Each row expects a packet without marker, padding, extension or contributing sources.

        :param headers: sequence numbers, timestamps and SSRCs. :param lengths: bytes of the whole datagrams.
        :param units: timestamp units of one packet.
        """
        self._octets[rows, 0] = VERSION << 6
        self._octets[rows, 1] = payload_types
        self._sequences[rows], self._timestamps[rows], self._ssrcs[rows] = headers
        self._packets[rows, -1] = lengths
        self._units[rows] = units

    def forget(self, row: int) -> None:
        """Nothing is known of the row's next packet."""
        self._packets[row, -1] = _NONE
