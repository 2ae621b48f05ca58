"""Bursts and stalls: what is said at once, and how lateness is worked out from what callers noted."""

from __future__ import annotations

import numpy as np
import orjson
import pytest

from agentstream.cli.bench.burst_bot import minute
from agentstream.cli.bench.callers import RECEIVED
from agentstream.cli.bench.disturb import GRID_NS, dropped_ms, lateness
from agentstream.cli.bench.websocket import TEXT, FrameReader
from agentstream.errors import AgentstreamError

FIRST_NUMBER, SLOTS = 65500, 300


def noted(late_ns: dict[tuple[int, int], int]) -> np.ndarray:
    """Two calls on grids of their own, some packets late: (call, slot) -> nanoseconds."""
    rows = [
        (
            1_000_000 + 7_000_000 * call + slot * GRID_NS + late_ns.get((call, slot), 0),
            call,
            (FIRST_NUMBER + slot) % 65536,
        )
        for slot in range(SLOTS)
        for call in (0, 1)
    ]
    received = np.zeros(len(rows), RECEIVED)
    received["at_ns"], received["call"], received["number"] = np.array(rows).T
    return received


def test_each_call_is_measured_against_its_own_grid() -> None:
    calm, window = (0, 100 * GRID_NS), (100 * GRID_NS, 400 * GRID_NS)
    found = lateness(noted({(1, 150): 12_000_000, (0, 20): 5_000_000}), calm, window)
    assert (found.packets, found.p50_ms, found.worst_ms) == (400, 0.0, 12.0)
    assert lateness(noted({(0, 20): 5_000_000}), calm, calm).worst_ms == 5.0


def test_a_packet_that_is_lost_makes_none_late() -> None:
    received = noted({})
    received = received[~((received["call"] == 0) & (received["number"] == 65510))]
    assert lateness(received, (0, 100 * GRID_NS), (0, 400 * GRID_NS)).worst_ms == 0.0


def test_no_packet_is_no_figure() -> None:
    with pytest.raises(AgentstreamError, match="No packet arrived"):
        lateness(noted({}), (0, 100 * GRID_NS), (900 * GRID_NS, 901 * GRID_NS))


@pytest.mark.parametrize("message_ms", [20, 100])
def test_a_minute_is_whole_messages(message_ms: int) -> None:
    messages = FrameReader().receive(minute(2, message_ms))
    assert len(messages) == 2000 // message_ms and {opcode for opcode, _ in messages} == {TEXT}
    body = orjson.loads(messages[0][1])
    assert body["event"] == "media" and len(body["media"]["payload"]) * 3 // 4 >= 16 * message_ms


def test_what_streams_dropped_is_read_from_their_ends() -> None:
    class Server:
        news = (
            {"event": "stream_ended", "fields": {"dropped_ms": 0.0}},
            {"event": "stream_ended", "fields": {"dropped_ms": 6500.0}},
            {"event": "call_ended", "fields": {}},
        )

    assert dropped_ms(Server()) == [6500.0, 0.0]  # type: ignore[arg-type]
