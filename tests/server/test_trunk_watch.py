"""A whole server that pings its trunk: the log, the metric, and where calls go first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from twisted.internet.protocol import DatagramProtocol

from agentstream.sip.uri import parse_uri
from agentstream.testing.server import ServerUnderTest
from agentstream.testing.sip_peer import SipPeer, read
from tests.server.kit import bot_flow
from tests.sip.kit import SDP

ONE, TWO = "127.0.0.7", "127.0.0.8"
TRUNK = {"name": "carrier", "address": ["127.0.0.0/28"], "server": "sip:carrier.example:5060", "ping_s": 30.0}


class Server(DatagramProtocol):
    """Answers OPTIONS with its status, and nothing else; 0 is silent."""

    def __init__(self, reactor: Any, host: str) -> None:
        self.status = 200
        self.methods: list[str] = []
        self.port = reactor.listenUDP(5060, self, interface=host)

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        request = read(datagram)
        if request.method:
            self.methods.append(request.method)
        if request.method == "OPTIONS" and self.status:
            self.port.write(SipPeer().respond(datagram, self.status), addr)


def names(server: ServerUnderTest, *hosts: str) -> None:
    """What carrier.example leads to."""
    server.service.edge.outbound.locator._names = lambda _name: hosts


def said(server: ServerUnderTest) -> list[str]:
    return [line for line in server.log if "trunk carrier:" in line]


@pytest.mark.rfc(3263)
def test_a_server_that_is_down_is_said_and_called_last() -> None:
    with ServerUnderTest(bot_flow(), {"trunk": [TRUNK]}) as server:
        one, two = Server(server.reactor, ONE), Server(server.reactor, TWO)
        names(server, ONE, TWO)
        watch = server.service.trunk_watch
        assert watch.states() == {}
        server.advance(6)
        assert watch.states() == {"carrier": True}
        one.status = 0
        server.advance(60)
        assert watch.states() == {"carrier": True}
        assert ["is down (no answer to OPTIONS)" in line for line in said(server)] == [False, False, True]
        uri, edge = parse_uri("sip:1@carrier.example"), server.service.edge
        # The penalty of one failed call would be over by now.
        server.advance(1000)
        sessions: list[Any] = []
        call = edge.outbound.call(uri, from_uri=uri, to_uri=uri, sdp=SDP, via=parse_uri("sip:carrier.example:5060"))
        call.addCallback(sessions.append)
        server.advance(0.1)
        assert ("INVITE" in one.methods, "INVITE" in two.methods) == (False, True)
        edge.hang_up(sessions[0])
        two.status = 503
        server.advance(40)
        assert watch.states() == {"carrier": False}
        assert said(server)[-1].count("and no other server of the trunk is up") == 1
        assert len(said(server)) == 4
        one.status = 405
        server.advance(40)
        assert watch.states() == {"carrier": True}
        for each in (one, two):
            each.port.stopListening()


def test_a_reload_and_the_end_stop_it() -> None:
    with ServerUnderTest(bot_flow(), {"trunk": [TRUNK]}) as server:
        one = Server(server.reactor, ONE)
        names(server, ONE)
        one.status = 503
        server.advance(6)
        assert server.service.trunk_watch.states() == {"carrier": False}
        assert server.left() == []
        file = Path(server.loaded.file)
        text = file.read_text()
        file.write_text(text.replace("30.0", "0.0"))
        assert file.read_text() != text
        server.service.reload()
        assert server.service.trunk_watch.states() == {}
        asked = len(one.methods)
        server.advance(100)
        assert len(one.methods) == asked
        one.port.stopListening()
