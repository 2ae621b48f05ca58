"""The registrar (RFC 3261 section 10.3, RFC 3327): what it takes, what it refuses, and what it keeps."""

from __future__ import annotations

import itertools

import pytest

from agentstream.sip.digest import DigestServer
from agentstream.sip.events import BindingsChanged, ContactChanged, InviteReceived
from agentstream.sip.gate import Account, Gate
from agentstream.sip.hop import Hop
from agentstream.sip.registrar import PING, Binding, RegistrarSettings
from agentstream.testing.sip_peer import Received, SipPeer, authorization, read
from tests.sip.kit import PEER, SDP, Bench

NAT = Hop("udp", "203.0.113.9", 61234, "u")
FLOW = Hop("tcp", "203.0.113.9", 40001, "t")


class House(Bench):
    """A registrar of alice and bob."""

    def __init__(self, settings: RegistrarSettings = RegistrarSettings()) -> None:  # noqa: B008 - frozen
        super().__init__()
        numbers = itertools.count(1)
        accounts = {user: Account(user, "right", is_phone=True) for user in ("alice", "bob")}
        accounts["pbx"] = Account("office", "right")
        self.stack.gate = Gate(
            DigestServer("here", lambda: f"d{next(numbers)}"),
            is_known=lambda host: host == PEER.host,
            account_of=accounts.get,
            has_accounts=lambda: True,
        )
        self.registrar = self.stack.serve_phones(lambda: settings)

    def register(
        self,
        phone: SipPeer,
        *contacts: str,
        headers: str = "",
        source: Hop = NAT,
        user: str = "",
        cseq: int | None = None,
    ) -> Received:
        """REGISTER with credentials; the phone's own Contact where none is given, none for ""."""
        phone.called = phone.user
        said = contacts or (phone.contact(),)

        def request(more: str = "") -> bytes:
            lines = "".join(f"Contact: {contact}\r\n" for contact in said if contact)
            data = phone.request("REGISTER", headers=lines + headers + more, cseq=cseq, uri="sip:here")
            return data.replace(f"Contact: {phone.contact()}\r\nMax-".encode(), b"Max-")

        asked = read(self.receive(request(), source)[-1])
        if asked.status != 401:
            return asked
        values = asked.headers("www-authenticate")
        proof = authorization(values, user or phone.user, "right", "REGISTER", "sip:here")
        return read(self.receive(request(f"Authorization: {proof}\r\n"), source)[-1])

    def lines(self) -> list[str]:
        """Pings are no messages."""
        return ["ping" if data == PING else str(read(data).status) for data in self.sent()]

    def contacts(self, user: str = "alice") -> list[str]:
        return [binding.contact for binding in self.registrar.bindings(user, self.now)]


@pytest.mark.rfc(3261)
def test_a_phone_registers_and_is_reached_over_the_flow_that_it_came_by():
    house, phone = House(), SipPeer(host="10.0.0.5")
    answer = house.register(phone, source=NAT)
    assert (answer.status, answer.headers("contact")) == (200, ["<sip:alice@10.0.0.5:5090>;expires=3600"])
    assert house.event(BindingsChanged) == BindingsChanged("alice", NAT, 1)
    (binding,) = house.registrar.bindings("alice", house.now)
    assert binding.hop == NAT
    assert house.registrar.has_host("203.0.113.9")
    assert house.registrar.bindings("bob", house.now) == []
    # Over UDP with a Via that asks for no rport the flow is still where the packet came from.
    house.register(SipPeer(user="bob", host="10.0.0.6"), source=FLOW)
    assert house.registrar.bindings("bob", house.now)[0].hop == FLOW
    assert house.stack.is_needed(FLOW)


@pytest.mark.rfc(3261)
def test_an_address_is_not_enough_and_a_trunk_is_no_phone():
    house, phone = House(), SipPeer()
    assert read(house.receive(phone.request("REGISTER"), PEER)[-1]).status == 401
    assert house.register(SipPeer(), user="bob").status == 403
    assert house.register(SipPeer(user="pbx")).status == 403
    assert len(house.registrar) == 0


@pytest.mark.rfc(3261)
def test_several_contacts_a_query_and_the_end_of_one_and_of_all():
    house, phone = House(), SipPeer()
    house.register(phone, "<sip:a@10.0.0.1>;expires=100", "<sip:a@10.0.0.2>", headers="Expires: 200\r\n")
    answer = house.register(phone, "")
    assert answer.headers("contact") == ["<sip:a@10.0.0.2>;expires=200", "<sip:a@10.0.0.1>;expires=100"]
    house.register(phone, "<sip:a@10.0.0.1>;expires=0")
    assert house.contacts() == ["sip:a@10.0.0.2"]
    house.register(phone, "<sip:a@10.0.0.3>")
    assert house.register(phone, "*", headers="Expires: 0\r\n").headers("contact") == []
    assert house.contacts() == []
    assert len(house.registrar) == house.registrar.users == 0
    assert not house.registrar.has_host("203.0.113.9")


@pytest.mark.rfc(3261)
@pytest.mark.parametrize(
    ("contacts", "headers"),
    [(("*", "<sip:a@10.0.0.1>"), "Expires: 0\r\n"), (("*",), "Expires: 60\r\n"), (("*",), "")],
)
def test_a_star_that_is_not_alone_or_has_another_interval_is_400(contacts, headers):
    house = House()
    house.register(SipPeer())
    assert house.register(SipPeer(), *contacts, headers=headers).status == 400
    assert len(house.contacts()) == 1


@pytest.mark.rfc(3261)
def test_intervals_have_bounds():
    house = House(RegistrarSettings(min_expires_s=60, max_expires_s=1800))
    short = house.register(SipPeer(), "<sip:a@10.0.0.1>", "<sip:a@10.0.0.2>;expires=59")
    assert (short.status, short.header("min-expires")) == (423, "60")
    assert house.contacts() == []
    for asked, granted in (("60", 60), ("5000", 1800), ("99999999999999", 1800), ("soon", 1800)):
        answer = house.register(SipPeer(), f"<sip:a@10.0.0.1>;expires={asked}")
        assert answer.headers("contact") == [f"<sip:a@10.0.0.1>;expires={granted}"]


@pytest.mark.rfc(3261)
def test_what_comes_late_changes_nothing():
    house, phone = House(), SipPeer()
    house.register(phone, "<sip:a@10.0.0.1>")
    number = phone.cseq
    assert house.register(phone, "<sip:a@10.0.0.1>;expires=0", "<sip:a@10.0.0.2>", cseq=number - 1).status == 500
    assert house.contacts() == ["sip:a@10.0.0.1"]


@pytest.mark.rfc(3261)
def test_what_is_not_refreshed_is_over():
    house = House()
    house.register(SipPeer(), "<sip:a@10.0.0.1>;expires=100")
    house.events()
    house.advance(99)
    assert house.contacts() == ["sip:a@10.0.0.1"]
    house.advance(2)
    assert house.contacts() == []
    house.advance(40)
    assert house.event(BindingsChanged) == BindingsChanged("alice", NAT, 0)
    assert len(house.registrar) == 0
    house.settle()


def test_the_oldest_contact_makes_room():
    house = House(RegistrarSettings(max_contacts=2))
    for number in range(4):
        house.register(SipPeer(), f"<sip:a@10.0.0.{number}>")
    assert house.contacts() == ["sip:a@10.0.0.3", "sip:a@10.0.0.2"]


@pytest.mark.rfc(3327)
def test_the_path_is_kept_and_said():
    house = House()
    path = "Path: <sip:edge1.example;lr>, <sip:edge2.example;lr>\r\nRequire: path\r\n"
    answer = house.register(SipPeer(), headers=path)
    assert (answer.status, answer.headers("path")) == (200, ["<sip:edge1.example;lr>, <sip:edge2.example;lr>"])
    (binding,) = house.registrar.bindings("alice", house.now)
    assert binding.path == ("<sip:edge1.example;lr>", "<sip:edge2.example;lr>")


@pytest.mark.rfc(5626)
@pytest.mark.parametrize("source", [NAT, FLOW])
def test_a_flow_is_kept_open(source):
    house = House(RegistrarSettings(ping_s=25.0))
    house.register(SipPeer(), source=source)
    pings = []
    for _ in range(100):
        house.now += 1.0
        house.stack.handle_timer(house.now)
        pings += [hop for data, hop in house.stack.out if data == PING]
        house.stack.out.clear()
    assert pings == [source] * 3
    house.register(SipPeer(), "*", headers="Expires: 0\r\n")
    assert house.advance(60) == []


def test_what_was_kept_comes_back():
    house = House()
    kept = [Binding("alice", f"sip:a@10.0.0.{n}", "c", 1, house.now + 100 * n, (), NAT) for n in range(3)]
    house.registrar.restore(kept, house.now)
    assert house.contacts() == ["sip:a@10.0.0.2", "sip:a@10.0.0.1"]
    house.advance(300)
    assert len(house.registrar) == 0


@pytest.mark.rfc(5626)
def test_who_was_reached_over_a_connection_that_is_gone_is_not_there():
    house = House()
    house.register(SipPeer(), source=FLOW)
    house.register(SipPeer(), "<sip:a@10.0.0.1>")
    house.events()
    house.stack.send_failed(NAT, house.now)
    house.stack.send_failed(FLOW, house.now)
    assert house.contacts() == ["sip:a@10.0.0.1"]
    assert house.event(BindingsChanged) == BindingsChanged("alice", FLOW, 1)


def test_allow_names_it():
    house = House()
    answer = read(house.receive(SipPeer().options(), PEER)[-1])
    assert "REGISTER" in answer.header("allow")


def asked(house: House, seconds: float, status: int = 0) -> list[tuple[float, str]]:
    """Let time pass; (seconds, Request-URI) of each OPTIONS, answered with the status."""
    start, end, seen = house.now, house.now + seconds, {}
    while (deadline := house.stack.next_timer()) is not None and deadline <= end:
        house.now = max(house.now, deadline)
        house.stack.handle_timer(house.now)
        while house.stack.out:
            data, hop = house.stack.out.popleft()
            request = read(data)
            assert (request.method, hop) == ("OPTIONS", NAT)
            seen.setdefault(request.header("via"), (round(house.now - start), request.first.split()[1]))
            if status:
                house.stack.receive(SipPeer().respond(data, status), hop, house.now)
    house.now = end
    return list(seen.values())


BY_OPTIONS = RegistrarSettings(ping_s=25.0, keepalive="options")


@pytest.mark.rfc(5626)
def test_a_phone_that_answers_no_options_is_rung_last_until_it_does() -> None:
    house, phone = House(BY_OPTIONS), SipPeer(host="10.0.0.5")
    house.register(phone, source=NAT)
    house.events()
    uri = "sip:alice@10.0.0.5:5090"
    # 1 s until it is looked at for the first time, then each 25 s.
    assert asked(house, 60.0, 405) == [(26, uri), (51, uri)]
    assert house.events() == []
    assert asked(house, 40.0) == [(16, uri), (23, uri), (30, uri)]
    assert house.event(ContactChanged) == ContactChanged("alice", NAT, False, "no answer to OPTIONS")
    assert house.registrar.silent == 1
    house.registrar.restore([Binding("alice", "sip:old@10.0.0.6", "c", 1, house.now + 900, (), NAT)], house.now)
    assert house.contacts() == ["sip:old@10.0.0.6", uri]
    house.registrar.restore([Binding("alice", "sip:older@10.0.0.7", "c", 1, house.now + 900, (), NAT)], house.now)
    assert house.contacts() == ["sip:older@10.0.0.7", "sip:old@10.0.0.6", uri]
    asked(house, 30.0, 200)
    assert house.event(ContactChanged).is_up
    assert house.registrar.silent == 0


@pytest.mark.rfc(5626)
def test_a_phone_that_registers_again_is_there() -> None:
    house, phone = House(BY_OPTIONS), SipPeer(host="10.0.0.5")
    house.register(phone, source=NAT)
    asked(house, 60.0)
    assert house.registrar.silent == 1
    house.register(phone, source=NAT)
    assert house.registrar.silent == 0
    house.register(phone, "*", source=NAT, headers="Expires: 0\r\n")
    house.sent()
    assert asked(house, 60.0) == []
    house.settle()


@pytest.mark.rfc(3327)
def test_options_take_the_path_of_the_phone() -> None:
    house = House(BY_OPTIONS)
    kept = Binding("alice", "sip:a@10.0.0.5", "c", 1, house.now + 900, ("<sip:edge.example;lr>",), NAT)
    house.registrar.restore([kept], house.now)
    house.now += 1.0
    house.stack.handle_timer(house.now)
    house.now += 25.0
    house.stack.handle_timer(house.now)
    (options,) = house.read()
    assert options.headers("route") == ["<sip:edge.example;lr>"]


def test_who_is_pinged_no_more_is_not_silent_for_ever() -> None:
    house = House(BY_OPTIONS)
    house.register(SipPeer(host="10.0.0.5"), source=NAT)
    asked(house, 60.0)
    assert house.registrar.silent == 1
    house.registrar._settings = lambda: RegistrarSettings(ping_s=0)
    assert asked(house, 60.0) == [] and house.registrar.silent == 0


def test_pings_are_chosen_anew_without_a_restart() -> None:
    house = House(BY_OPTIONS)
    house.register(SipPeer(host="10.0.0.5"), source=NAT)
    asked(house, 60.0)
    assert house.registrar.silent == 1
    house.registrar._settings = lambda: RegistrarSettings(ping_s=25.0)
    house.now += 26.0
    house.stack.handle_timer(house.now)
    assert [data for data, _hop in house.stack.out][-1] == PING
    assert house.registrar.silent == 0


@pytest.mark.rfc(3261)
def test_a_register_inside_a_call_is_refused_whoever_sends_it():
    house, peer = House(), SipPeer()
    house.receive(peer.invite())
    session = house.event(InviteReceived).session
    house.stack.answer(session, SDP, house.now)
    peer.take(house.sent()[-1])
    house.receive(peer.ack())
    (refusal,) = house.receive(peer.request("REGISTER", headers="Expires: 60\r\n"))
    assert read(refusal).status == 405 and "REGISTER" not in read(refusal).header("allow")
    assert session.is_up and len(house.registrar) == 0
    house.stack.hang_up(session, house.now)
    house.settle()


@pytest.mark.parametrize("contact", ["<mailto:alice@example.com>", "<tel:+4930>"])
def test_a_contact_that_is_no_sip_uri(contact: str) -> None:
    house, phone = House(), SipPeer()
    phone.user = "alice"
    answer = house.register(phone, contact)
    assert (answer.status, "a phone's Contact is a SIP URI" in answer.header("warning")) == (400, True)
    assert house.registrar.bindings("alice", house.now) == []


@pytest.mark.rfc(3261)
def test_headers_of_a_contact_are_not_sent_to_it() -> None:
    """Section 19.1.1: a Request-URI has none."""
    house, phone = House(), SipPeer()
    phone.user = "alice"
    assert house.register(phone, "<sip:alice@10.0.0.7:5062;ob?Route=%3Csip%3Aevil%3E>").status == 200
    (binding,) = house.registrar.bindings("alice", house.now)
    assert binding.contact == "sip:alice@10.0.0.7:5062;ob"
