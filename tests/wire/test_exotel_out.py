"""What we send: contract.md sections 1.2 and 1.6, and the defaults of section 10."""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np
import pytest

from agentstream.wire.exotel import ExotelSession
from agentstream.wire.messages import StreamStart
from tests.cases import cases

SID = "3357459ca698d8c765bac10b0ec418bl"
CALL = "b0c8aea60aceb0007fc5a1bb75c218bl"


def a_session(**changes: Any) -> ExotelSession:
    fields: dict[str, Any] = {
        "stream_sid": SID,
        "call_sid": CALL,
        "account_sid": "tenant",
        "caller": "09876543210",
        "callee": "08012345678",
        "sample_rate": 8000,
    }
    return ExotelSession(StreamStart(**(fields | changes)))


def test_connected_is_the_event_alone() -> None:
    """1.2: no canonical page has protocol and version, and no bot needs them."""
    assert a_session().connected() == b'{"event":"connected"}'


@pytest.mark.contract
def test_1_2_start_is_byte_for_byte_as_captured() -> None:
    """1.2 and rows 1 to 3: the same keys, in the same order, with the same types as on the wire."""
    assert a_session().start() == (
        b'{"event":"start","stream_sid":"3357459ca698d8c765bac10b0ec418bl","sequence_number":"1","start":{'
        b'"stream_sid":"3357459ca698d8c765bac10b0ec418bl","call_sid":"b0c8aea60aceb0007fc5a1bb75c218bl",'
        b'"account_sid":"tenant","from":"09876543210","to":"08012345678",'
        b'"media_format":{"encoding":"base64","sample_rate":"8000","bit_rate":"128kbps"}}}'
    )


@pytest.mark.parametrize("rate", [8000, 16000, 24000])
def test_start_reflects_the_sample_rate_as_a_string(rate: int) -> None:
    """3.4: reflected in start.media_format.sample_rate."""
    start = json.loads(a_session(sample_rate=rate).start())["start"]
    assert start["media_format"]["sample_rate"] == str(rate)


@pytest.mark.contract
def test_1_2_custom_parameters_are_absent_when_there_are_none() -> None:
    """1.2, row 9: an object of strings in start, absent when there are none; odd characters survive."""
    assert b"custom_parameters" not in a_session().start()
    given = {"abc": "", 'quo"te': "\u0939\u093f\n%d%s", "c": "3"}
    assert json.loads(a_session(custom_parameters=given).start())["start"]["custom_parameters"] == given


@pytest.mark.contract
def test_1_5_no_camel_case_key_goes_out() -> None:
    """1.5, row 5: both spellings in start make a recogniser of dialects take the call for another provider's."""
    session = a_session(custom_parameters={"a": "b"})
    sent = [
        session.connected(),
        session.start(),
        session.media(b"\0\0", 0),
        session.digit("5", 100),
        session.mark("m"),
        session.stop("stopped"),
    ]

    def keys(value: object) -> list[str]:
        if not isinstance(value, dict):
            return []
        return [key for name, below in value.items() for key in (name, *keys(below))]

    for message in sent:
        assert all(key == key.lower() for key in keys(json.loads(message)))


@pytest.mark.contract
def test_1_2_media_is_byte_for_byte_as_captured() -> None:
    """1.2, rows 1 and 28: numbers are strings, start is 1, so the first media is 2 with chunk 1 at "0"."""
    session = a_session()
    session.start()
    pcm = np.arange(-400, 400, dtype=np.int16)
    first = json.loads(session.media(pcm, 0))
    second = json.loads(session.media(pcm, 100))
    assert first == {
        "event": "media",
        "sequence_number": "2",
        "stream_sid": SID,
        "media": {"chunk": "1", "timestamp": "0", "payload": base64.b64encode(pcm.astype("<i2").tobytes()).decode()},
    }
    assert (second["sequence_number"], second["media"]["chunk"], second["media"]["timestamp"]) == ("3", "2", "100")


def test_media_takes_every_buffer_alike() -> None:
    """2.1: bytes, views and rows of a matrix are the same samples."""
    matrix = np.arange(600, dtype=np.int16).reshape(3, 200)
    raw = matrix[1].tobytes()
    messages = {a_session().media(pcm, 20) for pcm in (raw, bytearray(raw), memoryview(raw), matrix[1])}
    assert len(messages) == 1


@pytest.mark.contract
def test_1_2_dtmf_is_nested_and_in_strings() -> None:
    """1.2, row 10."""
    session = a_session()
    session.start()
    assert json.loads(session.digit("#", 160)) == {
        "event": "dtmf",
        "sequence_number": "2",
        "stream_sid": SID,
        "dtmf": {"digit": "#", "duration": "160"},
    }


@pytest.mark.contract
@cases("name", ["turn-3-end", "", 'a"b\\c', "\u0939\u093f", "100%d"])
def test_1_2_mark_comes_back_with_the_same_name(name: str) -> None:
    """1.2, 1.6 rule 5."""
    session = a_session()
    session.start()
    assert json.loads(session.mark(name)) == {
        "event": "mark",
        "sequence_number": "2",
        "stream_sid": SID,
        "mark": {"name": name},
    }


@pytest.mark.parametrize("reason", ["stopped", "callended"])
def test_stop(reason: str) -> None:
    """1.2, row 12."""
    session = a_session()
    session.start()
    assert json.loads(session.stop(reason)) == {
        "event": "stop",
        "sequence_number": "2",
        "stream_sid": SID,
        "stop": {"call_sid": CALL, "account_sid": "tenant", "reason": reason},
    }


def test_sequence_number_counts_everything_and_chunk_only_media() -> None:
    """1.2: sequence_number counts all messages from start = 1; chunk is a counter of its own."""
    session = a_session()
    session.connected()
    sent = [
        session.start(),
        session.media(b"", 0),
        session.mark("a"),
        session.digit("1", 50),
        session.media(b"", 100),
        session.stop("stopped"),
    ]
    bodies = [json.loads(message) for message in sent]
    assert [body["sequence_number"] for body in bodies] == ["1", "2", "3", "4", "5", "6"]
    assert [body["media"]["chunk"] for body in bodies if body["event"] == "media"] == ["1", "2"]


def test_ids_and_numbers_that_need_escaping_stay_json() -> None:
    """1.2: a header of the phone may hold anything, half characters included."""
    session = a_session(stream_sid='%d"', caller="\udcff\"'", callee="%s", account_sid="\\")
    assert json.loads(session.start())["start"]["from"] == "?\"'"
    assert json.loads(session.media(b"\1\2", 5))["stream_sid"] == '%d"'
    assert json.loads(session.stop("stopped"))["stop"]["account_sid"] == "\\"
