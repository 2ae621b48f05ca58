"""A bot that stops reading: its own call drops sound after 2 s and what the kernel holds, and nothing else changes."""

from __future__ import annotations

import numpy as np

from agentstream.testing.bots import Echo
from agentstream.testing.hostile_bots import SlowReader
from agentstream.testing.phone import speech
from agentstream.testing.server import ServerUnderTest
from agentstream.ws.connection import QUEUE_S
from agentstream.ws.protocol import SEND_BUFFER_BYTES, WRITE_BUFFER_BYTES
from tests.server.kit import bot_flow

OTHERS = 5
CHUNK_MS, MESSAGE_BYTES = 100, 2134
"""A chunk at 8 kHz is 1,600 bytes, and its base64 with the rest of the message this much at least."""

HELD_MS = QUEUE_S * 1000 + (SEND_BUFFER_BYTES + WRITE_BUFFER_BYTES) / MESSAGE_BYTES * CHUNK_MS


def held(server: ServerUnderTest) -> int:
    """Bytes that wait for the slow bot on our side of the kernel."""
    return sum(len(end._out) for end in server.reactor.tcp.open_connections)


def test_memory_is_flat_and_what_is_dropped_is_all_but_two_seconds_and_the_buffers() -> None:
    routes = {"route": [{"to": "1", "flow": "main"}, {"to": "2", "flow": "other"}]}
    flows = [bot_flow(), {**bot_flow(url="ws://127.0.0.1:5002/"), "name": "other"}]
    with ServerUnderTest(flows, routes) as server:
        slow, good = server.bot(SlowReader), server.bot(Echo, port=5002)
        server.reactor.tcp.path(("127.0.0.1", 5001)).capacity = SEND_BUFFER_BYTES
        deaf = server.call("1")
        others = [server.call("2", host=f"127.0.1.{number}") for number in range(OTHERS)]
        server.advance(6)
        early = held(server)
        said = speech(1000)
        for phone in others:
            phone.say(said)
        server.advance(18)  # after 30 s without a pong it is taken for lost
        assert early <= WRITE_BUFFER_BYTES + 2 * MESSAGE_BYTES and abs(held(server) - early) < MESSAGE_BYTES
        for phone in others:
            assert phone.heard_sound() == said
            assert np.abs(np.diff([arrival.at for arrival in phone.arrivals]) - 0.02).max() < 1e-6
        assert {len(session.bodies("media")) for session in good.sessions} <= {239, 240, 241}
        began = server.events("stream_started")[0].at
        total_ms = (server.now - began) * 1000
        deaf.hang_up()
        server.advance(0.1)
        ended = server.events("stream_ended")[0].fields
        assert total_ms - HELD_MS - 2 * CHUNK_MS <= ended["dropped_ms"] <= total_ms - QUEUE_S * 1000
        assert ended["media_dropped"] == ended["dropped_ms"] / CHUNK_MS
        assert not slow.session.bodies("media") or len(slow.session.bodies("media")) < 3
