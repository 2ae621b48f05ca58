"""Bots that send what they should not: the stream goes on or ends with a sentence; nothing is logged as a failure."""

from __future__ import annotations

import base64
import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.logger import LogLevel, globalLogPublisher

from agentstream.interfaces import StreamEnd
from agentstream.ws import connection as connection_module
from agentstream.ws import protocol as protocol_module
from agentstream.ws.protocol import CLOSE_TIMEOUT_S
from tests.conftest import LoggedFailures
from tests.ws.network import Bot, Peer, Talk, open_talk

GOOD = {"event": "media", "media": {"payload": base64.b64encode(b"good").decode()}}

NOT_MESSAGES = [b"", b"hello", b"{", b"[]", b"\xff\xfe", b'{"event":7}', b"[" * 5000, b'{"event":"media"}']


@pytest.mark.parametrize(
    "data",
    [*NOT_MESSAGES, b'{"event":"media","media":{"payload":"***"}}'],
    ids=lambda data: repr(data[:36])[2:-1] or "nothing",
)
def test_what_is_no_message_is_counted_and_the_stream_goes_on(clock: Clock, data: bytes) -> None:
    """Contract 1.6 rule 3: log and ignore, never close for it."""
    talk = open_talk(clock)
    talk.say(data)
    talk.say(GOOD)
    assert talk.peer.heard == [b"good"]
    assert talk.connection.counters.invalid == 1
    assert talk.peer.ends == []
    talk.hang_up()


@pytest.mark.parametrize("event", ["dtmf", "start", "connected", "stop", "unknown", "silence"])
def test_other_events_are_ignored(clock: Clock, event: str) -> None:
    """Contract 1.6 rules 3 and 4."""
    talk = open_talk(clock)
    talk.say({"event": event})
    assert talk.peer.heard == []
    assert talk.connection.counters.ignored == 1
    assert talk.bot.events() == ["connected", "start"]
    talk.hang_up()


@pytest.mark.parametrize(
    "ids",
    [{}, {"stream_sid": "foreign"}, {"streamSid": "x"}, {"stream_sid": None}],
    ids=["none", "foreign", "camelCase", "null"],
)
def test_any_or_no_stream_id(clock: Clock, ids: dict[str, Any]) -> None:
    """Contract 1.6 rule 3."""
    talk = open_talk(clock)
    talk.say(GOOD | ids)
    assert talk.peer.heard == [b"good"]
    talk.hang_up()


def test_a_one_way_stream_takes_nothing(clock: Clock) -> None:
    """Contract 1.1."""
    talk = open_talk(clock, two_way=False)
    for body in (GOOD, {"event": "mark", "mark": {"name": "a"}}, {"event": "clear"}):
        talk.say(body)
    assert talk.peer.heard == []
    assert talk.connection.counters.ignored == 3
    talk.hang_up()


def test_binary_messages_are_counted(clock: Clock) -> None:
    talk = open_talk(clock)
    talk.bot.sendMessage(b"\0\1\2", isBinary=True)
    talk.say(GOOD)
    assert talk.connection.counters.binary == 1
    assert talk.peer.heard == [b"good"]
    talk.hang_up()


def test_bad_messages_are_logged_once_a_minute(clock: Clock) -> None:
    seen: list[Any] = []

    def observe(event: Any) -> None:
        if event.get("log_namespace") == "agentstream.ws.connection":
            seen.append((event["log_level"], event["sentence"], event["unlogged"]))

    globalLogPublisher.addObserver(observe)
    try:
        talk = open_talk(clock, ping_interval_s=1000.0)
        for _ in range(5):
            talk.say(b"{")
        talk.network.advance(61)
        talk.say({"event": "x"})
        talk.hang_up()
    finally:
        globalLogPublisher.removeObserver(observe)
    assert [(level, unlogged) for level, _, unlogged in seen] == [(LogLevel.warn, 0), (LogLevel.warn, 4)]


def test_an_empty_close_frame_in_slices_is_not_lost(clock: Clock) -> None:
    talk = open_talk(clock)
    talk.theirs.write(b"\x88")
    talk.network.flush()
    talk.theirs.write(b"\x00")
    talk.network.flush()
    assert talk.peer.ends[0].code == 1005
    talk.network.advance(5)


def assert_violated(talk: Talk, code: int, sentence: str) -> None:
    talk.network.flush()
    assert talk.peer.ends == [StreamEnd(False, "NA", code, sentence)]
    talk.network.advance(CLOSE_TIMEOUT_S + 0.1)
    assert talk.ours.is_lost
    assert not talk.network.clock.getDelayedCalls()


@pytest.mark.rfc(6455)
def test_a_message_over_4_mb_closes_with_1009(clock: Clock) -> None:
    """media.md section 5."""
    talk = open_talk(clock)
    talk.bot.sendMessage(b" " * (4 * 1024 * 1024 + 1))
    assert_violated(talk, 1009, protocol_module.TOO_BIG)
    assert talk.bot.closed is not None
    assert talk.bot.closed[1] == 1009


def test_fragments_over_4_mb_close_with_1009(clock: Clock) -> None:
    talk = open_talk(clock)
    talk.bot.sendMessage(b" " * (4 * 1024 * 1024 + 1), fragmentSize=1024 * 1024)
    assert_violated(talk, 1009, protocol_module.TOO_BIG)


def test_4_mb_are_taken(clock: Clock) -> None:
    talk = open_talk(clock)
    body = b'{"event":"clear","x":"' + b"x" * (4 * 1024 * 1024 - 24) + b'"}'
    assert len(body) == 4 * 1024 * 1024
    talk.say(body)
    assert talk.peer.heard == ["clear"]
    talk.hang_up()


def test_the_promise_of_a_huge_frame_is_enough(clock: Clock) -> None:
    talk = open_talk(clock)
    talk.theirs.write(struct.pack("!BBQ", 0x81, 127, 2**62) + b"x" * 100)
    assert_violated(talk, 1009, protocol_module.TOO_BIG)


@pytest.mark.rfc(6455)
@pytest.mark.parametrize(
    "data",
    [
        b"\xf1\x00",  # reserved bits
        b"\x83\x00",  # a reserved opcode
        b"\x8b\x00",  # a reserved control opcode
        b"\x81\x80\0\0\0\0",  # masked by a server
        b"\x80\x00",  # a continuation of nothing
        b"\x01\x01a\x81\x01b",  # a message inside a message
        b"\x09\x00",  # a ping in fragments
        b"\x89\x7e\x00\x80" + b"x" * 128,  # a long ping
        b"\x81\x7e\x00\x01a",  # a length that is longer than it need be
        b"\x81\x7f\x80\0\0\0\0\0\0\1a",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
    ],
)
def test_a_broken_frame_closes_with_1002(clock: Clock, data: bytes) -> None:
    """RFC 6455 sections 5.1 to 5.5."""
    talk = open_talk(clock)
    talk.theirs.write(data)
    talk.network.flush()
    [end] = talk.peer.ends
    assert (end.clean, end.by, end.code) in [(False, "NA", 1002), (False, "NA", 1009)]
    talk.network.advance(CLOSE_TIMEOUT_S + 0.1)
    assert talk.ours.is_lost


def test_a_cut_connection_is_no_clean_end(clock: Clock) -> None:
    """Contract row 33."""
    talk = open_talk(clock)
    talk.theirs.abortConnection()
    talk.network.flush()
    assert talk.peer.ends == [StreamEnd(False, "NA", 1006, connection_module.CUT)]


def test_a_closed_connection_without_close_frame_is_no_clean_end(clock: Clock) -> None:
    """Contract row 33."""
    talk = open_talk(clock)
    talk.bot.say(GOOD)
    talk.theirs.loseConnection()
    talk.network.flush()
    assert talk.peer.heard == [b"good"]
    assert talk.peer.ends == [StreamEnd(False, "NA", 1006, connection_module.CUT)]


@pytest.mark.rfc(6455)
@pytest.mark.parametrize("is_reading", [True, False])
def test_a_bot_that_never_answers_the_close_is_dropped(clock: Clock, is_reading: bool) -> None:
    class Stubborn(Bot):
        def onCloseFrame(self, code: Any, reasonRaw: Any) -> None:
            self.received.append({"event": "close frame", "code": code})

    talk = open_talk(clock, Stubborn)
    talk.theirs.is_reading = is_reading
    talk.connection.stop("callended")
    assert len(talk.peer.ends) == 1
    talk.network.advance(CLOSE_TIMEOUT_S - 0.1)
    assert not talk.ours.is_lost
    talk.network.advance(0.2)
    assert talk.ours.is_lost
    if is_reading:
        assert talk.bot.received[-1] == {"event": "close frame", "code": 1000}


def test_a_bot_that_closes_and_keeps_the_connection_is_dropped(clock: Clock) -> None:
    class Lingering(Bot):
        def dropConnection(self, abort: bool = False) -> None:
            pass

    talk = open_talk(clock, Lingering)
    talk.bot.sendCloseFrame(code=1000)
    talk.network.flush()
    assert talk.peer.ends == [StreamEnd(True, "bot", 1000, connection_module.BOT_CLOSED)]
    assert not talk.ours.is_lost
    talk.network.advance(CLOSE_TIMEOUT_S + 0.1)
    assert talk.ours.is_lost


@pytest.mark.parametrize("code", [0, 999, 1004, 1006, 1015, 2999, 5000, 65535])
def test_a_close_frame_with_a_code_that_is_none_is_a_close_frame(clock: Clock, code: int) -> None:
    """Contract row 33: any close frame is done."""
    talk = open_talk(clock)
    talk.theirs.write(struct.pack("!BBH", 0x88, 2, code))
    talk.network.flush()
    assert talk.peer.ends == [StreamEnd(True, "bot", code, connection_module.BOT_CLOSED)]
    talk.network.advance(5)


def test_a_failing_receiver_is_logged_and_the_stream_goes_on(clock: Clock, logged_failures: LoggedFailures) -> None:
    """Ours raises: that is a bug of this program, and it takes no other message with it."""
    talk = open_talk(clock)

    def fail(pcm: bytes) -> None:
        raise ZeroDivisionError

    talk.connection._peer = type("Failing", (Peer,), {"media_received": staticmethod(fail)})()
    talk.say(GOOD)
    talk.say({"event": "clear"})
    assert talk.connection._peer.heard == ["clear"]
    assert len(logged_failures.take(ZeroDivisionError)) == 1
    talk.hang_up()


FRAMES = st.builds(
    lambda first, length, body: bytes([first, length]) + body,
    st.sampled_from([0x00, 0x01, 0x02, 0x80, 0x81, 0x82, 0x88, 0x89, 0x8A, 0xC1, 0x83, 0x8F]),
    st.sampled_from([0, 1, 2, 5, 125, 126, 127, 0x80, 0x85]),
    st.binary(max_size=12),
)


@settings(max_examples=80)
@given(st.lists(FRAMES | st.binary(max_size=30), max_size=5))
def test_any_bytes_after_the_handshake_end_cleanly_or_go_on(pieces: list[bytes]) -> None:
    """Never an exception, never a delayed call that stays, and the end is told once."""
    clock = Clock()
    talk = open_talk(clock)
    for piece in pieces:
        talk.theirs.write(piece)
        talk.network.flush()
    talk.connection.stop("stopped")
    talk.network.advance(CLOSE_TIMEOUT_S + 0.1)
    assert len(talk.peer.ends) == 1
    assert talk.ours.is_lost
    assert not clock.getDelayedCalls()
