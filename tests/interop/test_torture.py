"""The 49 messages of RFC 4475 to a server as a process, over UDP and TCP on loopback."""

from __future__ import annotations

import itertools
import socket
from pathlib import Path

import pytest

from agentstream.testing.sip_peer import SipPeer, read
from tests.interop.peers import report
from tests.interop.peers.house import ECHO
from tests.interop.peers.server import server
from tests.sip.torture import FOLDER, FRIENDS, WAYS, Message, Table, messages

# A server as a process takes a second to start.
pytestmark = [pytest.mark.rfc(4475), pytest.mark.slow]

if not FOLDER.is_dir():
    pytest.skip("the folder shared/sip-torture with the messages is not beside the repository", allow_module_level=True)

ANSWER_S = 3.0
MORE = f"""\
[node]
drain_s = 1
[[trunk]]
name = "friends"
address = ["{FRIENDS}0/24"]
"""


class LoopbackCarrier:
    """To a server at this port of 127.0.0.1."""

    def __init__(self, port: int, allowed: dict[bytes, bool]) -> None:
        self._server = ("127.0.0.1", port)
        self._has_answer = allowed
        self._pings = itertools.count()

    def send(self, data: bytes, way: str, host: str, is_ended: bool) -> list[bytes]:
        return self._by_udp(data, host) if way.startswith("udp") else self._by_tcp(data, host, is_ended)

    def _by_udp(self, data: bytes, host: str) -> list[bytes]:
        got: list[bytes] = []
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
            # Answers without rport go to the port of the sent-by, which is 5060 in most of the messages.
            peer.bind((host, 5060))
            peer.sendto(data, self._server)
            if self._has_answer[data]:
                peer.settimeout(ANSWER_S)
                while not any(one[8:11] >= b"200" for one in got):
                    got.append(peer.recv(65536))
            # The server takes one after the other, so behind this answer none is to come.
            assert self.is_answering()
            peer.setblocking(False)
            while True:
                try:
                    got.append(peer.recv(65536))
                except BlockingIOError:
                    return got

    def _by_tcp(self, data: bytes, host: str, is_ended: bool) -> list[bytes]:
        got = b""
        with socket.create_connection(self._server, ANSWER_S, (host, 0)) as peer:
            peer.sendall(data)
            if not self._has_answer[data] and not is_ended:
                assert self.is_answering()
                peer.setblocking(False)
            try:
                while is_ended or not self._is_final(got):
                    more = peer.recv(65536)
                    if not more:
                        break
                    got += more
            except BlockingIOError:
                pass
        parts = [b"SIP/2.0 " + part for part in got.split(b"SIP/2.0 ")[1:] if part[:3].isdigit()]
        return [*parts, b""] if is_ended else parts

    @staticmethod
    def _is_final(got: bytes) -> bool:
        return any(part[:3].isdigit() and part[:3] >= b"200" for part in got.split(b"SIP/2.0 ")[1:])

    def is_answering(self) -> bool:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
            peer.bind((f"{FRIENDS}250", 0))
            peer.settimeout(ANSWER_S)
            ping = SipPeer(f"{FRIENDS}250", peer.getsockname()[1], call_id=f"ping-{next(self._pings)}")
            peer.sendto(ping.request("OPTIONS"), self._server)
            return read(peer.recv(65536)).status == 200


def is_soon_over(message: Message) -> bool:
    """Not one that a stream waits 10 s for, because it is shorter than it says: that is tested on a clock."""
    return message.name not in ("clerr", "baddn")


@pytest.mark.parametrize("way", WAYS)
def test_a_server_answers_what_the_rfc_allows(tmp_path: Path, way: str) -> None:
    wanted = [message for message in messages() if way.startswith("udp") or is_soon_over(message)]
    listen = ("udp:PORT:interface=127.0.0.1", "tcp:PORT:interface=127.0.0.1")
    with server(tmp_path, {"echo": ECHO}, [("*", "echo")], listen=listen, more=MORE) as one:
        table = Table(wanted)
        table.fill(way, LoopbackCarrier(one.sip_port, {message.data: bool(message.allowed) for message in wanted}))
        assert table.wrong == []
        one.check()
    report.figure(f"RFC 4475 over {way}: {len(wanted)} messages, none answered outside of what is allowed")
