"""Real peers over TLS: calls of baresip, and certificates that the ssl module of Python verifies."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from agentstream.testing.sip_peer import SipPeer
from tests.certificates import Authority, Signed
from tests.interop.peers import report
from tests.interop.peers.baresip import baresip
from tests.interop.peers.house import GOODBYE
from tests.interop.peers.programs import SOUNDS
from tests.interop.peers.server import Server, bot_flow, echo_bot, server

# A call takes seconds, and the phone takes time to start.
pytestmark = [pytest.mark.peers("baresip"), pytest.mark.slow]

SPEECH = SOUNDS / "vm-options.wav"


@attrs.frozen
class Secure:
    """A server with a listener for TLS."""

    server: Server
    folder: Path
    authority: Authority
    signed: Signed

    def uri(self, user: str) -> str:
        return f"sip:{user}@127.0.0.1:{self.server.sip_port};transport=tls"


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secure]:
    folder = tmp_path_factory.mktemp("secure")
    authority = Authority()
    signed = authority.sign("127.0.0.1")
    certificate, key = signed.write(folder)
    with echo_bot(folder) as url:
        flows = {"echo": bot_flow(url), "goodbye": GOODBYE}
        with server(
            folder,
            flows,
            [(name, name) for name in flows],
            listen=("tls:PORT:interface=127.0.0.1",),
            more=f'[tls]\ncertificate = "{certificate}"\nkey = "{key}"\n',
        ) as one:
            yield Secure(one, folder, authority, signed)


@pytest.mark.rfc(3261)
@pytest.mark.parametrize("ends", ["phone", "server"])
def test_a_call_over_tls(secure: Secure, tmp_path: Path, ends: str) -> None:
    program = secure.server.program
    before = len(program.lines)
    with baresip(tmp_path / "phone", SPEECH) as phone:
        phone.dial(secure.uri("echo" if ends == "phone" else "goodbye"))
        phone.wait_for("CALL_ESTABLISHED")
        if ends == "phone":
            phone.pass_time(1.5)
            phone.hang_up()
        phone.wait_for("CALL_CLOSED")
        program.wait_for("leg_ended", after=before)
    (invited,) = (line for line in program.lines[before:] if "invite_received" in line)
    assert invited.endswith("transport=tls"), invited
    secure.server.check()
    report.calls_completed("baresip", report.version_of("baresip"))


def shown(secure: Secure, authority: Authority, version: ssl.TLSVersion) -> tuple[str, bytes]:
    """What a client that believes this authority alone agrees on, and the first line that it is told."""
    context = ssl.create_default_context(cadata=authority.pem.decode())
    context.minimum_version = context.maximum_version = version
    with (
        socket.create_connection(("127.0.0.1", secure.server.sip_port), 5) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as secured,
    ):
        secured.sendall(SipPeer().options().replace(b"SIP/2.0/UDP", b"SIP/2.0/TLS"))
        return secured.version() or "", secured.recv(65536).partition(b"\r\n")[0]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_renewed_certificate_is_shown_without_a_restart(secure: Secure, version: ssl.TLSVersion) -> None:
    said = (version.name.replace("_", "."), b"SIP/2.0 200 OK")
    assert shown(secure, secure.authority, version) == said
    new = Authority("the next one")
    new.sign("127.0.0.1").write(secure.folder)
    try:
        assert shown(secure, new, version) == said
        with pytest.raises(ssl.SSLCertVerificationError):
            shown(secure, secure.authority, version)
    finally:
        secure.signed.write(secure.folder)
    assert shown(secure, secure.authority, version) == said
