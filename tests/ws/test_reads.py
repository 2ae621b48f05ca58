"""Sockets of open streams are read once a tick: with real sockets, with and without TLS."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from twisted.protocols.tls import TLSMemoryBIOFactory

from agentstream.wire.exotel import ExotelSession
from agentstream.ws import connection as connection_module
from agentstream.ws import reads as reads_module
from agentstream.ws.connect import connect_stream
from agentstream.ws.connection import StreamConnection
from agentstream.ws.reads import LAST_S, MARGIN_S, MOST_AHEAD_S, Reads
from tests.ws.network import Bot, Peer, bots, open_talk, start
from tests.ws.sockets import Loopback, SocketReactor
from tests.ws.test_tls import Pki, make_pki

SLOT_S = 0.02


@pytest.fixture(scope="module")
def pki() -> Pki:
    return make_pki()


def media(pcm: bytes) -> dict[str, Any]:
    return {"event": "media", "media": {"payload": base64.b64encode(pcm).decode()}}


@attrs.define
class Polled:
    """A stream that is read once a tick."""

    reactor: SocketReactor
    reads: Reads
    place: Loopback
    connection: StreamConnection
    peer: Peer
    bot: Bot

    def say(self, *bodies: Any) -> None:
        """The bot says it, and its kernel has delivered it; no time passes."""
        for body in bodies:
            self.bot.say(body)
        self.reactor.settle()

    def tick(self) -> None:
        """A slot passes, and a tick tells of the next."""
        self.reactor.pass_time(SLOT_S)
        self.reads.tick_follows(self.reactor.seconds() + SLOT_S)

    @property
    def is_read_by_reactor(self) -> bool:
        return self.place.ours in self.reactor.readers


@pytest.fixture(params=["ws", "wss"])
def polled(request: pytest.FixtureRequest, pki: Pki, tmp_path: Path) -> Iterator[Polled]:
    reactor = SocketReactor()
    make_bot, made = bots(reactor)
    make = make_bot
    options: dict[str, Any] = {}
    if request.param == "wss":
        options["ca_file"] = tmp_path / "ca.pem"
        options["ca_file"].write_bytes(pki.ca_pem)
        plain = Factory()
        plain.buildProtocol = lambda address: make_bot()  # type: ignore[method-assign,assignment]
        factory = TLSMemoryBIOFactory(pki, False, plain, reactor)
        factory.noisy = False
        make = lambda: factory.buildProtocol(None)  # noqa: E731
    place, peer, reads = Loopback(reactor, make), Peer(), Reads(reactor)
    reads.tick_follows(reactor.seconds() + SLOT_S)
    found: list[StreamConnection] = []
    connecting = connect_stream(
        reactor,
        f"{request.param}://127.0.0.1:5001/",
        ExotelSession(start()),
        peer,
        endpoint_factory=lambda reactor, url: place,
        reads=reads,
        **options,
    )
    connecting.addCallback(found.append)
    reactor.settle()
    stream = Polled(reactor, reads, place, found[0], peer, made[0])
    stream.tick()
    yield stream
    stream.connection.stop("stopped")
    reactor.settle()
    reads.stop()
    reactor.pass_time(5)
    for end in (place.ours, place.theirs):
        if end.connected:
            end.abortConnection()
    reactor.pass_time(5)
    assert not reactor.readers
    assert not reactor.getDelayedCalls()


def test_what_comes_is_read_just_before_the_next_tick(polled: Polled) -> None:
    assert not polled.is_read_by_reactor
    polled.say(media(b"1"), media(b"2"))
    polled.reactor.pass_time(SLOT_S - MOST_AHEAD_S)
    assert polled.peer.heard == []
    polled.reactor.pass_time(MOST_AHEAD_S - MARGIN_S / 2)
    assert polled.peer.heard == [b"1", b"2"]
    # Behind the pass and before the tick: it is for the next one.
    polled.say(media(b"3"))
    assert polled.peer.heard == [b"1", b"2"]
    polled.tick()
    polled.tick()
    assert polled.peer.heard == [b"1", b"2", b"3"]


def test_more_than_one_read_gives_is_read_in_one_pass(polled: Polled) -> None:
    polled.say(*[media(bytes(3200))] * 30)
    polled.tick()
    assert polled.peer.heard == [bytes(3200)] * 30


def test_nothing_is_taken_while_reading_is_paused(polled: Polled) -> None:
    polled.connection.pause_reading()
    polled.say(media(b"1"))
    polled.tick()
    polled.tick()
    assert polled.peer.heard == []
    polled.connection.resume_reading()
    polled.reactor.settle()
    assert polled.peer.heard == [b"1"]
    assert not polled.is_read_by_reactor


def test_a_close_and_the_end_of_the_connection_are_noticed_within_a_slot(polled: Polled) -> None:
    polled.say(media(b"1"))
    polled.bot.sendCloseFrame(code=1001)
    polled.reactor.settle()
    assert polled.peer.ends == []
    polled.tick()
    assert polled.peer.heard == [b"1"]
    assert [(end.clean, end.code) for end in polled.peer.ends] == [(True, 1001)]
    polled.tick()
    assert not polled.place.ours.connected


def test_a_connection_that_is_cut_is_noticed_within_a_slot(polled: Polled) -> None:
    polled.say(media(b"1"))
    polled.place.theirs.abortConnection()
    polled.reactor.settle()
    polled.tick()
    assert [end.code for end in polled.peer.ends] == [1006]
    assert not polled.place.ours.connected


def test_half_a_connection_that_is_closed_is_noticed_behind_what_was_said(polled: Polled) -> None:
    polled.say(media(b"1"))
    polled.place.theirs.socket.shutdown(1)
    polled.tick()
    assert polled.peer.heard == [b"1"]
    assert [end.code for end in polled.peer.ends] == [1006]


def test_a_bot_that_answers_no_ping_is_dropped(polled: Polled) -> None:
    polled.place.theirs.stopReading()
    for _ in range(31 * 50):
        polled.tick()
    assert [end.reason for end in polled.peer.ends] == [connection_module.NO_PONG]
    assert not polled.place.ours.connected


def test_a_bot_that_answers_pings_is_kept(polled: Polled) -> None:
    for _ in range(31 * 50):
        polled.tick()
    assert polled.peer.ends == []


def test_without_ticks_the_reactor_reads(polled: Polled) -> None:
    polled.reads.stop()
    assert polled.is_read_by_reactor
    polled.say(media(b"1"))
    assert polled.peer.heard == [b"1"]


def test_one_that_was_paused_when_ticks_ended_goes_on_with_the_reactor(polled: Polled) -> None:
    polled.connection.pause_reading()
    polled.say(media(b"1"))
    polled.reads.stop()
    assert polled.peer.heard == []
    polled.connection.resume_reading()
    polled.reactor.settle()
    assert polled.is_read_by_reactor
    assert polled.peer.heard == [b"1"]


def test_without_room_for_another_epoll_object_the_reactor_reads(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        def register(self, place: int, events: int) -> None:
            raise OSError("no room")

        def close(self) -> None:
            pass

    told: list[str] = []
    reactor = SocketReactor()
    reads = Reads(reactor)
    monkeypatch.setattr(reads_module.select, "epoll", Full)
    reads.tick_follows(SLOT_S)
    reader = type("Reader", (), {"read_by_reactor": lambda self: told.append("reactor")})()
    reads.add(type("Open", (), {"fileno": lambda self: 7})(), reader)
    assert told == ["reactor"]
    reads.stop()


def test_a_pass_goes_on_in_slices(polled: Polled) -> None:
    """Between two of them the reactor may run a tick."""
    heard = polled.peer.heard

    def slowly(pcm: bytes) -> None:
        heard.append(pcm)
        polled.reactor.rightNow += 0.0004

    polled.connection._peer = type("Slow", (Peer,), {"media_received": staticmethod(slowly)})()
    polled.say(*[media(bytes(1600))] * 12)
    polled.reactor.advance(SLOT_S)
    shares = [len(heard)]
    while len(heard) < 12:
        polled.reactor.turn()
        shares.append(len(heard))
        assert len(shares) < 100
    assert max(later - before for before, later in zip([0, *shares], shares, strict=False)) <= 4


def test_what_comes_behind_the_pass_is_read_as_the_tick_begins(polled: Polled) -> None:
    polled.reactor.pass_time(SLOT_S)
    polled.say(media(b"1"))
    assert polled.peer.heard == []
    polled.reads.tick_begins()
    assert polled.peer.heard == [b"1"]


def test_what_a_pass_has_left_is_read_as_the_tick_begins_for_a_bounded_time(polled: Polled) -> None:
    heard = polled.peer.heard

    def slowly(pcm: bytes) -> None:
        heard.append(pcm)
        polled.reactor.rightNow += 0.0002

    polled.connection._peer = type("Slow", (Peer,), {"media_received": staticmethod(slowly)})()
    polled.say(*[media(bytes(1600))] * 12)
    polled.reads.tick_begins()
    assert 1 <= len(heard) <= 1 + LAST_S / 0.0002
    polled.tick()
    polled.reactor.settle()
    assert len(heard) == 12


def test_a_transport_that_is_no_socket_is_left_alone(clock: Clock) -> None:
    reads = Reads(clock)
    reads.tick_follows(SLOT_S)
    talk = open_talk(clock, reads=reads)
    talk.say(media(b"1"))
    assert talk.peer.heard == [b"1"]
    talk.hang_up()
