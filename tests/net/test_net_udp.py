"""A UDP port of the system's that hears of ICMP: real sockets, and a reactor of the test's own."""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from twisted.internet.protocol import DatagramProtocol

from agentstream.net.edge import SipEdge
from agentstream.net.udp import EXTENDED_ERROR, TellingPort, is_unreachable, listen_udp
from agentstream.sip.events import InviteRefused
from agentstream.sip.uri import parse_uri
from agentstream.testing.sip_peer import SipPeer, read
from tests.sip.kit import SDP

pytestmark = [pytest.mark.rfc(3261), pytest.mark.skipif(sys.platform != "linux", reason="IP_RECVERR is Linux's")]


@pytest.fixture
def reactor() -> Iterator[Any]:
    from twisted.internet.epollreactor import EPollReactor

    made: Any = EPollReactor()
    made.seconds = time.monotonic
    yield made
    for one in made.removeAll():
        one.connectionLost(None)
    for one in list(made._internalReaders):
        one.connectionLost(None)


def run(reactor: Any, until: Callable[[], object], within_s: float = 5.0) -> None:
    deadline = time.monotonic() + within_s
    while not until():
        assert time.monotonic() < deadline, "it did not happen in time"
        reactor.iterate(0.01)


def nobody(host: str = "127.0.0.1") -> int:
    """A port that nobody listens on."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


class Heard(DatagramProtocol):
    def __init__(self) -> None:
        self.datagrams: list[bytes] = []

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        self.datagrams.append(datagram)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_it_says_whom_nobody_reaches_and_goes_on(reactor: Any, host: str) -> None:
    refused: list[tuple[str, int]] = []
    heard, other = Heard(), Heard()
    port = listen_udp(reactor, 0, heard, host, lambda *where: refused.append(where))
    assert isinstance(port, TellingPort)
    there = reactor.listenUDP(0, other, interface=host)
    dead = nobody(host)
    for number in range(3):
        port.write(b"to nobody", (host, dead))
        # The error of that waits for the next call of the socket, which is for somebody else.
        port.write(b"%d" % number, (host, there.getHost().port))
    run(reactor, lambda: len(other.datagrams) == 3 and len(refused) >= 3)
    assert other.datagrams == [b"0", b"1", b"2"]
    assert set(refused) == {(host, dead)}
    there.write(b"back", (host, port.getHost().port))
    run(reactor, lambda: heard.datagrams == [b"back"])
    # An error with nothing to read beside it is what the reactor takes for the end of a socket.
    refused.clear()
    port.write(b"to nobody", (host, dead))
    run(reactor, lambda: refused)
    there.write(b"again", (host, port.getHost().port))
    run(reactor, lambda: heard.datagrams[1:] == [b"again"])
    closed = [port.stopListening(), there.stopListening()]
    run(reactor, lambda: all(one.called for one in closed))


SAYS_SO = [(2, 3, 3), (2, 3, 1), (3, 1, 4)]
SAYS_SOMETHING_ELSE = [(2, 3, 4), (2, 11, 0), (3, 3, 0), (3, 2, 0), (1, 3, 3)]


@pytest.mark.parametrize(("origin", "kind", "code"), [*SAYS_SO, *SAYS_SOMETHING_ELSE])
def test_what_icmp_says(origin: int, kind: int, code: int) -> None:
    told = is_unreachable(EXTENDED_ERROR.pack(111, origin, kind, code, 0, 0))
    assert told is ((origin, kind, code) in SAYS_SO)


def edge_of(reactor: Any, events: list[Any]) -> SipEdge:
    edge = SipEdge(reactor, ["udp:0:interface=127.0.0.1"], on_event=events.append)
    edge.start()
    return edge


def stop(reactor: Any, edge: SipEdge, *ports: Any) -> None:
    closed = [edge.stop(), *(port.stopListening() for port in ports)]
    run(reactor, lambda: all(one.called for one in closed))


@pytest.mark.rfc(3263)
def test_a_call_goes_on_at_once_where_nobody_listens(reactor: Any) -> None:
    """Section 18.4: "Host, network, port or protocol unreachable errors ... SHOULD cause the transport layer to inform
    the transport user of a failure in sending"."""
    events: list[Any] = []
    edge, there = edge_of(reactor, events), Heard()
    port = reactor.listenUDP(0, there, interface="127.0.0.1")
    uri = parse_uri("sip:1@127.0.0.1")
    ways = [edge.hop_to("127.0.0.1", at, "udp") for at in (nobody(), port.getHost().port)]
    begun = time.monotonic()
    session = edge.invite_by(ways, uri, from_uri=uri, to_uri=uri, sdp=SDP)
    run(reactor, lambda: there.datagrams)
    assert time.monotonic() - begun < 1.0
    assert read(there.datagrams[0]).method == "INVITE"
    target = edge.outbound.penalties
    assert len(target) == 1
    port.write(SipPeer().respond(there.datagrams[0], 486), ("127.0.0.1", edge.listeners[0].port))
    run(reactor, lambda: events)
    assert events == [InviteRefused(session, 486, events[0].reason)]
    stop(reactor, edge, port)


@pytest.mark.rfc(3263)
def test_a_call_to_nobody_is_over_at_once(reactor: Any) -> None:
    events: list[Any] = []
    edge = edge_of(reactor, events)
    uri = parse_uri("sip:1@127.0.0.1")
    edge.invite(uri, from_uri=uri, to_uri=uri, sdp=SDP, host="127.0.0.1", port=nobody())
    run(reactor, lambda: events, 1.0)
    assert events[0].reason == "503 the peer cannot be reached"
    stop(reactor, edge)
