"""Messages out of a stream, however it is cut (RFC 3261 sections 7.5 and 18.3, RFC 5626 section 4.4.1)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentstream.sip.events import MessageDropped, RequestRefused
from agentstream.sip.framing import HEAD_LIMIT, MESSAGE_LIMIT, MESSAGE_S, Framer
from agentstream.sip.stack import Hop, Listener
from agentstream.testing.sip_peer import SipPeer, read
from tests.sip.kit import Bench

NOW = 1000.0


def fed(*pieces: bytes) -> Framer:
    framer = Framer()
    for piece in pieces:
        framer.receive(piece, NOW)
    return framer


@pytest.mark.rfc(3261)
@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 1000), max_size=40))
def test_messages_come_out_whole_however_they_are_cut(parts: list[int]) -> None:
    peer = SipPeer()
    messages = [peer.invite(), peer.invite(b""), peer.options(), peer.bye()]
    stream = b"\r\n".join(messages) + b"\r\n"
    cuts = sorted(len(stream) * part // 1000 for part in parts)
    pieces = [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    framer = fed(*pieces)
    assert framer.messages == messages
    assert (framer.failure, framer.deadline, framer.pings) == (None, None, 0)


def test_byte_by_byte() -> None:
    invite = SipPeer().invite()
    assert fed(*(invite[at : at + 1] for at in range(len(invite)))).messages == [invite]


@pytest.mark.rfc(3261)
@pytest.mark.parametrize("line", [b"l: 3", b"L : 3", b"CONTENT-LENGTH:3", b"Content-Length: 03", b"l: 3\r\nl: 3"])
def test_the_length_in_all_its_spellings(line: bytes) -> None:
    message = b"OPTIONS sip:a SIP/2.0\r\n" + line + b"\r\n\r\nabc"
    assert fed(message + b"BYE").messages == [message]


@pytest.mark.rfc(5626)
def test_two_line_ends_are_a_ping_and_one_is_nothing() -> None:
    assert fed(b"\r\n\r\n").pings == 1
    assert fed(b"\r", b"\n", b"\r", b"\n").pings == 1
    assert fed(b"\r\n").pings == 0
    assert fed(b"\r\n").deadline is None, "a pong is whole"
    assert fed(b"\r\n" * 6).pings == 3
    bye = SipPeer().bye()
    framer = fed(bye + b"\r\n\r\n" + bye + b"\r\n")
    assert framer.messages == [bye, bye]
    assert framer.pings == 1


def test_a_message_has_a_time_of_its_own() -> None:
    options = SipPeer().options()
    framer = fed(options[:20])
    assert framer.deadline == NOW + MESSAGE_S
    framer.receive(options[20:40], NOW + 9)
    assert framer.deadline == NOW + MESSAGE_S, "drops of bytes do not prolong it"
    framer.receive(options[40:] + options[:1], NOW + 9.5)
    assert framer.deadline == NOW + 9.5 + MESSAGE_S
    framer.receive(options[1:], NOW + 9.6)
    assert framer.deadline is None
    assert framer.messages == [options, options]


@pytest.mark.rfc(3261)
@pytest.mark.parametrize(
    ("data", "status", "sentence"),
    [
        (
            SipPeer().options().replace(b"Content-Length: 0\r\n", b""),
            400,
            "a message on a stream has no Content-Length",
        ),
        (b"A b C\r\nl: x\r\n\r\n", 400, "the Content-Length is not one number"),
        (b"A b C\r\nl: -1\r\n\r\n", 400, "the Content-Length is not one number"),
        (b"A b C\r\nl: 1\r\nContent-Length: 2\r\n\r\n", 400, "the Content-Length is not one number"),
        (b"A b C\r\nl: %d\r\n\r\n" % MESSAGE_LIMIT, 513, "the message is longer than 64 kB"),
        (b"A b C\r\nx: " + b"y" * HEAD_LIMIT, 513, "the headers are longer than 16 kB"),
        (b"A b C\r\nx: " + b"y" * HEAD_LIMIT + b"\r\nl: 0\r\n\r\n", 513, "the headers are longer than 16 kB"),
        (b"\n", 400, "a bare line break stands where a message must begin"),
        (b"\r\rx", 400, "a bare line break stands where a message must begin"),
    ],
)
def test_what_ends_a_stream(data: bytes, status: int, sentence: str) -> None:
    framer = fed(data)
    assert framer.failure is not None
    assert (framer.failure.status, framer.failure.sentence) == (status, sentence)
    assert framer.messages == []
    framer.receive(SipPeer().options(), NOW)
    assert framer.messages == [], "nobody can tell any more where a message begins"
    assert framer.deadline is None


def test_limits_are_reached_and_not_passed() -> None:
    head = b"A b C\r\nl: %d\r\n\r\n"
    body = MESSAGE_LIMIT - len(head % 10_000)
    assert len(fed((head % body) + b"x" * body).messages[0]) == MESSAGE_LIMIT
    padding = HEAD_LIMIT - len(b"A b C\r\nx: \r\nl: 0")
    assert fed(b"A b C\r\nx: " + b"y" * padding + b"\r\nl: 0\r\n\r\n").messages


@pytest.mark.rfc(3261)
@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(max_size=40), max_size=20))
def test_any_bytes_at_all(pieces: list[bytes]) -> None:
    framer = fed(*pieces)
    assert sum(map(len, framer.messages)) <= sum(map(len, pieces))


class TestRefusals:
    """What the stack says to a stream that cannot go on."""

    source = Hop("tcp", "127.0.0.1", 40404, "t")

    def bench(self) -> Bench:
        bench = Bench()
        bench.stack.add_listener("t", Listener("tcp", "127.0.0.1", 5060))
        return bench

    @pytest.mark.rfc(3261)
    def test_a_request_without_content_length_is_400(self) -> None:
        bench = self.bench()
        failure = fed(SipPeer().options().replace(b"Content-Length: 0\r\n", b"")).failure
        assert failure is not None
        bench.stack.receive_unframed(failure, self.source)
        (answer,) = bench.read()
        assert (answer.status, answer.header("call-id")[:4]) == (400, "call")
        assert bench.event(RequestRefused).sentence == "a message on a stream has no Content-Length"
        assert bench.stack.is_idle

    @pytest.mark.rfc(3261)
    @pytest.mark.parametrize("part", ["body", "headers"])
    def test_a_request_that_is_too_long(self, part: str) -> None:
        bench = self.bench()
        data = SipPeer().options()
        if part == "body":
            data = data.replace(b"Content-Length: 0", b"Content-Length: 99999")
        else:
            data = data.replace(b"Content-Length", b"X: " + b"y" * HEAD_LIMIT + b"\r\nContent-Length")
        failure = fed(data).failure
        assert failure is not None
        bench.stack.receive_unframed(failure, self.source)
        assert [read(answer).status for answer in bench.sent()] == [513]

    @pytest.mark.parametrize("data", [b"\n", b"SIP/2.0 200 OK\r\n\r\n", b"\x00\r\n\r\n", b"A b\r\n\r\n"])
    def test_what_is_no_request_has_no_answer(self, data: bytes) -> None:
        bench = self.bench()
        failure = fed(data).failure
        assert failure is not None
        bench.stack.receive_unframed(failure, self.source)
        assert bench.sent() == []
        bench.event(MessageDropped)
