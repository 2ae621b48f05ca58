"""Asking a server for a bot's URL: contract.md 3.1 and 3.5, and every way in which it can go wrong."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure

from agentstream.errors import StreamFailed
from agentstream.flow import dynamic_url
from agentstream.flow.dynamic_url import ask_for_url, call_query, with_query
from agentstream.testing.reactor import MemoryReactor
from agentstream.ws.addresses import NOT_PUBLIC
from agentstream.ws.url import BAD_HOST, BAD_SCHEME, NOT_ASCII
from tests.cases import cases
from tests.flow.http import PUBLIC, WebServer, answer, redirect
from tests.ws.test_tls import make_pki

URL = "http://127.0.0.1:8000/where"
BOT = '{"url": "wss://bot.example/media?sample-rate=16000&a=b"}'
ITEMS = [("CallSid", "c" * 32), ("From", "+4930 1")]


@pytest.fixture
def reactor() -> MemoryReactor:
    return MemoryReactor()


def ask(reactor: MemoryReactor, url: str = URL, seconds: float = 0.0, **options: Any) -> Any:
    """The bot's URL as it was answered, or the sentence of the failure; "waiting" while there is neither."""
    results: list[Any] = []
    asked = ask_for_url(reactor, url, ITEMS, **options)
    asked.addCallbacks(results.append, lambda failure: results.append(failure.value))
    reactor.advance(0)
    if seconds:
        reactor.advance(seconds)
    if not results:
        return "waiting"
    (result,) = results
    assert not reactor.getDelayedCalls()
    assert not reactor.tcp.open_connections
    if isinstance(result, StreamFailed):
        return result.reason
    return result if isinstance(result, Exception) else result.public


# What is asked


@pytest.mark.contract
def test_3_1_query_keys_as_captured() -> None:
    created = datetime.datetime(2024, 9, 3, 11, 44, 54)
    items = call_query("c" * 32, "09876543210", "08012345678", created, created + datetime.timedelta(seconds=5))
    assert items == [
        ("CallSid", "c" * 32),
        ("CallFrom", "09876543210"),
        ("CallTo", "08012345678"),
        ("Direction", "incoming"),
        ("Created", "Tue, 03 Sep 2024 11:44:54"),
        ("DialWhomNumber", ""),
        ("HangupLatencyStartTimeExocc", ""),
        ("HangupLatencyStartTime", ""),
        ("ServerCode", ""),
        ("From", "09876543210"),
        ("To", "08012345678"),
        ("CurrentTime", "2024-09-03 11:44:59"),
    ]


@pytest.mark.contract
@cases(
    ("url", "head"),
    [
        ("http://h/p", "http://h/p?"),
        ("http://h", "http://h?"),
        ("http://h/p?a=%2f+b&c&d=", "http://h/p?a=%2f+b&c&d=&"),
        ("http://h/p?", "http://h/p?"),
        ("http://h/p?a&", "http://h/p?a&"),
    ],
    ids=["no query", "no path", "a query", "an empty query", "a query with an open end"],
)
def test_3_1_the_configured_query_is_kept_and_appended_to(url: str, head: str) -> None:
    asked = with_query(url, ITEMS)
    assert asked.startswith(head)
    assert parse_qsl(asked.removeprefix(head), keep_blank_values=True) == ITEMS


@pytest.mark.contract
def test_row_15_direction_of_a_call_that_came_in_is_incoming() -> None:
    now = datetime.datetime(2024, 9, 3, 11, 44, 54)
    assert dict(call_query("c" * 32, "1", "2", now, now))["Direction"] == "incoming"


@pytest.mark.contract
def test_row_26_exotel_version_is_not_sent_where_a_bots_url_is_asked_for(reactor: MemoryReactor) -> None:
    """The documentation names that header for Gather and Connect only."""
    server = WebServer(reactor, [redirect("/again"), answer(BOT)])
    ask(reactor, allow_private=True)
    assert len(server.requests) == 2 and not any("exotel-version" in one.lower() for one in server.requests)


@pytest.mark.contract
def test_3_1_the_request_is_a_get_with_the_query_byte_for_byte(reactor: MemoryReactor) -> None:
    server = WebServer(reactor, [answer(BOT)])
    assert ask(reactor, URL + "?tenant=a%2Fb&flag") == "wss://bot.example/media?sample-rate=16000&a=b"
    assert server.requests[0].startswith(
        f"GET /where?tenant=a%2Fb&flag&CallSid={'c' * 32}&From=%2B4930%201 HTTP/1.1\r\n"
    )
    assert server.header("Host") == "127.0.0.1:8000"
    assert server.header("Authorization") is None
    assert server.header("Accept-Encoding") is None
    assert server.lost == 1


@pytest.mark.contract
def test_3_3_userinfo_becomes_basic_auth(reactor: MemoryReactor) -> None:
    server = WebServer(reactor, [answer(BOT)])
    ask(reactor, "http://KEY:TO%40KEN@127.0.0.1:8000/where")
    assert server.header("Authorization") == "Basic S0VZOlRPQEtFTg=="
    assert "KEY" not in server.targets[0]


# What is answered


@pytest.mark.parametrize(
    "body",
    [
        BOT,
        ' {"other": 1, "url": " wss://bot.example/media?sample-rate=16000&a=b\\n"} ',
        BOT.replace("{", "{\n") + "\n",
    ],
    ids=["as documented", "further keys and blanks", "with line breaks"],
)
def test_3_1_200_with_a_json_object_is_the_url(reactor: MemoryReactor, body: str) -> None:
    WebServer(reactor, [answer(body)])
    assert ask(reactor) == "wss://bot.example/media?sample-rate=16000&a=b"


def test_a_body_without_a_length_ends_with_the_connection(reactor: MemoryReactor) -> None:
    def say(transport: Any) -> None:
        transport.write(b"HTTP/1.0 200 OK\r\n\r\n" + BOT.encode())
        transport.loseConnection()

    WebServer(reactor, [say])
    assert ask(reactor).startswith("wss://bot.example")


def test_credentials_in_the_answer_are_the_bots(reactor: MemoryReactor) -> None:
    WebServer(reactor, [answer('{"url":"wss://K:T@bot.example/"}')])
    found: list[Any] = []
    ask_for_url(reactor, URL, ITEMS).addCallback(found.append)
    reactor.advance(0)
    assert found[0].authorization == "Basic SzpU"


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        (answer("[]"), dynamic_url.NOT_JSON),
        (answer('"wss://a/"'), dynamic_url.NOT_JSON),
        (answer("wss://bot.example/"), dynamic_url.NOT_JSON),
        (answer('{"url": 5}'), dynamic_url.NOT_JSON),
        (answer("{}"), dynamic_url.NOT_JSON),
        (answer(""), dynamic_url.NOT_JSON),
        (answer(b'{"url":"wss://\xff/"}'), dynamic_url.NOT_JSON),
        (answer('{"url": "https://bot.example/"}'), dynamic_url.BAD_ANSWER.format(BAD_SCHEME)),
        (answer('{"url": "wss://b\\"t/"}'), dynamic_url.BAD_ANSWER.format(BAD_HOST)),
        (answer(BOT, "404 Not Found"), dynamic_url.STATUS.format(404)),
        (answer(BOT, "500 No"), dynamic_url.STATUS.format(500)),
        (answer(BOT, "201 Created"), dynamic_url.STATUS.format(201)),
        (answer("", "204 No Content"), dynamic_url.STATUS.format(204)),
        (answer("", "304 Not Modified"), dynamic_url.STATUS.format(304)),
        (answer("x", "302 Found"), dynamic_url.NO_LOCATION),
        (answer("x" * 65537), dynamic_url.TOO_LONG),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n" + b"x" * 70000, dynamic_url.TOO_LONG),
        (b"220 smtp.example ESMTP\r\n", dynamic_url.BROKEN_OFF),
        (answer(BOT, "200 OK", "Content-Encoding: gzip").replace(BOT.encode(), b"\x1f\x8b" * 28), dynamic_url.NOT_JSON),
    ],
    ids=[
        "a list",
        "a string",
        "no JSON",
        "url is a number",
        "no url",
        "nothing",
        "no UTF-8",
        "url is https",
        "url without a host",
        "status 404",
        "status 500",
        "status 201",
        "status 204",
        "status 304",
        "redirect to nowhere",
        "65537 bytes",
        "promises 100 MB",
        "no HTTP",
        "gzip",
    ],
)
def test_3_1_anything_else_is_a_sentence(reactor: MemoryReactor, said: bytes, sentence: str) -> None:
    server = WebServer(reactor, [said])
    assert ask(reactor) == sentence
    assert server.connections == server.lost == 1


def test_64_kb_are_taken(reactor: MemoryReactor) -> None:
    WebServer(reactor, [answer(BOT + " " * (65536 - len(BOT)))])
    assert ask(reactor).startswith("wss://bot.example")


def test_an_answer_that_breaks_off(reactor: MemoryReactor) -> None:
    def say(transport: Any) -> None:
        transport.write(answer(BOT)[:-5])
        transport.loseConnection()

    WebServer(reactor, [say])
    assert ask(reactor) == dynamic_url.BROKEN_OFF


# Time


@pytest.mark.parametrize(
    "said",
    [
        lambda transport: None,
        b"HTTP/1.1 200 OK\r\nContent-",
        b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{",
    ],
    ids=["says nothing", "stops in the head", "stops in the body"],
)
def test_3_5_five_seconds_in_all(reactor: MemoryReactor, said: Any) -> None:
    server = WebServer(reactor, [said])
    assert ask(reactor, seconds=5.01) == dynamic_url.TOO_SLOW
    assert server.lost == 1


@pytest.mark.contract
def test_3_5_five_seconds_include_connecting(reactor: MemoryReactor) -> None:
    reactor.tcp.path(("127.0.0.1", 8000)).is_black_hole = True
    assert ask(reactor, seconds=5.01) == dynamic_url.TOO_SLOW


@pytest.mark.contract
def test_3_5_five_seconds_are_not_for_each_redirect(reactor: MemoryReactor) -> None:
    def slowly(transport: Any) -> None:
        reactor.callLater(2, transport.write, redirect(URL))

    WebServer(reactor, [slowly])
    results: list[Any] = []
    ask_for_url(reactor, URL, [], allow_private=True).addErrback(lambda failure: results.append(failure.value.reason))
    for _ in range(6):
        reactor.advance(1)
    assert results == [dynamic_url.TOO_SLOW]
    reactor.advance(5)


def test_cancelling_gives_up_at_once(reactor: MemoryReactor) -> None:
    server = WebServer(reactor, [lambda transport: None])
    failures: list[Failure] = []
    asked = ask_for_url(reactor, URL, ITEMS)
    asked.addErrback(failures.append)
    reactor.advance(0)
    asked.cancel()
    reactor.advance(0)
    assert failures[0].type.__name__ == "CancelledError" and server.lost == 1
    assert not reactor.getDelayedCalls()


# Who cannot be reached


def test_no_such_host(reactor: MemoryReactor) -> None:
    assert ask(reactor, "http://nobody.example/") == dynamic_url.NO_SUCH_HOST


def test_nobody_listens(reactor: MemoryReactor) -> None:
    assert ask(reactor) == dynamic_url.CONNECTION_REFUSED


def test_https_with_a_certificate_of_an_authority_that_is_named(reactor: MemoryReactor, tmp_path: Path) -> None:
    pki = make_pki(name="api.example")
    (tmp_path / "ca.pem").write_bytes(pki.ca_pem)
    reactor.hosts |= {"api.example": "127.0.0.1", "other.example": "127.0.0.1"}
    server = WebServer(reactor, [answer(BOT)], port=8443, tls=pki)
    url = "https://api.example:8443/where"
    assert ask(reactor, url, ca_file=tmp_path / "ca.pem").startswith("wss://bot.example")
    assert server.header("Host") == "api.example:8443"
    assert ask(reactor, url) == dynamic_url.TLS_FAILED
    assert ask(reactor, "https://other.example:8443/", ca_file=tmp_path / "ca.pem") == dynamic_url.TLS_FAILED
    assert len(server.requests) == 1


def test_https_without_tls(reactor: MemoryReactor) -> None:
    class Plain(Protocol):
        def dataReceived(self, data: bytes) -> None:
            self.transport.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    reactor.listenTCP(8443, Factory.forProtocol(Plain))
    assert ask(reactor, "https://localhost:8443/") == dynamic_url.TLS_FAILED


def test_redirects_do_not_lead_from_https_to_http(reactor: MemoryReactor, tmp_path: Path) -> None:
    pki = make_pki()
    (tmp_path / "ca.pem").write_bytes(pki.ca_pem)
    WebServer(reactor, [redirect("http://127.0.0.1:8000/")], port=8443, tls=pki)
    plain = WebServer(reactor, [answer(BOT)])
    url = "https://127.0.0.1:8443/"
    assert ask(reactor, url, ca_file=tmp_path / "ca.pem", allow_private=True) == dynamic_url.LESS_SECURE
    assert plain.connections == 0


@pytest.mark.parametrize(
    ("url", "sentence"),
    [("http://", "The URL names no host."), ("http://h:0/", "The port in the URL is not a number from 1 to 65535.")],
)
def test_a_url_that_is_none(reactor: MemoryReactor, url: str, sentence: str) -> None:
    assert ask(reactor, url) == sentence


# Redirects


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_followed(reactor: MemoryReactor, status: int) -> None:
    server = WebServer(reactor, [redirect("/there?x=1", f"{status} Moved"), answer(BOT)])
    assert ask(reactor, allow_private=True).startswith("wss://bot.example")
    assert server.targets[1] == "/there?x=1"


def test_five_redirects_and_no_sixth(reactor: MemoryReactor) -> None:
    server = WebServer(reactor, [redirect(URL)] * 5 + [answer(BOT)])
    assert ask(reactor, allow_private=True).startswith("wss://bot.example")
    assert len(server.requests) == 6
    server.answers[:] = [redirect(URL)]
    assert ask(reactor, allow_private=True) == dynamic_url.TOO_MANY_REDIRECTS
    assert len(server.requests) == 12


@pytest.mark.parametrize(
    ("location", "sentence"),
    [
        ("ftp://127.0.0.1/", dynamic_url.BAD_REDIRECT.format("The URL must begin with http:// or https://.")),
        ("http://[::1", dynamic_url.NO_LOCATION),
        ("http://h\u00e9/", dynamic_url.BAD_REDIRECT.format(NOT_ASCII)),
        ("http://h:0/", dynamic_url.BAD_REDIRECT.format("The port in the URL is not a number from 1 to 65535.")),
    ],
    ids=["another scheme", "a broken address", "beyond ASCII", "port 0"],
)
def test_redirects_that_cannot_be_followed(reactor: MemoryReactor, location: str, sentence: str) -> None:
    WebServer(reactor, [redirect(location)])
    assert ask(reactor, allow_private=True) == sentence


def test_credentials_stay_with_their_host(reactor: MemoryReactor) -> None:
    server = WebServer(reactor, [redirect("/again"), redirect("http://127.0.0.2:8000/other"), answer(BOT)])
    other = WebServer(reactor, [answer(BOT)], host="127.0.0.2")
    assert ask(reactor, "http://K:T@127.0.0.1:8000/", allow_private=True).startswith("wss://bot.example")
    assert server.header("Authorization", 0) == server.header("Authorization", 1) == "Basic SzpU"
    assert other.header("Authorization") is None


# Addresses


@pytest.mark.parametrize(
    "location",
    ["http://127.0.0.1:8000/", "http://localhost:8000/", "http://10.0.0.1/", "http://169.254.169.254/latest/", "/same"],
)
def test_a_redirect_to_an_address_that_is_not_public_is_refused(reactor: MemoryReactor, location: str) -> None:
    server = WebServer(reactor, [redirect(location)])
    assert ask(reactor) == NOT_PUBLIC
    assert len(server.requests) == 1


def test_a_redirect_to_a_public_address_is_followed(reactor: MemoryReactor) -> None:
    reactor.hosts["api.example"] = PUBLIC
    WebServer(reactor, [redirect("http://api.example/bot")])
    public = WebServer(reactor, [answer(BOT)], host=PUBLIC, port=80)
    assert ask(reactor).startswith("wss://bot.example")
    assert public.targets == ["/bot"]


def test_a_name_that_means_something_else_a_moment_later_is_connected_by_what_was_checked(
    reactor: MemoryReactor,
) -> None:
    WebServer(reactor, [redirect("http://api.example/bot")])
    public = WebServer(reactor, [answer(BOT)], host=PUBLIC, port=80)
    private = WebServer(reactor, [answer(BOT)], port=80)

    class Rebinding:
        def __init__(self, names: Any) -> None:
            self.names = names

        def resolveHostName(self, *arguments: Any, **named: Any) -> Any:
            reactor.hosts["api.example"] = PUBLIC
            resolution = self.names.resolveHostName(*arguments, **named)
            reactor.hosts["api.example"] = "127.0.0.1"
            return resolution

    reactor.installNameResolver(Rebinding(reactor.nameResolver))
    assert ask(reactor).startswith("wss://bot.example")
    assert public.connections == 1 and private.connections == 0


def test_only_errors_of_the_client_library_get_here() -> None:
    """What nobody thought of is still a sentence."""
    meaning: Callable[[Exception], Exception] = dynamic_url._meaning
    assert str(meaning(ConnectionDone())) == dynamic_url.UNREACHABLE
