"""The 49 messages of RFC 4475 and the answers that the RFC allows; after each one the server still answers OPTIONS."""

from __future__ import annotations

import pytest

from agentstream.sip.events import InviteReceived
from agentstream.testing.sip_peer import SipPeer, read
from tests.sip.kit import SDP, Bench
from tests.sip.torture import FOLDER, WAYS, Message, Table, main, memory_carrier, messages

pytestmark = pytest.mark.rfc(4475)

if not FOLDER.is_dir():
    pytest.skip("the folder shared/sip-torture with the messages is not beside the repository", allow_module_level=True)

MESSAGES = {message.name: message for message in messages()}


def test_every_message_has_a_row() -> None:
    assert len(MESSAGES) == 49
    assert {path.stem for path in FOLDER.glob("*.dat")} == set(MESSAGES)


@pytest.mark.parametrize("way", WAYS)
def test_a_whole_server_answers_what_the_rfc_allows(way: str) -> None:
    table = Table(list(MESSAGES.values()))
    with memory_carrier() as carrier:
        table.fill(way, carrier)
    assert table.wrong == []
    assert len(table.lines()) == 50


def test_the_table_tells_what_is_not_allowed(capsys: pytest.CaptureFixture[str]) -> None:
    """It is the command's, and an answer that is not allowed would be seen in it."""
    assert main() == 0
    out = capsys.readouterr().out
    assert "49 messages, 0 answers outside of what is allowed" in out
    for message in MESSAGES.values():
        assert f"  {message.name} " in out
    dropped, refused, cut = MESSAGES["unreason"], MESSAGES["badinv01"], MESSAGES["ncl"]
    assert not dropped.is_right("udp", ("200",)) and not refused.is_right("udp", ())
    assert not refused.is_right("udp", ("400", "400")) and not refused.is_right("udp stranger", ("403",))
    assert not cut.is_right("tcp", ("400",)) and cut.is_right("tcp", ("400", "closed"))


@pytest.mark.parametrize("message", MESSAGES.values(), ids=lambda message: message.name)
def test_the_answer_is_one_that_the_rfc_allows(message: Message) -> None:
    bench = Bench()
    statuses = [read(data).status for data in bench.receive(message.data)]
    for event in bench.events():
        if isinstance(event, InviteReceived):
            bench.stack.answer(event.session, SDP, bench.now)
            statuses += [answer.status for answer in bench.read()]
    assert message.is_right("udp", tuple(str(status) for status in statuses if status >= 200)), message.answer
    assert statuses if message.allowed else not statuses
    (pong,) = bench.receive(SipPeer().options())
    assert read(pong).status == 200
    bench.settle()


@pytest.mark.parametrize(("name", "header"), [("bext01", "unsupported"), ("invut", "accept"), ("intmeth", "allow")])
def test_a_refusal_says_what_would_do(name: str, header: str) -> None:
    (data,) = Bench().receive(MESSAGES[name].data)
    assert read(data).header(header)


def test_all_in_one_stack_each_get_their_own_answer() -> None:
    """The messages share branches; an answer must still carry the Call-ID of what it answers."""
    bench = Bench()
    for message in MESSAGES.values():
        for answer in bench.receive(message.data):
            call_id = read(answer).header("call-id")
            assert call_id.encode() in message.data
    bench.settle()
