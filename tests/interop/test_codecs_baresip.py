"""baresip in codecs other than G.711: what it hears of its own words through a bot."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from tests.interop.peers import report
from tests.interop.peers.baresip import baresip
from tests.interop.peers.captures import Capture, rtp_packets, streams
from tests.interop.peers.server import Server, bot_flow, scripted_bot, server
from tests.interop.peers.signals import correlation

# A call takes seconds, and the phone takes time to start.
pytestmark = [pytest.mark.peers("baresip", "tcpdump"), pytest.mark.slow]

RATES = (8000, 16000)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server for both codecs, and an echo at each rate."""
    folder = tmp_path_factory.mktemp("codecs")
    with ExitStack() as stack:
        bot = stack.enter_context(scripted_bot(folder))
        flows = {f"echo{rate_hz}": bot_flow(f"{bot.url}/echo?sample-rate={rate_hz}") for rate_hz in RATES}
        routes = [(name, name) for name in flows]
        # Byte for byte needs a delay that stays.
        media = 'codecs = ["G722", "L16", "OPUS"]\nplayout_min_ms = 60\nplayout_max_ms = 60'
        yield stack.enter_context(server(folder, flows, routes, media=media))


def chirps(rate_hz: int, path: Path) -> Path:
    """Four seconds of sweeps that are unlike each other, up to 7/16 of the rate."""
    at = np.arange(4 * rate_hz) / rate_hz
    top_hz = rate_hz * 7 / 16
    wave = sum(np.sin(2 * np.pi * (hz * at + top_hz / 20 * at**2)) for hz in (300, top_hz / 3, top_hz / 2))
    soundfile.write(path, (wave * 0.15).astype(np.float32), rate_hz, subtype="PCM_16")
    return path


def power_above(sound: np.ndarray, hz: float, rate_hz: int) -> float:
    """The share of all power that is above a frequency."""
    spectrum = np.abs(np.fft.rfft(sound)) ** 2
    return float(spectrum[np.fft.rfftfreq(len(sound), 1 / rate_hz) > hz].sum() / spectrum.sum())


@pytest.mark.rfc(3551)
@pytest.mark.parametrize(
    ("codec", "rate_hz", "bot_hz", "size"),
    [("G722", 16000, 16000, 160), ("G722", 16000, 8000, 160), ("L16", 8000, 8000, 320)],
)
def test_it_hears_its_own_words(node: Server, tmp_path: Path, codec: str, rate_hz: int, bot_hz: int, size: int) -> None:
    wav = chirps(rate_hz, tmp_path / "said.wav")
    before = len(node.program.lines)
    with (
        baresip(tmp_path / "phone", wav, codec, rate_hz=rate_hz) as phone,
        Capture(tmp_path, node.first_port, node.last_port) as capture,
    ):
        phone.dial(node.uri(f"echo{bot_hz}"))
        phone.wait_for("CALL_ESTABLISHED")
        phone.pass_time(5.0)
        phone.hang_up()
        phone.wait_for("CALL_CLOSED")
        found = streams(rtp_packets(capture.datagrams()))
        heard, heard_hz = soundfile.read(phone.heard(), dtype="float64")
    node.program.wait_for("leg_ended", after=before)
    assert any(f"media_agreed codec={codec}" in line for line in node.program.lines[before:])
    (sent,) = (stream for stream in found if node.first_port <= stream.source[1] <= node.last_port)
    assert {len(packet.payload) for packet in sent.packets} == {size}
    said, _ = soundfile.read(wav, dtype="float64")
    assert heard_hz == rate_hz
    likeness = correlation(heard, said[: len(heard)])
    report.figure(f"baresip {codec}, bot of {bot_hz} Hz: the echo correlates {likeness:.3f} with what was said")
    high = power_above(heard, 4600, rate_hz)
    if rate_hz == bot_hz:
        assert likeness > 0.9
    if rate_hz == 16000:
        assert high > 0.2 if bot_hz == 16000 else high < 0.01
    report.calls_completed("baresip", report.version_of("baresip"))


@pytest.mark.rfc(7587)
def test_it_hears_its_own_words_in_opus(node: Server, tmp_path: Path) -> None:
    wav = chirps(48_000, tmp_path / "said.wav")
    before = len(node.program.lines)
    with (
        baresip(tmp_path / "phone", wav, "opus", rate_hz=48_000, channels=2) as phone,
        Capture(tmp_path, node.first_port, node.last_port) as capture,
    ):
        phone.dial(node.uri("echo16000"))
        phone.wait_for("CALL_ESTABLISHED")
        phone.pass_time(5.0)
        phone.hang_up()
        phone.wait_for("CALL_CLOSED")
        found = streams(rtp_packets(capture.datagrams()))
        heard, heard_hz = soundfile.read(phone.heard(), dtype="float64", always_2d=True)
    node.program.wait_for("leg_ended", after=before)
    assert any("media_agreed codec=OPUS" in line for line in node.program.lines[before:])
    (sent,) = (stream for stream in found if node.first_port <= stream.source[1] <= node.last_port)
    stamps = np.array([packet.timestamp for packet in sent.packets], np.uint32)
    assert set(np.diff(stamps).tolist()) == {960}
    mono = soxr.resample(heard[:, 0], heard_hz, 16_000)
    said, _ = soundfile.read(wav, dtype="float64")
    low = soxr.resample(said, 48_000, 16_000)
    likeness = correlation(mono, low[: len(mono)])
    report.figure(f"baresip opus, bot of 16000 Hz: the echo correlates {likeness:.3f} with what was said")
    assert likeness > 0.5
    assert power_above(mono, 4600, 16_000) > 0.05
    report.calls_completed("baresip", report.version_of("baresip"))
