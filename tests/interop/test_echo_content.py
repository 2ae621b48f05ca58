"""What comes back through the whole path, bot included, is what was sent: byte for byte, and of the right call."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest

from tests.interop.peers import report
from tests.interop.peers import sipp as s
from tests.interop.peers.captures import Capture, Stream, rtp_packets, streams, tshark_streams
from tests.interop.peers.house import House
from tests.interop.peers.signals import (
    SILENCE,
    Run,
    Samples,
    Track,
    correlation,
    delays_s,
    encode,
    linear,
    matching_runs,
    read_wav,
    track,
)

# Seconds of speech have to be said and heard.
pytestmark = [pytest.mark.peers("sipp", "tcpdump", "tshark"), pytest.mark.slow]

SECONDS = 8


class InPieces(AssertionError):
    """All of the echo came, with pauses in it: the bot's sound did not reach until more of it came.

    A bot that sends each chunk back at once has some 20 ms in hand. A machine that lets one of four processes wait for
    longer than that is not the clean path that is measured here.
    """


T = TypeVar("T")


def undisturbed(attempt: Callable[[Path], T], folder: Path) -> T:
    """Make the calls, again when the machine has disturbed them, at most three times; the report says so."""
    for number in range(1, 4):
        (folder / str(number)).mkdir()
        try:
            return attempt(folder / str(number))
        except InPieces as error:
            last = error
            report.figure(f"attempt {number} was disturbed: {error}")
    raise last


def call(speech: Path, folder: Path, payload_type: int) -> str:
    """A scenario that says ``speech`` for SECONDS."""
    name = {0: "PCMU", 8: "PCMA"}[payload_type]
    raw = folder / f"{speech.stem}.{name}"
    raw.write_bytes(encode(read_wav(speech), payload_type))
    attributes = f"a=rtpmap:{payload_type} {name}/8000\na=rtpmap:101 telephone-event/8000\na=fmtp:101 0-16\na=ptime:20"
    # The default payload type of rtp_stream is 0.
    play = s.play(str(raw)).replace(",-1,0", f",-1,{payload_type}")
    answered = s.answered(s.offer(f"{payload_type} 101", attributes=attributes))
    return s.scenario(answered, play, s.pause(1000 * SECONDS), s.STOP_PLAYING, s.hung_up())


def both_ways(found: list[Stream], media_port: int) -> tuple[Stream, Stream]:
    """The one stream from a caller's media port to the server, and the one back."""
    (sent,) = (stream for stream in found if stream.source[1] == media_port)
    (heard,) = (stream for stream in found if stream.destination[1] == media_port)
    assert heard.source == sent.destination, "sound comes from the port that it is sent to (symmetric RTP)"
    return sent, heard


def expect_echo(sent: Stream, heard: Stream, payload_type: int, name: str) -> tuple[Track, Track, list[Run]]:
    """Nothing lost, and all that was said in time to come back came back unchanged and in one piece."""
    assert sent.missing == heard.missing == 0
    said, back = track(sent.audio(payload_type)), track(heard.audio(payload_type))
    assert {len(packet.payload) for packet in heard.packets} == {160}
    runs = matching_runs(said.payload, back.payload)
    assert runs, "nothing of what was said came back"
    matched = sum(run.length for run in runs)
    delays_ms = 1000 * np.concatenate([delays_s(said, back, run) for run in runs])
    median, p95 = np.percentile(delays_ms, [50, 95])
    report.figure(
        f"echo of {name}: {matched} of {len(said.payload)} samples byte-equal in {len(runs)} piece(s), "
        f"caller to bot to caller {median:.1f} ms (p95 {p95:.1f} ms) by captured packets"
    )
    # The last second may still be on its way when the caller hangs up.
    assert runs[-1].sent + runs[-1].length >= len(said.payload) - 8000
    if len(runs) != 1:
        raise InPieces(f"the echo came back in {len(runs)} pieces: {runs}")
    assert runs[0].sent == 0, f"the first {runs[0].sent} samples did not come back unchanged"
    assert median < 600
    return said, back, runs


@pytest.mark.parametrize("payload_type", [0, 8])
def test_echo_is_byte_equal(house: House, speech: dict[str, Path], tmp_path: Path, payload_type: int) -> None:
    """One call at 8 kHz: each sample of the speech returns as it was sent (mu-law's two zeros apart)."""

    def attempt(folder: Path) -> tuple[Stream, Track, list[Run]]:
        text = call(speech["congrats"], folder, payload_type)
        with (
            Capture(folder, house.server.first_port, house.server.last_port) as capture,
            s.sipp(folder / "uac", house.server.address, text=text) as run,
        ):
            run.finish()
            found = streams(rtp_packets(capture.datagrams()))
        sent, heard = both_ways(found, run.media_port)
        analysed = tshark_streams(capture.path, house.server.first_port, house.server.last_port)
        (back_by_tshark,) = (line for line in analysed if line.destination_port == run.media_port)
        assert (back_by_tshark.packets, back_by_tshark.lost) == (len(heard.packets), 0)
        name = {0: "PCMU", 8: "PCMA"}[payload_type]
        report.figure(
            f"echo of {name} by tshark: 0 lost, at most {back_by_tshark.max_delta_ms:.1f} ms between two packets"
        )
        _, back, runs = expect_echo(sent, heard, payload_type, name)
        return heard, back, runs

    heard, back, runs = undisturbed(attempt, tmp_path)
    before = back.payload[: runs[0].heard]
    assert set(before) <= {SILENCE[payload_type]}, "before the echo there is silence"
    # From the SDP answer on, a packet every 20 ms: no two are further apart than a loaded machine explains.
    times = np.array([packet.time_s for packet in heard.packets])
    assert np.median(np.diff(times)) == pytest.approx(0.020, abs=0.001)
    steps = np.diff([packet.timestamp for packet in heard.packets]) % (1 << 32)
    assert set(steps) == {160}


def test_two_calls_at_once_hear_themselves_only(house: House, speech: dict[str, Path], tmp_path: Path) -> None:
    """Different speech in two calls: each hears its own back, and nothing of the other's."""

    def attempt(folder: Path) -> tuple[dict[str, Samples], dict[str, Samples]]:
        with ExitStack() as stack:
            capture = stack.enter_context(Capture(folder, house.server.first_port, house.server.last_port))
            runs = {
                name: stack.enter_context(
                    s.sipp(folder / name, house.server.address, text=call(speech[name], folder, 0))
                )
                for name in ("congrats", "instruct")
            }
            for run in runs.values():
                run.finish()
            found = streams(rtp_packets(capture.datagrams()))
        pairs = {name: both_ways(found, run.media_port) for name, run in runs.items()}
        heard: dict[str, Samples] = {}
        for name, (sent, back) in pairs.items():
            expect_echo(sent, back, 0, f"PCMU ({name}, two calls at once)")
            heard[name] = linear(track(back.audio(0)).payload, 0)
        said = {name: linear(track(sent.audio(0)).payload, 0) for name, (sent, _) in pairs.items()}
        return heard, said

    heard, said = undisturbed(attempt, tmp_path)
    own = min(correlation(heard[name], said[name]) for name in heard)
    foreign = max(correlation(heard["congrats"], said["instruct"]), correlation(heard["instruct"], said["congrats"]))
    report.figure(f"two calls at once: correlation with one's own speech {own:.3f}, with the other's {foreign:.3f}")
    assert own > 0.9
    assert foreign < 0.3
