"""The query of a stream's URL (contract.md 3.2, 3.4) and the ids (1.2)."""

from __future__ import annotations

import datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentstream.wire.parameters import read_query
from agentstream.wire.sid import new_sid
from tests.cases import cases


@pytest.mark.parametrize(
    ("query", "rate"),
    [
        ("", 8000),
        ("sample-rate=8000", 8000),
        ("sample-rate=16000", 16000),
        ("sample_rate=24000", 24000),
        ("sample-rate=44100", 8000),
        ("sample-rate=", 8000),
        ("sample-rate=16k&a=b", 8000),
    ],
    ids=lambda value: str(value) or "nothing",
)
def test_sample_rate(query: str, rate: int) -> None:
    """3.4, row 18: both spellings; unknown is 8000."""
    assert read_query(query).sample_rate == rate


@pytest.mark.contract
def test_3_2_a_name_without_value_is_a_parameter() -> None:
    """1.2: a bot in use takes the first key for its call id."""
    assert read_query("abc").custom_parameters == {"abc": ""}
    assert list(read_query("abc&b=1").custom_parameters) == ["abc", "b"]


@pytest.mark.contract
def test_3_2_sample_rate_is_no_custom_parameter_and_does_not_count() -> None:
    """3.2."""
    found = read_query("a=1&sample-rate=16000&b=x%20y%2B+z&sample_rate=16000&c=")
    assert found.custom_parameters == {"a": "1", "b": "x y+ z", "c": ""}
    assert found.left_out == ()


def test_limits_leave_out_and_say_so() -> None:
    """3.2: at most 3 pairs and 256 characters in total."""
    found = read_query("a=1&b=2&c=3&d=4")
    assert (found.custom_parameters, found.left_out) == ({"a": "1", "b": "2", "c": "3"}, ("d",))
    found = read_query("a=" + "x" * 255 + "&b=&c=3")
    assert (list(found.custom_parameters), found.left_out) == (["a"], ("b", "c"))


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=80))
def test_any_text_is_a_query(query: str) -> None:
    """3.2: the URL was checked elsewhere; reading its query refuses nothing."""
    assert len(read_query(query).custom_parameters) <= 3


@pytest.mark.contract
@cases(
    ("date", "tail"),
    [
        ((2024, 7, 31), "187v"),
        ((2024, 9, 3), "1893"),
        ((2025, 1, 7), "1917"),
        ((2025, 1, 15), "191f"),
        ((2026, 8, 25), "1a8p"),
        ((2024, 11, 21), "18bl"),
    ],
    ids=lambda value: "-".join(map(str, value)) if isinstance(value, tuple) else value,
)
def test_1_2_the_tail_of_a_sid_is_the_date(date: tuple[int, int, int], tail: str) -> None:
    """1.2: as in the dated captures; 32 lower-case characters."""
    sid = new_sid(lambda size: "ab" * size, datetime.date(*date))
    assert sid == "ab" * 14 + tail
    assert len(sid) == 32
    assert sid == sid.lower()
