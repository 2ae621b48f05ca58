"""How numbers are written: contract.md 1.2 and section 10, row 4."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentstream.config.node import STYLES
from agentstream.wire.numbering import Numbering
from tests.cases import cases

GERMANY = {"country_code": "49", "number_length": 11}


@pytest.mark.contract
@cases(
    ("numbering", "written"),
    [
        (Numbering(), "9876543210"),
        (Numbering(country_code="91"), "09876543210"),
        (Numbering(country_code="1"), "+19876543210"),
    ],
    ids=["as received without a country", "national with a leading 0 for India", "E.164 for any other country"],
)
def test_row_4_the_default(numbering: Numbering, written: str) -> None:
    assert numbering.write("9876543210") == written


@pytest.mark.contract
@cases(
    "received",
    ["+919876543210", "00919876543210", "919876543210", "09876543210", "9876543210", "+91 98765-43210"],
)
def test_row_4_one_number_however_it_comes(received: str) -> None:
    assert Numbering("e164", "91").write(received) == "+919876543210"
    assert Numbering("national", "91").write(received) == "09876543210"
    assert Numbering("as_received", "91").write(received) == received


@pytest.mark.contract
@cases(
    ("received", "e164", "national"),
    [
        ("+442079460000", "+442079460000", "+442079460000"),
        ("00442079460000", "+442079460000", "+442079460000"),
        ("9198765432", "+919198765432", "09198765432"),
        ("+442079460000;phone-context=x", "+442079460000", "+442079460000"),
    ],
    ids=["of another country", "of another country with 00", "begins like the country code", "with a parameter"],
)
def test_row_4_numbers_that_are_easily_mistaken(received: str, e164: str, national: str) -> None:
    assert Numbering("e164", "91").write(received) == e164
    assert Numbering("national", "91").write(received) == national


@pytest.mark.contract
@cases("style", ["e164", "national"])
@cases(
    "received",
    ["100", "alice", "anonymous", "", "*21#", "12345678901234567", "0", "00", "+", "000123456789", "١٢٣٤٥٦٧٨"],
)
def test_row_4_what_is_no_number_stays(received: str, style: str) -> None:
    assert Numbering(style, "91").write(received) == received


@pytest.mark.contract
def test_row_4_a_leading_0_tells_a_national_number_of_any_length() -> None:
    assert Numbering("e164", **GERMANY).write("0301234567") == "+49301234567"
    assert Numbering("e164", **GERMANY).write("301234567") == "301234567"


@settings(max_examples=100, deadline=None)
@given(
    st.text(alphabet="+0123456789- ;a", max_size=20), st.sampled_from(STYLES), st.sampled_from(["", "1", "49", "91"])
)
def test_any_text_is_written_and_writing_it_again_changes_nothing(text: str, style: str, code: str) -> None:
    numbering = Numbering(style, code)
    assert numbering.write(numbering.write(text)) == numbering.write(text)
