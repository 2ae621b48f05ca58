"""Loss, delay, order, doubled packets and skewed clocks between the phone and the server, on whole calls."""

from __future__ import annotations

import numpy as np

from agentstream.testing.bots import Echo
from agentstream.testing.phone import speech
from agentstream.testing.server import ServerUnderTest
from tests.server.kit import bot_flow, pcm


def test_packets_that_overtake_each_other_within_the_playout_delay_change_nothing() -> None:
    with ServerUnderTest(bot_flow()) as server:
        server.bot(Echo)
        phone = server.call()
        phone.path_out.delays_s = (0.0, 0.045, 0.0, 0.03, 0.01, 0.045, 0.0) * 7
        said = speech(1000)
        phone.say(said)
        server.advance(2)
        assert phone.heard_sound() == said
        phone.hang_up()
        server.advance(0.1)
        fields = server.events("leg_ended")[0].fields
        assert (fields["rtp_received"], fields["rtp_lost"], fields["rtp_concealed_ms"]) == (50, 0, 0)


def test_doubled_packets_are_heard_once() -> None:
    with ServerUnderTest(bot_flow()) as server:
        server.bot(Echo)
        phone = server.call()
        phone.path_out.twice = frozenset({1, 4, 5, 20})
        said = speech(600)
        phone.say(said)
        server.advance(2)
        assert phone.heard_sound() == said
        phone.hang_up()
        server.advance(0.1)
        assert server.events("leg_ended")[0].fields["rtp_duplicate"] == 4


def test_a_lost_packet_costs_its_own_20_ms() -> None:
    with ServerUnderTest(bot_flow()) as server:
        bot = server.bot()
        phone = server.call()
        phone.path_out.lost = frozenset({10, 25})
        said = speech(1000)
        phone.say(said)
        server.advance(2)
        wanted, heard = np.frombuffer(pcm(said), "<i2"), np.frombuffer(bot.session.audio, "<i2")
        start = int(np.flatnonzero(heard)[0])
        heard = heard[start : start + len(wanted)]
        differing = np.flatnonzero((heard != wanted).reshape(-1, 80).any(axis=1))
        # The concealment's end overlaps with the next 10 ms.
        assert differing.tolist() == [20, 21, 22, 50, 51, 52]
        phone.hang_up()
        server.advance(0.1)
        fields = server.events("leg_ended")[0].fields
        assert (fields["rtp_received"], fields["rtp_lost"], fields["rtp_concealed_ms"]) == (48, 2, 40)


def test_a_phone_whose_clock_is_fast_is_heard_whole() -> None:
    # Down to 60 ms and no further: what skew adds is all that there is to take out, and it is less than 10 ms here.
    with ServerUnderTest(bot_flow(), {"media": {"playout_min_ms": 60}}) as server:
        server.bot(Echo)
        phone = server.call()
        phone.skews_ppm = [500.0]
        said = speech(10_000)
        phone.say(said)
        server.advance(11)
        assert phone.heard_sound() == said
        phone.hang_up()
        server.advance(0.1)
        assert server.events("leg_ended")[0].fields["rtp_late"] == 0


def test_a_timestamp_that_leaps_and_a_new_ssrc_are_followed() -> None:
    with ServerUnderTest(bot_flow()) as server:
        bot = server.bot()
        phone = server.call()
        parts = [speech(600, seed=seed) for seed in (1, 2, 3)]
        for number, part in enumerate(parts):
            phone.say(part)
            server.advance(1)
            phone.timestamp = (phone.timestamp + 8000 * 3600) & 0xFFFFFFFF
            if number == 1:
                phone.ssrc += 1
        for part in parts:
            assert pcm(part) in bot.session.audio


def test_what_others_send_to_the_port_is_counted_and_not_heard() -> None:
    with ServerUnderTest(bot_flow()) as server:
        bot = server.bot()
        phone, stranger = server.call(), server.phone(host="127.0.0.99")
        phone.say(speech(400))
        stranger.answer = phone.answer
        stranger.say(speech(400, seed=66))
        server.advance(1)
        assert pcm(speech(400)) in bot.session.audio and pcm(speech(20, seed=66)) not in bot.session.audio
        phone.hang_up()
        server.advance(0.1)
        assert server.events("leg_ended")[0].fields["rtp_foreign"] == 20


def test_a_tick_that_comes_late_sends_what_it_owes() -> None:
    with ServerUnderTest(bot_flow()) as server:
        server.bot()
        phone = server.call()
        server.advance(0.2)
        before = len(phone.arrivals)
        server.hold_up(0.08)
        assert len(phone.arrivals) == before + 4
        server.hold_up(0.4)
        assert len(phone.arrivals) == before + 9
        server.advance(0.02)
        assert phone.arrivals[-1].packet.marker
        assert server.service.plane.skipped_slots == 15
