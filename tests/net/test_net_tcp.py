"""SIP over TCP on a reactor in memory: connections that are used again, that are opened, and that end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.protocol import ClientFactory, Factory

from agentstream.errors import StartError
from agentstream.net.connections import LINGER_S, STRANGER_IDLE_S, ConnectionLimits
from agentstream.net.edge import SipEdge
from agentstream.sip.events import (
    AckReceived,
    Event,
    InviteAnswered,
    InviteReceived,
    InviteRefused,
    MessageDropped,
    RequestRefused,
    SessionEnded,
)
from agentstream.sip.framing import MESSAGE_S
from agentstream.sip.session import Session
from agentstream.sip.uri import parse_uri
from agentstream.testing.reactor import MemoryReactor
from agentstream.testing.sip_peer import Received, SipPeer, read
from tests.sip.far_end import FarEnd
from tests.sip.kit import SDP

US = ("127.0.0.1", 5060)
LISTEN = ("udp:5060:interface=127.0.0.1", "tcp:5060:interface=127.0.0.1")


class Wire(FarEnd):
    """A phone's end of one connection; splits what it gets by Content-Length."""

    def take(self) -> list[bytes]:
        messages = []
        while b"\r\n\r\n" in self.data and not self.data.startswith(b"\r\n"):
            head, _, rest = self.data.partition(b"\r\n\r\n")
            length = int(read(head + b"\r\n\r\n").header("content-length"))
            messages.append(head + b"\r\n\r\n" + rest[:length])
            self.data = rest[length:]
        return messages

    def statuses(self) -> list[str]:
        return [str(one.status or one.method) for one in map(read, self.take())]


class House:
    """An edge with TCP, and phones that connect or are connected to."""

    def __init__(self, *listen: str, **more: Any) -> None:
        self.reactor = MemoryReactor()
        self.events: list[Event] = []
        self.refusals: list[RequestRefused | MessageDropped] = []
        self.accepted: list[Wire] = []
        self.datagrams: list[bytes] = []
        self.reactor.network.bind(("127.0.0.1", 5090), lambda data, source: self.datagrams.append(data))
        self.edge = SipEdge(
            self.reactor,
            listen or LISTEN,
            on_event=self.events.append,
            on_refusal=self.refusals.append,
            **more,
        )
        self.edge.start()

    def connect(self, wire: Wire | None = None) -> Wire:
        wire = wire or Wire()
        self.reactor.connectTCP(*US, ClientFactory.forProtocol(lambda: wire))
        self.pass_time(0.01)
        return wire

    def listen(self, port: int = 5090, host: str = "127.0.0.1") -> Any:
        def accept() -> Wire:
            self.accepted.append(Wire())
            return self.accepted[-1]

        return self.reactor.listenTCP(port, Factory.forProtocol(accept), interface=host)

    def send(self, wire: Wire, data: bytes) -> list[bytes]:
        assert wire.transport is not None
        wire.transport.write(data)
        self.pass_time(0.01)
        return wire.take()

    def pass_time(self, seconds: float) -> None:
        self.reactor.run_until(self.reactor.seconds() + seconds)

    def event(self, kind: type) -> Any:
        event = self.events.pop(0)
        assert isinstance(event, kind), event
        return event

    def answered(self, wire: Wire, peer: SipPeer) -> Session:
        """A call over this connection that is up."""
        assert [read(one).status for one in self.send(wire, tcp(peer.invite()))] == [100]
        session: Session = self.event(InviteReceived).session
        self.edge.answer(session, SDP)
        self.pass_time(0.01)
        peer.take(wire.take()[0])
        self.send(wire, tcp(peer.ack()))
        self.event(AckReceived)
        return session

    def stop(self) -> None:
        stopped = self.edge.stop()
        self.pass_time(0.1)
        assert stopped.called
        assert not self.reactor.getDelayedCalls()
        assert len(self.edge.connections) == 0


def tcp(data: bytes) -> bytes:
    """The peer's request as it is sent over TCP."""
    return data.replace(b"SIP/2.0/UDP", b"SIP/2.0/TCP").replace(b":5090>\r\n", b":5090;transport=tcp>\r\n")


@pytest.fixture
def house() -> Iterator[House]:
    house = House()
    yield house
    house.stop()


@pytest.mark.rfc(3261)
def test_a_call_over_one_connection(house: House) -> None:
    wire, peer = house.connect(), SipPeer()
    (trying,) = house.send(wire, tcp(peer.invite()))
    session = house.event(InviteReceived).session
    assert session.remote.transport == "tcp"
    house.edge.progress(session)
    house.edge.answer(session, SDP)
    house.pass_time(0.01)
    ringing, ok = map(read, wire.take())
    assert (read(trying).status, ringing.status, ok.status) == (100, 180, 200)
    assert ok.header("contact") == "<sip:127.0.0.1:5060;transport=tcp>"
    peer.remote_tag = ok.header("to").partition("tag=")[2]
    peer.remote_uri = "sip:127.0.0.1:5060;transport=tcp"
    house.send(wire, tcp(peer.ack()))
    house.event(AckReceived)
    assert [read(one).status for one in house.send(wire, tcp(peer.bye()))] == [200]
    assert house.event(SessionEnded).by == "remote"
    assert house.datagrams == []


@pytest.mark.rfc(3261)
def test_our_bye_goes_over_the_callers_connection(house: House) -> None:
    """Its Contact names its listening port, which a phone behind NAT only thinks that it has."""
    wire, peer = house.connect(), SipPeer()
    session = house.answered(wire, peer)
    house.edge.hang_up(session, "the flow ended")
    house.pass_time(0.01)
    (bye,) = wire.take()
    assert read(bye).method == "BYE"
    assert read(bye).header("via").startswith("SIP/2.0/TCP 127.0.0.1:5060;")
    house.send(wire, peer.respond(bye, 200))
    assert not house.edge.stack.dialogs


@pytest.mark.rfc(3261)
def test_nothing_is_repeated_on_a_connection_but_the_200(house: House) -> None:
    """RFC 3261 sections 17.1.1.2 and 17.1.2.2: timers A and E are for unreliable transports; 13.3.1.4: the UAS repeats
    its 2xx whatever the transport."""
    wire, peer = house.connect(), SipPeer()
    session = house.answered(wire, peer)
    house.edge.hang_up(session)
    house.pass_time(31)
    assert wire.statuses() == ["BYE"]
    house.pass_time(2)
    assert house.edge.stack.is_idle
    peer = SipPeer()
    house.send(wire, tcp(peer.invite()))
    house.events.clear()
    (session, _) = next(iter(house.edge.stack.dialogs.values()))
    house.edge.reject(session, 486)
    house.pass_time(20)
    assert wire.statuses() == ["486"]
    peer = SipPeer()
    house.send(wire, tcp(peer.invite()))
    house.edge.answer(house.events.pop().session, SDP)
    house.pass_time(2)
    assert wire.statuses() == ["200", "200", "200"]


@pytest.mark.rfc(3261)
def test_when_the_connection_is_gone_the_bye_opens_one_to_the_contact(house: House) -> None:
    house.listen()
    wire, peer = house.connect(), SipPeer()
    session = house.answered(wire, peer)
    wire.transport.loseConnection()  # type: ignore[union-attr]
    house.pass_time(0.1)
    house.edge.hang_up(session)
    house.pass_time(0.1)
    (again,) = house.accepted
    (bye,) = again.take()
    assert read(bye).method == "BYE"
    house.send(again, peer.respond(bye, 200))
    assert not house.edge.stack.dialogs
    assert house.edge.connections.counters["connected"] == 1


@pytest.mark.rfc(3261)
def test_when_the_connection_is_gone_the_answer_opens_one_to_the_via(house: House) -> None:
    """RFC 3261 section 18.2.2; everything that waits goes over the one connection, in order."""
    house.listen()
    wire, peer = house.connect(), SipPeer()
    house.send(wire, tcp(peer.invite()))
    wire.transport.loseConnection()  # type: ignore[union-attr]
    house.pass_time(0.1)
    session = house.event(InviteReceived).session
    house.edge.progress(session)
    house.edge.answer(session, SDP)
    house.pass_time(0.1)
    (again,) = house.accepted
    ringing, ok = again.take()
    assert (read(ringing).status, read(ok).status) == (180, 200)
    peer.take(ok)
    house.send(again, tcp(peer.ack()))
    house.event(AckReceived)
    assert [read(one).status for one in house.send(again, tcp(peer.bye()))] == [200]


@pytest.mark.rfc(3261)
def test_a_call_of_ours_over_tcp(house: House) -> None:
    house.listen()
    target = parse_uri("sip:bob@127.0.0.1:5090;transport=tcp")
    session = house.edge.invite(
        target,
        from_uri=parse_uri("sip:us@127.0.0.1"),
        to_uri=target,
        sdp=SDP,
        host="127.0.0.1",
        port=5090,
        transport="tcp",
    )
    house.pass_time(3)
    (wire,) = house.accepted
    (invite,) = wire.take()
    assert read(invite).header("via").startswith("SIP/2.0/TCP 127.0.0.1:5060;branch=")
    assert read(invite).header("contact") == "<sip:127.0.0.1:5060;transport=tcp>"
    peer = SipPeer()
    house.send(wire, peer.respond(invite, 180) + peer.respond(invite, 200, sdp=SDP))
    house.events.pop(0)
    assert house.event(InviteAnswered).session is session
    house.pass_time(0.01)
    peer.called_by(invite)
    (bye_answer,) = house.send(wire, tcp(peer.bye()))
    assert read(bye_answer).status == 200


@pytest.mark.rfc(3261)
def test_a_call_of_ours_to_nobody_is_503_at_once(house: House) -> None:
    target = parse_uri("sip:bob@127.0.0.1:5099;transport=tcp")
    house.edge.invite(
        target,
        from_uri=target,
        to_uri=target,
        sdp=SDP,
        host="127.0.0.1",
        port=5099,
        transport="tcp",
    )
    house.pass_time(0.1)
    assert house.event(InviteRefused).status == 503
    assert house.edge.stack.is_idle


def test_a_call_of_ours_into_a_black_hole_ends_in_time() -> None:
    house = House(limits=ConnectionLimits(connect_s=2.0))
    house.reactor.tcp.path(("127.0.0.1", 5099)).is_black_hole = True
    house.listen(5099)
    target = parse_uri("sip:bob@127.0.0.1:5099;transport=tcp")
    house.edge.invite(target, from_uri=target, to_uri=target, sdp=SDP, host="127.0.0.1", port=5099, transport="tcp")
    house.pass_time(3)
    assert house.event(InviteRefused).status == 503
    house.stop()


def test_a_node_that_stops_while_a_connection_is_being_opened() -> None:
    house = House()
    house.reactor.tcp.path(("127.0.0.1", 5099)).is_black_hole = True
    house.listen(5099)
    target = parse_uri("sip:bob@127.0.0.1:5099;transport=tcp")
    house.edge.invite(target, from_uri=target, to_uri=target, sdp=SDP, host="127.0.0.1", port=5099, transport="tcp")
    house.pass_time(1)
    house.stop()
    assert house.edge.connections.counters == {}
    assert house.events == []


def test_what_waits_for_a_connection_is_bounded() -> None:
    house = House()
    house.reactor.tcp.path(("127.0.0.1", 5099)).is_black_hole = True
    house.listen(5099)
    target = parse_uri("sip:bob@127.0.0.1:5099;transport=tcp")
    for _ in range(40):
        house.edge.invite(
            target,
            from_uri=target,
            to_uri=target,
            sdp=SDP + b"a=" + b"x" * 4000,
            host="127.0.0.1",
            port=5099,
            transport="tcp",
        )
    assert 20 < len(house.events) < 40
    assert {event.status for event in house.events if isinstance(event, InviteRefused)} == {503}
    assert len(house.edge.stack.clients) + len(house.events) == 40
    house.pass_time(10)
    assert len(house.events) == 40
    house.stop()


@pytest.mark.rfc(3263)
def test_a_contact_of_a_transport_that_we_do_not_speak_is_answered_where_it_came_from() -> None:
    house = House("udp:5060:interface=127.0.0.1")
    peer = SipPeer()
    for transport in (b"tcp", b"tls", b"sctp"):
        peer = SipPeer()
        invite = peer.invite().replace(b":5090>", b":5099;transport=" + transport + b">")
        house.reactor.network.send(invite, ("127.0.0.1", 5090), US)
        house.pass_time(0.01)
        session = house.event(InviteReceived).session
        house.edge.answer(session, SDP)
        house.pass_time(0.01)
        peer.take(house.datagrams[-1])
        house.reactor.network.send(peer.ack(), ("127.0.0.1", 5090), US)
        house.pass_time(0.01)
        house.event(AckReceived)
        house.edge.hang_up(session)
        house.pass_time(0.01)
        assert read(house.datagrams[-1]).method == "BYE"
        house.event(SessionEnded)
    house.stop()


@pytest.mark.rfc(3263)
def test_a_contact_may_ask_for_the_other_transport(house: House) -> None:
    """A caller over UDP whose Contact says transport=tcp gets our BYE over TCP."""
    house.listen()
    peer = SipPeer()
    invite = peer.invite().replace(b":5090>", b":5090;transport=tcp>")
    house.reactor.network.send(invite, ("127.0.0.1", 5090), US)
    house.pass_time(0.01)
    session = house.event(InviteReceived).session
    house.edge.answer(session, SDP)
    house.pass_time(0.01)
    peer.take(house.datagrams[-1])
    house.reactor.network.send(peer.ack(), ("127.0.0.1", 5090), US)
    house.pass_time(0.01)
    house.edge.hang_up(session)
    house.pass_time(0.1)
    (wire,) = house.accepted
    (bye,) = wire.take()
    assert read(bye).header("via").startswith("SIP/2.0/TCP")
    house.send(wire, peer.respond(bye, 200))


@pytest.mark.rfc(5626)
def test_a_ping_is_answered(house: House) -> None:
    wire = house.connect()
    house.send(wire, b"\r\n\r\n")
    assert wire.data == b"\r\n"


@pytest.mark.rfc(3261)
def test_without_content_length_it_is_400_and_the_end(house: House) -> None:
    wire = house.connect()
    answers = house.send(wire, SipPeer().options().replace(b"Content-Length: 0\r\n", b"") + SipPeer().options())
    assert [read(one).status for one in answers] == [400]
    house.pass_time(LINGER_S + 1.1)
    assert wire.is_closed
    assert [refusal.status for refusal in house.refusals if isinstance(refusal, RequestRefused)] == [400]


def test_a_message_that_takes_too_long_ends_the_connection(house: House) -> None:
    wire = house.connect()
    assert wire.transport is not None
    for octet in SipPeer().options()[:30]:
        wire.transport.write(bytes([octet]))
        house.pass_time(0.5)
        if wire.is_closed:
            break
    assert wire.is_closed
    assert house.edge.connections.counters["too slow"] == 1
    assert MESSAGE_S < house.reactor.seconds() < MESSAGE_S + 2


def test_an_idle_connection_is_closed_unless_a_call_needs_it() -> None:
    house = House(limits=ConnectionLimits(idle_s=60))
    idle, busy, peer = house.connect(), house.connect(), SipPeer()
    session = house.answered(busy, peer)
    house.pass_time(50)
    assert not idle.is_closed
    house.pass_time(400)
    assert idle.is_closed and not busy.is_closed
    house.edge.hang_up(session)
    house.pass_time(0.1)
    (bye,) = busy.take()
    house.send(busy, peer.respond(bye, 200))
    house.pass_time(70)
    assert busy.is_closed
    house.stop()


def test_connections_are_bounded_by_host_and_in_all() -> None:
    house = House(limits=ConnectionLimits(all=8, per_host=3))
    wires = [house.connect() for _ in range(5)]
    assert [wire.is_closed for wire in wires] == [False] * 3 + [True] * 2
    assert house.edge.connections.counters == {"accepted": 3, "refused": 2}
    wires[0].transport.loseConnection()  # type: ignore[union-attr]
    house.pass_time(0.1)
    assert not house.connect().is_closed
    house.stop()


def test_strangers_have_a_quarter_and_little_time() -> None:
    house = House(limits=ConnectionLimits(all=8), is_allowed=lambda host: False)
    wires = [house.connect() for _ in range(3)]
    assert [wire.is_closed for wire in wires] == [False, False, True]
    assert [read(one).status for one in house.send(wires[0], tcp(SipPeer().invite()))] == [403]
    house.pass_time(STRANGER_IDLE_S + 1.1)
    assert wires[0].is_closed and wires[1].is_closed
    house.stop()


def test_who_reads_nothing_is_cut_off(house: House) -> None:
    wire = house.connect()
    assert wire.transport is not None
    wire.transport.pauseProducing()  # type: ignore[attr-defined]
    options = SipPeer().options()
    for _ in range(40):
        wire.transport.write(tcp(options).replace(b"z9hG4bK", b"z9hG4bK-%d" % id(object())) * 40)
        house.pass_time(0.05)
        if wire.is_closed:
            break
    assert house.edge.connections.counters["unread"] == 1
    assert len(house.edge.connections) == 0


def test_a_flood_on_one_connection_leaves_turns_to_others(house: House) -> None:
    """What is due at the same moment is not behind all of it; no message is lost, and their order is kept."""
    wire = house.connect()
    assert wire.transport is not None
    peers = [SipPeer() for _ in range(100)]
    wire.transport.write(b"".join(tcp(peer.invite()) for peer in peers))
    seen: list[int] = []

    def look(turns: int) -> None:
        seen.append(len(house.events))
        if turns:
            house.reactor.callLater(0, look, turns - 1)

    look(40)
    house.pass_time(0.1)
    assert len({count for count in seen if count < 100}) > 3, seen
    assert [event.session.call_id for event in house.events if isinstance(event, InviteReceived)] == [
        peer.call_id for peer in peers
    ]
    assert [read(one).status for one in wire.take()] == [100] * 100


def test_a_flood_whose_connection_ends_in_the_middle(house: House) -> None:
    wire = house.connect()
    assert wire.transport is not None
    wire.transport.write(b"".join(tcp(SipPeer().options()) for _ in range(100)) + b"\n")
    house.pass_time(LINGER_S + 2)
    assert len(wire.take()) == 100
    assert wire.is_closed
    wire = house.connect()
    assert wire.transport is not None
    wire.transport.write(b"".join(tcp(SipPeer().options()) for _ in range(100)))
    for connection in list(house.edge.connections._streams.values()):
        house.reactor.callLater(0, connection.cut)
    house.pass_time(1)
    assert wire.is_closed


def test_two_listeners_of_one_port_and_a_busy_one() -> None:
    house = House()
    assert [(one.transport, one.port) for one in house.edge.listeners] == [("udp", 5060), ("tcp", 5060)]
    other = SipEdge(house.reactor, ("tcp:5060:interface=127.0.0.1",), on_event=house.events.append)
    with pytest.raises(StartError, match=r"^TCP port 5060 on 127\.0\.0\.1 cannot be bound"):
        other.start()
    house.stop()


@pytest.mark.rfc(3261)
def test_a_call_over_ipv6() -> None:
    house = House("udp:5060:interface=::1", "tcp:5060:interface=\\:\\:1")
    wire, peer = Wire(), SipPeer(host="[::1]", target="[::1]:5060")
    house.reactor.connectTCP("::1", 5060, ClientFactory.forProtocol(lambda: wire))
    house.pass_time(0.01)
    session = house.answered(wire, peer)
    assert session.remote.host == "::1"
    assert peer.remote_uri == "sip:[::1]:5060;transport=tcp"
    house.edge.hang_up(session)
    house.pass_time(0.01)
    (bye,) = wire.take()
    assert read(bye).header("via").startswith("SIP/2.0/TCP [::1]:5060;")
    house.send(wire, peer.respond(bye, 200))
    got: list[Received] = []
    house.reactor.network.bind(("::1", 5090), lambda data, source: got.append(read(data)))
    peer = SipPeer(host="[::1]", target="[::1]:5060")
    house.reactor.network.send(peer.invite(), ("::1", 5090), ("::1", 5060))
    house.pass_time(0.01)
    assert got[0].header("via").endswith(";received=::1;rport=5090")
    house.edge.answer(house.events.pop().session, SDP)
    house.pass_time(0.01)
    assert got[1].header("contact") == "<sip:[::1]:5060>"
    house.stop()


def test_two_connections_under_one_name(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some peers connect from the port that they listen on, while a connection of ours leads to it."""
    house.listen()
    peer = SipPeer()
    uri = parse_uri("sip:bob@127.0.0.1:5090;transport=tcp")
    house.edge.invite(uri, from_uri=uri, to_uri=uri, sdp=SDP, host="127.0.0.1", port=5090, transport="tcp")
    house.pass_time(0.1)
    ours, theirs = house.accepted[0], Wire()
    (invite,) = ours.take()
    monkeypatch.setattr(type(house.reactor.tcp), "free_port", lambda net: 5090)
    house.connect(theirs)
    assert len(house.edge.connections) == 2
    assert [read(one).status for one in house.send(theirs, tcp(peer.options()))] == [200]
    house.send(ours, peer.respond(invite, 486, "Busy Here"))
    assert [read(one).method for one in theirs.take()] == ["ACK"], "the newer one is used"
    house.event(InviteRefused)
    for wire in (ours, theirs):
        assert wire.transport is not None
        wire.transport.loseConnection()
    house.pass_time(0.1)
    assert len(house.edge.connections) == 0
    assert house.edge.connections._by_host == {}
