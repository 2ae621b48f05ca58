"""agentstream itself as a process, on free ports, with a config made for the test; and bots beside it."""

from __future__ import annotations

import json
import re
import signal
import sys
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs

from tests.interop.peers.programs import Program, free_tcp_port, free_udp_block, held

PROGRAMS = Path(sys.executable).parent
"""Where the tested installation's ``twistd`` and ``agentstream`` are."""


def bot_flow(url: str, **more: str) -> str:
    """A flow file of one voicebot step."""
    options = "".join(f"{key} = {value}\n" for key, value in more.items())
    return f'name = "NAME"\nstart = "talk"\n[step.talk]\napplet = "voicebot"\nurl = "{url}"\n{options}'


@attrs.define
class Server:
    """A server that is up.

    :ivar sip_port: where it takes SIP, on 127.0.0.1 unless ``listen`` of :func:`server` said otherwise.
    :ivar first_port, last_port: its RTP and RTCP ports.
    """

    program: Program
    sip_port: int
    first_port: int
    last_port: int

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.sip_port}"

    def uri(self, user: str) -> str:
        return f"sip:{user}@{self.address}"

    def check(self) -> None:
        """It is alive, and its log holds no traceback and no failure."""
        assert self.program.process.poll() is None, self.program.output
        self.check_log()

    def check_log(self) -> None:
        """Its log holds no traceback and no failure."""
        troubles = [line for line in self.program.lines if re.search(r"Traceback|Unhandled|\bcritical\b", line)]
        assert not troubles, self.program.output[-6000:]


def metric(port: int, name: str) -> float:
    """The sum of a metric's samples, of a server with ``[http]`` on this port; the name is a regular expression."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as page:
        text = page.read().decode()
    return sum(float(value) for value in re.findall(rf"^agentstream_{name}.* (\S+)$", text, re.M))


@contextmanager
def server(
    folder: Path,
    flows: Mapping[str, str],
    routes: Sequence[tuple[str, str]],
    *,
    ports: int = 64,
    listen: Sequence[str] = ("udp:PORT:interface=127.0.0.1",),
    media: str = "",
    more: str = "",
    programs: Path = PROGRAMS,
    cwd: Path | None = None,
) -> Iterator[Server]:
    """Start ``twistd -n agentstream --config`` and wait until it takes calls; end it with SIGTERM and check its log.

    :param flows: file name stem to flow text, in which NAME stands for the stem and PORT for the port of SIP.
    :param routes: pairs of a Request-URI user pattern and a flow's name.
    :param listen: its SIP listeners, in which PORT stands for the port.
    :param media: more lines of ``[media]``; ``more``: more tables, such as ``[[trunk]]``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "flows").mkdir(exist_ok=True)
    # Below the range that the kernel hands out: there the port is free for TCP and IPv6 as well.
    sip_port, first_port = free_udp_block(2), free_udp_block(ports)
    for name, text in flows.items():
        (folder / "flows" / f"{name}.toml").write_text(text.replace("NAME", name).replace("PORT", str(sip_port)))
    listeners = ", ".join(f'"{text.replace("PORT", str(sip_port))}"' for text in listen)
    last_port = first_port + ports - 1
    table = "".join(f'[[route]]\nto = "{to}"\nflow = "{flow}"\n' for to, flow in routes)
    config = folder / "agentstream.toml"
    config.write_text(
        f"""\
[sip]
listen = [{listeners}]
advertise = "127.0.0.1"
[media]
listen = "127.0.0.1"
ports = "{first_port}-{last_port}"
{media}
[flows]
path = ["flows"]
{more}
{table}"""
    )
    pid_file = folder / "twistd.pid"
    arguments: list[str | Path] = [
        programs / "twistd",
        "-n",
        f"--pidfile={pid_file}",
        "agentstream",
        "--config",
        config,
    ]
    with held(first_port, ports), Program("agentstream", arguments, cwd=cwd or folder) as program:
        program.wait_for("agentstream .* is ready", within_s=20)
        running = Server(program, sip_port, first_port, last_port)
        yield running
        status = program.end()
        running.check_log()
        # twistd ends itself by the signal that stopped it, when everything is closed.
        assert status in (0, -signal.SIGTERM), f"the server ended with status {status}:\n{program.output[-6000:]}"
        assert "Server Shut Down." in program.lines[-1], program.output[-6000:]


@contextmanager
def echo_bot(folder: Path, programs: Path = PROGRAMS) -> Iterator[str]:
    """The sample bot that comes with agentstream; gives its ``ws://`` address without a path."""
    port = free_tcp_port()
    arguments: list[str | Path] = [programs / "agentstream", "bot", "echo", "--listen", f"127.0.0.1:{port}"]
    with Program("agentstream bot echo", arguments, cwd=folder) as program:
        program.wait_for(rf"ws://127\.0\.0\.1:{port}")
        yield f"ws://127.0.0.1:{port}"


class ScriptedBot:
    """scripted_bot.py as a process: what it is told by the path of the URL, and what it has seen."""

    def __init__(self, program: Program, url: str) -> None:
        self.program = program
        self.url = url

    def seen(self, after: int = 0) -> list[dict[str, Any]]:
        """What it has printed so far, from line number ``after`` on."""
        return [json.loads(line) for line in self.program.lines[after:] if line.startswith("{")]

    def wait_for(self, event: str, *, within_s: float = 15.0, holding: str = "") -> dict[str, Any]:
        """The first of its lines with this event whose text holds ``holding``."""
        match = self.program.wait_for(rf'^(\{{"event": "{event}".*{re.escape(holding)}.*)$', within_s=within_s)
        found: dict[str, Any] = json.loads(match[1])
        return found


@contextmanager
def scripted_bot(folder: Path) -> Iterator[ScriptedBot]:
    """A bot of the tests' own, written with another WebSocket library than the server's."""
    script = Path(__file__).parent / "scripted_bot.py"
    with Program("scripted bot", [sys.executable, "-u", script], cwd=folder) as program:
        url = program.wait_for(r"listening on (ws://\S+)")[1]
        yield ScriptedBot(program, url)
