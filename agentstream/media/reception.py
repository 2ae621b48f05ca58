"""From the callers: what a pass over the ports brought becomes blocks in the rings, for all rows at once.

A packet is heard when it parses, has the negotiated payload type, and comes from the latched source. Everything else is
counted by its reason. Most packets are the next of their row (expected.py), and nothing is left to find out about them;
the others are parsed. Payloads are taken by their received length, so that no byte that an earlier and longer datagram
left behind in the receive row is ever heard.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

import numpy as np
import numpy.ma  # which np.unique imports when it is first called: that would be in a tick
import numpy.typing as npt

from agentstream.audio.codecs import Codec, codecs
from agentstream.errors import RemoteProtocolError
from agentstream.media.coded import BYTE
from agentstream.media.expected import ExpectedPackets
from agentstream.media.latch import Latch
from agentstream.media.packets import PacketRings
from agentstream.media.ports import PACKET_CAPACITY, Address, Pass
from agentstream.media.ring import Rings
from agentstream.rtp.events import DigitReceiver
from agentstream.rtp.matrix import HeaderMatrix, Reason
from agentstream.rtp.packet import HEADER_LENGTH
from agentstream.rtp.statistics import ReceptionMatrix

NO_PAYLOAD_TYPE = -1
NARROW_CLOCK_HZ = 8000
MALFORMED = "The payload is none of its codec."
NO_NOISE_LEVEL = "The comfort noise packet has no level."

IntArray = npt.NDArray[np.int64]
Samples = npt.NDArray[np.int16]


class Reception:
    """The receive side of all rows of one media rate.

    :param rows: how many rows there can be.
    :ivar inbox: uint8 (rows, PACKET_CAPACITY): what a pass brings; ``views`` its rows.
    :ivar coded: where payloads of codecs with a memory wait, once there is one, and ``packets`` those of such codecs
        whose payloads have no fixed length.
    """

    def __init__(self, rows: int, rings: Rings) -> None:
        self._rings = rings
        self.coded: Rings | None = None
        self.packets: PacketRings | None = None
        self.inbox = np.zeros((rows, PACKET_CAPACITY), np.uint8)
        self.views = [datagram.data for datagram in self.inbox]
        self._headers = HeaderMatrix(rows)
        self._expected = ExpectedPackets(rows)
        self._datagrams = self.inbox[:0]  # those that are being parsed
        self._lengths = np.zeros(rows, np.int32)
        self._codecs = codecs()
        self._is_packet = np.array([codec.units_of is not None for codec in self._codecs])
        self._audio_type = np.full(rows, NO_PAYLOAD_TYPE, np.int16)
        self._digit_type = np.full(rows, NO_PAYLOAD_TYPE, np.int16)
        self._noise_type = np.full(rows, NO_PAYLOAD_TYPE, np.int16)
        self._noisy: set[int] = set()  # rows that have one
        self._codec = np.zeros(rows, np.uint8)  # its place in codecs()
        self._hears = np.zeros(rows, np.bool_)
        # row -> payload type and codec before a change of codec, until the first packet of the new one
        self._leaving: dict[int, tuple[int, int]] = {}
        self.latched: list[Address | None] = [None] * rows
        self._latches: list[Latch | None] = [None] * rows
        self._digits: list[DigitReceiver | None] = [None] * rows
        self.heard_tick = np.zeros(rows, np.int64)
        self.statistics = ReceptionMatrix(rows)
        self.ssrc = np.zeros(rows, np.uint32)
        self.foreign = np.zeros(rows, np.int64)
        self.refused: list[Counter[str]] = [Counter() for _ in range(rows)]
        self.on_digit: Callable[[int, str, int], None] = lambda row, digit, duration_ms: None
        # Rows whose RTCP comes on the port of RTP, and who takes it: row, datagram, source.
        self.muxed: set[int] = set()
        self.on_control: Callable[[int, bytes, Address], None] = lambda row, data, source: None
        self.on_latched: Callable[[int, Address | None], None] = lambda row, address: None
        # A row has another SSRC, from this host: why its packet is not heard, or None.
        self.on_source: Callable[[int, int, str, float], str | None] = lambda row, ssrc, host, now: None

    def open(self, row: int) -> None:
        self.close(row)
        self.statistics.reset(np.array([row]))
        self.statistics.clock(row, NARROW_CLOCK_HZ)
        self.ssrc[row] = self.foreign[row] = 0
        self.refused[row] = Counter()

    def describe(
        self,
        row: int,
        latch: Latch,
        audio_type: int,
        digit_type: int | None,
        codec: Codec,
        hears: bool,
        noise_type: int | None = None,
    ) -> None:
        """What a remote description says. Every new one learns its source anew.

        What was sent in the codec before goes on to be heard until the first packet in the new one: the far end
        changes when our answer reaches it, and not when we send it.
        """
        self._expected.forget(row)
        before = int(self._audio_type[row])
        if before not in (NO_PAYLOAD_TYPE, audio_type) and digit_type != before:
            self._leaving[row] = (before, int(self._codec[row]))
        else:
            self._leaving.pop(row, None)
        self._audio_type[row] = audio_type
        self._digit_type[row] = NO_PAYLOAD_TYPE if digit_type is None else digit_type
        self._noise_type[row] = NO_PAYLOAD_TYPE if noise_type is None else noise_type
        (self._noisy.discard if noise_type is None else self._noisy.add)(row)
        self._codec[row] = self._codecs.index(codec)
        self._hears[row] = hears
        heard = self.latched[row]
        if heard is not None and self.described(row) != latch.described and heard[:2] != latch.described:
            latch.left = (heard[0], heard[1])
        self._latches[row] = latch
        self.latched[row] = None
        self.on_latched(row, None)
        if row not in self._leaving:
            self.statistics.clock(row, codec.clock_hz)
        digits = self._digits[row] or DigitReceiver()
        digits.rate_hz = codec.clock_hz
        self._digits[row] = digits

    def described(self, row: int) -> Address | None:
        """The address in the far end's last description."""
        latch = self._latches[row]
        return None if latch is None else latch.described

    def forget_source(self, row: int) -> None:
        """Whatever comes next in this row is anchored anew."""
        self._expected.forget(row)
        for rings in self._all_rings():
            rings.forget_source(row)

    def _skip_sequence(self, row: int, at: int) -> None:
        # What was expected would now be behind the newest.
        self._expected.forget(row)
        sequence, ssrc = int(self._headers.sequence_number[at]), int(self._headers.ssrc[at])
        for rings in self._all_rings():
            rings.skip_sequence(row, sequence, ssrc)

    def _all_rings(self) -> Iterator[Rings]:
        return (rings for rings in (self._rings, self.coded, self.packets) if rings is not None)

    def is_heard(self, row: int) -> bool:
        """The far end may be heard, as far as its description says."""
        return bool(self._hears[row])

    def close(self, row: int) -> None:
        self._expected.forget(row)
        self._audio_type[row] = self._digit_type[row] = NO_PAYLOAD_TYPE
        self._noise_type[row] = NO_PAYLOAD_TYPE
        self._noisy.discard(row)
        self._hears[row] = False
        self._leaving.pop(row, None)
        self.muxed.discard(row)
        self.latched[row] = self._latches[row] = self._digits[row] = None

    def take(self, arrived: Pass, tick: int, now: float) -> None:
        """Hear one pass; each row is in it at most once."""
        count = len(arrived.rows)
        if not count:
            return
        self._rings.now = now
        if self.coded is not None:
            self.coded.now = now
        rows = np.array(arrived.rows, np.int64)
        lengths = self._lengths[:count]
        lengths[:] = arrived.lengths
        latched = self.latched
        strangers = [at for at in arrived.others if latched[arrived.rows[at]] != arrived.sources[at]]
        is_next = self._expected.match(rows, self.inbox[:count], lengths)
        is_next[strangers] = False
        if is_next.all():
            self._go_on(rows, self.inbox[:count], lengths, tick, now)
            return
        if is_next.any():
            self._go_on(rows[is_next], self.inbox[:count][is_next], lengths[is_next], tick, now)
            others = np.flatnonzero(~is_next)
            rows, lengths, datagrams = rows[others], lengths[others], self.inbox[others]
            sources = [arrived.sources[at] for at in others.tolist()]
        else:
            datagrams, sources = self.inbox[:count], arrived.sources
        self._hear(rows, datagrams, lengths, sources, tick, now)

    def _go_on(
        self,
        rows: IntArray,
        datagrams: npt.NDArray[np.uint8],
        lengths: npt.NDArray[np.int32],
        tick: int,
        now: float,
    ) -> None:
        """Hear what these rows have expected."""
        self.heard_tick[rows] = tick
        self.statistics.go_on(rows, self._expected.units(rows), now)
        for which, rings, voice in self._decoded(datagrams, lengths, self._codec[rows]):
            mine = rows[which]
            if not rings.append(mine, voice):
                rings.insert(mine, *self._expected.headers(mine), voice)
                for row in mine.tolist():
                    self._expected.forget(row)
        self._expected.advance(rows)

    def _decoded(
        self, datagrams: npt.NDArray[np.uint8], lengths: npt.NDArray[np.int32], codec_of: npt.NDArray[np.uint8]
    ) -> Iterator[tuple[slice | npt.NDArray[np.intp], Rings, Samples]]:
        """Groups of one codec and one length: which datagrams, where they go, and what is in them."""
        kind = (lengths << 8) | codec_of
        first = int(kind[0])
        if (kind == first).all():
            groups: list[tuple[int, slice | npt.NDArray[np.intp]]] = [(first, slice(None))]
        else:
            groups = [(key, np.flatnonzero(kind == key)) for key in np.unique(kind).tolist()]
        for key, which in groups:
            length, codec = key >> 8, self._codecs[key & 0xFF]
            payloads = datagrams[which, HEADER_LENGTH:length]
            placed = self._placed(codec, payloads)
            if placed is not None:
                yield which, *placed

    def _placed(self, codec: Codec, payloads: npt.NDArray[np.uint8]) -> tuple[Rings, Samples] | None:
        """Where payloads of a codec go, and as what."""
        if codec.decode is not None:
            return self._rings, codec.decode(payloads)
        # What has to be decoded in order waits in its ring as it came.
        return None if self.coded is None else (self.coded, payloads.astype(np.int16) + BYTE)

    def _hear(
        self,
        rows: IntArray,
        datagrams: npt.NDArray[np.uint8],
        lengths: npt.NDArray[np.int32],
        sources: list[Address],
        tick: int,
        now: float,
    ) -> None:
        """Find out what has come, and hear what is to be heard."""
        count, headers = len(rows), self._headers
        self._datagrams = datagrams
        headers.parse(datagrams, lengths)
        payload_type = headers.payload_type[:count]
        is_audio = payload_type == self._audio_type[rows]
        is_digit = payload_type == self._digit_type[rows]
        codec = self._codec[rows]
        numbers = rows.tolist()
        if self._leaving:
            self._admit_old_codec(numbers, payload_type, is_audio, codec)
        is_heard = is_audio | is_digit
        is_noise = payload_type == self._noise_type[rows] if self._noisy else None
        if is_noise is not None:
            is_heard |= is_noise
        if not is_heard.all():
            self._count_refused(np.flatnonzero(~is_heard).tolist(), numbers, lengths, sources)
        for at, (row, source) in enumerate(zip(numbers, sources, strict=True)):
            if self.latched[row] != source and is_heard[at] and not self._latch(row, source, at, tick):
                self.foreign[row] += 1
                is_heard[at] = False
        is_new = is_heard & (headers.ssrc[:count] != self.ssrc[rows])
        for at in np.flatnonzero(is_new).tolist():
            reason = self.on_source(numbers[at], int(headers.ssrc[at]), sources[at][0], now)
            if reason is not None:
                self.refused[numbers[at]][reason] += 1
                is_heard[at] = False
        is_new &= is_heard
        if is_new.any():
            self.statistics.new_source(rows[is_new])
        if not is_heard.any():
            return
        everything = is_heard.all()
        self.heard_tick[rows if everything else rows[is_heard]] = tick
        chosen = slice(0, count) if everything else np.flatnonzero(is_heard)
        self.ssrc[rows[chosen]] = headers.ssrc[:count][chosen]
        self.statistics.count(rows[chosen], headers.sequence_number[:count][chosen])
        is_digit &= is_heard
        if is_digit.any():
            for at in np.flatnonzero(is_digit).tolist():
                self._take_digit(int(rows[at]), at, now)
        if is_noise is not None:
            for at in np.flatnonzero(is_noise & is_heard).tolist():
                self._take_noise(int(rows[at]), at)
        is_audio &= is_heard
        if self._leaving:
            for row in rows[is_audio & (payload_type == self._audio_type[rows])].tolist():
                self._leaving.pop(row, None)
                self.statistics.clock(row, self._codecs[self._codec[row]].clock_hz)
        chosen = slice(0, count) if is_audio.all() else np.flatnonzero(is_audio)
        self.statistics.time(rows[chosen], headers.timestamp[:count][chosen], now)
        is_audio &= self._hears[rows]
        self._decode(rows, is_audio, codec)

    def _admit_old_codec(
        self,
        rows: list[int],
        payload_type: npt.NDArray[np.generic],
        is_audio: npt.NDArray[np.bool_],
        codec: npt.NDArray[np.uint8],
    ) -> None:
        """Rows whose codec has changed: the old one is audio too, in its own codec, until the new one is there."""
        for at, row in enumerate(rows):
            leaving = self._leaving.get(row)
            if leaving is not None and payload_type[at] == leaving[0]:
                is_audio[at] = True
                codec[at] = leaving[1]

    def _decode(self, rows: IntArray, is_audio: npt.NDArray[np.bool_], codec_of: npt.NDArray[np.uint8]) -> None:
        """Group what is heard by codec, offset and length, decode each group at once, and put it into the rings."""
        count = len(rows)
        headers = self._headers
        if self.packets is not None:
            is_packet = is_audio & self._is_packet[codec_of]
            if is_packet.any():
                self._take_packets(self.packets, np.flatnonzero(is_packet), rows, codec_of)
                is_audio = is_audio & ~is_packet
        offset, length = headers.payload_offset[:count], headers.payload_length[:count]
        shape = (length.astype(np.int64) << 24) | (offset.astype(np.int64) << 8) | codec_of
        shape[~is_audio] = -1
        for key in np.unique(shape).tolist():
            if key < 0:
                continue  # not audio
            if key < 1 << 24:
                self._skip_empty(rows[shape == key], np.flatnonzero(shape == key))
                continue
            size, start, codec = key >> 24, key >> 8 & 0xFFFF, self._codecs[key & 0xFF]
            which = np.flatnonzero(shape == key)
            placed = self._placed(codec, self._datagrams[which, start : start + size])
            if placed is None:
                continue
            rings, voice = placed
            sequences, timestamps = headers.sequence_number[which], headers.timestamp[which]
            rings.insert(rows[which], sequences, timestamps, headers.ssrc[which], voice)
            self._expect(rows[which], which, rings, rings.units(voice))

    def _skip_empty(self, rows: IntArray, places: npt.NDArray[np.intp]) -> None:
        """Packets of audio without a payload are counted, and nothing else."""
        for row, at in zip(rows.tolist(), places.tolist(), strict=True):
            self._skip_sequence(row, at)

    def _take_packets(
        self, packets: PacketRings, places: npt.NDArray[np.intp], rows: IntArray, codec_of: npt.NDArray[np.uint8]
    ) -> None:
        """Payloads of no fixed length, one by one; a malformed one is lost."""
        headers = self._headers
        payloads: list[bytes] = []
        lengths: list[int] = []
        for at in places.tolist():
            start = int(headers.payload_offset[at])
            payload = self._datagrams[at, start : start + int(headers.payload_length[at])].tobytes()
            units_of = self._codecs[codec_of[at]].units_of
            payloads.append(payload)
            lengths.append(units_of(payload) if units_of is not None else 0)
        is_whole = np.array(lengths) > 0
        for at in places[~is_whole].tolist():
            self.refused[int(rows[at])][MALFORMED] += 1
        chosen = places[is_whole]
        if len(chosen):
            packets.insert_payloads(
                rows[chosen],
                headers.sequence_number[chosen],
                headers.timestamp[chosen],
                headers.ssrc[chosen],
                [payload for payload, units in zip(payloads, lengths, strict=True) if units],
                [units for units in lengths if units],
            )

    def _expect(self, rows: IntArray, which: npt.NDArray[np.intp], rings: Rings, units: int) -> None:
        """Of rows whose packet is simply the newest: the next one is known."""
        headers = self._headers
        payload_types = headers.payload_type[which]
        lengths = headers.payload_length[which] + np.int32(HEADER_LENGTH)
        sequences = headers.sequence_number[which] + np.uint16(1)
        timestamps = headers.timestamp[which] + np.uint32(units)
        ssrcs = headers.ssrc[which]
        is_plain = (payload_types == self._audio_type[rows]) & (units > 0)
        is_plain &= headers.is_bare[which] & rings.follows(rows, sequences, timestamps, ssrcs)
        is_plain &= self.statistics.is_next(rows, sequences)
        for row in rows[~is_plain].tolist():
            self._expected.forget(row)
        mine = rows[is_plain]
        following = (sequences[is_plain], timestamps[is_plain], ssrcs[is_plain])
        self._expected.expect(mine, payload_types[is_plain], following, lengths[is_plain], units)

    def _latch(self, row: int, source: Address, at: int, tick: int) -> bool:
        latch = self._latches[row]
        if latch is None:
            return False
        address = (source[0], source[1])
        latched = self.latched[row]
        if latched is not None and latched[:2] == address:
            # An IPv6 source comes with a flow label and a scope, which say nothing about who it is.
            return True
        if latched is None and latch.is_leaving(address, tick):
            return True
        silent_ticks = tick - int(self.heard_tick[row])
        if not latch.admits(address, int(self._headers.sequence_number[at]), self.latched[row], silent_ticks):
            return False
        if self.latched[row] is not None:
            self.forget_source(row)
        self.latched[row] = source
        self.heard_tick[row] = tick
        self.on_latched(row, source)
        return True

    def _take_digit(self, row: int, at: int, now: float) -> None:
        headers = self._headers
        start = int(headers.payload_offset[at])
        payload = self._datagrams[at, start : start + int(headers.payload_length[at])].tobytes()
        self._skip_sequence(row, at)
        receiver = self._digits[row]
        if receiver is None:
            return
        try:
            found = receiver.receive(payload, int(headers.timestamp[at]), now, int(headers.ssrc[at]))
        except RemoteProtocolError as error:
            self.refused[row][error.sentence] += 1
            return
        for digit in found:
            self.on_digit(row, digit.digit, digit.duration_ms)

    def _take_noise(self, row: int, at: int) -> None:
        headers = self._headers
        sequence, start = int(headers.sequence_number[at]), int(headers.payload_offset[at])
        noise = self._datagrams[at, start : start + int(headers.payload_length[at])].tobytes()
        self._expected.forget(row)
        if not noise:
            self.refused[row][NO_NOISE_LEVEL] += 1
            self._skip_sequence(row, at)
        elif self._hears[row]:
            self._rings.pause(row, sequence, int(headers.timestamp[at]), int(headers.ssrc[at]), noise)

    def expire_digits(self, row: int, now: float) -> None:
        """Report a digit whose end packets were all lost."""
        receiver = self._digits[row]
        if receiver is not None:
            for digit in receiver.expire(now):
                self.on_digit(row, digit.digit, digit.duration_ms)

    def _count_refused(
        self, places: list[int], rows: list[int], lengths: npt.NDArray[np.int32], sources: list[Address]
    ) -> None:
        headers = self._headers
        for at in places:
            row = rows[at]
            reason = int(headers.reason[at])
            if reason == Reason.IS_RTCP and row in self.muxed:
                self.on_control(row, self._datagrams[at, : int(lengths[at])].tobytes(), sources[at])
            elif reason:
                self.refused[row][Reason(reason).sentence] += 1
            else:
                self.refused[row]["The payload type was not negotiated."] += 1
                if self.latched[row] == sources[at]:
                    self._skip_sequence(row, at)
