"""From the callers: what a pass over the ports brought becomes blocks in the rings, for all rows at once.

A packet is heard when it parses, has the negotiated payload type, and comes from the latched source. Everything else is
counted by its reason. Payloads are taken by their received length, so that no byte that an earlier and longer datagram
left behind in the receive row is ever heard.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from agentstream.audio.codecs import Codec, codecs
from agentstream.errors import RemoteProtocolError
from agentstream.media.coded import BYTE
from agentstream.media.latch import Latch
from agentstream.media.ports import PACKET_CAPACITY, Address, Pass
from agentstream.media.ring import Rings
from agentstream.rtp.events import DigitReceiver
from agentstream.rtp.matrix import HeaderMatrix, Reason
from agentstream.rtp.statistics import ReceptionMatrix

NO_PAYLOAD_TYPE = -1

IntArray = npt.NDArray[np.int64]


class Reception:
    """The receive side of all rows of one media rate.

    :param rows: how many rows there can be.
    :ivar coded: where payloads of codecs with a memory wait, once there is one.
    """

    def __init__(self, rows: int, rings: Rings) -> None:
        self._rings = rings
        self.coded: Rings | None = None
        self._inbox = np.zeros((rows, PACKET_CAPACITY), np.uint8)
        self.views = [datagram.data for datagram in self._inbox]
        self._headers = HeaderMatrix(rows)
        self._lengths = np.zeros(rows, np.int32)
        self._codecs = codecs()
        self._audio_type = np.full(rows, NO_PAYLOAD_TYPE, np.int16)
        self._digit_type = np.full(rows, NO_PAYLOAD_TYPE, np.int16)
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
        self.on_latched: Callable[[int, Address], None] = lambda row, address: None

    def open(self, row: int) -> None:
        self.close(row)
        self.statistics.reset(np.array([row]))
        self.foreign[row] = 0
        self.refused[row] = Counter()

    def describe(
        self, row: int, latch: Latch, audio_type: int, digit_type: int | None, codec: Codec, hears: bool
    ) -> None:
        """What a remote description says. Every new one learns its source anew.

        What was sent in the codec before goes on to be heard until the first packet in the new one: the far end
        changes when our answer reaches it, and not when we send it.
        """
        before = int(self._audio_type[row])
        if before not in (NO_PAYLOAD_TYPE, audio_type) and digit_type != before:
            self._leaving[row] = (before, int(self._codec[row]))
        else:
            self._leaving.pop(row, None)
        self._audio_type[row] = audio_type
        self._digit_type[row] = NO_PAYLOAD_TYPE if digit_type is None else digit_type
        self._codec[row] = self._codecs.index(codec)
        self._hears[row] = hears
        heard = self.latched[row]
        if heard is not None and self.described(row) != latch.described and heard[:2] != latch.described:
            latch.left = (heard[0], heard[1])
        self._latches[row] = latch
        self.latched[row] = None
        if self._digits[row] is None:
            self._digits[row] = DigitReceiver()

    def described(self, row: int) -> Address | None:
        """The address in the far end's last description."""
        latch = self._latches[row]
        return None if latch is None else latch.described

    def forget_source(self, row: int) -> None:
        """Whatever comes next in this row is anchored anew."""
        self._rings.forget_source(row)
        if self.coded is not None:
            self.coded.forget_source(row)

    def _skip_sequence(self, row: int, sequence: int) -> None:
        self._rings.skip_sequence(row, sequence)
        if self.coded is not None:
            self.coded.skip_sequence(row, sequence)

    def is_heard(self, row: int) -> bool:
        """The far end may be heard, as far as its description says."""
        return bool(self._hears[row])

    def close(self, row: int) -> None:
        self._audio_type[row] = self._digit_type[row] = NO_PAYLOAD_TYPE
        self._hears[row] = False
        self._leaving.pop(row, None)
        self.muxed.discard(row)
        self.latched[row] = self._latches[row] = self._digits[row] = None

    def take(self, arrived: Pass, tick: int, now: float) -> None:
        """Hear one pass; each row is in it at most once."""
        count = len(arrived.rows)
        if not count:
            return
        rows = np.array(arrived.rows, np.int64)
        lengths = self._lengths[:count]
        lengths[:] = arrived.lengths
        headers = self._headers
        headers.parse(self._inbox[:count], lengths)
        payload_type = headers.payload_type[:count]
        is_audio = payload_type == self._audio_type[rows]
        is_digit = payload_type == self._digit_type[rows]
        codec = self._codec[rows]
        if self._leaving:
            self._admit_old_codec(arrived.rows, payload_type, is_audio, codec)
        is_heard = is_audio | is_digit
        latched = self.latched
        strangers = [
            at
            for at, (row, source) in enumerate(zip(arrived.rows, arrived.sources, strict=True))
            if latched[row] != source
        ]
        if not is_heard.all():
            self._count_refused(np.flatnonzero(~is_heard).tolist(), arrived)
        for at in strangers:
            if is_heard[at] and not self._latch(arrived.rows[at], arrived.sources[at], at, tick):
                self.foreign[arrived.rows[at]] += 1
                is_heard[at] = False
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
        is_audio &= is_heard
        if self._leaving:
            for row in rows[is_audio & (payload_type == self._audio_type[rows])].tolist():
                self._leaving.pop(row, None)
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
        offset, length = headers.payload_offset[:count], headers.payload_length[:count]
        shape = (length.astype(np.int64) << 24) | (offset.astype(np.int64) << 8) | codec_of
        shape[~is_audio] = -1
        for key in np.unique(shape).tolist():
            if key < 1 << 24:
                continue  # not audio, or a packet without a payload
            size, start, codec = key >> 24, key >> 8 & 0xFFFF, self._codecs[key & 0xFF]
            which = np.flatnonzero(shape == key)
            payloads = self._inbox[which, start : start + size]
            rings = self._rings if codec.decode is not None else self.coded
            if rings is None:
                continue
            # What has to be decoded in order waits in its ring as it came.
            samples = codec.decode(payloads) if codec.decode is not None else payloads.astype(np.int16) + BYTE
            rings.insert(
                rows[which],
                headers.sequence_number[which],
                headers.timestamp[which],
                headers.ssrc[which],
                samples,
            )

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
        payload = self._inbox[at, start : start + int(headers.payload_length[at])].tobytes()
        self._skip_sequence(row, int(headers.sequence_number[at]))
        receiver = self._digits[row]
        if receiver is None:
            return
        try:
            found = receiver.receive(payload, int(headers.timestamp[at]), now)
        except RemoteProtocolError as error:
            self.refused[row][error.sentence] += 1
            return
        for digit in found:
            self.on_digit(row, digit.digit, digit.duration_ms)

    def expire_digits(self, row: int, now: float) -> None:
        """Report a digit whose end packets were all lost."""
        receiver = self._digits[row]
        if receiver is not None:
            for digit in receiver.expire(now):
                self.on_digit(row, digit.digit, digit.duration_ms)

    def _count_refused(self, places: list[int], arrived: Pass) -> None:
        headers = self._headers
        for at in places:
            row = arrived.rows[at]
            reason = int(headers.reason[at])
            if reason == Reason.IS_RTCP and row in self.muxed:
                self.on_control(row, self._inbox[at, : arrived.lengths[at]].tobytes(), arrived.sources[at])
            elif reason:
                self.refused[row][Reason(reason).sentence] += 1
            else:
                self.refused[row]["The payload type was not negotiated."] += 1
                if self.latched[row] == arrived.sources[at]:
                    self._skip_sequence(row, int(headers.sequence_number[at]))
