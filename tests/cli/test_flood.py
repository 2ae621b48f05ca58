"""A flood of RTP into one call's port, with a real server and real sockets: what the other calls notice of it."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from agentstream.cli.bench.fleet import Fleet
from agentstream.cli.bench.scrape import scrape
from agentstream.cli.bench.variants import Variant
from agentstream.cli.children import children
from agentstream.cli.server import HOST
from agentstream.rtp.packet import Packet

CALLS = 10
A_SECOND = 2000
SLOT_S = 0.02
SETTLED_S = 2.5
"""Two rounds of the housekeeping that connects a row's socket to its source."""

GRID_MS = 5.0


class Flood:
    """Packets of somebody else, in bursts of one slot's worth."""

    def __init__(self, sock: socket.socket, port: int) -> None:
        self._sock = sock
        self._to = (HOST, port)
        self.sent = 0

    def send(self, at_s: float) -> None:
        """As many as should have been sent until now."""
        while self.sent < A_SECOND * at_s:
            packet = Packet(0, self.sent & 0xFFFF, 160 * self.sent & 0xFFFFFFFF, 0xF100D, bytes([0x20]) * 160)
            self._sock.sendto(packet.serialise(), self._to)
            self.sent += 1


def rtp_ports(pid: int) -> list[int]:
    """The UDP ports of a process, without SIP's: the even ones that have the next one, too."""
    links = (os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir())
    inodes = {link[len("socket:[") : -1] for link in links if link.startswith("socket:[")}
    lines = [line.split() for line in Path("/proc/net/udp").read_text().splitlines()[1:]]
    ports = {int(line[1].partition(":")[2], 16) for line in lines if line[9] in inodes}
    return sorted(port for port in ports if port % 2 == 0 and port + 1 in ports)


@pytest.mark.slow  # a server, its bot and ten callers for ten seconds of real time
@pytest.mark.skipif(sys.platform != "linux", reason="the bench reads Linux's /proc")
def test_two_thousand_packets_a_second_into_one_port(tmp_path: Path) -> None:
    with children() as family, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((HOST, 0))
        fleet = Fleet.start(family, tmp_path, Console(quiet=True), Variant(playout_ms=200), CALLS)
        fleet.place("echo", CALLS)
        fleet.rest(SETTLED_S)
        calm = fleet.steady(CALLS, 2.0).steady
        flood = Flood(sock, rtp_ports(fleet.server.pid)[0])
        flooded = fleet.steady(CALLS, 4.0, every_s=SLOT_S, sample=flood.send).steady
        said = scrape(fleet.http_port)
        fleet.finish()
    assert flood.sent > A_SECOND * 3
    counted = sum(said.values[f"agentstream_rtp_{name}_total"] for name in ("foreign", "discarded"))
    assert counted == flood.sent, "each is counted, heard by nobody"
    # Not even the call whose port it is loses a frame: its socket is connected to its source.
    assert (flooded.frames_lost, flooded.frames_foreign) == (0, 0)
    calm_ms, flooded_ms = (float(np.percentile(each.egress_ms, 99)) for each in (calm, flooded))
    assert flooded_ms <= calm_ms + GRID_MS
