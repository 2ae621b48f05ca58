"""wss: the chain and the host's name are verified, with the system's certificates or those of one file (in memory)."""

from __future__ import annotations

import datetime
import ipaddress
import os
from pathlib import Path
from typing import Any

import attrs
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from twisted.protocols.tls import TLSMemoryBIOFactory
from zope.interface import implementer

from agentstream.errors import StreamFailed
from agentstream.wire.exotel import ExotelSession
from agentstream.ws import connect as connect_module
from agentstream.ws import trust
from agentstream.ws.connect import connect_stream
from agentstream.ws.protocol import CLOSED_IN_HANDSHAKE
from tests.ws.network import Bot, Network, Peer, Silent, bots, start


@implementer(IOpenSSLServerConnectionCreator)
@attrs.frozen
class Pki:
    """An authority with one server certificate, valid for a name and an address."""

    ca_pem: bytes
    server: SSL.Context = attrs.field(repr=False)

    def serverConnectionForTLS(self, protocol: Any) -> SSL.Connection:
        return SSL.Connection(self.server, None)


def make_pki(name: str = "bot.example", address: str = "127.0.0.1", authority: str = "test ca") -> Pki:
    now = datetime.datetime.now(datetime.UTC)

    def certificate(subject: str, key: Any, issuer: str, issuer_key: Any, *extensions: Any) -> x509.Certificate:
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, subject)]))
            .issuer_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, issuer)]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
        )
        for extension in extensions:
            builder = builder.add_extension(extension, critical=False)
        return builder.sign(issuer_key, hashes.SHA256())

    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca = certificate(authority, ca_key, authority, ca_key, x509.BasicConstraints(ca=True, path_length=None))
    names = x509.SubjectAlternativeName([x509.DNSName(name), x509.IPAddress(ipaddress.ip_address(address))])
    leaf = certificate(name, key, authority, ca_key, names)
    context = SSL.Context(SSL.TLS_METHOD)
    context.use_certificate(leaf)
    context.use_privatekey(key)
    return Pki(ca.public_bytes(serialization.Encoding.PEM), context)


@pytest.fixture(scope="module")
def pki() -> Pki:
    return make_pki()


@pytest.fixture
def ca_file(tmp_path: Path, pki: Pki) -> Path:
    """Two authorities in one file, with text around them, as distributions write it."""
    path = tmp_path / "ca.pem"
    path.write_bytes(b"# another\n" + make_pki(authority="another ca").ca_pem + b"# ours\n" + pki.ca_pem)
    return path


def serve(clock: Clock, pki: Pki, make: Any) -> Network:
    """Bots behind TLS."""

    class Making(Factory):
        def buildProtocol(self, addr: Any) -> Any:
            return make()

    inner = Making()
    outer = TLSMemoryBIOFactory(pki, False, inner, clock)

    def build() -> Any:
        return outer.buildProtocol(None)

    return Network(clock, build)


def dial_tls(network: Network, url: str, ca_file: Path | None, **options: Any) -> tuple[Any, Peer]:
    peer = Peer()
    session = ExotelSession(start())
    deferred = connect_stream(
        network.clock, url, session, peer, ca_file=ca_file, endpoint_factory=lambda *_: network, **options
    )
    return deferred, peer


def made_bots(clock: Clock) -> tuple[Any, list[Bot]]:
    make, made = bots(clock)
    return make, made


@pytest.mark.parametrize("host", ["bot.example", "127.0.0.1"])
def test_a_whole_conversation(clock: Clock, pki: Pki, ca_file: Path, host: str) -> None:
    make, made = made_bots(clock)
    network = serve(clock, pki, make)
    deferred, peer = dial_tls(network, f"wss://{host}/", ca_file)
    found: list[Any] = []
    deferred.addCallback(found.append)
    network.flush()
    [connection] = found
    connection.send_media(bytes(1600), 0)
    made[0].say({"event": "clear"})
    network.flush()
    assert peer.heard == ["clear"]
    # The socket's limits are those of the socket and not of the TLS above it.
    ours = network.ends[0]
    assert ours.bufferSize < 65536
    assert ours.no_delay
    connection.pause_reading()
    assert not ours.is_reading
    made[0].say({"event": "clear"})
    network.flush()
    assert peer.heard == ["clear"]
    connection.resume_reading()
    network.flush()
    assert peer.heard == ["clear", "clear"]
    connection.stop("stopped")
    network.advance(5)
    assert made[0].events() == ["connected", "start", "media", "stop"]
    assert peer.ends[0].clean
    assert ours.is_lost


def test_the_producer_is_paused_through_tls(clock: Clock, pki: Pki, ca_file: Path) -> None:
    make, made = made_bots(clock)
    network = serve(clock, pki, make)
    deferred, _ = dial_tls(network, "wss://bot.example/", ca_file)
    found: list[Any] = []
    deferred.addCallback(found.append)
    network.flush()
    ours, theirs = network.ends
    theirs.is_reading = False
    for index in range(100):
        found[0].send_media(bytes(1600), index * 100)
    assert ours.producer_paused
    assert found[0].counters.media_dropped > 50
    theirs.is_reading = True
    network.flush()
    media = [message for message in made[0].received if message["event"] == "media"]
    assert [int(message["media"]["chunk"]) for message in media] == list(range(1, len(media) + 1))
    assert media[-1]["media"]["timestamp"] == "9900"
    found[0].stop("stopped")
    network.advance(5)


def failing(network: Network, url: str, ca_file: Path | None) -> list[str]:
    deferred, peer = dial_tls(network, url, ca_file)
    reasons: list[str] = []
    deferred.addErrback(lambda failure: reasons.append(failure.trap(StreamFailed) and failure.value.reason))
    network.advance(0)
    assert peer.ends == []
    network.advance(25)
    return reasons


@pytest.mark.contract
@pytest.mark.rfc(6455)
def test_3_3_a_certificate_for_another_host_is_refused(clock: Clock, pki: Pki, ca_file: Path) -> None:
    network = serve(clock, pki, made_bots(clock)[0])
    assert failing(network, "wss://other.example/", ca_file) == [connect_module.WRONG_NAME]
    assert network.attempts == 2


@pytest.mark.contract
@pytest.mark.rfc(6455)
def test_3_3_a_certificate_of_an_unknown_authority_is_refused(clock: Clock, pki: Pki, tmp_path: Path) -> None:
    path = tmp_path / "other.pem"
    path.write_bytes(make_pki().ca_pem)
    network = serve(clock, pki, made_bots(clock)[0])
    assert failing(network, "wss://bot.example/", path) == [connect_module.TLS_FAILED]


def test_the_systems_certificates_do_not_know_it(clock: Clock, pki: Pki) -> None:
    network = serve(clock, pki, made_bots(clock)[0])
    assert failing(network, "wss://bot.example/", None) == [connect_module.TLS_FAILED]


def test_a_bot_without_tls(clock: Clock, ca_file: Path) -> None:
    class Plain(Silent):
        def connectionMade(self) -> None:
            self.transport.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    assert failing(Network(clock, Plain), "wss://bot.example/", ca_file) == [connect_module.TLS_FAILED]


def test_a_bot_that_hangs_up_in_the_tls_handshake(clock: Clock, ca_file: Path) -> None:
    class Rude(Silent):
        def connectionMade(self) -> None:
            self.transport.loseConnection()

    assert failing(Network(clock, Rude), "wss://bot.example/", ca_file)[0] in (
        connect_module.TLS_FAILED,
        CLOSED_IN_HANDSHAKE,
    )


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, trust.NO_CA_FILE),
        (b"", trust.BAD_CA_FILE),
        (b"nothing", trust.BAD_CA_FILE),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", trust.BAD_CA_FILE),
    ],
)
def test_a_ca_file_that_is_none(clock: Clock, tmp_path: Path, content: bytes | None, sentence: str) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_bytes(content)
    network = Network(clock, None)
    assert failing(network, "wss://bot.example/", path) == [sentence]
    assert network.attempts == 0


def test_a_ca_file_that_changes_is_read_anew(clock: Clock, pki: Pki, ca_file: Path) -> None:
    first = trust.client_tls("bot.example", ca_file)
    assert trust.client_tls("bot.example", ca_file) is first
    ca_file.write_bytes(make_pki().ca_pem)
    os.utime(ca_file, ns=(1, 1))
    assert trust.client_tls("bot.example", ca_file) is not first


@pytest.mark.parametrize("host", ["a..b", "-", "a" * 300, "x_y"])
def test_a_host_that_no_certificate_can_be_for_is_a_sentence_or_verified(host: str, ca_file: Path) -> None:
    try:
        trust.client_tls(host, ca_file)
    except StreamFailed as error:
        assert error.reason == trust.BAD_TLS_HOST
