"""Bots on a bad day: whatever one does, its call goes on or its step ends with an outcome, and nothing is left."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise

import attrs
import pytest

from agentstream.testing.bots import Echo, RawSession, Session, Speaker
from agentstream.testing.hostile_bots import (
    GARBAGE,
    BreaksFraming,
    Burst,
    ClosesEarly,
    ClosesInHandshake,
    DropsTcp,
    EarlySpeaker,
    Garbage,
    Hangs,
    NeverCloses,
    NeverPongs,
    NotUtf8,
    NotWebSocket,
    OddBytes,
    Refuses,
    SlowReader,
)
from agentstream.testing.phone import SILENT, speech
from agentstream.testing.server import ServerUnderTest
from tests.server.kit import DONE, SORRY, TICK_S, bot_flow, branching_server, pcm


@attrs.frozen
class Case:
    """A bot that ends its step.

    :ivar after_s: by when, from the answer on.
    :ivar says: in the timeline.
    """

    name: str
    script: Callable[[], Session]
    outcome: str
    says: str
    after_s: float = 0.3
    attempts: int = 1


HANDSHAKE = (
    Case("refuses with 403", Refuses, "failed", "The bot refused the handshake with status 403.", attempts=2),
    Case("refuses with 503", partial(Refuses, 503), "failed", "handshake with status 503.", attempts=2),
    Case("closes in the handshake", ClosesInHandshake, "failed", "closed the connection during", attempts=2),
    Case("is a web server", NotWebSocket, "failed", "The bot refused the handshake with status 200.", attempts=2),
    Case("speaks another language", partial(RawSession, b"220 mail\r\n\r\n"), "failed", "other than WebSocket", 0.3, 2),
    Case("floods the handshake", partial(RawSession, b"x" * 100_000), "failed", "other than WebSocket", 0.3, 2),
    Case("hangs in the handshake", Hangs, "failed", "did not finish the handshake in 10 s.", 20.1, 2),
)
OPEN = (
    Case("closes at once", ClosesEarly, "done", "code=1000"),
    Case("closes without a code", partial(ClosesEarly, None), "done", "code=1005"),
    Case("closes with an error", partial(ClosesEarly, 4000), "done", "code=4000"),
    Case("closes before start", partial(ClosesEarly, 1000, True), "done", "code=1000"),
    Case("drops the connection", DropsTcp, "failed", "broke without a close frame", 0.5),
    Case("breaks the framing", BreaksFraming, "failed", "broke the WebSocket protocol"),
    Case("answers no ping", NeverPongs, "failed", "did not answer a ping", 31.0),
)


@pytest.mark.parametrize("case", HANDSHAKE + OPEN, ids=lambda case: case.name)
def test_the_step_ends_with_its_outcome_and_the_flow_goes_on(case: Case) -> None:
    with branching_server() as server:
        bot = server.bot(case.script)
        phone = server.call()
        server.advance_until(lambda: server.steps, most_s=case.after_s)
        server.advance_until(lambda: phone.is_over, most_s=1)
        after, sound = ("goodbye", DONE) if case.outcome == "done" else ("sorry", SORRY)
        assert server.steps == [("bot", case.outcome), (after, "done")]
        assert phone.heard_sound() == sound
        assert len(bot.sessions) == case.attempts
        (told,) = server.events("stream_failed") + server.events("stream_ended")
        assert case.says in str(told)
        server.advance(3)
        assert server.left() == [] or all("SIP" in line for line in server.left())


def test_no_bot_listens() -> None:
    with branching_server() as server:
        phone = server.call()
        server.advance(1)
        assert server.steps == [("bot", "failed"), ("sorry", "done")] and phone.heard_sound() == SORRY
        assert server.events("stream_failed")[0].fields["reason"] == "The bot's port refused the connection."


def test_nothing_answers_where_the_bot_should_be() -> None:
    with branching_server() as server:
        server.reactor.tcp.path(("127.0.0.1", 5001)).is_black_hole = True
        phone = server.call()
        server.advance(19.9)
        assert server.steps == [] and set(phone.heard()) == {SILENT["PCMU"]}
        server.advance(1)
        assert server.steps == [("bot", "failed"), ("sorry", "done")] and phone.heard_sound() == SORRY


def test_a_caller_who_hangs_up_while_the_bot_hangs() -> None:
    with branching_server() as server:
        bot = server.bot(Hangs)
        phone = server.call()
        server.advance(3)
        phone.hang_up()
        server.advance(0.1)
        assert server.steps == [("bot", "done")] and not server.live_calls
        assert bot.session.is_over and not server.reactor.tcp.open_connections


def test_the_second_attempt_counts() -> None:
    with ServerUnderTest(bot_flow()) as server:
        bot = server.bot(Refuses, Echo)
        phone = server.call()
        said = speech(400)
        phone.say(said)
        server.advance(1)
        assert len(bot.sessions) == 2 and phone.heard_sound() == said


@pytest.mark.parametrize("script", [Garbage, NotUtf8], ids=["garbage", "not UTF-8"])
def test_what_is_no_message_is_counted_and_the_talk_goes_on(script: Callable[[], Session]) -> None:
    with ServerUnderTest(bot_flow()) as server:
        bot = server.bot(script)
        phone = server.call()
        said = speech(400)
        phone.say(said)
        server.advance(1)
        if script is Garbage:
            assert phone.heard_sound() == said
        assert pcm(said) in bot.session.audio
        phone.hang_up()
        server.advance(0.1)
        (ended,) = server.events("stream_ended")
        counted = sum(ended.fields[name] for name in ("invalid", "ignored", "binary"))
        assert counted == (2 * len(GARBAGE) if script is Garbage else 1)
        warnings = [line for line in server.log if bot.session.stream_sid in line and "more before" in line]
        assert len(warnings) == 1, "one line a minute, however much it sends"


def test_a_bot_that_speaks_before_it_has_read_start_is_heard() -> None:
    with ServerUnderTest(bot_flow()) as server:
        said = speech(200)
        bot = server.bot(partial(EarlySpeaker, pcm(said)))
        phone = server.call()
        server.advance(1)
        assert phone.heard_sound() == said and bot.session.marks == ["early"]


@pytest.mark.parametrize("chunk_bytes", [1, 3, 319, 321, 3201])
def test_odd_bytes_join_without_a_seam(chunk_bytes: int) -> None:
    with ServerUnderTest(bot_flow()) as server:
        said = speech(300)
        server.bot(partial(OddBytes, pcm(said), chunk_bytes))
        phone = server.call()
        server.advance(1)
        assert phone.heard_sound() == said


@pytest.mark.contract
def test_2_2_a_minute_at_once_is_played_in_a_minute_and_dropped_with_the_call() -> None:
    with ServerUnderTest(bot_flow()) as server:
        server.bot(partial(Burst, 60.0))
        other_bot = server.bot(Echo, port=5002)
        phone = server.call()
        server.advance(1)
        playback_bytes = server.service.plane.budget.used
        assert 57 * 16000 < playback_bytes < 60 * 16000
        assert server.service.plane.skipped_slots == 0
        silent = [arrival for arrival in phone.arrivals[5:] if set(arrival.packet.payload) == {SILENT["PCMU"]}]
        assert not silent and other_bot.sessions == []
        phone.hang_up()
        server.advance(0.1)
        assert server.service.plane.budget.used == 0


def test_a_queue_that_is_full_makes_the_bot_wait_and_loses_nothing() -> None:
    with ServerUnderTest(bot_flow(), {"media": {"playback_s": 2}}) as server:
        said = speech(12_000)
        bot = server.bot(partial(Speaker, pcm(said), chunk_bytes=3200))
        server.reactor.tcp.path(("127.0.0.1", 5001)).capacity = 20_000
        phone = server.call()
        server.advance(1)
        assert server.service.plane.budget.used < 5 * 16000
        server.advance(12)
        assert phone.heard_sound() == said and bot.session.marks == ["said"]


def test_a_bot_that_does_not_read_costs_only_its_own_media() -> None:
    with ServerUnderTest([bot_flow(), {**bot_flow(url="ws://127.0.0.1:5002/"), "name": "other"}], ROUTES) as server:
        slow, good = server.bot(SlowReader), server.bot(Echo, port=5002)
        server.reactor.tcp.path(("127.0.0.1", 5001)).capacity = 32_768
        deaf, other = server.call("1"), server.call("2", host="127.0.0.3")
        server.advance(10)
        said = speech(1000)
        other.say(said)
        deaf.say(said)
        server.advance(2)
        assert other.heard_sound() == said and len(good.session.bodies("media")) == 120
        assert len(slow.session.bodies("media")) < 2
        slow.session.resume()
        server.advance(1)
        bodies = slow.session.bodies("media")
        numbers = [int(body["media"]["chunk"]) for body in bodies]
        assert numbers == list(range(1, len(numbers) + 1)), "chunks are numbered at the write"
        gaps = [int(body["media"]["timestamp"]) for body in bodies]
        assert max(later - earlier for earlier, later in pairwise(gaps)) > 1000
        assert pcm(said) in slow.session.audio, "the newest is kept"
        deaf.hang_up()
        server.advance(0.1)
        (ended,) = server.events("stream_ended")
        assert ended.fields["media_dropped"] > 30 and slow.session.stop_reason == "callended"


ROUTES = {"route": [{"to": "1", "flow": "main"}, {"to": "2", "flow": "other"}]}


def test_a_slow_reader_whose_caller_hangs_up_holds_nothing() -> None:
    with ServerUnderTest(bot_flow()) as server:
        server.bot(SlowReader)
        phone = server.call()
        server.advance(15)
        phone.hang_up()
        server.advance(2.1)
        assert not server.reactor.tcp.open_connections


def test_a_bot_that_never_closes_is_dropped() -> None:
    with ServerUnderTest(bot_flow()) as server:
        bot = server.bot(NeverCloses)
        phone = server.call()
        server.advance(1)
        phone.hang_up()
        server.advance(1.9)
        assert bot.session.stop_reason == "callended" and bot.session.closed_with == 1000
        assert not bot.session.is_over
        server.advance(0.5)
        assert bot.session.is_over and not server.reactor.tcp.open_connections


def test_a_silent_bot_leaves_silence() -> None:
    with ServerUnderTest(bot_flow()) as server:
        bot = server.bot(Session)
        phone = server.call()
        server.advance(65)
        assert set(phone.heard()) == {SILENT["PCMU"]} and len(phone.arrivals) >= 65 / TICK_S
        assert bot.session.pings == 3 and len(bot.session.bodies("media")) >= 649


def test_a_bot_that_answers_each_mark_with_a_mark_and_each_clear_with_a_clear() -> None:
    class Bounces(Session):
        def on_mark(self, name: str) -> None:
            self.mark(name)
            self.clear()

        def on_start(self, start: dict[str, object]) -> None:
            self.say(pcm(speech(20)))
            self.mark("again")

    with ServerUnderTest(bot_flow()) as server:
        bot = server.bot(Bounces)
        server.reactor.tcp.path(("127.0.0.1", 5001)).delay_s = 0.01
        phone = server.call()
        server.advance(1)
        assert 40 <= len(bot.session.marks) <= 60 and not phone.is_over


def test_two_calls_to_one_hostile_and_one_good_bot() -> None:
    with ServerUnderTest([bot_flow(), {**bot_flow(url="ws://127.0.0.1:5002/"), "name": "other"}], ROUTES) as server:
        server.bot(DropsTcp)
        server.bot(Echo, port=5002)
        bad, good = server.call("1"), server.call("2", host="127.0.0.3")
        said = speech(600)
        good.say(said)
        server.advance(1.5)
        assert bad.ended_by == "server" and good.heard_sound() == said and not good.is_over
