"""Mu-law on the wire, where a step asks for it (contract.md 1.4 and 2.1, section 10 row 8)."""

from __future__ import annotations

import base64
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentstream.audio.g711 import ULAW_TO_PCM
from agentstream.wire.exotel import ExotelSession, Spelling
from agentstream.wire.messages import Media, StreamStart
from agentstream.wire.payload import MULAW, PAYLOADS, PCM16
from tests.oracles import g711 as oracle

START = StreamStart("s", "c", "a", "1", "2")
EVERY_BYTE = bytes(range(256))


def mulaw_session() -> ExotelSession:
    return ExotelSession(START, spelling=Spelling(encoding=MULAW.encoding, bit_rate=MULAW.bit_rate), payload=MULAW)


@pytest.mark.contract
def test_row_8_mulaw_out_is_one_byte_a_sample_by_the_tables_of_g711() -> None:
    pcm = np.arange(-32768, 32768, 7, dtype=np.int16)
    expected = bytes(oracle.ulaw_encode(int(sample)) for sample in pcm)
    for buffer in (pcm, pcm.tobytes(), bytearray(pcm.tobytes()), memoryview(pcm.tobytes())):
        body = json.loads(mulaw_session().media(buffer, 100))
        assert base64.b64decode(body["media"]["payload"]) == expected
        assert (body["media"]["timestamp"], body["media"]["chunk"], body["sequence_number"]) == ("100", "1", "1")


@pytest.mark.contract
def test_row_8_mulaw_in_becomes_16_bit_samples_of_which_none_is_odd() -> None:
    for payload in (b"", b"\xff", EVERY_BYTE, EVERY_BYTE[:-1]):
        message = {"event": "media", "media": {"payload": base64.b64encode(payload).decode()}}
        received = mulaw_session().receive(json.dumps(message).encode())
        assert isinstance(received, Media)
        assert received.pcm == b"".join(oracle.ulaw_decode(byte).to_bytes(2, "little", signed=True) for byte in payload)


@given(st.binary(max_size=400))
def test_what_a_bot_sends_back_comes_back(payload: bytes) -> None:
    """An echoing bot hears what it said; of the two zeros there is one."""
    message = {"event": "media", "media": {"payload": base64.b64encode(payload).decode()}}
    session = mulaw_session()
    received = session.receive(json.dumps(message).encode())
    assert isinstance(received, Media)
    back = json.loads(session.media(received.pcm, 0))["media"]["payload"]
    assert base64.b64decode(back) == payload.replace(b"\x7f", b"\xff")


@pytest.mark.contract
def test_row_8_mulaw_has_8000_hz_and_says_so() -> None:
    media_format = json.loads(mulaw_session().start())["start"]["media_format"]
    assert media_format == {"encoding": "audio/x-mulaw", "sample_rate": "8000", "bit_rate": "64kbps"}
    assert [MULAW.rate(hz) for hz in (8000, 16000, 24000)] == [8000] * 3
    assert [PCM16.rate(hz) for hz in (8000, 16000, 24000)] == [8000, 16000, 24000]
    assert list(PAYLOADS) == ["pcm16", "mulaw"]


def test_pcm_is_passed_on_as_it_is() -> None:
    """The hot path makes no copy of it."""
    assert PCM16.encode is None and PCM16.decode is None
    pcm = ULAW_TO_PCM.tobytes()
    body = json.loads(ExotelSession(START).media(pcm, 0))
    assert base64.b64decode(body["media"]["payload"]) == pcm
