"""Pings: contract.md 1.6 rule 7; every 20 s, dead after 10 s more, suspended while reading is paused."""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock

from agentstream.interfaces import StreamEnd
from agentstream.ws import connection as connection_module
from tests.ws.network import Bot, open_talk


class Dead(Bot):
    """Never answers a ping."""

    def onPing(self, payload: bytes) -> None:
        self.pings.append(payload)


@pytest.mark.contract
@pytest.mark.rfc(6455)
def test_1_6_rule_7_a_ping_every_twenty_seconds(clock: Clock) -> None:
    """1.6 rule 7: own pings, and the bot's are answered."""
    talk = open_talk(clock)
    for _ in range(61):
        talk.network.advance(1)
        talk.connection.send_media(b"ab", 0)
    assert len(talk.bot.pings) == 3
    assert talk.peer.ends == []
    talk.bot.sendPing(b"hello")
    talk.network.flush()
    assert talk.bot.pongs == [b"hello"]
    talk.hang_up()


def test_no_pong_for_ten_seconds_is_the_end(clock: Clock) -> None:
    """Row 33: a ping time-out is failed."""
    talk = open_talk(clock, Dead)
    talk.network.advance(20)
    assert len(talk.bot.pings) == 1
    talk.network.advance(9.9)
    assert talk.peer.ends == []
    talk.network.advance(0.1)
    assert talk.peer.ends == [StreamEnd(False, "NA", 1006, connection_module.NO_PONG)]
    assert talk.ours.is_lost


def test_any_sign_of_life_counts(clock: Clock) -> None:
    """1.6 rule 7: who speaks is alive."""
    talk = open_talk(clock, Dead)
    for _ in range(6):
        talk.network.advance(20)
        talk.network.advance(5)
        talk.say({"event": "anything"})
    assert talk.peer.ends == []
    talk.hang_up()


def test_deadlines_are_suspended_while_reading_is_paused(clock: Clock) -> None:
    """1.6 rule 7; media.md section 5: the pong of a paused bot lies unread in the socket."""
    talk = open_talk(clock)
    talk.network.advance(19)
    talk.theirs.is_reading = False
    talk.network.advance(1)
    talk.connection.pause_reading()
    talk.network.advance(600)
    assert talk.peer.ends == []
    talk.theirs.is_reading = True
    talk.connection.resume_reading()
    talk.network.advance(19)
    assert len(talk.bot.pings) == 1
    talk.network.advance(1)
    assert len(talk.bot.pings) == 2
    assert talk.peer.ends == []
    talk.hang_up()


def test_intervals_can_be_set(clock: Clock) -> None:
    """1.6 rule 7."""
    talk = open_talk(clock, Dead, ping_interval_s=2.0, ping_timeout_s=1.0)
    talk.network.advance(2.0)
    talk.network.advance(1.0)
    assert talk.peer.ends[0].reason == connection_module.NO_PONG
