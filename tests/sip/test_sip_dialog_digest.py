"""Our requests inside a call that are asked for credentials (RFC 3261 sections 22.2 and 22.3), on calls both ways."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest

from agentstream.sip.digest import MOST_CHALLENGES, Credentials, DigestClient, DigestServer, parse_answer
from agentstream.sip.events import (
    InfoAnswered,
    InviteAnswered,
    InviteProgressed,
    InviteReceived,
    ReferEnded,
    ReferProgressed,
    ReinviteAnswered,
    ReinviteRefused,
    SessionEnded,
    UpdateAnswered,
    UpdateRefused,
)
from agentstream.sip.hop import Hop
from agentstream.sip.permissions import Permissions
from agentstream.sip.session import Session
from agentstream.sip.uri import parse_uri
from agentstream.testing.sip_peer import OFFER, SipPeer, read
from tests.sip.kit import SDP, Bench

TARGET = Hop("udp", "127.0.0.1", 5090, "u")
ALLOWS = "Allow: INVITE, ACK, BYE, UPDATE, INFO, REFER, PRACK\r\n"
NAMES = {401: ("WWW-Authenticate", "authorization"), 407: ("Proxy-Authenticate", "proxy-authorization")}
_numbers = itertools.count()


def token() -> str:
    return f"k{next(_numbers)}"


SERVER = DigestServer("carrier", token)


def challenge(status: int = 401, server: DigestServer = SERVER, *, is_stale: bool = False, only: str = "") -> str:
    values = [value for value in server.challenges(1000.0, is_stale=is_stale) if only in value]
    return "".join(f"{NAMES[status][0]}: {value}\r\n" for value in values)


def client(password: str = "right") -> DigestClient:
    return DigestClient(Credentials("us", password), lambda: "cnonce")


def came_in(password: str = "right") -> tuple[Bench, SipPeer, Session]:
    """A call of a trunk's that is up."""
    bench, peer = Bench(), SipPeer()
    bench.receive(peer.invite(headers=ALLOWS))
    session = bench.event(InviteReceived).session
    session.authenticate(client(password))
    bench.stack.answer(session, SDP, bench.now)
    peer.take(bench.sent()[-1])
    bench.receive(peer.ack())
    bench.events()
    return bench, peer, session


def went_out(password: str = "right") -> tuple[Bench, SipPeer, Session]:
    """A call of ours that is up, and was not asked for anything yet."""
    bench, peer = Bench(), SipPeer()
    uri = parse_uri("sip:bob@127.0.0.1:5090")
    session = bench.stack.invite(
        uri, from_uri=uri, to_uri=uri, sdp=SDP, hop=TARGET, now=bench.now, credentials=client(password)
    )
    (invite,) = bench.sent()
    peer.called_by(invite)
    bench.receive(peer.respond(invite, 200, sdp=OFFER, headers=ALLOWS))
    bench.event(InviteAnswered)
    return bench, peer, session


BOTH = pytest.mark.parametrize("up", [came_in, went_out])

ASK: dict[str, Callable[[Bench, Session], None]] = {
    "INVITE": lambda bench, session: bench.stack.reinvite(session, lambda: SDP, bench.now),
    "UPDATE": lambda bench, session: bench.stack.update(session, lambda: SDP, bench.now),
    "INFO": lambda bench, session: bench.stack.send_digit(session, "5", 100, bench.now),
    "REFER": lambda bench, session: bench.stack.refer(session, parse_uri("sip:2@x"), "<sip:us@x>", 30.0, bench.now),
    "BYE": lambda bench, session: bench.stack.hang_up(session, bench.now, "enough"),
}
EACH = pytest.mark.parametrize("method", list(ASK))


def sent(bench: Bench, method: str) -> bytes:
    """The one request of this method among what was sent; refusals of ours have been acknowledged besides."""
    (data,) = [data for data in bench.sent() if data.startswith(method.encode() + b" ")]
    return data


def received(bench: Bench, data: bytes, method: str) -> bytes:
    bench.stack.receive(data, TARGET, bench.now)
    return sent(bench, method)


@pytest.mark.rfc(3261)
@BOTH
@EACH
@pytest.mark.parametrize("status", [401, 407])
@pytest.mark.parametrize("algorithm", ["SHA-256", "MD5"])
def test_it_is_sent_once_more_with_credentials(
    up: Callable[[], tuple[Bench, SipPeer, Session]], method: str, status: int, algorithm: str
) -> None:
    bench, peer, session = up()
    ASK[method](bench, session)
    first = sent(bench, method)
    again = received(bench, peer.respond(first, status, "Who", headers=challenge(status, only=algorithm)), method)
    before, after = read(first), read(again)
    answer = parse_answer(after.header(NAMES[status][1]))
    assert (answer.algorithm, answer.count) == (algorithm, "00000001")
    assert SERVER.verify(answer, "right", method, 1000.0) == "good"
    assert int(after.header("cseq").split()[0]) == int(before.header("cseq").split()[0]) + 1
    assert before.header("via") != after.header("via")
    assert before.body == after.body
    for name in ("from", "to", "call-id", "contact", "content-type", "refer-to", "reason"):
        assert before.header(name) == after.header(name)
    done = [event for event in bench.events() if not isinstance(event, SessionEnded)]
    assert done == []
    if method == "INVITE":
        bench.stack.receive(peer.respond(again, 200, sdp=OFFER), TARGET, bench.now)
        ack = sent(bench, "ACK")
        # 22.1: "the ACK MUST contain the same credentials", and the number of its own INVITE.
        assert read(ack).header(NAMES[status][1]) == after.header(NAMES[status][1])
        assert read(ack).header("cseq").split()[0] == after.header("cseq").split()[0]
        bench.event(ReinviteAnswered)
    elif method == "REFER":
        bench.receive(peer.respond(again, 202, "Accepted"))
        # The subscription is that of the REFER which was accepted.
        number = after.header("cseq").split()[0]
        more = f"Event: refer;id={number}\r\nSubscription-State: active\r\n"
        notify = peer.request("NOTIFY", headers=more, body=b"SIP/2.0 180 Ringing", content_type="message/sipfrag")
        assert read(bench.receive(notify)[0]).status == 200
        bench.event(ReferProgressed)
    else:
        bench.receive(peer.respond(again, 200, sdp=OFFER if method == "UPDATE" else b""))
        kinds = {"UPDATE": UpdateAnswered, "INFO": InfoAnswered}
        if method in kinds:
            bench.event(kinds[method])
    if method != "BYE":
        bench.stack.hang_up(session, bench.now)
    bench.settle()


@pytest.mark.rfc(3261)
@BOTH
@EACH
def test_a_wrong_password_is_tried_once(up: Callable[[str], tuple[Bench, SipPeer, Session]], method: str) -> None:
    bench, peer, session = up("wrong")
    ASK[method](bench, session)
    again = received(bench, peer.respond(sent(bench, method), 401, "Who", headers=challenge()), method)
    bench.events()
    bench.stack.receive(peer.respond(again, 401, "Who", headers=challenge()), TARGET, bench.now)
    assert not [data for data in bench.sent() if not data.startswith(b"ACK ")]
    kinds = {"INVITE": ReinviteRefused, "UPDATE": UpdateRefused, "INFO": InfoAnswered, "REFER": ReferEnded}
    if method in kinds:
        assert bench.event(kinds[method]).status == 401
        bench.stack.hang_up(session, bench.now)
    bench.settle()


@pytest.mark.rfc(3261)
@BOTH
def test_what_was_asked_once_is_brought_along_and_counted(up: Callable[[], tuple[Bench, SipPeer, Session]]) -> None:
    bench, peer, session = up()
    ASK["INFO"](bench, session)
    again = received(bench, peer.respond(sent(bench, "INFO"), 401, "Who", headers=challenge()), "INFO")
    bench.receive(peer.respond(again, 200))
    counts = []
    for method in ("UPDATE", "BYE"):
        ASK[method](bench, session)
        data = sent(bench, method)
        answer = parse_answer(read(data).header("authorization"))
        assert SERVER.verify(answer, "right", method, 1000.0) == "good"
        counts.append(answer.count)
        bench.receive(peer.respond(data, 200, sdp=OFFER if method == "UPDATE" else b""))
    assert counts == ["00000002", "00000003"]
    bench.settle()


@pytest.mark.rfc(3261)
def test_a_call_that_was_asked_brings_its_credentials_along() -> None:
    bench, peer = Bench(), SipPeer()
    uri = parse_uri("sip:bob@127.0.0.1:5090")
    session = bench.stack.invite(uri, from_uri=uri, to_uri=uri, sdp=SDP, hop=TARGET, now=1000.0, credentials=client())
    again = received(bench, peer.respond(bench.sent()[0], 407, "Who", headers=challenge(407)), "INVITE")
    peer.called_by(again)
    reliable = "Require: 100rel\r\nRSeq: 1\r\n"
    prack = received(bench, peer.respond(again, 183, "Early", sdp=OFFER, headers=reliable), "PRACK")
    bench.event(InviteProgressed)
    answer = parse_answer(read(prack).header("proxy-authorization"))
    assert SERVER.verify(answer, "right", "PRACK", 1000.0) == "good"
    # One that the proxy finds too old all the same is answered again.
    stale = challenge(407, is_stale=True)
    prack = received(bench, peer.respond(prack, 407, "Who", headers=stale), "PRACK")
    assert parse_answer(read(prack).header("proxy-authorization")).nonce in stale
    bench.receive(peer.respond(prack, 200))
    bench.stack.receive(peer.respond(again, 200), TARGET, bench.now)
    bench.sent()
    bench.stack.hang_up(session, bench.now)
    assert parse_answer(read(sent(bench, "BYE")).header("proxy-authorization")).count == "00000002"
    bench.settle()


@pytest.mark.rfc(7616)
@BOTH
@pytest.mark.parametrize("status", [401, 407])
def test_the_nonce_that_a_200_names_is_the_next_one(
    up: Callable[[], tuple[Bench, SipPeer, Session]], status: int
) -> None:
    bench, peer, session = up()
    ASK["INFO"](bench, session)
    again = received(bench, peer.respond(sent(bench, "INFO"), status, "Who", headers=challenge(status)), "INFO")
    kind = "Authentication-Info" if status == 401 else "Proxy-Authentication-Info"
    (_first, second) = SERVER.challenges(1000.0)
    nonce = second.partition('nonce="')[2].partition('"')[0]
    bench.receive(peer.respond(again, 200, headers=f'{kind}: qop=auth, rspauth="00", nextnonce="{nonce}"\r\n'))
    ASK["BYE"](bench, session)
    answer = parse_answer(read(sent(bench, "BYE")).header(NAMES[status][1]))
    assert (answer.nonce, answer.count) == (nonce, "00000001")
    assert SERVER.verify(answer, "right", "BYE", 1000.0) == "good"


def test_an_authentication_info_that_is_none_changes_nothing() -> None:
    bench, peer, session = came_in()
    ASK["INFO"](bench, session)
    again = received(bench, peer.respond(sent(bench, "INFO"), 401, "Who", headers=challenge()), "INFO")
    bench.receive(peer.respond(again, 200, headers="Authentication-Info: nextnonce=\r\n"))
    ASK["INFO"](bench, session)
    answer = parse_answer(read(again2 := sent(bench, "INFO")).header("authorization"))
    assert answer.count == "00000002"
    bench.receive(peer.respond(again2, 200, headers="Authentication-Info: a b, = ,nextnonce\r\n"))
    ASK["BYE"](bench, session)
    assert parse_answer(read(sent(bench, "BYE")).header("authorization")).count == "00000003"


@pytest.mark.rfc(3261)
@BOTH
def test_two_requests_at_once_are_each_asked(up: Callable[[], tuple[Bench, SipPeer, Session]]) -> None:
    bench, peer, session = up()
    requests = {}
    for method in ("INFO", "REFER"):
        ASK[method](bench, session)
        requests[method] = sent(bench, method)
    for method, data in requests.items():
        again = received(bench, peer.respond(data, 401, "Who", headers=challenge()), method)
        assert SERVER.verify(parse_answer(read(again).header("authorization")), "right", method, 1000.0) == "good"


@pytest.mark.rfc(3261)
def test_behind_the_end_only_the_bye_is_sent_again() -> None:
    bench, peer, session = came_in()
    ASK["INVITE"](bench, session)
    invite = sent(bench, "INVITE")
    ASK["BYE"](bench, session)
    bye = sent(bench, "BYE")
    bench.stack.receive(peer.respond(invite, 401, "Who", headers=challenge()), TARGET, bench.now)
    assert [read(data).method for data in bench.sent()] == ["ACK"]
    assert received(bench, peer.respond(bye, 401, "Who", headers=challenge()), "BYE")
    # A BYE that crosses the second one of ours finds its dialog still there.
    assert read(bench.receive(peer.bye())[0]).status == 200
    bench.settle()


@pytest.mark.rfc(3261)
def test_a_notify_of_ours_and_the_one_behind_it() -> None:
    bench, peer, session = came_in()
    session.permissions = Permissions(refer=True)
    bench.stack.receive(peer.request("REFER", headers="Refer-To: <sip:2000@pbx.example>\r\n"), TARGET, bench.now)
    notify = sent(bench, "NOTIFY")
    bench.stack.tell_referrer(session, 200, "", bench.now)
    again = received(bench, peer.respond(notify, 401, "Who", headers=challenge()), "NOTIFY")
    assert SERVER.verify(parse_answer(read(again).header("authorization")), "right", "NOTIFY", 1000.0) == "good"
    assert read(again).body == read(notify).body
    # The last one waits for the answer to the first, and brings its credentials along.
    last = received(bench, peer.respond(again, 200), "NOTIFY")
    assert read(last).body.startswith(b"SIP/2.0 200") and read(last).header("authorization")
    bench.receive(peer.respond(last, 200))
    bench.stack.hang_up(session, bench.now)
    bench.settle()


def test_without_credentials_it_is_a_refusal() -> None:
    bench, peer = Bench(), SipPeer()
    bench.receive(peer.invite(headers=ALLOWS))
    session = bench.event(InviteReceived).session
    bench.stack.answer(session, SDP, bench.now)
    peer.take(bench.sent()[-1])
    bench.receive(peer.ack())
    bench.events()
    ASK["INFO"](bench, session)
    assert bench.receive(peer.respond(sent(bench, "INFO"), 401, "Who", headers=challenge())) == []
    assert bench.event(InfoAnswered).status == 401


@pytest.mark.rfc(3261)
@BOTH
@EACH
def test_two_realms_at_once_are_both_answered(up: Callable[[], tuple[Bench, SipPeer, Session]], method: str) -> None:
    """Section 22.3: what proxies that fork were asked for is put into one response."""
    bench, peer, session = up()
    ASK[method](bench, session)
    both = "".join(challenge(server=DigestServer(realm, token)) for realm in ("one", "two"))
    bench.stack.receive(peer.respond(sent(bench, method), 401, "Who", headers=both), TARGET, bench.now)
    (again,) = [one for one in bench.sent() if one.startswith(method.encode() + b" ")]
    proofs = read(again).headers("authorization")
    assert [f'realm="{realm}"' in proof for realm, proof in zip(("one", "two"), proofs, strict=True)] == [True, True]
    bench.stack.receive(peer.respond(again, 401, "Who", headers=both), TARGET, bench.now)
    assert not [one for one in bench.sent() if one.startswith(method.encode() + b" ")], "both passwords are wrong"
    bench.events()
    bench.stack.hang_up(session, bench.now)
    bench.settle()


@BOTH
@EACH
def test_a_peer_that_names_a_new_realm_each_time_is_not_answered_for_ever(
    up: Callable[[], tuple[Bench, SipPeer, Session]], method: str
) -> None:
    bench, peer, session = up()
    ASK[method](bench, session)
    data, requests = sent(bench, method), 1
    while requests < 20:
        server = DigestServer(f"realm{requests}", token)
        bench.stack.receive(peer.respond(data, 401, "Who", headers=challenge(server=server)), TARGET, bench.now)
        again = [one for one in bench.sent() if one.startswith(method.encode() + b" ")]
        if not again:
            break
        data, requests = again[0], requests + 1
    assert requests == 1 + MOST_CHALLENGES
    bench.events()
    bench.stack.hang_up(session, bench.now)
    bench.settle()
