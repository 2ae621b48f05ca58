"""A row that hears one source: its socket is connected to it, and a catcher beside it gets what others send."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable, Iterator

import attrs
import pytest

from agentstream.media.ports import PACKET_CAPACITY, READS_A_TICK, KernelPorts, Pass
from tests.media.test_ports import HOST, free_pair

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere rows do not settle")


@attrs.define
class Row:
    """One open row, the phone that it hears, and somebody else."""

    ports: KernelPorts
    port: int
    phone: socket.socket
    stranger: socket.socket
    views: list[memoryview] = attrs.Factory(lambda: [memoryview(bytearray(PACKET_CAPACITY)) for _ in range(4)])
    arrived: Pass = attrs.Factory(Pass)

    def say(self, sock: socket.socket, data: bytes) -> None:
        sock.sendto(data, (HOST, self.port))

    def heard(self) -> list[tuple[bytes, tuple[str, int], bool]]:
        """All that has arrived: what, from where, and whether it needs to be looked at."""
        seen = []
        while self.ports.receive(self.views, self.arrived):
            assert len(set(self.arrived.rows)) == len(self.arrived.rows)
            for at, length in enumerate(self.arrived.lengths):
                seen.append((bytes(self.views[at][:length]), self.arrived.sources[at], at in self.arrived.others))
        return seen

    def settle(self) -> Callable[[memoryview], object]:
        source = self.phone.getsockname()
        send = self.ports.settle(0, source)
        assert send is not None
        assert self.ports.settle(0, source) is None
        return send


@pytest.fixture
def row() -> Iterator[Row]:
    first = free_pair()
    ports = KernelPorts(HOST, first, first + 1, 2)
    with socket.socket(type=socket.SOCK_DGRAM) as phone, socket.socket(type=socket.SOCK_DGRAM) as stranger:
        for sock in (phone, stranger):
            sock.bind((HOST, 0))
            sock.settimeout(5)
        yield Row(ports, ports.open(0, 0.0), phone, stranger)
    ports.stop()


def test_the_source_needs_no_look_and_others_do(row: Row) -> None:
    row.settle()
    phone, stranger = row.phone.getsockname(), row.stranger.getsockname()
    for number in range(2):
        row.say(row.stranger, b"foreign %d" % number)
        row.say(row.phone, b"voice %d" % number)
    assert sorted(row.heard()) == [
        (b"foreign 0", stranger, True),
        (b"foreign 1", stranger, True),
        (b"voice 0", phone, False),
        (b"voice 1", phone, False),
    ]


def test_what_came_before_is_looked_at(row: Row) -> None:
    row.say(row.stranger, b"before")
    row.say(row.phone, b"voice")
    row.settle()
    row.ports.settle(0, row.phone.getsockname())
    assert row.heard() == [
        (b"before", row.stranger.getsockname(), True),
        (b"voice", row.phone.getsockname(), True),
    ]
    row.ports.settle(0, row.phone.getsockname())
    row.say(row.phone, b"more")
    assert row.heard() == [(b"more", row.phone.getsockname(), False)]


def test_it_sends_both_ways_of_sending(row: Row) -> None:
    send = row.settle()
    send(memoryview(b"connected"))
    row.ports.sender(0)(memoryview(b"by address"), row.phone.getsockname())
    row.ports.sender(0)(memoryview(b"elsewhere"), row.stranger.getsockname())
    assert row.phone.recvfrom(100) == (b"connected", (HOST, row.port))
    assert row.phone.recvfrom(100) == (b"by address", (HOST, row.port))
    assert row.stranger.recvfrom(100) == (b"elsewhere", (HOST, row.port))


def test_a_source_that_moves_is_followed(row: Row) -> None:
    row.settle()
    row.ports.unsettle(0)
    row.say(row.phone, b"old")
    row.say(row.stranger, b"new")
    assert {(data, is_other) for data, _, is_other in row.heard()} == {(b"old", True), (b"new", True)}
    moved = row.stranger.getsockname()
    send = row.ports.settle(0, moved)
    assert send is not None
    row.ports.settle(0, moved)
    send(memoryview(b"x"))
    assert row.stranger.recvfrom(10)[0] == b"x"
    row.say(row.phone, b"old")
    row.say(row.stranger, b"new")
    assert {(data, is_other) for data, _, is_other in row.heard()} == {(b"old", True), (b"new", False)}


def test_nobody_else_can_bind_its_port(row: Row) -> None:
    row.settle()
    with socket.socket(type=socket.SOCK_DGRAM) as thief:
        thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        with pytest.raises(OSError, match="in use"):
            thief.bind((HOST, row.port))


def test_a_flood_of_strangers_is_discarded(row: Row) -> None:
    row.settle()
    for _ in range(READS_A_TICK + 20):
        row.say(row.stranger, b"flood")
    views, arrived = [memoryview(bytearray(PACKET_CAPACITY))], Pass()
    for _ in range(READS_A_TICK):
        assert row.ports.receive(views, arrived)
    row.say(row.phone, b"voice")
    row.ports.discard()
    assert row.ports.discarded[0] == 20
    assert row.heard() == [(b"voice", row.phone.getsockname(), False)], "what the source sends is not thrown away"


def test_its_sockets_are_closed_with_it(row: Row) -> None:
    row.settle()
    row.ports.close(0, 0.0)
    row.say(row.stranger, b"late")
    assert row.heard() == []
    row.ports.release(10.0)
    assert row.ports.open(1, 10.0) == row.port
    row.say(row.stranger, b"new call")
    assert row.heard() == [(b"new call", row.stranger.getsockname(), True)]


def test_an_earlier_refusal_keeps_nothing_from_being_sent_by_address(row: Row) -> None:
    """As the BYE of RTCP is, on a shared port, behind sound for a phone that has just gone."""
    send = row.settle()
    address = row.phone.getsockname()
    row.phone.close()
    send(memoryview(b"to nobody"))
    with socket.socket(type=socket.SOCK_DGRAM) as back:
        back.bind(address)
        back.settimeout(5)
        row.ports.sender(0)(memoryview(b"goodbye"), address)
        assert back.recvfrom(10)[0] == b"goodbye"


def test_a_source_that_refuses_is_counted_and_sending_goes_on(row: Row) -> None:
    send = row.settle()
    address = row.phone.getsockname()
    row.phone.close()
    send(memoryview(b"to nobody"))
    with pytest.raises(ConnectionRefusedError):
        send(memoryview(b"told"))
    with socket.socket(type=socket.SOCK_DGRAM) as back:
        back.bind(address)
        back.settimeout(5)
        send(memoryview(b"again"))
        assert back.recvfrom(10)[0] == b"again"
        row.say(back, b"voice")
        assert row.heard() == [(b"voice", address, False)]
