"""Phones that register at a whole server, call, and are there again after a restart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agentstream.errors import StartError
from agentstream.flow.bindings_file import BindingsFile, rows_of
from agentstream.flow.loader import load
from agentstream.sip.hop import Hop
from agentstream.sip.registrar import Binding
from agentstream.testing.server import ServerUnderTest
from tests.server.kit import bot_flow, register

CARRIER = {"name": "carrier", "address": ["127.0.0.7"]}


def server(file: Path, **more: Any) -> ServerUnderTest:
    phones = [{"user": "alice", "password": "very-secret"}]
    config = {"trunk": [CARRIER], "phone": phones, "registrar": {"file": str(file), "ping_s": 10.0}, **more}
    return ServerUnderTest(bot_flow(), config)


def bindings(one: ServerUnderTest) -> list[Binding]:
    assert one.service.phones is not None
    return one.service.phones.bindings("alice")


@pytest.mark.rfc(3261)
def test_a_phone_registers_and_calls(tmp_path: Path) -> None:
    with server(tmp_path / "phones.db") as one:
        one.bot()
        phone = one.phone(host="127.0.0.9", user="alice", credentials=("alice", "very-secret"))
        assert register(one, phone, "wrong") == 403
        assert bindings(one) == []
        assert register(one, phone) == 200
        (binding,) = bindings(one)
        assert binding.hop.host == "127.0.0.9"
        assert binding.contact == phone.sip.contact()[1:-1]
        phone.dial("1000")
        one.advance_until(lambda: phone.is_answered)
        (received,) = one.events("invite_received")
        assert received.fields["phone"] == "alice" and "trunk" not in received.fields
        phone.hang_up()
        one.advance(1)
        assert any("phone alice has 1 contacts, by 127.0.0.9:" in line for line in one.log)
        assert any("no listener has TLS" in line for line in one.log)
        assert "very-secret" not in "\n".join(one.log)
        assert register(one, phone, expires=0) == 200
        assert bindings(one) == []


def test_a_registered_phone_is_pinged_and_never_ignored(tmp_path: Path) -> None:
    with server(tmp_path / "phones.db", access={"ban_after": 3}) as one:
        phone = one.phone(host="127.0.0.9", user="alice")
        assert register(one, phone) == 200
        one.advance(35)
        assert one.service.edge.stack.counters["pings"] == 3
        for _ in range(5):
            assert register(one, phone, "wrong") == 403
        assert register(one, phone) == 200


def test_bindings_outlive_a_restart(tmp_path: Path) -> None:
    file = tmp_path / "phones.db"
    with server(file) as one:
        phone = one.phone(host="127.0.0.9", user="alice")
        assert register(one, phone) == 200
        (before,) = bindings(one)
    with server(file) as two:
        (after,) = bindings(two)
        assert (after.contact, after.hop, after.call_id) == (before.contact, before.hop, before.call_id)
        # The second server has the same wall clock, begun anew.
        assert after.until == pytest.approx(before.until)
        two.advance(1)
        # One that the config has no more is nowhere.
        assert two.service.phones is not None
        assert two.service.phones.bindings("bob") == []


def test_a_file_that_is_none_is_said_at_start(tmp_path: Path) -> None:
    file = tmp_path / "phones.db"
    file.write_text("no database, but long enough to be one" * 100)
    with pytest.raises(StartError, match=r"phones.db cannot be read .* move the file away"):
        BindingsFile(file).load(0.0)


def test_only_who_changed_is_written(tmp_path: Path) -> None:
    def binding(user: str, contact: str) -> Binding:
        return Binding(user, contact, "c", 1, 100.0, ("<sip:edge;lr>",), Hop("udp", "127.0.0.9", 5090, "u"))

    file = BindingsFile(tmp_path / "folder" / "phones.db")
    assert file.load(0.0) == []
    file.save({"a": rows_of([binding("a", "1"), binding("a", "2")], 50.0), "b": rows_of([binding("b", "3")], 50.0)})
    file.save({"a": rows_of([binding("a", "2")], 50.0)})
    file.close()
    file = BindingsFile(tmp_path / "folder" / "phones.db")
    found = file.load(50.0)
    assert sorted((one.user, one.contact, one.until, one.path) for one in found) == [
        ("a", "2", 100.0, ("<sip:edge;lr>",)),
        ("b", "3", 100.0, ("<sip:edge;lr>",)),
    ]
    file.close()


def test_without_tls_check_says_what_that_means(tmp_path: Path) -> None:
    (tmp_path / "flows").mkdir()
    config = tmp_path / "agentstream.toml"
    config.write_text('[[phone]]\nuser = "alice"\npassword = "x"\n')
    assert any("no listener has TLS" in problem.sentence for problem in load(config).warnings)
