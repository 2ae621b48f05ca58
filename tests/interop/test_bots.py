"""What bots see and do: the first messages, and bots that behave badly; the caller is SIPp."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from tests.interop.peers import sipp as s
from tests.interop.peers.captures import Capture, rtp_packets, streams
from tests.interop.peers.house import House
from tests.interop.peers.signals import encode, read_wav

# Calls take seconds.
pytestmark = [pytest.mark.peers("sipp", "tcpdump"), pytest.mark.slow]

BYE_FROM_SERVER = '<recv request="BYE" timeout="20000"/>\n' + s.respond("200 OK")


def talk(speech: Path, folder: Path, *ending: str) -> str:
    raw = folder / "speech.ul"
    raw.write_bytes(encode(read_wav(speech), 0))
    return s.scenario(s.answered(s.offer()), s.play(str(raw)), *ending)


def test_first_messages_credentials_and_parameters(house: House, speech: dict[str, Path], tmp_path: Path) -> None:
    """`connected`, `start` with the URL's parameters, `media` from chunk 1 at 0 ms, `stop` and a close."""
    before = len(house.bot.program.lines)
    text = talk(speech["congrats"], tmp_path, s.pause(1000), s.hung_up())
    with s.sipp(tmp_path / "uac", house.server.address, text=text, service="parameters") as run:
        run.finish()
    house.bot.program.wait_for('"event": "closed"', after=before)
    seen = house.bot.seen(before)
    assert [item["event"] for item in seen] == [
        "connected_to_us",
        "connected",
        "start",
        "first_media",
        "stop",
        "closed",
    ]
    opened, _, start, media, stop, closed = seen
    assert opened["path"] == "/listen?sample-rate=8000&campaign=42"
    assert opened["authorization"] == "Basic a2V5OnRva2Vu"
    assert start["sequence_number"] == "1"
    assert start["start"]["stream_sid"] == start["stream_sid"]
    assert (start["start"]["from"], start["start"]["to"]) == ("sipp", "parameters")
    assert start["start"]["media_format"] == {"encoding": "base64", "sample_rate": "8000", "bit_rate": "128kbps"}
    assert start["start"]["custom_parameters"] == {"campaign": "42"}
    assert media["sequence_number"] == "2"
    assert (media["chunk"], media["timestamp"], media["bytes"]) == ("1", "0", 1600)
    assert stop["stop"]["call_sid"] == start["start"]["call_sid"]
    assert stop["stop"]["reason"] == "callended"
    assert closed["code"] == 1000


def test_trouble_from_a_bot_changes_nothing(house: House, speech: dict[str, Path], tmp_path: Path) -> None:
    """Invalid JSON, wrong base64, odd bytes, unknown events: the call goes on and the echo after them is whole."""
    before = len(house.bot.program.lines)
    text = talk(speech["congrats"], tmp_path, s.pause(3000), s.STOP_PLAYING, s.hung_up())
    with (
        Capture(tmp_path, house.server.first_port, house.server.last_port) as capture,
        s.sipp(tmp_path / "uac", house.server.address, text=text, service="trouble") as run,
    ):
        run.finish()
        found = streams(rtp_packets(capture.datagrams()))
    house.bot.program.wait_for('"event": "stop"', after=before)
    marks = [item["mark"]["name"] for item in house.bot.seen(before) if item["event"] == "mark"]
    assert marks == ["after-trouble"]
    (heard,) = (stream for stream in found if stream.destination[1] == run.media_port)
    assert sum(len(set(packet.payload)) > 40 for packet in heard.audio(0)) > 50, "speech came back"


def test_a_key_in_sipps_own_scenario_is_one_digit(house: House, tmp_path: Path) -> None:
    """-sn uac_pcap ends with the key 1 as ten RFC 2833 packets of a second SSRC, the end three times."""
    before = len(house.bot.program.lines)
    with s.sipp(tmp_path / "uac", house.server.address, builtin="uac_pcap", service="listen", media_ports=8) as run:
        run.finish()
    house.bot.program.wait_for('"event": "stop"', after=before)
    digits = [item["dtmf"] for item in house.bot.seen(before) if item["event"] == "dtmf"]
    assert [item["digit"] for item in digits] == ["1"]
    assert int(digits[0]["duration"]) > 0


@pytest.mark.parametrize(("service", "prompts"), [("chained-close", 1), ("chained-break", 2)])
def test_what_follows_depends_on_how_the_bot_ended(
    house: House, speech: dict[str, Path], tmp_path: Path, service: str, prompts: int
) -> None:
    """play, then voicebot, then: a close frame is `done` and the flow hangs up, a broken connection is `failed`."""
    text = talk(speech["congrats"], tmp_path, BYE_FROM_SERVER)
    with (
        Capture(tmp_path, house.server.first_port, house.server.last_port) as capture,
        s.sipp(tmp_path / "uac", house.server.address, text=text, service=service) as run,
    ):
        run.finish()
        found = streams(rtp_packets(capture.datagrams()))
    (heard,) = (stream for stream in found if stream.destination[1] == run.media_port)
    # The bot says nothing, so what is heard are the prompts, with more than half a second between them.
    sounding = [packet.time_s for packet in heard.audio(0) if len(set(packet.payload)) > 40]
    pauses = [later - earlier for earlier, later in pairwise(sounding) if later - earlier > 0.5]
    assert len(pauses) == prompts - 1
