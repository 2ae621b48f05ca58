"""A whole conversation with a bot that behaves."""

from __future__ import annotations

import base64
import json
import os

import numpy as np
import pytest
from twisted.internet.task import Clock

from agentstream.interfaces import StreamEnd
from agentstream.ws import connection as connection_module
from agentstream.ws.protocol import SEND_BUFFER_BYTES, nvx_in_use
from tests.ws.network import SID, Bot, Network, bots, dial, open_talk


def media(pcm: bytes) -> dict[str, object]:
    return {"event": "media", "stream_sid": SID, "media": {"payload": base64.b64encode(pcm).decode()}}


def test_connected_and_start_are_sent_at_once(clock: Clock) -> None:
    """Contract 1.6 rule 1."""
    talk = open_talk(clock)
    assert talk.bot.events() == ["connected", "start"]
    talk.hang_up()


def test_everything_there_and_back(clock: Clock) -> None:
    """Contract 1.1 to 1.3: each message once, in order, with contiguous numbers."""
    talk = open_talk(clock)
    row = np.arange(1600, dtype=np.int16).reshape(2, 800)[1]
    talk.connection.send_media(row, 0)
    talk.connection.send_digit("5", 100)
    talk.connection.send_mark("a")
    talk.connection.send_media(row.tobytes(), 100)
    for body in (media(b"\1\2\3"), media(b""), {"event": "mark", "mark": {"name": "m"}}, {"event": "clear"}):
        talk.say(body)
    talk.connection.stop("callended")
    talk.network.flush()
    assert talk.bot.events() == ["connected", "start", "media", "dtmf", "mark", "media", "stop"]
    numbers = [message["sequence_number"] for message in talk.bot.received[1:]]
    assert numbers == ["1", "2", "3", "4", "5", "6"]
    assert base64.b64decode(talk.bot.received[2]["media"]["payload"]) == row.tobytes()
    assert talk.peer.heard == [b"\1\2\3", b"", ("mark", "m"), "clear"]
    assert talk.peer.ends == [StreamEnd(True, "user", 1000, connection_module.CALL_ENDED)]
    assert talk.bot.closed == (True, 1000, None)
    counters = talk.connection.counters
    assert (counters.media_sent, counters.media_received, counters.bytes_received) == (2, 2, 3)
    assert (counters.marks_received, counters.clears_received) == (1, 1)


@pytest.mark.rfc(6455)
def test_handshake_carries_credentials_and_the_query_as_written(clock: Clock) -> None:
    """Contract 3.3, 1.6 rule 9."""
    make, made = bots(clock)
    network = Network(clock, make)
    deferred, _ = dial(network, "ws://KEY:to%2Fk%40en@bot.example:8080/p/a%20th?sample-rate=8000&b=%C3%A9+x&abc")
    network.flush()
    request = made[0].request
    assert request.headers["authorization"] == "Basic " + base64.b64encode(b"KEY:to/k@en").decode()
    assert request.headers["host"] == "bot.example:8080"
    assert b" /p/a%20th?sample-rate=8000&b=%C3%A9+x&abc HTTP/1.1" in made[0].http_request_data
    assert "sec-websocket-extensions" not in request.headers
    assert "sec-websocket-protocol" not in request.headers
    deferred.addCallback(lambda connection: connection.stop("stopped"))
    network.flush()


@pytest.mark.contract
def test_1_6_rule_3_what_a_bot_says_before_it_has_read_start_is_taken(clock: Clock) -> None:
    """Contract 1.6 rule 3: in the same segment as the handshake, even."""

    class Eager(Bot):
        def onOpen(self) -> None:
            self.say(media(b"ab"))
            self.say({"event": "mark", "mark": {"name": "first"}})

    talk = open_talk(clock, Eager)
    assert talk.peer.heard == [b"ab", ("mark", "first")]
    talk.hang_up()


def test_the_socket_is_set_up_for_little_delay_and_small_buffers(clock: Clock) -> None:
    talk = open_talk(clock)
    assert talk.ours.no_delay
    assert talk.ours.bufferSize < 65536
    assert SEND_BUFFER_BYTES == 32768
    talk.hang_up()


@pytest.mark.rfc(6455)
def test_a_message_in_fragments_is_one_message(clock: Clock) -> None:
    talk = open_talk(clock)
    pcm = os.urandom(5000)
    talk.bot.sendMessage(json.dumps(media(pcm)).encode(), fragmentSize=777)
    talk.network.flush()
    assert talk.peer.heard == [pcm]
    talk.hang_up()


@pytest.mark.rfc(6455)
@pytest.mark.parametrize(("code", "reason"), [(1000, "bye"), (1001, ""), (1011, "crash"), (3000, "own"), (None, "")])
def test_any_close_frame_is_a_clean_end_by_the_bot(clock: Clock, code: int | None, reason: str) -> None:
    """Contract row 33, 3.6; a close frame without a code is 1005."""
    talk = open_talk(clock)
    talk.bot.sendCloseFrame(code=code, reasonUtf8=reason.encode() if code else None)
    talk.network.flush()
    assert talk.peer.ends == [StreamEnd(True, "bot", code or 1005, reason or connection_module.BOT_CLOSED)]
    talk.connection.stop("stopped")
    talk.connection.send_media(b"ab", 0)
    talk.connection.send_mark("late")
    talk.network.advance(5)
    assert talk.bot.events() == ["connected", "start"]
    assert len(talk.peer.ends) == 1
    assert talk.ours.is_lost


def test_stop_by_the_server(clock: Clock) -> None:
    """Contract row 12, 1.6 rule 8: stopped, then closed with 1000, and nothing more is taken."""
    talk = open_talk(clock)
    talk.connection.stop("stopped")
    assert talk.peer.ends == [StreamEnd(True, "NA", 1000, connection_module.STOPPED)]
    talk.say(media(b"late"))
    talk.connection.stop("callended")
    assert talk.bot.received[-1]["stop"]["reason"] == "stopped"
    assert talk.bot.closed == (True, 1000, None)
    assert talk.peer.heard == []
    assert len(talk.peer.ends) == 1


def test_nvx_is_a_yes_or_a_no() -> None:
    assert nvx_in_use() in (True, False)
