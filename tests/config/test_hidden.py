"""What messages show of URLs, right and wrong ones."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentstream.config.hidden import without_secrets
from agentstream.config.structure import found


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("ws://u:p@h/m?sample-rate=8000&key=S", "ws://***@h/m?sample-rate=8000&key=***"),
        ("wss://h/m?TOKEN&&a=", "wss://h/m?***&&a=***"),
        ("ws://u:p/w?x@y@h:1/p?k=1", "ws://***@h:1/p?k=***"),
        ("htps:/u:p@h/?k=1", "htps:/***@h/?k=***"),
        ("sip:u:p@h;transport=tcp", "sip:u:***@h;transport=tcp"),
        ("us:p@@", "us:***@"),
        ("ws://u:p w@h/", "ws://***@h/"),
        ("//u:p@h/?k=1", "//***@h/?k=***"),
        ("wss//u:p@h/", "wss//***@h/"),
        ("bot.example/m?token=S", "bot.example/m?token=***"),
        ("wss:bot.example:443/m?S", "wss:bot.example:443/m?***"),
        ("wss://h/#S", "wss://h/#***"),
        ("wss://h/?sample-rate=8000#S", "wss://h/?sample-rate=8000#***"),
        ("sip:u/v:p@h", "sip:u/v:***@h"),
        ("12#", "12#"),
        ("0?0*", "0?0*"),
        ("sip:u@h:5060", "sip:u@h:5060"),
        ("udp:5060:interface=127.0.0.1", "udp:5060:interface=127.0.0.1"),
        ("what is this? a=b", "what is this? a=b"),
        ("", ""),
    ],
)
def test_it_is_hidden(text: str, shown: str) -> None:
    assert without_secrets(text) == shown
    assert found(text) == f'"{shown}"'


WORD = st.text("abc:/?#@&=% ;[]", max_size=12)


@given(
    before=WORD,
    after=WORD,
    scheme=st.sampled_from(["ws:/", "ws://", "https://", "htp:/", "wss//", "//", "sip:", "sips:", ""]),
)
def test_no_password_however_wrong_is_shown(before: str, after: str, scheme: str) -> None:
    assert "SECRET" not in without_secrets(f"{scheme}user:{before}XSECRETX{after}@host")
