"""A media plane in memory and far ends for it, for the tests of this folder."""

from __future__ import annotations

import random
from typing import Any

import attrs
import numpy as np
from twisted.internet.task import Clock

from agentstream.audio import g711
from agentstream.media.leg import MediaLeg
from agentstream.media.plane import MediaPlane, MediaSettings
from agentstream.media.ports import Address
from agentstream.media.silero import Judge
from agentstream.rtp.packet import Packet
from agentstream.sdp.negotiation import MediaPlan
from agentstream.testing.network import MemoryPorts, Network

SERVER = "10.0.0.1"
SLOT_S = 0.02


def make_plan(address: Address, **changes: Any) -> MediaPlan:
    """PCMU both ways with telephone-event 101, unless ``changes`` says otherwise."""
    fields: dict[str, Any] = {
        "remote_host": address[0],
        "remote_port": address[1],
        "codec": "PCMU",
        "send_payload_type": 0,
        "receive_payload_type": 0,
        "send_digit_payload_type": 101,
        "receive_digit_payload_type": 101,
        "ptime_ms": 20,
        "maxptime_ms": None,
        "may_send": True,
        "may_receive": True,
    }
    return MediaPlan(**{**fields, **changes})


@attrs.define
class FarEnd:
    """A phone's RTP: numbers its packets by itself, keeps what it gets."""

    network: Network
    address: Address
    leg: MediaLeg
    ssrc: int = 0x1234
    sequence: int = 65530
    timestamp: int = 0xFFFFF000
    got: list[Packet] = attrs.Factory(list)

    def __attrs_post_init__(self) -> None:
        self.network.bind(self.address, lambda data, source: self.got.append(Packet.parse(data)))

    def packet(self, payload: bytes, payload_type: int = 0, **fields: Any) -> Packet:
        """The next packet; the counters move on by it."""
        packet = Packet(payload_type, self.sequence, self.timestamp, self.ssrc, payload, **fields)
        self.sequence = (self.sequence + 1) & 0xFFFF
        self.timestamp = (self.timestamp + len(payload)) & 0xFFFFFFFF
        return packet

    def send(self, packet: Packet, source: Address | None = None) -> None:
        self.send_raw(packet.serialise(), source)

    def send_raw(self, data: bytes, source: Address | None = None) -> None:
        self.network.send(data, source or self.address, (SERVER, self.leg.port))

    def say(self, payload: bytes) -> None:
        self.send(self.packet(payload))

    def heard(self) -> bytes:
        """The audio payloads in the order of arrival."""
        return b"".join(packet.payload for packet in self.got if packet.payload_type in (0, 8))


@attrs.define
class World:
    """One plane on one clock."""

    clock: Clock
    network: Network
    plane: MediaPlane
    legs: list[MediaLeg] = attrs.Factory(list)
    slot: int = 0

    def call(self, described: Address | None = None, nat: str = "host", **changes: Any) -> FarEnd:
        """A leg and its far end, which have agreed on PCMU."""
        leg = self.plane.open_leg()
        address = ("10.0.0.2", 40000 + 2 * len(self.legs))
        self.legs.append(leg)
        leg.describe(make_plan(described or address, **changes), "10.0.0.2", nat)
        return FarEnd(self.network, address, leg)

    def ticks(self, count: int) -> None:
        """Let this many slots pass."""
        for _ in range(count):
            self.slots(1)

    def slots(self, count: int) -> None:
        """Let this many slots pass in one step, as when the process was held up."""
        self.slot += count
        # A hair behind the grid, so that no sum of floats ends before it.
        self.clock.advance(self.slot * SLOT_S + 1e-6 - self.clock.seconds())

    def record(self, leg: MediaLeg, chunk_ms: int = 20) -> list[np.ndarray]:
        """What the leg's listener gets, chunk by chunk."""
        chunks: list[np.ndarray] = []
        leg.hear(chunk_ms, lambda chunk, timestamp_ms: chunks.append(chunk.copy()))
        return chunks


def make_world(rows: int = 16, *, judge: Judge | None = None, **settings: Any) -> World:
    """A plane with this many rows that ticks on a Clock; ``stop`` it in the end."""
    clock = Clock()
    network = Network(clock)
    ports = MemoryPorts(network, SERVER, range(20000, 20000 + 2 * rows, 2), rows)
    bits = random.Random(7).getrandbits
    plane = MediaPlane(clock, ports, MediaSettings(rows=rows, **settings), bits, judge=judge)
    plane.start()
    return World(clock, network, plane)


def ulaw_noise(frames: int, seed: int, samples: int = 160) -> list[bytes]:
    """Distinct mu-law frames without either zero, so that silence is never mistaken for them."""
    generator = np.random.default_rng(seed)
    codes = np.array([code for code in range(256) if code not in (0x7F, 0xFF)], np.uint8)
    return [generator.choice(codes, samples).tobytes() for _ in range(frames)]


def decode(payload: bytes) -> np.ndarray:
    """Samples of mu-law bytes."""
    return g711.ULAW_TO_PCM[np.frombuffer(payload, np.uint8)]
