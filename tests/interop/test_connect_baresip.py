"""A phone registers, and a flow connects the caller with it: two baresips talk through the server."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from tests.certificates import Authority
from tests.interop.peers import report
from tests.interop.peers.baresip import Baresip, baresip
from tests.interop.peers.programs import SOUNDS
from tests.interop.peers.server import Server, server
from tests.interop.peers.signals import Samples, read_wav

# A call takes seconds, and the phones take time to start.
pytestmark = [pytest.mark.peers("baresip"), pytest.mark.slow]

ALICE_SAYS, BOB_SAYS = SOUNDS / "demo-instruct.wav", SOUNDS / "demo-congrats.wav"
FLOW = 'name = "NAME"\nstart = "desk"\n[step.desk]\napplet = "connect"\nto = "alice"\n'
PHONE = (
    '[[trunk]]\nname = "callers"\naddress = ["127.0.0.0/8"]\n'
    '[access]\nalgorithms = ["MD5"]\n[[phone]]\nuser = "alice"\npassword = "wonderland"\n'
)
SECRET = ";auth_user=alice;auth_pass=wonderland"
MOST_S = 20.0
HALF_SECOND = 4000


def alike(heard: Samples, wav: Path) -> int:
    """How many half seconds of what was heard are in the file; the playout delay moves them against each other."""
    spoken, count = read_wav(wav)[: int(MOST_S * 8000)], 0
    powers = np.cumsum(np.concatenate(([0.0], spoken**2)))
    levels = np.sqrt(np.maximum(powers[HALF_SECOND:] - powers[:-HALF_SECOND], 1e6))
    for begin in range(0, len(heard) - HALF_SECOND, HALF_SECOND):
        if count >= 3:
            break
        piece = heard[begin : begin + HALF_SECOND]
        if np.abs(piece).max() > 500:
            shifts = np.correlate(spoken, piece, "valid")
            count += bool((shifts / (np.linalg.norm(piece) * levels)).max() > 0.8)
    return count


def heard_by(phone: Baresip) -> Samples:
    """What it has heard so far: the header of a file that is still being written does not say how much that is."""
    if not any((phone.folder / "rec").glob("dump-*-dec.wav")):
        return np.zeros(0)  # the call is up, and its first frame is still to come
    sound = phone.heard().read_bytes()[44:]
    return np.frombuffer(sound[: len(sound) // 2 * 2], "<i2").astype(np.float64)


def wait_until_heard(phone: Baresip, wav: Path, other: Path) -> None:
    """It hears this one and not the other one."""
    deadline = time.monotonic() + MOST_S
    while alike(heard_by(phone), wav) < 3:
        assert time.monotonic() < deadline, len(heard_by(phone))
        phone.pass_time(1.0)
    assert alike(heard_by(phone), other) == 0


@pytest.mark.rfc(5626)
@pytest.mark.parametrize(("transport", "codec", "ends"), [("udp", "PCMA", "caller"), ("tls", "PCMU", "callee")])
def test_two_phones_talk(tmp_path: Path, transport: str, codec: str, ends: str) -> None:
    """Over TLS with SRTP, too, while the caller has neither."""
    more, account, modules = PHONE, SECRET, ""
    if transport == "tls":
        certificate, key = Authority().sign("127.0.0.1").write(tmp_path)
        more += f'[registrar]\nsrtp = "required"\n[tls]\ncertificate = "{certificate}"\nkey = "{key}"\n'
        account, modules = f"{SECRET};mediaenc=srtp-mand", "module srtp.so\n"
    listen = ("udp:PORT:interface=127.0.0.1", "tls:PORT:interface=127.0.0.1")[: 1 + (transport == "tls")]
    with server(tmp_path / "server", {"desk": FLOW}, [("*", "desk")], listen=listen, more=more) as one:
        address = f"<sip:alice@{one.address};transport={transport}>;regint=60"
        with (
            baresip(tmp_path / "alice", ALICE_SAYS, codec, more=modules, account=account, address=address) as alice,
            baresip(tmp_path / "bob", BOB_SAYS) as bob,
        ):
            one.program.wait_for("phone alice has 1 contacts")
            talk(one, alice, bob, ends)
            agreed = one.program.wait_for("dialed_media_agreed.* srtp=(\\S*)")[1]
            assert bool(agreed) == (transport == "tls"), agreed
        one.check()
    report.calls_completed("baresip", report.version_of("baresip"))


def talk(one: Server, alice: Baresip, bob: Baresip, ends: str) -> None:
    """Bob calls, alice answers by herself, and one of them hangs up: the other one hears of it."""
    bob.dial(one.uri("1000"))
    bob.wait_for("CALL_ESTABLISHED")
    alice.wait_for("CALL_ESTABLISHED")
    one.program.wait_for("connected step=desk target=alice|connected target=alice")
    wait_until_heard(bob, ALICE_SAYS, BOB_SAYS)
    wait_until_heard(alice, BOB_SAYS, ALICE_SAYS)
    (bob if ends == "caller" else alice).hang_up()
    bob.wait_for("CALL_CLOSED")
    alice.wait_for("CALL_CLOSED")
    by = "caller" if ends == "caller" else "callee"
    one.program.wait_for(f"connect_ended outcome=done status=.* by={by}")
