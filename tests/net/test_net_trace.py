"""The SIP trace over each transport: what came and what left, masked, in a file of one size."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agentstream.net.tls import TlsFiles
from agentstream.net.trace import SipTrace
from agentstream.sip.digest import Credentials, DigestClient, DigestServer, parse_answer
from agentstream.sip.events import InviteReceived
from agentstream.sip.uri import parse_uri
from agentstream.testing.sip_peer import OFFER, SipPeer, read
from tests.certificates import Authority
from tests.net.test_net_tcp import Wire, tcp
from tests.net.test_net_tls import SecureHouse, tls
from tests.sip.kit import SDP

KEY = "WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz"
CRYPTO = f"a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|2^20|1:4\r\n".encode()
PROOF = "6629fae49393a05397450978507c4ef1"
SECRETS = (KEY, PROOF, "n0nce-of-ours", "hunter2")
AUTHORIZATION = (
    f'Proxy-Authorization: Digest username="alice", realm="us", nonce="n0nce-of-ours",\r\n uri="sip:x",'
    f' response="{PROOF}"\r\nRoute: <sip:alice:hunter2@127.0.0.1;lr>\r\n'
)
Sending = Callable[[bytes], bytes]


class Traced(SecureHouse):
    """A house that writes down what it says."""

    def __init__(self, files: TlsFiles, file: Path, size: int) -> None:
        self.trace = SipTrace(file, size, lambda: 1_700_000_000.0)
        super().__init__(files, trace=self.trace)

    def stop(self) -> None:
        super().stop()
        self.trace.close()


def housed(tmp_path: Path, size: int = 1 << 20) -> tuple[Traced, Authority]:
    authority = Authority()
    files = TlsFiles(*authority.sign("127.0.0.1").write(tmp_path), tmp_path / "ca.pem")
    (tmp_path / "ca.pem").write_bytes(authority.pem)
    (tmp_path / "trace").mkdir()
    return Traced(files, tmp_path / "trace" / "sip.log", size), authority


def connected(house: SecureHouse, authority: Authority, transport: str) -> tuple[Wire, Sending]:
    return (house.dial(authority), tls) if transport == "tls" else (house.connect(), tcp)


def records(tmp_path: Path) -> list[str]:
    return (tmp_path / "trace" / "sip.log").read_text().split("---- ")[1:]


@pytest.mark.parametrize("transport", ["tcp", "tls"])
def test_a_call_that_came_over_a_connection(tmp_path: Path, transport: str) -> None:
    house, authority = housed(tmp_path)
    wire, as_sent = connected(house, authority, transport)
    peer = SipPeer()
    whole = as_sent(peer.invite(OFFER + CRYPTO, headers=AUTHORIZATION))
    # However it is cut on the way, it is one record.
    assert wire.transport is not None
    for piece in (whole[:200], whole[200:500]):
        wire.transport.write(piece)
        house.pass_time(0.01)
    house.send(wire, whole[500:])
    session = house.event(InviteReceived).session
    house.edge.answer(session, SDP + CRYPTO)
    house.pass_time(0.01)
    peer.remote_tag = read(wire.take()[0]).header("to").partition("tag=")[2]
    house.send(wire, as_sent(peer.ack()))
    house.send(wire, as_sent(peer.bye(AUTHORIZATION)))
    house.stop()
    found = records(tmp_path)
    lines = [(record.split("\n")[0].split(), record.split("\n")[1].split()) for record in found]
    assert [first[0] if not first[0].startswith("SIP") else first[1] for _, first in lines] == (
        ["INVITE", "100", "200", "ACK", "BYE", "200"]
    )
    assert {head[1] for head, _ in lines} == {"received", "sent"}
    assert {head[3] for head, _ in lines} == {transport}
    assert {head[-1] for head, _ in lines} == {peer.call_id}
    text = "".join(found)
    assert not [secret for secret in SECRETS if secret in text]
    assert "inline:***|2^20|1:4" in found[0] and "inline:***" in found[2]
    assert 'Proxy-Authorization: Digest username="alice", realm="us", uri="sip:x", ***' in found[0]
    assert "<sip:alice:***@127.0.0.1;lr>" in found[0]


@pytest.mark.parametrize("transport", ["tcp", "tls"])
def test_what_we_answer_a_challenge_with(tmp_path: Path, transport: str) -> None:
    house, authority = housed(tmp_path)
    if transport == "tls":
        house.serve(authority.sign("127.0.0.1"))
    else:
        house.listen()
    uri, peer = parse_uri("sip:1000@127.0.0.1:5090"), SipPeer()
    words = iter(f"word{number}" for number in range(100))
    server = DigestServer("carrier", lambda: next(words))
    options: dict[str, Any] = {"credentials": DigestClient(Credentials("us", "hunter2"), lambda: "cn0nce")}
    house.edge.invite(
        uri, from_uri=uri, to_uri=uri, sdp=SDP, host="127.0.0.1", port=5090, transport=transport, **options
    )
    house.pass_time(0.1)
    wire = house.accepted[0]
    (invite,) = wire.take()
    asks = "".join(f"WWW-Authenticate: {value}\r\n" for value in server.challenges(0.0))
    _ack, again = house.send(wire, peer.respond(invite, 401, "Who", headers=asks))
    answer = parse_answer(read(again).header("authorization"))
    more = f'Proxy-Authentication-Info: rspauth="{PROOF}", nextnonce="n0nce-of-ours"\r\n'
    house.send(wire, peer.respond(again, 486, "Busy", headers=more))
    house.stop()
    found = records(tmp_path)
    text = "".join(found)
    assert answer.response and answer.response not in text and "cn0nce" not in text
    assert not [secret for secret in SECRETS if secret in text]
    (masked,) = [record for record in found if "Authorization:" in record]
    assert "sent to " + transport in masked and "INVITE" in masked
    assert 'Authorization: Digest username="us", realm="carrier", uri="sip:1000@127.0.0.1:5090"' in masked


@pytest.mark.parametrize("transport", ["udp", "tcp", "tls"])
def test_no_file_outgrows_its_size(tmp_path: Path, transport: str) -> None:
    size = 20_000
    house, authority = housed(tmp_path, size)
    wire, as_sent = (None, None) if transport == "udp" else connected(house, authority, transport)
    answered = 0
    for _ in range(60):
        data = SipPeer().request("OPTIONS", headers=f"X-Long: {'x' * 900}\r\n")
        if wire is None or as_sent is None:
            house.reactor.network.send(data, ("127.0.0.1", 5090), ("127.0.0.1", 5060))
            house.pass_time(0.01)
        else:
            answered += len(house.send(wire, as_sent(data)))
    house.stop()
    answered = answered or len(house.datagrams)
    assert answered == 60
    files = sorted((tmp_path / "trace").iterdir())
    assert [file.name for file in files] == ["sip.log", "sip.log.1"]
    # A record that is begun is written whole.
    assert all(file.stat().st_size < size + 2000 for file in files)
    assert all(file.stat().st_mode & 0o077 == 0 for file in files)
