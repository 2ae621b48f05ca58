"""The bot of the barge-in tests does what it says."""

from __future__ import annotations

from typing import Any

import txaio
from twisted.internet.task import Clock

from tests.ws.barge_in import LATER_HZ, SPOKEN_HZ, barge_in_factory, tone
from tests.ws.network import Network, dial


def test_what_it_says_and_when(clock: Clock) -> None:
    txaio.config.loop = clock
    events: list[Any] = []
    factory = barge_in_factory(clock, events.append)
    network = Network(clock, lambda: factory.buildProtocol(None))
    deferred, peer = dial(network)
    found: list[Any] = []
    deferred.addCallback(found.append)
    network.flush()
    lengths = []
    for index in range(40):
        found[0].send_media(bytes(1600), index * 100)
        network.flush()
        lengths.append(len(peer.heard))
    assert lengths[0] == lengths[18] == 101
    assert lengths[19] == lengths[38] == 103
    assert b"".join(peer.heard[:100]) == tone(SPOKEN_HZ, 10.0, 8000)
    assert peer.heard[100:103] == [("mark", "spoken"), "clear", ("mark", "cleared")]
    assert b"".join(peer.heard[103:113]) == tone(LATER_HZ, 1.0, 8000)
    assert peer.heard[113:] == [("mark", "later")]
    found[0].send_mark("spoken")
    found[0].stop("callended")
    network.advance(5)
    assert [event["event"] for event in events] == ["connected", "start", "mark", "stop"]
