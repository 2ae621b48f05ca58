"""The 49 messages of RFC 4475 and the answers that the RFC allows; after each one the stack still answers OPTIONS."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from agentstream.sip.events import InviteReceived
from agentstream.testing.sip_peer import SipPeer, read
from tests.sip.kit import SDP, Bench

pytestmark = pytest.mark.rfc(4475)

FOLDER = Path(__file__).resolve().parents[3] / "shared" / "sip-torture"

if not FOLDER.is_dir():
    pytest.skip("the folder shared/sip-torture with the messages is not beside the repository", allow_module_level=True)

with (FOLDER / "expected.tsv").open() as table:
    ROWS = {row["file"]: row["answer"] for row in csv.DictReader(table, delimiter="\t")}

ALLOWED: dict[str, set[str]] = {
    "dropped": set(),
    "481|2xx|4xx but not 400": {"481"},
    "405|501": {"405", "501"},
    "not 400": {"200", "405"},
    "exactly one answer, to the REGISTER; what follows it in the datagram is ignored": {"405"},
    "400": {"400"},
    "400|501": {"400", "501"},
    "505": {"505"},
    "416": {"416"},
    "406": {"406"},
    "420 with Unsupported": {"420"},
    "415 with Accept": {"415"},
    "200 (a UAS answers; only a proxy says 483)": {"200"},
    "any answer but 400": {"405"},
    "400, or the method's own refusal": {"400", "405"},
}


def test_every_message_has_a_row() -> None:
    assert len(ROWS) == 49
    assert {path.stem for path in FOLDER.glob("*.dat")} == set(ROWS)


@pytest.mark.parametrize("name", ROWS)
def test_the_answer_is_one_that_the_rfc_allows(name: str) -> None:
    bench = Bench()
    statuses = []
    finals = []
    for data in bench.receive((FOLDER / f"{name}.dat").read_bytes()):
        statuses.append(read(data).status)
    for event in bench.events():
        if isinstance(event, InviteReceived):
            bench.stack.answer(event.session, SDP, bench.now)
            statuses += [message.status for message in bench.read()]
    finals = [str(status) for status in statuses if status >= 200]
    answer = ROWS[name]
    if answer == "dropped":
        assert not statuses
    else:
        assert len(finals) == 1
        assert finals[0] in ALLOWED.get(answer, {"200", "400", "405"}), answer
    (pong,) = bench.receive(SipPeer().options())
    assert read(pong).status == 200
    bench.settle()


@pytest.mark.parametrize(("name", "header"), [("bext01", "unsupported"), ("invut", "accept"), ("intmeth", "allow")])
def test_a_refusal_says_what_would_do(name: str, header: str) -> None:
    (data,) = Bench().receive((FOLDER / f"{name}.dat").read_bytes())
    assert read(data).header(header)


def test_all_in_one_stack_each_get_their_own_answer() -> None:
    """The messages share branches; an answer must still carry the Call-ID of what it answers."""
    bench = Bench()
    for name in ROWS:
        data = (FOLDER / f"{name}.dat").read_bytes()
        for answer in bench.receive(data):
            call_id = read(answer).header("call-id")
            assert call_id.encode() in data
    bench.settle()
