"""One call in the place of another (RFC 3891)."""

from __future__ import annotations

import pytest

from agentstream.errors import LocalProtocolError, RemoteProtocolError
from agentstream.sip.events import InviteReceived, RequestRefused
from agentstream.sip.permissions import Permissions
from agentstream.sip.replaces import Replaces, parse_replaces, refer_to, require_up
from agentstream.sip.stack import Session
from agentstream.sip.uri import parse_uri
from agentstream.testing.sip_peer import SipPeer, read
from tests.sip.kit import PEER, SDP, Bench
from tests.sip.test_sip_reinvite import EITHER, Begin, answered_by_us
from tests.sip.test_sip_uac import call
from tests.sip.test_sip_uas import ring

pytestmark = pytest.mark.rfc(3891)


def replaces_of(session: Session, tail: str = "") -> str:
    """As the other side of the session's peer says it."""
    assert session.dialog is not None
    dialog = session.dialog
    return f"{dialog.call_id};to-tag={dialog.local_tag};from-tag={dialog.remote_tag}{tail}"


def asked(bench: Bench, value: str, require: str = "") -> InviteReceived:
    bench.receive(SipPeer().invite(headers=f"Replaces: {value}\r\n{require}"))
    return bench.event(InviteReceived)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a@b;to-tag=1;from-tag=2", Replaces("a@b", "1", "2")),
        (" 98732@x ; from-tag=r33th4x0r ;to-tag=ff87ff;early-only", Replaces("98732@x", "ff87ff", "r33th4x0r", True)),
        ("a@b;from-tag=2;to-tag=1;other=3", Replaces("a@b", "1", "2")),
    ],
)
def test_the_header(text: str, expected: Replaces) -> None:
    assert parse_replaces(text) == expected
    assert parse_replaces(str(expected)) == expected


@pytest.mark.parametrize(
    "text", ["", "a@b", "a@b;to-tag=1", ";to-tag=1;from-tag=2", "a b;to-tag=1;from-tag=2", "a;to-tag;from-tag=2"]
)
def test_what_is_none(text: str) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        parse_replaces(text)
    assert caught.value.status == 400


@EITHER
@pytest.mark.parametrize("require", ["", "Require: replaces\r\n"])
def test_a_call_that_is_up_is_found(begin: Begin, require: str) -> None:
    bench, peer = Bench(), SipPeer()
    session = begin(bench, peer)
    event = asked(bench, replaces_of(session), require)
    assert event.replaces is not None and bench.stack.replaced(event.replaces) is session
    assert event.session is not session


def refused(bench: Bench, value: str) -> int:
    with pytest.raises(RemoteProtocolError) as caught:
        bench.stack.replaced(parse_replaces(value))
    return caught.value.status


def test_what_is_not_there_is_481() -> None:
    bench, peer = Bench(), SipPeer()
    session = answered_by_us(bench, peer)
    call_id, _, tags = replaces_of(session).partition(";")
    swapped = tags.replace("to-tag", "x-tag").replace("from-tag", "to-tag").replace("x-tag", "from-tag")
    for value in (f"other@{call_id};{tags}", f"{call_id};{swapped}", replaces_of(session)[:-1]):
        assert refused(bench, value) == 481


def test_one_that_is_over_is_603() -> None:
    bench, peer = Bench(), SipPeer()
    session = answered_by_us(bench, peer)
    value = replaces_of(session)
    bench.stack.hang_up(session, bench.now)
    assert refused(bench, value) == 603
    bench.settle()
    assert refused(bench, value) == 481, "nobody knows of it any more"


def test_early_only_is_486_behind_the_answer() -> None:
    bench, peer = Bench(), SipPeer()
    assert refused(bench, replaces_of(answered_by_us(bench, peer), ";early-only")) == 486


def test_a_call_of_theirs_that_rings_here_is_481() -> None:
    bench, peer = Bench(), SipPeer()
    session = ring(bench, peer)
    bench.stack.progress(session, bench.now)
    assert refused(bench, replaces_of(session)) == 481


def test_a_call_of_ours_that_rings_there_is_found() -> None:
    bench, peer = Bench(), SipPeer()
    session, invite = call(bench)
    bench.receive(peer.respond(invite, 180, "Ringing"))
    ours = read(invite)
    tag = ours.header("from").partition("tag=")[2]
    value = f"{ours.header('call-id')};to-tag={tag};from-tag={peer.local_tag};early-only"
    assert bench.stack.replaced(parse_replaces(value)) is session


@pytest.mark.parametrize(
    "headers",
    [
        "Replaces: a;to-tag=1;from-tag=2\r\nReplaces: b;to-tag=1;from-tag=2\r\n",
        "Replaces: nonsense\r\n",
        "Replaces: a;to-tag=1;from-tag=2\r\nJoin: a;to-tag=1;from-tag=2\r\n",
    ],
)
def test_what_cannot_be_read_is_400(headers: str) -> None:
    bench = Bench()
    assert read(bench.receive(SipPeer().invite(headers=headers))[0]).status == 400
    bench.event(RequestRefused)


@pytest.mark.parametrize("method", ["INVITE", "BYE", "UPDATE"])
def test_in_a_dialog_it_is_400(method: str) -> None:
    bench, peer = Bench(), SipPeer()
    session = answered_by_us(bench, peer)
    data = peer.request(method, headers="Replaces: a;to-tag=1;from-tag=2\r\n", body=SDP)
    assert read(bench.receive(data)[0]).status == 400
    assert session.state == "confirmed"


@EITHER
def test_what_we_say_of_a_call_to_whoever_shall_take_it_over(begin: Begin) -> None:
    """Its peer must find it: the tags are as that side knows them."""
    bench, peer = Bench(), SipPeer()
    session = begin(bench, peer)
    assert require_up(session) == Replaces(peer.call_id, peer.local_tag, peer.remote_tag)
    bench.stack.hang_up(session, bench.now)
    with pytest.raises(LocalProtocolError):
        require_up(session)


@pytest.mark.rfc(5589)
@EITHER
def test_where_somebody_is_sent_to_take_our_place(begin: Begin) -> None:
    """RFC 3261 section 19.1.1: what would end the header or the URI is escaped."""
    bench, peer = Bench(), SipPeer()
    session = begin(bench, peer)
    assert session.dialog is not None
    call_id = peer.call_id.replace("@", "%40")
    tags = f"to-tag%3D{peer.local_tag}%3Bfrom-tag%3D{peer.remote_tag}"
    assert str(refer_to(session)) == f"{session.dialog.remote_target}?Replaces={call_id}%3B{tags}"
    bench.stack.hang_up(session, bench.now)
    with pytest.raises(LocalProtocolError):
        refer_to(session)


def test_supported_says_who_may() -> None:
    bench = Bench()
    uri = parse_uri("sip:bob@example.org")
    for permissions, is_said in ((Permissions(replaces=True), True), (Permissions(), False)):
        bench.stack.invite(uri, from_uri=uri, to_uri=uri, sdp=SDP, hop=PEER, now=bench.now, permissions=permissions)
        (invite,) = bench.read()
        assert ("replaces" in invite.header("supported")) is is_said
