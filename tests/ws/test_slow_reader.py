"""A bot that reads slowly (media.md section 4), and a bot that is not read (section 5)."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import pytest
from twisted.internet.task import Clock

from agentstream.interfaces import StreamEnd
from agentstream.ws import connection as connection_module
from agentstream.ws.connection import MAX_QUEUED_MESSAGES
from tests.ws.network import Talk, open_talk

CHUNK = bytes(1600)


def fill(talk: Talk) -> int:
    """Send until the transport asks for a pause; returns how many media messages went out."""
    talk.theirs.is_reading = False
    sent = 0
    while not talk.ours.producer_paused:
        talk.connection.send_media(CHUNK, sent * 100)
        sent += 1
        assert sent < 100
    return sent


def read_all(talk: Talk) -> None:
    talk.theirs.is_reading = True
    talk.network.flush()


def test_two_seconds_wait_and_the_oldest_go(clock: Clock) -> None:
    talk = open_talk(clock)
    sent = fill(talk)
    before = bytes(talk.ours.out)
    for index in range(sent, sent + 50):
        talk.connection.send_media(CHUNK, index * 100)
    assert bytes(talk.ours.out) == before  # nothing is written while paused
    read_all(talk)
    media = [message for message in talk.bot.received if message["event"] == "media"]
    assert [int(message["media"]["chunk"]) for message in media] == list(range(1, sent + 21))
    assert [int(message["sequence_number"]) for message in media] == list(range(2, sent + 22))
    stamps = [int(message["media"]["timestamp"]) // 100 for message in media]
    assert stamps == [*range(sent), *range(sent + 30, sent + 50)]
    counters = talk.connection.counters
    assert (counters.media_sent, counters.media_dropped, counters.dropped_ms) == (sent + 20, 30, 3000.0)
    talk.connection.send_media(CHUNK, 0)
    talk.network.flush()
    assert len(talk.bot.received) == len(media) + 3
    talk.hang_up()


def test_marks_and_digits_keep_their_place(clock: Clock) -> None:
    talk = open_talk(clock)
    sent = fill(talk)
    talk.connection.send_mark("first")
    for index in range(30):
        talk.connection.send_media(CHUNK, index)
        if index == 20:
            talk.connection.send_digit("7", 100)
    talk.connection.send_mark("last")
    read_all(talk)
    events = talk.bot.events()[2 + sent :]
    assert events == ["mark", *["media"] * 11, "dtmf", *["media"] * 9, "mark"]
    numbers = [int(message["sequence_number"]) for message in talk.bot.received[1:]]
    assert numbers == list(range(1, len(numbers) + 1))
    talk.hang_up()


def test_the_callers_buffer_is_its_own_again(clock: Clock) -> None:
    talk = open_talk(clock)
    fill(talk)
    row = np.full(800, 7, np.int16)
    talk.connection.send_media(row, 1)
    row[:] = 9
    read_all(talk)
    heard = base64.b64decode(talk.bot.received[-1]["media"]["payload"])
    assert set(np.frombuffer(heard, np.int16)) == {7}
    talk.hang_up()


def test_stop_writes_what_waits_and_closes(clock: Clock) -> None:
    talk = open_talk(clock)
    sent = fill(talk)
    talk.connection.send_media(CHUNK, 1)
    talk.connection.send_mark("a")
    talk.connection.stop("callended")
    read_all(talk)
    assert talk.bot.events()[2 + sent :] == ["media", "mark", "stop"]
    assert talk.bot.closed == (True, 1000, None)
    assert talk.connection.counters.media_dropped == 0


@pytest.mark.parametrize("break_it", ["abort", "ping"])
def test_what_waits_when_it_breaks_is_counted(clock: Clock, break_it: str) -> None:
    talk = open_talk(clock)
    fill(talk)
    for index in range(3):
        talk.connection.send_media(CHUNK, index)
    if break_it == "abort":
        talk.theirs.abortConnection()
        talk.theirs.is_reading = True
    else:
        talk.network.advance(20.1)
        talk.network.advance(10.1)
    talk.network.flush()
    assert talk.connection.counters.media_dropped == 3
    assert talk.ours.is_lost


def test_a_bot_that_asks_and_never_reads_is_cut_off(clock: Clock) -> None:
    talk = open_talk(clock)
    fill(talk)
    for index in range(MAX_QUEUED_MESSAGES + 1):
        talk.connection.send_mark(str(index))
    assert talk.peer.ends == [StreamEnd(False, "NA", 1006, connection_module.NOT_READING)]
    talk.network.flush()
    assert talk.ours.is_lost


def test_only_the_latest_ping_of_a_bot_that_does_not_read_is_answered(clock: Clock) -> None:
    """RFC 6455 section 5.5.3."""
    talk = open_talk(clock)
    fill(talk)
    before = len(talk.ours.out)
    for index in range(100):
        talk.bot.sendPing(b"%d" % index)
    talk.network.flush()
    assert len(talk.ours.out) == before
    read_all(talk)
    assert talk.bot.pongs == [b"99"]
    talk.bot.sendPing(b"x")
    talk.network.flush()
    assert talk.bot.pongs == [b"99", b"x"]
    talk.hang_up()


def media(pcm: bytes) -> dict[str, Any]:
    return {"event": "media", "media": {"payload": base64.b64encode(pcm).decode()}}


def test_nothing_is_taken_while_reading_is_paused(clock: Clock) -> None:
    talk = open_talk(clock)
    talk.connection.pause_reading()
    talk.connection.pause_reading()
    talk.say(media(b"ab"))
    talk.bot.sendCloseFrame(code=1000)
    talk.network.flush()
    assert talk.peer.heard == []
    assert talk.peer.ends == []
    talk.connection.resume_reading()
    talk.connection.resume_reading()
    talk.network.flush()
    assert talk.peer.heard == [b"ab"]
    assert talk.peer.ends == [StreamEnd(True, "bot", 1000, connection_module.BOT_CLOSED)]
    talk.network.advance(5)


def test_pausing_from_within_stops_before_the_next_message(clock: Clock) -> None:
    """Even when the next one has been read from the socket already; and resuming from within goes on."""
    talk = open_talk(clock)
    heard = talk.peer.heard

    class Choosy(type(talk.peer)):  # type: ignore[misc]
        def media_received(self, pcm: bytes) -> None:
            heard.append(pcm)
            if pcm == b"pause":
                talk.connection.pause_reading()
            elif pcm == b"both":
                talk.connection.pause_reading()
                talk.connection.resume_reading()

    talk.connection._peer = Choosy()
    for pcm in (b"1", b"both", b"2", b"pause", b"3"):
        talk.bot.say(media(pcm))
    talk.network.flush()
    assert heard == [b"1", b"both", b"2", b"pause"]
    talk.connection.resume_reading()
    talk.network.flush()
    assert heard == [b"1", b"both", b"2", b"pause", b"3"]
    talk.hang_up()


def test_what_was_read_before_the_connection_broke_is_delivered(clock: Clock) -> None:
    talk = open_talk(clock)
    talk.bot.say(media(b"1"))

    def pause(pcm: bytes) -> None:
        talk.peer.heard.append(pcm)
        talk.connection.pause_reading()

    talk.connection._peer = type("Pausing", (type(talk.peer),), {"media_received": staticmethod(pause)})(
        talk.peer.heard, talk.peer.ends
    )
    talk.bot.say(media(b"2"))
    talk.bot.sendCloseFrame(code=1000)
    talk.network.flush()
    talk.ours.lose(ConnectionResetError())
    assert talk.peer.heard == [b"1"]
    assert talk.peer.ends == []
    for _ in range(2):
        talk.connection.resume_reading()
        talk.network.flush()
    assert talk.peer.heard == [b"1", b"2"]
    assert talk.peer.ends == [StreamEnd(True, "bot", 1000, connection_module.BOT_CLOSED)]
    talk.network.advance(5)


def test_stop_while_reading_is_paused(clock: Clock) -> None:
    talk = open_talk(clock)
    talk.connection.pause_reading()
    talk.connection.stop("stopped")
    talk.network.flush()
    assert talk.bot.closed == (True, 1000, None)
    assert talk.ours.is_lost
