"""A server of one's own for a command: a config in a temporary folder, the process, and the wait until it answers."""

from __future__ import annotations

import secrets
import socket
import time
from collections.abc import Mapping
from pathlib import Path

import attrs
import orjson

from agentstream.cli.children import Child, Children
from agentstream.errors import AgentstreamError

HOST = "127.0.0.1"
_START_S = 20.0
_ASK_EVERY_S = 0.1


@attrs.frozen
class ServerSettings:
    """What the generated config says.

    :ivar bots: user part to dial -> the bot's URL; each is a flow of one voicebot step.
    :ivar applets: user part to dial -> an applet without options that must be set; each is a flow of one step.
    :ivar chunk_ms: milliseconds of sound in one media message.
    :ivar max_calls: calls at once; the range of RTP ports is chosen to hold twice as many.
    :ivar fixed_playout_ms: a playout delay that does not follow the arrivals, where sound is recognised frame by frame;
        0 leaves it to the defaults.
    :ivar http_port: where /metrics is served; 0 for nowhere.
    :ivar recordings: the folder for recordings of all calls; None: nothing is recorded.
    :ivar speech_detector: which one finds it; empty leaves it to the defaults.
    :ivar srtp: whether calls must be SRTP.
    :ivar hears_speech: whether callers' voice activity is found. No config says so: without it the server is started by
        agentstream.cli.bench.deaf, for the bench, which asks what it costs.
    """

    sip_port: int
    bots: Mapping[str, str]
    chunk_ms: int = 100
    max_calls: int = 10
    fixed_playout_ms: int = 0
    http_port: int = 0
    recordings: Path | None = None
    hears_speech: bool = True
    speech_detector: str = ""
    first_rtp_port: int = 20000
    applets: Mapping[str, str] = attrs.Factory(dict)
    srtp: bool = False

    def write(self, folder: Path) -> Path:
        """Write the config and its flows; returns the config's path."""
        last = min(self.first_rtp_port + 4 * self.max_calls + 199, 65535)
        flows = folder / "flows"
        flows.mkdir()
        lines = [
            "[sip]",
            f'listen = ["udp:{self.sip_port}:interface={HOST}"]',
            "[media]",
            f'listen = "{HOST}"',
            f'ports = "{self.first_rtp_port}-{last}"',
            f"max_calls = {self.max_calls}",
            *self._playout(),
            *([f"speech_detector = {_toml(self.speech_detector)}"] if self.speech_detector else []),
            "[stream]",
            f"chunk_ms = {self.chunk_ms}",
            "[flows]",
            'path = ["flows"]',
        ]
        if self.http_port:
            lines += ["[http]", f'listen = "tcp:{self.http_port}:interface={HOST}"']
        if self.srtp:
            lines += ["[[trunk]]", 'name = "callers"', f'address = ["{HOST}"]', 'srtp = "required"']
        if self.recordings is not None:
            lines += ["[recording]", f"folder = {_toml(str(self.recordings))}"]
        recorded = [] if self.recordings is None else ["record = true"]
        bot = ["[step.bot]", 'applet = "voicebot"']
        steps = {user: [*bot, f"url = {_toml(url)}", *recorded] for user, url in self.bots.items()}
        steps |= {user: ["[step.bot]", f"applet = {_toml(applet)}"] for user, applet in self.applets.items()}
        for user, step in steps.items():
            lines += ["[[route]]", f"to = {_toml(user)}", f"flow = {_toml(user)}"]
            flow = [f"name = {_toml(user)}", 'start = "bot"', *step]
            (flows / f"{user}.toml").write_text("\n".join(flow) + "\n")
        config = folder / "agentstream.toml"
        config.write_text("\n".join(lines) + "\n")
        return config

    def _playout(self) -> list[str]:
        names = ("playout_ms", "playout_min_ms", "playout_max_ms") if self.fixed_playout_ms else ()
        return [f"{name} = {self.fixed_playout_ms}" for name in names]


def _toml(text: str) -> str:
    """A TOML basic string; JSON's escapes are among TOML's."""
    return orjson.dumps(text).decode()


def free_port(kind: socket.SocketKind = socket.SOCK_DGRAM) -> int:
    """A port of 127.0.0.1 that nobody holds at the moment."""
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.bind((HOST, 0))
        return int(sock.getsockname()[1])


def start_server(family: Children, config: Path, *, hears_speech: bool = True) -> Child:
    """Start ``twistd -n agentstream`` with this config; its log comes as news (agentstream.cli.server_log)."""
    run = f"from {'twisted.scripts.twistd' if hears_speech else 'agentstream.cli.bench.deaf'} import run; run()"
    options = ["-n", "--pidfile=", "--logger", "agentstream.cli.server_log.observer"]
    return family.start("server", ["-c", run, *options, "agentstream", "--config", str(config)])


def options_request(port: int, from_port: int) -> bytes:
    """An OPTIONS request (RFC 3261 section 11) that asks the server at a port of ours whether it is there."""
    return (
        f"OPTIONS sip:{HOST}:{port} SIP/2.0\r\n"
        f"Via: SIP/2.0/UDP {HOST}:{from_port};branch=z9hG4bK{secrets.token_hex(8)};rport\r\n"
        f"Max-Forwards: 70\r\n"
        f"From: <sip:start@{HOST}:{from_port}>;tag={secrets.token_hex(4)}\r\n"
        f"To: <sip:{HOST}:{port}>\r\n"
        f"Call-ID: {secrets.token_hex(8)}@{HOST}\r\n"
        f"CSeq: 1 OPTIONS\r\n"
        f"Contact: <sip:start@{HOST}:{from_port}>\r\n"
        f"Content-Length: 0\r\n\r\n"
    ).encode("ascii")


def wait_for_server(family: Children, server: Child, port: int, timeout_s: float = _START_S) -> None:
    """Ask by OPTIONS until the server answers.

    :raises AgentstreamError: it ended, or did not answer in time.
    """
    deadline = time.monotonic() + timeout_s
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((HOST, 0))
        sock.setblocking(False)
        while time.monotonic() < deadline:
            sock.sendto(options_request(port, sock.getsockname()[1]), (HOST, port))
            until = time.monotonic() + _ASK_EVERY_S
            while (left := until - time.monotonic()) > 0:
                family.pump(left, also=[sock.fileno()])
                if server.is_over:
                    raise AgentstreamError(server.last_words())
                try:
                    if sock.recv(65536).startswith(b"SIP/2.0 "):
                        return
                except BlockingIOError:
                    continue
    raise AgentstreamError(f"The server did not answer within {timeout_s:.0f} seconds.")
