"""Real sockets on loopback: pairs, latching polls, floods, quarantine; with epoll and without."""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator

import pytest

from agentstream.errors import ResourceError
from agentstream.media.ports import DISCARDS_A_TICK, PACKET_CAPACITY, QUARANTINE_S, READS_A_TICK, KernelPorts, Pass

HOST = "127.0.0.1"


def free_pair() -> int:
    """An even port that was free a moment ago, with its neighbour."""
    while True:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, socket.socket(type=socket.SOCK_DGRAM) as next_:
            probe.bind((HOST, 0))
            port = probe.getsockname()[1]
            try:
                if port % 2 == 0 and port < 65000:
                    next_.bind((HOST, port + 1))
                    return int(port)
            except OSError:
                continue


@pytest.fixture(params=[True, False], ids=["epoll", "selectors"])
def ports(request: pytest.FixtureRequest) -> Iterator[KernelPorts]:
    if request.param and not hasattr(select, "epoll"):
        pytest.skip("this platform has no epoll")
    first = free_pair()
    ports = KernelPorts(HOST, first, first + 1, 4, use_epoll=request.param)
    yield ports
    ports.stop()


@pytest.fixture
def phone() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as phone:
        phone.bind((HOST, 0))
        phone.settimeout(5)
        yield phone


def inbox() -> list[memoryview]:
    return [memoryview(bytearray(PACKET_CAPACITY)) for _ in range(4)]


def read(ports: KernelPorts) -> None:
    """All that a tick reads."""
    views, arrived = inbox(), Pass()
    for _ in range(READS_A_TICK):
        ports.receive(views, arrived)


def read_and_discard(ports: KernelPorts) -> None:
    read(ports)
    ports.discard()


def test_one_datagram_a_row_and_pass(ports: KernelPorts, phone: socket.socket) -> None:
    port = ports.open(2, 0.0)
    views, arrived = inbox(), Pass()
    assert not ports.receive(views, arrived)
    for data in (b"one", b"three"):
        phone.sendto(data, (HOST, port))
    seen = []
    while ports.receive(views, arrived):
        assert arrived.rows == [2]
        assert arrived.sources == [phone.getsockname()]
        seen.append(bytes(views[0][: arrived.lengths[0]]))
    assert seen == [b"one", b"three"]
    ports.sender(2)(memoryview(b"back"), phone.getsockname())
    assert phone.recvfrom(100) == (b"back", (HOST, port))


@pytest.mark.rfc(3550)
def test_rtcp_is_bound_and_handed_on(ports: KernelPorts, phone: socket.socket) -> None:
    port = ports.open(0, 0.0)
    phone.sendto(b"report", (HOST, port + 1))
    views, arrived = inbox(), Pass()
    assert ports.receive(views, arrived)
    assert arrived.rows == []
    assert arrived.control == [(0, b"report", phone.getsockname())]
    ports.control_sender(0)(memoryview(b"back"), phone.getsockname())
    assert phone.recvfrom(100) == (b"back", (HOST, port + 1))
    phone.sendto(bytes(PACKET_CAPACITY + 9), (HOST, port + 1))
    assert ports.receive(views, arrived)
    assert [len(data) for _, data, _ in arrived.control] == [PACKET_CAPACITY], "who reads it knows by that"
    assert not ports.receive(views, arrived)


def test_what_a_tick_leaves_is_discarded_and_counted(ports: KernelPorts, phone: socket.socket) -> None:
    port = ports.open(1, 0.0)
    for _ in range(2 * READS_A_TICK + DISCARDS_A_TICK + 5):
        phone.sendto(b"flood", (HOST, port))
    read_and_discard(ports)
    assert ports.discarded[1] == DISCARDS_A_TICK
    read_and_discard(ports)
    assert ports.discarded[1] == DISCARDS_A_TICK + 5


def test_only_what_floods_is_discarded(phone: socket.socket) -> None:
    first = free_pair()
    ports = KernelPorts(HOST, first, first + 9, 4)
    flooded, other = ports.open(0, 0.0), ports.open(1, 0.0)
    for _ in range(READS_A_TICK + 3):
        phone.sendto(b"flood", (HOST, flooded))
        phone.sendto(b"flood of RTCP", (HOST, flooded + 1))
    read(ports)
    for number in range(3):
        phone.sendto(b"voice %d" % number, (HOST, other))
    ports.discard()
    assert ports.discarded[:2] == [6, 0]
    views, arrived = inbox(), Pass()
    heard = []
    while ports.receive(views, arrived):
        assert (arrived.rows, arrived.control) == ([1], [])
        heard.append(bytes(views[0][: arrived.lengths[0]]))
    assert heard == [b"voice 0", b"voice 1", b"voice 2"]
    ports.stop()


def test_a_refused_peer_is_counted_and_not_raised(ports: KernelPorts) -> None:
    ports.open(0, 0.0)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as gone:
        gone.bind((HOST, 0))
        nobody = gone.getsockname()
    for _ in range(3):
        ports.sender(0)(memoryview(b"x"), nobody)
    read_and_discard(ports)


def test_a_pair_rests_two_seconds(ports: KernelPorts) -> None:
    port = ports.open(0, 10.0)
    ports.close(0, 10.0)
    with pytest.raises(ResourceError, match=r"no RTP port pair is free in .* 1 draining.*widen \[media\] ports"):
        ports.open(0, 10.0 + QUARANTINE_S - 0.1)
    assert ports.open(0, 10.0 + QUARANTINE_S) == port


def test_a_taken_port_is_passed_over() -> None:
    first = free_pair()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as squatter:
        squatter.bind((HOST, first + 1))
        ports = KernelPorts(HOST, first, first + 1, 1)
        with pytest.raises(ResourceError, match="1 taken by other programs"):
            ports.open(0, 0.0)
        ports.stop()
