"""baresip calls: a softphone with a jitter buffer, a recorder and keys."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.interop.peers import report
from tests.interop.peers.baresip import baresip
from tests.interop.peers.captures import Capture, rtp_packets, streams
from tests.interop.peers.house import House
from tests.interop.peers.signals import SILENCE, comparable, correlation, read_wav

# A call takes seconds, and the phone takes time to start.
pytestmark = [pytest.mark.peers("baresip", "tcpdump"), pytest.mark.slow]


def completed() -> None:
    report.calls_completed("baresip", report.version_of("baresip"))


@pytest.mark.parametrize("codec", ["PCMU", "PCMA"])
def test_baresip_hears_its_own_words(house: House, speech: dict[str, Path], tmp_path: Path, codec: str) -> None:
    """It speaks, records what the sample bot returns, and hangs up; the recording holds the words."""
    with baresip(tmp_path / "phone", speech["menu"], codec) as phone:
        phone.dial(house.server.uri("1000"))
        phone.wait_for("CALL_ESTABLISHED")
        phone.pass_time(6.0)
        phone.hang_up()
        phone.wait_for("CALL_CLOSED")
        heard = read_wav(phone.heard())
    likeness = correlation(heard, read_wav(speech["menu"])[: len(heard)])
    report.figure(f"baresip {codec}: the recording of the echo correlates {likeness:.3f} with what was said")
    assert likeness > 0.7
    completed()


def test_the_server_hangs_up(house: House, speech: dict[str, Path], tmp_path: Path) -> None:
    """A flow that plays and hangs up: the phone hears the prompt and is told of the end."""
    with (
        baresip(tmp_path / "phone", speech["menu"]) as phone,
        Capture(tmp_path, house.server.first_port, house.server.last_port) as capture,
    ):
        phone.dial(house.server.uri("goodbye"))
        phone.wait_for("CALL_ESTABLISHED")
        phone.wait_for("CALL_CLOSED")
        found = streams(rtp_packets(capture.datagrams()))
    (heard,) = (stream for stream in found if stream.source[1] <= house.server.last_port)
    sound = [packet for packet in heard.audio(0) if set(comparable(packet.payload, 0)) != {SILENCE[0]}]
    assert len(sound) > 20, "the prompt was sent before the call ended"
    completed()


def test_keys_reach_the_bot(house: House, speech: dict[str, Path], tmp_path: Path) -> None:
    """Each key pressed is one ``dtmf`` message with a duration, in order (RFC 4733)."""
    keys = "5#0*9"
    before = len(house.bot.program.lines)
    with baresip(tmp_path / "phone", speech["menu"]) as phone:
        phone.dial(house.server.uri("listen"))
        phone.wait_for("CALL_ESTABLISHED")
        phone.pass_time(0.5)
        for key in keys:
            phone.press(key)
            phone.pass_time(0.5)
        phone.hang_up()
        phone.wait_for("CALL_CLOSED")
    house.bot.program.wait_for('"event": "stop".*callended', after=before)
    digits = [item["dtmf"] for item in house.bot.seen(before) if item["event"] == "dtmf"]
    assert "".join(item["digit"] for item in digits) == keys
    assert all(int(item["duration"]) >= 40 for item in digits)
    completed()
