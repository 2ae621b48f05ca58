"""SIP over TLS on a reactor in memory: certificates on both sides, files that change, handshakes that fail."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509 import load_pem_x509_certificate
from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.internet.protocol import ClientFactory, Factory
from twisted.internet.ssl import (
    Certificate,
    CertificateOptions,
    TLSVersion,
    optionsForClientTLS,
    trustRootFromCertificates,
)
from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher
from twisted.protocols.tls import TLSMemoryBIOFactory
from zope.interface import implementer

from agentstream.errors import StartError
from agentstream.net.connections import ConnectionLimits
from agentstream.net.tls import TlsFiles
from agentstream.sip.events import AckReceived, InviteAnswered, InviteReceived, InviteRefused, SessionEnded
from agentstream.sip.uri import parse_uri
from agentstream.testing.sip_peer import SipPeer, read
from tests.certificates import Authority, Signed
from tests.conftest import LoggedFailures
from tests.net.test_net_tcp import House, Wire, tcp
from tests.sip.kit import SDP

US = ("127.0.0.1", 5061)
LISTEN = ("udp:5060:interface=127.0.0.1", "tcp:5060:interface=127.0.0.1", "tls:5061:interface=127.0.0.1")


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture
def files(tmp_path: Path, authority: Authority) -> TlsFiles:
    certificate, key = authority.sign("127.0.0.1", "sip.example.com").write(tmp_path)
    ca_file = tmp_path / "ca.pem"
    ca_file.write_bytes(authority.pem)
    return TlsFiles(certificate, key, ca_file)


class SecureHouse(House):
    """A house with TLS, and phones that speak it."""

    def __init__(self, files: TlsFiles, *listen: str, **more: Any) -> None:
        super().__init__(*(listen or LISTEN), tls=files, **more)

    def dial(
        self, authority: Authority, name: str = "127.0.0.1", client: Signed | None = None, most: Any = None
    ) -> Wire:
        """A phone that connects over TLS and wants to see this name."""
        more: dict[str, Any] = {}
        if client is not None:
            more["certificate"] = load_pem_x509_certificate(client.certificate)
            more["privateKey"] = load_pem_private_key(client.key, None)
        if most is not None:
            more["lowerMaximumSecurityTo"] = most
        trust = trustRootFromCertificates([Certificate.loadPEM(authority.pem)])
        options = optionsForClientTLS(name, trust, extraCertificateOptions=more)
        wire = Wire()
        inner = ClientFactory.forProtocol(lambda: wire)
        self.reactor.connectTCP(*US, TLSMemoryBIOFactory(options, True, inner, self.reactor))
        self.pass_time(0.01)
        return wire

    def serve(self, signed: Signed, port: int = 5090) -> None:
        """A peer that accepts TLS on 127.0.0.1."""
        accepted = self.accepted

        def accept() -> Wire:
            accepted.append(Wire())
            return accepted[-1]

        options = CertificateOptions(
            certificate=load_pem_x509_certificate(signed.certificate),
            privateKey=load_pem_private_key(signed.key, None),
        )
        factory = TLSMemoryBIOFactory(_Peer(options), False, Factory.forProtocol(accept), self.reactor)
        self.reactor.listenTCP(port, factory, interface="127.0.0.1")

    def invite(self, host: str = "127.0.0.1", **more: Any) -> Any:
        uri = parse_uri("sips:1000@127.0.0.1:5090")
        return self.edge.invite(uri, from_uri=uri, to_uri=uri, sdp=SDP, host=host, port=5090, transport="tls", **more)


@implementer(IOpenSSLServerConnectionCreator)
class _Peer:
    def __init__(self, options: CertificateOptions) -> None:
        self._context = options.getContext()

    def serverConnectionForTLS(self, protocol: Any) -> SSL.Connection:
        return SSL.Connection(self._context, None)


@pytest.fixture
def house(files: TlsFiles) -> Iterator[SecureHouse]:
    house = SecureHouse(files)
    yield house
    house.stop()


@pytest.fixture
def lines() -> Iterator[list[str]]:
    """What is logged."""
    found: list[str] = []

    def observe(event: LogEvent) -> None:
        found.append(formatEvent(event))

    observer: ILogObserver = observe  # type: ignore[assignment]
    globalLogPublisher.addObserver(observer)
    yield found
    globalLogPublisher.removeObserver(observer)


def tls(data: bytes) -> bytes:
    """The peer's request as it is sent over TLS."""
    return tcp(data).replace(b"SIP/2.0/TCP", b"SIP/2.0/TLS").replace(b"transport=tcp", b"transport=tls")


@pytest.mark.rfc(3261)
@pytest.mark.parametrize("most", [TLSVersion.TLSv1_2, TLSVersion.TLSv1_3])
def test_a_call_over_tls(house: SecureHouse, authority: Authority, most: Any) -> None:
    wire, peer = house.dial(authority, most=most), SipPeer()
    assert [read(one).status for one in house.send(wire, tls(peer.invite()))] == [100]
    session = house.event(InviteReceived).session
    assert session.remote.transport == "tls"
    house.edge.answer(session, SDP)
    house.pass_time(0.01)
    (ok,) = map(read, wire.take())
    assert ok.header("contact") == "<sip:127.0.0.1:5061;transport=tls>"
    peer.remote_tag = ok.header("to").partition("tag=")[2]
    house.send(wire, tls(peer.ack()))
    house.event(AckReceived)
    house.edge.hang_up(session)
    house.pass_time(0.01)
    # RFC 5923's purpose: what the phone opened serves both directions, and its Contact is not dialled.
    (bye,) = map(read, wire.take())
    assert bye.method == "BYE"
    assert bye.header("via").startswith("SIP/2.0/TLS 127.0.0.1:5061;branch=")
    house.event(SessionEnded)


@pytest.mark.rfc(3261)
def test_a_sips_uri_is_answered_with_one(house: SecureHouse, authority: Authority) -> None:
    """Section 12.1.1: the Contact of the answer is a sips URI, too."""
    wire, peer = house.dial(authority), SipPeer()
    house.send(wire, tls(peer.invite()).replace(b"INVITE sip:", b"INVITE sips:"))
    session = house.event(InviteReceived).session
    house.edge.answer(session, SDP)
    house.pass_time(0.01)
    (ok,) = map(read, wire.take())
    assert ok.header("contact") == "<sips:127.0.0.1:5061>"
    peer.remote_tag = ok.header("to").partition("tag=")[2]
    house.send(wire, tls(peer.ack()))
    house.edge.hang_up(session)
    house.pass_time(0.01)


def test_when_the_connection_is_gone_the_bye_opens_one_over_tls(house: SecureHouse, authority: Authority) -> None:
    house.serve(authority.sign("127.0.0.1"))
    wire, peer = house.dial(authority), SipPeer()
    house.send(wire, tls(peer.invite()))
    session = house.event(InviteReceived).session
    house.edge.answer(session, SDP)
    house.pass_time(0.01)
    peer.remote_tag = read(wire.take()[0]).header("to").partition("tag=")[2]
    house.send(wire, tls(peer.ack()))
    assert wire.transport is not None
    wire.transport.loseConnection()
    house.pass_time(0.1)
    house.edge.hang_up(session)
    house.pass_time(0.1)
    assert [read(one).method for one in house.accepted[0].take()] == ["BYE"]


@pytest.mark.rfc(3261)
def test_each_listener_says_what_it_advertises(files: TlsFiles) -> None:
    """Via and Contact of one listener say what its string does, those of another the address of its family."""
    listen = (
        "udp:5060:interface=127.0.0.1",
        "udp:5062:interface=127.0.0.1:advertise=198.51.100.9",
        "tls:5061:interface=127.0.0.1:advertise=sip.example.com",
    )
    house = SecureHouse(files, *listen, advertise="203.0.113.7")
    try:
        assert [(at.host, at.port) for at in house.edge.listeners] == [
            ("203.0.113.7", 5060),
            ("198.51.100.9", 5062),
            ("sip.example.com", 5061),
        ]
        house.serve(Authority().sign("127.0.0.1"))
        session = house.invite()
        sent = session.request.headers
        assert (sent.get("via") or "").startswith("SIP/2.0/TLS sip.example.com:5061;branch=")
        assert sent.get("contact") == "<sips:sip.example.com:5061>"
        house.pass_time(0.1)
    finally:
        house.stop()


class TestWhoConnectsToUs:
    @pytest.fixture
    def strict(self, files: TlsFiles, tmp_path: Path) -> Iterator[tuple[SecureHouse, Authority]]:
        """Whoever connects must show a certificate of another authority than our own."""
        clients = Authority("clients")
        (tmp_path / "clients.pem").write_bytes(clients.pem)
        assert files.certificate is not None
        house = SecureHouse(TlsFiles(files.certificate, files.key, files.ca_file, tmp_path / "clients.pem"))
        yield house, clients
        house.stop()

    def test_a_certificate_of_that_authority_lets_in(
        self, strict: tuple[SecureHouse, Authority], authority: Authority
    ) -> None:
        house, clients = strict
        wire = house.dial(authority, client=clients.sign("carrier.example"))
        assert [read(one).status for one in house.send(wire, tls(SipPeer().options()))] == [200]

    @pytest.mark.parametrize("shows", ["nothing", "another's"])
    def test_others_stay_out(
        self, strict: tuple[SecureHouse, Authority], authority: Authority, shows: str, lines: list[str]
    ) -> None:
        house, _ = strict
        wire = house.dial(authority, client=None if shows == "nothing" else authority.sign("carrier.example"))
        assert house.send(wire, tls(SipPeer().options())) == []
        assert wire.is_closed
        assert len(house.edge.connections) == 0
        assert house.edge.connections.counters["not secured"] == 1
        assert sum("a connection ended: TLS failed (" in line for line in lines) == 1


class TestWhomWeConnectTo:
    @pytest.mark.rfc(3261)
    def test_a_call_of_ours(self, house: SecureHouse, authority: Authority) -> None:
        house.serve(authority.sign("127.0.0.1"))
        house.invite()
        house.pass_time(0.1)
        (invite,) = house.accepted[0].take()
        assert read(invite).header("contact") == "<sips:127.0.0.1:5061>"
        house.send(house.accepted[0], SipPeer().respond(invite, 200, sdp=SDP))
        house.event(InviteAnswered)

    @pytest.mark.rfc(5922)
    def test_the_name_counts_and_not_the_address(self, house: SecureHouse, authority: Authority) -> None:
        house.serve(authority.sign("sbc.example.com"))
        house.invite(name="sbc.example.com")
        house.pass_time(0.1)
        assert [read(one).method for one in house.accepted[0].take()] == ["INVITE"]

    @pytest.mark.rfc(5922)
    @pytest.mark.parametrize(
        ("name", "signer", "sentence"),
        [
            ("other.example.com", "ours", "its certificate is for another name"),
            ("127.0.0.1", "nobody", "TLS failed (certificate verify failed)"),
        ],
    )
    def test_a_peer_that_is_somebody_else_gets_nothing(
        self, house: SecureHouse, authority: Authority, lines: list[str], name: str, signer: str, sentence: str
    ) -> None:
        house.serve((authority if signer == "ours" else Authority()).sign(name))
        house.invite()
        house.pass_time(0.1)
        refused = house.event(InviteRefused)
        assert (refused.status, refused.reason) == (503, "503 the peer cannot be reached")
        assert all(wire.data == b"" for wire in house.accepted)
        assert [line for line in lines if "no connection to port 5090" in line] == [
            f"127.0.0.1: no connection to port 5090: {sentence}"
        ]

    def test_one_that_speaks_no_tls(self, house: SecureHouse) -> None:
        house.listen()
        house.invite()
        house.pass_time(0.01)
        house.accepted[0].transport.write(b"SIP/2.0 400 Bad Request\r\n\r\n")
        house.pass_time(0.1)
        assert house.event(InviteRefused).status == 503

    def test_one_that_says_nothing_is_waited_for_so_long(self, house: SecureHouse) -> None:
        house.listen()
        house.invite()
        house.pass_time(4.9)
        assert house.events == []
        house.pass_time(2.0)
        assert house.event(InviteRefused).status == 503

    def test_a_stop_within_the_handshake(self, house: SecureHouse) -> None:
        house.listen()
        house.invite()
        house.pass_time(0.01)


class TestHandshakes:
    def test_whoever_says_nothing_is_cut_off(self, files: TlsFiles) -> None:
        house = SecureHouse(files, limits=ConnectionLimits(connect_s=3.0))
        wire = Wire()
        house.reactor.connectTCP(*US, ClientFactory.forProtocol(lambda: wire))
        house.pass_time(2.9)
        assert not wire.is_closed
        house.pass_time(2.0)
        assert wire.is_closed
        assert house.edge.connections.counters["not secured"] == 1
        house.stop()

    def test_whoever_speaks_sip_in_the_clear_gets_no_answer(self, house: SecureHouse, authority: Authority) -> None:
        wire = Wire()
        house.reactor.connectTCP(*US, ClientFactory.forProtocol(lambda: wire))
        house.pass_time(0.01)
        assert wire.transport is not None
        wire.transport.write(tcp(SipPeer().options()))
        house.pass_time(0.1)
        assert wire.is_closed
        assert b"SIP" not in wire.data
        other = house.dial(authority)
        assert [read(one).status for one in house.send(other, tls(SipPeer().options()))] == [200]


class TestFilesThatChange:
    def serial(self, wire: Wire) -> int:
        assert wire.transport is not None
        shown = wire.transport.getPeerCertificate()  # type: ignore[attr-defined]
        return int(shown.get_serial_number())

    def replace(self, files: TlsFiles, signed: Signed) -> int:
        assert files.certificate is not None
        signed.write(files.certificate.parent)
        return int(load_pem_x509_certificate(signed.certificate).serial_number)

    def test_the_next_connection_gets_the_new_one(
        self, house: SecureHouse, files: TlsFiles, authority: Authority
    ) -> None:
        before = house.dial(authority)
        new = self.replace(files, authority.sign("127.0.0.1"))
        after = house.dial(authority)
        assert self.serial(after) == new != self.serial(before)
        assert [read(one).status for one in house.send(before, tls(SipPeer().options()))] == [200]
        assert [read(one).status for one in house.send(after, tls(SipPeer().options()))] == [200]

    def test_a_hangup_signal_reads_them_and_says_so(
        self, house: SecureHouse, files: TlsFiles, authority: Authority, lines: list[str]
    ) -> None:
        house.edge.refresh_tls()
        assert lines == []
        self.replace(files, authority.sign("127.0.0.1"))
        house.edge.refresh_tls()
        assert len(lines) == 1
        assert lines[0].startswith("the files of [tls] were read again; our certificate is valid until ")

    def test_what_is_no_good_changes_nothing_and_is_said_once(
        self, house: SecureHouse, files: TlsFiles, authority: Authority, logged_failures: LoggedFailures
    ) -> None:
        before = self.serial(house.dial(authority))
        assert files.key is not None
        files.key.write_bytes(authority.sign("127.0.0.1").key)
        for _ in range(3):
            assert self.serial(house.dial(authority)) == before
        (line,) = logged_failures.take_messages()
        assert "does not belong to the first certificate in" in line
        assert line.endswith("; what was read before goes on")
        os.unlink(files.key)
        assert self.serial(house.dial(authority)) == before
        assert len(logged_failures.take_messages()) == 1

    def test_connections_of_ours_believe_the_new_authorities(self, house: SecureHouse, files: TlsFiles) -> None:
        other = Authority("another")
        house.serve(other.sign("127.0.0.1"))
        assert files.ca_file is not None
        files.ca_file.write_bytes(other.pem)
        house.invite()
        house.pass_time(0.1)
        assert [read(one).method for one in house.accepted[0].take()] == ["INVITE"]


def test_a_listener_without_a_certificate() -> None:
    with pytest.raises(StartError) as caught:
        House("tls:5061:interface=127.0.0.1")
    assert str(caught.value) == "a listener for TLS needs a certificate: set tls.certificate and tls.key"
