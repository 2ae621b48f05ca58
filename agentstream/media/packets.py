"""The jitter buffer of Opus, whose payloads have no fixed length: they wait as they came, and the ring holds which of
them sounds when.

A ring's samples are tokens here, one for each 2.5 ms: the place of the payload and which part of it. So order, anchors,
loss and delay are :class:`agentstream.media.ring.Rings`'s. At its turn a payload is decoded once, in order. What was
lost the decoder makes up itself, from the copy in the packet behind the gap where that has one (in-band FEC); and when
the far end has stopped sending in silence (DTX), it makes the noise that goes on.
"""

from __future__ import annotations

import attrs
import numpy as np
import numpy.typing as npt

from agentstream.audio.codecs import Coder, PacketCoder
from agentstream.audio.conceal import NO_ROWS, Concealment, Rows
from agentstream.media.arrivals import BLOCKS, LEAST_MS, MOST_MS, VOICE, IntArray
from agentstream.media.coded import CodedRings, Decoding

UNITS = 4
"""Tokens of a block of 10 ms."""

TOKENS_HZ = 100 * UNITS
CLOCK_HZ = 48_000
PAYLOADS = 256
"""A ring full of packets of 2.5 ms."""

PARTS = 64
"""More than a packet of 120 ms has."""

TOKEN = 0x4000
"""Added to each: none is 0, which is silence, and none is quiet."""

FURTHEST_BLOCKS = 6
"""How far behind a loss the packet is looked for that may have a copy: 60 ms, the longest frame."""

DTX_BYTES = 2
"""A payload of no more says that the far end has stopped sending."""

Pcm = npt.NDArray[np.int16]


@attrs.define(eq=False)
class _Voice:
    """What one row decodes.

    :ivar payloads: by their place; :ivar newest: the place of the last one.
    :ivar payload: that was decoded last. :ivar pcm: what it became.
    :ivar made_up: of a loss that was made up whole, what is left.
    :ivar is_pausing: the last payload was DTX.
    """

    decoder: PacketCoder
    payloads: list[bytes] = attrs.Factory(lambda: [b""] * PAYLOADS)
    newest: int = -1
    payload: bytes = b""
    pcm: Pcm = attrs.Factory(lambda: np.zeros(0, np.int16))
    made_up: Pcm = attrs.Factory(lambda: np.zeros(0, np.int16))
    is_pausing: bool = False

    def keep(self, payload: bytes) -> int:
        """A payload that has arrived; returns its place."""
        self.newest = (self.newest + 1) % PAYLOADS
        self.payloads[self.newest] = payload
        return self.newest

    def part(self, place: int, part: int, unit: int, units: int) -> Pcm:
        """These 2.5 ms of a payload, ``unit`` samples each; fewer where it has no more."""
        payload = self.payloads[place]
        # A later part of the same payload; equal ones in a row are packets of their own.
        if part == 0 or payload != self.payload:
            self.payload, self.pcm = payload, self.decoder.decode(payload)
            self.is_pausing = len(payload) <= DTX_BYTES
            self.made_up = self.made_up[:0]
        return self.pcm[part * unit : (part + units) * unit]


class PacketDecoding(Decoding):
    """Decodes the next block of each row that has a decoder.

    :param rings: whose tokens these are.
    """

    def __init__(self, rings: PacketRings, rows: int, block_samples: int) -> None:
        super().__init__(rows, block_samples)
        self.voices: dict[int, _Voice] = {}
        self._rings = rings
        self._unit = block_samples // UNITS

    def repair(self, blocks: Pcm, lost: Rows = NO_ROWS) -> None:
        """Take the next 10 ms of rows 0, 1, ..., int16 (n, UNITS): tokens, or 0 for silence."""
        count = len(blocks)
        decoded = self._decoded[:count]
        decoded[:] = 0
        gone = set(lost.tolist())
        held: list[int] = []
        for row, voice in self.voices.items():
            if row >= count:
                continue
            if row not in gone:
                self._decode(voice, blocks[row].tolist(), decoded[row])
            elif self._rings.has_voice(row):
                held.append(row)  # playout stands still; the packet's turn comes
            else:
                decoded[row] = self._make_up(row, voice)
        Concealment.repair(self, decoded, np.array(held, np.intp))
        self._keep(decoded)

    def _decode(self, voice: _Voice, tokens: list[int], out: Pcm) -> None:
        first, unit = tokens[0], self._unit
        if first and tokens[-1] == first + UNITS - 1:
            self._put(out, 0, voice.part(*divmod(first - TOKEN, PARTS), unit, UNITS))
            return
        for number, token in enumerate(tokens):
            if token:
                self._put(out, number, voice.part(*divmod(token - TOKEN, PARTS), unit, 1))
        if not any(tokens) and voice.is_pausing:
            self._put(out, 0, voice.decoder.conceal(self.block))

    def _put(self, out: Pcm, number: int, pcm: Pcm) -> None:
        begin = number * self._unit
        out[begin : begin + len(pcm)] = pcm

    def _make_up(self, row: int, voice: _Voice) -> Pcm:
        if not len(voice.made_up):
            blocks, following = self._rings.behind_loss(row)
            voice.made_up = voice.decoder.conceal(blocks * self.block, following)
        block: Pcm = np.zeros(self.block, np.int16)
        made_up = voice.made_up[: self.block]
        block[: len(made_up)] = made_up
        voice.made_up = voice.made_up[self.block :]
        return block


class PacketRings(CodedRings):
    """The rings of rows whose codec has packets of its own lengths.

    :param rate_hz: samples a second behind the decoder.
    """

    def __init__(self, rows: int, rate_hz: int, least_ms: int = LEAST_MS, most_ms: int = MOST_MS) -> None:
        super().__init__(rows, rate_hz, least_ms, most_ms, ring_hz=TOKENS_HZ, clock_hz=CLOCK_HZ)
        self._concealment = self._decoding = self._packets = PacketDecoding(self, rows, rate_hz // 100)

    def decode(self, row: int, decoder: Coder | None) -> None:
        """From now on this is the row's decoder; with None the row is silent, and its payloads are gone."""
        if decoder is None:
            self._packets.voices.pop(row, None)
        else:
            self._packets.voices[row] = _Voice(decoder)  # type: ignore[arg-type]  # a codec with units_of has such

    def forget_source(self, row: int) -> None:
        """The next packet anchors anew, and no noise goes on."""
        super().forget_source(row)
        voice = self._packets.voices.get(row)
        if voice is not None:
            voice.is_pausing = False

    def insert_payloads(
        self,
        rows: IntArray,
        sequences: npt.NDArray[np.uint16],
        timestamps: npt.NDArray[np.uint32],
        ssrcs: npt.NDArray[np.uint32],
        payloads: list[bytes],
        units: list[int],
    ) -> None:
        """Place one packet a row.

        :param units: the 2.5 ms that each payload lasts, 1 to 48.
        """
        voices = self._packets.voices
        places = np.array(
            [voices[row].keep(payload) for row, payload in zip(rows.tolist(), payloads, strict=True)], np.int64
        )
        lengths = np.array(units)
        for length in np.unique(lengths).tolist():
            which = np.flatnonzero(lengths == length)
            tokens = TOKEN + places[which, None] * PARTS + np.arange(length)
            self.insert(rows[which], sequences[which], timestamps[which], ssrcs[which], tokens.astype(np.int16))

    def has_voice(self, row: int) -> bool:
        """The block that the row is about to play is there."""
        return bool(self._status[self._place(row, 0)] == VOICE)

    def behind_loss(self, row: int) -> tuple[int, bytes]:
        """How many blocks are missing from the one that the row plays on, and the payload behind them; one block and
        none where it is not here, or too far away."""
        for blocks in range(1, FURTHEST_BLOCKS + 1):
            place = self._place(row, blocks)
            if self._status[place] == VOICE:
                index, part = divmod(int(self._voice[place, 0]) - TOKEN, PARTS)
                if part == 0:
                    return blocks, self._packets.voices[row].payloads[index]
                break
        return 1, b""

    def _place(self, row: int, ahead: int) -> int:
        return row * BLOCKS + ((int(self._play_block[row]) + ahead) & (BLOCKS - 1))
