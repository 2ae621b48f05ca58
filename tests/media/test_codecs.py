"""Calls in codecs other than G.711: L16, and G.722 with its 16 kHz (media.md 3)."""

from __future__ import annotations

import numpy as np
import pytest

from agentstream.audio import g711
from agentstream.audio.codecs import codec_named
from agentstream.audio.codecs.g722 import G722Coder
from agentstream.audio.codecs.l16 import decode as from_l16
from agentstream.audio.codecs.l16 import encode as to_l16
from agentstream.errors import LocalProtocolError
from tests.media.kit import FarEnd, World, decode, make_plan, make_world, ulaw_noise

L16 = {"codec": "L16", "send_payload_type": 97, "receive_payload_type": 96}
G722 = {"codec": "G722", "send_payload_type": 9, "receive_payload_type": 9}
WIDE_HZ = 16000


def speechlike(seconds: float, seed: int = 1, rate_hz: int = WIDE_HZ) -> np.ndarray:
    """Tones up to 7 kHz whose strengths change, int16."""
    generator = np.random.default_rng(seed)
    at = np.arange(int(seconds * rate_hz)) / rate_hz
    waves = [np.sin(2 * np.pi * hz * at + generator.uniform(0, 6)) for hz in (310, 900, 2500, 5500, 6500)]
    swell = 0.6 + 0.4 * np.sin(2 * np.pi * 3 * at)
    return np.rint(2500 * swell * np.sum(waves, axis=0)).astype(np.int16)


def payloads(pcm: np.ndarray) -> list[bytes]:
    """G.722 of 20 ms each."""
    coder = G722Coder()
    return [coder.encode(frame) for frame in pcm.reshape(-1, 320)]


def decoded(sent: list[bytes]) -> np.ndarray:
    coder = G722Coder()
    return np.concatenate([coder.decode(payload) for payload in sent])


def say_l16(far: FarEnd, pcm: np.ndarray) -> None:
    """20 ms: the clock counts samples, and not bytes."""
    packet = far.packet(to_l16(pcm[None, :]).tobytes(), 96)
    far.timestamp = (packet.timestamp + len(pcm)) & 0xFFFFFFFF
    far.send(packet)


def heard_at(world: World, far: FarEnd, rate_hz: int, track: str = "inbound") -> list[np.ndarray]:
    chunks: list[np.ndarray] = []
    far.leg.hear(20, lambda chunk, at: chunks.append(chunk.copy()), rate_hz, track)
    return chunks


def sound(chunks: list[np.ndarray]) -> np.ndarray:
    """From the first sample that is not silence to the last."""
    whole = np.concatenate(chunks)
    at = np.flatnonzero(whole)
    return whole[at[0] : at[-1] + 1]


def likeness(one: np.ndarray, other: np.ndarray) -> float:
    """The best correlation of two signals of one rate within 10 ms of delay."""
    size = min(len(one), len(other)) - 400
    a = one[200 : 200 + size].astype(float)
    return max(float(np.corrcoef(a, other[delay : delay + size].astype(float))[0, 1]) for delay in range(400))


class TestL16:
    @pytest.mark.rfc(3551)
    def test_both_ways_to_the_bit(self, world: World) -> None:
        far = world.call(**L16)
        chunks = world.record(far.leg)
        pcm = np.random.default_rng(3).integers(-30000, 30000, 1600).astype(np.int16)
        far.leg.playback.write(pcm.tobytes())
        for number in range(10):
            say_l16(far, pcm[160 * number : 160 * (number + 1)])
            world.ticks(1)
        world.ticks(10)
        assert np.array_equal(sound(chunks), pcm)
        assert {(packet.payload_type, len(packet.payload)) for packet in far.got} == {(97, 320)}
        got = from_l16(np.frombuffer(b"".join(packet.payload for packet in far.got), np.uint8)[None, :])[0]
        assert np.array_equal(sound([got]), pcm)
        steps = {(b.timestamp - a.timestamp) & 0xFFFFFFFF for a, b in zip(far.got, far.got[1:], strict=False)}
        assert steps == {160}

    def test_packets_of_10_ms_have_half_the_samples(self, world: World) -> None:
        far = world.call(**L16, maxptime_ms=10)
        pcm = np.arange(1, 801, dtype=np.int16)
        far.leg.playback.write(pcm.tobytes())
        world.ticks(5)
        assert [len(packet.payload) for packet in far.got] == [160] * 10
        got = from_l16(np.frombuffer(b"".join(packet.payload for packet in far.got), np.uint8)[None, :])[0]
        assert np.array_equal(got, pcm)

    def test_its_row_is_a_row_of_pcmu_again(self, world: World) -> None:
        world.call(**L16).leg.close()
        far = world.call()
        world.ticks(2)
        assert [(packet.payload_type, len(packet.payload)) for packet in far.got] == [(0, 160)] * 2

    def test_among_calls_in_other_codecs(self, world: World) -> None:
        mu_law, a_law, plain = world.call(), world.call(codec="PCMA", send_payload_type=8), world.call(**L16)
        pcm = decode(ulaw_noise(1, 4)[0])
        for far in (mu_law, a_law, plain):
            far.leg.playback.write(pcm.tobytes())
        world.ticks(1)
        assert np.array_equal(decode(mu_law.got[0].payload), pcm)
        assert a_law.got[0].payload == g711.PCM_TO_ALAW[pcm.view(np.uint16)].tobytes()
        assert plain.got[0].payload == to_l16(pcm[None, :]).tobytes()


@pytest.mark.rfc(3551)
class TestG722:
    def test_a_bot_of_16_khz_hears_what_the_decoder_gives(self, world: World) -> None:
        far = world.call(**G722)
        chunks = heard_at(world, far, WIDE_HZ)
        sent = payloads(speechlike(0.6))
        for payload in sent:
            far.send(far.packet(payload, 9))
            world.ticks(1)
        world.ticks(10)
        assert np.array_equal(sound(chunks), sound([decoded(sent)])), "no detour through 8 kHz"
        assert far.leg.statistics().lost == 0

    def test_in_order_whatever_the_order_of_arrival(self, world: World) -> None:
        far = world.call(**G722)
        chunks = heard_at(world, far, WIDE_HZ)
        sent = payloads(speechlike(0.6))
        packets = [far.packet(payload, 9) for payload in sent]
        for number in range(1, len(packets) - 1, 2):
            packets[number], packets[number + 1] = packets[number + 1], packets[number]
        for packet in packets:
            far.send(packet)
            far.send(packet)
            world.ticks(1)
        world.ticks(10)
        assert np.array_equal(sound(chunks), sound([decoded(sent)]))
        assert far.leg.statistics().duplicate > 0

    @pytest.mark.parametrize("ptime_ms", [10, 30, 60])
    def test_any_ptime(self, world: World, ptime_ms: int) -> None:
        far = world.call(**G722)
        chunks = heard_at(world, far, WIDE_HZ)
        sent = payloads(speechlike(0.6))
        whole = b"".join(sent)
        size = 8 * ptime_ms
        due = 0
        for tick in range(31):
            while due <= 20 * tick and size * due // ptime_ms < len(whole):
                begin = size * due // ptime_ms
                far.send(far.packet(whole[begin : begin + size], 9))
                due += ptime_ms
            world.ticks(1)
        world.ticks(10)
        assert np.array_equal(sound(chunks), sound([decoded(sent)]))

    def test_listeners_at_8_khz_hear_it_too(self, world: World) -> None:
        far = world.call(**G722)
        chunks, raised = world.record(far.leg), heard_at(world, far, 24000)
        at = np.arange(16000) / WIDE_HZ
        for payload in payloads((8000 * np.sin(2 * np.pi * 1000 * at)).astype(np.int16)):
            far.send(far.packet(payload, 9))
            world.ticks(1)
        world.ticks(10)
        expected = (8000 * np.sin(2 * np.pi * 1000 * np.arange(8000) / 8000)).astype(np.int16)
        assert likeness(sound(chunks), expected) > 0.999
        assert sound(raised).any()

    def test_a_lost_packet_is_concealed(self, world: World) -> None:
        far = world.call(**G722)
        chunks = heard_at(world, far, WIDE_HZ)
        sent = payloads(speechlike(0.8))
        for number, payload in enumerate(sent):
            packet = far.packet(payload, 9)
            if number != 20:
                far.send(packet)
            world.ticks(1)
        world.ticks(10)
        heard = sound(chunks)
        assert far.leg.statistics().lost == 1
        assert far.leg.statistics().concealed_ms == 20
        assert abs(len(heard) - len(sound([decoded(sent)]))) < 100
        lost = heard[20 * 320 : 21 * 320]
        assert np.sqrt(np.mean(lost.astype(float) ** 2)) > 500, "something is heard in its place"
        assert likeness(heard[30 * 320 :], decoded(sent)[30 * 320 :]) > 0.99

    def test_what_a_bot_says_at_16_khz_is_coded_as_it_is(self, world: World) -> None:
        far = world.call(**G722)
        outbound = heard_at(world, far, WIDE_HZ, "outbound")
        pcm = speechlike(0.6)
        marks: list[bool] = []
        voice = far.leg.voice(WIDE_HZ)
        voice.write(pcm.tobytes())
        voice.mark(marks.append)
        world.ticks(40)
        sent = [packet.payload for packet in far.got]
        assert {(packet.payload_type, len(packet.payload)) for packet in far.got} == {(9, 160)}
        steps = {(b.timestamp - a.timestamp) & 0xFFFFFFFF for a, b in zip(far.got, far.got[1:], strict=False)}
        assert steps == {160}, "the clock counts 8,000 a second"
        lead = next(number for number, chunk in enumerate(outbound) if chunk.any())
        said = np.concatenate(outbound[lead : lead + 30])
        assert np.array_equal(said, pcm)
        assert np.array_equal(decoded(sent), decoded(payloads(np.concatenate(outbound)))), "what was said is what left"
        assert marks == [True]

    @pytest.mark.parametrize("rate_hz", [8000, 24000])
    def test_bots_of_other_rates_are_heard(self, world: World, rate_hz: int) -> None:
        far = world.call(**G722)
        at = np.arange(rate_hz) / rate_hz
        far.leg.voice(rate_hz).write((8000 * np.sin(2 * np.pi * 1000 * at)).astype(np.int16).tobytes())
        world.ticks(60)
        got = decoded([packet.payload for packet in far.got])
        expected = (8000 * np.sin(2 * np.pi * 1000 * np.arange(16000) / WIDE_HZ)).astype(np.int16)
        assert likeness(got[1600:15000], expected[1600:15000]) > 0.999

    def test_behind_a_clear_there_is_silence(self, world: World) -> None:
        far = world.call(**G722)
        voice = far.leg.voice(WIDE_HZ)
        voice.write(speechlike(1.0).tobytes())
        world.ticks(10)
        before = len(far.got)
        voice.clear()
        world.ticks(10)
        got = decoded([packet.payload for packet in far.got])
        quiet = got[(before + 2) * 320 :].astype(float)
        assert np.abs(quiet).max() < 200

    def test_the_next_call_in_its_row_hears_nothing_of_it(self, world: World) -> None:
        far = world.call(**G722)
        for payload in payloads(speechlike(0.1)):
            far.send(far.packet(payload, 9))
        world.ticks(1)
        far.leg.close()
        again = world.call(**G722)
        chunks = heard_at(world, again, WIDE_HZ)
        world.ticks(20)
        assert not np.concatenate(chunks).any()
        assert np.abs(decoded([packet.payload for packet in again.got]).astype(int)).max() < 20

    def test_calls_beside_it_are_as_they_were(self, world: World) -> None:
        wide, plain = world.call(**G722), world.call()
        chunks = world.record(plain.leg)
        frames = ulaw_noise(10, seed=5)
        for payload, frame in zip(payloads(speechlike(0.2)), frames, strict=True):
            wide.send(wide.packet(payload, 9))
            plain.say(frame)
            world.ticks(1)
        world.ticks(10)
        assert np.array_equal(sound(chunks), decode(b"".join(frames)))


@pytest.mark.rfc(3264)
class TestChanges:
    def test_what_is_under_way_is_heard_first(self, world: World) -> None:
        far = world.call()
        chunks, narrow = heard_at(world, far, WIDE_HZ), world.record(far.leg)
        frames, sent = ulaw_noise(10, seed=6), payloads(speechlike(0.6))
        for number, frame in enumerate(frames):
            if number == 5:
                far.leg.describe(make_plan(far.address, **G722), "10.0.0.2", "host")
            far.say(frame)
            world.ticks(1)
        for payload in sent:
            far.send(far.packet(payload, 9))
            world.ticks(1)
        world.ticks(10)
        assert far.leg.statistics().lost == 0
        assert far.leg.statistics().refused == {}
        assert np.array_equal(sound(narrow)[:1600], decode(b"".join(frames)))
        # Behind what the resampler has yet to give of the last frame, the new codec is as it was decoded.
        expected = decoded(sent)[1600:]
        heard = sound(chunks)
        places = [
            at for at in range(len(heard) - len(expected) + 1) if np.array_equal(heard[at:][:200], expected[:200])
        ]
        assert len(places) == 1
        assert np.array_equal(heard[places[0] :][: len(expected) - 400], expected[:-400])
        assert abs(places[0] - (10 * 320 + 1600)) < 200, "neither gap nor overlap"

    def test_and_back_again(self, world: World) -> None:
        far = world.call(**G722)
        chunks = world.record(far.leg)
        for payload in payloads(speechlike(0.4)):
            far.send(far.packet(payload, 9))
            world.ticks(1)
        far.leg.describe(make_plan(far.address), "10.0.0.2", "host")
        frames = ulaw_noise(20, seed=7)
        for frame in frames:
            far.say(frame)
            world.ticks(1)
        world.ticks(10)
        assert sound(chunks).tobytes().endswith(decode(b"".join(frames[1:])).tobytes())
        assert far.leg.statistics().lost == 0
        assert far.leg.statistics().concealed_ms == 0
        assert far.got[-1].payload_type == 0

    def test_the_queue_and_its_marks_stay(self, world: World) -> None:
        far = world.call()
        marks: list[bool] = []
        voice = far.leg.voice(WIDE_HZ)
        voice.write(speechlike(0.6).tobytes())
        voice.mark(marks.append)
        world.ticks(10)
        assert marks == []
        far.leg.describe(make_plan(far.address, **G722), "10.0.0.2", "host")
        world.ticks(25)
        assert marks == [True]
        assert [packet.payload_type for packet in far.got] == [0] * 10 + [9] * 25
        got = decoded([packet.payload for packet in far.got if packet.payload_type == 9])
        assert likeness(got[: 18 * 320], speechlike(0.6)[10 * 320 :][: 18 * 320]) > 0.98


def test_a_codec_that_nobody_knows_is_a_bug_of_ours(world: World) -> None:
    leg = world.plane.open_leg()
    with pytest.raises(LocalProtocolError):
        leg.describe(make_plan(("10.0.0.2", 4), codec="GSM"), "10.0.0.2", "host")


def test_what_wide_calls_need_is_made_at_the_start() -> None:
    assert codec_named("G722") is not None
    for names, is_there in ((("PCMU", "PCMA"), False), (("PCMU", "G722"), True)):
        world = make_world(4, codecs=names)
        assert (world.plane._wide is not None) == is_there
        world.plane.stop()


@pytest.mark.parametrize("codec", [G722, L16], ids=["G722", "L16"])
def test_any_bytes_of_any_length_harm_nobody(world: World, codec: dict[str, object]) -> None:
    far, plain = world.call(**codec), world.call()
    chunks, wide = world.record(plain.leg), heard_at(world, far, WIDE_HZ)
    generator = np.random.default_rng(9)
    frames = ulaw_noise(60, seed=8)
    for frame in frames:
        for _ in range(int(generator.integers(0, 3))):
            packet = far.packet(
                generator.bytes(int(generator.integers(0, 700))), int(str(codec["receive_payload_type"]))
            )
            if generator.random() < 0.2:
                far.timestamp = int(generator.integers(0, 2**32))
            if generator.random() < 0.1:
                far.sequence = int(generator.integers(0, 2**16))
            far.send(packet)
        plain.say(frame)
        world.ticks(1)
    world.ticks(10)
    assert np.array_equal(sound(chunks), decode(b"".join(frames))), "the call beside it"
    assert len(wide) == 70


@pytest.mark.rfc(3551)
@pytest.mark.parametrize("payload_bytes", [120, 37])
def test_g722_in_packets_of_odd_lengths_is_heard_in_order(world: World, payload_bytes: int) -> None:
    far = world.call(**G722)
    chunks = heard_at(world, far, WIDE_HZ)
    sent = payloads(speechlike(0.6))
    whole = b"".join(sent)
    at = 0
    for tick in range(40):
        while at < len(whole) and at <= 160 * tick:
            far.send(far.packet(whole[at : at + payload_bytes], 9))
            at += payload_bytes
        world.ticks(1)
    world.ticks(10)
    heard, expected = sound(chunks), sound([decoded(sent)])
    size = min(len(heard), len(expected))
    assert size > 9000
    assert np.array_equal(heard[:size], expected[:size])
