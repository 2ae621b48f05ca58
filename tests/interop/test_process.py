"""The server as a process: it does not start with a mistake, and it does not stop under a caller."""

from __future__ import annotations

import signal
import socket
from pathlib import Path

import pytest

from tests.interop.peers import sipp as s
from tests.interop.peers.programs import Program
from tests.interop.peers.server import PROGRAMS, bot_flow, scripted_bot, server

# Programs take time to start, and a call is up while the server drains.
pytestmark = [pytest.mark.peers("sipp"), pytest.mark.slow]

BYE_FROM_SERVER = '<recv request="BYE" timeout="20000"/>\n' + s.respond("200 OK")

HANG_UP = 'name = "NAME"\nstart = "end"\n[step.end]\napplet = "hangup"\n'


def start(folder: Path, config: str) -> Program:
    """A server with this config, however it fares."""
    (folder / "agentstream.toml").write_text(config)
    (folder / "flows").mkdir(exist_ok=True)
    (folder / "flows" / "end.toml").write_text(HANG_UP.replace("NAME", "end"))
    arguments: list[str | Path] = [
        PROGRAMS / "twistd",
        "-n",
        "--pidfile=",
        "agentstream",
        "--config",
        folder / "agentstream.toml",
    ]
    return Program("agentstream", arguments, cwd=folder)


def test_a_port_in_use_is_one_sentence(tmp_path: Path) -> None:
    """Exit status 1, no traceback, and the port is named."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        config = f'[sip]\nlisten = ["udp:{port}:interface=127.0.0.1"]\n[[route]]\nto = "*"\nflow = "end"\n'
        with start(tmp_path, config) as program:
            assert program.wait(within_s=15) == 1, program.output
    assert "Traceback" not in program.output
    # twistd has standard error in its log already.
    assert f"agentstream: UDP port {port} on 127.0.0.1 cannot be bound" in program.lines[-1]


def test_every_mistake_of_a_config_is_told_before_anything_listens(tmp_path: Path) -> None:
    """A misspelt key, a wrong type and a flow that does not exist, in one go."""
    config = '[sip]\nlisen = ["udp:5060"]\n[media]\nmax_calls = "many"\n[[route]]\nto = "*"\nflow = "ned"\n'
    with start(tmp_path, config) as program:
        assert program.wait(within_s=15) == 1, program.output
    assert "Traceback" not in program.output
    told = [line for line in program.lines if line.startswith("error: ")]
    assert len(told) == 3, program.output
    for words in (("sip.lisen", "listen"), ("media.max_calls",), ("ned", "end")):
        assert any(all(word in line for word in words) for line in told), program.output


def test_it_drains_before_it_stops(tmp_path: Path) -> None:
    """After SIGTERM new calls get 503 and the call that is up goes on to its end; then the process is over."""
    with scripted_bot(tmp_path) as bot:
        flows = {"listen": bot_flow(f"{bot.url}/listen")}
        with server(tmp_path, flows, [("*", "listen")]) as one:
            talking = s.scenario(s.answered(s.offer()), s.pause(4000), s.hung_up())
            with s.sipp(tmp_path / "first", one.address, text=talking) as caller:
                bot.wait_for("start")
                one.program.process.send_signal(signal.SIGTERM)
                one.program.wait_for("draining: 1 calls")
                refused = s.scenario(s.refused(503, s.offer()))
                with s.sipp(tmp_path / "second", one.address, text=refused) as late_caller:
                    late_caller.finish()
                assert one.program.process.poll() is None
                caller.finish()
            assert one.program.wait(within_s=10) in (0, -signal.SIGTERM)
        assert bot.wait_for("stop")["stop"]["reason"] == "callended"


def test_a_second_signal_hangs_up(tmp_path: Path) -> None:
    """The caller is told with BYE and not left alone."""
    with scripted_bot(tmp_path) as bot:
        flows = {"listen": bot_flow(f"{bot.url}/listen")}
        with server(tmp_path, flows, [("*", "listen")]) as one:
            with s.sipp(
                tmp_path / "uac", one.address, text=s.scenario(s.answered(s.offer()), BYE_FROM_SERVER)
            ) as caller:
                bot.wait_for("start")
                one.program.process.send_signal(signal.SIGTERM)
                one.program.wait_for("draining: 1 calls")
                one.program.process.send_signal(signal.SIGTERM)
                caller.finish()
            assert one.program.wait(within_s=10) in (0, -signal.SIGTERM)
        bot.wait_for("closed")
