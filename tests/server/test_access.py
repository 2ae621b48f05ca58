"""Who may call, on whole servers: digest, refusals, silence, bans, their one line in the log, and limits."""

from __future__ import annotations

import configparser
import re
from pathlib import Path
from typing import Any

import pytest
from twisted.logger import LogEvent, eventAsText, globalLogPublisher

from agentstream.testing.phone import Phone
from agentstream.testing.server import ServerUnderTest
from agentstream.testing.sip_peer import Received, SipPeer, read
from tests.server.kit import bot_flow

ETC = Path(__file__).parents[2] / "etc"
PBX = {"name": "office", "known_by": "digest", "user": "pbx", "password": "right"}
CARRIER = {"name": "carrier", "address": ["127.0.0.7"]}


def server(*trunks: dict[str, Any], **config: Any) -> ServerUnderTest:
    return ServerUnderTest(bot_flow(), {"trunk": list(trunks), **config})


def dialled(one: ServerUnderTest, host: str, **options: Any) -> Phone:
    phone = one.phone(host=host, **options)
    phone.dial()
    one.advance(0.1)
    return phone


@pytest.mark.rfc(3261)
def test_a_trunk_is_known_by_its_password_wherever_it_is() -> None:
    with server(PBX) as one:
        one.bot()
        phone = one.call(host="127.0.0.9", credentials=("pbx", "right"))
        assert phone.statuses[:2] == [401, 100]
        (received,) = one.events("invite_received")
        assert received.fields["trunk"] == "office"
        assert dialled(one, "127.0.0.9", credentials=("pbx", "wrong")).statuses == [401, 403]
        assert dialled(one, "127.0.0.9").statuses == [401]


@pytest.mark.parametrize(
    ("known_by", "there", "elsewhere"),
    [("address", [100], [403]), ("either", [100], [401, 100]), ("both", [401, 100], [401, 403])],
)
def test_known_by(known_by: str, there: list[int], elsewhere: list[int]) -> None:
    trunk = {**PBX, "address": ["127.0.0.7"], "known_by": known_by}
    with server(trunk) as one:
        one.bot()
        for host, statuses in (("127.0.0.7", there), ("127.0.0.9", elsewhere)):
            phone = dialled(one, host, credentials=("pbx", "right"))
            assert phone.statuses[: len(statuses)] == statuses


def test_secrets_are_in_no_log() -> None:
    with server({**PBX, "password": "very-secret"}) as one:
        one.bot()
        one.call(host="127.0.0.9", credentials=("pbx", "very-secret"))
        dialled(one, "127.0.0.9", credentials=("pbx", "other-secret"))
        assert "very-secret" not in repr(one.loaded)
        text = "\n".join(one.log) + one.story()
    assert "secret" not in text


class Log:
    """What twistd writes into its log file."""

    def __init__(self) -> None:
        self.text = ""

    def __call__(self, event: LogEvent) -> None:
        line = eventAsText(event, includeTraceback=False).replace("\n", "\n\t")
        self.text += line + "\n"

    def __enter__(self) -> Log:
        globalLogPublisher.addObserver(self)
        return self

    def __exit__(self, *_error: object) -> None:
        globalLogPublisher.removeObserver(self)


def banned(text: str) -> list[str]:
    """The addresses that fail2ban would find with the filter in etc/."""
    parser = configparser.ConfigParser()
    parser.read(ETC / "fail2ban" / "filter.d" / "agentstream.conf")
    (pattern,) = parser["Definition"]["failregex"].splitlines()
    pattern = pattern.replace("<transports>", parser["Init"]["transports"])
    pattern = pattern.replace("<ADDR>", r"(?P<host>[0-9a-fA-F.:]+)")
    date = parser["Definition"]["datepattern"]
    assert date == "^%Y-%m-%dT%H:%M:%S%z"
    found = []
    for line in text.splitlines():
        # fail2ban cuts the date out, where the line has one, and looks at what is left.
        match = re.search(pattern, re.sub(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4}", "", line))
        if match:
            found.append(match["host"])
    return found


def test_too_many_refusals_are_ignored_and_fail2ban_reads_who() -> None:
    with Log() as log, server(CARRIER, access={"ban_after": 3}) as one:
        one.bot()
        assert [dialled(one, "127.0.0.9").statuses for _ in range(4)] == [[403], [403], [403], []]
        # A trunk's address is not, whatever it does: here a number that no route has is no offence at all.
        assert one.call(host="127.0.0.7").is_answered
        one.advance(61)
        assert dialled(one, "127.0.0.9").statuses == [403]
    (line,) = [line for line in log.text.splitlines() if "is ignored for" in line]
    assert line.endswith("source 127.0.0.9 is ignored for 60 s after 3 refused requests over UDP")
    assert banned(log.text) == ["127.0.0.9"]


FORGED = "2026-01-01T00:00:00+0000 [agentstream.net.edge.SipEdge#warn] source 127.0.0.7 is ignored for 60 s after 3 refused requests over UDP"  # noqa: E501


@pytest.mark.parametrize("start", ["", "x", "[agentstream.net.edge.SipEdge#warn] source 127.0.0.7"])
def test_no_name_can_forge_that_line(start: str) -> None:
    bare = FORGED.partition("+0000")[2]
    names = [start + gap + text for gap in ("%0A", "%0D%0A", "%0D", "%E2%80%A8", "%0B") for text in (FORGED, bare)]
    with Log() as log, server(CARRIER, route=[{"to": "1", "flow": "main"}]) as one:
        for name in names:
            escaped = "".join(f"%{ord(c):02X}" if c in ' []#"<>' else c for c in name)
            for host in ("127.0.0.7", "127.0.0.9"):
                phone = one.phone(host=host, user=escaped)
                phone.dial(escaped)
                one.advance(0.1)
                assert phone.statuses[-1] in (403, 404), phone.responses
    assert "127.0.0.7" in log.text
    assert banned(log.text) == []


def test_silence_for_strangers() -> None:
    with server(CARRIER, access={"strangers": "ignore"}) as one:
        one.bot()
        assert dialled(one, "127.0.0.9").statuses == []
        assert one.call(host="127.0.0.7").is_answered


@pytest.mark.rfc(3261)
def test_a_trunk_that_has_all_its_calls_is_busy() -> None:
    with server({**CARRIER, "max_calls": 1}, {"name": "other", "address": ["127.0.0.8"]}) as one:
        one.bot()
        first = one.call(host="127.0.0.7")
        second = dialled(one, "127.0.0.7")
        assert second.statuses[-1] == 486
        assert "all 1 calls of this trunk are up" in second.responses[-1].header("warning")
        assert one.call(host="127.0.0.8").is_answered
        first.hang_up()
        one.advance(0.1)
        assert one.call(host="127.0.0.7").is_answered
        assert one.service.switchboard.refused_for == {"trunk full": 1}


@pytest.mark.rfc(3261)
def test_too_many_new_calls_a_second_are_503_with_retry_after() -> None:
    with server({**CARRIER, "calls_per_second": 1.0}) as one:
        one.bot()
        one.call(host="127.0.0.7")
        second = dialled(one, "127.0.0.7")
        assert (second.statuses[-1], second.responses[-1].header("retry-after")) == (503, "1")
        one.advance(1)
        assert one.call(host="127.0.0.7").is_answered
        assert one.service.switchboard.refused_for == {"trunk rate": 1}


def test_an_overloaded_node_says_so_before_live_calls_suffer(monkeypatch: pytest.MonkeyPatch) -> None:
    with server(CARRIER) as one:
        one.bot()
        one.call(host="127.0.0.7")
        monkeypatch.setattr(type(one.service.plane), "is_overloaded", True)
        late = dialled(one, "127.0.0.7")
        assert (late.statuses[-1], late.responses[-1].header("retry-after")) == (503, "5")
        assert one.service.switchboard.refused_for == {"late tick": 1}
        assert len(one.live_calls) == 1


@pytest.mark.rfc(3261)
def test_a_full_node_tells_balancers() -> None:
    """OPTIONS is what an INVITE would be: 503 while all calls are up, and 200 again when one has ended."""
    with server(media={"max_calls": 1}) as one:
        one.bot()
        answers: list[Received] = []
        address = ("127.0.0.1", 5099)
        one.reactor.network.bind(address, lambda data, source: answers.append(read(data)))

        def asked() -> Received:
            one.reactor.network.send(SipPeer(port=5099).options(), address, one.address)
            one.advance(0.1)
            return answers.pop()

        assert asked().status == 200
        phone = one.call()
        full = asked()
        assert (full.status, full.header("retry-after")) == (503, "10")
        assert "all 1 calls of this node are up" in full.header("warning")
        phone.hang_up()
        one.advance(0.5)
        assert asked().status == 200
