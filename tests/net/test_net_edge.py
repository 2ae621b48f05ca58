"""The SIP edge on a Clock: what goes out and comes in, its one timer, and what cannot make it stumble."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher

from agentstream.config.addresses import LISTENER_FORM
from agentstream.errors import LocalProtocolError, StartError
from agentstream.net.edge import SipEdge
from agentstream.net.listen import ListenAddress, endpoint_string, parse_listen
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
from agentstream.sip.uri import parse_uri
from agentstream.testing.sip_peer import Received, SipPeer, read
from tests.net.udp import UdpClock
from tests.sip.kit import SDP

US = ("127.0.0.1", 5060)
THEM = ("127.0.0.1", 5090)
NO_LISTENER = f"is not a SIP listen string: expected {LISTENER_FORM}"


class House:
    """An edge and one phone's socket on the network in memory."""

    def __init__(self, *listen: str, **more: Any) -> None:
        self.clock = UdpClock()
        self.events: list[Event] = []
        self.refusals: list[RequestRefused | MessageDropped] = []
        self.got: list[bytes] = []
        self.clock.network.bind(THEM, lambda data, source: self.got.append(data))
        self.edge = SipEdge(
            self.clock,
            listen or ("udp:5060:interface=127.0.0.1",),
            on_event=more.pop("on_event", self.events.append),
            on_refusal=self.refusals.append,
            **more,
        )

    def send(self, data: bytes) -> list[Received]:
        self.clock.network.send(data, THEM, US)
        return self.take()

    def take(self) -> list[Received]:
        got = [read(data) for data in self.got]
        self.got.clear()
        return got

    def run(self, seconds: float) -> list[str]:
        end = self.clock.seconds() + seconds
        while True:
            calls = self.clock.getDelayedCalls()
            assert len(calls) <= 1, "the edge holds one delayed call"
            if not calls or calls[0].getTime() > end:
                break
            self.clock.advance(calls[0].getTime() - self.clock.seconds())
        self.clock.advance(end - self.clock.seconds())
        return [str(message.status or message.method) for message in self.take()]

    def stop(self) -> None:
        done: Deferred[None] = self.edge.stop()
        assert done.called
        assert self.clock.getDelayedCalls() == []
        assert self.clock.bound == {}


@pytest.fixture
def house() -> Iterator[House]:
    house = House()
    house.edge.start()
    yield house
    house.stop()


def test_a_call_through_the_edge(house: House) -> None:
    peer = SipPeer()
    assert [one.status for one in house.send(peer.invite())] == [100]
    received = house.events.pop()
    assert isinstance(received, InviteReceived)
    assert received.source.host == "127.0.0.1"
    house.edge.progress(received.session)
    house.edge.answer(received.session, SDP)
    assert [one.status for one in house.take()] == [180, 200]
    assert house.run(2) == ["200", "200"]
    peer.take(house.clock.network.path(THEM).sent[-1][1])
    house.send(peer.ack())
    assert isinstance(house.events.pop(), AckReceived)
    assert house.run(5) == []
    settled = house.edge.settled()
    house.edge.hang_up(received.session, "done")
    (bye,) = house.got
    assert [one.method for one in house.take()] == ["BYE"]
    assert not settled.called
    house.send(peer.respond(bye, 200))
    assert settled.called, "transactions that only take up repetitions are not waited for"
    assert not house.edge.stack.is_idle
    assert house.events.pop() == SessionEnded(received.session, "local", "done")
    house.run(60)
    assert house.edge.stack.is_idle
    assert house.clock.getDelayedCalls() == [], "without anything to wait for there is no delayed call"


def test_a_call_of_ours(house: House) -> None:
    peer = SipPeer()
    uri = parse_uri("sip:alice@127.0.0.1:5090")
    session = house.edge.invite(uri, from_uri=uri, to_uri=uri, sdp=SDP, host="127.0.0.1", port=5090)
    (invite,) = house.got
    assert [one.method for one in house.send(peer.respond(invite, 200, "OK", SDP))] == ["INVITE", "ACK"]
    assert house.events.pop() == InviteAnswered(session, SDP)


def test_commands_from_inside_an_event_come_after_it() -> None:
    order: list[str] = []

    def on_event(event: Event) -> None:
        order.append(f"{type(event).__name__} in")
        if isinstance(event, InviteReceived):
            inner.edge.reject(event.session, 404, "no route", [("X-Why", "none")])
        order.append(f"{type(event).__name__} out")

    inner = House(on_event=on_event)
    inner.edge.start()
    assert [one.status for one in inner.send(SipPeer().invite())] == [100, 404]
    assert order == ["InviteReceived in", "InviteReceived out", "SessionEnded in", "SessionEnded out"]
    inner.stop()


def test_an_exception_in_a_listener_loses_no_other_event(logged_failures: Any) -> None:
    heard: list[Event] = []

    def on_event(event: Event) -> None:
        heard.append(event)
        if isinstance(event, InviteReceived):
            house.edge.hang_up(event.session, "no")
            raise ZeroDivisionError

    house = House(on_event=on_event)
    house.edge.start()
    assert [one.status for one in house.send(SipPeer().invite())] == [100, 480]
    assert [type(event) for event in heard] == [InviteReceived, SessionEnded]
    assert len(logged_failures.take(ZeroDivisionError)) == 1
    assert [one.status for one in house.send(SipPeer().options())] == [200]
    house.stop()


def test_the_systems_port_can_be_read() -> None:
    house = House("udp:0:interface=127.0.0.1", "udp:0:interface=::1")
    house.edge.start()
    assert [(one.host, one.port) for one in house.edge.listeners] == [("127.0.0.1", 30000), ("::1", 30000)]
    house.stop()


def test_what_others_see_is_the_advertised_address() -> None:
    house = House("udp:5060", advertise="203.0.113.1")
    house.edge.start()
    house.clock.network.send(SipPeer().invite(), THEM, ("0.0.0.0", 5060))
    received = house.events.pop()
    assert isinstance(received, InviteReceived)
    house.take()
    house.edge.progress(received.session)
    assert house.take()[0].header("contact") == "<sip:203.0.113.1:5060>"
    house.edge.hang_up(received.session)
    house.stop()


def test_ipv6() -> None:
    house = House("udp:5060:interface=::1")
    house.edge.start()
    got: list[bytes] = []
    house.clock.network.bind(("::1", 5090), lambda data, source: got.append(data))
    house.clock.network.send(SipPeer(host="[::1]").options(), ("::1", 5090), ("::1", 5060))
    assert read(got.pop()).status == 200
    uri = parse_uri("sip:a@[::1]:5090")
    house.edge.invite(uri, from_uri=uri, to_uri=uri, sdp=SDP, host="::1", port=5090)
    assert read(got.pop()).header("via").startswith("SIP/2.0/UDP [::1]:5060;")
    with pytest.raises(LocalProtocolError):
        house.edge.invite(uri, from_uri=uri, to_uri=uri, sdp=SDP, host="127.0.0.1")
    house.stop()


def test_who_may_call() -> None:
    asked: list[str] = []
    house = House(is_allowed=lambda host: asked.append(host) is not None)  # type: ignore[func-returns-value]
    house.edge.start()
    assert [one.status for one in house.send(SipPeer().invite())] == [403]
    assert asked == ["127.0.0.1"]
    house.edge.datagram_received(SipPeer().options(), "::ffff:10.0.0.1", 5060, "udp0")
    assert asked[1:] == ["10.0.0.1"]
    assert {one.status for one in house.refusals if isinstance(one, RequestRefused)} == {403}
    house.stop()


def test_a_port_in_use_is_one_sentence_and_nothing_stays_bound() -> None:
    house = House("udp:5061:interface=127.0.0.1", "udp:5060:interface=127.0.0.1")
    other = House()
    other.edge._reactor = house.clock
    other.edge.start()
    with pytest.raises(StartError) as caught:
        house.edge.start()
    assert str(caught.value) == (
        "UDP port 5060 on 127.0.0.1 cannot be bound ([Errno 98] Address already in use): "
        "stop what uses it, or change sip.listen"
    )
    assert list(house.clock.bound) == [US]
    other.edge.stop()


def test_a_wildcard_needs_an_address_to_advertise() -> None:
    for text in ("udp:5060", "udp:5060:interface=0.0.0.0", "udp:5060:interface=::"):
        with pytest.raises(StartError, match=r"binds every address: set sip\.advertise"):
            House(text).edge.start()


def test_draining(house: House) -> None:
    house.edge.is_draining = True
    assert house.edge.is_draining
    assert [one.status for one in house.send(SipPeer().options())] == [503]


def test_what_the_network_refuses_is_counted_and_ends_the_transaction(house: House) -> None:
    port = house.clock.bound[US]
    uri = parse_uri("sip:a@127.0.0.2")
    for error in (OSError(101, "Network is unreachable"), ValueError("bad"), OverflowError("port")):
        port.refuses[("127.0.0.2", 5060)] = error
        session = house.edge.invite(uri, from_uri=uri, to_uri=uri, sdp=SDP, host="127.0.0.2")
        assert house.events.pop() == InviteRefused(session, 503, "503 the peer cannot be reached")
    assert house.edge.stack.counters["send failed"] == 3


def test_others_mistakes_are_logged_once_a_source_and_minute(house: House) -> None:
    lines: list[LogEvent] = []
    globalLogPublisher.addObserver(cast(ILogObserver, lines.append))
    try:
        for _ in range(5):
            house.send(b"not SIP at all")
        house.edge.datagram_received(SipPeer().request("REGISTER"), "127.0.0.7", 5060, "udp0")
        said = [line["source"] for line in lines if "source" in line]
        assert said == ["127.0.0.1", "127.0.0.7"]
        house.clock.advance(61)
        house.send(b"not SIP at all")
        assert len([line for line in lines if "source" in line]) == 3
    finally:
        globalLogPublisher.removeObserver(cast(ILogObserver, lines.append))
    assert len(house.refusals) == 7
    for number in range(3000):
        house.edge.datagram_received(b"x", f"10.0.{number // 256}.{number % 256}", 5060, "udp0")
    assert len(house.edge._said) <= 1000


@given(st.lists(st.binary(max_size=400), max_size=5))
@settings(max_examples=50)
def test_any_datagram(datagrams: list[bytes]) -> None:
    house = House()
    house.edge.start()
    for data in datagrams:
        house.send(data)
    assert [one.status for one in house.send(SipPeer().options())] == [200]
    house.run(40)
    assert house.edge.stack.is_idle
    house.stop()


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("udp:5060", ListenAddress("udp", 5060)),
        ("udp:0:interface=127.0.0.1", ListenAddress("udp", 0, "127.0.0.1")),
        ("udp:5060:interface=\\:\\:1", ListenAddress("udp", 5060, "::1")),
        ("udp:5060:interface=[::1]", ListenAddress("udp", 5060, "::1")),
        ("udp:5060:interface=::1", ListenAddress("udp", 5060, "::1")),
        ("tcp:5060:interface=0:0::1", ListenAddress("tcp", 5060, "::1")),
        ("tls:5061", ListenAddress("tls", 5061)),
        ("tls:5061:advertise=sip.a-b.example", ListenAddress("tls", 5061, "", "sip.a-b.example")),
        ("udp:1:interface=::1:advertise=[::2]", ListenAddress("udp", 1, "::1", "::2")),
        ("udp:1:advertise=203.0.113.7:interface=10.0.0.1", ListenAddress("udp", 1, "10.0.0.1", "203.0.113.7")),
    ],
)
def test_listen_strings(text: str, address: ListenAddress) -> None:
    assert parse_listen(text) == address


def test_listen_strings_are_twisteds_too() -> None:
    assert endpoint_string(parse_listen("tls:5060:interface=::1")) == "tcp:5060:interface=\\:\\:1"
    assert endpoint_string(parse_listen("tcp:5060")) == "tcp:5060"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("sctp:5060", f"'sctp:5060' {NO_LISTENER}"),
        ("5060", f"'5060' {NO_LISTENER}"),
        ("udp:", f"'udp:' {NO_LISTENER}"),
        ("udp:65536", f"'udp:65536' {NO_LISTENER}"),
        ("udp:²", f"'udp:²' {NO_LISTENER}"),
        ("udp:1:backlog=5", f"'udp:1:backlog=5' {NO_LISTENER}"),
        ("udp:1:interface=", f"'udp:1:interface=' {NO_LISTENER}"),
        ("udp:1:interface=eth0", f"'udp:1:interface=eth0' {NO_LISTENER}"),
        ("udp:1:interface=::1:interface=::1", f"'udp:1:interface=::1:interface=::1' {NO_LISTENER}"),
        ("tls:1:advertise=a_b", f"'tls:1:advertise=a_b' {NO_LISTENER}"),
        ("tls:1:advertise=0.0.0.0", f"'tls:1:advertise=0.0.0.0' {NO_LISTENER}"),
        ("tls:1:advertise=1.2.3", f"'tls:1:advertise=1.2.3' {NO_LISTENER}"),
    ],
)
def test_what_is_no_listen_string(text: str, sentence: str) -> None:
    with pytest.raises(StartError) as caught:
        parse_listen(text)
    assert str(caught.value) == sentence


def test_a_refusal_is_waited_for_until_its_ack(house: House) -> None:
    peer = SipPeer()
    house.send(peer.invite())
    received = house.events.pop()
    assert isinstance(received, InviteReceived)
    house.edge.reject(received.session, 486)
    refusal = house.got[-1]
    settled, cancelled = house.edge.settled(), house.edge.settled()
    cancelled.addErrback(lambda failure: failure.trap(CancelledError) and None)
    cancelled.cancel()
    assert not settled.called
    house.send(peer.ack_refusal(refusal))
    assert settled.called
    house.run(60)
