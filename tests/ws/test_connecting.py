"""Bots that refuse, hang, close early or speak something else: contract.md 3.5, and one sentence for each."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError
from twisted.internet.error import DNSLookupError
from twisted.internet.task import Clock

from agentstream.errors import StreamFailed
from agentstream.ws import connect as connect_module
from agentstream.ws import protocol as protocol_module
from agentstream.ws import url as url_module
from agentstream.ws.url import split_url
from tests.cases import cases
from tests.ws.network import Network, Silent, bots, dial, saying


def failure_of(deferred: Any) -> list[str]:
    reasons: list[str] = []
    deferred.addErrback(lambda failure: reasons.append(failure.trap(StreamFailed) and failure.value.reason))
    return reasons


REFUSALS = [
    (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", protocol_module.REFUSED.format(403)),
    (b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic\r\n\r\n", protocol_module.REFUSED.format(401)),
    (b"HTTP/1.0 503 x\r\n\r\n", protocol_module.REFUSED.format(503)),
    (b"HTTP/1.1 200 OK\r\n\r\nhello", protocol_module.REFUSED.format(200)),
    (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", protocol_module.NOT_WEBSOCKET),
    (
        b"HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Accept: AAAA\r\n\r\n",
        protocol_module.NOT_WEBSOCKET,
    ),
    (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", protocol_module.NOT_WEBSOCKET),
    (b"\r\n\r\n", protocol_module.NOT_WEBSOCKET),
    (b"\xff\xfe\x80\r\n\r\n", protocol_module.NOT_WEBSOCKET),
    (b"HTTP/1.1 " + b"9" * 5000 + b"\r\n\r\n", protocol_module.NOT_WEBSOCKET),
    (b"HTTP/1.1 \xc2\xb2\xc2\xb2\xc2\xb2 x\r\n\r\n", protocol_module.NOT_WEBSOCKET),
    (b"A" * 100_000, protocol_module.NOT_WEBSOCKET),
]


@pytest.mark.contract
@cases(
    ("answer", "sentence"),
    REFUSALS,
    ids=[
        "status 403",
        "status 401",
        "status 503",
        "status 200",
        "101 without headers",
        "101 with a wrong accept",
        "another protocol",
        "an empty line",
        "no text",
        "a long status",
        "a status in superscript",
        "100 kB",
    ],
)
def test_3_5_a_refused_handshake_is_tried_once_more(clock: Clock, answer: bytes, sentence: str) -> None:
    """Contract 3.5: one automatic retry when the handshake fails."""
    network = Network(clock, saying(answer))
    deferred, peer = dial(network)
    reasons = failure_of(deferred)
    network.flush()
    assert reasons == [sentence]
    assert network.attempts == 2
    assert all(end.is_lost for end in network.ends)
    assert peer.ends == []


def test_the_second_attempt_may_succeed(clock: Clock) -> None:
    """Contract 3.5."""
    make, made = bots(clock)
    network = Network(clock, saying(b"HTTP/1.1 503 Busy\r\n\r\n"), make)
    deferred, _ = dial(network)
    deferred.addCallback(lambda connection: connection.stop("stopped"))
    network.flush()
    assert made[0].events() == ["connected", "start", "stop"]
    assert [message.get("sequence_number") for message in made[0].received] == [None, "1", "2"]


@pytest.mark.parametrize(
    "server",
    [Silent, "black hole", saying(b"HTTP/1.1 101 Switching"), saying(b"")],
    ids=["silent", "not there", "half a head", "nothing said"],
)
def test_connecting_and_handshake_take_ten_seconds_in_all(clock: Clock, server: Any) -> None:
    """Contract 3.5: 10 s, then fresh 10 s for the retry."""
    network = Network(clock, server)
    deferred, _ = dial(network)
    reasons = failure_of(deferred)
    network.advance(9.9)
    assert network.attempts == 1
    network.advance(0.2)
    assert network.attempts == 2
    network.advance(9.8)
    assert reasons == []
    network.advance(0.3)
    assert reasons == [connect_module.TOO_SLOW.format(10)]
    assert all(end.is_lost for end in network.ends)


def test_nobody_listens(clock: Clock) -> None:
    network = Network(clock, None)
    deferred, _ = dial(network)
    reasons = failure_of(deferred)
    network.flush()
    assert reasons == [connect_module.CONNECTION_REFUSED]
    assert network.attempts == 2


@pytest.mark.parametrize(
    ("error", "sentence"),
    [(DNSLookupError(), connect_module.NO_SUCH_HOST), (OSError(101, "x"), connect_module.UNREACHABLE)],
)
def test_other_ways_not_to_connect(clock: Clock, error: Exception, sentence: str) -> None:
    class Failing(Network):
        def _connect(self, factory: Any, make: Any, result: Any) -> None:
            result.errback(error)

    network = Failing(clock, None)
    deferred, _ = dial(network, retries=0)
    reasons = failure_of(deferred)
    network.flush()
    assert reasons == [sentence]
    assert network.attempts == 1


def test_a_bot_that_closes_in_the_handshake(clock: Clock) -> None:
    network = Network(clock, saying(b"HTTP/1.1 101 Swi", then_close=True))
    deferred, _ = dial(network)
    reasons = failure_of(deferred)
    network.flush()
    assert reasons == [protocol_module.CLOSED_IN_HANDSHAKE]
    assert network.attempts == 2


@pytest.mark.parametrize("seconds", [0, 3])
@pytest.mark.parametrize("server", [Silent, "black hole"])
def test_cancelling_gives_up_at_once(clock: Clock, seconds: float, server: Any) -> None:
    network = Network(clock, server)
    deferred, peer = dial(network)
    failures: list[Any] = []
    deferred.addErrback(failures.append)
    if seconds:
        network.advance(seconds)
    deferred.cancel()
    network.flush()
    assert failures[0].check(CancelledError)
    assert all(end.is_lost for end in network.ends)
    assert network.attempts == 1
    assert peer.ends == []


def test_a_url_that_is_none_is_not_tried(clock: Clock) -> None:
    network = Network(clock, None)
    deferred, _ = dial(network, "http://host/")
    assert failure_of(deferred) == [url_module.BAD_SCHEME]
    assert network.attempts == 0


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("ws://127.0.0.1", "TCP4ClientEndpoint"),
        ("ws://[::1]", "TCP6ClientEndpoint"),
        ("ws://my_bot", "HostnameEndpoint"),
        ("wss://127.0.0.1", "TCP4ClientEndpoint"),
    ],
)
def test_addresses_need_no_resolver(url: str, kind: str) -> None:
    from twisted.internet.testing import MemoryReactorClock

    endpoint = connect_module.tcp_endpoint(MemoryReactorClock(), split_url(url))
    assert type(endpoint).__name__ == kind


@pytest.mark.rfc(6455)
@settings(max_examples=60)
@given(st.lists(st.binary(max_size=60), max_size=4), st.sampled_from([b"", b"HTTP/1.1 101 x\r\n", b"HTTP/1.1 "]))
def test_any_bytes_in_the_handshake_are_a_sentence(pieces: list[bytes], head: bytes) -> None:
    clock = Clock()
    network = Network(clock, saying(head + b"".join(pieces) + b"\r\n\r\n"))
    deferred, _ = dial(network, retries=0)
    reasons = failure_of(deferred)
    network.advance(11)
    assert len(reasons) == 1
    assert not clock.getDelayedCalls()
