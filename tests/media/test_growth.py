"""The tick's work in Python must not grow with the number of calls; counted, and shown to count."""

from __future__ import annotations

import sys
from collections import Counter
from types import FrameType
from typing import Any

import pytest

from agentstream.media import egress
from agentstream.sdp import Keys
from tests.media.kit import World, make_world, ulaw_noise

SOCKETS = ("network.py",)
"""Files that stand for the sockets in a test: the calls into them grow, as the socket calls do."""


KEYS = Keys("AES_CM_128_HMAC_SHA1_80", bytes(30), bytes(range(30)))


def calls_in_one_tick(rows: int, secure: int = 0) -> Counter[str]:
    """Python and C calls by name in one ordinary tick of this many two-way calls, joined in pairs, socket calls left
    out.

    :param secure: how many of them have keys of SRTP; what their far ends say is in clear all the same.
    """
    world: World = make_world(rows)
    ends = [world.call(keys=KEYS if row < secure else None) for row in range(rows)]
    frames = ulaw_noise(1, 3)
    for far in ends:
        far.leg.hear(100, lambda chunk, at: None)
        far.leg.playback.write(bytes(2 * 8000))
    for one, other in zip(ends[::2], ends[1::2], strict=True):
        one.leg.join(other.leg)
    for _ in range(12):
        for far in ends:
            far.say(frames[0])
        world.ticks(1)
    for far in ends:
        far.say(frames[0])
    calls: Counter[str] = Counter()
    inside = 0

    def count(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal inside
        is_socket = frame.f_code.co_filename.endswith(SOCKETS)
        if event == "call":
            if is_socket or inside:
                inside += 1
            else:
                calls[frame.f_code.co_qualname] += 1
        elif event == "return" and inside:
            inside -= 1
        elif event == "c_call" and not inside:
            calls[argument.__qualname__] += 1

    sys.setprofile(count)
    try:
        world.plane.tick(1, world.clock.seconds())
    finally:
        sys.setprofile(None)
    world.plane.stop()
    return calls


def listeners(calls: Counter[str]) -> Counter[str]:
    """Without the listeners whose chunk happened to be whole in this tick: they write to their sockets."""
    return Counter(
        {name: count for name, count in calls.items() if "<lambda>" not in name and name != "Ears.hear.<listcomp>"}
    )


def grown(few: Counter[str], many: Counter[str]) -> dict[str, tuple[int, int]]:
    return {name: (few[name], many[name]) for name in few | many if few[name] != many[name]}


def test_ten_rows_and_two_hundred_make_the_same_calls() -> None:
    assert grown(listeners(calls_in_one_tick(10)), listeners(calls_in_one_tick(200))) == {}


def test_only_rows_with_keys_make_calls_for_srtp() -> None:
    few, many = (listeners(calls_in_one_tick(rows, secure=2)) for rows in (10, 200))
    assert grown(few, many) == {}
    assert few["Protection.open"] > 0
    assert not [name for name in calls_in_one_tick(10) if "srtp" in name.lower() or name.startswith("Protection.open")]


def test_a_call_for_each_row_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plant the breach: one call into numpy for each row."""
    send = egress.Egress.send

    def planted(self: egress.Egress, high: int, pcm: Any, wide: Any) -> None:
        for row in range(high):
            self.sent[row].item()
        send(self, high, pcm, wide)

    monkeypatch.setattr(egress.Egress, "send", planted)
    with pytest.raises(AssertionError):
        test_ten_rows_and_two_hundred_make_the_same_calls()


def test_python_code_for_each_packet_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    send = egress.Egress.send

    def one(row: int) -> None:
        pass

    def planted(self: egress.Egress, high: int, pcm: Any, wide: Any) -> None:
        for row in range(high):
            one(row)
        send(self, high, pcm, wide)

    monkeypatch.setattr(egress.Egress, "send", planted)
    with pytest.raises(AssertionError):
        test_ten_rows_and_two_hundred_make_the_same_calls()
