"""The sample bot, in memory and as a program: ``agentstream bot echo``."""

from __future__ import annotations

import argparse
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import pytest_twisted
import txaio
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from agentstream.cli import bot as bot_command
from agentstream.errors import StartError
from agentstream.testing.bot import BAD_LISTEN, echo_bot_factory, echo_bot_service, split_listen
from agentstream.wire.exotel import ExotelSession
from agentstream.ws.connect import connect_stream
from tests.ws.network import SID, Network, Peer, dial, start


@pytest.fixture
def echo(clock: Clock) -> Iterator[tuple[Network, list[dict[str, Any]]]]:
    txaio.config.loop = clock
    events: list[dict[str, Any]] = []
    factory = echo_bot_factory(clock, events.append)
    yield Network(clock, lambda: factory.buildProtocol(None)), events


def connect(network: Network) -> tuple[Any, Peer]:
    deferred, peer = dial(network)
    found: list[Any] = []
    deferred.addCallback(found.append)
    network.flush()
    return found[0], peer


def test_media_comes_back_as_it_went_and_nothing_else_does(echo: tuple[Network, list[dict[str, Any]]]) -> None:
    """Contract 1.1 to 1.3, 1.6 rule 4."""
    network, events = echo
    connection, peer = connect(network)
    pcm = np.arange(800, dtype=np.int16)
    connection.send_media(pcm, 0)
    connection.send_digit("1", 100)
    connection.send_mark("never asked for")
    connection.send_media(b"", 100)
    network.flush()
    assert peer.heard == [pcm.tobytes(), b""]
    connection.stop("callended")
    network.advance(5)
    names = ["connected", "start", "media", "dtmf", "mark", "media", "stop"]
    assert [event.get("event") for event in events[:-1]] == names
    assert {event["stream_sid"] for event in events[1:]} == {SID}
    assert events[-1] == {"closed": 1000, "stream_sid": SID}


@pytest.mark.parametrize("data", [b"{", b"[]", b'{"event":1}', b'{"event":"media"}', b'{"event":"media","media":[]}'])
def test_what_is_no_message_is_not_answered(echo: tuple[Network, list[dict[str, Any]]], data: bytes) -> None:
    network, _ = echo
    connection, peer = connect(network)
    connection._protocol.send_text(data)
    connection.send_media(b"ab", 0)
    network.flush()
    assert peer.heard == [b"ab"]
    connection.stop("stopped")
    network.advance(5)


def test_it_listens_slowly_when_it_is_heard_slowly(echo: tuple[Network, list[dict[str, Any]]]) -> None:
    network, _ = echo
    connection, peer = connect(network)
    ours, theirs = network.ends
    connection.pause_reading()
    for index in range(200):
        connection.send_media(bytes(1600), index)
        network.flush()
    assert not theirs.is_reading
    assert len(theirs.out) < 2 * theirs.bufferSize
    connection.resume_reading()
    network.flush()
    assert len(peer.heard) == connection.counters.media_sent
    connection.stop("stopped")
    network.advance(5)
    assert ours.is_lost


@pytest.mark.parametrize(
    ("listen", "parts"),
    [("127.0.0.1:5001", ("127.0.0.1", 5001)), ("[::1]:0", ("::1", 0)), ("0.0.0.0:65535", ("0.0.0.0", 65535))],
)
def test_where_to_listen(listen: str, parts: tuple[str, int]) -> None:
    assert split_listen(listen) == parts


@pytest.mark.parametrize("listen", ["", "5001", "host:1", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536", "[::1:1", ":1"])
def test_where_not_to_listen(listen: str) -> None:
    with pytest.raises(StartError, match="ADDRESS:PORT"):
        split_listen(listen)
    parser = argparse.ArgumentParser(exit_on_error=False)
    bot_command.add_arguments(parser)
    with pytest.raises(argparse.ArgumentError) as caught:
        parser.parse_args(["echo", "--listen", listen])
    assert BAD_LISTEN in str(caught.value)


@pytest_twisted.ensureDeferred
async def test_over_real_tcp_on_loopback() -> None:
    """The service, the client and the kernel's socket options together; bounded by the handshake's deadline."""
    from twisted.internet import reactor

    txaio.config.loop = None
    service = echo_bot_service("127.0.0.1:0")
    await service.bind()
    service.startService()
    done: Deferred[None] = Deferred()

    class Counting(Peer):
        def media_received(self, pcm: bytes) -> None:
            super().media_received(pcm)
            if len(self.heard) == 20:
                done.callback(None)

    peer = Counting()
    url = f"ws://{service.address}/media?sample-rate=8000"
    connection = await connect_stream(reactor, url, ExotelSession(start()), peer, handshake_timeout_s=5.0)
    handle = connection._protocol.transport.getHandle()
    assert handle.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    # Linux doubles what it is asked for, macOS does not.
    assert 32768 <= handle.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) <= 65536
    chunks = [np.full(800, index, np.int16) for index in range(20)]
    for index, chunk in enumerate(chunks):
        connection.send_media(chunk, index * 100)
    done.addTimeout(5.0, reactor)
    await done
    assert peer.heard == [chunk.tobytes() for chunk in chunks]
    await service.stopService()
    gone: Deferred[None] = Deferred()
    connection._protocol.is_closed.addCallback(lambda _: gone.callback(None))
    gone.addTimeout(5.0, reactor)
    await gone
    assert [(end.clean, end.by, end.code) for end in peer.ends] == [(True, "bot", 1001)]


@pytest_twisted.ensureDeferred
async def test_a_port_in_use_is_one_sentence() -> None:
    first = echo_bot_service("127.0.0.1:0")
    await first.bind()
    second = echo_bot_service(first.address)
    with pytest.raises(StartError, match="choose an address and a port that are free"):
        await second.bind()
    await first.bind()
    await first.stopService()


PROGRAM = (
    "import argparse, sys\nfrom agentstream.cli import bot\nparser = argparse.ArgumentParser()\n"
    "bot.add_arguments(parser)\nsys.exit(bot.run(parser.parse_args()))\n"
)


@pytest.mark.slow
def test_as_a_program() -> None:
    """Slow: it starts two interpreters."""
    command = [sys.executable, "-W", "error", "-c", PROGRAM, "echo", "--json", "--listen"]
    with subprocess.Popen([*command, "127.0.0.1:0"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as program:
        try:
            assert program.stdout is not None
            address = json.loads(program.stdout.readline())["listening"]
            again = subprocess.run([*command, address], capture_output=True, text=True, timeout=20)
            assert again.returncode == 1
            assert again.stderr.startswith(f"The echo bot cannot listen on {address}")
            assert again.stderr.count("\n") == 1
        finally:
            program.terminate()
            _, errors = program.communicate(timeout=20)
    assert errors == b""
    assert program.returncode == 0
