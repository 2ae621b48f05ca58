"""The SIP trace of a whole server: off by default, masked, one call to be found in it, and bounded."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from twisted.python.logfile import LogFile

from agentstream.errors import StartError
from agentstream.testing.phone import Phone
from agentstream.testing.server import ServerUnderTest
from agentstream.testing.sip_peer import SipPeer
from tests.conftest import LoggedFailures

FLOW = {"start": "echo", "step": {"echo": {"applet": "echo"}}}


def traced(folder: Path, **more: object) -> ServerUnderTest:
    return ServerUnderTest(FLOW, {"sip": {"trace": True, "trace_file": str(folder / "sip.log"), **more}})


def test_there_is_none_by_default(tmp_path: Path) -> None:
    with ServerUnderTest(FLOW, {"sip": {"trace_file": str(tmp_path / "sip.log")}}) as server:
        server.call().hang_up()
        server.advance(0.1)
    assert list(tmp_path.iterdir()) == []


def test_a_calls_messages_are_there_in_order_with_credentials_masked(tmp_path: Path) -> None:
    with traced(tmp_path) as server:
        phone: Phone = server.call()
        secret = SipPeer(call_id="secret@peer").request(
            "OPTIONS", headers='Authorization: Digest username="bob", response="6629fae49393a05397450978507c4ef1"\r\n'
        )
        server.reactor.network.send(secret, ("127.0.0.1", 5999), server.address)
        phone.hang_up()
        server.advance(0.1)
    file = tmp_path / "sip.log"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    text = file.read_text()
    assert "6629fae4" not in text and 'Authorization: Digest username="bob", ***' in text
    records = [record.split("\n") for record in text.split("---- ")[1:]]
    calls = [(record[0].split(), record[1]) for record in records if "secret" not in record[0]]
    assert len({head[-1] for head, _ in calls}) == 1, "each record names its Call-ID"
    assert [line.split()[0] if not line.startswith("SIP") else line.split()[1] for _, line in calls] == (
        ["INVITE", "100", "200", "ACK", "BYE", "200"]
    )
    assert calls[0][0][0].startswith("2023-11-14T22:13:20.") and calls[0][0][1:4] == ["received", "from", "udp"]
    assert calls[1][0][1:4] == ["sent", "to", "udp"]


def test_it_is_bounded(tmp_path: Path) -> None:
    with traced(tmp_path, trace_mb=1) as server:
        for _ in range(60):
            peer = SipPeer(port=5999)
            for _ in range(40):
                data = peer.request("OPTIONS", headers=f"X-Long: {'x' * 900}\r\n")
                server.reactor.network.send(data, ("127.0.0.1", 5999), server.address)
            server.advance(0.02)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["sip.log", "sip.log.1"]
    assert all(file.stat().st_size < 1_100_000 for file in tmp_path.iterdir())


def test_a_file_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(StartError, match=r"^the SIP trace .*sip\.log cannot be written \(No such file or directory\)"):
        traced(tmp_path / "missing").start()


def test_a_full_disk_ends_the_trace_and_no_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logged_failures: LoggedFailures
) -> None:
    def full(self: LogFile, data: str) -> None:
        raise OSError(28, "No space left on device")

    with traced(tmp_path) as server:
        monkeypatch.setattr(LogFile, "write", full)
        phone = server.call()
        server.advance(1)
        assert phone.is_answered and not phone.is_over
    assert logged_failures.take_messages() == ["the SIP trace ends here: No space left on device"]
