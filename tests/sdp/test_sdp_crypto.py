"""Keys of SRTP in offers and answers (RFC 4568, RFC 7714 section 14)."""

from __future__ import annotations

import base64
import itertools

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentstream import sdp
from agentstream.errors import LocalProtocolError, RemoteProtocolError
from agentstream.sdp import crypto
from tests.sdp.test_sdp_negotiation import LOCAL, offer

pytestmark = pytest.mark.rfc(4568)

GCM, CM_80, CM_32 = "AEAD_AES_128_GCM", "AES_CM_128_HMAC_SHA1_80", "AES_CM_128_HMAC_SHA1_32"
SECURE = "m=audio 40000 RTP/SAVP 0"
CLEAR = "m=audio 40000 RTP/AVP 0"
THEIRS = bytes(range(30))


def local(srtp: str = "required") -> sdp.LocalMedia:
    """With keys that are all different: 1, 1, 1, ... and 2, 2, 2, ..."""
    numbers = itertools.count(1)
    return attrs.evolve(LOCAL, srtp=srtp, random_bytes=lambda count: bytes([next(numbers)]) * count)


def line(key: bytes = THEIRS, suite: str = CM_80, tag: int | str = 1, more: str = "", session: str = "") -> str:
    return f"a=crypto:{tag} {suite} inline:{base64.b64encode(key).decode()}{more}{session}"


def cryptos(description: sdp.SessionDescription, place: int = 0) -> list[crypto.Crypto]:
    return crypto.lines_of(description.media[place])


class TestALine:
    """What is taken of ``a=crypto``."""

    @pytest.mark.parametrize(("suite", "length"), crypto.SUITES.items())
    @pytest.mark.rfc(7714)
    def test_every_suite(self, suite: str, length: int) -> None:
        key = bytes(range(length))
        read = crypto.read_line(line(key, suite, 7)[9:])
        assert read == crypto.Crypto(7, suite, key)
        assert read is not None and crypto.read_line(read.line()) == read

    def test_the_example_of_the_rfc(self) -> None:
        text = "1 AES_CM_128_HMAC_SHA1_80 inline:PS1uQCVeeCFCanVmcjkpPywjNWhcYD0mXXtxaVBR|2^20"
        read = crypto.read_line(text)
        assert read is not None
        assert (read.tag, read.suite, read.key) == (1, CM_80, b"=-n@%^x!Bjufr9)?,#5h\\`=&]{qiPQ")

    @pytest.mark.parametrize("more", ["|2^20", "|2^31", "|2^48", "|1048576", " WSH=64", "|2^48 -strange WSH=100"])
    def test_what_is_taken(self, more: str) -> None:
        assert crypto.read_line(line(more=more)[9:]) is not None

    @pytest.mark.parametrize(
        "more",
        [
            "|2^19",  # over before a call is
            "|1000",
            "|2^49",
            "|2^",
            "|",
            "|1:4",  # a master key identifier
            "|2^20|1:4",
            ";inline:PS1uQCVeeCFCanVmcjkpPywjNWhcYD0mXXtxaVBR",
            " KDR=1",
            " UNENCRYPTED_SRTP",
            " UNENCRYPTED_SRTCP",
            " UNAUTHENTICATED_SRTP",
            " FEC_ORDER=FEC_SRTP",
            " WSH=64 strange",
        ],
    )
    def test_what_is_not(self, more: str) -> None:
        assert crypto.read_line(line(more=more)[9:]) is None

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "1",
            f"1 {CM_80}",
            f"x {CM_80} inline:{base64.b64encode(THEIRS).decode()}",
            f"1234567890 {CM_80} inline:{base64.b64encode(THEIRS).decode()}",
            f"1 F8_128_HMAC_SHA1_80 inline:{base64.b64encode(THEIRS).decode()}",
            f"1 {CM_80} inline:{base64.b64encode(THEIRS[1:]).decode()}",
            f"1 {GCM} inline:{base64.b64encode(THEIRS).decode()}",
            f"1 {CM_80} inline:*{base64.b64encode(THEIRS).decode()}",
            f"1 {CM_80} uri:{base64.b64encode(THEIRS).decode()}",
            f"1 {CM_80} inline",
        ],
    )
    def test_what_is_none(self, text: str) -> None:
        assert crypto.read_line(text) is None

    def test_a_key_without_its_padding(self) -> None:
        key = bytes(28)
        assert crypto.read_line(line(key, GCM)[9:].rstrip("=")) == crypto.Crypto(1, GCM, key)

    def test_a_key_is_never_shown(self) -> None:
        _, plan = sdp.answer_offer(offer(SECURE, line()), local())
        assert plan.keys is not None
        shown = repr(plan) + repr(cryptos(offer(SECURE, line())))
        assert repr(THEIRS) not in shown and repr(plan.keys.send) not in shown


class TestAnswer:
    def test_the_first_line_that_is_served_with_its_tag_and_a_key_of_ours(self) -> None:
        theirs = offer(SECURE, line(suite="AES_CM_256", tag=1), line(suite=CM_32, tag=9), line(suite=CM_80, tag=3))
        answer, plan = sdp.answer_offer(theirs, local())
        assert answer.media[0].protocol == "RTP/SAVP"
        assert cryptos(answer) == [crypto.Crypto(9, CM_32, b"\1" * 30)]
        assert plan.keys == sdp.Keys(CM_32, b"\1" * 30, THEIRS)

    def test_of_two_lines_with_one_tag_the_first_counts(self) -> None:
        answer, _ = sdp.answer_offer(offer(SECURE, line(suite=CM_32), line(suite=CM_80)), local())
        assert [one.suite for one in cryptos(answer)] == [CM_32]

    @pytest.mark.parametrize(
        ("srtp", "lines", "sentence"),
        [
            ("off", [SECURE, line()], "only audio over RTP/AVP is served"),
            ("required", [CLEAR], "only audio over RTP/SAVP is served"),
            ("required", [CLEAR, line()], "only audio over RTP/SAVP is served"),
            ("optional", ["m=audio 40000 RTP/SAVPF 0", line()], "only audio over RTP/AVP or RTP/SAVP is served"),
            ("optional", [SECURE], "the offer's RTP/SAVP has no a=crypto that is served here"),
            ("required", [SECURE, line(more="|1:4")], "the offer's RTP/SAVP has no a=crypto that is served here"),
        ],
    )
    def test_what_is_declined(self, srtp: str, lines: list[str], sentence: str) -> None:
        with pytest.raises(RemoteProtocolError) as caught:
            sdp.answer_offer(offer(*lines), local(srtp))
        assert (caught.value.status, caught.value.sentence) == (488, sentence)

    @pytest.mark.parametrize(("lines", "protocol"), [([CLEAR], "RTP/AVP"), ([SECURE, line()], "RTP/SAVP")])
    def test_optional_answers_what_was_offered(self, lines: list[str], protocol: str) -> None:
        answer, plan = sdp.answer_offer(offer(*lines), local("optional"))
        assert answer.media[0].protocol == protocol
        assert (plan.keys is not None) == (protocol == "RTP/SAVP")

    @pytest.mark.parametrize(
        ("srtp", "ports"), [("off", [20000, 0]), ("optional", [0, 20000]), ("required", [0, 20000])]
    )
    def test_of_both_in_one_offer(self, srtp: str, ports: list[int]) -> None:
        answer, plan = sdp.answer_offer(offer(CLEAR, "m=audio 40002 RTP/SAVP 0", line()), local(srtp))
        assert [media.port for media in answer.media] == ports
        assert (plan.keys is not None) == (srtp != "off")

    def test_both_with_keys_that_are_not_served_is_answered_in_clear_where_that_was_offered(self) -> None:
        answer, plan = sdp.answer_offer(offer(SECURE, "m=audio 40002 RTP/AVP 0"), local("optional"))
        assert ([media.port for media in answer.media], plan.keys) == ([0, 20000], None)


class TestTheSameSessionAgain:
    def test_keys_that_did_not_change_stay_and_so_does_the_description(self) -> None:
        ours = local()
        first, plan = sdp.answer_offer(offer(SECURE, line()), ours)
        again, later = sdp.answer_offer(offer(SECURE, line(bytes(30), CM_32, 1), line(tag=2)), ours, plan)
        assert later.keys == plan.keys
        assert cryptos(again) == [attrs.evolve(cryptos(first)[0], tag=2)]
        same, _ = sdp.answer_offer(offer(SECURE, line()), ours, plan)
        assert sdp.revise(first, same) == first

    def test_another_key_of_theirs_is_answered_by_another_of_ours(self) -> None:
        ours = local()
        _, plan = sdp.answer_offer(offer(SECURE, line()), ours)
        _, later = sdp.answer_offer(offer(SECURE, line(bytes(30))), ours, plan)
        assert plan.keys == sdp.Keys(CM_80, b"\1" * 30, THEIRS)
        assert later.keys == sdp.Keys(CM_80, b"\2" * 30, bytes(30))

    def test_our_offer_keeps_the_key_that_is_in_use_and_has_new_ones_for_other_suites(self) -> None:
        ours = local("optional")
        answer, plan = sdp.answer_offer(offer(SECURE, line(tag=2)), ours)
        again = sdp.make_offer(ours, answer)
        assert again.media[0].protocol == "RTP/SAVP"
        lines = cryptos(again)
        assert lines[0] == cryptos(answer)[0]
        assert len({one.key for one in lines}) == len({one.tag for one in lines}) == len(crypto.SUITES)
        assert {one.suite for one in lines} == set(crypto.SUITES)
        assert cryptos(sdp.make_offer(ours, again)) == lines
        assert sdp.accept_answer(again, offer(SECURE, line(tag=2))).keys == plan.keys

    @pytest.mark.rfc(3711)
    def test_a_key_that_was_given_up_is_not_offered_again(self) -> None:
        ours = local()
        made, used = sdp.make_offer(ours), set[bytes]()
        for suite in (CM_80, CM_32, CM_80, CM_80):
            (chosen,) = [one for one in cryptos(made) if one.suite == suite]
            plan = sdp.accept_answer(made, offer(SECURE, line(THEIRS, suite, chosen.tag)))
            made, before = sdp.make_offer(ours, made, plan), made
            kept = {one.key for one in cryptos(made)} & {one.key for one in cryptos(before)}
            assert kept == {chosen.key} and not (used - kept) & {one.key for one in cryptos(made)}
            used.add(chosen.key)

    def test_a_session_in_clear_stays_so_in_our_offers(self) -> None:
        ours = local("optional")
        answer, _ = sdp.answer_offer(offer(CLEAR), ours)
        assert sdp.make_offer(ours, answer).media[0].protocol == "RTP/AVP"


class TestOurOffer:
    @pytest.mark.parametrize(
        ("srtp", "protocol"), [("off", "RTP/AVP"), ("optional", "RTP/AVP"), ("required", "RTP/SAVP")]
    )
    def test_the_setting_says_what_is_offered(self, srtp: str, protocol: str) -> None:
        made = sdp.make_offer(local(srtp))
        assert made.media[0].protocol == protocol
        assert {one.suite for one in cryptos(made)} == (set(crypto.SUITES) if srtp == "required" else set())

    def test_the_answer_chooses(self) -> None:
        ours = sdp.make_offer(local())
        chosen = cryptos(ours)[2]
        plan = sdp.accept_answer(ours, offer(SECURE, line(THEIRS, chosen.suite, chosen.tag)))
        assert plan.keys == sdp.Keys(chosen.suite, chosen.key, THEIRS)

    @pytest.mark.parametrize(
        ("lines", "sentence"),
        [
            ([CLEAR], "the answer to our audio is not audio over RTP/SAVP"),
            ([SECURE], "the answer over RTP/SAVP has not one a=crypto that is served here"),
            ([SECURE, line(tag=3), line(tag=4)], "the answer over RTP/SAVP has not one a=crypto that is served here"),
            ([SECURE, line(tag=9)], "the answer's a=crypto has not the tag and the suite of one of ours"),
            ([SECURE, line(tag=4)], "the answer's a=crypto has not the tag and the suite of one of ours"),
            ([SECURE, line(b"\3" * 30, tag=3)], "the answer's a=crypto repeats our own key"),
        ],
    )
    def test_answers_that_are_of_no_use(self, lines: list[str], sentence: str) -> None:
        ours = sdp.make_offer(local())
        assert [(one.tag, one.suite) for one in cryptos(ours)][2:] == [(3, CM_80), (4, CM_32)]
        with pytest.raises(RemoteProtocolError) as caught:
            sdp.accept_answer(ours, offer(*lines))
        assert (caught.value.status, caught.value.sentence) == (488, sentence)

    def test_keys_need_chance(self) -> None:
        with pytest.raises(LocalProtocolError):
            sdp.make_offer(attrs.evolve(LOCAL, srtp="required"))


WORDS = st.sampled_from(
    [
        *crypto.SUITES,
        "1",
        "999999999",
        "inline:",
        "inline:AAAA",
        "|2^20",
        "|1:4",
        ";",
        " ",
        "KDR=1",
        "-x",
        "WSH=1",
        "==",
    ]
)


@given(st.lists(WORDS | st.text(max_size=12), max_size=8).map("".join))
@settings(max_examples=200)
def test_any_text_is_a_line_or_none(text: str) -> None:
    read = crypto.read_line(text)
    assert read is None or crypto.read_line(read.line()) == read


@given(
    st.lists(
        st.tuples(
            st.integers(0, 12),
            st.sampled_from([*crypto.SUITES, "F8_128_HMAC_SHA1_80"]),
            st.binary(min_size=27, max_size=45) | st.sampled_from([bytes(28), bytes(30), bytes(44)]),
        ),
        max_size=6,
    )
)
@settings(max_examples=100)
def test_an_answer_of_ours_is_taken_by_who_offered(offers: list[tuple[int, str, bytes]]) -> None:
    theirs = offer(SECURE, *(line(key, suite, tag) for tag, suite, key in offers))
    served = crypto.lines_of(theirs.media[0])
    try:
        answer, plan = sdp.answer_offer(theirs, local("optional"))
    except RemoteProtocolError:
        assert not served
        return
    keys = sdp.accept_answer(theirs, sdp.parse(answer.serialise())).keys
    assert plan.keys is not None and keys is not None
    assert (keys.suite, keys.send, keys.receive) == (plan.keys.suite, plan.keys.receive, plan.keys.send)
    assert (keys.suite, keys.send) == (served[0].suite, served[0].key)
