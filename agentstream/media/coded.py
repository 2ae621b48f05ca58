"""The jitter buffer of codecs with a memory: payloads wait in the ring and are decoded in order, as they are played.

A ring's samples are the payload's bytes here, so that everything about order, anchors, loss and delay is
:class:`agentstream.media.ring.Rings`'s; what a ring does for a block that it plays, concealment, is done here behind
the decoder, at the codec's own rate. So is what makes the delay shorter: two blocks are decoded and the one fades into
the other, at a moment that what was decoded last says is good.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from agentstream.audio import timescale
from agentstream.audio.codecs import Coder
from agentstream.audio.conceal import NO_ROWS, Concealment, Rows
from agentstream.media.arrivals import BLOCKS_A_SLOT, LEAST_MS, MOST_MS, IntArray
from agentstream.media.ring import Rings
from agentstream.media.seams import Seams

BYTE = 0x4000
"""Added to each byte of a payload: no byte is 0, which is silence, and none is quiet."""

Pcm = npt.NDArray[np.int16]


class Decoding(Concealment):
    """Decodes the next block of each row that has a decoder, and conceals what is missing.

    :param block_samples: of 10 ms, decoded.
    :ivar decoders: by row.
    :ivar left_out: payloads that are decoded before the next block and fade into it, by row.
    :ivar pcm: what the last slot was, int16 (rows, 2 * block_samples); rows without a decoder are silent.
    """

    def __init__(self, rows: int, block_samples: int) -> None:
        super().__init__(rows, block_samples)
        self.decoders: dict[int, Coder] = {}
        self.left_out: dict[int, Pcm] = {}
        self.pcm = np.zeros((rows, BLOCKS_A_SLOT * block_samples), np.int16)
        self._decoded = np.zeros((rows, block_samples), np.int16)
        self._part = 0

    def repair(self, blocks: Pcm, lost: Rows = NO_ROWS) -> None:
        """Take the next 10 ms of payload of rows 0, 1, ..., int16 (n, bytes), each byte plus BYTE, or 0 for silence."""
        count = len(blocks)
        decoded = self._decoded[:count]
        decoded[:] = 0
        gone = set(lost.tolist())
        for row, decoder in self.decoders.items():
            if row < count and row not in gone and blocks[row, 0]:
                before = self.left_out.pop(row, None) if self.left_out else None
                faded = None if before is None else _decode(decoder, before)
                decoded[row] = _decode(decoder, blocks[row])
                if faded is not None:
                    decoded[row] = timescale.fade_over(faded, decoded[row])
        super().repair(decoded, lost)
        self._keep(decoded)

    def _keep(self, decoded: Pcm) -> None:
        """The next half of the slot is this."""
        begin = self._part * self.block
        self.pcm[: len(decoded), begin : begin + self.block] = decoded
        self._part = (self._part + 1) % BLOCKS_A_SLOT

    def recent(self, rows: IntArray) -> Pcm:
        """The last three blocks that these rows played: int16 (n, 3 * block_samples)."""
        return self._source_of(rows)[:, -timescale.BLOCKS * self.block :]


def _decode(decoder: Coder, block: Pcm) -> Pcm:
    return decoder.decode((block - BYTE).astype(np.uint8).tobytes())


class CodedRings(Rings):
    """The rings of rows whose codec has a memory, with a byte for each RTP timestamp unit (G.722 at 64 kbit/s).

    :param rate_hz: samples a second behind the decoder.
    :param ring_hz: what the ring has a second. :param clock_hz: RTP timestamp units a second.
    """

    def __init__(
        self,
        rows: int,
        rate_hz: int,
        least_ms: int = LEAST_MS,
        most_ms: int = MOST_MS,
        *,
        ring_hz: int = 8000,
        clock_hz: int = 8000,
    ) -> None:
        super().__init__(rows, ring_hz, clock_hz, least_ms, most_ms)
        self._concealment = self._decoding = Decoding(rows, rate_hz // 100)
        self._seams = Seams(rows, rate_hz // 100)
        self._codes = np.zeros((rows, BLOCKS_A_SLOT * self.block), np.int16)

    def decode(self, row: int, decoder: Coder | None) -> None:
        """From now on this is the row's decoder; with None the row is silent."""
        self._decoding.left_out.pop(row, None)
        if decoder is None:
            self._decoding.decoders.pop(row, None)
        else:
            self._decoding.decoders[row] = decoder

    def _join(self, rows: IntArray, slots: IntArray) -> None:
        is_unheard, _ = self._seams.find(rows, self._decoding.recent(rows))
        rows, slots = rows[is_unheard], slots[is_unheard]
        for row, slot in zip(rows.tolist(), slots[:, 0].tolist(), strict=True):
            self._decoding.left_out[row] = self._voice[slot].copy()
        self._step_over(rows, slots)

    def play_decoded(self, high: int) -> Pcm:
        """The next 20 ms of all rows, int16 (rows, samples), good until the next call; advances playout."""
        self.play(high, self._codes[:high])
        return self._decoding.pcm
