"""Whose RTP is heard."""

from __future__ import annotations

import pytest

from agentstream.media.latch import IN_SEQUENCE, SILENT_TICKS, Latch

SDP = ("192.0.2.1", 4000)
SAME_HOST = ("192.0.2.1", 5000)
SIGNALLING = ("198.51.100.7", 6000)
STRANGER = ("203.0.113.9", 7000)


@pytest.mark.parametrize(
    ("nat", "source", "admitted"),
    [
        ("strict", SDP, True),
        ("strict", SAME_HOST, False),
        ("strict", STRANGER, False),
        ("host", SDP, True),
        ("host", SAME_HOST, True),
        ("host", SIGNALLING, True),
        ("host", STRANGER, False),
        ("any", SDP, True),
        ("any", STRANGER, False),
    ],
)
def test_the_first_packet(nat: str, source: tuple[str, int], admitted: bool) -> None:
    assert Latch(SDP, SIGNALLING[0], nat).admits(source, 1, None, 0) is admitted


def test_any_takes_five_packets_in_sequence() -> None:
    latch = Latch(SDP, SIGNALLING[0], "any")
    numbers = [65533, 65534, 65535, 0, 1]
    assert [latch.admits(STRANGER, number, None, 0) for number in numbers] == [False] * (IN_SEQUENCE - 1) + [True]


def test_any_begins_anew_with_a_gap_or_another_source() -> None:
    latch = Latch(SDP, SIGNALLING[0], "any")
    for number in (1, 2, 3, 5, 6, 7, 8):
        assert not latch.admits(STRANGER, number, None, 0)
    assert not latch.admits(SAME_HOST, 9, None, 0)
    assert not latch.admits(STRANGER, 9, None, 0)


def test_another_source_waits_for_half_a_second_of_silence() -> None:
    latch = Latch(SDP, SIGNALLING[0], "host")
    assert not latch.admits(SAME_HOST, 1, SIGNALLING, SILENT_TICKS - 1)
    assert latch.admits(SAME_HOST, 1, SIGNALLING, SILENT_TICKS)
    assert not latch.admits(SAME_HOST, 1, SDP, SILENT_TICKS - 1)


def test_the_described_address_wins_whenever_it_sends() -> None:
    assert Latch(SDP, SIGNALLING[0], "host").admits(SDP, 1, SAME_HOST, 0)
