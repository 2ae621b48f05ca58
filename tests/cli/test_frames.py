"""Frame numbers inside the audio."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from agentstream.audio.g711 import PCM_TO_ULAW, ULAW_TO_PCM
from agentstream.cli.bench import frames


@given(st.integers(0, frames.MAX_CALLS - 1), st.integers(0, frames.MAX_FRAMES - 1))
@settings(max_examples=50)
def test_a_code_says_what_was_put_into_it(call: int, frame: int) -> None:
    code = np.frombuffer(frames.code_of(call, frame), np.uint8).reshape(1, 8)
    is_code, calls, numbers = frames.read_codes(code)
    assert (is_code[0], calls[0], numbers[0]) == (True, call, frame)


def test_many_codes_are_written_as_one_is() -> None:
    calls, numbers = np.arange(300) * 13 % 4096, np.arange(300) * 55_001 % frames.MAX_FRAMES
    out = np.zeros((300, 8), np.uint8)
    frames.write_codes(out, calls, numbers)
    pairs = zip(calls.tolist(), numbers.tolist(), strict=True)
    assert out.tobytes() == b"".join(frames.code_of(call, number) for call, number in pairs)


def test_a_code_survives_the_way_through_pcm() -> None:
    sent = b"".join(frames.code_of(i * 31 % 4096, i * 7919) + bytes((0x9A,)) * 152 for i in range(200))
    pcm = np.take(ULAW_TO_PCM, np.frombuffer(sent, np.uint8)).tobytes()
    codes = frames.codes_of_samples(np.frombuffer(frames.pcm_code_fields(pcm), "<i2").reshape(-1, 8))
    assert codes.shape == (400, 8)
    is_code, calls, numbers = frames.read_codes(codes)
    assert is_code.tolist() == [True, False] * 200
    assert numbers[::2].tolist() == [i * 7919 for i in range(200)]
    assert calls[::2].tolist() == [i * 31 % 4096 for i in range(200)]


def test_half_a_block_at_the_end_holds_no_code() -> None:
    assert len(frames.pcm_code_fields(bytes(2 * 200))) == 2 * 16


def test_a_faded_frame_shows_no_number() -> None:
    samples = np.take(ULAW_TO_PCM, np.frombuffer(frames.code_of(3, 5), np.uint8)).astype(np.int32)
    faded = np.take(PCM_TO_ULAW, (samples * 9 // 10).astype(np.int16).view(np.uint16)).reshape(1, 8)
    assert not frames.read_codes(faded)[0][0]


def test_silence_and_noise_show_no_number() -> None:
    noise = np.random.default_rng(1).integers(0, 256, (10_000, 8), dtype=np.uint8)
    noise[0] = 0xFF
    assert not frames.read_codes(noise)[0].any()
