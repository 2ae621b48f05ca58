"""SIPp: scenarios put together from their messages, and one run of it.

What bites in SIPp 3.6.1: ``rtp_stream`` reads raw codec bytes, and all its calls leave from one local port (-mp);
``play_pcap_audio`` needs root, and with ``[auto_media_port]`` each call has a port of its own.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.interop.peers import report
from tests.interop.peers.programs import Program, free_udp_block, free_udp_port, require

TARGET = "sip:[service]@[remote_ip]:[remote_port]"

_DIALOG = """\
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]
From: sipp <sip:sipp@[local_ip]:[local_port]>;tag=[pid]SIPpTag00[call_number]
{to}
Call-ID: [call_id]
CSeq: {cseq}
Max-Forwards: 70
"""


def offer(
    formats: str = "0 101",
    *,
    port: str = "[rtpstream_audio_port]",
    attributes: str = (
        "a=rtpmap:0 PCMU/8000\na=rtpmap:101 telephone-event/8000\na=fmtp:101 0-16\na=ptime:20\na=sendrecv"
    ),
    version: int = 1,
) -> str:
    """An SDP offer of SIPp's."""
    return (
        f"v=0\no=sipp 53655765 {version} IN IP[local_ip_type] [local_ip]\n"
        "s=-\nc=IN IP[media_ip_type] [media_ip]\nt=0 0\n"
        f"m=audio {port} RTP/AVP {formats}\n{attributes}\n"
    )


def request(
    method: str, *, cseq: int, sdp: str = "", in_dialog: bool = True, retrans: bool = True, headers: str = ""
) -> str:
    """One ``<send>`` of a request; ``headers`` are whole lines."""
    target = "[next_url]" if in_dialog else TARGET
    to = "[last_To:]" if in_dialog else f"To: <{TARGET}>"
    number = f"{cseq} {method}"
    text = f"{method} {target} SIP/2.0\n" + _DIALOG.format(to=to, cseq=number)
    if method in ("INVITE", "UPDATE"):
        text += "Contact: <sip:sipp@[local_ip]:[local_port]>\n"
    text += headers
    text += f"Content-Type: application/sdp\nContent-Length: [len]\n\n{sdp}" if sdp else "Content-Length: 0\n"
    resent = ' retrans="500"' if retrans else ""
    return f"<send{resent}><![CDATA[\n{text}\n]]></send>\n"


def receive(status: int, *, optional: bool = False, actions: str = "", rrs: bool = False) -> str:
    """One ``<recv>`` of a response."""
    more = ' optional="true"' if optional else ""
    more += ' rrs="true"' if rrs else ""
    body = f"<action>{actions}</action>" if actions else ""
    return f'<recv response="{status}"{more} timeout="12000">{body}</recv>\n'


def must_hold(pattern: str, *, header: str | None = None, number: int = 1) -> str:
    """An action: fail the call unless the header, or the whole message, holds the pattern."""
    where = f'search_in="hdr" header="{header}:"' if header else 'search_in="msg"'
    return f'<ereg regexp="{pattern}" {where} check_it="true" assign_to="{number}"/>'


def expect(method: str, *, within_ms: int = 12_000, actions: str = "") -> str:
    """One ``<recv>`` of a request."""
    body = f"<action>{actions}</action>" if actions else ""
    return f'<recv request="{method}" timeout="{within_ms}">{body}</recv>\n'


def respond(status: str, headers: str = "", sdp: str = "") -> str:
    """Answer the request that was received last."""
    return (
        f"<send><![CDATA[\nSIP/2.0 {status}\n[last_Via:]\n[last_From:]\n[last_To:]\n[last_Call-ID:]\n[last_CSeq:]\n"
        f"Contact: <sip:sipp@[local_ip]:[local_port]>\n{headers}"
        + (f"Content-Type: application/sdp\nContent-Length: [len]\n\n{sdp}" if sdp else "Content-Length: 0\n")
        + "\n]]></send>\n"
    )


def pause(milliseconds: int) -> str:
    return f'<pause milliseconds="{milliseconds}"/>\n'


def play(file: str) -> str:
    """Play a raw file over and over from the one port, or a pcap once from the call's own port."""
    kind = f'play_pcap_audio="{file}"' if file.endswith(".pcap") else f'rtp_stream="{file},-1,0"'
    return f"<nop><action><exec {kind}/></action></nop>\n"


STOP_PLAYING = '<nop><action><exec rtp_stream="pause"/></action></nop>\n'
PROVISIONAL = receive(100, optional=True) + receive(180, optional=True) + receive(183, optional=True)
ACK = request("ACK", cseq=1, retrans=False)


def hung_up(cseq: int = 2) -> str:
    """We hang up."""
    return request("BYE", cseq=cseq) + receive(200)


def answered(sdp: str, actions: str = "", headers: str = "") -> str:
    """INVITE, 200, ACK."""
    return (
        request("INVITE", cseq=1, sdp=sdp, in_dialog=False, headers=headers)
        + PROVISIONAL
        + receive(200, rrs=True, actions=actions)
        + ACK
    )


def refused(status: int, sdp: str, actions: str = "") -> str:
    """INVITE, the refusal, ACK."""
    # RFC 3261 section 17.1.1.3: the INVITE's own branch and URI; SIPp counts back over the scenario's messages.
    ack = ACK.replace("[next_url]", TARGET).replace("[branch]", "[branch-5]")
    return request("INVITE", cseq=1, sdp=sdp, in_dialog=False) + PROVISIONAL + receive(status, actions=actions) + ack


def scenario(*parts: str, variables: str = "") -> str:
    """A scenario file's text. ``variables`` names those that are set and not read."""
    reference = f'<Reference variables="{variables}"/>' if variables else ""
    return (
        '<?xml version="1.0" encoding="UTF-8" ?>\n<!DOCTYPE scenario SYSTEM "sipp.dtd">\n'
        '<scenario name="agentstream">\n' + "".join(parts) + f"{reference}</scenario>\n"
    )


class Sipp:
    """One running SIPp, and how it ended."""

    def __init__(self, program: Program, folder: Path, calls: int, port: int, media_port: int) -> None:
        self.program = program
        self.folder = folder
        self.port = port
        self.media_port = media_port
        self._calls = calls

    def finish(self, within_s: float = 60.0) -> None:
        """Wait for the end; every call must have done what the scenario says."""
        status = self.program.wait(within_s=within_s)
        errors = "\n".join(path.read_text()[-3000:] for path in sorted(self.folder.glob("*_errors.log")))
        assert status == 0, f"sipp ended with status {status}:\n{errors}\n{self.program.output[-3000:]}"
        done = [int(count) for count in re.findall(r"Successful call\s*\|\s*\d+\s*\|\s*(\d+)", self.program.output)]
        assert done and done[-1] == self._calls, self.program.output[-3000:]
        report.calls_completed("SIPp", report.version_of("sipp"), self._calls)


@contextmanager
def sipp(
    folder: Path,
    address: str,
    *,
    text: str = "",
    builtin: str = "",
    service: str = "1000",
    calls: int = 1,
    rate: float = 10,
    host: str = "127.0.0.1",
    media_ports: int = 4,
    transport: str = "u1",
    within_s: int = 55,
    port: int = 0,
    options: Sequence[str] = (),
) -> Iterator[Sipp]:
    """Run a scenario, given as its text or as the name of one that SIPp has built in.

    :param rate: calls a second.
    :param within_s: how long the whole run may take.
    :param port: of its own; 0 for a free one.
    :param transport: as SIPp's ``-t``: u1 is UDP, t1 one TCP connection for all calls, tn one for each.
    :param options: more of SIPp's own.
    """
    if builtin or "play_pcap_audio" in text:
        require(root=True)
    folder.mkdir(parents=True, exist_ok=True)
    if builtin:
        which = ["-sn", builtin]
        if not (folder / "pcap").exists():
            (folder / "pcap").symlink_to("/usr/share/sip-tester")
    else:
        (folder / "scenario.xml").write_text(text)
        which = ["-sf", "scenario.xml"]
    port, media_port = port or free_udp_port(host), free_udp_block(media_ports, host)
    arguments = ["sipp", *which, "-i", host, "-p", port, "-mi", host, "-mp", media_port, "-s", service]
    arguments += [
        *options,
        "-t",
        transport,
        "-m",
        calls,
        "-r",
        rate,
        "-l",
        calls,
        "-nostdin",
        "-max_socket",
        1000,
        "-trace_err",
        "-timeout",
        within_s,
        "-timeout_error",
        address,
    ]
    with Program("sipp", [str(argument) for argument in arguments], cwd=folder) as program:
        if transport.startswith("u"):
            _wait_until_bound(program, port)
        yield Sipp(program, folder, calls, port, media_port)


def _wait_until_bound(program: Program, port: int, within_s: float = 10.0) -> None:
    """Until it has its port: what came before that would be refused by ICMP, and nobody rings again."""
    deadline, pause = time.monotonic() + within_s, threading.Event()
    while program.process.poll() is None:
        if any(f":{port:04X} " in table.read_text() for table in Path("/proc/net").glob("udp*")):
            return
        if time.monotonic() > deadline:
            pytest.fail(f"SIPp has not bound port {port} within {within_s:g} s; it printed:\n{program.output[-3000:]}")
        pause.wait(0.01)
