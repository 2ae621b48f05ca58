"""The URL of a bot: contract.md 3.1 and 3.3, design.md section 2."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentstream.errors import StreamFailed
from agentstream.ws import url as url_module
from agentstream.ws.url import split_url


def by_url(value: Any) -> str:
    """The name of a case is its URL, short, and what comes of it."""
    return repr(value)[1:31] if isinstance(value, str) else str(value)


def basic(text: str) -> str:
    return "Basic " + base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    ("url", "is_secure", "host", "port", "resource"),
    [
        ("ws://host", False, "host", 80, "/"),
        ("wss://host", True, "host", 443, "/"),
        ("WSS://Host.Example/p", True, "Host.Example", 443, "/p"),
        ("ws://127.0.0.1:5001/media?sample-rate=8000", False, "127.0.0.1", 5001, "/media?sample-rate=8000"),
        ("ws://[::1]:8080/a", False, "::1", 8080, "/a"),
        ("ws://[::1]", False, "::1", 80, "/"),
        ("ws://my_bot:1?abc", False, "my_bot", 1, "/?abc"),
        ("ws://h:/x", False, "h", 80, "/x"),
        ("ws://h/a%20b/?q=%C3%A9+x&&=;@:/?%zz", False, "h", 80, "/a%20b/?q=%C3%A9+x&&=;@:/?%zz"),
        ("ws://h/@x:y", False, "h", 80, "/@x:y"),
    ],
    ids=by_url,
)
def test_parts(url: str, is_secure: bool, host: str, port: int, resource: str) -> None:
    """3.1; 1.6 rule 9: path and query stay byte for byte."""
    found = split_url(url)
    assert (found.is_secure, found.host, found.port, found.resource) == (is_secure, host, port, resource)
    assert found.authorization == ""
    assert found.query == resource.partition("?")[2]


@pytest.mark.parametrize(
    ("userinfo", "expected"),
    [
        ("KEY:TOKEN", "KEY:TOKEN"),
        ("KEY", "KEY:"),
        ("KEY:", "KEY:"),
        (":TOKEN", ":TOKEN"),
        ("a%40b:c%3Ad%2F%25", "a@b:c:d/%"),
        ("k:a:b@c", "k:a:b@c"),
        ("%C3%A9:+", "\u00e9:+"),
    ],
    ids=by_url,
)
def test_userinfo_becomes_a_basic_header(userinfo: str, expected: str) -> None:
    """3.3: removed from the URL and sent as Authorization, percent-decoded."""
    found = split_url(f"wss://{userinfo}@host:8443/p?q")
    assert found.authorization == basic(expected)
    assert (found.host, found.port, found.resource) == ("host", 8443, "/p?q")


def test_credentials_are_not_shown() -> None:
    """4.3: never log credentials found in a stream's URL."""
    found = split_url("wss://KEY:TOKEN@[::1]:443/p?q")
    assert found.public == "wss://[::1]/p?q"
    assert "TOKEN" not in repr(found)
    assert found.authorization not in repr(found)


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("", url_module.BAD_SCHEME),
        ("host/path", url_module.BAD_SCHEME),
        ("http://host", url_module.BAD_SCHEME),
        ("ws:/host", url_module.BAD_SCHEME),
        ("ws://", url_module.NO_HOST),
        ("ws:///path", url_module.NO_HOST),
        ("ws://:80/", url_module.NO_HOST),
        ("ws://user@/", url_module.NO_HOST),
        ("ws://h/#", url_module.FRAGMENT),
        ("ws://h/p#frag", url_module.FRAGMENT),
        ("ws://h/a b", url_module.CONTROL_OR_SPACE),
        (" ws://h/", url_module.CONTROL_OR_SPACE),
        ("ws://h/\n", url_module.CONTROL_OR_SPACE),
        ("ws://h/\r\nX-Header: 1", url_module.CONTROL_OR_SPACE),
        ("ws://h/\x00", url_module.CONTROL_OR_SPACE),
        ("ws://h/\x7f", url_module.CONTROL_OR_SPACE),
        ("ws://h/\u00e9", url_module.NOT_ASCII),
        ("ws://b\u00fccher.example/", url_module.NOT_ASCII),
        ("ws://h:0/", url_module.BAD_PORT),
        ("ws://h:65536/", url_module.BAD_PORT),
        ("ws://h:80a/", url_module.BAD_PORT),
        ("ws://h:-1/", url_module.BAD_PORT),
        ("ws://h:" + "9" * 5000, url_module.BAD_PORT),
        ("ws://h[/", url_module.BAD_HOST),
        ("ws://[::1/", url_module.BAD_HOST),
        ("ws://[::1]x/", url_module.BAD_HOST),
        ("ws://[host]/", url_module.BAD_HOST),
        ("ws://a%41/", url_module.BAD_HOST),
        ("ws://h\\x/", url_module.BAD_HOST),
        ("ws://a%0Ab:c@h/", url_module.BAD_USERINFO),
        ("ws://a%3Ab:c@h/", url_module.BAD_USERINFO),
    ],
    ids=by_url,
)
def test_refusals_are_fixed_sentences(url: str, sentence: str) -> None:
    """3.1: one sentence that tells no secret."""
    with pytest.raises(StreamFailed) as caught:
        split_url(url)
    assert caught.value.reason == sentence


@given(st.text(max_size=40) | st.text(alphabet="ws:/@[]%#?.a1 ", max_size=30).map(lambda text: "ws://" + text))
def test_any_text_is_a_url_or_a_sentence(text: str) -> None:
    """3.1: what is accepted can be put into a request line and a header as it is."""
    try:
        found = split_url(text)
    except StreamFailed as error:
        assert error.reason.endswith(".")
    else:
        assert all("!" <= character <= "~" for character in found.resource + found.host_header)
        assert 1 <= found.port <= 65535
