"""Who ends what, and after how long: contract.md 3.5, 3.6, and rows 12, 21 and 33 of section 10, whole path."""

from __future__ import annotations

from typing import Any

import pytest

from agentstream.testing.bots import Echo, Speaker
from agentstream.testing.hostile_bots import NeverPongs
from agentstream.testing.phone import speech
from agentstream.testing.server import ServerUnderTest
from tests.cases import cases
from tests.server.kit import branching_server, pcm
from tests.streams.kit import listening_flow

PLAYED_OUT = (1000, 1001, None)
CODES = (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1011, 1012, 1013, 3000, 4999, None)


@pytest.mark.contract
@cases("code", CODES, ids=lambda code: f"code {code}" if code else "no code")
def test_row_33_any_close_frame_is_done_and_the_next_step_follows(code: int | None) -> None:
    """3.6: the code is reported; sound that is queued is played out behind 1000, 1001 and no code only."""
    with branching_server() as server:
        bot = server.bot(lambda: Speaker(pcm(speech(1000)), ""))
        phone = server.call()
        server.advance(0.5)
        bot.session.wire.transport.write(b"\x88\x00" if code is None else b"\x88\x02" + code.to_bytes(2, "big"))
        server.advance(1.5)
        assert server.steps[0] == ("bot", "done")
        (ended,) = server.events("stream_ended")
        assert (ended.fields["by"], ended.fields["code"], ended.fields["clean"]) == ("bot", code or 1005, True)
        assert (speech(1000) in phone.heard()) == (code in PLAYED_OUT)


@pytest.mark.contract
def test_row_33_no_close_frame_is_failed() -> None:
    """3.6: 1006, the commonest."""
    with branching_server() as server:
        bot = server.bot()
        server.call()
        server.advance(0.5)
        bot.session.drop()
        server.advance(0.5)
        assert server.steps[0] == ("bot", "failed")
        (ended,) = server.events("stream_ended")
        assert (ended.fields["by"], ended.fields["code"], ended.fields["clean"]) == ("NA", 1006, False)


@pytest.mark.contract
def test_row_33_a_ping_that_is_not_answered_is_failed() -> None:
    with branching_server() as server:
        server.bot(NeverPongs)
        server.call()
        server.advance(31)
        assert server.steps[0] == ("bot", "failed")
        assert server.events("stream_ended")[0].fields["code"] == 1006


@pytest.mark.contract
@cases(
    ("data", "code"),
    [(b"\xf0\x00", 1002), (b"\x81\x7f" + (5 << 20).to_bytes(8, "big"), 1009)],
    ids=["a broken frame", "a message over 4 MB"],
)
def test_3_6_what_the_server_closes_for(data: bytes, code: int) -> None:
    with branching_server() as server:
        bot = server.bot()
        server.call()
        server.advance(0.5)
        bot.session.wire.transport.write(data)
        server.advance(0.5)
        assert server.steps[0] == ("bot", "failed")
        assert bot.session.closed_with == code
        assert server.events("stream_ended")[0].fields["code"] == code


@pytest.mark.contract
@cases("ends", ["caller", "flow", "limit", "node"])
def test_row_12_stop_reason_is_stopped_or_callended(ends: str) -> None:
    """1.2: callended when the call is over, stopped when only the stream is; 1000 follows at once."""
    hang = {"applet": "hangup"}
    then = {"applet": "echo", "seconds": 1, "next": "stop"} if ends == "flow" else None
    flow = listening_flow(then, **({"max_s": 1} if ends == "limit" else {}))
    if ends == "flow":
        flow["step"] |= {"stop": {"applet": "stream", "action": "stop", "next": "bye"}, "bye": hang}
    with ServerUnderTest(flow) as server:
        listener, _ = server.bot(port=5002), server.bot(Echo)
        phone = server.call()
        server.advance(0.5)
        if ends == "caller":
            phone.hang_up()
        elif ends == "node":
            server.service.switchboard.hang_up_all("the node stops")
        server.advance(1.5)
        session = listener.session
        reason = "stopped" if ends in ("flow", "limit") else "callended"
        assert session.stop_reason == reason and session.events[-1] == "stop" and session.closed_with == 1000
        (ended,) = [event for event in server.events("stream_ended") if event.fields["step"] == "listen"]
        assert ended.fields["by"] == ("user" if ends == "caller" else "NA") and ended.fields["clean"]


@pytest.mark.contract
@cases(
    ("config", "options", "most_s"),
    [({}, {}, 3600), ({"stream": {"max_s": 5}}, {}, 5), ({"stream": {"max_s": 5}}, {"max_s": 2}, 2)],
    ids=["an hour by default", "as the node says", "as the step says"],
)
def test_row_21_the_limit_of_a_stream_ends_its_step_as_usual(
    config: dict[str, Any], options: dict[str, Any], most_s: int
) -> None:
    """3.5: 60 minutes; separate from the call, which goes on with the next step."""
    steps = {
        "bot": {"applet": "voicebot", "url": "ws://127.0.0.1:5001/", "next": "echo", **options},
        "echo": {"applet": "echo"},
    }
    with ServerUnderTest({"start": "bot", "step": steps}, config) as server:
        bot = server.bot()
        server.call()
        server.service.plane.stop()  # an hour of ticks would be a minute of test
        (started,) = server.events("stream_started")
        server.reactor.run_until(started.at + most_s - 0.1)
        assert not server.steps
        server.reactor.run_until(started.at + most_s + 0.1)
        assert server.steps == [("bot", "done")] and server.live_calls
        assert bot.session.stop_reason == "stopped" and bot.session.closed_with == 1000
        assert [event.fields["max_s"] for event in server.events("stream_limit_reached")] == [most_s]
        server.service.plane.start()
        server._slot = round(server.now / 0.02)


def test_a_stream_that_is_stopped_in_time_leaves_no_timer() -> None:
    with branching_server(max_s=20) as server:
        bot = server.bot()
        server.call()
        server.advance(0.5)
        bot.session.close()
        server.advance(0.5)
        assert not server.events("stream_limit_reached")
