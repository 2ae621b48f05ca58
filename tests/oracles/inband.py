"""In-band DTMF of one row, block by block and tone by tone, at any rate."""

from __future__ import annotations

import cmath
import math

from agentstream.audio.inband import InbandSettings

ROWS_HZ = [697, 770, 852, 941]
COLUMNS_HZ = [1209, 1336, 1477, 1633]
KEYS = ["123A", "456B", "789C", "*0#D"]


def decibels(ratio_db: float) -> float:
    return math.pow(10.0, ratio_db / 10)


class PlainInband:
    """:ivar digits: those that ended, as (digit, ms)."""

    def __init__(self, rate_hz: int, settings: InbandSettings) -> None:
        self.settings = settings
        self.rate_hz = rate_hz
        self.block = rate_hz // 100
        self.old = [0] * self.block
        self.found: list[str] = []
        self.digits: list[tuple[str, int]] = []

    def hear(self, frame: list[int]) -> None:
        for block in (frame[: self.block], frame[self.block :]):
            self.follow(self.judge(self.old, block))
            self.old = block

    def amount(self, samples: list[int], hz: float) -> complex:
        """Goertzel: what these samples have of one frequency."""
        turn = 2 * math.cos(2 * math.pi * hz / self.rate_hz)
        one, two = 0.0, 0.0
        for sample in samples:
            one, two = sample + turn * one - two, one
        end = cmath.exp(-2j * math.pi * hz * (len(samples) - 1) / self.rate_hz)
        return (one - cmath.exp(-2j * math.pi * hz / self.rate_hz) * two) * end

    def judge(self, before: list[int], now: list[int]) -> str:
        """The digit of these 20 ms, or nothing."""
        chosen, both = self.settings, before + now
        whole = sum(x * x for x in both)
        power = whole / len(both) / 32768**2
        share = chosen.least_share_loud if power >= decibels(chosen.loud_dbov) else chosen.least_share
        in_tone, strength = {}, {}
        for hz in ROWS_HZ + COLUMNS_HZ:
            in_tone[hz] = (abs(self.amount(before, hz)) ** 2 + abs(self.amount(now, hz)) ** 2) * 2 / self.block
            strength[hz] = abs(self.amount(both, hz)) ** 2
        row, column = max(ROWS_HZ, key=strength.__getitem__), max(COLUMNS_HZ, key=strength.__getitem__)
        digit = in_tone[row] + in_tone[column]
        is_digit = power >= decibels(chosen.minimum_dbov) and digit >= share * whole
        is_digit = is_digit and in_tone[column] <= in_tone[row] * decibels(chosen.twist_db)
        is_digit = is_digit and in_tone[row] <= in_tone[column] * decibels(chosen.reverse_twist_db)
        for tone, group in ((row, ROWS_HZ), (column, COLUMNS_HZ)):
            rest = max(strength[hz] for hz in group if hz != tone)
            first, second = self.amount(before, tone), self.amount(now, tone)
            second *= cmath.exp(-2j * math.pi * tone / 100)
            low, high = sorted((abs(first) ** 2, abs(second) ** 2))
            phase = abs(cmath.phase(second * first.conjugate()))
            is_digit = is_digit and strength[tone] >= rest * decibels(chosen.next_db)
            is_digit = is_digit and low >= 0.1 * high
            is_digit = is_digit and phase <= 2 * math.pi * tone * chosen.tolerance / 100
            harmonic = abs(self.amount(both, 2 * tone)) ** 2 / self.block
            is_digit = is_digit and harmonic <= decibels(-chosen.harmonic_db) * digit
        return KEYS[ROWS_HZ.index(row)][COLUMNS_HZ.index(column)] if is_digit else ""

    def follow(self, digit: str) -> None:
        """``found`` begins with the first place of a digit, and is empty while there is none."""
        if not self.found:
            self.found = [digit] if digit else []
            return
        self.found.append(digit)
        current = self.found[0]
        places = len(self.found) - self.found[::-1].index(current)
        missed = len(self.found) - places
        is_long = places >= self.settings.on_ms // 10 - 1
        if not missed or (not digit and is_long and missed <= self.settings.off_ms // 10):
            return
        if is_long:
            self.digits.append((current, (places + 1) * 10))
        self.found = [digit] if digit else []
