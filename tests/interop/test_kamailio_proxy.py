"""Kamailio as the proxy between phones and the server: it stays in each dialog by record-route (RFC 3261 section 16.6).

Between phones and Kamailio it is UDP, between Kamailio and the server UDP, TCP or TLS. Where the two differ, Kamailio
puts itself into the route set twice, once for each side.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import attrs
import pytest

from tests.certificates import Authority
from tests.interop.peers import report
from tests.interop.peers import sipp as s
from tests.interop.peers.baresip import baresip
from tests.interop.peers.house import ECHO, GOODBYE
from tests.interop.peers.kamailio import Kamailio, Secured, kamailio
from tests.interop.peers.programs import SOUNDS, require
from tests.interop.peers.server import Server, server

# Calls take seconds, and programs take time to start.
pytestmark = [pytest.mark.peers("kamailio", "sipp"), pytest.mark.slow, pytest.mark.rfc(3261)]

HOLDING = """
name = "NAME"
start = "hold"
[step.hold]
applet = "hold"
next = "resume"
[step.resume]
applet = "hold"
action = "resume"
next = "end"
[step.end]
applet = "hangup"
"""
ROUTES = "[routes]\n"


@attrs.frozen
class Fronted:
    """A server behind Kamailio.

    :ivar transport: between the two. :ivar routes: how often Kamailio is in a route set.
    """

    kamailio: Kamailio
    server: Server
    transport: str
    routes: int

    def passed(self, method: str) -> int:
        """How many requests of this method inside dialogs Kamailio has passed on."""
        return sum(f"in dialog: {method} " in line for line in self.kamailio.program.lines)


@pytest.fixture(scope="module", params=["udp", "tcp", "tls"])
def fronted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fronted]:
    require(SOUNDS)
    transport = request.param
    folder = tmp_path_factory.mktemp(f"fronted-{transport}")
    secured, more = None, ""
    if transport == "tls":
        # Each shows a certificate, and believes the other's by the authority of both.
        authority = Authority()
        certificate, key = authority.sign("127.0.0.1").write(folder)
        trusted = folder / "authority.pem"
        trusted.write_bytes(authority.pem)
        secured = Secured(certificate, key, trusted)
        more = f'[tls]\ncertificate = "{certificate}"\nkey = "{key}"\n'
        more += f'ca_file = "{trusted}"\nclient_ca_file = "{trusted}"\n'
    flows = {"echo": ECHO, "holding": HOLDING, "goodbye": GOODBYE}
    with ExitStack() as stack:
        one = stack.enter_context(
            server(
                folder / "server",
                flows,
                [(name, name) for name in flows],
                listen=(f"{transport}:PORT:interface=127.0.0.1",),
                more=more,
            )
        )
        target = f"sip:{one.address};transport={transport}"
        front = stack.enter_context(kamailio(folder / "kamailio", [target], secured))
        yield Fronted(front, one, transport, 1 if transport == "udp" else 2)
        one.check()


def by_kamailio(fronted: Fronted, number: int) -> str:
    """An action: the request has come through Kamailio."""
    return s.must_hold(f"Via: SIP/2.0/UDP {fronted.kamailio.address}", number=number)


def answered(fronted: Fronted, number: int) -> str:
    """INVITE, 200 with Kamailio's routes, ACK by way of them."""
    wanted = s.must_hold("[^,]*".join(["sip:127.0.0.1:[0-9]+;.*lr"] * fronted.routes), number=number)
    return (
        s.request("INVITE", cseq=1, sdp=s.offer(), in_dialog=False)
        + s.PROVISIONAL
        + s.receive(200, rrs=True, actions=wanted)
        + s.request("ACK", cseq=1, retrans=False, headers=ROUTES)
    )


def test_the_caller_changes_and_ends_the_call(fronted: Fronted, tmp_path: Path) -> None:
    """ACK, re-INVITE and BYE of the caller's go by the routes of our 200."""
    before = {method: fronted.passed(method) for method in ("ACK", "INVITE", "BYE")}
    held = s.offer(version=2).replace("a=sendrecv", "a=sendonly")
    text = s.scenario(
        answered(fronted, 1),
        s.pause(200),
        s.request("INVITE", cseq=2, sdp=held, headers=ROUTES),
        s.PROVISIONAL,
        s.receive(200, actions=s.must_hold("a=recvonly", number=2)),
        s.request("ACK", cseq=2, retrans=False, headers=ROUTES),
        s.pause(200),
        s.request("BYE", cseq=3, headers=ROUTES),
        s.receive(200),
        variables="1,2",
    )
    with s.sipp(tmp_path / "uac", fronted.kamailio.address, text=text, service="echo", calls=3) as run:
        run.finish()
    after = {method: fronted.passed(method) - count for method, count in before.items()}
    assert after == {"ACK": 6, "INVITE": 3, "BYE": 3}
    fronted.kamailio.count(3)


def test_the_server_changes_and_ends_the_call(fronted: Fronted, tmp_path: Path) -> None:
    """Our re-INVITEs, their ACKs and our BYE go by the routes of the INVITE, and not straight to the Contact."""
    before = {method: fronted.passed(method) for method in ("ACK", "INVITE", "BYE")}
    agreed = [s.offer(version=2).replace("a=sendrecv", "a=recvonly"), s.offer(version=3)]
    changes = [
        s.expect("INVITE", actions=by_kamailio(fronted, 2) + s.must_hold(wanted, number=3))
        + s.respond("200 OK", sdp=sdp)
        + s.expect("ACK", actions=by_kamailio(fronted, 2))
        for wanted, sdp in zip(("a=sendonly", "a=sendrecv"), agreed, strict=True)
    ]
    text = s.scenario(
        answered(fronted, 1),
        *changes,
        s.expect("BYE", actions=by_kamailio(fronted, 2)),
        s.respond("200 OK"),
        variables="1,2,3",
    )
    with s.sipp(tmp_path / "uac", fronted.kamailio.address, text=text, service="holding", calls=3) as run:
        run.finish()
    after = {method: fronted.passed(method) - count for method, count in before.items()}
    assert after == {"ACK": 9, "INVITE": 6, "BYE": 3}
    fronted.kamailio.count(3)


@pytest.mark.peers("baresip")
@pytest.mark.parametrize("ends", ["phone", "server"])
def test_baresip_calls(fronted: Fronted, tmp_path: Path, ends: str) -> None:
    """A phone that holds, resumes and hangs up, and one that is hung up on."""
    before = len(fronted.server.program.lines)
    with baresip(tmp_path / "phone", SOUNDS / "vm-options.wav") as phone:
        phone.dial(fronted.kamailio.uri("echo" if ends == "phone" else "goodbye"))
        phone.wait_for("CALL_ESTABLISHED")
        if ends == "phone":
            phone.hold()
            fronted.server.program.wait_for("media_agreed.*may_send.*False", after=before)
            held = len(fronted.server.program.lines)
            phone.resume()
            fronted.server.program.wait_for("media_agreed", after=held)
            phone.hang_up()
        phone.wait_for("CALL_CLOSED")
        ended = fronted.server.program.wait_for(r"leg_ended.*", after=before)
    assert f"by={'user' if ends == 'phone' else 'server'}" in ended[0].replace("'", ""), ended[0]
    fronted.kamailio.count()
    report.calls_completed("baresip", report.version_of("baresip"))


def test_the_transport_is_that_between_the_two(fronted: Fronted, tmp_path: Path) -> None:
    before = len(fronted.server.program.lines)
    text = s.scenario(answered(fronted, 1), s.request("BYE", cseq=2, headers=ROUTES), s.receive(200), variables="1")
    with s.sipp(tmp_path / "uac", fronted.kamailio.address, text=text, service="echo") as run:
        run.finish()
    invited = fronted.server.program.wait_for("invite_received.*", after=before)
    assert f"transport={fronted.transport}" in invited[0], invited[0]
