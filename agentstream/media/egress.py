"""Towards the callers: one RTP packet a row and slot, built for all rows at once.

From the SDP answer on, a leg that may send does so every 20 ms, silence included. Two kinds of row leave the common
path for as long as they need it: one that sends a digit (RFC 4733), and one whose far end takes packets of less than
20 ms only (two of 10 ms each).

All rows are coded as PCMU at once; those of another codec without a memory are coded again, a codec at a time, and
those of one with a memory row by row. Packets of rows with keys of SRTP are protected where they lie.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress

import attrs
import numpy as np
import numpy.typing as npt

from agentstream.audio import g711
from agentstream.audio.codecs import Codec, Coder, codecs
from agentstream.audio.codecs.pcmu import CODEC as PCMU
from agentstream.media import srtp
from agentstream.media.ports import Address
from agentstream.rtp.events import EventPacket, packets_of_digit

HEADER = 12
FRAME = 160
"""Payload bytes of one 20 ms packet of G.711 (RFC 3551 section 4.5.14)."""

NARROW_HZ = 8000

MARKER = 0x80

Sender = Callable[[memoryview, Address], object]
ConnectedSender = Callable[[memoryview], object]
"""Sends to where its socket is connected."""


@attrs.define
class _Digits:
    """Digits that a row is sending.

    :ivar slots: what each slot to come sends: a packet of an event, or None for audio.
    :ivar timestamp: where the event that is being sent began.
    """

    payload_type: int
    slots: Iterator[EventPacket | None]
    timestamp: int = 0


def digit_slots(digits: str, duration_ms: int, gap_ms: int, clock_hz: int = NARROW_HZ) -> Iterator[EventPacket | None]:
    """One entry a 20 ms slot: the packets of each digit in turn, and None for the pause behind each."""
    for digit in digits:
        yield from packets_of_digit(digit, duration_ms, step_ms=20, rate_hz=clock_hz)
        yield from [None] * max(1, gap_ms // 20)


@attrs.define
class _Coded:
    """A row whose codec has a memory."""

    codec: Codec
    coder: Coder
    parameters: str


@attrs.define
class _Secured:
    """A row whose packets are SRTP.

    :ivar pointer: to its packet, ``length`` bytes long. :ivar packet: that packet when it is protected.
    """

    context: srtp.Context
    pointer: srtp.Pointer
    length: int
    packet: memoryview


class Egress:
    """The packets that leave, one row each.

    :param rows: how many rows there can be.
    """

    def __init__(self, rows: int) -> None:
        longest = max(codec.frame_bytes for codec in codecs())
        self._packets = np.zeros((rows, HEADER + longest + srtp.TRAILER), np.uint8)
        self._packets[:, 0] = 0x80
        self._sequence_field = self._packets[:, 2:4].view(">u2")[:, 0]
        self._timestamp_field = self._packets[:, 4:8].view(">u4")[:, 0]
        self._ssrc_field = self._packets[:, 8:12].view(">u4")[:, 0]
        self._views = [packet[: HEADER + FRAME].data for packet in self._packets]
        self._encoded = np.zeros((rows, FRAME), np.uint8)
        self._sequence = np.zeros(rows, np.uint16)
        self._timestamp = np.zeros(rows, np.uint32)
        self._units = np.full(rows, PCMU.units, np.uint32)
        # Rows of other codecs than PCMU: without a memory, by codec; with one, by row.
        self._codecs: dict[int, Codec] = {}
        self._others: list[tuple[Codec, npt.NDArray[np.intp]]] = []
        self._coded: dict[int, _Coded] = {}
        self._varying: set[int] = set()  # rows whose payloads have no fixed length
        self._sends = np.zeros(rows, np.bool_)
        self._payload_type = [0] * rows
        self._addresses: list[Address | None] = [None] * rows
        self._sockets: list[Sender | None] = [None] * rows
        self._connected: dict[int, tuple[ConnectedSender, Address]] = {}
        self._halved: set[int] = set()
        self._seconds: dict[int, bytes] = {}  # the second 10 ms of rows that are varying and halved
        self._digits: dict[int, _Digits] = {}
        self._marked: list[int] = []
        self._direct: list[tuple[ConnectedSender, memoryview, int]] = []
        self._common: list[tuple[Sender, memoryview, Address, int]] = []
        self._secured: dict[int, _Secured] = {}
        self._protected: list[int] = []  # rows, and of each what libsrtp knows its key by, its packet and length
        self._sessions: list[srtp.Pointer] = []
        self._pointers: list[srtp.Pointer] = []
        self._protected_lengths = np.zeros(0, np.intc)
        self._counts: srtp.Counts | None = None
        self._is_listed = True
        self.sent = np.zeros(rows, np.int64)
        self.octets = np.zeros(rows, np.int64)
        self._payload_octets = np.full(rows, FRAME, np.int64)
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
        self.sent[row] = self.octets[row] = self.refused[row] = 0

    def direct(
        self,
        row: int,
        address: Address,
        payload_type: int,
        codec: Codec,
        may_send: bool,
        is_halved: bool,
        parameters: str = "",
        context: srtp.Context | None = None,
    ) -> None:
        """Where a row's packets go, in which codec, or that it must be silent for now.

        :param is_halved: two packets of 10 ms a slot (a=maxptime below 20).
        :param parameters: what the far end's ``a=fmtp`` says of the codec.
        :param context: what protects them; None: they are sent as they are.
        """
        begins = may_send and not self._sends[row]
        self._units[row] = codec.units
        self._addresses[row] = address
        self._seconds.pop(row, None)
        self._code(row, codec, parameters)
        self._secure(row, context)
        self._payload_octets[row] = len(self._views[row]) - HEADER
        self._payload_type[row] = payload_type
        self._packets[row, 1] = payload_type
        self._sends[row] = may_send
        (self._halved.add if is_halved else self._halved.discard)(row)
        if begins:
            self._mark(row)
        self._is_listed = False

    def _code(self, row: int, codec: Codec, parameters: str) -> None:
        coded = self._coded.get(row)
        if self._codecs.get(row, PCMU) == codec and (coded is None or coded.parameters == parameters):
            return  # one with a memory goes on with it
        if codec == PCMU:
            del self._codecs[row]
        else:
            self._codecs[row] = codec
        (self._varying.discard if codec.units_of is None else self._varying.add)(row)
        if codec.make_coder is None:
            self._coded.pop(row, None)
        else:
            self._coded[row] = _Coded(codec, codec.make_coder(parameters), parameters)
        self._views[row] = self._packets[row, : HEADER + codec.frame_bytes].data
        self._list_others()

    def _secure(self, row: int, context: srtp.Context | None) -> None:
        if context is None:
            self._secured.pop(row, None)
            return
        length = len(self._views[row])
        whole = self._packets[row].data
        self._secured[row] = _Secured(context, srtp.pointer_to(whole), length, whole[: length + context.tag])

    def _list_others(self) -> None:
        plain = [(codec, row) for row, codec in self._codecs.items() if codec.encode is not None]
        self._others = [
            (codec, np.array([row for other, row in plain if other == codec], np.intp))
            for codec in dict.fromkeys(codec for codec, _ in plain)
        ]

    def move(self, row: int, address: Address) -> None:
        """The far end is heard from another address: send there (symmetric RTP, RFC 4961)."""
        if self._addresses[row] != address:
            self._addresses[row] = address
            self._is_listed = False

    def connect(self, row: int, send: ConnectedSender, address: Address) -> None:
        """From now on this sends to this address, cheaper."""
        self._connected[row] = (send, address)
        self._is_listed = False

    def ssrc(self, row: int) -> int:
        """Of the row's stream."""
        return int(self._ssrc_field[row])

    def renew_ssrc(self, row: int, ssrc: int) -> None:
        """Another one from the next packet on (RFC 3550 section 8.2)."""
        self._ssrc_field[row] = ssrc

    def timestamp(self, row: int) -> int:
        """The RTP timestamp of the row's next slot, whether it sends or not."""
        return int(self._timestamp[row])

    def units(self, row: int) -> int:
        """RTP timestamp units of one slot of the row."""
        return int(self._units[row])

    def address(self, row: int) -> Address | None:
        """Where the row's packets go now."""
        return self._addresses[row]

    def close(self, row: int) -> None:
        self._sends[row] = False
        self._sockets[row] = self._addresses[row] = None
        self._connected.pop(row, None)
        self._secured.pop(row, None)
        self._halved.discard(row)
        self._digits.pop(row, None)
        if self._codecs.pop(row, None) is not None:
            self._coded.pop(row, None)
            self._varying.discard(row)
            self._seconds.pop(row, None)
            self._views[row] = self._packets[row, : HEADER + FRAME].data
            self._list_others()
        self._is_listed = False
        if not self._sends.any():  # nothing may be sent for long, and lists hold who has sent
            self._list_common()

    def _mark(self, row: int) -> None:
        self._packets[row, 1] = self._payload_type[row] | MARKER
        self._marked.append(row)

    def _list_common(self) -> None:
        """Sort the rows by how they are sent: once a slot in which one has come, gone or changed."""
        self._is_listed = True
        self._direct, self._common = [], []
        self._protected, self._sessions, self._pointers = [], [], []
        lengths: list[int] = []
        for row in np.flatnonzero(self._sends).tolist():
            if row in self._halved or row in self._digits or row in self._varying:
                continue
            socket, address, packet = self._sockets[row], self._addresses[row], self._views[row]
            secured = self._secured.get(row)
            if secured is not None:
                self._protected.append(row)
                self._sessions.append(secured.context.srtp)
                self._pointers.append(secured.pointer)
                lengths.append(secured.length)
                packet = secured.packet
            send, connected = self._connected.get(row, (None, None))
            if send is not None and connected == address:
                self._direct.append((send, packet, row))
            elif socket is not None and address is not None:
                self._common.append((socket, packet, address, row))
        self._protected_lengths = np.array(lengths, np.intc)
        if lengths and self._counts is None:
            self._counts = srtp.Counts(len(self._sends))

    def send_digits(self, row: int, payload_type: int, slots: Iterator[EventPacket | None]) -> None:
        """Send these in place of the row's audio, one a slot, until they end."""
        self._digits[row] = _Digits(payload_type, slots)
        self._is_listed = False

    def send(self, high: int, pcm: npt.NDArray[np.int16], wide: npt.NDArray[np.int16] | None = None) -> None:
        """Send one slot of rows 0 to high - 1.

        :param pcm: int16 (high, 160), at 8,000 a second.
        :param wide: int16 (rows, 320), the same at 16,000 for the rows whose codec wants that.
        """
        encoded = self._encoded[:high]
        np.take(g711.PCM_TO_ULAW, pcm.view(np.uint16), out=encoded, mode="clip")
        self._packets[:high, HEADER : HEADER + FRAME] = encoded
        for codec, rows in self._others:
            if codec.encode is not None:
                self._packets[rows, HEADER : HEADER + codec.frame_bytes] = codec.encode(pcm[rows])
        for row, coded in self._coded.items():
            samples = pcm[row] if wide is None or coded.codec.rate_hz == NARROW_HZ else wide[row]
            if row in self._varying:
                self._code_varying(row, coded, samples)
                continue
            payload = coded.coder.encode(samples)
            self._packets[row, HEADER : HEADER + len(payload)] = np.frombuffer(payload, np.uint8)
        self._sequence_field[:high] = self._sequence[:high]
        self._timestamp_field[:high] = self._timestamp[:high]
        if not self._is_listed:
            self._list_common()
        direct, common, refused = self._direct, self._common, self.refused
        if self._protected and (bare := self._protect_all()):
            refused[list(bare)] += 1
            direct = [entry for entry in direct if entry[-1] not in bare]
            common = [entry for entry in common if entry[-1] not in bare]
        for send, packet, row in direct:
            try:
                send(packet)
            except ConnectionRefusedError:  # ICMP's answer to an earlier packet, told instead of sending this one
                refused[row] += 1
                with suppress(OSError):
                    send(packet)
            except OSError:
                refused[row] += 1
        for sendto, packet, address, row in common:
            try:
                sendto(packet, address)
            except OSError:  # a full socket buffer, or ICMP's answer to an earlier packet
                refused[row] += 1
        sends = self._sends[:high]
        np.add(self._sequence[:high], sends, out=self._sequence[:high])
        np.add(self.sent[:high], sends, out=self.sent[:high])
        octets = self.octets[:high]
        np.add(octets, self._payload_octets[:high], out=octets, where=sends)
        if self._halved or self._digits or self._varying:
            self._send_apart()
        np.add(self._timestamp[:high], self._units[:high], out=self._timestamp[:high])
        if self._marked:
            for row in self._marked:
                self._packets[row, 1] = self._payload_type[row]
            self._marked.clear()

    def _protect_all(self) -> set[int]:
        """Protect this slot's packets of all rows with keys, where they lie; gives the rows for which that failed."""
        assert self._counts is not None  # made when the first of them was listed
        number = len(self._protected)
        self._counts.values[:number] = self._protected_lengths
        codes = list(map(srtp.protect, self._sessions, self._pointers, self._counts.pointers))
        return {row for row, code in zip(self._protected, codes, strict=True) if code} if any(codes) else set()

    def _code_varying(self, row: int, coded: _Coded, samples: npt.NDArray[np.int16]) -> None:
        """Code a row whose payloads have no fixed length; of two packets of 10 ms the second waits."""
        half = len(samples) // 2
        if row in self._halved:
            payload, self._seconds[row] = coded.coder.encode(samples[:half]), coded.coder.encode(samples[half:])
            self._payload_octets[row] = len(payload) + len(self._seconds[row])
        else:
            payload = coded.coder.encode(samples)
            self._payload_octets[row] = len(payload)
        self._packets[row, HEADER : HEADER + len(payload)] = np.frombuffer(payload, np.uint8)
        self._views[row] = self._packets[row, : HEADER + len(payload)].data

    def _send_apart(self) -> None:
        for row in self._varying - self._halved - self._digits.keys():
            if self._sends[row]:
                self._send_one(row, self._views[row])
        for row in self._halved - self._digits.keys():
            if not self._sends[row]:
                continue
            packet = bytearray(self._views[row])
            second: bytes | bytearray = self._seconds.get(row, b"")
            if not second:
                half = HEADER + (len(packet) - HEADER) // 2
                packet, second = packet[:half], packet[half:]
            sequence, timestamp = int(self._sequence[row]), int(self._timestamp[row])
            self._send_one(row, packet)
            packet[1] &= ~MARKER & 0xFF
            packet[2:4] = sequence.to_bytes(2, "big")
            packet[4:8] = ((timestamp + self.units(row) // 2) & 0xFFFFFFFF).to_bytes(4, "big")
            self._send_one(row, packet[:HEADER] + second)
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
            self._is_listed = False
            self.on_digits_sent(row)
        if not self._sends[row]:
            return
        if event is None:
            self._send_one(row, bytearray(self._views[row]))
            return
        if event.marker:
            digits.timestamp = int(self._timestamp[row])
        packet = bytearray(self._packets[row, :HEADER])
        packet[1] = digits.payload_type | (MARKER if event.marker else 0)
        timestamp = (digits.timestamp + event.timestamp_offset) & 0xFFFFFFFF
        packet[4:8] = timestamp.to_bytes(4, "big")
        self._send_one(row, packet + event.payload)
        self.octets[row] += len(event.payload) - int(self._payload_octets[row])

    def _send_one(self, row: int, packet: bytearray | memoryview) -> None:
        socket, address = self._sockets[row], self._addresses[row]
        if socket is not None and address is not None:
            secured = self._secured.get(row)
            try:
                socket(memoryview(packet) if secured is None else self._protect(secured.context, packet), address)
            except OSError:
                self.refused[row] += 1

    def _protect(self, context: srtp.Context, packet: bytearray | memoryview) -> memoryview:
        """A copy of a packet, protected."""
        copy, count = bytearray(len(packet) + srtp.TRAILER), srtp.new_count()
        copy[: len(packet)] = packet
        count[0] = len(packet)
        if srtp.protect(context.srtp, srtp.pointer_to(copy), count):
            raise OSError("libsrtp has refused to protect a packet")
        return memoryview(copy)[: count[0]]

    def jump(self, high: int, slots: int) -> None:
        """Slots that were never sent: the timestamps leap over them, and the next packet carries the marker."""
        self._timestamp[:high] += self._units[:high] * np.uint32(slots)
        for row in np.flatnonzero(self._sends[:high]).tolist():
            self._mark(row)
