"""A registered baresip and the pings that keep the way to it open, over UDP and TCP, until it is gone."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from tests.interop.peers import report
from tests.interop.peers.baresip import baresip
from tests.interop.peers.programs import SOUNDS, free_tcp_port
from tests.interop.peers.server import bot_flow, metric, server

# A phone starts, registers, and is pinged for some seconds.
pytestmark = [pytest.mark.peers("baresip"), pytest.mark.slow, pytest.mark.rfc(5626)]

CONFIG = """\
[access]
algorithms = ["MD5"]
[http]
listen = "tcp:{port}:interface=127.0.0.1"
[registrar]
file = "{file}"
ping_s = 1.0
keepalive = "{by}"
[[phone]]
user = "alice"
password = "wonderland"
"""
SECRET = ";auth_user=alice;auth_pass=wonderland"


@pytest.mark.parametrize("transport", ["udp", "tcp"])
@pytest.mark.parametrize("by", ["crlf", "options"])
def test_a_phone_is_pinged_until_it_is_gone(tmp_path: Path, transport: str, by: str) -> None:
    port = free_tcp_port()
    more = CONFIG.format(port=port, file=tmp_path / "phones.db", by=by)
    listen = tuple(f"{one}:PORT:interface=127.0.0.1" for one in ("udp", "tcp"))
    flow = {"echo": bot_flow("ws://127.0.0.1:9")}
    with server(tmp_path / "server", flow, [("*", "echo")], listen=listen, more=more) as one:
        address = f"<sip:alice@{one.address};transport={transport}>;regint=600"
        with baresip(tmp_path / "phone", SOUNDS / "vm-options.wav", address=address, account=SECRET) as phone:
            one.program.wait_for("phone alice has 1 contacts")
            begun = time.monotonic()
            while metric(port, "sip_pings_total") < 3:
                assert time.monotonic() - begun < 10
                phone.pass_time(0.2)
            phone.pass_time(0.5)
            assert metric(port, "phone_contacts{") == 1
            assert metric(port, "phone_contacts_silent") == 0
            # The phone is none the worse for it, and answers what is to be answered.
            answered = metric(port, 'sip_responses_received_total.*method="OPTIONS"')
            assert (answered >= 2) == (by == "options")
            begun = time.monotonic()
            phone.program.end(by=signal.SIGKILL)
            if transport == "tcp":
                one.program.wait_for("phone alice has 0 contacts", within_s=10)
            elif by == "options":
                one.program.wait_for("a contact of phone alice at .* leaves our pings unanswered", within_s=30)
            took_s = time.monotonic() - begun
            assert metric(port, "phone_contacts_silent") == (transport == "udp" and by == "options")
        one.check()
    if by == "options":
        report.figure(
            f"a baresip over {transport} that is killed is known to be gone after {took_s:.1f} s (ping_s = 1)"
        )
    report.calls_completed("baresip", report.version_of("baresip"))
