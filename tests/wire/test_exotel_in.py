"""What we take: contract.md sections 1.3 and 1.6. Nothing that a bot sends is more than counted and logged."""

from __future__ import annotations

import base64
import json

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentstream.errors import RemoteProtocolError
from agentstream.wire import exotel
from agentstream.wire.exotel import ExotelSession
from agentstream.wire.messages import Clear, Ignored, Mark, Media, StreamStart
from tests.cases import cases

START = StreamStart("s" * 32, "c" * 32, "tenant", "1", "2")


def receive(body: object, two_way: bool = True) -> object:
    return ExotelSession(START, two_way).receive(body if isinstance(body, bytes) else json.dumps(body).encode())


def media(pcm: bytes, **extra: object) -> dict[str, object]:
    return {"event": "media", "media": {"payload": base64.b64encode(pcm).decode()}} | extra


@pytest.mark.contract
def test_1_3_media_mark_and_clear_are_read() -> None:
    """1.3."""
    assert receive(media(b"\1\2\3\4", stream_sid="s" * 32)) == Media(b"\1\2\3\4")
    assert receive({"event": "mark", "stream_sid": "s" * 32, "mark": {"name": "turn-3-end"}}) == Mark("turn-3-end")
    assert receive({"event": "clear", "stream_sid": "s" * 32}) == Clear()


@pytest.mark.parametrize(
    "extra",
    [
        {},
        {"stream_sid": "somebody else's"},
        {"streamSid": "s" * 32},
        {"stream_sid": None},
        {"stream_sid": 7, "sequenceNumber": 3, "sequence_number": "x"},
        {"unknown": [1, {"a": None}]},
    ],
    ids=["no id", "another id", "camelCase id", "null id", "numbers", "unknown key"],
)
def test_ids_counters_and_further_keys_are_not_looked_at(extra: dict[str, object]) -> None:
    """1.3, 1.6 rule 3, row 5: missing, camelCase and wrong ids are all one stream."""
    assert receive(media(b"ab", **extra)) == Media(b"ab")
    assert receive({"event": "mark", "mark": {"name": "a", "label": 1}, **extra}) == Mark("a")
    assert receive({"event": "clear", **extra}) == Clear()


def test_media_before_start_is_taken() -> None:
    """1.6 rule 3."""
    session = ExotelSession(START)
    assert session.sequence_number == 0
    assert session.receive(orjson.dumps(media(b"ab"))) == Media(b"ab")


@pytest.mark.contract
@cases("size", [0, 1, 2, 3, 319, 320, 321, 640, 3200, 100_000, 150_001])
def test_1_6_rule_10_any_payload_size_is_passed_on(size: int) -> None:
    """1.6 rule 10, 2.2, rows 6 and 30: empty, odd, no multiple of 320, beyond the maximum."""
    pcm = bytes(i % 251 for i in range(size))
    assert receive(media(pcm)) == Media(pcm)


def test_base64_broken_into_lines_is_base64() -> None:
    """1.6 rule 10: MIME encoders break lines."""
    pcm = bytes(range(200))
    assert receive({"event": "media", "media": {"payload": base64.encodebytes(pcm).decode()}}) == Media(pcm)


@pytest.mark.parametrize("payload", ["****", "abc", "ab=c", "\u00e9\u00e9\u00e9\u00e9", "ab\u20acd", "="])
def test_wrong_base64(payload: str) -> None:
    """1.6 rule 10: does not crash; counted and logged by the caller."""
    with pytest.raises(RemoteProtocolError, match=exotel.BAD_BASE64):
        receive({"event": "media", "media": {"payload": payload}})


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", exotel.NOT_JSON),
        (b"{", exotel.NOT_JSON),
        (b"hello", exotel.NOT_JSON),
        (b'{"event":"media\xff"}', exotel.NOT_JSON),
        (b'{"event":1e999}', exotel.NOT_JSON),
        (b'"\\ud800"', exotel.NOT_JSON),
        (b"[" * 100_000, exotel.NOT_JSON),
        (b'{"a":' * 100_000, exotel.NOT_JSON),
        (b"[]", exotel.NOT_AN_OBJECT),
        (b"null", exotel.NOT_AN_OBJECT),
        (b'"media"', exotel.NOT_AN_OBJECT),
        (b"{}", exotel.NO_EVENT),
        (b'{"event":null}', exotel.NO_EVENT),
        (b'{"event":["media"]}', exotel.NO_EVENT),
        (b'{"event":"media"}', exotel.NO_PAYLOAD),
        (b'{"event":"media","media":"AAAA"}', exotel.NO_PAYLOAD),
        (b'{"event":"media","media":{"payload":null}}', exotel.NO_PAYLOAD),
        (b'{"event":"media","media":{"payload":[1]}}', exotel.NO_PAYLOAD),
        (b'{"event":"mark"}', exotel.NO_MARK_NAME),
        (b'{"event":"mark","mark":[]}', exotel.NO_MARK_NAME),
        (b'{"event":"mark","mark":{"name":null}}', exotel.NO_MARK_NAME),
    ],
    ids=lambda value: repr(value[:36])[2:-1] if isinstance(value, bytes) else value,
)
def test_what_is_no_message_has_its_fixed_sentence(data: bytes, sentence: str) -> None:
    """1.6 rule 3: to be logged, never to be closed for."""
    with pytest.raises(RemoteProtocolError) as caught:
        receive(data)
    assert caught.value.sentence == sentence
    assert caught.value.status == 0


def test_a_number_as_mark_name_comes_back_as_text() -> None:
    """1.6 rule 5: the bot that waits for it gets it."""
    assert receive({"event": "mark", "mark": {"name": 7}}) == Mark("7")


@pytest.mark.parametrize("event", ["connected", "start", "dtmf", "stop"])
def test_events_of_ours_are_ignored(event: str) -> None:
    """1.6 rule 3: an echo bot sends dtmf."""
    assert receive({"event": event}) == Ignored(exotel.OURS_TO_SEND, event)


def test_unknown_events_are_ignored() -> None:
    """1.6 rule 3; the name is cut, because the bot chose it."""
    assert receive({"event": "x" * 1000}) == Ignored(exotel.UNKNOWN_EVENT, "x" * 40)


@pytest.mark.parametrize("event", ["media", "mark", "clear"])
def test_a_one_way_stream_takes_nothing(event: str) -> None:
    """1.1: media, mark and clear are ignored by the Stream applet."""
    assert receive({"event": event}, two_way=False) == Ignored(exotel.ONE_WAY, event)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(max_size=8), below, max_size=3),
    max_leaves=8,
)
BODIES = st.fixed_dictionaries(
    {"event": st.sampled_from(["media", "mark", "clear", "dtmf", "other"]) | JSON},
    optional={
        "media": st.fixed_dictionaries({}, optional={"payload": JSON}) | JSON,
        "mark": st.fixed_dictionaries({}, optional={"name": JSON}) | JSON,
    },
)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200) | BODIES.map(lambda body: json.dumps(body).encode()), st.booleans())
def test_any_bytes_are_a_message_or_a_remote_error(data: bytes, two_way: bool) -> None:
    """1.6 rule 10: nothing crashes."""
    try:
        message = ExotelSession(START, two_way).receive(data)
    except RemoteProtocolError as error:
        assert error.sentence.endswith(".")
    else:
        assert isinstance(message, Media | Mark | Clear | Ignored)
