"""A packet that was expected is heard exactly as one whose header was parsed."""

from __future__ import annotations

import attrs
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agentstream.audio.codecs import codec_named
from agentstream.media.expected import ExpectedPackets
from agentstream.media.latch import Latch
from agentstream.media.ports import Address, Pass
from agentstream.media.reception import Reception
from agentstream.media.ring import Rings
from agentstream.rtp.packet import Packet

ROWS = 3
SOURCE: Address = ("10.0.0.2", 4000)


@attrs.define
class Line:
    """A reception and its rings, fed with datagrams and played tick by tick."""

    rings: Rings = attrs.Factory(lambda: Rings(ROWS))
    reception: Reception = attrs.field(init=False)
    tick: int = 0
    heard: list[bytes] = attrs.Factory(list)
    digits: list[tuple[int, str, int]] = attrs.Factory(list)

    def __attrs_post_init__(self) -> None:
        pcmu = codec_named("PCMU")
        assert pcmu is not None
        self.reception = Reception(ROWS, self.rings)
        self.reception.on_digit = lambda row, digit, duration_ms: self.digits.append((row, digit, duration_ms))
        for row in range(ROWS):
            self.rings.open(row, 60)
            self.reception.open(row)
            self.reception.describe(row, Latch(SOURCE, SOURCE[0], "host"), 0, 101, pcmu, True)

    def hear(self, datagrams: dict[int, bytes]) -> None:
        """One tick: at most one datagram a row."""
        arrived = Pass(list(datagrams), [len(data) for data in datagrams.values()], [SOURCE] * len(datagrams))
        for place, data in enumerate(datagrams.values()):
            self.reception.views[place][: len(data)] = data
        self.reception.take(arrived, self.tick, 0.02 * self.tick)
        out = np.zeros((ROWS, 160), np.int16)
        self.rings.play(ROWS, out)
        self.heard.append(out.tobytes())
        self.tick += 1

    def counts(self) -> list[object]:
        """Everything that is told of a row."""
        rings, reception = self.rings, self.reception
        counters = (rings.late, rings.duplicate, rings.reanchored, rings.concealed, rings.stretched, rings.left_out)
        wire = reception.statistics
        return [
            *(counter.tolist() for counter in counters),
            wire.received.tolist(),
            [wire.lost(row) for row in range(ROWS)],
            [round(wire.jitter_ms(row), 6) for row in range(ROWS)],
            reception.heard_tick.tolist(),
            reception.ssrc.tolist(),
            [dict(refused) for refused in reception.refused],
            self.rings.delay.waited.tolist(),
        ]


class Surprised(ExpectedPackets):
    """Expects nothing."""

    def match(
        self, rows: npt.NDArray[np.int64], datagrams: npt.NDArray[np.uint8], lengths: npt.NDArray[np.int32]
    ) -> npt.NDArray[np.bool_]:
        return np.zeros(len(rows), np.bool_)


ODDITIES = ("lost", "late", "twice", "marker", "digit", "ssrc", "jump", "short", "padding", "pause", "other type")
"""What may happen to a row in a tick instead of its next packet."""


def datagrams_of(row: int, oddities: list[str | None]) -> list[bytes | None]:
    """A row's datagrams tick by tick."""
    sequence, timestamp, ssrc = 65530 + row, 0xFFFFF000 - row * 80, 7 + row
    out: list[bytes | None] = []
    held: bytes | None = None
    before = b""
    noise = np.random.default_rng(row)
    for oddity in oddities:
        size = 120 if oddity == "short" else 160
        if oddity == "ssrc":
            ssrc += 100
        if oddity == "jump":
            timestamp += 8000 * 60
        if oddity == "pause":
            timestamp += 80
        digit = oddity == "digit"
        payload = bytes([5, 0x8A, 0, 160]) if digit else noise.integers(0, 256, size, np.uint8).tobytes()
        payload_type = 101 if digit else 77 if oddity == "other type" else 0
        packet = Packet(
            payload_type, sequence & 0xFFFF, timestamp & 0xFFFFFFFF, ssrc, payload, marker=oddity == "marker"
        )
        data = packet.serialise()
        if oddity == "padding":
            data = bytes([data[0] | 0x20]) + data[1:] + bytes([0, 0, 3])
        sequence, timestamp = sequence + 1, timestamp + (160 if digit else size)
        if oddity == "late":
            out.append(held)
            held = data
        elif oddity == "twice":
            out.append(before or data)
        else:
            out.append(None if oddity == "lost" else data)
        before = data
    return out


row_of_oddities = st.lists(st.sampled_from([None] * 25 + list(ODDITIES)), min_size=40, max_size=60)


@settings(max_examples=60, deadline=None)
@example([[None] * 9, [None] * 9, [None] * 4 + ["late", "digit", "digit", "late", None]])
@example([[None] * 8, [None] * 8, [None] * 4 + ["late", "digit", "lost", "late"]])
@given(st.lists(row_of_oddities, min_size=ROWS, max_size=ROWS))
def test_expected_packets_are_heard_as_parsed_ones_are(rows: list[list[str | None]]) -> None:
    quick, slow = Line(), Line()
    slow.reception._expected = Surprised(ROWS)
    ticks = zip(*(datagrams_of(row, oddities) for row, oddities in enumerate(rows)), strict=False)
    for number, datagrams in enumerate(ticks):
        arrived = {row: data for row, data in enumerate(datagrams) if data is not None}
        # Which row is read first is the poll's affair.
        arrived = dict(sorted(arrived.items(), key=lambda item: (item[0] + number) % ROWS))
        for line in (quick, slow):
            line.hear(arrived)
        assert quick.heard[-1] == slow.heard[-1]
    assert quick.counts() == slow.counts()
    assert quick.digits == slow.digits


def test_a_steady_row_is_parsed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    line = Line()
    parsed: list[int] = []
    parse = line.reception._headers.parse
    monkeypatch.setattr(
        line.reception._headers, "parse", lambda rows, lengths: parsed.append(len(rows)) or parse(rows, lengths)
    )
    for data in datagrams_of(0, [None] * 30):
        assert data is not None
        line.hear({0: data})
    assert parsed == [1]
    assert line.counts()[6] == [30, 0, 0]
