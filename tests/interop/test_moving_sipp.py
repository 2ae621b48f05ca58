"""SIPp and baresip move calls: REFER to us (RFC 3515) with the target another SIPp, and re-INVITEs that meet (RFC 3261
section 14), as the side that owns the Call-ID and as the other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from tests.interop.peers import report
from tests.interop.peers import sipp as s
from tests.interop.peers.baresip import baresip
from tests.interop.peers.programs import free_udp_port
from tests.interop.peers.server import Server, server

# A call takes seconds, and programs take time to start.
pytestmark = [pytest.mark.peers("sipp"), pytest.mark.slow]

ECHO = """
name = "NAME"
start = "test"
[step.test]
applet = "echo"
seconds = 9
"""
HOLD = """
name = "NAME"
start = "hold"
[step.hold]
applet = "hold"
"""
BEHIND_A_REQUEST = f"To: <{s.TARGET}>[peer_tag_param]"
"""The last To is then SIPp's own."""
TAGGED = "[last_To:];tag=[pid]SIPpTag01[call_number]"


@attrs.frozen
class House:
    """A server, and the port that its trunk's numbers are called at."""

    server: Server
    port: int


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    port = free_udp_port("127.0.0.1")
    trunk = (
        '[[trunk]]\nname = "gateway"\naddress = ["127.0.0.0/8"]\nobeys = ["refer"]\n'
        f'server = "sip:127.0.0.1:{port}"\nnumbers = ["+49*"]\n'
    )
    flows = {"test": ECHO, "hold": HOLD}
    with server(tmp_path_factory.mktemp("moving"), flows, [(name, name) for name in flows], more=trunk) as one:
        yield House(one, port)
        one.check()


def take_call(sdp: str, actions: str) -> str:
    """An INVITE that rings for a moment and is answered."""
    return (
        s.expect("INVITE", actions=actions)
        + s.respond("180 Ringing").replace("[last_To:]", TAGGED)
        + s.pause(400)
        + s.respond("200 OK", sdp=sdp).replace("[last_To:]", TAGGED)
        + s.expect("ACK")
    )


NEXT_OFFER = s.expect("INVITE") + s.respond("200 OK", sdp=s.offer()) + s.expect("ACK")
LAST = s.expect("BYE") + s.respond("200 OK")


def referring() -> str:
    """A caller who sends us elsewhere, hears how that goes, and waits for our BYE."""
    headers = (
        "Contact: <sip:sipp@[local_ip]:[local_port]>\nRefer-To: <sip:+4930@anywhere.example>\n"
        "Referred-By: <sip:sipp@pbx.example>\n"
    )
    notified = "".join(
        s.expect("NOTIFY", actions=s.must_hold(f"SIP/2.0 {status}", number=number)) + s.respond("200 OK")
        for number, status in enumerate(("100", "180", "200"), 1)
    )
    return s.scenario(
        s.answered(s.offer()),
        s.pause(200),
        s.request("REFER", cseq=2, headers=headers),
        s.receive(202),
        notified,
        LAST,
        variables="1,2,3",
    )


@pytest.mark.rfc(3515)
@pytest.mark.rfc(3892)
def test_a_caller_sends_us_to_a_number_of_the_trunk(house: House, tmp_path: Path) -> None:
    kept = s.must_hold("sip:sipp@pbx.example", header="Referred-By")
    there = s.scenario(take_call(s.offer(), kept), NEXT_OFFER, LAST, variables="1")
    with s.sipp(tmp_path / "there", house.server.address, text=there, port=house.port) as target:
        with s.sipp(tmp_path / "here", house.server.address, text=referring(), service="test") as caller:
            caller.finish()
        target.finish()


@pytest.mark.peers("baresip")
@pytest.mark.rfc(3515)
def test_baresip_sends_us_elsewhere(house: House, tmp_path: Path, speech: dict[str, Path]) -> None:
    there = s.scenario(take_call(s.offer(), s.must_hold("INVITE")), NEXT_OFFER, LAST, variables="1")
    with (
        s.sipp(tmp_path / "there", house.server.address, text=there, port=house.port) as target,
        baresip(tmp_path / "phone", speech["menu"]) as phone,
    ):
        phone.dial(house.server.uri("test"))
        phone.wait_for("CALL_ESTABLISHED")
        phone.pass_time(0.5)
        phone.transfer("sip:+4930@anywhere.example")
        phone.wait_for("CALL_CLOSED")
        target.finish()
    report.calls_completed("baresip", report.version_of("baresip"))


@pytest.mark.rfc(3261)
def test_our_reinvite_in_a_call_of_ours_waits_longer_behind_491(house: House, tmp_path: Path) -> None:
    """Who made the Call-ID waits for 2.1 to 4 s, and nothing comes before that."""
    there = s.scenario(
        take_call(s.offer(), s.must_hold("INVITE")),
        s.expect("INVITE"),
        s.respond("491 Request Pending"),
        s.expect("ACK"),
        s.pause(2000),
        s.expect("INVITE", within_ms=2500),
        s.respond("200 OK", sdp=s.offer()),
        s.expect("ACK"),
        LAST,
        variables="1",
    )
    with s.sipp(tmp_path / "there", house.server.address, text=there, port=house.port) as target:
        with s.sipp(tmp_path / "here", house.server.address, text=referring(), service="test") as caller:
            caller.finish()
        target.finish()


@pytest.mark.rfc(3261)
def test_our_reinvite_in_a_call_of_theirs_comes_again_within_two_seconds(house: House, tmp_path: Path) -> None:
    text = s.scenario(
        s.answered(s.offer()),
        s.expect("INVITE"),
        s.respond("491 Request Pending"),
        s.expect("ACK"),
        s.expect("INVITE", within_ms=2500),
        s.respond("200 OK", sdp=s.offer()),
        s.expect("ACK"),
        LAST,
    )
    with s.sipp(tmp_path / "hold", house.server.address, text=text, service="hold") as run:
        run.finish()


@pytest.mark.rfc(3261)
def test_reinvites_that_meet(house: House, tmp_path: Path) -> None:
    """Each side refuses the other's with 491; ours comes again first, for they own the Call-ID, and then theirs."""
    kept = "".join(
        f'<ereg regexp=".*" search_in="hdr" header="{name}:" assign_to="{number}"/>'
        for number, name in enumerate(("Via", "CSeq", "From", "To"), 1)
    )
    theirs = s.request("INVITE", cseq=2, sdp=s.offer(version=2)).replace(
        "[last_To:]", f"To: <{s.TARGET}>[peer_tag_param]"
    )
    ack = s.request("ACK", cseq=2, retrans=False).replace("[branch]", "[branch-2]")
    ours = (
        "<send><![CDATA[\nSIP/2.0 491 Request Pending\nVia:[$1]\nFrom:[$3]\nTo:[$4]\nCall-ID: [call_id]\n"
        "CSeq:[$2]\nContent-Length: 0\n\n]]></send>\n"
    )
    text = s.scenario(
        s.answered(s.offer()),
        s.expect("INVITE", actions=kept),
        theirs,
        s.receive(491),
        ack,
        ours,
        s.expect("ACK"),
        NEXT_OFFER,
        LAST,
    )
    with s.sipp(tmp_path / "glare", house.server.address, text=text, service="hold") as run:
        run.finish()
