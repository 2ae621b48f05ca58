"""The stream applet in whole calls: contract.md 1.1, 1.2, 2.4 and 4.2."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from agentstream.testing.bots import Echo, Speaker
from agentstream.testing.hostile_bots import ClosesEarly, Refuses, SlowReader
from agentstream.testing.phone import speech
from agentstream.testing.server import ServerUnderTest
from tests.cases import cases
from tests.server.kit import pcm, samples, without_lead
from tests.streams.kit import LISTENS, TALKS, listening_flow, sound_of

EAR_HZ = "ws://127.0.0.1:5002/listen?sample-rate=16000"


@pytest.mark.contract
def test_4_2_start_takes_its_next_step_at_once_and_lives_on() -> None:
    with ServerUnderTest(listening_flow()) as server:
        listener, talker = server.bot(port=5002), server.bot(Echo)
        server.reactor.tcp.path(("127.0.0.1", 5002)).delay_s = 1.0
        phone = server.call()
        server.advance(0.5)
        assert server.steps == [("listen", "done")] and talker.session.start and not listener.sessions
        server.advance(4)
        said = speech(500)
        phone.say(said)
        server.advance(2)
        assert without_lead(listener.session.audio).startswith(pcm(said))
        assert phone.heard_sound() == said
        phone.hang_up()
        server.advance(1.1)
        assert listener.session.stop_reason == talker.session.stop_reason == "callended"
        assert listener.session.closed_with == 1000


@pytest.mark.contract
def test_1_1_dtmf_and_mark_are_not_sent_and_what_the_bot_says_is_ignored() -> None:
    with ServerUnderTest(listening_flow()) as server:
        listener, talker = server.bot(lambda: Speaker(pcm(speech(500)), "mine"), port=5002), server.bot()
        phone = server.call()
        server.advance(0.5)
        listener.session.clear()
        talker.session.mark("theirs")
        phone.press("5")
        server.advance(1)
        assert set(listener.session.events) == {"connected", "start", "media"}
        assert talker.session.digits == "5" and talker.session.marks == ["theirs"]
        assert phone.heard_sound() == b"", "the listener's voice is heard by nobody"
        listener.session.close()
        server.advance(1)
        (ended,) = server.events("stream_ended")
        assert ended.fields["ignored"] == 3 and ended.fields["step"] == "listen"
        assert not talker.session.is_over


def test_a_listener_takes_no_sound_from_the_one_who_talks() -> None:
    """Its end silences nobody, at whatever rate it listens."""
    with ServerUnderTest(listening_flow(url=EAR_HZ)) as server:
        said = speech(2000)
        listener, _ = server.bot(port=5002), server.bot(lambda: Speaker(pcm(said)))
        phone = server.call()
        server.advance(0.5)
        listener.session.close()
        server.advance(2)
        assert phone.heard_sound() == said
        assert listener.session.start["media_format"]["sample_rate"] == "16000"


# Tracks


@pytest.mark.contract
@cases("track", ["inbound", "outbound"])
def test_1_4_one_track_is_not_named(track: str) -> None:
    with ServerUnderTest(listening_flow(track=track)) as server:
        theirs, ours = speech(400, seed=3), speech(400, seed=4)
        listener, _ = server.bot(port=5002), server.bot(lambda: Speaker(pcm(ours)))
        phone = server.call()
        phone.say(theirs)
        server.advance(1)
        expected = theirs if track == "inbound" else ours
        assert pcm(expected) in sound_of(listener.session)
        assert not any("track" in body["media"] for body in listener.session.bodies("media"))


@pytest.mark.contract
def test_1_4_both_tracks_carry_track_and_are_counted_together() -> None:
    with ServerUnderTest(listening_flow(track="both", chunk_ms=40)) as server:
        theirs, ours = speech(400, seed=3), speech(400, seed=4)
        listener, talker = server.bot(port=5002), server.bot()
        phone = server.call()
        server.advance(0.5)
        phone.say(theirs)
        talker.session.say(pcm(ours))
        server.advance(1)
        session = listener.session
        assert pcm(theirs) in sound_of(session, "inbound") and pcm(ours) in sound_of(session, "outbound")
        media = [body["media"] for body in session.bodies("media")]
        assert [int(one["chunk"]) for one in media] == list(range(1, len(media) + 1))
        for track in ("inbound", "outbound"):
            times = [int(one["timestamp"]) for one in media if one["track"] == track]
            assert times == [40 * index for index in range(len(times))] and len(times) >= 35


# Several, names and stop


def several(*stops: dict[str, Any]) -> dict[str, Any]:
    """Three listeners, two of one name, then a bot that talks, then stops, then another bot."""
    steps: dict[str, Any] = {
        "one": {"applet": "stream", "url": LISTENS + "?one", "name": "a", "next": "two"},
        "two": {"applet": "stream", "url": LISTENS + "?two", "name": "b", "next": "three"},
        "three": {"applet": "stream", "url": LISTENS + "?three", "name": "a", "next": "talk"},
        "talk": {"applet": "voicebot", "url": TALKS, "next": "stop0" if stops else "after"},
        "after": {"applet": "voicebot", "url": TALKS},
    }
    for index, stop in enumerate(stops):
        following = f"stop{index + 1}" if index + 1 < len(stops) else "after"
        steps[f"stop{index}"] = {"applet": "stream", "action": "stop", "next": following, **stop}
    return {"start": "one", "step": steps}


def ended_in_order(server: ServerUnderTest, *stops: dict[str, Any]) -> dict[str, str]:
    """The stop reason of each listener by its first parameter, when the stops have been gone through."""
    listeners, talker = server.bot(port=5002), server.bot()
    server.call()
    server.advance(0.5)
    talker.session.close()
    server.advance(0.5)
    return {next(iter(session.start["custom_parameters"])): session.stop_reason for session in listeners.sessions}


@pytest.mark.contract
def test_4_2_stop_without_a_name_stops_all() -> None:
    with ServerUnderTest(several({})) as server:
        assert ended_in_order(server) == {"one": "stopped", "two": "stopped", "three": "stopped"}
        assert [event.fields["streams"] for event in server.events("streams_stopped")] == [3]


@pytest.mark.contract
def test_4_2_stop_with_a_name_stops_those_of_it() -> None:
    with ServerUnderTest(several({"name": "a"}, {"name": "nobody"})) as server:
        assert ended_in_order(server) == {"one": "stopped", "two": "", "three": "stopped"}
        assert [event.fields["streams"] for event in server.events("streams_stopped")] == [2, 0]
        assert {event.fields["by"] for event in server.events("stream_ended")} == {"NA", "bot"}


def test_stop_gives_up_one_that_is_being_connected() -> None:
    with ServerUnderTest(several({})) as server:
        server.reactor.tcp.path(("127.0.0.1", 5002)).is_black_hole = True
        talker = server.bot()
        server.call()
        server.advance(0.5)
        talker.session.close()
        server.advance(0.5)
        assert [event.fields["streams"] for event in server.events("streams_stopped")] == [3]
        assert not server.events("stream_failed")


# Trouble


@pytest.mark.parametrize(
    ("script", "event"),
    [(Refuses, "stream_failed"), (ClosesEarly, "stream_ended"), (None, "stream_failed")],
    ids=["refuses", "closes early", "is not there"],
)
def test_a_listener_in_trouble_is_an_event_and_the_call_goes_on(script: Any, event: str) -> None:
    with ServerUnderTest(listening_flow()) as server:
        if script is not None:
            server.bot(script, port=5002)
        server.bot(Echo)
        phone = server.call()
        server.advance(1)
        said = speech(500)
        phone.say(said)
        server.advance(1)
        assert phone.heard_sound() == said
        assert server.events(event)[0].fields["step"] == "listen"
        assert server.steps == [("listen", "done")]


def test_a_listener_that_does_not_read_costs_nobody_else_anything() -> None:
    with ServerUnderTest(listening_flow()) as server:
        slow, _ = server.bot(SlowReader, port=5002), server.bot(Echo)
        phone = server.call()
        server.advance(8)
        said = speech(1000)
        phone.say(said)
        server.advance(2)
        assert phone.heard_sound() == said
        assert np.diff([arrival.at for arrival in phone.arrivals]).max() < 0.021
        phone.hang_up()
        server.advance(2.1)
        dropped = {event.fields["step"]: event.fields["media_dropped"] for event in server.events("stream_ended")}
        assert dropped["listen"] > 0 and dropped["then"] == 0
        assert slow.session.is_over


def test_a_call_that_ends_while_a_listener_is_being_connected() -> None:
    with ServerUnderTest(listening_flow()) as server:
        server.reactor.tcp.path(("127.0.0.1", 5002)).is_black_hole = True
        server.bot()
        phone = server.call()
        server.advance(0.5)
        phone.hang_up()
        server.advance(0.1)
        assert not server.live_calls and not server.events("stream_failed")


def test_a_flow_that_ends_stops_who_listens_and_nobody_else_hung_up() -> None:
    with ServerUnderTest(
        listening_flow({"applet": "play", "file": "a.wav"}), sounds={"a.wav": samples(speech(500))}
    ) as s:
        listener = s.bot(port=5002)
        phone = s.call()
        s.advance(1)
        assert phone.is_over and listener.session.stop_reason == "callended"
        assert [event.fields["by"] for event in s.events("stream_ended")] == ["NA"]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"applet": "stream"}, 'a step with action "start" needs a url'),
        ({"applet": "stream", "action": "stop", "url": LISTENS}, 'a step with action "stop" takes no url'),
        ({"applet": "stream", "action": "pause"}, 'expected one of "start", "stop"'),
        ({"applet": "stream", "url": LISTENS, "track": "all"}, 'expected one of "inbound", "outbound", "both"'),
    ],
    ids=["start without a url", "stop with a url", "another action", "another track"],
)
def test_steps_that_make_no_sense_are_refused_at_start(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(Exception, match=sentence):
        ServerUnderTest({"start": "s", "step": {"s": options}})
