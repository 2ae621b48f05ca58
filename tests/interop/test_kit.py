"""The readers and measures that the other tests here rely on find what they should, and miss what is not there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.interop.peers.captures import read_pcap, rtp_packets, streams, write_rtp_pcap
from tests.interop.peers.signals import LINEAR, Run, comparable, correlation, encode, linear, matching_runs

NOISE = np.random.default_rng(7)


def some_speech(samples: int) -> bytes:
    """G.711 bytes that are nowhere the same twice."""
    return encode(NOISE.normal(0, 3000, samples), 0)


def test_pcap_written_is_read(tmp_path: Path) -> None:
    payloads = [some_speech(160) for _ in range(5)]
    write_rtp_pcap(tmp_path / "x.pcap", payloads, payload_type=0)
    (stream,) = streams(rtp_packets(read_pcap(tmp_path / "x.pcap")))
    assert [packet.payload for packet in stream.packets] == payloads
    assert [packet.timestamp for packet in stream.packets] == [0, 160, 320, 480, 640]
    assert stream.packets[1].time_s == pytest.approx(0.02)
    assert stream.missing == 0
    assert (stream.source, stream.destination) == (("127.0.0.1", 7000), ("127.0.0.1", 7002))


def test_a_file_that_is_no_pcap_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(bytes(100))
    with pytest.raises(ValueError, match="not a pcap file"):
        list(read_pcap(tmp_path / "x"))


@pytest.mark.parametrize("payload_type", [0, 8])
def test_g711_codes_are_their_own_nearest_values(payload_type: int) -> None:
    codes = comparable(bytes(range(256)), payload_type)
    assert comparable(encode(LINEAR[payload_type], payload_type), payload_type) == codes
    assert linear(bytes([0x80]), 0)[0] == 32124
    assert linear(bytes([0xAA]), 8)[0] == 32256


def test_an_unchanged_echo_is_one_run() -> None:
    sent = some_speech(8000)
    assert matching_runs(sent, b"\xff" * 1234 + sent + b"\xff" * 99) == [Run(0, 1234, 8000)]


def test_a_gap_and_a_changed_byte_are_found() -> None:
    sent = some_speech(8000)
    changed = bytearray(sent)
    changed[6000] ^= 1
    heard = bytes(500) + bytes(changed[:3000]) + b"\xff" * 160 + bytes(changed[3000:])
    assert matching_runs(sent, heard) == [Run(0, 500, 3000), Run(3000, 3660, 3000), Run(6001, 6661, 1999)]


def test_another_call_is_no_echo() -> None:
    sent, other = some_speech(8000), some_speech(8000)
    assert matching_runs(sent, other) == []
    assert correlation(linear(sent, 0), linear(other, 0)) < 0.1
    assert correlation(linear(sent, 0), linear(b"\xff" * 700 + sent, 0)) == pytest.approx(1)
