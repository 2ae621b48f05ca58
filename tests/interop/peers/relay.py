"""A relay between a phone and the server, as a process: what it is told to do to the caller's packets, it does.

    python -u relay.py PLAN.json

The plan has ``server`` (the server's SIP port on 127.0.0.1), ``lost`` (numbers of RTP packets of the caller's, from 0)
and ``delays_ms`` (milliseconds for each). SIP goes through with every address replaced, in the SDP, too, as by a router
that knows SIP: each side sees the relay and nothing of the other. RTP from the server passes at once, RTP from the
caller as the plan says. RTCP does not pass.

It prints one JSON object a line: ``listening`` with its SIP port, and ``rtp`` for each of the caller's packets, with
its sequence number, its payload and the second at which it went on (null: it was lost), which on a machine that has
other things to do may be later than planned. No code of the server's is in it.
"""

from __future__ import annotations

import heapq
import json
import re
import selectors
import socket
import struct
import sys
import time
from pathlib import Path
from typing import Any

HOST = "127.0.0.1"

Address = tuple[str, int]


def show(event: str, **fields: Any) -> None:
    """One line for the test."""
    print(json.dumps({"event": event, **fields}), flush=True)


def open_udp() -> socket.socket:
    """A socket on a port of its own."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((HOST, 0))
    sock.setblocking(False)
    return sock


def port_of(sock: socket.socket) -> int:
    return int(sock.getsockname()[1])


class Side:
    """The relay as one of the two sees it.

    :ivar peer: where that one's SIP is; ``media``: where it wants its RTP.
    """

    def __init__(self, peer: Address | None = None) -> None:
        self.sip = open_udp()
        self.rtp = open_udp()
        self.peer = peer
        self.media: Address | None = None


class Relay:
    """One call at a time."""

    def __init__(self, plan: dict[str, Any]) -> None:
        self.caller = Side()
        self.server = Side((HOST, plan["server"]))
        self.lost = frozenset(plan["lost"])
        self.delays_ms: list[float] = plan["delays_ms"]
        self.number = 0
        self.due: list[tuple[float, int, bytes]] = []

    def run(self) -> None:
        """Until somebody ends the process."""
        selector = selectors.DefaultSelector()
        for side in (self.caller, self.server):
            selector.register(side.sip, selectors.EVENT_READ, (self.pass_sip, side))
            selector.register(side.rtp, selectors.EVENT_READ, (self.pass_rtp, side))
        show("listening", port=port_of(self.caller.sip))
        while True:
            wait_s = max(0.0, self.due[0][0] - time.monotonic()) if self.due else None
            for key, _ in selector.select(wait_s):
                work, side = key.data
                work(side)
            self.send_due()

    def pass_sip(self, side: Side) -> None:
        """One SIP message from one side to the other."""
        data, source = side.sip.recvfrom(65536)
        if side is self.caller:
            side.peer = source
        other = self.server if side is self.caller else self.caller
        if side.peer is None or other.peer is None:
            return
        head, _, body = data.partition(b"\r\n\r\n")
        if body:
            media = re.search(rb"^m=audio (\d+)", body, re.MULTILINE)
            if media and int(media[1]):
                side.media = (HOST, int(media[1]))
                body = body.replace(media[0], b"m=audio %d" % port_of(other.rtp))
        # What this side calls itself is the relay for the other, and what it calls the relay is the other.
        names = {side.peer: (HOST, port_of(other.sip)), (HOST, port_of(side.sip)): other.peer}
        pattern = b"|".join(re.escape(b"%s:%d" % (host.encode(), port)) + rb"\b" for host, port in names)
        texts = {
            b"%s:%d" % (old[0].encode(), old[1]): b"%s:%d" % (new[0].encode(), new[1]) for old, new in names.items()
        }
        head = re.sub(pattern, lambda match: texts[match[0]], head)
        head = re.sub(rb"(?im)^(Content-Length|l)[ \t]*:[^\r\n]*", b"Content-Length: %d" % len(body), head)
        other.sip.sendto(head + b"\r\n\r\n" + body, other.peer)

    def pass_rtp(self, side: Side) -> None:
        """One RTP packet: the server's at once, the caller's when the plan says."""
        data = side.rtp.recv(4096)
        if side is self.server:
            if self.caller.media is not None:
                self.caller.rtp.sendto(data, self.caller.media)
            return
        number = self.number
        self.number += 1
        if number in self.lost:
            self.tell(data, None)
        else:
            late_s = self.delays_ms[number] / 1000 if number < len(self.delays_ms) else 0.0
            heapq.heappush(self.due, (time.monotonic() + late_s, number, data))

    def send_due(self) -> None:
        """What has waited for long enough."""
        while self.due and self.due[0][0] <= time.monotonic():
            _, _, data = heapq.heappop(self.due)
            assert self.server.media is not None
            self.server.rtp.sendto(data, self.server.media)
            self.tell(data, time.monotonic())

    def tell(self, packet: bytes, left_s: float | None) -> None:
        """What became of one packet."""
        (sequence,) = struct.unpack_from("!H", packet, 2)
        show("rtp", sequence=sequence, left_s=left_s, payload=packet[12:].hex())


if __name__ == "__main__":
    Relay(json.loads(Path(sys.argv[1]).read_text())).run()
