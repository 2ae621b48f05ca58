"""The callers' sound: matrices that leave and come in through sockets of this machine."""

from __future__ import annotations

import socket
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pylibsrtp import Policy, Session

from agentstream.cli.bench import frames
from agentstream.cli.bench.callers import JITTER_S, KINDS, RECEIVED, SENT, SHARED, TICK_S, Callers
from agentstream.cli.bench.notes import Notes, read
from agentstream.sdp import Keys

HOST = "127.0.0.1"
CM_80 = "AES_CM_128_HMAC_SHA1_80"
SPEECH = np.arange(50, dtype=np.uint8)[:, None] | np.full((1, 160), 0x80, np.uint8)
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="sendmmsg and recvmmsg")


@pytest.fixture
def notes(tmp_path: Path) -> Iterator[Notes]:
    notes = Notes(*KINDS)
    notes.open(str(tmp_path / "load"))
    yield notes
    notes.close()


@pytest.fixture
def callers(notes: Notes) -> Iterator[Callers]:
    callers = Callers(HOST, 2 * SHARED, SPEECH, np.random.default_rng(1), notes)
    yield callers
    callers.close()


@pytest.fixture
def server() -> Iterator[list[socket.socket]]:
    """One leg's port for each of three calls, on rows that share a port and on one that does not."""
    legs = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(3)]
    for leg in legs:
        leg.bind((HOST, 0))
        leg.settimeout(5)
    yield legs
    for leg in legs:
        leg.close()


ROWS = (0, 1, SHARED)


def begin(callers: Callers, server: list[socket.socket]) -> None:
    for row, leg in zip(ROWS, server, strict=True):
        callers.begin(row, row, HOST, leg.getsockname()[1], 100.005)


def take(leg: socket.socket) -> tuple[tuple[int, ...], bytes]:
    data = leg.recv(2048)
    assert len(data) == 172
    return struct.unpack("!BBHII", data[:12]), data[12:]


def test_each_caller_sends_its_own_stream_on_its_own_grid(
    callers: Callers, server: list[socket.socket], notes: Notes, tmp_path: Path
) -> None:
    begin(callers, server)
    assert callers.deadline == pytest.approx(100.02)
    callers.send_due(100.021)
    first = [take(leg) for leg in (server[0], server[1])]
    with pytest.raises(BlockingIOError):
        server[2].setblocking(False)
        server[2].recv(10)  # its phase is half of 20 ms later
    assert [payload for _, payload in first] == [SPEECH[0].tobytes(), SPEECH[37].tobytes()]
    callers.is_numbering = True
    assert callers.deadline == pytest.approx(100.03, abs=1e-4)
    callers.send_due(100.02 + 2 * TICK_S + JITTER_S)
    server[2].setblocking(True)
    for row, leg, (header, _) in zip(ROWS[:2], server[:2], first, strict=True):
        then, payload = take(leg)
        assert then[:2] == (0x80, 0) and then[4] == header[4]
        assert ((then[2] - header[2]) % (1 << 16), (then[3] - header[3]) % (1 << 32)) == (1, 160)
        assert payload[:8] == frames.code_of(row, 0)
    notes.close()
    sent = read(tmp_path / "load", "sent", SENT)
    assert sorted(zip(sent["call"].tolist(), sent["frame"].tolist(), strict=True)) == [(0, 0), (1, 0), (SHARED, 0)]
    assert callers.refused == 0 and callers.latest_s > 0


def test_packets_are_noted_for_the_call_whose_leg_sent_them(
    callers: Callers, server: list[socket.socket], notes: Notes, tmp_path: Path
) -> None:
    begin(callers, server)
    payload = frames.code_of(9, 4) + bytes((0xFF,)) * 152
    for number, (row, leg) in enumerate(zip(ROWS, server, strict=True)):
        packet = struct.pack("!BBHII", 0x80, 0, 65535 - number, 0xFFFFFF00 + number, 1) + payload
        leg.sendto(packet, (HOST, callers.port(row)))
        leg.sendto(packet[:50], (HOST, callers.port(row)))
    for sock in callers.socks:
        callers.hear(sock)
        callers.hear(sock)  # nothing waits any more
    notes.close()
    noted = read(tmp_path / "load", "received", RECEIVED)
    assert noted["call"].tolist() == list(ROWS)
    assert noted["number"].tolist() == [65535, 65534, 65533]
    assert noted["timestamp"].tolist() == [0xFFFFFF00, 0xFFFFFF01, 0xFFFFFF02]
    assert {bytes(codes[0]) for codes in noted["codes"]} == {frames.code_of(9, 4)}
    assert {bytes(codes[1]) for codes in noted["codes"]} == {b"\xff" * 8}
    assert (np.diff(noted["at_ns"].astype(np.int64)) < 5_000_000_000).all()
    assert callers.packets_of[list(ROWS)].tolist() == [1, 1, 1]


def test_a_call_that_is_over_neither_sends_nor_hears(callers: Callers, server: list[socket.socket]) -> None:
    begin(callers, server)
    for row in ROWS:
        callers.end(row)
    assert callers.deadline == np.inf
    server[0].sendto(bytes(172), (HOST, callers.port(0)))
    callers.hear(callers.socks[0])
    assert callers.packets_of.sum() == 0


def test_callers_with_keys_send_and_read_srtp(notes: Notes, server: list[socket.socket], tmp_path: Path) -> None:
    callers = Callers(HOST, 2 * SHARED, SPEECH, np.random.default_rng(1), notes, suite=CM_80)
    ours, theirs = bytes(range(30)), bytes(range(30, 60))
    for row, leg in zip(ROWS, server, strict=True):
        callers.begin(row, row, HOST, leg.getsockname()[1], 100.005, Keys(CM_80, ours, theirs))
    callers.send_due(100.021)
    reader = Session(Policy(key=ours, ssrc_type=Policy.SSRC_ANY_INBOUND))
    for at, leg in ((0, server[0]), (37, server[1])):
        assert reader.unprotect(leg.recv(2048))[12:] == SPEECH[at].tobytes()
    payload = frames.code_of(9, 4) + bytes((0xFF,)) * 152
    packet = Session(Policy(key=theirs, ssrc_type=Policy.SSRC_ANY_OUTBOUND)).protect(
        struct.pack("!BBHII", 0x80, 0, 5, 7, 1) + payload
    )
    for row, leg in zip(ROWS, server, strict=True):
        leg.sendto(packet if row else packet[:-1] + b"?", (HOST, callers.port(row)))
    for sock in callers.socks:
        callers.hear(sock)
    notes.close()
    noted = read(tmp_path / "load", "received", RECEIVED)
    assert noted["call"].tolist() == list(ROWS[1:])
    assert {bytes(codes[0]) for codes in noted["codes"]} == {frames.code_of(9, 4)}
    callers.close()
