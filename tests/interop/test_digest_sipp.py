"""Digest against SIPp, both ways: it is asked and answers, and it asks us and checks what we answer."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.interop.peers import sipp as s
from tests.interop.peers.house import ECHO, GOODBYE
from tests.interop.peers.server import Server, server

# A call takes seconds, and programs take time to start.
pytestmark = [pytest.mark.peers("sipp"), pytest.mark.slow]

FLOWS = {"echo": ECHO, "goodbye": GOODBYE}
ROUTES = [(name, name) for name in FLOWS]
# SIPp 3.6.1 knows MD5, and takes the first challenge there is.
MD5 = '[access]\nalgorithms = ["MD5"]\n'
OFFICE = '[[trunk]]\nname = "office"\nknown_by = "digest"\nuser = "pbx"\npassword = "right"\n'
ALICE = '[[phone]]\nuser = "alice"\npassword = "very-secret"\n'
CHALLENGE = 'WWW-Authenticate: Digest realm="sipp", nonce="{nonce}", algorithm=MD5, qop="auth"\n'


def asked(proof: str, status: int = 200) -> str:
    """INVITE, 401, and the INVITE again with what SIPp makes of the challenge; then the call, or its refusal."""
    first = s.request("INVITE", cseq=1, sdp=s.offer(), in_dialog=False)
    challenged = s.receive(100, optional=True) + s.receive(401).replace("<recv ", '<recv auth="true" ', 1)
    ack = s.request("ACK", cseq=1, retrans=False).replace("[next_url]", s.TARGET).replace("[branch]", "[branch-3]")
    again = s.request("INVITE", cseq=2, sdp=s.offer(), in_dialog=False, headers=f"{proof}\n")
    if status != 200:
        refused = s.request("ACK", cseq=2, retrans=False).replace("[next_url]", s.TARGET)
        return first + challenged + ack + again + s.PROVISIONAL + s.receive(status) + refused
    up = s.receive(200, rrs=True) + s.request("ACK", cseq=2, retrans=False)
    return first + challenged + ack + again + s.PROVISIONAL + up + s.pause(300) + s.hung_up(3)


@pytest.mark.rfc(7616)
@pytest.mark.rfc(3261)
@pytest.mark.parametrize("transport", ["u1", "t1"])
def test_it_calls_as_a_trunk_and_as_a_phone(tmp_path: Path, transport: str) -> None:
    listen = ("udp:PORT:interface=127.0.0.1", "tcp:PORT:interface=127.0.0.1")
    with server(tmp_path, FLOWS, ROUTES, listen=listen, more=MD5 + OFFICE + ALICE) as one:
        for name, options in (
            ("pbx", ("-au", "pbx", "-ap", "right")),
            ("alice", ("-au", "alice", "-ap", "very-secret")),
        ):
            text = s.scenario(asked("[authentication]"))
            folder = tmp_path / name
            with s.sipp(
                folder, one.address, text=text, service="echo", transport=transport, options=options, calls=3
            ) as run:
                run.finish()
        wrong = s.scenario(asked("[authentication username=alice password=wrong]", 403))
        with s.sipp(tmp_path / "wrong", one.address, text=wrong, service="echo", transport=transport) as run:
            run.finish()
        invited = [line for line in one.program.lines if "invite_received" in line]
        assert [line.count("trunk=office") for line in invited] == [1, 1, 1, 0, 0, 0]
        assert [line.count("phone=alice") for line in invited] == [0, 0, 0, 1, 1, 1]


def verified(method: str, number: int, good: str, *, password: str = "right") -> str:
    """The next request of this method, answered ``good`` where its credentials are right, and 403 where not."""
    check = f'<verifyauth assign_to="{number}" username="us" password="{password}"/>'
    return (
        s.expect(method, actions=check)
        + f'<nop test="{number}" next="{number}"/>\n'
        + s.respond("403 Forbidden")
        + '<nop next="9"/>\n'
        + f'<label id="{number}"/>\n'
        + good
    )


def challenged(method: str, nonce: str) -> str:
    return s.expect(method) + s.respond("401 Unauthorized", headers=CHALLENGE.format(nonce=nonce))


def line_of(one: Server, pattern: str) -> str:
    one.program.wait_for(pattern)
    return next(line for line in one.program.lines if pattern in line)


@pytest.mark.rfc(7616)
@pytest.mark.rfc(3261)
@pytest.mark.parametrize("password", ["right", "wrong"])
def test_we_register_at_it(tmp_path: Path, password: str) -> None:
    granted = s.respond("200 OK", headers="Expires: 600\n").replace(
        "Contact: <sip:sipp@[local_ip]:[local_port]>\n", "[last_Contact:]\n"
    )
    text = challenged("REGISTER", "first")
    text += verified("REGISTER", 1, granted, password=password)
    # At our end the binding is taken back: with the known nonce, counted on.
    text += s.expect("REGISTER", actions=s.must_hold("nc=00000002", header="Authorization", number=2))
    text += s.respond("200 OK") + '<label id="9"/>\n'
    with s.sipp(tmp_path / "registrar", "127.0.0.1:9", text=s.scenario(text, variables="2")) as run:
        trunk = (
            f'[[trunk]]\nname = "carrier"\naddress = ["127.0.0.5"]\nuser = "us"\npassword = "right"\n'
            f'register_at = ["sip:127.0.0.1:{run.port}"]\n'
        )
        with server(tmp_path, FLOWS, ROUTES, more=trunk) as one:
            said = line_of(one, "the registration of trunk carrier")
            assert ("is registered" in said) == (password == "right"), said
            if password == "wrong":
                assert "403" in said
        run.finish()


@pytest.mark.rfc(7616)
@pytest.mark.rfc(3261)
def test_our_bye_is_asked_for_credentials(tmp_path: Path) -> None:
    trunk = '[[trunk]]\nname = "carrier"\naddress = ["127.0.0.0/8"]\nuser = "us"\npassword = "right"\n'
    text = s.answered(s.offer()) + challenged("BYE", "second")
    text += verified("BYE", 1, s.respond("200 OK") + '<label id="9"/>\n')
    with (
        server(tmp_path, FLOWS, ROUTES, more=trunk) as one,
        s.sipp(tmp_path / "caller", one.address, text=s.scenario(text), service="goodbye") as run,
    ):
        run.finish()


CONNECT = 'name = "NAME"\nstart = "ring"\n[step.ring]\napplet = "connect"\nto = "2000"\n'


@pytest.mark.rfc(7616)
@pytest.mark.rfc(3261)
def test_our_call_is_asked_for_credentials(tmp_path: Path) -> None:
    """INVITE, ACK and BYE of ours: the BYE brings along what the INVITE was asked for, counted on."""
    answer = s.offer("0", attributes="a=rtpmap:0 PCMU/8000\na=sendrecv")
    ack = s.expect("ACK")
    text = challenged("INVITE", "third") + ack
    text += verified("INVITE", 1, s.respond("200 OK", sdp=answer))
    text += s.expect("ACK", actions=s.must_hold("nc=00000001", header="Authorization", number=2))
    text += s.expect("BYE", actions=s.must_hold("nc=00000002", header="Authorization", number=3))
    text += s.respond("200 OK") + '<label id="9"/>\n'
    caller = s.scenario(s.answered(s.offer()), s.pause(500), s.hung_up())
    with s.sipp(tmp_path / "callee", "127.0.0.1:9", text=s.scenario(text, variables="2,3")) as callee:
        trunk = (
            '[[trunk]]\nname = "carrier"\naddress = ["127.0.0.0/8"]\nuser = "us"\npassword = "right"\n'
            f'server = "sip:127.0.0.1:{callee.port}"\nnumbers = ["2*"]\n'
        )
        flows = {"connect": CONNECT}
        with (
            server(tmp_path, flows, [("connect", "connect")], more=trunk) as one,
            s.sipp(tmp_path / "caller", one.address, text=caller, service="connect") as calling,
        ):
            calling.finish()
            callee.finish()
