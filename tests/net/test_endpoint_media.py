"""What callers' RTP does to its clock and its source in the middle of a call (media.md section 3), on whole calls."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from agentstream.testing.bots import Session
from agentstream.testing.phone import BYTES_PER_MS, Phone, speech
from agentstream.testing.server import ServerUnderTest
from tests.server.kit import bot_flow, pcm

pytestmark = pytest.mark.rfc(3550)

HOUR = 3600 * 8000


class World:
    """One answered call and the bot that listens to it."""

    def __init__(self, server: ServerUnderTest, **options: int) -> None:
        self.server = server
        self._bot = server.bot()
        self.phone: Phone = server.call(**options)
        server.advance(0.2)

    @property
    def bot(self) -> Session:
        return self._bot.session

    def say(self, sound: bytes, wait_s: float = 0.0) -> None:
        self.phone.say(sound)
        self.server.advance_until(lambda: self.phone.is_quiet)
        self.server.advance(wait_s or 0.02)

    def freeze(self) -> None:
        """The next packet's timestamp follows the last one's, whatever time has passed."""
        self.phone._next_at = self.server.now + 0.005

    def statistics(self) -> dict[str, object]:
        self.server.advance_until(lambda: self.phone.is_quiet)
        self.server.advance(0.4)
        self.phone.hang_up()
        self.server.advance(0.1)
        fields: dict[str, object] = self.server.events("leg_ended")[-1].fields
        return fields

    def stretches(self) -> list[tuple[int, int]]:
        """(first sample, samples) of each stretch that the bot heard, silences shorter than 5 ms being none."""
        heard = np.flatnonzero(np.frombuffer(self.bot.audio, "<i2"))
        if not len(heard):
            return []
        ends = np.flatnonzero(np.diff(heard) > 40)
        firsts = np.concatenate(([heard[0]], heard[ends + 1]))
        lasts = np.concatenate((heard[ends], [heard[-1]]))
        return [(int(first), int(last - first + 1)) for first, last in zip(firsts, lasts, strict=True)]


@pytest.mark.parametrize("hold_s", [0.1, 0.3, 0.6, 1.0, 5.0])
@pytest.mark.parametrize("direction", ["recvonly", "inactive"])
def test_a_hold_with_frozen_timestamps(hold_s: float, direction: str) -> None:
    """Phones that stop their RTP clock while they hold: without a new anchor every packet behind it would be late."""
    with ServerUnderTest(bot_flow()) as server:
        world = World(server)
        before, after = speech(400, seed=1), speech(400, seed=2)
        world.say(before, 0.1)
        world.phone.reinvite(direction)
        server.advance(hold_s)
        world.phone.resume()
        server.advance(0.04)
        world.freeze()
        world.say(after)
        fields = world.statistics()
        assert pcm(before) in world.bot.audio
        assert pcm(after) in world.bot.audio, "not a sample is missing"
        assert (fields["rtp_lost"], fields["rtp_concealed_ms"], fields["rtp_late"]) == (0, 0, 0)


def test_a_pause_with_frozen_timestamps_and_no_hold() -> None:
    """The same without a re-INVITE: the anchor is found by two packets in sequence (three where it is barely late)."""
    with ServerUnderTest(bot_flow()) as server:
        world = World(server)
        world.say(speech(400, seed=1), 2.0)
        world.freeze()
        after = speech(400, seed=2)
        world.say(after)
        assert world.statistics()["rtp_lost"] == 0
        assert pcm(after) in world.bot.audio


@pytest.mark.parametrize("jump", [HOUR, -HOUR, 3 * 8000, 12345])
def test_a_timestamp_that_jumps(jump: int) -> None:
    with ServerUnderTest(bot_flow()) as server:
        world = World(server)
        said = speech(800, seed=1)
        world.phone.say(said[:3200])
        server.advance_until(lambda: world.phone.is_quiet)
        world.phone.timestamp = (world.phone.timestamp + jump) & 0xFFFFFFFF
        world.phone.say(said[3200:])
        fields = world.statistics()
        assert pcm(said[:3200]) in world.bot.audio and pcm(said[3200:]) in world.bot.audio
        assert (fields["rtp_lost"], fields["rtp_concealed_ms"]) == (0, 0)
        silences = [
            later[0] - before[0] - before[1]
            for before, later in zip(world.stretches(), world.stretches()[1:], strict=False)
        ]
        assert all(silence <= 60 * BYTES_PER_MS for silence in silences), "no longer silence than the playout delay"


@pytest.mark.parametrize("is_sequence_new", [False, True])
def test_another_ssrc_from_the_same_source(is_sequence_new: bool) -> None:
    with ServerUnderTest(bot_flow()) as server:
        world = World(server)
        said = speech(800, seed=1)
        world.phone.say(said[:3200])
        server.advance_until(lambda: world.phone.is_quiet)
        world.phone.ssrc ^= 0xABCDEF
        world.phone.timestamp = 77
        if is_sequence_new:
            world.phone.sequence_number = 12
        world.phone.say(said[3200:])
        world.statistics()
        assert pcm(said[:3200]) in world.bot.audio
        assert pcm(said[3200:]) in world.bot.audio


def test_30_ms_packets_with_one_lost() -> None:
    """Three blocks are missing and concealed, and everything else is heard in its place."""
    with ServerUnderTest(bot_flow()) as server:
        world = World(server, ptime_ms=30)
        said = speech(900, seed=1)
        # Numbers count from the first datagram of this path.
        world.phone.path_out.lost = frozenset({len(world.phone.path_out.sent) + 10})
        world.say(said)
        fields = world.statistics()
        assert (fields["rtp_lost"], fields["rtp_concealed_ms"]) == (1, 30)
        heard = world.bot.audio
        # Where what is made up meets what was said, the two are blended over some milliseconds.
        first, second = pcm(said[: 2400 - 80]), pcm(said[2640 + 80 :])
        assert first in heard and second in heard
        assert heard.index(second) - heard.index(first) == 2 * (2640 + 80)


def test_discontinuous_transmission() -> None:
    """A step of the timestamp without a missing number is silence of just that length: neither lost nor concealed."""
    with ServerUnderTest(bot_flow()) as server:
        world = World(server)
        words = [speech(200, seed=number) for number in range(4)]
        pauses_ms = [100, 300, 1000, 0]
        for word, pause_ms in zip(words, pauses_ms, strict=True):
            world.phone.say(word)
            server.advance_until(lambda: world.phone.is_quiet)
            began = world.phone._next_at
            server.advance(pause_ms / 1000)
            world.phone._next_at = began
        fields = world.statistics()
        assert (fields["rtp_lost"], fields["rtp_concealed_ms"], fields["rtp_late"]) == (0, 0, 0)
        heard = world.bot.audio
        places = [heard.index(pcm(word)) // 2 for word in words]
        steps = [later - before for before, later in itertools.pairwise(places)]
        for step, pause_ms in zip(steps, pauses_ms, strict=False):
            # The phone's packets stay on its 20 ms grid.
            assert abs(step - (200 + pause_ms) * BYTES_PER_MS) <= 20 * BYTES_PER_MS


@pytest.mark.rfc(4961)
def test_a_source_that_moves_keeps_its_call() -> None:
    """A NAT that gives another port: learnt when the old one has been silent for 500 ms."""
    with ServerUnderTest(bot_flow()) as server:
        world = World(server)
        world.say(speech(200, seed=1), 0.6)
        said = speech(400, seed=2)
        phone = world.phone
        got: list[bytes] = []
        moved = (phone.rtp_address[0], phone.rtp_address[1] + 1000)
        server.reactor.network.bind(moved, lambda data, source: got.append(data))
        for start in range(0, len(said), 160):
            header = bytes([0x80, 0]) + (500 + start // 160).to_bytes(2, "big") + (start).to_bytes(4, "big")
            phone.send_rtp(header + b"\0\0\0\x09" + said[start : start + 160], moved[1])
            server.advance(0.02)
        server.advance(0.4)
        assert pcm(said) in world.bot.audio
        assert len(got) >= 20, "and it is sent there (RFC 4961)"
        server.reactor.network.unbind(moved)
