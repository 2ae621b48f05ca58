"""After a call nothing of it is in memory, without a garbage collector: whoever ends something lets go of it.

A cycle that holds a call lasts until a full collection, and that waits for slack (agentstream.media.slack).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import attrs
import pytest

from agentstream.cli.children import Child, Children, children
from agentstream.cli.phone import CallResult, Errand, Phone, run_phone
from agentstream.cli.server import HOST, free_port, wait_for_server
from tests.cli.fakes import noise

TIMERS_S = 70.0
"""Longer than any timer of an ended call: SIP's of 32 s (RFC 3261 section 17), a bot's close, resting ports."""

pytestmark = [
    pytest.mark.slow,  # whole calls of real programs, two seconds each
    pytest.mark.skipif(sys.platform != "linux", reason="open files are counted in Linux's /proc"),
]

NO_PORT = 9
"""Where no bot listens (RFC 863)."""


@attrs.frozen
class House:
    """A server with its bots beside it."""

    family: Children
    server: Child
    sip_port: int

    def call(self, user: str, seconds: float = 0.9) -> CallResult:
        errand = Errand(noise(4000), digits="1" if seconds > 0.8 else "", seconds=seconds)
        phone = Phone.open(f"sip:{user}@{HOST}:{self.sip_port}", errand)
        try:
            return run_phone(phone)
        finally:
            phone.close()

    def remains(self) -> dict[str, object]:
        """What is left when all timers have run out."""
        self.server.say("pass", seconds=TIMERS_S)
        return self.family.expect(self.server, "remains", 30)


BOT = 'applet = "voicebot"\n'


def steps(ports: dict[str, int]) -> dict[str, str]:
    """User part to dial -> the steps of its flow."""
    plain = f"ws://{HOST}:{ports['plain']}"
    web = f"http://{HOST}:{ports['web']}"
    one = '[step.a]\napplet = "voicebot"\nurl = "{}"\n{}'
    return {
        "echo": one.format(f"{plain}/echo", ""),
        "wide": one.format(f"{plain}/echo?sample-rate=16000", ""),
        "closes": one.format(f"{plain}/closes", ""),
        "gone": one.format(f"{plain}/gone", ""),
        "broken": one.format(f"{plain}/broken", ""),
        "nobody": one.format(f"ws://{HOST}:{NO_PORT}/", ""),
        "refused": one.format(f"ws://{HOST}:{ports['refusing']}/", ""),
        "named": one.format(f"ws://localhost:{ports['plain']}/echo", ""),
        "secure": one.format(f"wss://{HOST}:{ports['tls']}/echo", 'ca_file = "ca.pem"\n'),
        "untrusted": one.format(f"wss://{HOST}:{ports['tls']}/echo", ""),
        "asked": one.format(f"{web}/where", ""),
        "nowhere": one.format(f"{web}/nowhere", ""),
        "late": one.format(f"{web}/late", ""),
        "recorded": one.format(f"{plain}/echo", "record = true\n"),
        "barged": one.format(f"{plain}/echo", 'barge_in = "pause"\n'),
        "heard": (
            f'[step.a]\napplet = "stream"\nurl = "{plain}/echo"\ntrack = "both"\nnext = "b"\n'
            f'[step.b]\napplet = "voicebot"\nurl = "{plain}/echo"\n'
        ),
    }


USERS = tuple(steps(dict.fromkeys(("plain", "tls", "refusing", "web"), 1)))


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("remains")
    flows = folder / "flows"
    flows.mkdir()
    port = free_port()
    with children() as family:
        bots = family.start("bots", ["-m", "tests.remains.bots", str(flows / "ca.pem")])
        ports = family.expect(bots, "listening", 30)
        lines = [
            f'[sip]\nlisten = ["udp:{port}:interface={HOST}"]',
            f'[media]\nlisten = "{HOST}"\nports = "20000-31999"\nmax_calls = 10',
            "[stream]\nallow_private = true",
            f'[recording]\nfolder = "{folder}"',
            '[flows]\npath = ["flows"]',
        ]
        for user, text in steps(ports).items():
            (flows / f"{user}.toml").write_text(f'name = "{user}"\nstart = "a"\n{text}')
            lines.append(f'[[route]]\nto = "{user}"\nflow = "{user}"')
        config = folder / "agentstream.toml"
        config.write_text("\n".join(lines) + "\n")
        server = family.start("server", ["-m", "tests.remains.server", str(config)])
        family.expect(server, "ready", 30)
        wait_for_server(family, server, port)
        house = House(family, server, port)
        for user in ("wide", "secure", "asked", "recorded"):  # the first of its kind makes what all of them share
            house.call(user)
        house.remains()
        yield house


def nothing_is_left(house: House) -> None:
    remains = house.remains()
    assert remains["left"] == {}
    assert remains["cycles"] == {}


@pytest.mark.parametrize("user", USERS)
def test_a_call_leaves_nothing(house: House, user: str) -> None:
    assert house.call(user).status == 200
    nothing_is_left(house)


def test_a_refused_call_leaves_nothing(house: House) -> None:
    assert house.call("unknown").status == 404
    nothing_is_left(house)


@pytest.mark.parametrize("user", ["echo", "secure", "asked", "named", "late"])
def test_a_call_that_ends_while_its_bot_is_called_leaves_nothing(house: House, user: str) -> None:
    assert house.call(user, seconds=0.0).status == 200
    nothing_is_left(house)


def test_calls_leave_no_open_file(house: House) -> None:
    before = house.remains()["open_files"]
    house.call("echo")
    house.call("recorded")
    assert house.remains()["open_files"] == before
