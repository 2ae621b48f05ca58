"""No byte of another packet or call is ever heard (media.md section 2); asserted, and shown to notice a breach."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from agentstream.media.reception import Reception
from tests.media.kit import World, decode, make_world

MINE, THEIRS = b"\x20", b"\x40"


def foreign_heard(world: World) -> bool:
    """Whether a call that says only MINE, in packets of all lengths, ever hears THEIRS."""
    chance = random.Random(11)
    mine, theirs = world.call(), world.call()
    heard = world.record(mine.leg)
    for _ in range(200):
        # Their packets are long, so they leave bytes in receive rows that mine come to use; the order changes.
        senders = [mine, theirs] if chance.random() < 0.5 else [theirs, mine]
        for far in senders:
            if far is theirs:
                far.say(THEIRS * chance.choice([160, 320, 480]))
                continue
            kind = chance.random()
            if kind < 0.5:
                far.say(MINE * 160)
            elif kind < 0.7:
                far.say(MINE * chance.choice([1, 7, 79, 81, 100, 159]))
            elif kind < 0.9:
                data = far.packet(MINE * 160).serialise()
                far.send_raw(data[: chance.randrange(len(data))])
            else:
                data = far.packet(MINE * 20, padding=0).serialise()
                far.send_raw(bytes([data[0] | chance.choice([0x10, 0x20, 0x0F])]) + data[1:])
        world.ticks(1)
    world.ticks(20)
    sound = np.concatenate(heard)
    assert sound.any()
    # Concealment only ever makes what was said softer.
    return bool((np.abs(sound.astype(int)) > abs(int(decode(MINE)[0]))).any()) or int(decode(THEIRS)[0]) in sound


def test_short_and_cut_packets_hear_nothing_foreign(world: World) -> None:
    assert abs(int(decode(THEIRS)[0])) < abs(int(decode(MINE)[0]))
    assert not foreign_heard(world)


def test_a_reused_row_and_port_hear_nothing_of_the_call_before() -> None:
    world = make_world(1)
    before = world.call()
    before.leg.hear(20, lambda chunk, at: None)
    for _ in range(30):
        before.say(THEIRS * 160)
        before.leg.playback.write(decode(THEIRS * 160).tobytes())
    world.ticks(5)
    for _ in range(10):
        before.say(THEIRS * 160)  # still on their way when the call ends
    before.leg.close()
    after = world.call()
    assert after.leg.port == before.leg.port
    heard = world.record(after.leg)
    for _ in range(3):
        before.leg = after.leg
        before.say(THEIRS * 160)  # the old caller goes on sending to the same port
        after.say(MINE * 160)
        world.ticks(1)
    after.sequence += 1
    after.timestamp += 160  # one is lost: what conceals it is ours
    for _ in range(10):
        after.say(MINE * 160)
        world.ticks(1)
    world.ticks(10)
    sound = np.concatenate(heard)
    assert int(decode(MINE)[0]) in sound
    assert int(decode(THEIRS)[0]) not in sound
    assert set(after.heard()) <= {0xFF}
    world.plane.stop()


def test_taking_whole_rows_would_be_found(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Plant the breach: payloads taken at the length that is usual, not at the length that was received."""
    decode_rows = Reception._decode

    def planted(self: Reception, rows: Any, is_audio: Any, law: Any) -> None:
        lengths = self._headers.payload_length
        lengths[: len(rows)][is_audio & (lengths[: len(rows)] < 160)] = 160
        decode_rows(self, rows, is_audio, law)

    monkeypatch.setattr(Reception, "_decode", planted)
    assert foreign_heard(world)
