"""Every field that a bot gets, one by one: its place, its type and its value as captured (contract.md 1.2).

The other pages of this folder test rules; this one is to be read as a table.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from agentstream.wire.exotel import ExotelSession, Spelling
from agentstream.wire.messages import StreamStart
from tests.cases import cases

pytestmark = pytest.mark.contract

SID = "3357459ca698d8c765bac10b0ec418bl"
CALL = "b0c8aea60aceb0007fc5a1bb75c218bl"
START = StreamStart(SID, CALL, "tenant", "09876543210", "08012345678", 8000, {"abc": "", "b": "2"})
NUMBERS, BOTH = Spelling(counters="number"), Spelling(keys="both")


def messages(spelling: Spelling = Spelling(), track: str = "") -> dict[str, Any]:  # noqa: B008 - a frozen value
    """One of each, in the order of a stream."""
    session = ExotelSession(START, spelling=spelling)
    written = {
        "connected": session.connected(),
        "start": session.start(),
        "media": session.media(b"\1\0\2\0", 100, track),
        "dtmf": session.digit("5", 100),
        "mark": session.mark("turn-3-end"),
        "stop": session.stop("callended"),
    }
    return {event: json.loads(message) for event, message in written.items()}


def at(message: dict[str, Any], path: str) -> Any:
    """The value at a dotted path; KeyError where there is none."""
    value: Any = message
    for key in path.split("."):
        value = value[key]
    return value


FIELDS = [
    ("connected", "event", "connected"),
    ("start", "event", "start"),
    ("start", "stream_sid", SID),
    ("start", "sequence_number", "1"),
    ("start", "start.stream_sid", SID),
    ("start", "start.call_sid", CALL),
    ("start", "start.account_sid", "tenant"),
    ("start", "start.from", "09876543210"),
    ("start", "start.to", "08012345678"),
    ("start", "start.media_format.encoding", "base64"),
    ("start", "start.media_format.sample_rate", "8000"),
    ("start", "start.media_format.bit_rate", "128kbps"),
    ("start", "start.custom_parameters.abc", ""),
    ("start", "start.custom_parameters.b", "2"),
    ("media", "event", "media"),
    ("media", "sequence_number", "2"),
    ("media", "stream_sid", SID),
    ("media", "media.chunk", "1"),
    ("media", "media.timestamp", "100"),
    ("media", "media.payload", "AQACAA=="),
    ("dtmf", "event", "dtmf"),
    ("dtmf", "sequence_number", "3"),
    ("dtmf", "stream_sid", SID),
    ("dtmf", "dtmf.digit", "5"),
    ("dtmf", "dtmf.duration", "100"),
    ("mark", "event", "mark"),
    ("mark", "sequence_number", "4"),
    ("mark", "stream_sid", SID),
    ("mark", "mark.name", "turn-3-end"),
    ("stop", "event", "stop"),
    ("stop", "sequence_number", "5"),
    ("stop", "stream_sid", SID),
    ("stop", "stop.call_sid", CALL),
    ("stop", "stop.account_sid", "tenant"),
    ("stop", "stop.reason", "callended"),
]


@pytest.mark.parametrize(
    ("event", "path", "value"), FIELDS, ids=[f"{event}: {path} is a string" for event, path, _ in FIELDS]
)
def test_1_2_field(event: str, path: str, value: str) -> None:
    assert at(messages()[event], path) == value


def leaves(value: Any, path: str = "") -> list[str]:
    if not isinstance(value, dict):
        return [path]
    return [leaf for key, below in value.items() for leaf in leaves(below, f"{path}.{key}" if path else key)]


@cases("event", ["connected", "start", "media", "dtmf", "mark", "stop"])
def test_1_2_no_further_fields_in_any_message(event: str) -> None:
    assert sorted(leaves(messages()[event])) == sorted(path for known, path, _ in FIELDS if known == event)


def test_rows_1_2_3_5_defaults_are_those_of_the_wire() -> None:
    assert Spelling() == Spelling(counters="string", keys="snake", encoding="base64", bit_rate="128kbps")


COUNTERS = [(event, "sequence_number") for event in ("start", "media", "dtmf", "mark", "stop")]
COUNTERS.append(("media", "media.chunk"))


@cases(("event", "path"), COUNTERS, ids=[f"{event}: {path} is a number" for event, path in COUNTERS])
def test_1_6_rule_2_and_row_1_counters_are_numbers_by_a_switch(event: str, path: str) -> None:
    assert at(messages(NUMBERS)[event], path) == int(at(messages()[event], path))


def test_row_1_counters_number_changes_nothing_else() -> None:
    def others(found: dict[str, Any]) -> list[Any]:
        return [
            (event, path, at(message, path))
            for event, message in found.items()
            for path in leaves(message)
            if (event, path) not in COUNTERS
        ]

    assert others(messages(NUMBERS)) == others(messages())


@cases("value", ["audio/x-raw", "raw/slin", "linear16", "raw", 'a"b'])
def test_row_2_encoding_is_configurable(value: str) -> None:
    assert messages(Spelling(encoding=value))["start"]["start"]["media_format"]["encoding"] == value


@cases("value", ["128", "16"])
def test_row_3_bit_rate_is_configurable(value: str) -> None:
    assert messages(Spelling(bit_rate=value))["start"]["start"]["media_format"]["bit_rate"] == value


ALIASES = [
    ("start", "stream_sid", "streamSid"),
    ("start", "sequence_number", "sequenceNumber"),
    ("start", "start.stream_sid", "start.streamSid"),
    ("start", "start.call_sid", "start.callSid"),
    ("start", "start.account_sid", "start.accountSid"),
    ("start", "start.media_format", "start.mediaFormat"),
    ("start", "start.media_format.sample_rate", "start.mediaFormat.sampleRate"),
    ("start", "start.media_format.bit_rate", "start.mediaFormat.bitRate"),
    ("start", "start.custom_parameters", "start.customParameters"),
    ("media", "stream_sid", "streamSid"),
    ("media", "sequence_number", "sequenceNumber"),
    ("dtmf", "stream_sid", "streamSid"),
    ("mark", "sequence_number", "sequenceNumber"),
    ("stop", "stop.call_sid", "stop.callSid"),
    ("stop", "stop.account_sid", "stop.accountSid"),
]


@cases(("event", "path", "alias"), ALIASES, ids=[f"{event}: {alias} beside {path}" for event, path, alias in ALIASES])
def test_row_5_camel_case_names_beside_the_others_by_a_switch(event: str, path: str, alias: str) -> None:
    message = messages(BOTH)[event]
    assert at(message, alias) == at(message, path)
    with pytest.raises(KeyError):
        at(messages()[event], alias)


def test_row_5_names_of_custom_parameters_are_the_operators() -> None:
    session = ExotelSession(StreamStart(SID, CALL, "t", "1", "2", 8000, {"my_key": "1"}), spelling=BOTH)
    assert json.loads(session.start())["start"]["customParameters"] == {"my_key": "1"}


@cases("spelling", [Spelling(), NUMBERS, BOTH], ids=["default", "numbers", "both keys"])
@cases("track", ["inbound", "outbound"])
def test_1_4_track_is_in_media_where_there_are_two(spelling: Spelling, track: str) -> None:
    media = messages(spelling, track)["media"]["media"]
    assert media["track"] == track and {"chunk", "timestamp", "payload"} <= set(media)
    assert "track" not in messages(spelling)["media"]["media"]
