"""baresip as a phone of ours: it registers and calls by its password, over UDP and TLS, and is reached by its flow."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.certificates import Authority
from tests.interop.peers import report
from tests.interop.peers.baresip import baresip
from tests.interop.peers.house import ECHO, GOODBYE
from tests.interop.peers.programs import SOUNDS
from tests.interop.peers.server import server

# A call takes seconds, and the phone takes time to start.
pytestmark = [pytest.mark.peers("baresip"), pytest.mark.slow]

# baresip 1.0 knows MD5, and gives up where any other algorithm is named.
PHONES = '[access]\nalgorithms = ["MD5"]\n[[phone]]\nuser = "alice"\npassword = "very-secret"\n'
ACCOUNT = ";auth_user=alice;auth_pass={}"


@pytest.mark.rfc(3261)
@pytest.mark.parametrize("transport", ["udp", "tls"])
def test_it_registers_and_calls(tmp_path: Path, transport: str) -> None:
    certificate, key = Authority().sign("127.0.0.1").write(tmp_path)
    more = PHONES + (f'[tls]\ncertificate = "{certificate}"\nkey = "{key}"\n' if transport == "tls" else "")
    flows = {"1000": ECHO, "2000": GOODBYE}
    listen = (f"{transport}:PORT:interface=127.0.0.1",)
    with server(tmp_path, flows, [(name, name) for name in flows], listen=listen, more=more) as one:
        log = one.program
        warned = [line for line in log.lines if "no listener has TLS" in line]
        assert len(warned) == (1 if transport == "udp" else 0)
        ours = f"<sip:alice@{one.address};transport={transport}>;regint=60"
        account = ACCOUNT.format("very-secret")
        with baresip(tmp_path / "phone", SOUNDS / "vm-options.wav", account=account, address=ours) as phone:
            phone.wait_for("REGISTER_OK")
            log.wait_for(f"phone alice has 1 contacts, by 127.0.0.1:[0-9]+ over {transport.upper()}")
            for number in ("1000", "2000"):
                before = len(log.lines)
                phone.dial(f"sip:{number}@127.0.0.1:{one.sip_port};transport={transport}")
                phone.wait_for("CALL_ESTABLISHED")
                if number == "1000":
                    phone.pass_time(1.0)
                    phone.hang_up()
                # Of 2000 the BYE is ours: it takes the way that the phone's own requests came by.
                phone.wait_for("CALL_CLOSED")
                log.wait_for("leg_ended", after=before)
                (invited,) = [line for line in log.lines[before:] if "invite_received" in line]
                assert "phone=alice" in invited and f"transport={transport}" in invited, invited
                report.calls_completed("baresip", report.version_of("baresip"))
        # What it has registered, it takes back.
        log.wait_for("phone alice has 0 contacts")
        assert "very-secret" not in log.output


@pytest.mark.rfc(3261)
def test_a_wrong_password_registers_nobody(tmp_path: Path) -> None:
    with server(tmp_path, {"1000": ECHO}, [("1000", "1000")], more=PHONES) as one:
        account, ours = ACCOUNT.format("wrong"), f"<sip:alice@{one.address}>;regint=60"
        with baresip(tmp_path / "phone", SOUNDS / "vm-options.wav", account=account, address=ours) as phone:
            phone.wait_for("REGISTER_FAIL")
        assert not [line for line in one.program.lines if "phone alice has" in line]
