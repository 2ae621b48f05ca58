"""A recorded call whose server is killed: nothing that it could do at its end may be needed."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from agentstream.audio import g711
from agentstream.testing.phone import speech
from tests.interop.peers.programs import Program, free_udp_block
from tests.interop.peers.server import PROGRAMS, bot_flow, echo_bot

# A call of some seconds in real time.
pytestmark = pytest.mark.slow

RATE_HZ = 8000
TALK_S = 3.0
SAID_MS = 12_000


def start(folder: Path, sip_port: int, first_port: int) -> Program:
    """A server on these ports."""
    (folder / "agentstream.toml").write_text(
        f"""\
[sip]
listen = ["udp:{sip_port}:interface=127.0.0.1"]
[media]
ports = "{first_port}-{first_port + 19}"
max_calls = 4
[[route]]
to = "*"
flow = "bot"
"""
    )
    arguments = [PROGRAMS / "twistd", "-n", "--pidfile=", "agentstream", "--config", folder / "agentstream.toml"]
    program = Program("agentstream", arguments, cwd=folder)
    program.wait_for("agentstream .* is ready", within_s=20)
    return program


def wait_for_file(folder: Path, pattern: str) -> Path:
    """The file of this name, as soon as it is there."""
    until = time.monotonic() + 15
    while time.monotonic() < until:
        for found in folder.rglob(pattern):
            return found
        time.sleep(0.01)
    pytest.fail(f"no {pattern} came to be")


def test_kill_9_leaves_a_file_that_plays_up_to_the_last_second(tmp_path: Path) -> None:
    said = g711.ULAW_TO_PCM[np.frombuffer(speech(SAID_MS), np.uint8)]
    soundfile.write(tmp_path / "said.wav", said, RATE_HZ)
    (tmp_path / "flows").mkdir()
    sip_port, first_port = free_udp_block(2), free_udp_block(20)
    with echo_bot(tmp_path) as url:
        flow = bot_flow(f"{url}/media?sample-rate=8000", record="true").replace("NAME", "bot")
        (tmp_path / "flows" / "bot.toml").write_text(flow)
        call = ["call", f"sip:1000@127.0.0.1:{sip_port}", "--wav", tmp_path / "said.wav", "--seconds", "6"]
        with (
            start(tmp_path, sip_port, first_port) as server,
            Program("agentstream call", [PROGRAMS / "agentstream", *call], cwd=tmp_path),
        ):
            part = wait_for_file(tmp_path / "recordings", "*.wav.part")
            began = time.monotonic()
            time.sleep(TALK_S)
            server.process.send_signal(signal.SIGKILL)
            lasted = time.monotonic() - began
            assert server.wait(within_s=10) == -signal.SIGKILL
        both, rate_hz = soundfile.read(part, dtype="int16")
        assert rate_hz == RATE_HZ and both.shape[1] == 2
        assert lasted - 1.0 < len(both) / RATE_HZ < lasted + 0.5
        left, right = both[:, 0], both[:, 1]
        # To the end: what the caller said, and the bot's echo of it some time later. (That each sample is right is
        # shown on a Clock, where no machine is too busy.)
        for side in (left, right):
            begins = int(np.flatnonzero(side)[0])
            assert len(side) - begins > RATE_HZ
            assert np.count_nonzero(side[begins:]) > 0.9 * (len(side) - begins)
            assert np.count_nonzero(side[-RATE_HZ // 4 :])
        with start(tmp_path, sip_port, first_port):
            whole = wait_for_file(tmp_path / "recordings", "*.wav")
            np.testing.assert_array_equal(soundfile.read(whole, dtype="int16")[0], both)
    assert whole.with_suffix(".wav.part") == part and not part.exists()
