"""URIs, headers and messages, read and written."""

from __future__ import annotations

import pytest

from agentstream.errors import RemoteProtocolError
from agentstream.sip.grammar import is_token, parse_number, quote, split_outside, unquote
from agentstream.sip.headers import Headers, parse_name_addr, parse_reason, parse_via, stamp_via
from agentstream.sip.hop import Hop
from agentstream.sip.message import Request, Response, build_response
from agentstream.sip.parser import MalformedRequest, parse_message
from agentstream.sip.uri import parse_uri
from agentstream.testing.sip_peer import SipPeer, read

pytestmark = pytest.mark.rfc(3261)


@pytest.mark.parametrize(
    "text",
    [
        "sip:alice@example.org",
        "sip:alice:secret@example.org:5061;transport=tcp;lr?subject=x&priority=urgent",
        "sips:[2001:db8::1]:5061",
        "sip:user;par=u%40example.net@example.com",
        "sip:example.org;lr",
        "tel:+911140001000;phone-context=example.org",
        "urn:service:sos",
        "sip:1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*:&it+has=1,weird!*pas$wo~d_too.(doesn't-it)@example.com",
    ],
)
def test_a_uri_comes_back_as_it_was(text: str) -> None:
    assert str(parse_uri(text)) == text


def test_the_parts_of_a_uri() -> None:
    uri = parse_uri("SIP:a%20b:c@[2001:DB8::1]:5070;LR;x=1?h=v")
    assert (uri.scheme, uri.user, uri.user_text, uri.password) == ("sip", "a%20b", "a b", "c")
    assert (uri.host, uri.port, uri.headers) == ("2001:db8::1", 5070, "h=v")
    assert (uri.parameter("lr"), uri.parameter("x"), uri.parameter("y")) == ("", "1", None)
    assert parse_uri("tel:+123;a=b").user_text == "+123"
    assert parse_uri("urn:service:sos").opaque == "service:sos"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sip",
        "sip:",
        "sip:@a",
        "sip:a@b@c",
        "sip:a b",
        "1sip:a",
        "sip:a:0",
        "sip:a:65536",
        "sip:a:x",
        "sip:[::1",
        "sip:[x]",
        "sip:[fe80::1%1]",
        "sip:a;;b",
        "sip:%zz@a",
        "sip:é@a",
        "sip:<a>",
        'sip:"a"',
        "tel:;x",
        "sip:a\x00b",
    ],
)
def test_what_is_no_uri(text: str) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        parse_uri(text)
    assert caught.value.status == 400


@pytest.mark.parametrize(
    ("text", "display", "uri", "tag"),
    [
        ('"A. \\"B\\" <C>" <sip:a@b>;tag=x', 'A. "B" <C>', "sip:a@b", "x"),
        ("Alice Smith <sip:a@b;p=1>;tag=x;y", "Alice Smith", "sip:a@b;p=1", "x"),
        ("sip:a@b;tag=x", "", "sip:a@b", "x"),
        ("<sip:a@b,c>", "", "sip:a@b,c", ""),
        ('sip:a@b;x="<y>";tag=z', "", "sip:a@b", "z"),
        (" < sip:a@b > ; tag = q ", "", "sip:a@b", "q"),
    ],
)
def test_name_addr(text: str, display: str, uri: str, tag: str) -> None:
    if "," in uri:
        with pytest.raises(RemoteProtocolError):
            parse_name_addr(text)
        return
    address = parse_name_addr(text)
    assert (address.display, str(address.uri), address.tag) == (display, uri, tag)
    assert parse_name_addr(str(address)) == address


@pytest.mark.parametrize(
    "text", ["<sip:a@b", '"x <sip:a@b>', '"x" sip:a@b', "sip:a?b", "sip:a,b", "<sip:a@b>x", "<sip:a>;tag=", "<sip:a>;;"]
)
def test_what_is_no_name_addr(text: str) -> None:
    with pytest.raises(RemoteProtocolError):
        parse_name_addr(text)


@pytest.mark.rfc(3581)
def test_via() -> None:
    via = parse_via("SIP / 2.0 /udp  [2001:db8::9]:5070 ; branch = z9hG4bK1;rport")
    assert (via.transport, via.host, via.port, via.branch) == ("UDP", "2001:db8::9", 5070, "z9hG4bK1")
    assert stamp_via("SIP/2.0/UDP a;rport;branch=b;received=9.9.9.9", "1.2.3.4", 99) == (
        "SIP/2.0/UDP a;branch=b;received=1.2.3.4;rport=99"
    )
    assert stamp_via("SIP/2.0/UDP a;branch=b", "1.2.3.4", 99) == "SIP/2.0/UDP a;branch=b;received=1.2.3.4"


@pytest.mark.rfc(3326)
def test_reason() -> None:
    reason = parse_reason('SIP ;cause=600 ;text="Busy Everywhere"')
    assert (reason.protocol, reason.cause, str(reason)) == ("SIP", 600, "Busy Everywhere")
    assert str(parse_reason("Q.850;cause=16")) == "Q.850 16"


def test_headers_ignore_case_know_compact_forms_and_keep_names() -> None:
    headers = Headers([("v", "1"), ("X-Campaign", "seven"), ("VIA", "2"), ("Supported", "a, b;q=1,,c")])
    assert headers.get("Via") == "1"
    assert headers.get_all("v") == ["1", "2"]
    assert headers.get("x-campaign") == "seven"
    assert ("X-Campaign", "seven") in headers.items()
    assert headers.tokens_of("k") == ["a", "b", "c"]
    assert headers.get("none") is None
    assert "VIA" in headers
    assert len(headers) == 4


def test_small_words() -> None:
    assert is_token("a.b-c~") and not is_token("") and not is_token("a b")
    assert [parse_number(text, 255) for text in ("0068", "255", "256", "-1", "²", "", "9" * 30)] == [68, 255] + [
        None
    ] * 5
    assert split_outside('a,"b,c",<d,e> , f', ",") == ["a", '"b,c"', "<d,e>", "f"]
    assert unquote(quote('a"b\\c\r\n')) == 'a"b\\c  '
    assert unquote("plain") == "plain"


def test_a_request_is_read() -> None:
    request = parse_message(b"\r\n\r\n" + SipPeer().invite(headers="X-Id: 1\r\nX-Id: 2\r\n"))
    assert isinstance(request, Request)
    assert (request.method, request.uri.user, request.cseq.number, request.from_.uri.user) == (
        "INVITE",
        "1000",
        1,
        "alice",
    )
    assert request.headers.get_all("x-id") == ["1", "2"]
    assert request.content_type == "application/sdp"
    assert request.sdp.startswith(b"v=0")


def test_folded_lines_are_one_line() -> None:
    data = SipPeer().options().replace(b"Max-Forwards: 70", b"Subject: a\r\n b\r\n\tc\r\nMax-Forwards: 70")
    assert parse_message(data).headers.get("s") == "a b c"


def test_bytes_that_are_not_utf_8_come_back_as_they_came() -> None:
    request = parse_message(SipPeer().options().replace(b"From: ", b'From: "J\xe9" '))
    assert isinstance(request, Request)
    assert request.from_.display == "Jé"
    assert b'"J\xe9"' in build_response(request, 200, to_tag="x")
    request = parse_message(SipPeer().options().replace(b"From: ", 'From: "Jé" '.encode()))
    assert isinstance(request, Request)
    assert '"Jé"'.encode() in build_response(request, 200, to_tag="x")


def test_what_follows_the_body_is_ignored() -> None:
    data = SipPeer().invite()
    request = parse_message(data + b"more")
    assert request.body == data.partition(b"\r\n\r\n")[2]


def test_a_response_carries_all_vias_and_the_tag_once() -> None:
    request = parse_message(
        SipPeer().options().replace(b"Via: ", b"Via: SIP/2.0/UDP p1;branch=z9hG4bK1, SIP/2.0/UDP p2\r\nVia: ")
    )
    assert isinstance(request, Request)
    request.stamp(Hop("udp", "10.0.0.1", 7))
    response = read(build_response(request, 200, to_tag="mine"))
    assert response.headers("via")[0] == "SIP/2.0/UDP p1;branch=z9hG4bK1;received=10.0.0.1, SIP/2.0/UDP p2"
    assert len(response.headers("via")) == 2
    assert response.header("to").endswith(";tag=mine")


@pytest.mark.parametrize(
    "data", [b"GET / HTTP/1.1\r\n\r\n", b"hello", b"SIP/2.0 999 X\r\n\r\n", b"SIP/2.0 20 X\r\n\r\n", b"SIP/2.0\r\n\r\n"]
)
def test_what_has_no_answer(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        parse_message(data)
    assert caught.value.status == 0
    assert not isinstance(caught.value, MalformedRequest)


def test_a_response_without_a_phrase() -> None:
    response = parse_message(SipPeer().respond(SipPeer().options(), 200, "").replace(b"200 \r", b"200\r"))
    assert isinstance(response, Response)
    assert (response.status, response.explain()) == (200, "200")
