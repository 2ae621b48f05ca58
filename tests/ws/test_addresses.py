"""Which addresses a URL from an HTTP answer may lead to."""

from __future__ import annotations

from typing import Any

import pytest

from agentstream.errors import StreamFailed
from agentstream.testing.reactor import MemoryReactor
from agentstream.wire.exotel import ExotelSession
from agentstream.ws.addresses import NOT_PUBLIC, is_public
from agentstream.ws.connect import CONNECTION_REFUSED, NO_SUCH_HOST, connect_stream, public_endpoint
from tests.ws.network import Peer, start


@pytest.mark.parametrize(
    "host",
    ["8.8.8.8", "11.0.0.1", "172.15.0.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::1"],
)
def test_public(host: str) -> None:
    assert is_public(host)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.8.9.1",
        "0.0.0.0",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "192.0.2.1",
        "198.18.0.1",
        "224.0.0.1",
        "239.1.1.1",
        "255.255.255.255",
        "::",
        "::1",
        "fe80::1",
        "fe80::1%eth0",
        "fc00::1",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "64:ff9b::7f00:1",
        "2002:7f00:1::1",
        "2001:db8::1",
        "localhost",
        "",
    ],
)
def test_not_public(host: str) -> None:
    assert not is_public(host)


@pytest.mark.parametrize(
    ("host", "sentence"),
    [
        ("127.0.0.1", NOT_PUBLIC),
        ("[::1]", NOT_PUBLIC),
        ("localhost", NOT_PUBLIC),
        ("inner.example", NOT_PUBLIC),
        ("nobody.example", NO_SUCH_HOST),
        ("11.0.0.1", CONNECTION_REFUSED),
        ("bot.example", CONNECTION_REFUSED),
    ],
)
def test_connecting_is_refused_by_the_address_that_the_host_has(host: str, sentence: str) -> None:
    reactor = MemoryReactor()
    reactor.hosts |= {"inner.example": "10.0.0.7", "bot.example": "11.0.0.1"}
    failures: list[Any] = []
    connecting = connect_stream(
        reactor, f"ws://{host}:5001/", ExotelSession(start()), Peer(), endpoint_factory=public_endpoint
    )
    connecting.addErrback(failures.append)
    reactor.run_until(2.0)  # names are tried 300 ms apart
    assert failures[0].check(StreamFailed) and failures[0].value.reason == sentence
    assert not reactor.getDelayedCalls()
