"""The demo's figures and judgement from values made by hand; then the demo itself, on loopback."""

from __future__ import annotations

import base64
from pathlib import Path

import attrs
import numpy as np
import orjson
import pytest
import soundfile
from twisted.logger import LogLevel

from agentstream.audio.g711 import ULAW_TO_PCM
from agentstream.cli.commands import main
from agentstream.cli.demo import Outcome, bot_to_caller_ms, judged
from agentstream.cli.phone import CallResult
from agentstream.cli.server_log import line_of
from agentstream.flow.timeline import Event

from .fakes import noise, ulaw

MS = 1_000_000
WHOLE = CallResult(200, "", "local", 5.0, 10.0, "PCMU", 500, 503, 0, 0, 0, 0.3, 2.0, "", "")
GOOD = Outcome(
    result=WHOLE,
    stream_events=("connected", "start", "media", "stop"),
    media_messages=100,
    server_counts=(500, 503),
    speech=(0.0, 1.0),
    echo=(164.0, 0.999),
    bot_to_caller_ms=(4.0, 20.0),
    recording=Path("out.wav"),
    sip_uri="sip:1000@127.0.0.1:5060",
    problems=(),
)


def test_a_good_outcome_has_no_problem() -> None:
    outcome = judged(GOOD)
    assert outcome.problems == ()
    said = outcome.as_json()
    assert {
        "calls",
        "rtp_sent",
        "rtp_received",
        "rtp_lost",
        "stream_events",
        "bot_to_caller_p95_ms",
        "recording",
    } <= said.keys()
    assert (said["calls"], said["rtp_sent"], said["rtp_received"], said["rtp_lost"]) == (1, 500, 503, 0)
    assert said["echo_delay_ms"] == 164.0
    assert orjson.loads(orjson.dumps(said)) == said


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"result": attrs.evolve(WHOLE, problem="no RTP came back")}, "no whole call: no RTP came back"),
        ({"result": attrs.evolve(WHOLE, lost=2)}, "2 packets were lost on the way to the phone"),
        ({"server_counts": None}, "the server's timeline does not say how many packets it received and sent"),
        (
            {"server_counts": (499, 503)},
            "the phone sent 500 packets and received 503, but the server received 499 and sent 503",
        ),
        ({"stream_events": ()}, "the bot got nothing: connected, start, media, stop were to come"),
        ({"speech": (0.0, 0.5)}, "the speech is not in the recording's left side"),
        ({"echo": (0.0, 0.5)}, "the echo of the speech is not in the recording's right side"),
    ],
)
def test_each_shortcoming_is_told(change: dict[str, object], sentence: str) -> None:
    assert judged(attrs.evolve(GOOD, **change)).problems == (sentence,)


def head(payload: bytes) -> str:
    pcm = np.take(ULAW_TO_PCM, np.frombuffer(payload, np.uint8)).tobytes()
    return base64.b64encode(pcm).decode()[:428]


def test_the_way_from_bot_to_phone_is_timed_by_the_sound_itself() -> None:
    speech = ulaw(noise(1600)).replace(b"\x7f", b"\xff")  # the zero that comes back
    silence = b"\xff" * 160
    heard = [(i * 20 * MS, silence) for i in range(3)]
    heard += [(60 * MS + i * 20 * MS, speech[160 * i : 160 * i + 160]) for i in range(10)]
    written = [(50 * MS, head(speech[:800])), (155 * MS, head(speech[800:])), (70 * MS, head(silence * 5))]
    assert bot_to_caller_ms(written, heard, "PCMU") == (10.0, 5.0)


def test_sound_that_begins_within_a_packet_is_timed_by_that_packet() -> None:
    speech = ulaw(noise(800)).replace(b"\x7f", b"\xff")
    shifted = b"\xff" * 80 + speech + b"\xff" * 80
    heard = [(i * 20 * MS, shifted[160 * i : 160 * i + 160]) for i in range(6)]
    assert bot_to_caller_ms([(-3 * MS, head(speech))], heard, "PCMU") == (3.0,)


def test_the_log_observer_tells_what_has_a_kind() -> None:
    event = Event("c1", 12.5, "leg_ended", {"rtp_sent": 3, "path": Path("x")})
    logged = {"kind": event.kind, "at": event.at, "call_sid": "c1", "fields": event.fields, "timeline": event}
    told = orjson.loads(line_of({**logged, "log_level": LogLevel.info, "log_namespace": "x"}) or b"")
    assert told == {
        "kind": "timeline",
        "event": "leg_ended",
        "at": 12.5,
        "call_sid": "c1",
        "fields": {"rtp_sent": 3, "path": "x"},
    }
    metric = orjson.loads(line_of({"kind": "media_ended", "tick_p99_ms": 1.5, "log_level": LogLevel.info}) or b"")
    assert (metric["kind"], metric["fields"]) == ("metric", {"tick_p99_ms": 1.5})
    assert line_of({"log_format": "anything else"}) is None


@pytest.mark.slow  # starts a server and a bot, and talks for ten seconds of real time
def test_the_demo_itself(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    recording = tmp_path / "demo.wav"
    assert main(["demo", "--json", "--record", str(recording)]) == 0
    said = orjson.loads(capfdbinary.readouterr().out)
    assert said["problems"] == [] and said["calls"] == 1 and said["rtp_lost"] == 0
    assert said["stream_events"] == ["connected", "start", "media", "stop"]
    assert (said["rtp_sent"], said["rtp_received"]) == (said["server_rtp_received"], said["server_rtp_sent"])
    assert said["bot_to_caller_samples"] > 20 and 0 < said["bot_to_caller_p95_ms"] < 200
    samples, rate_hz = soundfile.read(recording)
    assert rate_hz == 8000 and samples.shape[1] == 2
