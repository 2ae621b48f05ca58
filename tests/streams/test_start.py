"""What a bot is told, whole path: URLs by HTTP, SIP headers, numbers, switches (contract.md 1.5, 3, 10)."""

from __future__ import annotations

import base64
import datetime
from typing import Any
from urllib.parse import parse_qsl

import attrs
import pytest

from agentstream.flow import dynamic_url
from agentstream.testing.bots import Session
from agentstream.testing.server import ServerUnderTest
from agentstream.ws.addresses import NOT_PUBLIC
from tests.cases import cases
from tests.flow.http import PUBLIC, WebServer, answer
from tests.server.kit import bot_flow, branching_server

ASKED = "http://127.0.0.1:8000/where?tenant=7"
HEADERS = "X-UUI: a;encoding=hex\r\nX-custom-Header: one\r\nX-custom-Header: two\r\n"
WITHHELD = "X-Exotel-CallSid: 1\r\nx-veeno-thing: 2\r\nSubject: no\r\n"


def told(
    config: dict[str, Any] | None = None, number: str = "1000", user: str = "alice", headers: str = "", **options: Any
) -> Session:
    """The session of a bot that was called for this call; the call is over."""
    with ServerUnderTest(bot_flow(**options), config or {}) as server:
        bot = server.bot()
        phone = server.phone(user=user)
        phone.dial(number, headers=headers)
        server.advance(0.5)
        phone.press("5")
        server.advance(0.5)
        bot.session.mark("m")
        server.advance(0.1)
        phone.hang_up()
        server.advance(0.5)
        return bot.session


# An http URL


@pytest.mark.contract
def test_3_1_an_http_url_is_asked_and_its_answer_called() -> None:
    private = {"stream": {"allow_private": True}, "account": {"country_code": "91"}}
    with ServerUnderTest(bot_flow(url=ASKED), private) as server:
        bot = server.bot()
        body = '{"url": "ws://K:T@127.0.0.1:5001/media?order=17&blank&sample-rate=16000"}'
        web = WebServer(server.reactor, [answer(body)])
        phone = server.phone(user="9876543210")
        phone.dial("08012345678")
        server.advance(0.5)
        (call,) = server.live_calls
        asked = dict(parse_qsl(web.targets[0].partition("?")[2], keep_blank_values=True))
        assert (asked["tenant"], asked["CallSid"]) == ("7", call.sid)
        assert asked["CallFrom"] == asked["From"] == "09876543210"
        assert asked["CallTo"] == asked["To"] == "08012345678"
        session = bot.session
        assert session.start["custom_parameters"] == {"order": "17", "blank": ""}
        assert session.start["media_format"]["sample_rate"] == "16000"
        assert session.request.headers["authorization"] == "Basic " + base64.b64encode(b"K:T").decode()
        assert [event.fields["url"] for event in server.events("stream_url_asked")] == [f"{ASKED[:-1]}***"]


@pytest.mark.contract
@cases(
    ("said", "sentence"),
    [
        (answer('{"url": "ws://127.0.0.1:5001/media"}'), NOT_PUBLIC),
        (answer('{"url": "ws://localhost:5001/media"}'), NOT_PUBLIC),
        (answer("no", "503 No"), dynamic_url.STATUS.format(503)),
        (answer("no"), dynamic_url.NOT_JSON),
        (b"", dynamic_url.TOO_SLOW),
    ],
    ids=["a loopback address", "a name of a loopback address", "status 503", "no JSON", "no answer"],
)
def test_3_1_an_http_url_that_is_of_no_use_is_failed(said: bytes, sentence: str) -> None:
    with branching_server(url=ASKED) as server:
        bot = server.bot()
        WebServer(server.reactor, [said])
        server.call()
        server.advance(6)
        assert server.steps[0] == ("bot", "failed") and not bot.sessions
        assert [event.fields["reason"] for event in server.events("stream_failed")] == [sentence]


def test_the_answer_may_lead_to_a_public_address() -> None:
    with ServerUnderTest(bot_flow(url=ASKED)) as server:
        server.reactor.hosts["bot.example"] = PUBLIC
        bot = server.bot(host=PUBLIC)
        WebServer(server.reactor, [answer('{"url": "ws://bot.example:5001/media"}')])
        server.call()
        server.advance(0.5)
        assert bot.session.start


def test_a_caller_who_hangs_up_while_the_url_is_asked() -> None:
    with ServerUnderTest(bot_flow(url=ASKED)) as server:
        web = WebServer(server.reactor, [lambda transport: None])
        phone = server.call()
        server.advance(1)
        phone.hang_up()
        server.advance(0.1)
        assert web.lost == 1 and not server.live_calls and not server.events("stream_failed")


@pytest.mark.contract
@cases(
    ("zone", "created", "current"),
    [
        ("", "Tue, 03 Sep 2024 11:44:54", "2024-09-03 11:44:59"),
        ("America/New_York", "Tue, 03 Sep 2024 02:14:54", "2024-09-03 02:14:59"),
    ],
    ids=["Asia/Kolkata by default", "as the account says"],
)
def test_row_31_times_are_those_of_the_account(zone: str, created: str, current: str) -> None:
    config = {"account": {"time_zone": zone}} if zone else {}
    came = datetime.datetime(2024, 9, 3, 6, 14, 54, tzinfo=datetime.UTC)
    with ServerUnderTest(bot_flow(url=ASKED), config) as server:
        switchboard = server.service.switchboard
        switchboard.wall_clock = lambda: came
        asked_at = came + datetime.timedelta(seconds=5)
        switchboard.streams = attrs.evolve(switchboard.streams, wall_clock=lambda: asked_at)
        web = WebServer(server.reactor, [answer("no")])
        server.call()
        server.advance(0.5)
        asked = dict(parse_qsl(web.targets[0].partition("?")[2]))
        assert (asked["Created"], asked["CurrentTime"]) == (created, current)


# Row 29: SIP headers


@pytest.mark.contract
def test_row_29_sip_headers_keep_their_names_and_do_not_count() -> None:
    url = "ws://127.0.0.1:5001/media?a=1&b=2&c=3&d=4"
    assert list(told(url=url, headers=HEADERS + WITHHELD).start["custom_parameters"].items()) == [
        ("a", "1"),
        ("b", "2"),
        ("c", "3"),
        ("X-UUI", "a;encoding=hex"),
        ("X-custom-Header", "one, two"),
    ]


@pytest.mark.contract
def test_row_29_a_caller_cannot_change_what_the_url_says() -> None:
    url = "ws://127.0.0.1:5001/media?X-UUI=ours"
    assert told(url=url, headers="X-UUI: theirs\r\n").start["custom_parameters"] == {"X-UUI": "ours"}


@pytest.mark.contract
def test_6_1_headers_between_carriers_are_not_passed() -> None:
    assert "custom_parameters" not in told(headers=WITHHELD).start


# Row 4: numbers


@pytest.mark.contract
@cases(
    ("account", "expected"),
    [
        ({}, ("+919876543210", "1000")),
        ({"country_code": "91"}, ("09876543210", "1000")),
        ({"country_code": "91", "numbering": "e164"}, ("+919876543210", "1000")),
        ({"country_code": "91", "numbering": "as_received"}, ("+919876543210", "1000")),
        ({"country_code": "49"}, ("+919876543210", "1000")),
    ],
    ids=["no country", "India", "E.164", "as received", "another country"],
)
def test_row_4_from_and_to_are_written_as_the_account_says(account: dict[str, str], expected: tuple[str, str]) -> None:
    start = told({"account": account}, user="+919876543210").start
    assert (start["from"], start["to"]) == expected


# Rows 1 to 3 and 5: switches


@pytest.mark.contract
def test_rows_1_2_3_5_a_step_may_write_as_other_descriptions_have_it() -> None:
    session = told(counters="number", keys="both", encoding="audio/x-raw", bit_rate="16")
    numbers = [message.body["sequence_number"] for message in session.heard[1:]]
    assert numbers == list(range(1, len(numbers) + 1))
    assert {type(body["media"]["chunk"]) for body in session.bodies("media")} == {int}
    assert session.start["mediaFormat"] == session.start["media_format"]
    assert session.start["media_format"] == {
        "encoding": "audio/x-raw",
        "sample_rate": "8000",
        "sampleRate": "8000",
        "bit_rate": "16",
        "bitRate": "16",
    }
    assert {message.body["streamSid"] == message.body["stream_sid"] for message in session.heard[1:]} == {True}
    assert {"media", "dtmf", "mark", "stop"} <= set(session.events)


@pytest.mark.contract
def test_rows_1_2_3_5_the_node_may_write_so_for_every_step_that_says_nothing() -> None:
    node = {"stream": {"counters": "number", "keys": "both", "encoding": "raw", "bit_rate": "128"}}
    media_format = {"encoding": "raw", "sample_rate": "8000", "sampleRate": "8000", "bit_rate": "128", "bitRate": "128"}
    session = told(node)
    assert session.start["media_format"] == media_format and session.bodies("start")[0]["sequenceNumber"] == 1
    assert "streamSid" not in told(node, keys="snake", counters="string").start


# Row 24: ports


@pytest.mark.contract
def test_row_24_rtp_ports_are_those_of_the_setting() -> None:
    with ServerUnderTest(bot_flow(), {"media": {"ports": "31000-31005"}}) as server:
        server.bot()
        phones = [server.call() for _ in range(3)]
        assert {phone.answer.port for phone in phones if phone.answer} == {31000, 31002, 31004}
        refused = server.phone(user="late")
        refused.dial("1000")
        server.advance(0.2)
        assert refused.statuses[-1] == 503


# Row 7: cadence


@pytest.mark.contract
def test_row_7_cadence_is_100_ms_by_default() -> None:
    media = [body["media"] for body in told().bodies("media")]
    assert {len(base64.b64decode(one["payload"])) for one in media} == {1600}
    assert [one["timestamp"] for one in media] == [str(100 * index) for index in range(len(media))]
    assert len(media) >= 8


@pytest.mark.contract
@cases("chunk_ms", [20, 40, 100, 160, 200])
@cases("rate_hz", [8000, 16000, 24000])
def test_row_7_cadence_is_a_setting(chunk_ms: int, rate_hz: int) -> None:
    session = told(chunk_ms=chunk_ms, url=f"ws://127.0.0.1:5001/?sample-rate={rate_hz}")
    media = [body["media"] for body in session.bodies("media")]
    assert {len(base64.b64decode(one["payload"])) for one in media} == {chunk_ms * rate_hz * 2 // 1000}
    assert [one["timestamp"] for one in media] == [str(chunk_ms * index) for index in range(len(media))]
    assert len(media) >= 800 // chunk_ms
