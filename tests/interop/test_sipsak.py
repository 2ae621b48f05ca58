"""sipsak against a server of its own: what OPTIONS is answered, a flood of them, and a phone that registers."""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from agentstream.testing.sip_peer import SipPeer, read
from tests.interop.peers import report
from tests.interop.peers.programs import free_tcp_port
from tests.interop.peers.server import Server, bot_flow, echo_bot, metric, server
from tests.interop.peers.sipsak import sipsak

# A server takes a second to start.
pytestmark = [pytest.mark.peers("sipsak"), pytest.mark.slow]

FLOODED = 20_000
READ = 100
"""Of these at least so many are read: as many as the socket holds, whatever else the machine does."""


class Call:
    """A call that is up: its caller has no sound."""

    def __init__(self, one: Server) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.connect(("127.0.0.1", one.sip_port))
        self.socket.settimeout(10.0)
        self.peer = SipPeer(called="echo", port=self.socket.getsockname()[1])
        self.socket.send(self.peer.invite())
        self.peer.take(self._answer())
        self.socket.send(self.peer.ack())

    def _answer(self) -> bytes:
        while True:
            data = self.socket.recv(65536)
            if read(data).status == 200:
                return data

    def hang_up(self) -> None:
        self.socket.send(self.peer.bye())
        self._answer()


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    with echo_bot(tmp_path) as url:
        yield url


@pytest.mark.rfc(3261)
def test_options_tell_whether_a_call_would_be_taken(tmp_path: Path, url: str) -> None:
    """200; 503 while the one call is up that the node takes, and while it drains."""
    with server(tmp_path / "server", {"echo": bot_flow(url)}, [("*", "echo")], media="max_calls = 1") as one:
        uri = one.uri("echo")
        said = sipsak(uri)
        assert (said.exit_status, said.statuses) == (0, (200,)), said.output
        call = Call(one)
        with closing(call.socket):
            assert sipsak(uri).statuses == (503,)
            call.hang_up()
            one.program.wait_for("leg_ended")
            assert sipsak(uri).statuses == (200,)
        call = Call(one)
        with closing(call.socket):
            one.program.process.send_signal(signal.SIGTERM)
            one.program.wait_for("draining: 1 calls are up")
            said = sipsak(uri)
            assert (said.exit_status != 0, said.statuses) == (True, (503,)), said.output
            call.hang_up()
        one.program.wait(within_s=15.0)
    report.calls_completed("sipsak", report.version_of("sipsak"), 2)


@pytest.mark.rfc(3261)
def test_a_flood_of_options_has_an_end(tmp_path: Path, url: str) -> None:
    """Each gets its answer or none, a call goes on beside them, and behind them all is as it was. sipsak writes a
    port of nobody's into its Via, so ICMP says of each answer that it was for nobody."""
    port = free_tcp_port()
    more = f'[http]\nlisten = "tcp:{port}:interface=127.0.0.1"\n'
    with server(tmp_path / "server", {"echo": bot_flow(url)}, [("*", "echo")], more=more) as one:
        call = Call(one)
        with closing(call.socket):
            begun = time.monotonic()
            sipsak(one.uri("echo"), "-F", "-e", str(FLOODED), within_s=60.0)
            took_s = time.monotonic() - begun
            begun = time.monotonic()
            said = sipsak(one.uri("echo"))
            answered_s = time.monotonic() - begun
            assert said.statuses == (200,), said.output
            read_of_it = metric(port, 'sip_requests_received_total.*method="OPTIONS"')
            assert READ <= read_of_it <= FLOODED + 1
            call.hang_up()
        one.check()
    report.figure(
        f"sipsak: {FLOODED} OPTIONS in {took_s:.2f} s beside a call, {read_of_it:.0f} of them read; the next one, by a"
        f" sipsak of its own, is answered in {answered_s * 1000:.0f} ms"
    )


PHONES = """\
[access]
algorithms = ["MD5"]
[registrar]
file = "{file}"
[[phone]]
user = "alice"
password = "wonderland"
"""


@pytest.mark.rfc(8760)
def test_a_phone_registers_with_digest(tmp_path: Path, url: str) -> None:
    """sipsak gives up where the first algorithm is none of its own, which is MD5."""
    more = PHONES.format(file=tmp_path / "phones.db")
    with server(tmp_path / "server", {"echo": bot_flow(url)}, [("*", "echo")], more=more) as one:
        uri = one.uri("alice")
        arguments = ("-U", "-C", "sip:alice@127.0.0.1:5099", "-x", "120")
        said = sipsak(uri, *arguments, "-u", "alice", "-a", "wrong")
        assert said.exit_status != 0, said.output
        assert "phone alice has" not in one.program.output
        said = sipsak(uri, *arguments, "-u", "alice", "-a", "wonderland")
        assert (said.exit_status, said.statuses) == (0, (401, 200)), said.output
        one.program.wait_for("phone alice has 1 contacts, by 127.0.0.1:")
        one.check()
    report.calls_completed("sipsak", report.version_of("sipsak"))
