"""A whole server that registers at its trunk: at start, again in time, after a reload, and no more at its end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from twisted.internet.protocol import DatagramProtocol
from twisted.names import dns

from agentstream.sip.digest import DigestServer, parse_answer
from agentstream.testing.server import ServerUnderTest
from agentstream.testing.sip_peer import Received, SipPeer, read
from tests.net.test_net_outbound import Zone
from tests.server.kit import bot_flow

TRUNK = {
    "name": "carrier",
    "address": ["127.0.0.7"],
    "user": "us",
    "password": "very-secret",
    "register_at": ["sip:127.0.0.7:5060"],
}


class Registrar(DatagramProtocol):
    """Asks for credentials, and grants two minutes."""

    def __init__(self, reactor: Any, host: str = "127.0.0.7") -> None:
        numbers = iter(range(1000))
        self.digest = DigestServer("carrier", lambda: f"r{next(numbers)}")
        self.reactor = reactor
        self.requests: list[tuple[float, Received]] = []
        self.port = reactor.listenUDP(5060, self, interface=host)

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        request, now = read(datagram), self.reactor.seconds()
        self.requests.append((now, request))
        proof = request.header("authorization")
        if proof and self.digest.verify(parse_answer(proof), "very-secret", "REGISTER", now) == "good":
            granted = min(120, int(request.header("expires")))
            status, headers = 200, f"Contact: {request.header('contact')};expires={granted}\r\n" if granted else ""
        else:
            status = 401
            headers = "".join(f"WWW-Authenticate: {value}\r\n" for value in self.digest.challenges(now))
        answer = SipPeer().respond(datagram, status, headers=headers)
        lines = [line for line in answer.split(b"\r\n") if b"<sip:alice@" not in line]
        self.port.write(b"\r\n".join(lines), addr)

    def asked(self) -> list[tuple[str, bool]]:
        """(Expires, with credentials) of each REGISTER."""
        return [(one.header("expires"), bool(one.header("authorization"))) for _at, one in self.requests]


@pytest.mark.rfc(3261)
def test_from_start_to_end() -> None:
    server = ServerUnderTest(bot_flow(), {"trunk": [TRUNK]})
    registrar = Registrar(server.reactor)
    with server:
        server.advance(0.1)
        assert registrar.asked() == [("3600", False), ("3600", True)]
        assert server.service.registrations.states() == {"carrier": True}
        assert registrar.requests[0][1].header("to") == "<sip:us@127.0.0.7>"
        server.advance(65)
        assert len(registrar.requests) > 2
        assert any("registration of trunk carrier at 127.0.0.7:5060 is registered" in line for line in server.log)
        assert "very-secret" not in "\n".join(server.log)
        registrar.requests.clear()
    assert registrar.asked()[0] == ("0", True) or registrar.asked()[:2] == [("0", False), ("0", True)]
    registrar.port.stopListening()


def test_a_registrar_that_is_not_there_is_said_and_tried_again() -> None:
    with ServerUnderTest(bot_flow(), {"trunk": [TRUNK]}) as server:
        server.advance(40)
        assert server.service.registrations.states() == {"carrier": False}
        assert any("registration of trunk carrier" in line and "is failed" in line for line in server.log), server.log
        registrar = Registrar(server.reactor)
        server.advance(40)
        assert server.service.registrations.states() == {"carrier": True}
    registrar.port.stopListening()


def test_a_reload_takes_back_what_is_wanted_no_more() -> None:
    server = ServerUnderTest(bot_flow(), {"trunk": [TRUNK]})
    registrar = Registrar(server.reactor)
    with server:
        server.advance(0.1)
        registrar.requests.clear()
        server.service.reload()
        server.advance(0.1)
        assert registrar.requests == []
        file = Path(server.loaded.file)
        text = file.read_text()
        file.write_text(text.replace("sip:127.0.0.7:5060", "sip:127.0.0.8:5060"))
        assert file.read_text() != text
        other = Registrar(server.reactor, "127.0.0.8")
        server.service.reload()
        server.advance(0.1)
        assert {expires for expires, _ in registrar.asked()} == {"0"}
        assert other.asked()[-1] == ("3600", True)
    for one in (registrar, other):
        one.port.stopListening()


@pytest.mark.rfc(3263)
def test_a_registrar_has_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is looked up again for each refresh, when what is known of it is too old."""
    key = ("A", "registrar.example")
    zone = Zone({key: [dns.Record_A("127.0.0.7", ttl=40)]})
    monkeypatch.setattr("agentstream.net.resolve.system_resolver", lambda _reactor: zone)
    trunk = {**TRUNK, "register_at": ["sip:registrar.example:5060"]}
    server = ServerUnderTest(bot_flow(), {"trunk": [trunk]})
    one, two = Registrar(server.reactor), Registrar(server.reactor, "127.0.0.8")
    with server:
        server.advance(0.1)
        assert one.asked() == [("3600", False), ("3600", True)]
        assert one.requests[0][1].header("to") == "<sip:us@registrar.example>"
        assert server.service.registrations.states() == {"carrier": True}
        assert zone.asked.count(key) == 1
        zone.records[key] = [dns.Record_A("127.0.0.8", ttl=40)]
        server.advance(65)
        assert zone.asked.count(key) == 2
        assert two.asked()[-1] == ("3600", True)
        assert len(one.asked()) == 2
    for each in (one, two):
        each.port.stopListening()
