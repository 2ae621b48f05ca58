"""SIPp and calls that move: reliable early media (RFC 3262), transfers (RFC 3515), digits by INFO (RFC 6086)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop.peers import sipp as s
from tests.interop.peers.programs import SOUNDS, require
from tests.interop.peers.server import Server, server

# A call takes seconds, and programs take time to start.
pytestmark = [pytest.mark.peers("sipp"), pytest.mark.slow]

EARLY = f"""
name = "NAME"
start = "music"
[step.music]
applet = "play"
file = "{SOUNDS / "vm-goodbye.wav"}"
early = true
next = "test"
[step.test]
applet = "echo"
"""
MOVE = """
name = "NAME"
start = "move"
[step.move]
applet = "transfer"
to = "2000"
[step.move.on]
failed = "test"
[step.test]
applet = "echo"
"""
MENU = """
name = "NAME"
start = "menu"
[step.menu]
applet = "send_digits"
digits = "1#"
next = "test"
[step.test]
applet = "echo"
"""
TRUNK = '[[trunk]]\nname = "gateway"\naddress = ["127.0.0.0/8"]\ndigits = "info"\n'
BEHIND_A_REQUEST = f"To: <{s.TARGET}>[peer_tag_param]"
"""The last To is then SIPp's own."""


@pytest.fixture(scope="module")
def moving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    require(SOUNDS)
    flows = {"early": EARLY, "move": MOVE, "menu": MENU}
    with server(tmp_path_factory.mktemp("moving"), flows, [(name, name) for name in flows], more=TRUNK) as one:
        yield one
        one.check()


@pytest.mark.rfc(3262)
def test_early_media_whose_183_is_acknowledged(moving: Server, tmp_path: Path) -> None:
    rseq = '<ereg regexp="[0-9]+" search_in="hdr" header="RSeq:" check_it="true" assign_to="1"/>'
    prack = s.request("PRACK", cseq=2, headers="RAck: [$1] 1 INVITE\n")
    text = s.scenario(
        s.request("INVITE", cseq=1, sdp=s.offer(), in_dialog=False, headers="Supported: 100rel\n"),
        s.receive(100, optional=True),
        s.receive(183, rrs=True, actions=rseq + s.must_hold("m=audio [0-9]+ RTP/AVP 0", number=2)),
        prack,
        s.receive(200, actions=s.must_hold("PRACK", header="CSeq", number=3)),
        s.receive(200, rrs=True, actions=s.must_hold("INVITE", header="CSeq", number=4)),
        s.request("ACK", cseq=1, retrans=False),
        s.pause(300),
        s.hung_up(3),
        variables="2,3,4",
    )
    with s.sipp(tmp_path / "early", moving.address, text=text, service="early") as run:
        run.finish()


def notify(cseq: int, status: str, state: str) -> str:
    text = s.request(
        "NOTIFY", cseq=cseq, sdp=f"SIP/2.0 {status}\n", headers=f"Event: refer\nSubscription-State: {state}\n"
    )
    return text.replace("application/sdp", "message/sipfrag").replace("[last_To:]", BEHIND_A_REQUEST)


@pytest.mark.rfc(3515)
def test_a_transfer_that_gets_through(moving: Server, tmp_path: Path) -> None:
    text = s.scenario(
        s.answered(s.offer()),
        s.expect("REFER", actions=s.must_hold("sip:2000@", header="Refer-To")),
        s.respond("202 Accepted"),
        notify(2, "180 Ringing", "active;expires=60"),
        s.receive(200),
        notify(3, "200 OK", "terminated;reason=noresource"),
        s.receive(200),
        s.expect("BYE"),
        s.respond("200 OK"),
        variables="1",
    )
    with s.sipp(tmp_path / "move", moving.address, text=text, service="move") as run:
        run.finish()


@pytest.mark.rfc(6086)
def test_digits_by_info(moving: Server, tmp_path: Path) -> None:
    text = s.scenario(
        s.answered(s.offer()),
        s.expect("INFO", actions=s.must_hold("Signal=1", number=1)),
        s.respond("200 OK"),
        s.expect("INFO", actions=s.must_hold("Signal=#", number=2)),
        s.respond("200 OK"),
        s.pause(300),
        s.hung_up().replace("[last_To:]", BEHIND_A_REQUEST),
        variables="1,2",
    )
    with s.sipp(tmp_path / "menu", moving.address, text=text, service="menu") as run:
        run.finish()
