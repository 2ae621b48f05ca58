"""The kit itself: time, datagrams and TCP in memory, and that it tells what a test must not miss."""

from __future__ import annotations

import tomllib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.error import CannotListenError, ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.protocol import ClientFactory, DatagramProtocol, Factory, Protocol
from twisted.python.failure import Failure

from agentstream.errors import ConfigError, StartError
from agentstream.flow.loader import SAMPLE
from agentstream.testing.bots import Echo, Session
from agentstream.testing.phone import speech
from agentstream.testing.reactor import MemoryReactor
from agentstream.testing.server import ServerUnderTest, to_toml
from tests.server.kit import bot_flow

HERE = ("127.0.0.1", 9)


class Keeper(Protocol):
    """Keeps what comes, and the reason of its end."""

    def __init__(self) -> None:
        self.got = b""
        self.reads: list[int] = []
        self.lost: Failure | None = None

    def dataReceived(self, data: bytes) -> None:
        self.got += data
        self.reads.append(len(data))

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        self.lost = reason


def connected(reactor: MemoryReactor) -> tuple[Keeper, Keeper]:
    """A client and a server that are connected to each other."""
    made: list[Keeper] = []

    class Makes(ClientFactory):
        noisy = False

        def buildProtocol(self, addr: object) -> Keeper:
            made.append(Keeper())
            return made[-1]

    reactor.listenTCP(HERE[1], Makes(), interface=HERE[0])
    reactor.connectTCP(*HERE, Makes())
    reactor.advance(1)
    server, client = made
    return client, server


class Producer:
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def pauseProducing(self) -> None:
        self.told.append("pause")

    def resumeProducing(self) -> None:
        self.told.append("resume")

    def stopProducing(self) -> None:
        self.told.append("stop")


def transport(protocol: Protocol) -> Any:
    return protocol.transport


def test_bytes_arrive_in_order_whatever_the_delays() -> None:
    reactor = MemoryReactor()
    reactor.tcp.path(HERE).delays_s = (0.3, 0.1, 0.0)
    client, server = connected(reactor)
    for part in (b"one ", b"two ", b"three"):
        transport(client).write(part)
        reactor.run_until(reactor.seconds() + 0.001)
    reactor.run_until(reactor.seconds() + 0.2)
    assert server.got == b""
    reactor.run_until(reactor.seconds() + 0.2)
    assert server.got == b"one two three"


def test_nothing_arrives_from_within_a_write() -> None:
    reactor = MemoryReactor()
    client, server = connected(reactor)
    transport(client).write(b"x")
    assert server.got == b""
    reactor.advance(0)
    assert server.got == b"x"


def test_a_reader_that_does_not_read_pauses_the_producer() -> None:
    reactor = MemoryReactor()
    reactor.tcp.path(HERE).capacity = 1000
    client, server = connected(reactor)
    producer = Producer()
    transport(client).registerProducer(producer, True)
    transport(client).bufferSize = 500
    transport(server).pauseProducing()
    transport(client).write(bytes(1400))
    assert producer.told == ["pause"]
    reactor.advance(1)
    assert producer.told == ["pause"] and server.got == b"" and len(transport(server).unread) == 1000
    transport(server).resumeProducing()
    reactor.advance(1)
    assert producer.told == ["pause", "resume"] and len(server.got) == 1400


def test_a_read_is_bounded() -> None:
    reactor = MemoryReactor()
    client, server = connected(reactor)
    transport(server).bufferSize = 100
    transport(client).write(bytes(250))
    reactor.advance(0)
    assert server.reads == [100, 100, 50]


def test_losing_a_connection_flushes_and_is_seen_behind_the_last_byte() -> None:
    reactor = MemoryReactor()
    client, server = connected(reactor)
    transport(client).write(bytes(200_000))
    transport(client).loseConnection()
    reactor.advance(0)
    assert len(server.got) == 200_000
    assert server.lost is not None and server.lost.check(ConnectionDone)
    assert client.lost is not None and client.lost.check(ConnectionDone)
    assert reactor.tcp.open_connections == [] and reactor.getDelayedCalls() == []


def test_an_end_that_reads_nothing_sees_no_end() -> None:
    reactor = MemoryReactor()
    client, server = connected(reactor)
    transport(server).pauseProducing()
    transport(client).loseConnection()
    reactor.advance(1)
    assert server.lost is None
    transport(server).write(b"to nobody")
    reactor.advance(1)
    assert server.lost is not None and server.lost.check(ConnectionLost)


def test_aborting_resets_the_other_end() -> None:
    reactor = MemoryReactor()
    client, server = connected(reactor)
    producer = Producer()
    transport(client).registerProducer(producer, True)
    transport(client).write(b"lost")
    transport(client).abortConnection()
    assert client.lost is None
    reactor.advance(0)
    assert client.lost is not None and client.lost.check(ConnectionAborted) and producer.told == ["stop"]
    assert server.lost is not None and server.lost.check(ConnectionLost) and server.got == b""


def test_a_protocol_that_raises_loses_its_connection(logged_failures: Any) -> None:
    reactor = MemoryReactor()
    client, server = connected(reactor)
    server.dataReceived = lambda data: 1 / 0  # type: ignore[method-assign, assignment, return-value]
    transport(client).write(b"x")
    reactor.advance(0)
    assert server.lost is not None and client.lost is not None
    assert len(logged_failures.take(ZeroDivisionError)) == 1


def test_addresses_are_bound_once() -> None:
    reactor = MemoryReactor()
    reactor.listenTCP(80, Factory())
    with pytest.raises(CannotListenError):
        reactor.listenTCP(80, Factory())
    port = reactor.listenUDP(5060, DatagramProtocol())
    with pytest.raises(CannotListenError):
        reactor.listenUDP(5060, DatagramProtocol())
    port.stopListening()
    reactor.listenUDP(5060, DatagramProtocol())


def test_host_names() -> None:
    reactor = MemoryReactor()
    reactor.hosts["bot.example"] = HERE[0]
    reactor.listenTCP(HERE[1], Factory.forProtocol(Keeper), interface=HERE[0])
    found: list[Any] = []
    for name in ("bot.example", "nowhere.example"):
        HostnameEndpoint(reactor, name, HERE[1]).connect(Factory.forProtocol(Keeper)).addBoth(found.append)
    reactor.advance(1)
    assert isinstance(found[1], Keeper) or isinstance(found[0], Keeper)
    assert sum(isinstance(one, Failure) for one in found) == 1


def test_what_never_comes_to_rest_fails() -> None:
    reactor = MemoryReactor()

    def again() -> None:
        reactor.callLater(0, again)

    again()
    with pytest.raises(AssertionError, match="does not come to rest"):
        reactor.advance(0)


def test_a_whole_server_comes_to_rest_as_it_began() -> None:
    with ServerUnderTest(bot_flow()) as server:
        server.bot(Echo)
        phone = server.call()
        phone.hang_up()
        server.advance(40)
        assert server.left() == []


def test_what_is_left_fails_the_test() -> None:
    server = ServerUnderTest(bot_flow()).__enter__()
    leg = server.service.plane.open_leg()
    with pytest.raises(AssertionError, match="1 legs with media are left"):
        server.__exit__(None, None, None)
    leg.close()


def test_a_flow_with_a_mistake_does_not_start() -> None:
    with pytest.raises(ConfigError, match='is no outcome of "voicebot"'):
        ServerUnderTest({"start": "bot", "step": {"bot": {**bot_flow()["step"]["bot"], "on": {"faild": "bot"}}}})


def test_a_port_that_is_taken_is_told() -> None:
    server = ServerUnderTest(bot_flow())
    server.reactor.listenUDP(5060, DatagramProtocol())
    with pytest.raises(StartError, match="UDP port 5060"):
        server.__enter__()
    assert server.reactor.getDelayedCalls() == []


def test_the_packaged_sample_answers_1000() -> None:
    with ServerUnderTest(file=SAMPLE) as server:
        phone = server.call("1000")
        server.advance(8)
        said, began = speech(400), server.now
        phone.say(said)
        server.advance(2)
        assert phone.heard_sound(since=began) == said


documents = st.recursive(
    st.one_of(st.booleans(), st.integers(-(2**53), 2**53), st.text(st.characters(exclude_categories=["C"]))),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(st.characters(exclude_categories=["C"])), inner)),
    max_leaves=10,
)


@settings(max_examples=25)
@given(st.dictionaries(st.text(st.characters(exclude_categories=["C"])), documents))
def test_toml_says_what_it_was_given(document: dict[str, Any]) -> None:
    assert tomllib.loads(to_toml(document)) == document


def test_a_session_records_when_it_heard_what() -> None:
    with ServerUnderTest(bot_flow(chunk_ms=20)) as server:
        bot = server.bot(Session)
        server.call()
        server.advance(1)
        times = [message.at for message in bot.session.heard if message.body["event"] == "media"]
        np.testing.assert_allclose(np.diff(times), 0.02, atol=1e-6)
