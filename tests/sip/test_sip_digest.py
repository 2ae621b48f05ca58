"""Digest authentication, with the vectors of RFC 7616 and the rules of RFC 8760 and RFC 3261 section 22."""

from __future__ import annotations

import itertools

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentstream.errors import RemoteProtocolError
from agentstream.sip import digest
from agentstream.sip.digest import (
    MOST_CHALLENGES,
    Answer,
    Answers,
    Challenge,
    Credentials,
    DigestClient,
    DigestServer,
    digest_of,
    parse_answer,
    parse_challenge,
)
from agentstream.sip.headers import Headers
from agentstream.sip.message import Response

MUFASA = Answer(
    "Mufasa",
    "http-auth@example.org",
    "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v",
    "/dir/index.html",
    "",
    qop="auth",
    count="00000001",
    cnonce="f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ",
)
MD5_RESPONSE = "8ca523f5e9506fed4657c9700eebdbec"
SHA256_RESPONSE = "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"
ALICE = Credentials("alice", "wonderland")


def tokens(prefix: str = "t"):
    numbers = itertools.count(1)
    return lambda: f"{prefix}{next(numbers):07d}"


def pair() -> tuple[DigestServer, DigestClient]:
    return DigestServer("agentstream", tokens("s")), DigestClient(ALICE, tokens("c"))


def answered(server: DigestServer, client: DigestClient, now: float = 1000.0, method: str = "REGISTER") -> Answer:
    text = client.answer(server.challenges(now), method, "sip:example.org")
    assert text is not None
    return parse_answer(text)


@pytest.mark.rfc(7616)
@pytest.mark.parametrize(("algorithm", "expected"), [("MD5", MD5_RESPONSE), ("SHA-256", SHA256_RESPONSE)])
def test_the_vectors_of_the_rfc(algorithm, expected):
    assert digest_of(attrs.evolve(MUFASA, algorithm=algorithm), "Circle of Life", "GET") == expected


@pytest.mark.rfc(7616)
def test_without_qop_it_is_what_rfc_2069_had():
    # RFC 2617 section 3.5 with the qop left out, as RFC 2069 computes it.
    answer = Answer("Mufasa", "testrealm@host.com", "dcd98b7102dd2f0e8b11d0f600bfb0c093", "/dir/index.html", "")
    assert digest_of(answer, "Circle Of Life", "GET") == "670fd8c2df070c60b045671b8b24ff02"


@pytest.mark.rfc(7616)
def test_headers_are_read_and_written():
    text = (
        'DIGEST username="Mufasa", realm="http-auth@example.org", uri="/dir/index.html", algorithm=md5,'
        f' nonce="{MUFASA.nonce}", nc=00000001, cnonce="{MUFASA.cnonce}", qop=auth,'
        f' response="{MD5_RESPONSE}", opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"'
    )
    answer = parse_answer(text)
    expected = attrs.evolve(MUFASA, response=MD5_RESPONSE, opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS")
    assert answer == expected
    assert parse_answer(str(answer)) == answer
    challenge = Challenge('a "realm"', "n", "SHA-256", ("auth", "auth-int"), "o", True)
    assert parse_challenge(str(challenge)) == challenge


@pytest.mark.rfc(8760)
def test_both_algorithms_are_offered_the_strongest_first():
    server, _client = pair()
    offered = [parse_challenge(value) for value in server.challenges(1000.0)]
    assert [challenge.algorithm for challenge in offered] == ["SHA-256", "MD5"]
    assert {challenge.qops for challenge in offered} == {("auth",)}
    assert len({challenge.nonce for challenge in offered}) == 1


@pytest.mark.rfc(8760)
@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_the_strongest_challenge_is_answered(order):
    server, client = pair()
    values = server.challenges(1000.0)
    unknown = 'Digest realm="r", nonce="n", algorithm=SHA-512-256, qop="auth"'
    chosen = client.choose([unknown, "Basic realm=x", *(values[index] for index in order)])
    assert chosen is not None
    assert chosen.algorithm == "SHA-256"


@pytest.mark.rfc(7616)
def test_auth_int_alone_is_not_answered_and_not_accepted():
    server, client = pair()
    assert client.answer(['Digest realm="r", nonce="n", qop="auth-int"'], "INVITE", "sip:a@b") is None
    assert client.answer([], "INVITE", "sip:a@b") is None
    answer = attrs.evolve(answered(server, client), qop="auth-int")
    answer = attrs.evolve(answer, response=digest_of(answer, ALICE.password, "REGISTER"))
    assert server.verify(answer, ALICE.password, "REGISTER", 1000.0) == "bad"


@pytest.mark.rfc(3261)
def test_a_challenge_without_qop_is_answered_and_an_answer_without_it_is_refused():
    server, client = pair()
    text = client.answer(['Digest realm="agentstream", nonce="n"'], "INVITE", "sip:a@b")
    assert text is not None
    assert "qop" not in text
    assert "algorithm=MD5" in text
    answer = attrs.evolve(answered(server, client), qop="", count="", cnonce="")
    answer = attrs.evolve(answer, response=digest_of(answer, ALICE.password, "REGISTER"))
    assert server.verify(answer, ALICE.password, "REGISTER", 1000.0) == "bad"


class TestServer:
    @pytest.mark.rfc(7616)
    @pytest.mark.parametrize("algorithm", ["MD5", "SHA-256"])
    def test_the_right_password_is_good(self, algorithm):
        server, client = pair()
        (value,) = (value for value in server.challenges(1000.0) if f"algorithm={algorithm}," in value)
        answer = client.respond(parse_challenge(value), "INVITE", "sip:1000@127.0.0.1")
        assert server.verify(answer, ALICE.password, "INVITE", 1000.5) == "good"

    @pytest.mark.rfc(7616)
    @pytest.mark.parametrize(
        "change",
        [
            {"response": "0" * 64},
            {"response": "é"},
            {"uri": "sip:somebody.else"},
            {"user": "bob"},
            {"realm": "elsewhere"},
            {"algorithm": "SHA-512-256"},
            {"count": "00000002"},
            {"count": "1"},
            {"cnonce": ""},
            {"nonce": "made up"},
        ],
    )
    def test_whatever_is_changed_is_bad(self, change):
        server, client = pair()
        answer = attrs.evolve(answered(server, client), **change)
        assert server.verify(answer, ALICE.password, "REGISTER", 1000.0) == "bad"

    @pytest.mark.rfc(7616)
    def test_the_method_is_part_of_it_and_nobody_has_no_password(self):
        server, client = pair()
        answer = answered(server, client)
        assert server.verify(answer, ALICE.password, "INVITE", 1000.0) == "bad"
        assert server.verify(answer, None, "REGISTER", 1000.0) == "bad"
        empty = answered(server, DigestClient(Credentials("nobody", ""), tokens()))
        assert server.verify(empty, None, "REGISTER", 1000.0) == "bad"

    @pytest.mark.rfc(7616)
    def test_an_old_nonce_is_stale_and_one_of_another_life_too(self):
        server, client = pair()
        assert server.verify(answered(server, client), ALICE.password, "REGISTER", 1302.0) == "stale"
        assert server.verify(answered(server, client), ALICE.password, "REGISTER", 999.0) == "stale"
        other = DigestServer("agentstream", tokens("other"))
        assert other.verify(answered(server, client), ALICE.password, "REGISTER", 1000.0) == "stale"
        assert "stale=true" in other.challenges(1000.0, is_stale=True)[0]

    @pytest.mark.rfc(7616)
    def test_a_count_is_good_once(self):
        server, client = pair()
        challenge = parse_challenge(server.challenges(1000.0)[0])
        answers = [client.respond(challenge, "INVITE", "sip:a@b") for _ in range(200)]

        def verify(number: int) -> str:
            return server.verify(answers[number - 1], ALICE.password, "INVITE", 1000.0)

        assert [verify(number) for number in (1, 1, 2, 5, 4, 3, 4, 5)] == ["good", "stale"] + ["good"] * 4 + [
            "stale"
        ] * 2
        assert verify(200) == "good"
        assert [verify(number) for number in (136, 137, 137, 6, 200)] == ["stale", "good", "stale", "stale", "stale"]

    @settings(max_examples=30)
    @given(st.lists(st.integers(1, 300), max_size=80))
    def test_no_order_of_counts_lets_one_in_twice(self, numbers):
        server, _client = pair()
        nonce = parse_challenge(server.challenges(1000.0)[0]).nonce
        taken = [number for number in numbers if server._take(nonce, 1000, number)]
        assert len(taken) == len(set(taken))
        highest = 0
        oracle: set[int] = set()
        for number in numbers:
            if number not in oracle and highest - number < digest.COUNT_WINDOW:
                oracle.add(number)
                highest = max(highest, number)
        assert set(taken) == oracle

    @pytest.mark.rfc(7616)
    def test_memory_is_bounded_and_what_is_forgotten_is_no_way_in(self, monkeypatch):
        monkeypatch.setattr(digest, "NONCES_KEPT", 10)
        server, client = pair()
        first = answered(server, client)
        assert server.verify(first, ALICE.password, "REGISTER", 1000.0) == "good"
        for second in range(1, 15):
            answer = answered(server, client, now=1000.0 + second)
            assert server.verify(answer, ALICE.password, "REGISTER", 1000.0 + second) == "good"
        assert len(server) == 10
        assert server.verify(first, ALICE.password, "REGISTER", 1015.0) == "stale"

    def test_challenges_cost_no_memory(self):
        server, _client = pair()
        for _ in range(100):
            server.challenges(1000.0)
        assert len(server) == 0


def test_passwords_are_in_no_repr():
    server, client = pair()
    answer = answered(server, client)
    assert ALICE.password not in repr(ALICE) + repr(client.credentials)
    assert answer.response not in repr(answer)


@pytest.mark.parametrize(
    "text",
    ["Basic abc", "Digest", 'Digest username="a"', "Digest realm", 'Digest realm="x", realm="y"', 'Digest realm="x'],
)
def test_what_cannot_be_read_is_their_mistake(text):
    for parse in (parse_answer, parse_challenge):
        with pytest.raises(RemoteProtocolError):
            parse(text)


@settings(max_examples=50)
@given(st.text(max_size=80))
def test_any_text_is_a_header_or_their_mistake(text):
    for parse in (parse_answer, parse_challenge):
        try:
            str(parse("Digest " + text))
        except RemoteProtocolError as error:
            assert error.status == 400


@pytest.mark.rfc(8760)
def test_only_what_was_asked_for_is_taken() -> None:
    """Where a node wants one algorithm, an answer by the other is none, however right it is."""
    for algorithm, other in (("MD5", "SHA-256"), ("SHA-256", "MD5")):
        words = iter(f"w{number}" for number in range(100))
        both = DigestServer("here", words.__next__)
        one = DigestServer("here", words.__next__, [algorithm])
        (challenge,) = [parse_challenge(text) for text in one.challenges(0.0)]
        assert challenge.algorithm == algorithm
        client = DigestClient(Credentials("alice", "right"), lambda: "c1")
        assert one.verify(client.respond(challenge, "REGISTER", "sip:here"), "right", "REGISTER", 0.0) == "good"
        answer = client.respond(attrs.evolve(challenge, algorithm=other), "REGISTER", "sip:here")
        assert one.verify(answer, "right", "REGISTER", 0.0) == "bad"
        assert both.verify(answer, "right", "REGISTER", 0.0) == "stale"


def asked_by(*realms: str) -> Response:
    values = [str(parse_challenge(f'Digest realm="{realm}", nonce="n"')) for realm in realms]
    return Response(401, "Unauthorized", Headers(("WWW-Authenticate", value) for value in values))


def test_a_realm_that_refuses_us_does_not_block_another() -> None:
    answers = Answers(DigestClient(Credentials("alice", "right"), lambda: "c"))
    assert answers.hear(asked_by("one"))
    assert answers.hear(asked_by("one", "two"))
    assert len(answers.headers("INVITE", "sip:here")) == 2
    assert not answers.hear(asked_by("one", "two"))


def test_two_realms_of_one_response_are_one_round() -> None:
    answers = Answers(DigestClient(Credentials("alice", "right"), lambda: "c"))
    rounds = [answers.hear(asked_by(f"a{number}", f"b{number}")) for number in range(MOST_CHALLENGES + 1)]
    assert rounds == [True] * MOST_CHALLENGES + [False]
