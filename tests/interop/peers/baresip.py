"""baresip: a softphone without a face, driven and watched over its control port (netstrings of JSON)."""

from __future__ import annotations

import json
import select
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.interop.peers.programs import Program, free_tcp_port, free_udp_block

# net_interface must be the address: the name "lo" is refused, and unset the SDP carries another interface's address.
_CONFIG = """\
poll_method epoll
sip_listen {host}:{sip_port}
call_local_timeout 120
call_max_calls 4
audio_source aufile,{wav}
audio_player aufile,{folder}/play.wav
audio_alert ausine,400
ausrc_srate {rate_hz}
auplay_srate {rate_hz}
ausrc_channels 1
auplay_channels 1
audio_buffer 20-160
rtp_ports {first_port}-{last_port}
rtp_stats yes
jitter_buffer_type fixed
jitter_buffer_delay 2-5
module_path {modules}
module stdio.so
module g711.so
module g722.so
module l16.so
module opus.so
module sndfile.so
module aufile.so
module ausine.so
module_tmp uuid.so
module_tmp account.so
module_app menu.so
snd_path {folder}/rec
net_interface {interface}
module_app ctrl_tcp.so
ctrl_tcp_listen 127.0.0.1:{control_port}
"""


class Baresip:
    """One running baresip.

    :ivar events: what it has reported so far.
    """

    def __init__(self, program: Program, folder: Path, first_port: int, control: socket.socket) -> None:
        self.program = program
        self.folder = folder
        self.first_port = first_port
        self.events: list[dict[str, Any]] = []
        self._control = control
        self._buffer = b""

    def _command(self, command: str, parameters: str = "") -> None:
        text = json.dumps({"command": command, "params": parameters, "token": command}).encode()
        self._control.sendall(b"%d:%s," % (len(text), text))

    def dial(self, uri: str) -> None:
        self._command("dial", uri)

    def press(self, digit: str) -> None:
        """Press one key and let it go."""
        self._command("sndcode", digit)

    def hang_up(self) -> None:
        self._command("hangup")

    def transfer(self, uri: str) -> None:
        """Send its far end elsewhere (REFER)."""
        self._command("transfer", uri)

    def hold(self) -> None:
        self._command("hold")

    def resume(self) -> None:
        self._command("resume")

    def wait_for(self, kind: str, *, within_s: float = 15.0) -> dict[str, Any]:
        """The first event of this kind that was not taken before."""
        deadline = time.monotonic() + within_s
        while True:
            for number, event in enumerate(self.events):
                if event.get("type") == kind:
                    del self.events[: number + 1]
                    return event
            left = deadline - time.monotonic()
            if left <= 0 or not self._read(left):
                pytest.fail(f"baresip did not report {kind}; it reported {self.events}")

    def pass_time(self, seconds: float) -> None:
        """Let the call go on, taking its events as they come."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self._read(left)

    def _read(self, within_s: float) -> bool:
        if not select.select([self._control], [], [], within_s)[0]:
            return True
        data = self._control.recv(65536)
        self._buffer += data
        while b":" in self._buffer:
            size, _, rest = self._buffer.partition(b":")
            if len(rest) <= int(size):
                break
            self.events.append(json.loads(rest[: int(size)]))
            self._buffer = rest[int(size) + 1 :]
        return bool(data)

    def heard(self) -> Path:
        """The WAV of what it heard in its last call."""
        return max((self.folder / "rec").glob("dump-*-dec.wav"), key=lambda path: path.stat().st_mtime)


@contextmanager
def baresip(
    folder: Path,
    wav: Path,
    codec: str = "PCMU",
    interface: str = "127.0.0.1",
    rate_hz: int = 8000,
    more: str = "",
    channels: int = 1,
    account: str = "",
    address: str = "",
) -> Iterator[Baresip]:
    """Start it with one account that answers by itself and speaks ``wav`` once.

    :param interface: its address, IPv4 or IPv6.
    :param rate_hz: samples a second of the file, of the codec and of what it records.
    :param more: more lines of its config.
    :param channels: of the codec, as its rtpmap has it.
    :param account: more parameters of its account, each with a semicolon before it.
    :param address: its SIP URI and ``;regint=``, where it is to register; "" is one that nobody knows.
    """
    host = f"[{interface}]" if ":" in interface else interface
    (folder / "rec").mkdir(parents=True)
    modules = next(
        path
        for path in (Path("/usr/lib/baresip/modules"), *Path("/usr/lib").glob("*/baresip/modules"))
        if path.exists()
    )
    # It also binds SIP's TCP port and the next one, for TLS: below the range where the kernel finds ports for others.
    sip_port, control_port, first_port = free_udp_block(2), free_tcp_port(), free_udp_block(40)
    (folder / "config").write_text(
        _CONFIG.format(
            host=host,
            interface=interface,
            sip_port=sip_port,
            wav=wav,
            rate_hz=rate_hz,
            folder=folder,
            first_port=first_port,
            last_port=first_port + 39,
            modules=modules,
            control_port=control_port,
        )
        + more
    )
    address = address or f"<sip:alice@{host}:{sip_port}>;regint=0"
    (folder / "accounts").write_text(f"{address};answermode=auto;audio_codecs={codec}/{rate_hz}/{channels}{account}\n")
    (folder / "contacts").write_text("")
    with Program("baresip", ["baresip", "-f", folder, "-t", "90"], cwd=folder) as program:
        program.wait_for("baresip is ready")
        with socket.create_connection(("127.0.0.1", control_port), 5) as control:
            yield Baresip(program, folder, first_port, control)
