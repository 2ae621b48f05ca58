"""How long a call takes to leave a dead server for the next one: real sockets and the real clock."""

from __future__ import annotations

import socket
import sys
import time
from contextlib import closing
from typing import Any

import pytest

from agentstream.net.edge import SipEdge
from agentstream.net.resolve import Locator
from agentstream.sip.uri import parse_uri
from agentstream.testing.sip_peer import SipPeer, read
from tests.interop.peers import report
from tests.interop.peers.programs import free_udp_block
from tests.net.test_net_udp import Heard, reactor, run, stop
from tests.sip.kit import SDP

__all__ = ["reactor"]

# Five seconds of silence are five seconds.
pytestmark = [
    pytest.mark.rfc(3263),
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="127.0.0.2 is an address of every Linux machine"),
]

DEAD, ALIVE = "127.0.0.2", "127.0.0.3"


@pytest.mark.parametrize(
    ("first", "transport", "least_s", "most_s"),
    [
        ("nobody listens", "udp", 0.0, 1.0),
        ("nobody listens", "tcp", 0.0, 1.0),
        ("it says nothing", "udp", 5.0, 6.0),
        ("it says nothing and pings have told so", "udp", 0.0, 1.0),
    ],
)
def test_the_second_server_of_a_trunk(reactor: Any, first: str, transport: str, least_s: float, most_s: float) -> None:
    edge = SipEdge(reactor, [f"{one}:0:interface=127.0.0.1" for one in ("udp", "tcp")], on_event=lambda _event: None)
    edge.start()
    edge.outbound.locator = Locator(reactor, object(), lambda _name: (DEAD, ALIVE))
    port = free_udp_block(2)
    there = Heard()
    alive = reactor.listenUDP(port, there, interface=ALIVE)
    uri = parse_uri(f"sip:carrier.example:{port};transport={transport}")
    if transport == "tcp":
        # What is refused by TCP goes to another address by TCP, too: there it is a stream.
        from twisted.internet.protocol import Factory, Protocol

        class Stream(Protocol):
            def dataReceived(self, data: bytes) -> None:
                there.datagrams.append(data)

        listening = reactor.listenTCP(port, Factory.forProtocol(Stream), interface=ALIVE)
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as black_hole:
        if first != "nobody listens":
            black_hole.bind((DEAD, port))
        if "pings" in first:
            edge.outbound.is_down(edge.hop_to(DEAD, port, transport))
        begun = time.monotonic()
        edge.outbound.call(uri, from_uri=uri, to_uri=uri, sdp=SDP)
        run(reactor, lambda: there.datagrams, most_s + 2)
        took_s = time.monotonic() - begun
    assert read(there.datagrams[0]).method == "INVITE"
    assert least_s - 0.1 <= took_s < most_s
    if transport == "udp":
        where = ("127.0.0.1", edge.listeners[0].port)
        alive.write(SipPeer().respond(there.datagrams[0], 486), where)
        run(reactor, lambda: b"ACK " in there.datagrams[-1][:4])
        stop(reactor, edge, alive)
    else:
        stop(reactor, edge, alive, listening)
    report.figure(f"failover by {transport} where {first}: the second server is asked after {took_s * 1000:.0f} ms")
