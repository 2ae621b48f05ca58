"""A phone registers over TLS, talks to a bot by SRTP, holds, resumes, and is transferred to another phone."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.certificates import Authority
from tests.interop.peers import report
from tests.interop.peers.baresip import baresip
from tests.interop.peers.captures import Capture, rtp_packets
from tests.interop.peers.programs import SOUNDS
from tests.interop.peers.server import bot_flow, scripted_bot, server
from tests.interop.peers.signals import best_second, correlation, linear, read_wav, recordings

# Two calls take seconds, and phones take time to start.
pytestmark = [pytest.mark.peers("baresip", "tcpdump"), pytest.mark.slow]

ALICE, BOB = SOUNDS / "vm-options.wav", SOUNDS / "demo-congrats.wav"

# baresip 1.0 knows MD5, and gives up where any other algorithm is named.
PHONES = """\
[access]
algorithms = ["MD5"]
[registrar]
srtp = "required"
[[phone]]
user = "alice"
password = "very-secret"
[[phone]]
user = "bob"
password = "most-secret"
"""

ON_TO_BOB = """\
next = "move"
[step.move]
applet = "transfer"
to = "sip:bob@127.0.0.1:PORT;transport=tls"
"""

RING_BOB = 'name = "NAME"\nstart = "ring"\n[step.ring]\napplet = "connect"\nto = "bob"\n'


TALK = (("alice", "bob"), ("bob", "alice"))


@pytest.mark.rfc(3515)
@pytest.mark.rfc(3711)
@pytest.mark.rfc(4568)
def test_it_registers_over_tls_talks_by_srtp_and_is_transferred_to_a_second_phone(tmp_path: Path) -> None:
    certificate, key = Authority().sign("127.0.0.1").write(tmp_path)
    more = PHONES + f'[tls]\ncertificate = "{certificate}"\nkey = "{key}"\n'

    def account(user: str, password: str) -> str:
        return f"<sip:{user}@127.0.0.1:{one.sip_port};transport=tls>;auth_user={user};auth_pass={password};regint=60"

    with (
        scripted_bot(tmp_path) as bot,
        server(
            tmp_path / "server",
            {"talk": bot_flow(f"{bot.url}/key") + ON_TO_BOB, "ring": RING_BOB},
            [("1000", "talk"), ("bob", "ring")],
            listen=("tls:PORT:interface=127.0.0.1",),
            more=more,
        ) as one,
        Capture(tmp_path, one.first_port, one.last_port) as capture,
    ):
        log, srtp = one.program, {"more": "module srtp.so\n", "account": ";mediaenc=srtp-mand"}
        with (
            baresip(tmp_path / "alice", ALICE, address=account("alice", "very-secret"), **srtp) as alice,
            baresip(tmp_path / "bob", BOB, address=account("bob", "most-secret"), **srtp) as bob,
        ):
            alice.wait_for("REGISTER_OK")
            bob.wait_for("REGISTER_OK")
            alice.dial(f"sip:1000@127.0.0.1:{one.sip_port};transport=tls")
            alice.wait_for("CALL_ESTABLISHED")
            alice.pass_time(2.0)
            alice.hold()
            log.wait_for("media_agreed.* may_send=False may_receive=True")
            alice.pass_time(0.5)
            held = len(log.lines)
            alice.resume()
            log.wait_for("media_agreed.* may_send=True may_receive=True", after=held)
            alice.pass_time(0.5)
            before = len(log.lines)
            alice.press("5")
            bob.wait_for("CALL_ESTABLISHED")
            # Her first call ends when she has got through, and the second goes on.
            log.wait_for("leg_ended", after=before)
            bob.pass_time(4.0)
            before = len(log.lines)
            bob.hang_up()
            bob.wait_for("CALL_CLOSED")
            log.wait_for("call_ended", after=before)
        # A recording is whole when its phone has ended.
        heard = {name: recordings(tmp_path / name) for name in ("alice", "bob")}
        packets = [packet for packet in rtp_packets(capture.datagrams()) if len(packet.payload) > 100]
        lines = list(log.lines)
    said = {name: read_wav(path) for name, path in (("alice", ALICE), ("bob", BOB))}
    likeness = {f"{name} hears {who}": best_second(heard[name], said[who]) for name, who in (("alice", "alice"), *TALK)}
    report.figure(
        "a phone and a bot, then two phones, over TLS by SRTP: "
        + ", ".join(f"{name} {value:.3f}" for name, value in likeness.items())
    )
    assert min(likeness.values()) > 0.8, likeness
    # Both calls were agreed to be SRTP each time: hers with the bot thrice, then one of two legs.
    agreed = [found[1] for line in lines if (found := re.search(r"media_agreed.* srtp=(\S*)", line))]
    assert len(agreed) == 5 and all(agreed), agreed
    for port in sorted({packet.source[1] for packet in packets}):
        sound = linear(b"".join(packet.payload[:160] for packet in packets if packet.source[1] == port), 0)
        assert all(correlation(sound[: len(one)], one[: len(sound)]) < 0.2 for one in said.values())
    (moved,) = [line for line in lines if "transfer_ended" in line]
    assert "is_done=True status=200" in moved, moved
    report.calls_completed("baresip", report.version_of("baresip"), 2)
