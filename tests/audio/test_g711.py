from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from agentstream.audio import g711
from tests.oracles import g711 as oracle

pytestmark = pytest.mark.rfc(3551)

SAMPLES = np.arange(-32768, 32768).astype(np.int16)
LAWS = {
    "ulaw": (g711.ULAW_TO_PCM, g711.PCM_TO_ULAW, oracle.ulaw_decode, oracle.ulaw_encode),
    "alaw": (g711.ALAW_TO_PCM, g711.PCM_TO_ALAW, oracle.alaw_decode, oracle.alaw_encode),
}
Law = tuple[g711.Pcm, g711.Bytes, Callable[[int], int], Callable[[int], int]]


@pytest.fixture(params=LAWS)
def law(request: pytest.FixtureRequest) -> Law:
    return LAWS[request.param]


def test_known_values_of_both_laws() -> None:
    ulaw = {0xFF: 0, 0x7F: 0, 0x00: -32124, 0x80: 32124, 0xFE: 8, 0x7E: -8, 0x8F: 16764, 0xF0: 120, 0xEF: 132}
    alaw = {0xD5: 8, 0x55: -8, 0xAA: 32256, 0x2A: -32256, 0xD4: 24, 0xDA: 248, 0xC5: 264}
    assert {byte: int(g711.ULAW_TO_PCM[byte]) for byte in ulaw} == ulaw
    assert {byte: int(g711.ALAW_TO_PCM[byte]) for byte in alaw} == alaw


def test_tables_have_their_types_and_cannot_be_written(law: Law) -> None:
    to_pcm, to_bytes, _, _ = law
    assert (to_pcm.dtype, to_pcm.shape) == (np.int16, (256,))
    assert (to_bytes.dtype, to_bytes.shape) == (np.uint8, (65536,))
    with pytest.raises(ValueError, match="read-only"):
        to_pcm[0] = 0
    with pytest.raises(ValueError, match="read-only"):
        to_bytes[0] = 0


def test_every_byte_decodes_as_the_algorithm_says(law: Law) -> None:
    to_pcm, _, decode_one, _ = law
    assert to_pcm.tolist() == [decode_one(byte) for byte in range(256)]


def test_every_sample_encodes_as_the_algorithm_says(law: Law) -> None:
    _, to_bytes, _, encode_one = law
    assert to_bytes[SAMPLES.view(np.uint16)].tolist() == [encode_one(sample) for sample in SAMPLES.tolist()]


def test_every_byte_survives_decode_and_encode() -> None:
    every = np.arange(256, dtype=np.uint8)
    pcm = np.empty(256, np.int16)
    back = np.empty(256, np.uint8)
    assert g711.decode(every, g711.ALAW_TO_PCM, pcm) is pcm
    assert g711.encode(pcm, g711.PCM_TO_ALAW, back) is back
    assert back.tolist() == every.tolist()
    g711.encode(g711.decode(every, g711.ULAW_TO_PCM, pcm), g711.PCM_TO_ULAW, back)
    expected = every.copy()
    expected[0x7F] = 0xFF  # the two zeros of mu-law are one sample
    assert back.tolist() == expected.tolist()


def test_a_sample_is_never_further_from_its_byte_than_half_a_step(law: Law) -> None:
    to_pcm, to_bytes, _, _ = law
    decoded = to_pcm[to_bytes[SAMPLES.view(np.uint16)]].astype(np.int32)
    peak = int(to_pcm.max())
    inside = np.abs(SAMPLES.astype(np.int32)) <= peak
    error = np.abs(decoded - SAMPLES)[inside]
    step = np.maximum(np.abs(decoded)[inside] / 16, 16)
    assert (error <= step).all()


def test_silence_is_the_byte_of_zero(law: Law) -> None:
    _, to_bytes, _, _ = law
    assert int(to_bytes[0]) == (g711.ULAW_SILENCE if to_bytes is g711.PCM_TO_ULAW else g711.ALAW_SILENCE)


def test_matrices_are_converted_in_place_of_the_given_buffer(law: Law) -> None:
    to_pcm, to_bytes, _, _ = law
    payload = np.arange(512, dtype=np.uint16).astype(np.uint8).reshape(4, 128)
    pcm = np.zeros((4, 128), np.int16)
    g711.decode(payload, to_pcm, pcm)
    assert (pcm == to_pcm[payload]).all()
    wide = np.zeros((4, 256), np.uint8)
    g711.encode(pcm, to_bytes, wide[:, :128])
    assert (wide[:, :128] == to_bytes[pcm.view(np.uint16)]).all()
    assert not wide[:, 128:].any()
