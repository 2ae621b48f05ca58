"""docs/quickstart.md does what it says: its bot, its flow and its config, as they stand on the page."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.interop.peers import sipp as s
from tests.interop.peers.captures import Capture, rtp_packets, streams, write_rtp_pcap
from tests.interop.peers.programs import SOUNDS, Program, free_tcp_port, require
from tests.interop.peers.server import PROGRAMS, server
from tests.interop.peers.signals import correlation, encode, linear, read_wav, track

# A sentence is said, said back, and a key is pressed.
pytestmark = [pytest.mark.peers("sipp", "tcpdump"), pytest.mark.slow]

PAGE = (Path(__file__).parent.parent.parent / "docs" / "quickstart.md").read_text()


def blocks(language: str) -> list[str]:
    """The page's blocks of code in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


def test_the_parrot(tmp_path: Path) -> None:
    """It says the sentence back after the caller has finished it, and hangs up at #."""
    require(SOUNDS)
    (bot,) = blocks("python")
    _, flow, config = blocks("toml")
    (tmp_path / "flows").mkdir()
    (tmp_path / "flows" / "parrot.toml").write_text(flow)
    (tmp_path / "agentstream.toml").write_text(config)
    checked = subprocess.run(
        [PROGRAMS / "agentstream", "check", "agentstream.toml"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr

    # The page's ports may be in use on this machine: the same files with others.
    port = free_tcp_port()
    (tmp_path / "bot.py").write_text(bot.replace("5002", str(port)))
    (route,) = re.findall(r'^to = "(.*)"$', config, re.MULTILINE)
    sentence = encode(read_wav(SOUNDS / "vm-goodbye.wav"), 0)
    said = sentence + b"\xff" * 24000
    pcap = tmp_path / "sentence.pcap"
    write_rtp_pcap(pcap, [said[start : start + 160] for start in range(0, len(said) - 159, 160)], payload_type=0)
    listening_ms = len(said) // 8
    text = s.scenario(
        s.answered(s.offer(port="[auto_media_port]")),
        s.play(str(pcap)),
        s.pause(listening_ms),
        s.play("/usr/share/sip-tester/dtmf_2833_pound.pcap"),
        '<recv request="BYE" timeout="10000"/>\n' + s.respond("200 OK"),
    )
    with (
        Program("bot.py", [sys.executable, "bot.py"], cwd=tmp_path),
        server(tmp_path / "served", {"parrot": flow.replace("5002", str(port))}, [(route, "parrot")]) as one,
        Capture(tmp_path, one.first_port, one.last_port) as capture,
        s.sipp(tmp_path / "uac", one.address, text=text, service="12345", media_ports=16) as run,
    ):
        run.finish()
        found = streams(rtp_packets(capture.datagrams()))
    heard = next(stream for stream in found if one.first_port <= stream.source[1] <= one.last_port)
    back = linear(track(heard.audio(0)).payload, 0)
    assert correlation(back, linear(sentence, 0)) > 0.9
    begins = int(np.flatnonzero(np.abs(back) > 1500)[0])
    assert begins > len(sentence) // 2, "the parrot waits for the end of the sentence"
