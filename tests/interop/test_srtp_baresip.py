"""baresip with mandatory SRTP over TLS: the bot hears it, it hears the bot, and the wire tells nothing."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from tests.certificates import Authority
from tests.interop.peers import report
from tests.interop.peers.baresip import baresip
from tests.interop.peers.captures import Capture, RtpPacket, rtp_packets
from tests.interop.peers.programs import SOUNDS
from tests.interop.peers.server import bot_flow, echo_bot, server
from tests.interop.peers.signals import best_second, correlation, linear, read_wav, recordings

# A call takes seconds, and the phone takes time to start.
pytestmark = [pytest.mark.peers("baresip", "tcpdump"), pytest.mark.slow]

SPEECH = SOUNDS / "vm-options.wav"
REQUIRED = '[[trunk]]\nname = "phones"\naddress = ["127.0.0.0/8"]\nsrtp = "required"\n'


def likeness(payloads: list[RtpPacket], said: np.ndarray) -> float:
    """How much a stream, taken for mu-law, is what was said."""
    sound = linear(b"".join(packet.payload[:160] for packet in payloads), 0)
    return correlation(sound, said[: len(sound)])


@pytest.mark.rfc(3711)
@pytest.mark.rfc(4568)
def test_a_bot_is_called_with_mandatory_srtp_over_tls(tmp_path: Path) -> None:
    authority = Authority()
    certificate, key = authority.sign("127.0.0.1").write(tmp_path)
    tls = f'[tls]\ncertificate = "{certificate}"\nkey = "{key}"\n'
    said = read_wav(SPEECH)
    with (
        echo_bot(tmp_path) as url,
        server(
            tmp_path / "server",
            {"echo": bot_flow(url)},
            [("echo", "echo")],
            listen=("tls:PORT:interface=127.0.0.1",),
            more=tls + REQUIRED,
        ) as one,
        baresip(tmp_path / "phone", SPEECH, more="module srtp.so\n", account=";mediaenc=srtp-mand") as phone,
        Capture(tmp_path, one.first_port, one.last_port) as capture,
    ):
        phone.dial(f"sip:echo@127.0.0.1:{one.sip_port};transport=tls")
        phone.wait_for("CALL_ESTABLISHED")
        phone.pass_time(2.0)
        phone.hold()
        one.program.wait_for("media_agreed.* may_send=False may_receive=True")
        phone.pass_time(0.5)
        held = len(one.program.lines)
        phone.resume()
        one.program.wait_for("media_agreed.* may_send=True may_receive=True", after=held)
        phone.pass_time(1.5)
        phone.hang_up()
        phone.wait_for("CALL_CLOSED")
        one.program.wait_for("leg_ended")
        packets = list(rtp_packets(capture.datagrams()))
        heard = recordings(phone.folder)
        lines = list(one.program.lines)
    agreed = [found[1] for line in lines if (found := re.search(r"media_agreed.* srtp=(\S+)", line))]
    assert len(agreed) == 3 and len(set(agreed)) == 1 and agreed[0], agreed
    (ended,) = (line for line in lines if "leg_ended" in line)
    # It pings by RTCP that begins with no report, the first time before it has our key.
    assert "authentication tag" not in ended and "came before" not in ended, ended
    assert re.search("rtp_rtcp_received=[1-9]", ended), ended
    assert not [line for line in lines if "whoever can read its SIP" in line]
    echo = best_second(heard, said)
    report.figure(f"baresip over TLS with {agreed[0]}: the echo correlates {echo:.3f} with what was said")
    assert echo > 0.8
    out = [packet for packet in packets if one.first_port <= packet.source[1] <= one.last_port]
    back = [packet for packet in packets if one.first_port <= packet.destination[1] <= one.last_port]
    for direction in (out, back):
        assert len(direction) > 120
        assert {len(packet.payload) for packet in direction} <= {164, 170, 176}
        assert likeness(direction, said) < 0.2
    report.calls_completed("baresip", report.version_of("baresip"))
