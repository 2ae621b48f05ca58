"""The situations of RFC 5118, section by section: to the parser, and to a whole server over IPv6.

The messages are this file's own, made for the same points.
"""

from __future__ import annotations

import itertools

import attrs
import pytest

from agentstream.errors import RemoteProtocolError
from agentstream.sdp import family_of
from agentstream.sdp import parse as parse_sdp
from agentstream.sip.message import Request
from agentstream.sip.parser import parse_message
from agentstream.sip.uri import parse_uri
from agentstream.testing.server import ServerUnderTest
from agentstream.testing.sip_peer import SipPeer, read

pytestmark = pytest.mark.rfc(5118)

NUMBERS = itertools.count(1)
US, PEER = ("2001:db8::10", 5060), ("2001:db8::9:1", 5060)


def message(
    method: str, uri: str, *, via: tuple[str, ...] = ("[2001:db8::9:1]",), contact: str = "", sdp: tuple[str, ...] = ()
) -> bytes:
    """A request as a peer at 2001:db8::9:1 sends it."""
    body = "".join(f"{line}\r\n" for line in sdp)
    lines = [
        f"{method} {uri} SIP/2.0",
        *(f"Via: SIP/2.0/UDP {one};branch=z9hG4bKv6{number}" for number, one in enumerate(via)),
        "To: <sip:user@example.com>",
        "From: <sip:user@example.com>;tag=81x2",
        f"Call-ID: {next(NUMBERS)}@example.com",
        f"CSeq: 98176 {method}",
        "Max-Forwards: 70",
        f"Contact: {contact or '<sip:caller@[2001:db8::9:1]>'}",
        *(["Content-Type: application/sdp"] if sdp else []),
        f"Content-Length: {len(body)}",
    ]
    return ("\r\n".join(lines) + "\r\n\r\n" + body).encode()


def described(
    *media: str, origin: str = "IP6 2001:db8::20", connection: str = "c=IN IP6 2001:db8::20"
) -> tuple[str, ...]:
    return ("v=0", f"o=assistant 971731711378798081 0 IN {origin}", "s=-", *filter(None, [connection]), "t=0 0", *media)


@attrs.frozen
class Case:
    """A message, and the final status that a server at 2001:db8::10 answers."""

    section: str
    data: bytes
    status: int


AUDIO = "m=audio 6000 RTP/AVP 0"
CASES = (
    Case("4.1 a valid message with an IPv6 reference", message("OPTIONS", "sip:[2001:db8::10]"), 200),
    Case("4.2 an IPv6 address without its brackets", message("OPTIONS", "sip:2001:db8::10"), 400),
    Case("4.3 a port inside the brackets", message("OPTIONS", "sip:[2001:db8::10:5070]"), 200),
    Case("4.4 a port behind the brackets", message("OPTIONS", "sip:[2001:db8::10]:5070"), 200),
    Case(
        "4.5 received with brackets",
        message("OPTIONS", "sip:[2001:db8::10]", via=("[2001:db8::9:1];received=[2001:db8::9:255]",)),
        200,
    ),
    Case(
        "4.5 received without",
        message("OPTIONS", "sip:[2001:db8::10]", via=("[2001:db8::9:1];received=2001:db8::9:255",)),
        200,
    ),
    Case(
        "4.6 a description with IPv6 addresses", message("INVITE", "sip:user@[2001:db8::10]", sdp=described(AUDIO)), 200
    ),
    Case(
        "4.7 several addresses in the headers",
        message(
            "OPTIONS",
            "sip:user@host.example.com",
            via=("[2001:db8::9:1]:6050", "192.0.2.1;received=192.0.2.1", "[2001:db8:0:0:0:0:9:254]:5070"),
        ),
        200,
    ),
    Case(
        "4.8 a description with addresses of both families",
        message(
            "INVITE",
            "sip:user@[2001:db8::10]",
            sdp=described(
                "m=audio 22334 RTP/AVP 0",
                "c=IN IP6 2001:db8::1",
                "m=video 6024 RTP/AVP 107",
                "c=IN IP4 192.0.2.1",
                "a=rtpmap:107 H263-1998/90000",
                connection="",
            ),
        ),
        200,
    ),
    Case(
        "4.9 IPv4-mapped addresses",
        message(
            "OPTIONS",
            "sip:user@example.com",
            via=("[::ffff:192.0.2.10]:19823", "[::ffff:192.0.2.2]"),
            contact='"T. desk phone" <sip:ted@[::ffff:192.0.2.2]>',
        ),
        200,
    ),
    Case("4.10 three colons", message("OPTIONS", "sip:user@[2001:db8:::192.0.2.1]"), 200),
    Case("4.10 two colons", message("OPTIONS", "sip:user@[2001:db8::192.0.2.1]"), 200),
)


def test_a_whole_server_answers() -> None:
    config = {
        "sip": {"listen": ["udp:5060:interface=2001\\:db8\\:\\:10"]},
        "media": {"listen": "127.0.0.1", "listen_v6": "2001:db8::10"},
        "trunk": [{"name": "six", "address": ["2001:db8::/32"]}],
    }
    flow = {"start": "echo", "step": {"echo": {"applet": "echo"}}}
    with ServerUnderTest(flow, config) as server:
        assert server.address == US
        network = server.reactor.network
        answers: list[bytes] = []
        for port in (5060, 6050, 19823):
            network.bind((PEER[0], port), lambda data, source: answers.append(data))
        for case in CASES:
            answers.clear()
            network.send(case.data, PEER, US)
            server.advance(0.1)
            finals = [read(data) for data in answers if read(data).status >= 200]
            assert {final.status for final in finals} == {case.status}, case.section
            # The topmost Via says where the request came from (RFC 3261 section 18.2.1), all others are as they were.
            sent = read(case.data).headers("via")
            got = finals[0].headers("via")
            assert got[0].endswith(";received=2001:db8::9:1") and got[0].count("received") == 1, case.section
            assert got[1:] == sent[1:], case.section
            server.service.switchboard.hang_up_all("next")
        peer = SipPeer("[2001:db8::9:1]", 5060, target="[2001:db8::10]:5060")
        answers.clear()
        network.send(peer.options(), PEER, US)
        server.advance(0.1)
        assert read(answers[-1]).status == 200
        server.advance(70)


def test_a_port_stands_behind_the_brackets() -> None:
    inside, behind = parse_uri("sip:[2001:db8::10:5070]"), parse_uri("sip:[2001:db8::10]:5070")
    assert (inside.host, inside.port) == ("2001:db8::10:5070", None)
    assert (behind.host, behind.port) == ("2001:db8::10", 5070)
    with pytest.raises(RemoteProtocolError) as caught:
        parse_uri("sip:2001:db8::10")
    assert caught.value.status == 400


@pytest.mark.parametrize("number", [4, 5])
def test_received_with_and_without_brackets(number: int) -> None:
    request = parse_message(CASES[number].data)
    assert isinstance(request, Request)
    assert (request.via.parameters["received"] or "").strip("[]") == "2001:db8::9:255"
    assert request.via.branch == "z9hG4bKv60"


def test_addresses_of_both_families() -> None:
    several = parse_message(CASES[7].data)
    assert len(several.headers.values_of("via")) == 3 and several.via.port == 6050
    description = parse_sdp(parse_message(CASES[8].data).sdp)
    assert family_of(description) == "IP6"
    kinds = [media.connection and media.connection.address_type for media in description.media]
    assert kinds == ["IP6", "IP4"]
    mapped = parse_message(CASES[9].data)
    # Python has written them either way.
    assert mapped.via.host in ("::ffff:192.0.2.10", "::ffff:c000:20a") and mapped.via.port == 19823
    assert mapped.contact is not None and mapped.contact.display == "T. desk phone"


def test_three_colons_are_two() -> None:
    wrong, right = parse_uri("sip:user@[2001:db8:::192.0.2.1]"), parse_uri("sip:user@[2001:db8::192.0.2.1]")
    assert wrong == right and "::" in wrong.host and ":::" not in str(wrong)
    assert parse_uri("sip:[:::192.0.2.1]").host == parse_uri("sip:[::192.0.2.1]").host
    # Nowhere else, and not one more.
    for text in (
        "2001:db8:::10",
        "2001:db8::::192.0.2.1",
        "2001::1:::192.0.2.1",
        ":::192.0.2",
        ":::192.0.2.999",
        ":::",
    ):
        with pytest.raises(RemoteProtocolError):
            parse_uri(f"sip:[{text}]")
