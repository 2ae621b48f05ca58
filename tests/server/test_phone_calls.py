"""Calls that come from phones: by their passwords alone, under their own names, within limits, over their flows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agentstream.interfaces import CallerIdentity
from agentstream.testing.phone import Phone
from agentstream.testing.server import ServerUnderTest
from tests.server.kit import register
from tests.server.test_phones import CARRIER

ALICE = {"user": "alice", "password": "very-secret"}
BOB = {"user": "bob", "password": "bobs-secret"}
GOODBYE = {"start": "say", "step": {"say": {"applet": "play", "file": "goodbye.wav"}}}
ECHO = {"start": "test", "step": {"test": {"applet": "echo"}}}
SAID = (
    "P-Asserted-Identity: <sip:chief@example.com>\r\nDiversion: <sip:other@example.com>;reason=no-answer\r\n"
    "Privacy: id\r\nHistory-Info: <sip:first@example.com>;index=1\r\n"
)


def server(folder: Path, *phones: dict[str, Any], flow: Any = None, sounds: Any = None, **more: Any) -> ServerUnderTest:
    config = {"trunk": [CARRIER], "phone": list(phones or (ALICE, BOB)), "registrar": {"file": str(folder / "p.db")}}
    return ServerUnderTest(flow or ECHO, {**config, **more}, sounds=sounds)


def phone_of(
    one: ServerUnderTest, user: str = "alice", password: str = "very-secret", host: str = "127.0.0.9"
) -> Phone:
    return one.phone(host=host, user=user, credentials=(user, password))


def dialled(one: ServerUnderTest, phone: Phone, number: str = "1000", headers: str = "") -> list[int]:
    phone.dial(number, headers=headers)
    one.advance(0.3)
    return phone.statuses


@pytest.mark.rfc(3261)
def test_the_flow_that_it_registered_on_is_not_enough(tmp_path: Path) -> None:
    with server(tmp_path) as one:
        phone = one.phone(host="127.0.0.9", user="alice")
        assert register(one, phone) == 200
        assert dialled(one, phone) == [401]
        assert dialled(one, phone_of(one, password="wrong")) == [401, 403]
        assert dialled(one, phone_of(one)) == [401, 100, 200]


def test_who_never_registered_may_call(tmp_path: Path) -> None:
    with server(tmp_path) as one:
        assert dialled(one, phone_of(one, "bob", "bobs-secret"))[-1] == 200


def test_what_a_phone_says_of_itself_is_not_believed(tmp_path: Path) -> None:
    with server(tmp_path) as one:
        phone = phone_of(one)
        phone.sip.user = "chief"
        assert dialled(one, phone, headers=SAID)[-1] == 200
        (call,) = one.live_calls
        assert (call.caller, call.phone, call.trunk) == ("alice", "alice", "")
        assert call.identity == CallerIdentity(privacy=("id",)), "but that it wants to be nobody"
        phone.hang_up()
        one.advance(0.3)
        # A trunk is believed: who calls is its to know.
        trunk = one.phone(host="127.0.0.7", user="chief")
        assert dialled(one, trunk, headers=SAID)[-1] == 200
        (call,) = one.live_calls
        assert (call.caller, call.phone, call.trunk) == ("chief", "", "carrier")
        assert call.identity.asserted_user == "chief"


WHO = '''
"""who: notes whose call it is."""
import attrs
from twisted.internet.defer import succeed
from zope.interface import implementer
from agentstream.interfaces import Applet, IRun, Outcome

@attrs.frozen
class Options:
    pass

@implementer(IRun)
class Run:
    def __init__(self, call, options):
        self.call = call
    def start(self):
        self.call.event("who", phone=self.call.phone, trunk=self.call.trunk, caller=self.call.caller)
        return succeed("done")
    def stop(self, reason):
        pass

who = Applet(name="who", options=Options, run=Run, outcomes=(Outcome("done"),), needs_answer=False)
'''


def test_a_flow_can_tell_a_phone_from_a_trunk(tmp_path: Path) -> None:
    flow = {"start": "who", "step": {"who": {"applet": "who", "next": "test"}, "test": {"applet": "echo"}}}
    config = {"trunk": [CARRIER], "phone": [ALICE], "registrar": {"file": str(tmp_path / "p.db")}}
    with ServerUnderTest(flow, config, applets={"who": WHO}) as one:
        dialled(one, phone_of(one))
        dialled(one, one.phone(host="127.0.0.7", user="alice"))
        said = [(event.fields["phone"], event.fields["trunk"], event.fields["caller"]) for event in one.events("who")]
        assert said == [("alice", "", "alice"), ("", "carrier", "alice")]


@pytest.mark.rfc(8760)
def test_older_phones_get_the_one_algorithm_that_they_know(tmp_path: Path) -> None:
    with server(tmp_path, access={"algorithms": ["MD5"]}) as one:
        phone = phone_of(one)
        assert dialled(one, phone)[-1] == 200
        (asked,) = phone.responses[0].headers("www-authenticate")
        assert "algorithm=MD5" in asked
    with server(tmp_path) as one:
        phone = phone_of(one)
        assert dialled(one, phone)[-1] == 200
        first, second = phone.responses[0].headers("www-authenticate")
        assert "algorithm=SHA-256" in first and "algorithm=MD5" in second


def test_calls_follow_the_routes(tmp_path: Path) -> None:
    flows = [{**ECHO, "name": "one"}, {**ECHO, "name": "two"}]
    with server(tmp_path, flow=flows, route=[{"to": "1*", "flow": "one"}, {"to": "2*", "flow": "two"}]) as one:
        for number, flow in (("1000", "one"), ("2000", "two")):
            phone = phone_of(one)
            assert dialled(one, phone, number)[-1] == 200
            assert one.live_calls[0].flow.name == flow
            phone.hang_up()
            one.advance(0.3)
        assert dialled(one, phone_of(one), "3000") == [401, 100, 404]


@pytest.mark.rfc(3261)
def test_a_phone_that_has_all_its_calls_is_busy_and_the_other_is_not(tmp_path: Path) -> None:
    with server(tmp_path, {**ALICE, "max_calls": 1}, BOB) as one:
        first = phone_of(one)
        assert dialled(one, first)[-1] == 200
        second = phone_of(one)
        assert dialled(one, second)[-1] == 486
        assert "all 1 calls of this phone are up" in second.responses[-1].header("warning")
        assert dialled(one, phone_of(one, "bob", "bobs-secret"))[-1] == 200
        first.hang_up()
        one.advance(0.3)
        assert dialled(one, phone_of(one))[-1] == 200
        assert one.service.switchboard.refused_for == {"phone full": 1}


def test_too_many_new_calls_of_a_phone_a_second(tmp_path: Path) -> None:
    with server(tmp_path, {**ALICE, "calls_per_second": 0.5}, BOB) as one:
        assert dialled(one, phone_of(one))[-1] == 200
        late = phone_of(one)
        assert dialled(one, late)[-1] == 503
        assert late.responses[-1].header("retry-after") == "2"
        assert dialled(one, phone_of(one, "bob", "bobs-secret"))[-1] == 200
        assert one.service.switchboard.refused_for == {"phone rate": 1}


@pytest.mark.rfc(3261)
def test_inside_its_call_it_needs_no_credentials(tmp_path: Path) -> None:
    with server(tmp_path) as one:
        phone = phone_of(one)
        dialled(one, phone)
        phone.hold()
        one.advance(0.3)
        assert phone.statuses[-1] == 200
        phone.send(phone.sip.request("OPTIONS"))
        one.advance(0.1)
        assert phone.replies[-1].status == 200
        phone.hang_up()
        one.advance(0.3)
        assert phone.replies[-1].status == 200
        assert one.live_calls == []


@pytest.mark.rfc(3581)
def test_behind_nat_answers_and_our_bye_take_the_way_that_it_came_by(tmp_path: Path) -> None:
    """Its Contact and Via name an address that leads nowhere from here; a trunk's would be believed."""
    for phones, host in ((True, "127.0.0.9"), (False, "127.0.0.7")):
        with server(tmp_path, flow=GOODBYE, sounds={"goodbye.wav": np.full(4000, 500, np.int16)}) as one:
            phone = phone_of(one, host=host)
            phone.sip.host = "127.0.0.250"
            assert dialled(one, phone)[-1] == 200
            one.advance(2)
            assert phone.ended_by == ("server" if phones else "")


def test_loopback_may_call_only_where_nobody_is_named(tmp_path: Path) -> None:
    file = {"registrar": {"file": str(tmp_path / "p.db")}}
    with ServerUnderTest(ECHO, {"phone": [ALICE], **file}) as one:
        assert dialled(one, one.phone(host="127.0.0.1", user="alice")) == [401]
        assert dialled(one, phone_of(one, host="127.0.0.1"))[-1] == 200
    with ServerUnderTest(ECHO) as one:
        assert dialled(one, one.phone(host="127.0.0.1", user="alice"))[-1] == 200


def test_the_first_phone_comes_and_goes_by_a_reload(tmp_path: Path) -> None:
    config = {"trunk": [CARRIER], "registrar": {"file": str(tmp_path / "q.db")}}
    with ServerUnderTest(ECHO, config) as one:
        phone = phone_of(one)
        phone.send(phone.sip.request("REGISTER", uri="sip:here"))
        one.advance(0.1)
        assert phone.replies[-1].status == 403
        file = one.loaded.file
        before = file.read_text()
        file.write_text('phone = [{user = "alice", password = "very-secret"}]\n' + before)
        one.service.reload()
        assert register(one, phone) == 200
        assert dialled(one, phone)[-1] == 200
        assert one.service.phones is not None and len(one.service.phones.bindings("alice")) == 1
        assert any("no listener has TLS" in line for line in one.log)
        file.write_text(before)
        one.service.reload()
        assert one.service.phones.bindings("alice") == []
        phone = phone_of(one)
        assert dialled(one, phone) == [403]
