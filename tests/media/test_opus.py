"""Legs that speak Opus (RFC 7587): an RTP clock of 48,000, payloads of any length, decoded in order when they play."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from agentstream.audio.codecs.opus import OpusCoder
from agentstream.rtp.events import packets_of_digit
from agentstream.rtp.rtcp import ReceiverReport, ReportBlock, SenderReport
from tests.audio.test_opus import likeness, packets, voice
from tests.media.kit import FarEnd, World, decode, make_plan, make_world, ulaw_noise
from tests.media.test_reports import Control, next_port

pytestmark = pytest.mark.rfc(7587)

OPUS: dict[str, Any] = {
    "codec": "OPUS",
    "send_payload_type": 111,
    "receive_payload_type": 96,
    "send_digit_payload_type": 110,
    "receive_digit_payload_type": 110,
    "clock_hz": 48_000,
}
WIDE_HZ = 16000
DTX = bytes([0x48])
"""20 ms of SILK, wide-band, without a byte of content."""


@pytest.fixture
def steady() -> Iterator[World]:
    """The delay stays, so that each block's place is known."""
    world = make_world(playout_min_ms=60, playout_max_ms=60)
    yield world
    world.plane.stop()


def hear(far: FarEnd, rate_hz: int = WIDE_HZ) -> list[np.ndarray]:
    chunks: list[np.ndarray] = []
    far.leg.hear(20, lambda chunk, at: chunks.append(chunk.copy()), rate_hz)
    return chunks


def say(far: FarEnd, payload: bytes, ms: float = 20) -> None:
    """The RTP clock goes on with the time, and not with the bytes."""
    packet = far.packet(payload, 96)
    far.timestamp = int(packet.timestamp + 48 * ms) & 0xFFFFFFFF
    far.send(packet)


def skip(far: FarEnd, ms: float = 20) -> None:
    """A packet that is lost on the way."""
    far.timestamp = int(far.packet(b"").timestamp + 48 * ms) & 0xFFFFFFFF


def decoded(sent: list[bytes]) -> np.ndarray:
    coder = OpusCoder()
    return np.concatenate([coder.decode(payload) for payload in sent])


def sound(chunks: list[np.ndarray]) -> np.ndarray:
    """From the first sample that is not silence to the last."""
    whole = np.concatenate(chunks)
    at = np.flatnonzero(whole)
    return whole[at[0] : at[-1] + 1]


def is_within(part: np.ndarray, chunks: list[np.ndarray]) -> bool:
    return np.trim_zeros(part).tobytes() in np.concatenate(chunks).tobytes()


class TestHearing:
    def test_a_bot_of_16_khz_gets_what_the_decoder_gives(self, steady: World) -> None:
        far = steady.call(**OPUS)
        chunks = hear(far)
        sent = packets(voice(1.0, top_hz=7000))
        for payload in sent:
            say(far, payload)
            steady.ticks(1)
        steady.ticks(10)
        assert is_within(decoded(sent), chunks)
        statistics = far.leg.statistics()
        assert (statistics.lost, statistics.concealed_ms, statistics.late, statistics.refused) == (0, 0, 0, {})
        assert statistics.jitter_ms < 0.1, "at a clock of 48,000"

    def test_a_bot_of_8_khz_gets_it_too(self, steady: World) -> None:
        far = steady.call(**OPUS)
        chunks = hear(far, 8000)
        pcm = voice(1.0)
        for payload in packets(pcm):
            say(far, payload)
            steady.ticks(1)
        steady.ticks(10)
        assert likeness(np.repeat(sound(chunks), 2), pcm) > 0.85

    def test_in_order_whatever_the_order_of_arrival(self, steady: World) -> None:
        far = steady.call(**OPUS)
        chunks = hear(far)
        sent = packets(voice(0.8))
        made = []
        for payload in sent:
            packet = far.packet(payload, 96)
            far.timestamp = (packet.timestamp + 960) & 0xFFFFFFFF
            made.append(packet)
        for at in range(0, len(made), 2):
            steady.ticks(1)
            for packet in (*made[at : at + 2][::-1], made[at]):
                far.send(packet)
            steady.ticks(1)
        steady.ticks(10)
        assert is_within(decoded(sent)[640:], chunks)
        assert far.leg.statistics().duplicate == len(sent) // 2

    @pytest.mark.parametrize(("samples", "each"), [(40, 8), (80, 4), (160, 2), (640, 1), (960, 1)])
    def test_packets_of_any_length(self, steady: World, samples: int, each: int) -> None:
        """2.5 to 60 ms."""
        far = steady.call(**OPUS)
        chunks = hear(far)
        sent = packets(voice(0.96), samples=samples)
        ms = samples / 16
        for at in range(0, len(sent), each):
            for payload in sent[at : at + each]:
                say(far, payload, ms)
            steady.ticks(max(1, int(ms / 20)))
        steady.ticks(10)
        assert is_within(decoded(sent), chunks)
        assert (far.leg.statistics().lost, far.leg.statistics().concealed_ms) == (0, 0)


class TestLoss:
    def test_the_copy_in_the_next_packet_is_heard(self, steady: World) -> None:
        far = steady.call(**OPUS)
        chunks = hear(far)
        sent, coder = packets(voice(1.0), "useinbandfec=1"), OpusCoder()
        expected = []
        for number, payload in enumerate(sent):
            if number == 20:
                skip(far)
                expected.append(coder.conceal(320, sent[21]))
            else:
                say(far, payload)
                expected.append(coder.decode(payload))
            steady.ticks(1)
        steady.ticks(10)
        assert is_within(np.concatenate(expected), chunks)
        assert (far.leg.statistics().lost, far.leg.statistics().concealed_ms) == (1, 20)

    def test_a_longer_gap_is_made_up_by_the_decoder(self, steady: World) -> None:
        far = steady.call(**OPUS)
        chunks = hear(far)
        sent, coder = packets(voice(1.0), "useinbandfec=1"), OpusCoder()
        for number, payload in enumerate(sent):
            if number in (20, 21):
                skip(far)
            else:
                say(far, payload)
            steady.ticks(1)
        steady.ticks(10)
        expected = [coder.decode(payload) for payload in sent[:20]]
        expected.append(coder.conceal(640, sent[22]))
        expected += [coder.decode(payload) for payload in sent[22:]]
        assert is_within(np.concatenate(expected), chunks)
        assert (far.leg.statistics().lost, far.leg.statistics().concealed_ms) == (2, 40)

    def test_behind_an_outage_all_is_heard_again(self, steady: World) -> None:
        far = steady.call(**OPUS)
        chunks = hear(far)
        sent = packets(voice(1.4))
        for number, payload in enumerate(sent):
            if 20 <= number < 40:
                skip(far)
            else:
                say(far, payload)
            steady.ticks(1)
        steady.ticks(10)
        assert far.leg.statistics().lost == 20
        assert likeness(np.concatenate(chunks)[320 * 50 :], decoded(sent)[320 * 47 :]) > 0.9

    def test_a_malformed_packet_is_lost_and_said(self, steady: World) -> None:
        far = steady.call(**OPUS)
        sent = packets(voice(0.4))
        for number, payload in enumerate(sent):
            say(far, bytes([0x4B, 0]) if number == 10 else payload)
            steady.ticks(1)
        steady.ticks(10)
        assert far.leg.statistics().refused == {"The payload is none of its codec.": 1}
        assert far.leg.statistics().concealed_ms == 20

    def test_a_far_end_that_stops_in_silence_is_neither_lost_nor_deaf(self, steady: World) -> None:
        far = steady.call(**OPUS)
        chunks = hear(far)
        generator = np.random.default_rng(1)
        hiss = packets(np.rint(generator.normal(0, 60, 16000)).astype(np.int16))
        for payload in hiss:
            say(far, payload)
            steady.ticks(1)
        say(far, DTX)
        steady.ticks(30)
        far.timestamp = (far.timestamp + 960 * 29) & 0xFFFFFFFF
        say(far, DTX)
        after = packets(voice(0.4))
        for payload in after:
            steady.ticks(1)
            say(far, payload)
        steady.ticks(10)
        statistics = far.leg.statistics()
        assert (statistics.lost, statistics.concealed_ms) == (0, 0)
        pause = np.concatenate(chunks[58:80]).astype(float)
        assert 5 < np.sqrt(np.mean(pause**2)) < 120, "the hiss goes on"


class TestSpeaking:
    def test_what_a_bot_of_16_khz_says(self, steady: World) -> None:
        far = steady.call(**OPUS)
        pcm = voice(1.0, top_hz=7000)
        far.leg.voice(WIDE_HZ).write(pcm.tobytes())
        steady.ticks(60)
        assert {packet.payload_type for packet in far.got} == {111}
        assert set(np.diff(np.array([packet.timestamp for packet in far.got], np.uint32)).tolist()) == {960}
        assert likeness(decoded([packet.payload for packet in far.got]), pcm) > 0.9
        assert len({len(packet.payload) for packet in far.got}) > 3
        assert len(far.got) == 60 == far.leg.statistics().sent

    def test_what_a_bot_of_8_khz_says(self, steady: World) -> None:
        far = steady.call(**OPUS)
        pcm = voice(1.0)
        far.leg.playback.write(pcm[::2].tobytes())
        steady.ticks(60)
        assert likeness(decoded([packet.payload for packet in far.got]), pcm) > 0.85

    def test_two_packets_of_10_ms_where_the_far_end_takes_no_longer_ones(self, steady: World) -> None:
        far = steady.call(**OPUS, maxptime_ms=10)
        pcm = voice(0.6)
        far.leg.voice(WIDE_HZ).write(pcm.tobytes())
        steady.ticks(30)
        assert len(far.got) == 60
        stamps = np.array([packet.timestamp for packet in far.got], np.uint32)
        assert set(np.diff(stamps).tolist()) == {480}
        assert {len(OpusCoder().decode(packet.payload)) for packet in far.got} == {160}
        assert likeness(decoded([packet.payload for packet in far.got]), pcm) > 0.9

    def test_silence_is_sent_too(self, steady: World) -> None:
        far = steady.call(**OPUS)
        steady.ticks(50)
        assert len(far.got) == 50
        assert min(len(packet.payload) for packet in far.got) > 2, "and no DTX"

    def test_on_hold_nothing_is(self, steady: World) -> None:
        far = steady.call(**OPUS, may_send=False)
        steady.ticks(10)
        assert far.got == []


@pytest.mark.rfc(4733)
class TestDigits:
    def test_theirs_have_the_clock_of_their_sound(self, steady: World) -> None:
        far = steady.call(**OPUS)
        digits: list[tuple[str, int]] = []
        far.leg.on_digit = lambda digit, duration_ms: digits.append((digit, duration_ms))
        for event in packets_of_digit("5", 2000, rate_hz=48_000):
            packet = far.packet(event.payload, 110)
            packet_timestamp = (packet.timestamp + event.timestamp_offset) & 0xFFFFFFFF
            far.timestamp = packet.timestamp
            far.send(type(packet)(110, packet.sequence_number, packet_timestamp, packet.ssrc, packet.payload))
            steady.ticks(1)
        assert digits == [("5", 2000)]

    def test_ours_too(self, steady: World) -> None:
        far = steady.call(**OPUS)
        steady.ticks(2)
        far.leg.send_digits("7", 100)
        steady.ticks(20)
        events = [packet for packet in far.got if packet.payload_type == 110]
        assert len({packet.timestamp for packet in events}) == 1
        assert [int.from_bytes(packet.payload[2:]) for packet in events] == [960, 1920, 2880, 3840, 4800, 4800, 4800]
        numbers = np.array([packet.sequence_number for packet in far.got], np.uint16)
        assert set(np.diff(numbers).tolist()) == {1}


class TestReports:
    @pytest.mark.rfc(3550)
    def test_they_have_the_clock_of_the_stream(self, steady: World) -> None:
        far = steady.call(**OPUS)
        control = Control(steady, far, next_port(far))
        steady.ticks(400)
        at, (report, *_) = control.got[-1]
        assert isinstance(report, SenderReport)
        newest = far.got[-1 - round((steady.clock.seconds() - at) / 0.02)]
        assert report.rtp_timestamp == newest.timestamp
        assert report.octet_count == sum(len(packet.payload) for packet in far.got[: report.packet_count])
        control.send(ReceiverReport(1, (ReportBlock(report.ssrc, jitter=480),)))
        steady.ticks(1)
        assert far.leg.statistics().remote_jitter_ms == 10


@pytest.mark.rfc(3264)
class TestChanges:
    def test_from_pcmu_and_back(self, steady: World) -> None:
        far = steady.call()
        chunks = hear(far, 8000)
        before, sent, after = ulaw_noise(20, seed=1), packets(voice(0.6)), ulaw_noise(20, seed=2)
        for frame in before:
            far.say(frame)
            steady.ticks(1)
        far.leg.describe(make_plan(far.address, **OPUS), "10.0.0.2", "host")
        for payload in sent:
            say(far, payload)
            steady.ticks(1)
        assert far.leg.statistics().jitter_ms < 5
        far.leg.describe(make_plan(far.address), "10.0.0.2", "host")
        for frame in after:
            far.say(frame)
            steady.ticks(1)
        steady.ticks(10)
        assert is_within(decode(b"".join(before)), chunks)
        assert is_within(decode(b"".join(after[1:])), chunks)
        assert (far.leg.statistics().lost, far.leg.statistics().refused) == (0, {})
        kinds = [packet.payload_type for packet in far.got]
        assert kinds == [0] * 20 + [111] * len(sent) + [0] * 30

    def test_from_g722(self, steady: World) -> None:
        far = steady.call(codec="G722", send_payload_type=9, receive_payload_type=9)
        chunks = hear(far)
        steady.ticks(5)
        far.leg.describe(make_plan(far.address, **OPUS), "10.0.0.2", "host")
        sent = packets(voice(0.6))
        for payload in sent:
            say(far, payload)
            steady.ticks(1)
        steady.ticks(10)
        assert is_within(decoded(sent), chunks)

    def test_what_the_far_end_asks_for_may_change(self, steady: World) -> None:
        far = steady.call(**OPUS, parameters="maxaveragebitrate=24000")
        far.leg.voice(WIDE_HZ).write(voice(4.0).tobytes())
        steady.ticks(100)
        far.leg.describe(make_plan(far.address, **OPUS, parameters="maxaveragebitrate=8000"), "10.0.0.2", "host")
        steady.ticks(100)
        sizes = [len(packet.payload) for packet in far.got]
        assert sum(sizes[110:]) < 0.6 * sum(sizes[10:100])


def test_no_byte_of_the_call_before_is_heard(steady: World) -> None:
    far = steady.call(**OPUS)
    for payload in packets(voice(0.2)):
        say(far, payload)
    steady.ticks(1)
    far.leg.close()
    again = steady.call(**OPUS)
    chunks = hear(again)
    steady.ticks(30)
    assert not np.concatenate(chunks).any()


def test_any_bytes_of_any_length_harm_nobody(steady: World) -> None:
    far, plain = steady.call(**OPUS), steady.call()
    chunks, wide = steady.record(plain.leg), hear(far)
    generator = np.random.default_rng(9)
    real = packets(voice(1.2))
    frames = ulaw_noise(60, seed=8)
    for number, frame in enumerate(frames):
        for _ in range(int(generator.integers(0, 4))):
            payload = generator.bytes(int(generator.integers(0, 80)))
            say(far, real[number] if generator.random() < 0.5 else payload, float(generator.choice([2.5, 5, 20, 60])))
            if generator.random() < 0.2:
                far.timestamp = int(generator.integers(0, 2**32))
            if generator.random() < 0.1:
                far.sequence = int(generator.integers(0, 2**16))
        plain.say(frame)
        steady.ticks(1)
    steady.ticks(10)
    assert is_within(decode(b"".join(frames)), chunks), "the call beside it"
    assert len(wide) == 70
