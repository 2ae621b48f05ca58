"""The small languages inside strings."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentstream.config.addresses import (
    Listener,
    PortRange,
    expect_address_or_empty,
    expect_aor,
    expect_server,
    parse_network,
)
from agentstream.sip.uri import parse_uri


@pytest.mark.parametrize(
    ("text", "pairs"),
    [("20000-24999", 2500), ("20000-20001", 1), ("20001-20003", 1), ("20001-20004", 1), ("65534-65535", 1)],
)
def test_pairs_of_a_port_range(text: str, pairs: int) -> None:
    ports = PortRange.parse(text)
    assert len(ports.pairs) == pairs and str(ports) == text
    assert all(port % 2 == 0 and ports.first <= port and port + 1 <= ports.last for port in ports.pairs)


@pytest.mark.parametrize("text", ["", "20000", "20000-", "1-2", "24999-20000", "20001-20002", "20000-65536", "2e4-3e4"])
def test_what_is_no_port_range(text: str) -> None:
    with pytest.raises(ValueError, match=r"^a range of ports such as"):
        PortRange.parse(text)


@pytest.mark.parametrize(
    ("text", "listener"),
    [
        ("udp:5060", Listener("udp", 5060, "")),
        ("udp:0:interface=127.0.0.1", Listener("udp", 0, "127.0.0.1")),
        ("udp:5060:interface=\\:\\:1", Listener("udp", 5060, "::1")),
        ("tcp:5060:interface=[::1]", Listener("tcp", 5060, "::1")),
    ],
)
def test_listeners(text: str, listener: Listener) -> None:
    assert Listener.parse(text) == listener


@pytest.mark.parametrize(
    "text",
    ["", "udp", "udp:", "tls:", "udp:65536", "udp:5060:interface=here", "udp:5060:::1", "udp:5060:a=b"],
)
def test_what_is_no_listener(text: str) -> None:
    with pytest.raises(ValueError, match=r"^a listener such as"):
        Listener.parse(text)


def test_a_network_with_host_bits_is_told_the_one_that_is_meant() -> None:
    with pytest.raises(ValueError, match=r'such as "203\.0\.113\.0/24"$'):
        parse_network("203.0.113.5/24")


def test_an_address_for_others_is_not_every_address() -> None:
    assert not expect_address_or_empty("")
    assert not expect_address_or_empty("2001:db8::1")
    assert expect_address_or_empty("0.0.0.0")
    assert expect_address_or_empty("example.org")


@given(st.text())
def test_any_text_is_a_value_or_a_value_error(text: str) -> None:
    for parse in (PortRange.parse, Listener.parse, parse_network):
        with contextlib.suppress(ValueError):
            parse(text)


SERVERS = "sip:carrier.example.com sips:a sip:203.0.113.5:5070;transport=tcp sip:[2001:db8::5] sip:3com.example"
NO_SERVERS = """carrier.example.com tel:123 sip:user@host sip:300.1.1.1 sip:1.2.3 sip:a..b sip:a:0 sip:a:65536 sip:[1]
    sip:2001:db8::5 sip:a;transport=sctp sip:-a sip: sip:[1.2.3.4] sips:a;transport=udp"""


@pytest.mark.parametrize("text", SERVERS.split())
def test_servers(text: str) -> None:
    assert expect_server(text) == ""


@pytest.mark.parametrize("text", [*NO_SERVERS.split(), "", "sip:a b", "sip:" + "a" * 300])
def test_what_is_no_server(text: str) -> None:
    assert expect_server(text).startswith("a SIP URI such as ")


@pytest.mark.parametrize(
    "text", ["sip:4930@carrier.example.com", "sip:a%20b@203.0.113.5:5070", "sip:a;b/c@[2001:db8::5]"]
)
def test_addresses_of_record(text: str) -> None:
    assert expect_aor(text) == ""
    assert parse_uri(text).user


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sips:a@b",
        "sip:b",
        "sip:a@[:::]",
        "sip:a@[1.2.3.4]",
        "sip:a@1.2.3",
        "sip:a@b..c",
        "sip:a@b:0",
        "sip:a@b:99999",
        "sip:%zz@b",
    ],
)
def test_what_is_no_address_of_record(text: str) -> None:
    assert expect_aor(text).startswith("an address-of-record such as ")
