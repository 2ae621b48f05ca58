"""DTMF that is heard, not signalled (ITU-T Q.23, Q.24): Goertzel filters over many rows at once, 20 ms at a time.

For trunks without telephone-event (RFC 4733). Every 10 ms the last 20 ms are asked for one row and one column tone:
strong, alone in their group, of about the same strength, at the right frequency and nearly all that is heard, without
second harmonics. A digit is what was found at four places in sequence (40 ms); it is reported once, when it has ended.

The frequency is told by how far the phase runs between two blocks of 10 ms, which is sharper than any filter of 20 ms
and is what keeps speech out.

Contract: nothing but the few rows that sound like a digit costs more than the filters themselves.
"""

from __future__ import annotations

import attrs
import numpy as np
import numpy.typing as npt

from agentstream.audio.level import FULL_SCALE
from agentstream.audio.tones import DTMF_COLUMNS_HZ, DTMF_FREQUENCIES_HZ, DTMF_ROWS_HZ

FRAME_MS = 20
BLOCK_MS = 10
DIGITS = "".join(DTMF_FREQUENCIES_HZ)
"""A digit's place here is 4 times its row plus its column."""

Pcm = npt.NDArray[np.int16]
Rows = npt.NDArray[np.intp]
_Floats = npt.NDArray[np.float32]
_Complex = npt.NDArray[np.complex64]
_Digits = npt.NDArray[np.int8]

_TONES_HZ = np.array(DTMF_ROWS_HZ + DTMF_COLUMNS_HZ, np.float64)
_NONE = -1


@attrs.frozen
class InbandSettings:
    """What counts as a digit.

    :ivar minimum_dbov: both tones together.
    :ivar twist_db: how much stronger the column tone may be.
    :ivar reverse_twist_db: how much stronger the row tone may be.
    :ivar least_share: of all power, what the two tones have.
    :ivar least_share_loud: the same above ``loud_dbov``, where clipping adds tones of its own.
    :ivar loud_dbov: no speech is that loud for 20 ms.
    :ivar next_db: by how much a tone is over the next of its group.
    :ivar harmonic_db: by how much each second harmonic is below the two tones.
    :ivar tolerance: how far a frequency may be off, as a share of it (Q.24: 1.5 % must be accepted).
    :ivar on_ms: shortest digit, in whole blocks of 10 ms: a tone of 40 ms fills three of them wherever it begins.
    :ivar off_ms: shortest pause between two of the same, in the same way; what is shorter belongs to the digit.
    """

    minimum_dbov: float = -38.0
    twist_db: float = 6.0
    reverse_twist_db: float = 8.0
    least_share: float = 0.82
    least_share_loud: float = 0.6
    loud_dbov: float = -9.0
    next_db: float = 8.0
    harmonic_db: float = 10.0
    tolerance: float = 0.02
    on_ms: int = 30
    off_ms: int = 20


@attrs.frozen
class InbandDigit:
    """A digit that has ended."""

    row: int
    digit: str
    duration_ms: int


@attrs.define
class _Run:
    """A digit that is being heard.

    :ivar places: at how many places it was, bridged ones between them included.
    :ivar missed: at how many it was not, just now.
    """

    digit: int
    places: int = 1
    missed: int = 0


class InbandDtmf:
    """The digits of every row.

    :param rows: number of rows; never grows.
    :param rate_hz: samples a second, a multiple of 4,000.
    """

    def __init__(self, rows: int, rate_hz: int = 8000, settings: InbandSettings | None = None) -> None:
        chosen = self.settings = settings if settings is not None else InbandSettings()
        self.block = block = rate_hz * BLOCK_MS // 1000
        self._least_power = FULL_SCALE**2 * 10 ** (chosen.minimum_dbov / 10)
        self._loud_power = FULL_SCALE**2 * 10 ** (chosen.loud_dbov / 10)
        self._twist = 10 ** (chosen.twist_db / 10)
        self._reverse_twist = 10 ** (chosen.reverse_twist_db / 10)
        self._next = 10 ** (chosen.next_db / 10)
        self._harmonic = 10 ** (-chosen.harmonic_db / 10)
        # A digit fills one block more than it has places, and a pause one less than it misses.
        self._on = chosen.on_ms // BLOCK_MS - 1
        self._off = chosen.off_ms // BLOCK_MS + 1
        angle = 2 * np.pi * _TONES_HZ[None, :] * np.arange(block)[:, None] / rate_hz
        # Cosines and sines side by side: the product with a block is a complex number for each tone.
        self._filters = np.stack((np.cos(angle), -np.sin(angle)), axis=2).reshape(block, 16).astype(np.float32)
        self._turn = np.exp(-2j * np.pi * _TONES_HZ * BLOCK_MS / 1000).astype(np.complex64)
        # How far the phase may run away between two blocks.
        self._phase = (2 * np.pi * _TONES_HZ * chosen.tolerance * BLOCK_MS / 1000).astype(np.float32)
        places = np.arange(2 * block)[:, None] / rate_hz
        self._harmonics = np.exp(-4j * np.pi * _TONES_HZ * places).astype(np.complex64)
        # What was heard in the block before.
        self._old_samples = np.zeros((rows, block), np.float32)
        self._old_tones = np.zeros((rows, 8), np.complex64)
        self._old_power = np.zeros((rows, 8), np.float32)
        self._old_energy = np.zeros(rows, np.float32)
        self._runs: dict[int, _Run] = {}
        self._has_run = np.zeros(rows, np.bool_)

    def hear(self, frames: Pcm, rows: Rows) -> list[InbandDigit]:
        """Take the next 20 ms of some rows, and give the digits that ended in them.

        :param frames: int16[k, 2 * block], the caller's: ``frames[i]`` belongs to ``rows[i]``.
        :param rows: intp[k], each at most once.
        """
        ended: list[InbandDigit] = []
        for begin in range(0, 2 * self.block, self.block):
            self._hear_block(frames[:, begin : begin + self.block].astype(np.float32), rows, ended)
        return ended

    def reset(self, rows: Rows) -> None:
        """New calls; a digit that has not ended is never reported."""
        self._old_samples[rows] = 0
        self._old_tones[rows] = 0
        self._old_power[rows] = 0
        self._old_energy[rows] = 0
        self._has_run[rows] = False
        for row in rows.tolist():
            self._runs.pop(row, None)

    def _hear_block(self, samples: _Floats, rows: Rows, ended: list[InbandDigit]) -> None:
        tones = (samples @ self._filters).view(np.complex64)
        power = tones.real**2 + tones.imag**2
        energy = np.vecdot(samples, samples)
        old_power = self._old_power[rows]
        whole = energy + self._old_energy[rows]
        # A tone of amplitude A has |X| = A n / 2 and an energy of A^2 n / 2 = |X|^2 2 / n.
        in_tones = (power + old_power) * (2 / self.block)
        strongest = in_tones[:, :4].max(axis=1) + in_tones[:, 4:].max(axis=1)
        maybe = np.flatnonzero(
            (whole >= self._least_power * 2 * self.block) & (strongest >= self._least_share(whole) * whole)
        )
        found = np.full(len(rows), _NONE, np.int8)
        if len(maybe):
            both = np.concatenate((self._old_samples[rows[maybe]], samples[maybe]), axis=1)
            blocks = np.stack((self._old_tones[rows[maybe]], tones[maybe] * self._turn))
            found[maybe] = self._judge(both, blocks, in_tones[maybe], whole[maybe])
        self._old_samples[rows] = samples
        self._old_tones[rows] = tones
        self._old_power[rows] = power
        self._old_energy[rows] = energy
        self._follow(found, rows, ended)

    def _least_share(self, whole: _Floats) -> _Floats:
        is_loud = whole >= self._loud_power * 2 * self.block
        return np.where(is_loud, self.settings.least_share_loud, self.settings.least_share)

    def _judge(self, both: _Floats, blocks: _Complex, in_tones: _Floats, whole: _Floats) -> _Digits:
        """The digit of each of a few rows, or -1.

        :param both: float32[k, 2 * block], the 20 ms. :param blocks: complex64[2, k, 8], their tones in one phase.
        :param in_tones: float32[k, 8] and :param whole: float32[k], energy in each tone and in all.
        """
        each = np.arange(len(both))
        together = blocks.sum(axis=0)
        strength = (together.real**2 + together.imag**2) * (1 / self.block)
        row, column = strength[:, :4].argmax(axis=1), 4 + strength[:, 4:].argmax(axis=1)
        chosen = np.stack((row, column))
        of_row, of_column = in_tones[each, row], in_tones[each, column]
        is_digit = of_row + of_column >= self._least_share(whole) * whole
        is_digit &= (of_column <= of_row * self._twist) & (of_row <= of_column * self._reverse_twist)
        alone = strength.copy()
        alone[each, chosen] = 0
        is_digit &= strength[each, row] >= self._next * alone[:, :4].max(axis=1)
        is_digit &= strength[each, column] >= self._next * alone[:, 4:].max(axis=1)
        for tone in chosen:
            before, now = blocks[:, each, tone]
            sizes = np.abs(before) ** 2, np.abs(now) ** 2
            # A tone that begins or ends within these 20 ms says nothing of its frequency.
            is_digit &= np.minimum(*sizes) >= 0.1 * np.maximum(*sizes)
            is_digit &= np.abs(np.angle(now * before.conj())) <= self._phase[tone]
            second = np.abs(np.einsum("ij,ji->i", both, self._harmonics[:, tone])) ** 2 * (1 / self.block)
            is_digit &= second <= self._harmonic * (of_row + of_column)
        return np.where(is_digit, 4 * row + column - 4, _NONE).astype(np.int8)

    def _follow(self, found: _Digits, rows: Rows, ended: list[InbandDigit]) -> None:
        """Join what was found every 10 ms to digits: Python runs for rows in a digit only."""
        is_busy = found != _NONE
        if self._runs:
            is_busy |= self._has_run[rows]
        for at in np.flatnonzero(is_busy).tolist():
            row, digit = int(rows[at]), int(found[at])
            run = self._runs.get(row)
            if run is not None and run.digit == digit:
                run.places += run.missed + 1
                run.missed = 0
                continue
            if run is not None:
                run.missed += 1
                if digit == _NONE and run.places >= self._on and run.missed < self._off:
                    continue
                if run.places >= self._on:
                    ended.append(InbandDigit(row, DIGITS[run.digit], (run.places + 1) * BLOCK_MS))
                del self._runs[row]
            if digit != _NONE:
                self._runs[row] = _Run(digit)
            self._has_run[row] = digit != _NONE
