"""RTCP with baresip: tshark reads what the server sends, and the server what baresip does."""

from __future__ import annotations

import re
import socket
from pathlib import Path

import pytest

from agentstream.cli.server import HOST, options_request
from tests.interop.peers import report
from tests.interop.peers.baresip import baresip
from tests.interop.peers.captures import Capture, tshark_rtcp
from tests.interop.peers.house import House

pytestmark = [pytest.mark.peers("baresip", "tcpdump", "tshark"), pytest.mark.slow]

SR, SDES, BYE = 200, 202, 203


def answered(port: int) -> None:
    """The server at this port of ours answers OPTIONS."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.bind((HOST, 0))
        asking.settimeout(5)
        asking.sendto(options_request(port, asking.getsockname()[1]), (HOST, port))
        assert asking.recv(4096).startswith(b"SIP/2.0 ")


@pytest.mark.rfc(3550)
@pytest.mark.parametrize("is_muxed", [False, True], ids=["next port", "one port"])
def test_reports_both_ways(house: House, speech: dict[str, Path], tmp_path: Path, is_muxed: bool) -> None:
    """A call of 12 s: every RTCP packet is sound, and the call's record has what baresip reported."""
    first, last = house.server.first_port, house.server.last_port
    before = len(house.server.program.lines)
    more = "rtcp_mux yes\n" if is_muxed else ""
    with (
        baresip(tmp_path / "phone", speech["instruct"], more=more) as phone,
        Capture(tmp_path, first, last) as capture,
    ):
        phone.dial(house.server.uri("1000"))
        phone.wait_for("CALL_ESTABLISHED")
        phone.pass_time(12.0)
        phone.hang_up()
        phone.wait_for("CALL_CLOSED")
        house.server.program.wait_for("leg_ended", after=before)
        # The record is written before the leg's media says goodbye: what is answered next is answered behind both.
        answered(house.server.sip_port)
        capture.datagrams()
    found = tshark_rtcp(capture.path, first, last)
    ours = [packet for packet in found if first <= packet.source_port <= last]
    theirs = [packet for packet in found if first <= packet.destination_port <= last]
    assert all(packet.is_sound for packet in ours), ours
    assert {packet.types for packet in ours} == {(SR, SDES), (SR, SDES, BYE)}
    assert all(packet.source_port % 2 == (0 if is_muxed else 1) for packet in ours)
    assert sum(sum(packet.lost) for packet in ours) == 0
    assert theirs, "baresip sent reports"
    assert all(packet.destination_port == ours[0].source_port for packet in theirs)
    ended = next(line for line in house.server.program.lines[before:] if "leg_ended" in line)
    round_trip = re.search(r"rtp_round_trip_ms\W+([\d.]+)", ended)
    heard = re.search(r"rtp_mos_heard\W+([\d.]+)", ended)
    remote = re.search(r"rtp_mos_remote\W+([\d.]+)", ended)
    assert round_trip is not None, ended
    assert heard is not None, ended
    assert remote is not None, ended
    assert float(round_trip[1]) < 60
    assert float(heard[1]) > 4.0
    where = "one port" if is_muxed else "two ports"
    report.figure(
        f"RTCP with baresip, {where}: {len(ours)} sound packets sent, {len(theirs)} read, round trip"
        f" {round_trip[1]} ms, MOS {heard[1]} here and {remote[1]} there"
    )
    report.calls_completed("baresip", report.version_of("baresip"))
