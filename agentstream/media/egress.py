"""Towards the callers: one RTP packet a row and slot, built for all rows at once.

From the SDP answer on, a leg that may send does so every 20 ms, silence included. Two kinds of row leave the common
path for as long as they need it: one that sends a digit (RFC 4733), and one whose far end takes packets of less than
20 ms only (two of 10 ms each).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import attrs
import numpy as np
import numpy.typing as npt

from agentstream.audio import g711
from agentstream.media.ports import Address
from agentstream.rtp.events import EventPacket, packets_of_digit

HEADER = 12
FRAME = 160
"""Payload bytes of one 20 ms packet of G.711; also timestamp units of one slot (RFC 3551 section 4.5.14)."""

MARKER = 0x80
ULAW, ALAW = 0, 1

Sender = Callable[[memoryview, Address], object]


@attrs.define
class _Digits:
    """Digits that a row is sending.

    :ivar slots: what each slot to come sends: a packet of an event, or None for audio.
    :ivar timestamp: where the event that is being sent began.
    """

    payload_type: int
    slots: Iterator[EventPacket | None]
    timestamp: int = 0


def digit_slots(digits: str, duration_ms: int, gap_ms: int) -> Iterator[EventPacket | None]:
    """One entry a 20 ms slot: the packets of each digit in turn, and None for the pause behind each."""
    for digit in digits:
        yield from packets_of_digit(digit, duration_ms, step_ms=20)
        yield from [None] * max(1, gap_ms // 20)


class Egress:
    """The packets that leave, one row each.

    :param rows: how many rows there can be.
    """

    def __init__(self, rows: int) -> None:
        self._packets = np.zeros((rows, HEADER + FRAME), np.uint8)
        self._packets[:, 0] = 0x80
        self._sequence_field = self._packets[:, 2:4].view(">u2")[:, 0]
        self._timestamp_field = self._packets[:, 4:8].view(">u4")[:, 0]
        self._ssrc_field = self._packets[:, 8:12].view(">u4")[:, 0]
        self._views = [packet.data for packet in self._packets]
        self._encoded = np.zeros((rows, FRAME), np.uint8)
        self._sequence = np.zeros(rows, np.uint16)
        self._timestamp = np.zeros(rows, np.uint32)
        self._law = np.zeros(rows, np.uint8)
        self._sends = np.zeros(rows, np.bool_)
        self._payload_type = [0] * rows
        self._addresses: list[Address | None] = [None] * rows
        self._sockets: list[Sender | None] = [None] * rows
        self._halved: set[int] = set()
        self._digits: dict[int, _Digits] = {}
        self._marked: list[int] = []
        self._common: list[tuple[Sender, memoryview, Address, int]] = []
        self.sent = np.zeros(rows, np.int64)
        self.refused = np.zeros(rows, np.int64)
        self.on_digits_sent: Callable[[int], None] = lambda row: None

    @property
    def sends(self) -> npt.NDArray[np.bool_]:
        """Which rows' packets leave, shape (rows,); to look at."""
        return self._sends

    def open(self, row: int, socket: Sender, ssrc: int, sequence: int, timestamp: int) -> None:
        """A new stream; the three numbers are random (RFC 3550 section 5.1). Nothing is sent before :meth:`direct`."""
        self._sockets[row] = socket
        self._ssrc_field[row] = ssrc
        self._sequence[row] = sequence
        self._timestamp[row] = timestamp
        self._packets[row, HEADER:] = g711.ULAW_SILENCE
        self.sent[row] = self.refused[row] = 0

    def direct(self, row: int, address: Address, payload_type: int, law: int, may_send: bool, is_halved: bool) -> None:
        """Where a row's packets go, in which law, or that it must be silent for now.

        :param is_halved: two packets of 10 ms a slot (a=maxptime below 20).
        """
        begins = may_send and not self._sends[row]
        self._addresses[row] = address
        self._law[row] = law
        self._payload_type[row] = payload_type
        self._packets[row, 1] = payload_type
        self._sends[row] = may_send
        (self._halved.add if is_halved else self._halved.discard)(row)
        if begins:
            self._mark(row)
        self._list_common()

    def move(self, row: int, address: Address) -> None:
        """The far end is heard from another address: send there (symmetric RTP, RFC 4961)."""
        if self._addresses[row] != address:
            self._addresses[row] = address
            self._list_common()

    def close(self, row: int) -> None:
        self._sends[row] = False
        self._sockets[row] = self._addresses[row] = None
        self._halved.discard(row)
        self._digits.pop(row, None)
        self._list_common()

    def _mark(self, row: int) -> None:
        self._packets[row, 1] = self._payload_type[row] | MARKER
        self._marked.append(row)

    def _list_common(self) -> None:
        self._common = [
            (self._sockets[row], self._views[row], self._addresses[row], row)  # type: ignore[misc]  # set while it sends
            for row in np.flatnonzero(self._sends).tolist()
            if row not in self._halved and row not in self._digits
        ]

    def send_digits(self, row: int, payload_type: int, slots: Iterator[EventPacket | None]) -> None:
        """Send these in place of the row's audio, one a slot, until they end."""
        self._digits[row] = _Digits(payload_type, slots)
        self._list_common()

    def send(self, high: int, pcm: npt.NDArray[np.int16]) -> None:
        """Send one slot: int16 (high, 160) samples of rows 0 to high - 1."""
        packets = self._packets[:high]
        samples = pcm.view(np.uint16)
        encoded = self._encoded[:high]
        np.take(g711.PCM_TO_ULAW, samples, out=encoded, mode="clip")
        law = self._law[:high]
        if law.any():
            a_law = np.flatnonzero(law)
            encoded[a_law] = g711.PCM_TO_ALAW[samples[a_law]]
        packets[:, HEADER:] = encoded
        self._sequence_field[:high] = self._sequence[:high]
        self._timestamp_field[:high] = self._timestamp[:high]
        refused = self.refused
        for sendto, packet, address, row in self._common:
            try:
                sendto(packet, address)
            except OSError:  # a full socket buffer, or ICMP's answer to an earlier packet
                refused[row] += 1
        sends = self._sends[:high]
        np.add(self._sequence[:high], sends, out=self._sequence[:high])
        np.add(self.sent[:high], sends, out=self.sent[:high])
        if self._halved or self._digits:
            self._send_apart()
        np.add(self._timestamp[:high], FRAME, out=self._timestamp[:high])
        if self._marked:
            for row in self._marked:
                self._packets[row, 1] = self._payload_type[row]
            self._marked.clear()

    def _send_apart(self) -> None:
        for row in self._halved - self._digits.keys():
            if not self._sends[row]:
                continue
            packet = bytearray(self._packets[row])
            half = FRAME // 2
            sequence, timestamp = int(self._sequence[row]), int(self._timestamp[row])
            self._send_one(row, packet[: HEADER + half])
            packet[1] &= ~MARKER & 0xFF
            packet[2:4] = sequence.to_bytes(2, "big")
            packet[4:8] = ((timestamp + half) & 0xFFFFFFFF).to_bytes(4, "big")
            self._send_one(row, packet[:HEADER] + packet[HEADER + half :])
            self._sequence[row] = (sequence + 1) & 0xFFFF
            self.sent[row] += 1
        for row in list(self._digits):
            self._send_digit_packet(row)

    def _send_digit_packet(self, row: int) -> None:
        digits = self._digits[row]
        try:
            event = next(digits.slots)
        except StopIteration:
            event = None
            del self._digits[row]
            self._list_common()
            self.on_digits_sent(row)
        if not self._sends[row]:
            return
        if event is None:
            self._send_one(row, bytearray(self._packets[row]))
            return
        if event.marker:
            digits.timestamp = int(self._timestamp[row])
        packet = bytearray(self._packets[row, :HEADER])
        packet[1] = digits.payload_type | (MARKER if event.marker else 0)
        timestamp = (digits.timestamp + event.timestamp_offset) & 0xFFFFFFFF
        packet[4:8] = timestamp.to_bytes(4, "big")
        self._send_one(row, packet + event.payload)

    def _send_one(self, row: int, packet: bytearray) -> None:
        socket, address = self._sockets[row], self._addresses[row]
        if socket is not None and address is not None:
            try:
                socket(memoryview(packet), address)
            except OSError:
                self.refused[row] += 1

    def jump(self, high: int, slots: int) -> None:
        """Slots that were never sent: the timestamps leap over them, and the next packet carries the marker."""
        np.add(self._timestamp[:high], slots * FRAME, out=self._timestamp[:high])
        for row in np.flatnonzero(self._sends[:high]).tolist():
            self._mark(row)
