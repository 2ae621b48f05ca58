"""RTP of a third party into a live call, over real sockets: neither the bot nor the caller hears a sample of it."""

from __future__ import annotations

import itertools
import re
import select
import socket
import struct
import time
from pathlib import Path

import pytest

from agentstream.testing.sip_peer import SipPeer, read
from tests.interop.peers.server import Server, bot_flow, echo_bot, server

# A call takes seconds, and programs take time to start.
pytestmark = pytest.mark.slow

OURS, THEIRS = 0x2A, 0xA5
"""One level of mu-law each, below zero and above it: no fade and no concealment leads from one to the other."""


def bound(host: str) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((host, 0))
    sock.setblocking(False)
    return sock


def answer_of(sip: socket.socket, peer: SipPeer, within_s: float = 5.0) -> bytes:
    """The body of the 200, acknowledged."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        try:
            data = sip.recv(65536)
        except BlockingIOError:
            select.select([sip], [], [], 0.1)
            continue
        response = peer.take(data)
        if response.status == 200:
            return response.body
        assert response.status < 300, response.first
    raise AssertionError("no answer came")


def drained(sock: socket.socket) -> list[bytes]:
    found = []
    while True:
        try:
            found.append(sock.recv(2048))
        except BlockingIOError:
            return found


@pytest.mark.parametrize("nat", ["strict", "host"])
def test_nobody_hears_it(tmp_path: Path, nat: str) -> None:
    trunk = f'[[trunk]]\nname = "us"\naddress = ["127.0.0.2"]\nnat = "{nat}"\n'
    with echo_bot(tmp_path) as url, server(tmp_path, {"echo": bot_flow(url)}, [("1000", "echo")], more=trunk) as one:
        heard = talk(one)
        one.program.wait_for("leg_ended")
        (line,) = [line for line in one.program.lines if "leg_ended" in line]
    payload = b"".join(packet[12:] for packet in heard)
    assert payload.count(OURS) > 6000
    assert payload.count(THEIRS) == 0
    # 90 of each; what a server that was held up finds beyond some of each slot it throws away unread.
    refused = sum(int(count) for count in re.findall(r"rtp_(?:foreign|discarded)=(\d+)", line))
    assert refused > 250, line


def talk(one: Server) -> list[bytes]:
    """Two seconds of a call with three strangers in it: of another host, of another port of the caller's host, and one
    that goes on with the caller's own SSRC, numbers and times."""
    sip, rtp = bound("127.0.0.2"), bound("127.0.0.2")
    strangers = [bound("127.0.0.9"), bound("127.0.0.2"), bound("127.0.0.9")]
    try:
        host, port = sip.getsockname()
        peer = SipPeer(host, port, "caller", one.address)
        sdp = (
            f"v=0\r\no=- 1 1 IN IP4 {host}\r\ns=-\r\nc=IN IP4 {host}\r\nt=0 0\r\n"
            f"m=audio {rtp.getsockname()[1]} RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\na=ptime:20\r\n"
        ).encode()
        target = ("127.0.0.1", one.sip_port)
        sip.sendto(peer.invite(sdp), target)
        found = re.search(rb"m=audio (\d+) ", answer_of(sip, peer))
        assert found is not None
        sip.sendto(peer.ack(), target)
        there = ("127.0.0.1", int(found[1]))
        heard: list[bytes] = []
        began = time.monotonic()
        for number in itertools.count():
            at = began + number * 0.02
            if number == 100:
                break
            time.sleep(max(0.0, at - time.monotonic()))  # a caller's packets leave every 20 ms, and not before
            rtp.sendto(packet(0xCA11E5, number, OURS), there)
            if number >= 10:
                strangers[0].sendto(packet(0x57A4, number, THEIRS), there)
                strangers[1].sendto(packet(0x57A5, number, THEIRS), there)
                strangers[2].sendto(packet(0xCA11E5, number + 1, THEIRS), there)
            heard += drained(rtp)
        sip.sendto(peer.bye(), target)
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            if any(read(data).method == "BYE" for data in drained(sip)):
                return heard
            select.select([sip], [], [], 0.1)
        raise AssertionError("the BYE was not answered")
    finally:
        for sock in (sip, rtp, *strangers):
            sock.close()


def packet(ssrc: int, number: int, level: int) -> bytes:
    return struct.pack("!BBHII", 0x80, 0, number & 0xFFFF, number * 160, ssrc) + bytes([level]) * 160
