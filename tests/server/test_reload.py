"""A reload: what takes effect for the calls to come, and what was bound or built at the start and stays."""

from __future__ import annotations

from pathlib import Path

import pytest

from agentstream.testing.server import ServerUnderTest

ECHO = {"start": "echo", "step": {"echo": {"applet": "echo"}}}
G722 = b"v=0\r\no=- 1 1 IN IP4 127.0.0.2\r\ns=-\r\nc=IN IP4 127.0.0.2\r\nt=0 0\r\nm=audio 4000 RTP/AVP 9\r\n"


def rewrite(server: ServerUnderTest, old: str, new: str) -> None:
    """Another text in the config file, and a reload."""
    file = server.loaded.file
    text = file.read_text()
    assert text.count(old) == 1, text
    file.write_text(text.replace(old, new))
    server.service.reload()


def test_codecs_stay_those_that_the_media_plane_was_built_for() -> None:
    with ServerUnderTest(ECHO, {"media": {"codecs": ["PCMU"]}}) as server:
        rewrite(server, '"codecs" = ["PCMU"]', '"codecs" = ["G722", "PCMU"]')
        assert "[media] has changed, which takes effect at the next start" in server.log
        phone = server.phone()
        phone.dial("1000", sdp=G722)
        server.advance(0.2)
        assert phone.statuses[-1] == 488
        assert server.call("1000").is_answered


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"realm" = "here"', '"realm" = "there"', "[access] realm"),
        ('"algorithms" = ["MD5"]', '"algorithms" = ["SHA-256"]', "[access] algorithms"),
    ],
)
def test_what_phones_were_asked_by_stays(old: str, new: str, said: str) -> None:
    config = {
        "access": {"realm": "here", "algorithms": ["MD5"]},
        "trunk": [{"name": "office", "known_by": "digest", "user": "office", "password": "very-secret"}],
    }
    with ServerUnderTest(ECHO, config) as server:
        rewrite(server, old, new)
        assert f"{said} has changed, which takes effect at the next start" in server.log
        phone = server.phone()
        phone.dial("1000")
        server.advance(0.2)
        assert phone.statuses[-1] == 401
        access = server.service.switchboard.loaded.config.access
        assert (access.realm, access.algorithms) == ("here", ("MD5",))


def test_limits_of_calls_are_for_the_calls_to_come() -> None:
    trunk = {"name": "office", "address": ["127.0.0.0/8"], "max_calls": 2}
    with ServerUnderTest(ECHO, {"trunk": [trunk]}) as server:
        assert server.call("1000").is_answered
        rewrite(server, '"max_calls" = 2', '"max_calls" = 1')
        phone = server.phone(host="127.0.0.3")
        phone.dial("1000")
        server.advance(0.2)
        assert phone.statuses[-1] == 486


def test_registrations_stay_in_the_file_that_is_open(tmp_path: Path) -> None:
    phone = {"user": "alice", "password": "very-secret"}
    config = {"registrar": {"file": str(tmp_path / "first.db")}, "phone": [phone]}
    with ServerUnderTest(ECHO, config) as server:
        rewrite(server, "first.db", "second.db")
        assert "[registrar] file has changed, which takes effect at the next start" in server.log
