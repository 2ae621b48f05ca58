"""Who calls, beside From: RFC 3325, RFC 3323, RFC 5806, RFC 7044."""

from __future__ import annotations

import pytest

from agentstream.sip.headers import Headers
from agentstream.sip.identity import MOST, Diversion, Identity, read_identity


@pytest.mark.rfc(3325)
@pytest.mark.rfc(3323)
@pytest.mark.rfc(5806)
@pytest.mark.rfc(7044)
def test_everything_that_is_said() -> None:
    headers = Headers(
        [
            ("P-Asserted-Identity", '"Alice A." <sip:+491234@carrier.example>, <tel:+491234>'),
            ("Privacy", "ID; user"),
            ("Diversion", '<sip:+4955@carrier.example>;reason=no-answer;counter=1, <tel:+4956>;reason="user-busy"'),
            ("History-Info", "<sip:+4955@carrier.example?Reason=SIP%3Bcause%3D302>;index=1"),
            ("History-Info", "<sip:1000@10.0.0.1>;index=1.1"),
        ]
    )
    assert read_identity(headers) == Identity(
        asserted=("sip:+491234@carrier.example", "tel:+491234"),
        asserted_user="+491234",
        display="Alice A.",
        privacy=("id", "user"),
        diversions=(
            Diversion("sip:+4955@carrier.example", "+4955", "no-answer"),
            Diversion("tel:+4956", "+4956", "user-busy"),
        ),
        history=("sip:+4955@carrier.example", "sip:1000@10.0.0.1"),
    )


@pytest.mark.rfc(3325)
def test_nothing_is_said() -> None:
    assert read_identity(Headers()) == Identity()


@pytest.mark.rfc(3325)
@pytest.mark.parametrize("value", ["", "<", "nonsense", '"never closed <sip:a@b>', "<sip:a@b", "<sip:%zz@b>"])
@pytest.mark.parametrize("name", ["P-Asserted-Identity", "Diversion", "History-Info"])
def test_what_cannot_be_read_is_left_out(name: str, value: str) -> None:
    assert read_identity(Headers([(name, value)])) == Identity()
    good = read_identity(Headers([(name, f"<sip:good@b>, {value}" if '"' not in value and value != "<" else "x")]))
    assert len(good.asserted + good.history + tuple(one.uri for one in good.diversions)) <= 1


@pytest.mark.rfc(7044)
def test_there_is_no_end_to_what_peers_write_but_to_what_is_kept() -> None:
    many = ", ".join(f"<sip:{number}@b>" for number in range(1000))
    assert len(read_identity(Headers([("History-Info", many)])).history) == MOST
