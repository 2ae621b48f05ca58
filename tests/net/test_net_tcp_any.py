"""Any bytes on a connection, whole SIP messages cut anywhere among them: nothing raises, nothing is left behind."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentstream.net.connections import LINGER_S
from agentstream.testing.sip_peer import SipPeer
from tests.net.test_net_tcp import House, tcp

PIECES = st.one_of(
    st.binary(max_size=60),
    st.sampled_from(
        [b"\r\n", b"\r\n\r\n", b"Content-Length: 5\r\n", b"l:", b"INVITE sip:a SIP/2.0\r\n", b"SIP/2.0 200 OK\r\n"]
    ),
    st.tuples(st.sampled_from(["invite", "options", "bye", "cancel", "ack"]), st.integers(0, 1000)),
)


@pytest.mark.rfc(3261)
@settings(max_examples=60, deadline=None)
@given(st.lists(PIECES, max_size=12))
def test_any_bytes(pieces: list[bytes | tuple[str, int]]) -> None:
    house = House()
    wire, peer = house.connect(), SipPeer()
    for piece in pieces:
        if isinstance(piece, tuple):
            data = tcp(getattr(peer, piece[0])())
            piece = data[: max(1, len(data) * piece[1] // 1000)] if piece[1] else data
        if wire.transport is not None and not wire.is_closed:
            wire.transport.write(piece)
        house.pass_time(0.01)
    house.pass_time(12 + LINGER_S)
    assert not house.edge.connections._closing
    if not wire.is_closed:
        wire.transport.abortConnection()  # type: ignore[union-attr]
    house.pass_time(0.1)
    assert len(house.edge.connections) == 0
    assert house.edge.connections._by_host == {}
    house.pass_time(400)
    assert house.edge.stack.is_idle
    house.stop()


def test_connections_come_and_go_and_nothing_grows() -> None:
    house = House()
    for number in range(50):
        wire, peer = house.connect(), SipPeer()
        house.send(wire, tcp(peer.options()))
        if number % 2:
            wire.transport.abortConnection()  # type: ignore[union-attr]
        else:
            wire.transport.loseConnection()  # type: ignore[union-attr]
        house.pass_time(0.05)
    connections = house.edge.connections
    assert len(connections) == 0
    assert not (connections._by_host or connections._opening or connections._closing or connections._strangers)
    assert house.edge.stack.is_idle
    house.stop()
