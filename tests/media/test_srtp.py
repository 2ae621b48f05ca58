"""Rows with keys of SRTP (RFC 3711, RFC 7714): what is heard, what is sent, and what is neither."""

from __future__ import annotations

from collections import Counter
from typing import Any

import attrs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pylibsrtp import Error, Policy, Session

from agentstream.media import srtp
from agentstream.media.leg import MediaLeg
from agentstream.media.ports import PACKET_CAPACITY, Address, Pass
from agentstream.media.protection import Protection
from agentstream.rtp import rtcp
from agentstream.rtp.packet import Packet
from agentstream.sdp import Keys
from agentstream.testing.phone import KEY_BYTES, PROFILES
from tests.media.kit import SERVER, World, decode, make_plan, make_world, ulaw_noise
from tests.oracles import srtp as by_hand

pytestmark = pytest.mark.rfc(3711)

CM_80 = "AES_CM_128_HMAC_SHA1_80"


def keys(suite: str = CM_80, number: int = 1) -> Keys:
    """Of the leg: what it sends under, and what it reads."""
    return Keys(suite, bytes([number]) * KEY_BYTES[suite], bytes([100 + number]) * KEY_BYTES[suite])


def session(key: bytes, suite: str, *, sends: bool) -> Session:
    kind = Policy.SSRC_ANY_OUTBOUND if sends else Policy.SSRC_ANY_INBOUND
    return Session(Policy(key=key, ssrc_type=kind, srtp_profile=PROFILES[suite]))


@attrs.define
class SecureEnd:
    """A phone's SRTP, by the library's own classes."""

    world: World
    address: Address
    leg: MediaLeg
    keys: Keys
    ssrc: int = 0x1234
    sequence: int = 65530
    timestamp: int = 0xFFFFF000
    wire: list[bytes] = attrs.Factory(list)
    controls: list[bytes] = attrs.Factory(list)
    unread: int = 0
    sender: Session = attrs.field(init=False)
    reader: Session = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.take_keys(self.keys)
        self.world.network.bind(self.address, lambda data, source: self.wire.append(data))
        control = (self.address[0], self.address[1] + 1)
        self.world.network.bind(control, lambda data, source: self.controls.append(data))

    def take_keys(self, used: Keys) -> None:
        self.keys = used
        self.sender = session(used.receive, used.suite, sends=True)
        self.reader = session(used.send, used.suite, sends=False)

    def describe(self, used: Keys | None, **changes: Any) -> None:
        self.leg.describe(make_plan(self.address, keys=used, **changes), "10.0.0.2", "host")

    def plain(self, payload: bytes, payload_type: int = 0) -> bytes:
        packet = Packet(payload_type, self.sequence, self.timestamp, self.ssrc, payload)
        self.sequence = (self.sequence + 1) & 0xFFFF
        self.timestamp = (self.timestamp + len(payload)) & 0xFFFFFFFF
        return packet.serialise()

    def packet(self, payload: bytes, payload_type: int = 0) -> bytes:
        return self.sender.protect(self.plain(payload, payload_type))

    def send(self, data: bytes, source: Address | None = None, *, port: int = 0) -> None:
        self.world.network.send(data, source or self.address, (SERVER, self.leg.port + port))

    def say(self, payload: bytes) -> None:
        self.send(self.packet(payload))

    def read(self) -> list[Packet]:
        """What came since the last time."""
        came, self.wire[:] = list(self.wire), []
        return [Packet.parse(self.reader.unprotect(data)) for data in came]

    def heard(self) -> bytes:
        return b"".join(packet.payload for packet in self.read())

    @property
    def refused(self) -> dict[str, int]:
        return self.leg.statistics().refused


def call(world: World, used: Keys | None = None, nat: str = "host", **changes: Any) -> SecureEnd:
    leg = world.plane.open_leg()
    address = ("10.0.0.2", 40000 + 2 * len(world.legs))
    world.legs.append(leg)
    used = used or keys()
    leg.describe(make_plan(address, keys=used, **changes), "10.0.0.2", nat)
    return SecureEnd(world, address, leg, used)


def talk(world: World, far: SecureEnd, frames: list[bytes]) -> None:
    for frame in frames:
        far.say(frame)
        world.ticks(1)


def is_in(frames: list[bytes], chunks: list[np.ndarray]) -> bool:
    """All frames were heard, one behind the other; the first may be faded in."""
    heard = np.concatenate(chunks).astype(np.int16).tobytes()
    return decode(b"".join(frames[1:])).astype(np.int16).tobytes() in heard


@pytest.mark.rfc(7714)
@pytest.mark.parametrize("suite", KEY_BYTES)
def test_both_ways_across_the_wrap_of_the_sequence_number(suite: str) -> None:
    world = make_world()
    far = call(world, keys(suite))
    chunks, frames, answers = world.record(far.leg), ulaw_noise(20, 1), ulaw_noise(20, 2)
    far.leg.playback.write(decode(b"".join(answers)).tobytes())
    talk(world, far, frames)
    world.ticks(10)
    assert is_in(frames, chunks)
    assert far.refused == {}
    wire = list(far.wire)
    assert {len(data) for data in wire} == {172 + srtp.TAGS[suite]}
    assert not any(answer in data for answer in answers for data in wire)
    heard = far.heard()
    assert b"".join(answers) in heard
    world.plane.stop()


def test_what_is_on_the_wire_is_what_the_rfc_computes() -> None:
    world = make_world()
    far = call(world)
    frames = ulaw_noise(8, 2)
    far.leg.playback.write(decode(b"".join(frames)).tobytes())
    chunks = world.record(far.leg)
    said = ulaw_noise(12, 4)
    for number, frame in enumerate(said):
        far.send(by_hand.protect(far.keys.receive, far.plain(frame), rollover=number // 6))  # 65530 is the first
        world.ticks(1)
    world.ticks(6)
    assert is_in(said, chunks)
    wire = list(far.wire)
    for data, packet in zip(wire, far.read(), strict=True):
        assert data == by_hand.protect(far.keys.send, packet.serialise(), rollover=0)
    world.plane.stop()


def test_the_first_number_is_in_the_lower_half() -> None:
    for _ in range(5):
        world = make_world()
        far = [call(world) for _ in range(10)]
        world.ticks(1)
        assert all(end.read()[0].sequence_number < 1 << 15 for end in far)
        world.plane.stop()


class TestWhatIsNotHeard:
    """Counted by kind, and nothing more comes of it."""

    def test_a_wrong_tag(self) -> None:
        world = make_world()
        far = call(world)
        chunks = world.record(far.leg)
        packets = [bytearray(far.packet(frame)) for frame in ulaw_noise(3, 1)]
        packets[0][-1] ^= 1
        packets[1][20] ^= 1
        packets[2][4] ^= 1
        for packet in packets:
            far.send(bytes(packet))
            world.ticks(1)
        world.ticks(8)
        assert not np.concatenate(chunks).any()
        assert far.refused == {srtp.BAD_TAG: 3}
        assert far.leg.statistics().received == 0
        world.plane.stop()

    @pytest.mark.parametrize("nat", ["strict", "host", "any"])
    def test_no_source_is_learnt_by_it(self, nat: str) -> None:
        """RTPbleed, by somebody who cannot have the key: nothing is sent there."""
        world = make_world()
        far = call(world, nat=nat)
        thief = ("10.0.0.2", 50000)
        stolen: list[bytes] = []
        world.network.bind(thief, lambda data, source: stolen.append(data))
        other = session(bytes(30), CM_80, sends=True)
        for frame in ulaw_noise(8, 1):
            far.send(other.protect(far.plain(frame)), thief)
            far.send(far.plain(frame), thief)
            world.ticks(1)
        assert (stolen, far.leg.statistics().foreign) == ([], 0)
        assert far.refused == {srtp.BAD_TAG: 16}
        world.plane.stop()

    def test_a_replayed_packet(self) -> None:
        world = make_world()
        far = call(world)
        chunks = world.record(far.leg)
        packets = [far.packet(frame) for frame in ulaw_noise(3, 1)]
        for packet in (*packets, *packets):
            far.send(packet)
            world.ticks(1)
        world.ticks(8)
        assert is_in(ulaw_noise(3, 1), chunks)
        assert far.refused == {srtp.REPLAYED: 3}
        assert far.leg.statistics().duplicate == 0
        world.plane.stop()

    def test_rtp_in_clear(self) -> None:
        world = make_world()
        far = call(world)
        chunks = world.record(far.leg)
        for frame in ulaw_noise(4, 1):
            far.send(far.plain(frame))
            world.ticks(1)
        world.ticks(8)
        assert not np.concatenate(chunks).any()
        assert sum(far.refused.values()) == 4
        world.plane.stop()

    def test_rows_in_clear_beside_it_hear_all(self) -> None:
        """What is taken out of a pass leaves the others where they belong."""
        world = make_world()
        ends: list[Any] = [world.call() if number % 2 else call(world) for number in range(6)]
        records = [world.record(end.leg) for end in ends]
        said = [ulaw_noise(10, seed) for seed in range(6)]
        for at in range(10):
            for number, end in enumerate(ends):
                if number in (0, 4):
                    end.send(bytes(end.packet(said[number][at])[:-1]))
                else:
                    end.say(said[number][at])
            world.ticks(1)
        world.ticks(8)
        for number in (1, 2, 3, 5):
            assert is_in(said[number], records[number]), number
        assert not np.concatenate(records[0]).any() and not np.concatenate(records[4]).any()
        assert [sum(end.leg.statistics().refused.values()) for end in ends] == [10, 0, 0, 0, 10, 0]
        world.plane.stop()

    def test_what_cannot_be_protected_is_not_sent(self, monkeypatch: pytest.MonkeyPatch) -> None:
        world = make_world()
        far = call(world)
        monkeypatch.setattr(srtp, "protect", lambda *arguments: 1)
        monkeypatch.setattr(srtp, "protect_control", lambda *arguments: 1)
        world.ticks(500)
        assert (far.wire, far.controls) == ([], [])
        assert far.leg.statistics().send_errors > 500
        world.plane.stop()


class TestKeysInMidCall:
    """RFC 4568 section 7.1.4, RFC 3711 section 3.2.1."""

    def test_a_key_that_stays_keeps_rollover_counter_and_replay_window(self) -> None:
        world = make_world()
        far = call(world)
        before = [far.packet(frame) for frame in ulaw_noise(10, 1)]  # across the wrap: the counter is 1
        for packet in before:
            far.send(packet)
            world.ticks(1)
        far.describe(far.keys, may_send=False)
        world.ticks(5)
        far.describe(far.keys)
        chunks = world.record(far.leg)
        for packet in before:
            far.send(packet)
            world.ticks(1)
        assert far.refused == {srtp.REPLAYED: 10}
        talk(world, far, ulaw_noise(10, 2))
        world.ticks(8)
        assert is_in(ulaw_noise(10, 2), chunks)
        far.read()  # with the session that it has had from the first packet on
        world.plane.stop()

    @pytest.mark.parametrize("suite", KEY_BYTES)
    def test_another_key_is_another_context_and_the_old_one_is_read_for_a_second(self, suite: str) -> None:
        world = make_world()
        far = call(world, keys(suite))
        talk(world, far, ulaw_noise(5, 1))
        far.read()
        old = far.sender
        far.describe(keys(suite, 2))
        chunks = world.record(far.leg)
        under_way = ulaw_noise(5, 2)
        for frame in under_way:
            far.send(old.protect(far.plain(frame)))
            world.ticks(1)
        far.take_keys(keys(suite, 2))
        new = ulaw_noise(45, 3)
        talk(world, far, new)
        world.ticks(8)
        assert is_in([*under_way, *new], chunks)
        assert len(far.read()) == 58
        assert far.refused == {}
        for frame in ulaw_noise(3, 4):
            far.send(old.protect(far.plain(frame)))
            world.ticks(1)
        assert far.refused == {srtp.BAD_TAG: 3}
        world.plane.stop()

    def test_back_to_the_key_before_nothing_is_heard_twice(self) -> None:
        world = make_world()
        far = call(world)
        packets = [far.packet(frame) for frame in ulaw_noise(3, 1)]
        for packet in packets:
            far.send(packet)
            world.ticks(1)
        far.describe(keys(number=2))
        far.describe(Keys(CM_80, bytes(30), far.keys.receive))
        for packet in packets:
            far.send(packet)
            world.ticks(1)
        assert far.refused == {srtp.REPLAYED: 3}
        assert far.leg.statistics().received == 3
        world.plane.stop()

    def test_a_key_that_comes_back_later_goes_on_where_it_was(self) -> None:
        """RFC 3711 section 9.1: with a rollover counter begun anew the same keystream would be sent twice."""
        world = make_world()
        far = call(world)
        packets = [far.packet(frame) for frame in ulaw_noise(10, 1)]  # across the wrap: both counters are 1
        for packet in packets:
            far.send(packet)
            world.ticks(1)
        for number in (2, 3, 4):
            far.describe(keys(number=number))
            world.ticks(60)
        far.wire.clear()
        far.describe(far.keys)
        chunks = world.record(far.leg)
        world.ticks(60)
        for packet in packets:
            far.send(packet)
            world.ticks(1)
        assert far.refused == {srtp.REPLAYED: 10}
        talk(world, far, ulaw_noise(10, 2))
        world.ticks(8)
        assert is_in(ulaw_noise(10, 2), chunks)
        assert len(far.read()) == 60 + 10 + 10 + 8  # with the session that it has had from the first packet on
        world.plane.stop()

    def test_to_clear_and_back(self) -> None:
        """What was agreed on is what is sent and heard; SRTP that is under way when it ends is still read."""
        world = make_world()
        far = call(world)
        talk(world, far, ulaw_noise(5, 1))
        far.read()
        late = far.packet(ulaw_noise(1, 2)[0])
        far.describe(None)
        chunks = world.record(far.leg)
        far.send(late)
        world.ticks(1)
        clear = ulaw_noise(60, 3)
        for frame in clear:
            far.send(far.plain(frame))
            world.ticks(1)
        world.ticks(8)
        assert is_in([*ulaw_noise(1, 2), *clear], chunks)
        assert {len(data) for data in far.wire} == {172}
        far.wire.clear()
        far.describe(keys(number=2))
        far.take_keys(keys(number=2))
        talk(world, far, ulaw_noise(3, 4))
        assert len(far.read()) == 3
        assert far.refused == {}
        world.plane.stop()


def test_contexts_of_ssrcs_are_bounded_and_none_comes_back() -> None:
    world = make_world()
    far = call(world)
    first = far.packet(ulaw_noise(1, 1)[0])
    far.send(first)
    world.ticks(1)
    for number in range(srtp.ReadContext.KEPT):
        far.ssrc = 0x2000 + number
        talk(world, far, ulaw_noise(1, 1))
    assert srtp.TOO_MANY_SOURCES not in far.refused
    far.send(first)
    world.ticks(1)
    assert far.refused[srtp.TOO_MANY_SOURCES] == 1
    for number in range(srtp.ReadContext.GIVEN_UP + 50):
        far.ssrc = 0x10000 + number
        far.say(b"\x11" * 160)
        if number % 4 == 3:
            world.ticks(1)
    world.ticks(2)
    assert far.refused[srtp.TOO_MANY_SOURCES] == 1 + 50 + 1
    world.plane.stop()


class TestControl:
    """RTCP is SRTCP, on a port of its own and on RTP's."""

    @pytest.mark.parametrize("suite", KEY_BYTES)
    @pytest.mark.parametrize("is_muxed", [False, True])
    def test_both_ways(self, suite: str, is_muxed: bool) -> None:
        world = make_world()
        far = call(world, keys(suite), is_muxed=is_muxed)
        report = rtcp.compound(
            rtcp.ReceiverReport(far.ssrc), rtcp.SourceDescription.of_cname(far.ssrc, "someone@10.0.0.2")
        )
        port = 0 if is_muxed else 1
        source = (far.address[0], far.address[1] + port)
        talk(world, far, ulaw_noise(2, 1))
        protected = far.sender.protect_rtcp(report)
        far.send(protected, source, port=port)
        world.ticks(1)
        assert far.leg.statistics().rtcp_received == 1
        wrong = far.sender.protect_rtcp(report)
        for data in (protected, wrong[:-1] + bytes([wrong[-1] ^ 1]), report):
            far.send(data, source, port=port)
            world.ticks(1)
        assert far.leg.statistics().rtcp_received == 1
        assert far.refused[srtp.REPLAYED] == 1 and far.refused[srtp.BAD_TAG] >= 1 and sum(far.refused.values()) == 3
        talk(world, far, ulaw_noise(500, 1))
        far.leg.close()
        sent = [data for data in far.wire if data[1] >> 5 == 6] if is_muxed else far.controls
        assert len(sent) >= 2
        kinds = [rtcp.parse(far.reader.unprotect_rtcp(data)) for data in sent]
        assert isinstance(kinds[0][0], rtcp.SenderReport) and isinstance(kinds[-1][-1], rtcp.Bye)
        for data in sent:
            with pytest.raises(Error):
                session(bytes(KEY_BYTES[suite]), suite, sends=False).unprotect_rtcp(data)
        world.plane.stop()


class TestOtherPackets:
    def test_digits(self) -> None:
        world = make_world()
        far = call(world)
        far.leg.send_digits("5")
        world.ticks(20)
        packets = far.read()
        assert [packet.payload_type for packet in packets].count(101) == 7
        assert {packet.payload_type for packet in packets} == {0, 101}
        world.plane.stop()

    @pytest.mark.parametrize("codec", ["PCMA", "L16", "G722"])
    def test_other_codecs(self, codec: str) -> None:
        world = make_world(codecs=("PCMU", codec))
        far = call(world, codec=codec, send_payload_type=8, receive_payload_type=8)
        chunks = world.record(far.leg)
        payload = b"\x35" * (320 if codec == "L16" else 160)
        for _ in range(10):
            far.send(far.packet(payload, 8))
            world.ticks(1)
        world.ticks(5)
        assert np.concatenate(chunks).any()
        assert {len(packet.payload) for packet in far.read()} == {len(payload)}
        world.plane.stop()

    def test_packets_of_10_ms(self) -> None:
        world = make_world()
        far = call(world, maxptime_ms=10)
        world.ticks(5)
        packets = far.read()
        assert [len(packet.payload) for packet in packets] == [80] * 10
        assert len({packet.sequence_number for packet in packets}) == 10
        world.plane.stop()

    def test_another_ssrc_of_ours(self) -> None:
        world = make_world()
        far = call(world)
        world.ticks(2)
        ours = far.read()[0].ssrc
        far.ssrc = ours
        talk(world, far, ulaw_noise(2, 1))
        world.ticks(2)
        assert {packet.ssrc for packet in far.read()[-2:]} - {ours}
        world.plane.stop()


def test_rows_in_clear_do_not_pay() -> None:
    """With no row that has keys, nothing of this is called; with one, only that one is looked at."""
    world = make_world()
    world.call()
    assert world.plane.protection.is_idle
    far = call(world)
    assert not world.plane.protection.is_idle
    far.leg.close()
    assert world.plane.protection.is_idle
    world.plane.stop()


HALF_PACKETS = [b"\x80", b"\x80\x00" + bytes(10), b"\x80\xc8" + bytes(30), b"\x90" + b"\xff" * 40]


@given(
    datagrams=st.lists(st.binary(max_size=60) | st.sampled_from(HALF_PACKETS), max_size=6),
    suite=st.sampled_from(sorted(KEY_BYTES)),
    is_changed=st.booleans(),
)
@settings(max_examples=60)
def test_any_bytes_are_refused(datagrams: list[bytes], suite: str, is_changed: bool) -> None:
    rows = 8
    inbox = np.zeros((rows, PACKET_CAPACITY), np.uint8)
    refused: list[Counter[str]] = [Counter() for _ in range(rows)]
    protection = Protection(rows, inbox, [row.data for row in inbox], refused)
    arrived = Pass()
    for row, datagram in enumerate(datagrams):
        protection.describe(row, keys(suite), 0.0)
        if is_changed:
            protection.describe(row, keys(suite, 2), 0.0)
        inbox[row, : len(datagram)] = np.frombuffer(datagram, np.uint8)
        arrived.rows.append(row)
        arrived.lengths.append(len(datagram))
        arrived.sources.append(("10.0.0.2", 40000))
        arrived.others.append(row)
        arrived.control.append((row, datagram, ("10.0.0.2", 40001)))
    protection.open(arrived, 0.5)
    assert arrived == Pass()
    assert sum(sum(counts.values()) for counts in refused) == 2 * len(datagrams)
