"""The caller interrupts: a bot has said ten seconds at once and sends ``clear`` two seconds into them."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

import numpy as np
import pytest

from tests.interop.peers import report
from tests.interop.peers import sipp as s
from tests.interop.peers.captures import Capture, rtp_packets, streams
from tests.interop.peers.house import House
from tests.interop.peers.signals import SILENCE, linear

# The bot speaks twice, with pauses.
pytestmark = [pytest.mark.peers("sipp", "tcpdump"), pytest.mark.slow]

FADE_SAMPLES = 40  # 5 ms at 8 kHz


def stretches(flags: list[bool]) -> list[tuple[int, int]]:
    """The first and the last index of each run of True."""
    runs = [list(run) for flag, run in groupby(range(len(flags)), key=flags.__getitem__) if flag]
    return [(run[0], run[-1]) for run in runs]


@pytest.mark.parametrize("payload_type", [0, 8])
def test_clear_fades_and_silences(house: House, tmp_path: Path, payload_type: int) -> None:
    """The next frame holds a fade of at most 5 ms, then there is silence; marks come back; later media plays."""
    name = {0: "PCMU", 8: "PCMA"}[payload_type]
    offer = s.offer(str(payload_type), attributes=f"a=rtpmap:{payload_type} {name}/8000\na=ptime:20")
    bye = '<recv request="BYE" timeout="15000"/>\n' + s.respond("200 OK")
    before = len(house.bot.program.lines)
    with (
        Capture(tmp_path, house.server.first_port, house.server.last_port) as capture,
        s.sipp(
            tmp_path / "uac", house.server.address, text=s.scenario(s.answered(offer), bye), service="barge-in"
        ) as run,
    ):
        run.finish()
        found = streams(rtp_packets(capture.datagrams()))
    (heard,) = (stream for stream in found if stream.destination[1] == run.media_port)
    assert heard.missing == 0
    seen = house.bot.seen(before)
    cleared_at = next(item["at"] for item in seen if item["event"] == "clearing")

    # Marks: the one inside what was played came while it played, the other at the clear, the last when it was heard.
    marks = {item["mark"]["name"]: item for item in seen if item["event"] == "mark"}
    assert list(marks) == ["one-second", "sentence-end", "second-sentence"]
    assert marks["one-second"]["at"] < cleared_at
    assert 0 <= marks["sentence-end"]["at"] - cleared_at < 0.3
    assert seen[-1]["event"] == "closed"

    # The tone is never silent for a whole millisecond, so frames are whole tone, whole silence, or the one that fades.
    silence = SILENCE[payload_type]
    loud = [np.frombuffer(packet.payload, np.uint8) != silence for packet in heard.packets]
    is_sound = [bool(frame.any()) for frame in loud]
    sounding = stretches(is_sound)
    assert len(sounding) == 2, f"two stretches of sound and not {sounding}"
    (first, last), (resumed, end) = sounding

    fading = heard.packets[last]
    audible = int(np.flatnonzero(loud[last])[-1]) + 1
    assert audible <= FADE_SAMPLES, f"{audible} samples of the fading frame are not silence"
    level = np.abs(linear(fading.payload, payload_type)[:audible])
    full = np.max(np.abs(linear(heard.packets[last - 1].payload, payload_type)))
    assert level[audible // 2 :].max(initial=0) <= 0.75 * full, "the second half of the fade is quieter than the tone"
    played_s = 0.02 * (last - first)
    assert 1.5 < played_s < 2.5
    silenced_ms = 1000 * (fading.time_s - cleared_at)
    report.figure(
        f"barge-in {name}: fade of {audible / 8:.1f} ms, {silenced_ms:.1f} ms after the bot wrote `clear`; "
        f"of 10 s {played_s:.2f} s were played"
    )
    assert silenced_ms < 150
    # Everything between is silence, and the second sentence is whole.
    assert all(set(packet.payload) == {silence} for packet in heard.packets[last + 1 : resumed])
    assert end - resumed + 1 in (50, 51), "one second of tone"
    assert heard.packets[resumed].time_s - cleared_at > 0.9
    # That mark came no sooner than the packet with the last of its sound.
    assert marks["second-sentence"]["at"] > heard.packets[end].time_s - 0.002
