"""Secrets in every place that the config and the flows have for one, and a search through everything that is written:
logs at every level, timelines, the SIP trace, files, and what ``agentstream check`` prints."""

from __future__ import annotations

import argparse
import base64
import contextlib
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from agentstream.cli import check
from agentstream.config.model import Config
from agentstream.sip.digest import DigestServer
from agentstream.testing.phone import Phone
from agentstream.testing.server import ServerUnderTest, to_toml
from agentstream.testing.sip_peer import Received
from agentstream.testing.web import Answer, Asked
from tests.conftest import LoggedFailures
from tests.server.kit import Everything, register
from tests.server.test_registrations import Registrar

MARK = "5ecre7"
"""Part of every secret, and of nothing else."""
BOT = f"ws://us:{MARK}-in-userinfo@127.0.0.1:5001/media?sample-rate=8000&api_key={MARK}-in-query&{MARK}-alone"
ASKED = f"http://us:{MARK}-http-userinfo@127.0.0.1:8080/where?token={MARK}-http-query"
NOWHERE = f"ws://us:{MARK}-of-nobody@127.0.0.1:5999/media?key={MARK}-key-of-nobody"
KEY = f"{MARK}KeyOfSrtpThatIsLongEnoughToBeOne00000000"
CRYPTO = f"a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|2^20"

TRUNK = {
    "name": "carrier",
    "address": ["127.0.0.7"],
    "known_by": "either",
    "user": "us",
    "password": f"{MARK}-of-the-trunk",
    "register_at": ["sip:127.0.0.7:5060"],
    "srtp": "optional",
}
ALICE = {"user": "alice", "password": f"{MARK}-of-alice"}
BOB = {"user": "bob", "password": "file:bob.secret"}
CAROL = {"user": "carol", "password": f"env:{MARK.upper()}_OF_CAROL"}
FLOW = {
    "name": "main",
    "start": "listen",
    "step": {
        "listen": {"applet": "stream", "url": BOT, "next": "asked"},
        "asked": {"applet": "voicebot", "url": ASKED, "next": "nowhere", "on": {"failed": "nowhere"}},
        "nowhere": {"applet": "voicebot", "url": NOWHERE, "next": "bot", "on": {"failed": "bot"}},
        "bot": {"applet": "voicebot", "url": BOT, "on": {"failed": "move"}},
        "move": {"applet": "transfer", "to": "2000"},
    },
}


def secret_settings() -> set[str]:
    """Every setting that the config's metadata calls a secret."""
    return {
        f"{section.name}.{field.name}"
        for section in attrs.fields(Config)
        for kind in [_class_of(section.type)]
        for field in attrs.fields(kind)
        if field.metadata.get("secret")
    }


def _class_of(hint: Any) -> Any:
    return hint if attrs.has(hint) else hint.__args__[0]


def test_they_are_planted_wherever_the_config_has_one() -> None:
    assert secret_settings() == {"trunk.password", "phone.password"}


def answers() -> Iterator[Answer]:
    """What the server that is asked for a bot's URL says, each time something else."""
    yield Answer(json.dumps({"url": BOT}).encode())
    yield Answer(status=302, headers={"Location": f"http://x:{MARK}-in-location@127.0.0.1:8080/n?k={MARK}-moved"})
    yield Answer(json.dumps({"url": f"htp://u:{MARK}-wrong@h/?k={MARK}-wrong"}).encode())
    yield Answer(f"no {MARK} of yours".encode(), status=503)
    while True:
        yield Answer(b"not even JSON")


def call(one: ServerUnderTest, phone: Phone, sdp: bytes | None = None) -> None:
    """A call that the phone ends."""
    phone.dial(sdp=sdp)
    one.advance(0.5)
    phone.hang_up()
    one.advance(0.5)


class Asking(Phone):
    """Asks for credentials whatever we ask of it inside a call."""

    def _asked(self, data: bytes, request: Received) -> None:
        if request.method in ("REFER", "BYE") and not request.header("authorization"):
            numbers = iter(range(1000))
            digest = DigestServer("carrier", lambda: f"x{next(numbers)}")
            asks = "".join(f"WWW-Authenticate: {value}\r\n" for value in digest.challenges(0.0))
            self.requests.append(request)
            self.send(self.sip.respond(data, 401, "Who", headers=asks))
        else:
            super()._asked(data, request)


def test_nothing_that_is_written_holds_one(
    tmp_path: Path,
    everything: Everything,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    logged_failures: LoggedFailures,
) -> None:
    monkeypatch.setenv(f"{MARK.upper()}_OF_CAROL", f"{MARK}-of-carol")
    (tmp_path / "flows").mkdir()
    (tmp_path / "bob.secret").write_text(f"{MARK}-of-bob\n")
    (tmp_path / "flows" / "main.toml").write_text(to_toml(FLOW))
    written = tmp_path / "written"
    written.mkdir()
    config = {
        "sip": {"listen": ["udp:5060:interface=127.0.0.1"], "trace": True, "trace_file": str(written / "sip.log")},
        "stream": {"allow_private": True},
        "recording": {"folder": str(written)},
        "registrar": {"file": str(written / "phones.db")},
        "trunk": [TRUNK],
        "phone": [ALICE, BOB, CAROL],
        "route": [{"to": "1000", "flow": "main"}],
    }
    file = tmp_path / "agentstream.toml"
    file.write_text(to_toml(config))
    said = answers()

    def answer(asked: Asked) -> Answer:
        everything.text += f"asked for {asked.path}\n"
        return next(said)

    one = ServerUnderTest(file=file)
    registrar = Registrar(one.reactor)
    with one:
        one.bot()
        one.web(answer)
        one.advance(0.5)
        assert any(expires for expires, _ in registrar.asked())
        for phone, password in (("alice", "of-alice"), ("bob", "of-bob"), ("carol", "of-carol")):
            right = one.phone(host="127.0.0.9", user=phone, credentials=(phone, f"{MARK}-{password}"))
            call(one, right)
            assert right.is_answered
            call(one, one.phone(host="127.0.0.9", user=phone, credentials=(phone, f"{MARK}-wrong")))
        alice = one.phone(host="127.0.0.9", user="alice")
        assert register(one, alice, f"{MARK}-of-alice") == 200
        assert register(one, alice, f"{MARK}-wrong-again") == 403
        keyed = one.phone(host="127.0.0.7", user="keyed")
        sdp = keyed.description()
        crypto = f"{CRYPTO}\r\n".encode()
        call(one, keyed, sdp + crypto)
        secure = one.phone(host="127.0.0.7", user="keyed", srtp="AES_CM_128_HMAC_SHA1_80")
        call(one, secure)
        # Keys of ours in the answer, and of the phone in its offer.
        keys = re.findall(r"inline:([^|\s]+)", secure.responses[-1].body.decode() + secure.description().decode())
        assert len(keys) == 2
        call(one, one.phone(host="127.0.0.7", user="keyed"), sdp.replace(b"RTP/AVP", b"RTP/SAVP") + crypto)
        one.bots[0].stop()
        asking = Asking(one.reactor, one.address, host="127.0.0.7", user="caller")
        one.phones.append(asking)
        asking.dial()
        one.advance(30)
        assert [request.method for request in asking.requests if request.header("authorization")]
        file.write_text(file.read_text() + "nonsense = [\n")
        one.service.reload()
    logged_failures.take_messages()
    kept = b"".join(path.read_bytes() for path in written.rglob("*") if path.is_file())
    assert b"INVITE sip:1000@" in kept and b"inline:***" in kept
    assert "carrier" in everything.text and "stream_connecting" in everything.text
    captured = capfd.readouterr()
    texts = {
        "log": everything.text,
        "timeline": one.story() + repr(one.timeline),
        "server's log": "\n".join(one.log),
        "files": kept.decode("latin-1"),
        "repr": repr(one.loaded.config),
        "stdout": captured.out,
        "stderr": captured.err,
    }
    for where, text in texts.items():
        assert_clean(where, text)
        assert not [key for key in keys if key in text], where


def assert_clean(where: str, text: str) -> None:
    hidden = base64.b64encode(f"us:{MARK}".encode()).decode()[:8]
    for secret in (MARK, hidden):
        at = text.find(secret)
        # The name of an environment variable is no secret; it is upper case.
        assert at < 0, f"{where}: {text[max(0, at - 200) : at + 100]}"


SLIPS: list[tuple[str, dict[str, Any]]] = [
    ("trunk", {**TRUNK, "password": [f"{MARK}-in-a-list"]}),
    ("trunk", {**TRUNK, "password": f"{MARK}\nof two lines"}),
    ("trunk", {**TRUNK, "pasword": f"{MARK}-misspelt"}),
    ("trunk", {**TRUNK, "register_at": [f"sip:us:{MARK}@127.0.0.7:99999"]}),
    ("trunk", {**TRUNK, "address_of_record": f"us:{MARK}@@"}),
    ("trunk", {**TRUNK, "address_of_record": f"sip:us:{MARK}@host;x y"}),
    ("phone", {**ALICE, "password": f"{MARK}" * 100}),
    ("phone", {**ALICE, "password": 17, "pass": f"{MARK}-too"}),
    ("phone", {**BOB, "password": "file:nothing-there"}),
]
URLS = [
    f"//us:{MARK}@bot.example/media",
    f"bot.example/media?key={MARK}",
    f"wss://bot.example/?sample-rate=8000#{MARK}",
    f"wss://us:{MARK}@bot.example:99999/media",
    f"htps://us:{MARK}@bot.example/?key={MARK}",
    f"wss:/us:{MARK}@bot.example/?key={MARK}",
    f"wss://us:{MARK} {MARK}@bot.example/",
    f"wss://bot.example/?key={MARK}#{MARK}",
    f"ws://us:{MARK}@bot.example/media?key={MARK}",
    f"ws://us:{MARK}@bot.example/media?key={MARK}&sample-rate=96000",
]


def checked(file: Path) -> tuple[int, str]:
    """What ``agentstream check`` ends with, and all that it prints."""
    parser = argparse.ArgumentParser()
    check.add_arguments(parser)
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        status = check.run(parser.parse_args([str(file)]))
    return status, out.getvalue()


@pytest.mark.parametrize("case", range(len(SLIPS) + len(URLS) + 1))
def test_check_shows_none(tmp_path: Path, case: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"{MARK.upper()}_OF_CAROL", f"{MARK}-of-carol")
    (tmp_path / "flows").mkdir()
    (tmp_path / "bob.secret").write_text(f"{MARK}-of-bob\n")
    config: dict[str, Any] = {"trunk": [TRUNK], "phone": [ALICE, BOB, CAROL], "route": [{"to": "1", "flow": "main"}]}
    flow: dict[str, Any] = FLOW
    if case < len(SLIPS):
        section, table = SLIPS[case]
        config[section] = [table]
    elif case < len(SLIPS) + len(URLS):
        url = URLS[case - len(SLIPS)]
        flow = {"name": "main", "start": "bot", "step": {"bot": {"applet": "voicebot", "url": url, "codec": "mulaw"}}}
    (tmp_path / "agentstream.toml").write_text(to_toml(config))
    (tmp_path / "flows" / "main.toml").write_text(to_toml(flow))
    status, said = checked(tmp_path / "agentstream.toml")
    assert said
    is_wrong = case < len(SLIPS) + len(URLS) - 2
    assert status == (1 if is_wrong else 0), said
    assert_clean("check", said)


@pytest.mark.parametrize("text", ['password = "5ecre7', 'password = "5ecre7\\q"', "password = 5ecre7"])
def test_a_file_that_is_no_toml_is_not_quoted(tmp_path: Path, text: str) -> None:
    (tmp_path / "agentstream.toml").write_text(f'[[phone]]\nuser = "a"\n{text}\n')
    status, said = checked(tmp_path / "agentstream.toml")
    assert status == 1 and said
    assert_clean("check", said)
