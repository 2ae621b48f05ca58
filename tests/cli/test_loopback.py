"""The bench and a call with digits, each with a real server on loopback; every process is ended by its own id."""

from __future__ import annotations

import sys
from pathlib import Path

import orjson
import pytest

from agentstream.cli.children import children
from agentstream.cli.commands import main
from agentstream.cli.phone import Errand, Phone, run_phone
from agentstream.cli.server import HOST, ServerSettings, free_port, start_server, wait_for_server
from agentstream.errors import AgentstreamError

from .fakes import noise

SLOW = ("--playout-ms", "200")
"""With so long a delay a busy machine makes nothing late: what is lost then is lost."""

NAMES = (
    "calls",
    "seconds",
    "chunk_ms",
    "cpu_percent_per_call",
    "floor_percent_per_call",
    "frames_lost",
    "bot_to_rtp_p95_ms",
    "clear_to_silence_p95_ms",
    "rtp_to_bot_p95_ms",
    "egress_p99_ms",
    "tick_p99_ms",
    "memory_mb_per_call",
)


@pytest.mark.slow  # starts four processes and measures for five seconds of real time
@pytest.mark.skipif(sys.platform != "linux", reason="the bench reads Linux's /proc")
def test_five_calls_for_five_seconds(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert main(["bench", "--calls", "5", "--seconds", "5", *SLOW, "--json"]) == 0
    said = orjson.loads(capfdbinary.readouterr().out)
    assert said["mode"] == "run" and said["commit"] and said["machine"]
    (said,) = said["runs"]
    assert set(NAMES) <= said.keys()
    assert (said["calls"], said["seconds"], said["chunk_ms"]) == (5, 5.0, 100)
    assert (said["frames_lost"], said["frames_foreign"]) == (0, 0)
    assert 1240 <= said["frames_sent"] <= 1260
    assert all(said[name] is not None for name in NAMES)
    assert (
        0 < said["clear_to_silence_p95_ms"] < 100
        and 0 < said["bot_to_rtp_p95_ms"] < 100
        and 200 < said["rtp_to_bot_p95_ms"] < 400
    )
    assert said["cpu_percent_per_call"] > 0 and said["floor_percent_per_call"] > 0


@pytest.mark.slow  # starts three processes; nothing is measured before SIP's timers have run out
@pytest.mark.skipif(sys.platform != "linux", reason="the bench reads Linux's /proc")
def test_calls_that_come_and_go_leave_nothing(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert main(["bench", "--churn", "8", "--seconds", "4", "--warm-up", "4", "--json"]) == 0
    said = orjson.loads(capfdbinary.readouterr().out)
    assert (said["calls"], said["left_over"], said["unheard"]) == (64, {}, 0)
    assert said["growth_kb_per_call"] is not None and said["setup_p95_ms"] > 0


@pytest.mark.slow  # waits until SIP's timers have run out
@pytest.mark.skipif(sys.platform != "linux", reason="the bench reads Linux's /proc")
def test_calls_without_sound_leave_nothing(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    # How soon calls are answered is this machine's business here, and so is what has to be said twice.
    main(["bench", "--sip", "20", "--seconds", "2", "--calls", "2", "--json"])
    said = orjson.loads(capfdbinary.readouterr().out)
    assert (said["calls"], said["calls_beside"], said["refused"], said["unanswered"]) == (40, 2, {}, 0)
    assert said["left_over"] == {} and said["setup_p95_ms"] > 0 and said["cpu_percent"] > 0


@pytest.mark.slow  # a server at two sizes, two seconds each
@pytest.mark.skipif(sys.platform != "linux", reason="the bench reads Linux's /proc")
def test_a_ramp_with_its_picture(capfdbinary: pytest.CaptureFixture[bytes], tmp_path: Path) -> None:
    picture = tmp_path / "ramp.svg"
    words = ["--ramp", "--beyond", "--calls", "4", "--step", "2", "--seconds", "2"]
    words += [*SLOW, "--plot", str(picture), "--json"]
    main(["bench", *words])
    said = orjson.loads(capfdbinary.readouterr().out)
    assert [step["calls"] for step in said["steps"]] == [2, 4]
    assert all(step["frames_lost"] == 0 and step["tick_p99_ms"] > 0 for step in said["steps"])
    assert picture.read_text().startswith("<svg")


@pytest.mark.slow  # three benches, one after the other, of two seconds each
@pytest.mark.skipif(sys.platform != "linux", reason="the bench reads Linux's /proc")
def test_two_rates_in_one_run(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert main(["bench", "--calls", "3", "--seconds", "2", "--rate", "8000", "24000", *SLOW, "--json"]) == 0
    said = orjson.loads(capfdbinary.readouterr().out)
    assert [each["variant"] for each in said["variants"]] == [
        f"100 ms, {rate} Hz, playout 200 ms" for rate in (8000, 24000)
    ]
    for run in said["runs"]:
        assert (run["frames_lost"], run["frames_foreign"]) == (0, 0) and run["frames_sent"] > 290
        assert run["bot_to_rtp_samples"] > 0 and run["round_trip_p95_ms"] < 600


@pytest.mark.slow  # starts a server and a bot, and talks for two seconds of real time
def test_digits_reach_the_bot_and_a_refusal_is_told(tmp_path: Path) -> None:
    with children() as family:
        bot = family.start("bot", ["-m", "agentstream.cli.demo_bot"])
        url = f"ws://{HOST}:{family.expect(bot, 'listening', 20)['port']}/media"
        port = free_port()
        server = start_server(family, ServerSettings(port, {"1000": url}).write(tmp_path))
        wait_for_server(family, server, port)
        phone = Phone.open(f"sip:1000@{HOST}:{port}", Errand(noise(1600), digits="12#", tail_s=0.5))
        try:
            result = run_phone(phone)
        finally:
            phone.close()
        assert result.problem == ""
        family.pump(0.5)
        refused = Phone.open(f"sip:nobody@{HOST}:{port}", Errand(noise(160)))
        try:
            assert run_phone(refused).status == 404
        finally:
            refused.close()
        family.pump(0.2)
        assert [news["event"] for news in bot.news if news["kind"] == "stream"].count("dtmf") == 3


@pytest.mark.slow  # starts a server
def test_a_server_that_cannot_start_is_one_sentence(tmp_path: Path) -> None:
    config = ServerSettings(free_port(), {"1000": "ws://127.0.0.1:1/media"}).write(tmp_path)
    config.write_text(config.read_text() + "\n[nonsense]\n")
    with children() as family:
        server = start_server(family, config)
        with pytest.raises(AgentstreamError, match=r"^The server ended by itself with exit status 1: .*nonsense"):
            wait_for_server(family, server, free_port())


@pytest.mark.slow  # starts a server and a bot, and talks for a second of real time
def test_a_call_with_srtp_and_one_that_lacks_it(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    with children() as family:
        bot = family.start("bot", ["-m", "agentstream.cli.demo_bot"])
        url = f"ws://{HOST}:{family.expect(bot, 'listening', 20)['port']}/media"
        port = free_port()
        server = start_server(family, ServerSettings(port, {"1000": url}, srtp=True).write(tmp_path))
        wait_for_server(family, server, port)
        words = ["call", f"sip:1000@{HOST}:{port}", "--seconds", "1", "--json"]
        assert main([*words, "--srtp"]) == 0
        said = orjson.loads(capfdbinary.readouterr().out)
        assert said["received"] > 30 > said["ignored"]  # RTCP shares the port
        assert main(words) == 1
        assert orjson.loads(capfdbinary.readouterr().out)["status"] == 488


@pytest.mark.slow  # three benches, one after the other, of two seconds each
@pytest.mark.skipif(sys.platform != "linux", reason="the bench reads Linux's /proc")
def test_srtp_beside_rtp(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    main(["bench", "--calls", "3", "--seconds", "2", "--srtp", "off", "on", "gcm", *SLOW, "--json"])
    said = orjson.loads(capfdbinary.readouterr().out)
    assert [run["srtp"] for run in said["runs"]] == ["", "AES_CM_128_HMAC_SHA1_80", "AEAD_AES_128_GCM"]
    for run in said["runs"]:  # a busy machine loses some; under a wrong key nothing would come
        lost = max(run["frames_lost_to_bot"], run["frames_lost_to_caller"])
        assert run["frames_foreign"] == 0 and lost < 0.9 * run["frames_sent"]
