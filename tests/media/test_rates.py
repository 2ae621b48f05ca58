"""Streams at 16 and 24 kHz on a leg of 8 kHz: an echoing bot, marks, clear, and changes of rate."""

from __future__ import annotations

import numpy as np
import pytest

from agentstream.audio import g711
from tests.media.kit import World

RATES = [16000, 24000]


def test_an_unknown_rate_is_refused(world: World) -> None:
    far = world.call()
    with pytest.raises(ValueError, match="8000, 16000 or 24000"):
        far.leg.voice(11025)


def heard_samples(payload: bytes) -> np.ndarray:
    return g711.ULAW_TO_PCM[np.frombuffer(payload, np.uint8)].astype(float)


@pytest.mark.parametrize("rate_hz", RATES)
@pytest.mark.parametrize("hertz", [300, 1000, 2500, 3400])
def test_an_echo_at_the_rate_is_flat_and_whole(world: World, rate_hz: int, hertz: int) -> None:
    far = world.call()
    voice = far.leg.voice(rate_hz)
    sizes: list[int] = []

    def echo(chunk: np.ndarray, timestamp_ms: int) -> None:
        sizes.append(len(chunk))
        assert timestamp_ms == 100 * (len(sizes) - 1)
        voice.write(chunk.tobytes())

    far.leg.hear(100, echo, rate_hz)
    sine = 10000 * np.sin(2 * np.pi * hertz * np.arange(160 * 120) / 8000)
    said = g711.PCM_TO_ULAW[np.rint(sine).astype(np.int16).view(np.uint16)]
    for frame in said.reshape(-1, 160):
        far.say(frame.tobytes())
        world.ticks(1)
    world.ticks(20)
    assert set(sizes) == {rate_hz // 10}
    back = heard_samples(far.heard())
    loud = np.flatnonzero(np.abs(back) > 2000)
    begin, end = loud[0] + 400, loud[-1] - 400
    assert end - begin > 8000
    middle = back[begin:end]
    # No gap: the envelope never sinks, frame by frame.
    frames = middle[: len(middle) // 160 * 160].reshape(-1, 160)
    assert frames.std(axis=1).min() > 0.9 * frames.std(axis=1).max()
    phasor = np.exp(-2j * np.pi * hertz * np.arange(len(middle)) / 8000)
    level = 20 * np.log10(2 * abs(np.mean(middle * phasor)) / 10000)
    assert abs(level) < 0.5
    assert far.leg.statistics().underruns == 0


@pytest.mark.parametrize("rate_hz", RATES)
def test_a_mark_waits_for_the_end_of_the_filter(world: World, rate_hz: int) -> None:
    far = world.call()
    voice = far.leg.voice(rate_hz)
    told: list[int] = []
    frame = rate_hz // 50
    voice.write(np.full(3 * frame, 8000, np.int16).tobytes())
    voice.mark(lambda is_played: told.append(len(far.got)))
    world.ticks(3)
    assert told == []
    world.ticks(1)
    assert told == [4]
    loud = [packet.payload != b"\xff" * 160 for packet in far.got]
    assert loud == [True] * 4  # the fourth holds the filter's 1.4 ms of tail
    world.ticks(1)
    assert far.got[-1].payload == b"\xff" * 160
    voice.mark(lambda is_played: told.append(0))
    assert told == [4, 0]


@pytest.mark.parametrize("rate_hz", RATES)
def test_clear_is_silent_from_the_second_frame_on(world: World, rate_hz: int) -> None:
    far = world.call()
    voice = far.leg.voice(rate_hz)
    voice.write(np.full(rate_hz * 2, 8000, np.int16).tobytes())
    world.ticks(5)
    voice.clear()
    world.ticks(3)
    fade, *silence = [heard_samples(packet.payload) for packet in far.got[5:]]
    assert np.abs(fade[:8]).max() > 4000
    assert not fade[56:].any()  # 5 ms of fade and 1.4 ms of filter
    assert not any(frame.any() for frame in silence)


def test_what_follows_at_another_rate_waits_its_turn(world: World) -> None:
    """A bot at 16 kHz behind a prompt at 8 kHz that grows: one after the other, never mixed."""
    far = world.call()
    told: list[str] = []
    far.leg.voice(8000).write(np.full(3 * 160, 1000, np.int16).tobytes())
    wide = far.leg.voice(16000)
    wide.write(np.full(3 * 320, 4000, np.int16).tobytes())
    wide.mark(lambda is_played: told.append("wide"))
    again = far.leg.voice(8000)
    again.write(np.full(3 * 160, 2000, np.int16).tobytes())
    again.mark(lambda is_played: told.append("narrow"))
    world.ticks(14)
    levels = [int(round(np.median(heard_samples(packet.payload)), -3)) for packet in far.got]
    assert levels == [1000] * 3 + [2000] * 3 + [4000] * 3 + [0] * 5
    assert told == ["narrow", "wide"]
    far.leg.voice(8000).write(np.full(160, 3000, np.int16).tobytes())
    world.ticks(1)
    assert round(float(np.median(heard_samples(far.got[-1].payload))), -3) == 3000


def test_rows_of_a_rate_come_and_go(world: World) -> None:
    for _ in range(3):
        far = world.call()
        stop = far.leg.hear(40, lambda chunk, at: None, 16000)
        far.leg.voice(16000).write(bytes(3200))
        world.ticks(3)
        stop()
        stop()
        far.leg.close()
        far.network.unbind(far.address)
    assert world.plane.legs == 0


@pytest.mark.parametrize("rate_hz", [8000, 16000])
def test_the_outbound_track_is_what_is_sent(world: World, rate_hz: int) -> None:
    far = world.call()
    inbound: list[np.ndarray] = []
    outbound: list[np.ndarray] = []
    far.leg.hear(40, lambda chunk, at: inbound.append(chunk.copy()), rate_hz)
    far.leg.hear(40, lambda chunk, at: outbound.append(chunk.copy()), rate_hz, "outbound")
    world.ticks(2)
    far.leg.playback.write(np.full(8 * 160, 6000, np.int16).tobytes())
    world.ticks(12)
    assert not np.concatenate(inbound).any()
    sent = np.concatenate(outbound)
    assert round(float(np.median(sent[np.abs(sent) > 1000])), -2) == 6000
    assert abs(int((np.abs(sent) > 3000).sum()) - 8 * rate_hz // 50) <= rate_hz // 500
    world.slots(20)  # a late tick: both tracks keep one time
    world.ticks(2)
    assert abs(len(inbound) - len(outbound)) <= 1


def test_the_added_delay_is_the_two_filters(world: World) -> None:
    """An echo at 8, 16 and 24 kHz of the same sound: by how much each comes later (printed with ``pytest -s``)."""
    sound = np.convolve(np.random.default_rng(5).normal(0, 6000, 160 * 100), np.ones(4) / 4, "same").astype(np.int16)
    said = g711.PCM_TO_ULAW[sound.view(np.uint16)].reshape(-1, 160)
    lags = {}
    for rate_hz in (8000, *RATES):
        far = world.call()
        voice = far.leg.voice(rate_hz)
        far.leg.hear(20, lambda chunk, at, voice=voice: voice.write(chunk.tobytes()), rate_hz)
        for frame in said:
            far.say(frame.tobytes())
            world.ticks(1)
        back = heard_samples(far.heard())[: len(sound)]
        # Eight times finer than a sample, by the phase of the cross spectrum around its peak.
        size = 2 * len(sound)
        spectrum = np.fft.rfft(back, size) * np.conj(np.fft.rfft(sound.astype(float), size))
        fine = np.fft.irfft(np.pad(spectrum, (0, 7 * size // 2)), 8 * size)
        lags[rate_hz] = int(np.argmax(fine)) / 64
        far.leg.close()
    for rate_hz in RATES:
        added_ms = lags[rate_hz] - lags[8000]
        print(f"8 to {rate_hz // 1000} to 8 kHz through an echoing bot adds {added_ms:.2f} ms")
        assert added_ms == pytest.approx(2.75, abs=0.1)
