"""[account]: time zones and numbers."""

from __future__ import annotations

import pytest

from agentstream.config.addresses import expect_country_code, expect_time_zone
from agentstream.config.document import read_config


@pytest.mark.parametrize("name", ["Asia/Kolkata", "UTC", "Europe/Berlin"])
def test_time_zones(name: str) -> None:
    assert expect_time_zone(name) == ""


@pytest.mark.parametrize("name", ["", "Asia", "IST+5", "Asia/Kolkatta", "../etc/passwd", "/etc/passwd", "a\0b"])
def test_what_is_no_time_zone(name: str) -> None:
    assert expect_time_zone(name) == 'the name of a time zone such as "Asia/Kolkata"'


@pytest.mark.parametrize(
    ("code", "is_one"),
    [("", True), ("91", True), ("1", True), ("353", True), ("+91", False), ("091", False), ("1234", False)],
)
def test_country_codes(code: str, is_one: bool) -> None:
    assert (expect_country_code(code) == "") == is_one


@pytest.mark.parametrize(
    ("account", "problems"),
    [
        ({"numbering": "national"}, ["account.country_code"]),
        ({"numbering": "e164"}, ["account.country_code"]),
        ({"numbering": "e164", "country_code": "49"}, []),
        ({"numbering": "as_received"}, []),
        ({}, []),
    ],
)
def test_numbers_cannot_be_written_without_their_country(account: dict[str, str], problems: list[str]) -> None:
    _, _, found = read_config({"account": account}, "a.toml")
    assert [problem.path for problem in found] == problems
