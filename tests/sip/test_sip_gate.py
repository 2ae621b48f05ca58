"""Who is let in, who is asked, who is refused, and who is ignored for a while."""

from __future__ import annotations

import itertools

import pytest

from agentstream.sip import bans
from agentstream.sip.bans import BANNED, SOURCES, Bans, source_of
from agentstream.sip.digest import NONCE_LIFE_S, DigestServer
from agentstream.sip.events import InviteReceived, MessageDropped, RequestRefused, SourceBanned
from agentstream.sip.gate import Account, Gate, Rules
from agentstream.sip.hop import Hop
from agentstream.testing.sip_peer import OFFER, SipPeer, authorization, read
from tests.sip.kit import PEER, Bench

STRANGER = Hop("udp", "203.0.113.9", 5090, "u")
ACCOUNTS = {
    "pbx": Account("office", "right"),
    "both": Account("two", "right", lambda host: host == "203.0.113.9"),
}
URI = "sip:1000@127.0.0.1:5060"


class Door(Bench):
    """A stack with a gate: 127.0.0.1 is known, and the users of ACCOUNTS."""

    def __init__(self, rules: Rules = Rules(ban_after=5), protected: str = "") -> None:  # noqa: B008 - frozen
        super().__init__()
        numbers = itertools.count(1)
        self.gate = self.stack.gate = Gate(
            DigestServer("here", lambda: f"d{next(numbers)}"),
            is_known=lambda host: host == "127.0.0.1",
            is_protected=lambda host: host == protected,
            account_of=ACCOUNTS.get,
            has_accounts=lambda: True,
            rules=lambda: rules,
        )

    def status(self, data: bytes, source: Hop = STRANGER) -> int:
        """The last answer, 0 for none."""
        answers = self.receive(data, source)
        return read(answers[-1]).status if answers else 0

    def proof(self, phone: SipPeer, source: Hop = STRANGER, user: str = "pbx", password: str = "right") -> str:
        """Ask for a challenge, and the header that answers it."""
        response = read(self.receive(phone.invite(), source)[-1])
        assert response.status == 401
        value = authorization(response.headers("www-authenticate"), user, password, "INVITE", URI)
        return f"Authorization: {value}\r\n"


@pytest.mark.rfc(3261)
def test_an_address_that_is_known_is_asked_nothing():
    door = Door()
    assert door.receive(SipPeer().invite(), PEER)
    assert door.event(InviteReceived).guest.user == ""


@pytest.mark.rfc(3261)
def test_a_stranger_is_asked_and_let_in_with_the_answer():
    door, phone = Door(), SipPeer()
    proof = door.proof(phone)
    assert door.events() == []
    assert not door.stack.servers
    assert door.status(phone.invite(OFFER, proof)) == 100
    event = door.event(InviteReceived)
    assert (event.guest.user, event.guest.account) == ("pbx", ACCOUNTS["pbx"])


@pytest.mark.rfc(3261)
def test_what_is_sent_again_is_not_judged_again():
    door, phone = Door(), SipPeer()
    invite = phone.invite(OFFER, door.proof(phone))
    assert door.status(invite) == 100
    assert door.status(invite) == 100


@pytest.mark.rfc(8760)
def test_a_401_offers_both_algorithms():
    response = read(Door().receive(SipPeer().invite(), STRANGER)[-1])
    assert [("SHA-256" in value, "MD5" in value) for value in response.headers("www-authenticate")] == [
        (True, False),
        (False, True),
    ]
    assert response.header("warning") == '399 agentstream "this needs credentials"'


@pytest.mark.rfc(3261)
@pytest.mark.parametrize(("user", "password"), [("pbx", "wrong"), ("nobody", "right"), ("nobody", "")])
def test_credentials_of_nobody_are_403(user, password):
    door, phone = Door(), SipPeer()
    proof = door.proof(phone, user=user, password=password)
    response = read(door.receive(phone.invite(OFFER, proof), STRANGER)[-1])
    assert (response.status, response.header("warning")) == (403, '399 agentstream "these credentials are nobody\'s"')
    assert door.event(RequestRefused).status == 403


def test_an_account_of_one_address_is_nobodys_elsewhere():
    for source, status in ((STRANGER, 100), (Hop("udp", "203.0.113.10", 5090, "u"), 403)):
        door, phone = Door(), SipPeer()
        assert door.status(phone.invite(OFFER, door.proof(phone, source, "both")), source) == status


def test_credentials_that_cannot_be_read_are_403():
    assert Door().status(SipPeer().invite(OFFER, 'Authorization: Digest username="x\r\n')) == 403


@pytest.mark.rfc(7616)
def test_an_answer_is_good_once_and_not_for_ever():
    door, phone = Door(), SipPeer()
    proof = door.proof(phone)
    assert door.status(phone.invite(OFFER, proof)) == 100
    replayed = read(door.receive(SipPeer().invite(OFFER, proof), STRANGER)[-1])
    assert replayed.status == 401
    assert all("stale=true" in value for value in replayed.headers("www-authenticate"))
    late = SipPeer()
    proof = door.proof(late)
    door.now += NONCE_LIFE_S + 2
    assert door.status(late.invite(OFFER, proof)) == 401


def test_without_accounts_nobody_is_asked():
    door = Door()
    door.gate.has_accounts = lambda: False
    assert door.status(SipPeer().invite()) == 403


class TestBans:
    def test_who_is_refused_too_often_is_ignored_for_a_while(self):
        door = Door()
        answers = [door.status(SipPeer().invite()) for _ in range(7)]
        assert answers == [401] * 5 + [0, 0]
        assert door.event(SourceBanned) == SourceBanned("203.0.113.9", "udp", 60.0, 5)
        assert door.stack.counters["ignored"] == 2
        assert door.status(SipPeer().invite(), Hop("udp", "203.0.113.8", 5090, "u")) == 401
        door.now += 61
        assert door.status(SipPeer().invite()) == 401

    def test_over_tcp_for_as_long_as_is_set(self):
        door, source = Door(), Hop("tcp", "203.0.113.9", 40000, "u")
        for _ in range(5):
            door.receive(SipPeer().invite(), source)
        assert door.event(SourceBanned).seconds == 300.0

    def test_the_right_answer_wipes_out_the_count(self):
        door = Door()
        for _ in range(12):
            phone = SipPeer()
            assert door.status(phone.invite(OFFER, door.proof(phone))) == 100
            door.stack.events.clear()

    def test_refusals_of_the_last_minute_count(self):
        door = Door()
        for _ in range(12):
            assert door.status(SipPeer().invite()) == 401
            door.now += 20
        assert door.events() == []

    def test_who_is_protected_is_never_ignored(self):
        door = Door(protected="203.0.113.9")
        assert {door.status(SipPeer().invite()) for _ in range(30)} == {401}
        assert door.events() == []

    def test_none_is_when_the_setting_is_0(self):
        door = Door(Rules(ban_after=0))
        assert {door.status(SipPeer().invite()) for _ in range(30)} == {401}

    def test_an_ipv6_source_is_its_64(self):
        assert source_of("2001:db8:1:2:3:4:5:6") == source_of("2001:db8:1:2::1") == "2001:db8:1:2::/64"
        assert source_of("203.0.113.9") == "203.0.113.9"

    def test_an_ipv4_address_is_one_by_an_ipv6_socket_too(self):
        door = Door()
        for _ in range(5):
            door.receive(SipPeer().invite(), Hop("udp", "::ffff:203.0.113.9", 5090, "u"))
        assert door.status(SipPeer().invite()) == 0

    def test_forged_sources_cost_a_bounded_memory(self):
        table = Bans()
        for number in range(3 * SOURCES):
            for _ in range(2):
                table.count(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", "udp", 2, 300, 0.0)
            table.count(f"11.{number >> 16}.{number >> 8 & 255}.{number & 255}", "udp", 2, 300, 0.0)
        assert len(table) == BANNED
        assert len(table._counted) == SOURCES
        assert bans.UDP_BAN_S <= 60


class TestSilence:
    def test_strangers_get_no_answer_and_are_counted(self):
        door = Door(Rules(is_silent=True, ban_after=5))
        assert [door.status(SipPeer().invite()) for _ in range(6)] == [0] * 6
        events = door.events()
        assert [type(event) for event in events] == [MessageDropped] * 5 + [SourceBanned]
        assert door.stack.counters["ignored"] == 6

    def test_what_cannot_be_read_neither(self):
        door = Door(Rules(is_silent=True))
        broken = SipPeer().invite().replace(b"CSeq: 1 INVITE", b"CSeq: 1 BYE")
        assert door.status(broken) == 0
        assert door.status(broken, PEER) == 400
        assert door.status(b"INVITE sip:a@b SIP/2.0\r\nVia: SIP/2.0/UDP a\r\nno colon\r\n\r\n") == 0

    def test_but_a_user_that_there_is_is_asked(self):
        door = Door(Rules(is_silent=True))
        phone = SipPeer(user="pbx")
        assert door.status(phone.invite(OFFER, door.proof(phone))) == 100
