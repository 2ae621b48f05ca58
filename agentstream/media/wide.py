"""The rows whose codec has 16,000 samples a second, beside the bank of 8,000 in which every row is.

Such a row is in both. What it hears is decoded at 16 kHz; listeners at 16 kHz get that as it is, the others what is
left of it at 8 kHz. What it says is the sum of what is said to it at 8 kHz, raised, and at 16 kHz, as it is. So nothing
but the sound itself knows of the other rate, a change of codec in mid-call only adds a row here, and what the old codec
has yet to play goes on to be heard.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from agentstream.audio.codecs import Codec
from agentstream.audio.resample import Resampler
from agentstream.media.coded import CodedRings
from agentstream.media.packets import PacketRings
from agentstream.media.rates import StreamRate, add_clipped
from agentstream.media.track import WideFrames

WIDE_HZ = 16000
NARROW_HZ = 8000

Pcm = npt.NDArray[np.int16]
Rows = npt.NDArray[np.intp]


class WideRows:
    """All rows of 16 kHz.

    :param rows: how many rows there can be.
    :param least_ms: and ``most_ms``: the bounds of the delay.
    :ivar rows: the numbers of those that are here.
    :ivar heard: what they hear and ``spoken`` what they are sent, int16 (rows, 320): the last slot.
    """

    def __init__(self, rows: int, least_ms: int, most_ms: int) -> None:
        self.rows: Rows = np.zeros(0, np.intp)
        self._limits = rows, least_ms, most_ms
        self.rings = CodedRings(rows, WIDE_HZ, least_ms, most_ms)
        self.packets: PacketRings | None = None
        self.heard = np.zeros((rows, WIDE_HZ // 50), np.int16)
        self.spoken = np.zeros((rows, WIDE_HZ // 50), np.int16)
        self._raise_heard = Resampler(rows, NARROW_HZ, WIDE_HZ)
        self._lower_heard = Resampler(rows, WIDE_HZ, NARROW_HZ)
        self._raise_spoken = Resampler(rows, NARROW_HZ, WIDE_HZ)
        self._codecs: dict[int, Codec] = {}

    @property
    def all_rings(self) -> list[CodedRings]:
        """One for each kind of codec that there has been."""
        return [self.rings] if self.packets is None else [self.rings, self.packets]

    def rings_for(self, codec: Codec, playout_ms: int) -> CodedRings:
        """Where its payloads go."""
        if codec.units_of is None:
            return self.rings
        if self.packets is None:
            rows, least_ms, most_ms = self._limits
            self.packets = PacketRings(rows, WIDE_HZ, least_ms, most_ms)
            for row in self._codecs:
                self.packets.open(row, playout_ms)
        return self.packets

    def open(self, row: int, codec: Codec, playout_ms: int, parameters: str = "") -> CodedRings:
        """The row's far end speaks this codec from now on; harmless when repeated. Returns where its payloads go.

        :param parameters: what the far end's ``a=fmtp`` says of it.
        """
        mine = self.rings_for(codec, playout_ms)
        if row not in self._codecs:
            one = np.array([row])
            for rings in self.all_rings:
                rings.open(row, playout_ms)
            for convert in (self._raise_heard, self._lower_heard, self._raise_spoken):
                convert.reset(one)
            self.heard[row] = self.spoken[row] = 0
            self.rows = np.union1d(self.rows, one).astype(np.intp)
        if self._codecs.get(row) != codec and codec.make_coder is not None:
            self._codecs[row] = codec
            mine.decode(row, codec.make_coder(parameters))
        return mine

    def close(self, row: int) -> None:
        """The row's call is over; harmless for a row that is not here."""
        if self._codecs.pop(row, None) is not None:
            for rings in self.all_rings:
                rings.decode(row, None)
                rings.forget_source(row)
            self.rows = self.rows[self.rows != row]

    def hear(self, high: int, heard: Pcm) -> WideFrames:
        """Play 20 ms; ``heard``, int16 (high, 160), has what the rows hear in codecs of 8 kHz, and gets the rest."""
        rows = self.rows
        decoded = self.rings.play_decoded(high)[rows]
        if self.packets is not None:
            # A change of codec may have something left in both.
            add_clipped(decoded, np.arange(len(rows)), self.packets.play_decoded(high)[rows])
        self.heard[rows] = self._raise_heard.convert(rows, heard[rows])
        add_clipped(heard, rows, self._lower_heard.convert(rows, decoded))
        add_clipped(self.heard, rows, decoded)
        return WideFrames(WIDE_HZ, self.heard, rows)

    def speak(self, high: int, outgoing: Pcm, rate: StreamRate | None) -> WideFrames:
        """What the rows are sent.

        :param outgoing: int16 (high, 160), what is said to all rows at other rates; gets the rest.
        :param rate: what bots of 16 kHz say.
        """
        rows = self.rows
        self.spoken[rows] = self._raise_spoken.convert(rows, outgoing[rows])
        spoken = None if rate is None else rate.speak(high, outgoing)
        if spoken is not None:
            add_clipped(self.spoken, rows, spoken[rows])
        return WideFrames(WIDE_HZ, self.spoken, rows)
