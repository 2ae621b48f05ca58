"""RTP over IPv6 on real sockets, and IPv6 sources as the kernel gives them: with a flow label and a scope."""

from __future__ import annotations

import socket
from typing import Any, cast

import pytest

from agentstream.errors import ResourceError
from agentstream.media.ports import PACKET_CAPACITY, KernelPorts, Pass
from tests.media.kit import World
from tests.media.test_ports import free_pair

V6 = "::1"


def test_each_call_binds_the_family_it_asks_for() -> None:
    first = free_pair()
    ports = KernelPorts("127.0.0.1", first, first + 3, 2, host_v6=V6)
    try:
        four, six = ports.open(0, 0.0), ports.open(1, 0.0, is_v6=True)
    except ResourceError:
        ports.stop()
        pytest.skip("somebody took the neighbouring ports")
    views, arrived = [memoryview(bytearray(PACKET_CAPACITY)) for _ in range(2)], Pass()
    with (
        socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as phone,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as old,
    ):
        phone.bind((V6, 0))
        phone.settimeout(5)
        old.bind(("127.0.0.1", 0))
        phone.sendto(b"six", (V6, six))
        old.sendto(b"four", ("127.0.0.1", four))
        heard = {}
        while ports.receive(views, arrived):
            for at, row in enumerate(arrived.rows):
                heard[row] = (bytes(views[at][: arrived.lengths[at]]), arrived.sources[at])
        assert heard[0] == (b"four", old.getsockname())
        assert heard[1] == (b"six", phone.getsockname())
        # What the kernel gave as the source is where an answer goes.
        ports.sender(1)(memoryview(b"back"), heard[1][1])
        assert phone.recvfrom(100)[0] == b"back"
        ports.sender(1)(memoryview(b"again"), phone.getsockname()[:2])
        assert phone.recvfrom(100)[0] == b"again"
    ports.stop()


@pytest.mark.parametrize(("host", "is_v6"), [("127.0.0.1", True), (V6, False)])
def test_a_family_that_is_not_bound(host: str, is_v6: bool) -> None:
    ports = KernelPorts(host, 20000, 20001, 1)
    with pytest.raises(ResourceError, match="RTP is not bound on an IPv"):
        ports.open(0, 0.0, is_v6=is_v6)
    ports.stop()


def test_an_ipv6_source_is_its_host_and_port(world: World) -> None:
    """A flow label that changes makes nobody else of the caller (RFC 6437: it is no part of an endpoint's name)."""
    far = world.call(described=("::1", 4000), nat="strict")
    queue = world.plane._ports._queues[0]  # type: ignore[attr-defined]
    for flow in (0, 0, 5, 6, 0):
        queue.append((far.packet(b"\x10" * 160).serialise(), cast(Any, ("::1", 4000, flow, 0))))
        world.ticks(1)
    queue.append((far.packet(b"\x10" * 160).serialise(), cast(Any, ("::2", 4000, 0, 0))))
    world.ticks(1)
    statistics = far.leg.statistics()
    assert (statistics.received, statistics.foreign) == (5, 1)
