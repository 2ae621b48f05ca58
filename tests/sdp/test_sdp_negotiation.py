"""Offer and answer (RFC 3264)."""

from __future__ import annotations

import attrs
import pytest

from agentstream import sdp
from agentstream.errors import LocalProtocolError, RemoteProtocolError

pytestmark = pytest.mark.rfc(3264)

LOCAL = sdp.LocalMedia("127.0.0.1", 20000, session_id=77)
HEAD = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.9\r\nt=0 0\r\n"


def offer(*lines: str, head: str = HEAD) -> sdp.SessionDescription:
    return sdp.parse((head + "\r\n".join(lines) + "\r\n").encode())


def answered(*lines: str, head: str = HEAD) -> tuple[str, sdp.MediaPlan]:
    """Our answer's media part and the plan."""
    answer, plan = sdp.answer_offer(offer(*lines, head=head), LOCAL)
    return answer.serialise().decode().partition("t=0 0\r\n")[2].replace("\r\n", "|"), plan


def refused(*lines: str, head: str = HEAD) -> str:
    with pytest.raises(RemoteProtocolError) as caught:
        sdp.answer_offer(offer(*lines, head=head), LOCAL)
    assert caught.value.status == 488
    return caught.value.sentence


def test_an_ordinary_offer() -> None:
    text, plan = answered(
        "m=audio 40000 RTP/AVP 8 0 101",
        "a=rtpmap:8 PCMA/8000",
        "a=rtpmap:0 PCMU/8000",
        "a=rtpmap:101 telephone-event/8000",
        "a=fmtp:101 0-16",
        "a=ptime:30",
        "a=maxptime:60",
    )
    assert text == (
        "m=audio 20000 RTP/AVP 8 101|a=rtpmap:8 PCMA/8000|a=rtpmap:101 telephone-event/8000|a=fmtp:101 0-15|"
        "a=ptime:20|a=sendrecv|"
    )
    assert plan == sdp.MediaPlan("127.0.0.9", 40000, "PCMA", 8, 8, 101, 101, 30, 60, True, True)


def test_our_answer_has_our_origin() -> None:
    answer, _ = sdp.answer_offer(offer("m=audio 4 RTP/AVP 0"), LOCAL)
    assert answer.serialise().startswith(
        b"v=0\r\no=- 77 1 IN IP4 127.0.0.1\r\ns=agentstream\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
        b"m=audio 20000 RTP/AVP 0\r\n"
    )


@pytest.mark.parametrize(
    ("line", "ours"),
    [
        ("t=0 0", "0 0"),
        ("t=3724394400  3724398000 ", "3724394400 3724398000"),
        ("", "0 0"),
        ("t=now", "0 0"),
        ("t=1 2\r3", "0 0"),
        ("t=1 2\r\nt=3 4", "1 2"),
    ],
)
def test_the_time_is_the_offers(line: str, ours: str) -> None:
    """RFC 3264 section 6; what is no time does not come back."""
    theirs = offer("m=audio 4 RTP/AVP 0", head=HEAD.replace("t=0 0", line))
    answer, _ = sdp.answer_offer(theirs, LOCAL)
    assert f"\r\nt={ours}\r\n" in answer.serialise().decode()
    assert f"\r\nt={ours}\r\n" in sdp.make_offer(LOCAL, answer).serialise().decode()


def test_static_numbers_need_no_rtpmap_and_no_digits_are_no_digits() -> None:
    _, plan = answered("m=audio 40000 RTP/AVP 0")
    assert (plan.codec, plan.send_payload_type) == ("PCMU", 0)
    assert (plan.send_digit_payload_type, plan.receive_digit_payload_type) == (None, None)


def test_numbers_are_the_offers() -> None:
    text, plan = answered("m=audio 40000 RTP/AVP 97 98", "a=rtpmap:97 pcmu/8000/1", "a=rtpmap:98 Telephone-Event/8000")
    assert (plan.codec, plan.send_payload_type, plan.receive_payload_type) == ("PCMU", 97, 97)
    assert (plan.send_digit_payload_type, plan.receive_digit_payload_type) == (98, 98)
    assert text.startswith("m=audio 20000 RTP/AVP 97 98|")


def test_a_static_number_means_what_its_rtpmap_says() -> None:
    _, plan = answered("m=audio 40000 RTP/AVP 0 96", "a=rtpmap:0 G729/8000", "a=rtpmap:96 PCMA/8000")
    assert (plan.codec, plan.send_payload_type) == ("PCMA", 96)


def test_digits_of_another_clock_are_not_ours() -> None:
    _, plan = answered(
        "m=audio 40000 RTP/AVP 0 100 101", "a=rtpmap:100 telephone-event/48000", "a=rtpmap:101 telephone-event/8000"
    )
    assert plan.send_digit_payload_type == 101


def test_the_offers_order_decides() -> None:
    assert answered("m=audio 40000 RTP/AVP 8 0")[1].codec == "PCMA"
    assert answered("m=audio 40000 RTP/AVP 9 0 8")[1].codec == "PCMU"


def test_a_codec_that_we_do_not_want() -> None:
    answer, plan = sdp.answer_offer(offer("m=audio 40000 RTP/AVP 0 8"), attrs.evolve(LOCAL, codecs=("PCMA",)))
    assert (plan.codec, answer.media[0].formats) == ("PCMA", ("8",))


def test_other_media_are_declined_in_their_place() -> None:
    text, plan = answered(
        "m=video 5000 RTP/AVP 31",
        "m=audio 40002 RTP/SAVP 0",
        "m=audio 40000 RTP/AVP 0",
        "m=audio 40004 RTP/AVP 0",
        "m=application 9 UDP/DTLS/SCTP webrtc-datachannel",
    )
    assert plan.remote_port == 40000
    assert [line for line in text.split("|") if line.startswith("m=")] == [
        "m=video 0 RTP/AVP 31",
        "m=audio 0 RTP/SAVP 0",
        "m=audio 20000 RTP/AVP 0",
        "m=audio 0 RTP/AVP 0",
        "m=application 0 UDP/DTLS/SCTP webrtc-datachannel",
    ]


@pytest.mark.parametrize(
    ("session", "media", "ours", "send", "receive"),
    [
        ("", "", "sendrecv", True, True),
        ("", "a=sendonly", "recvonly", False, True),
        ("", "a=recvonly", "sendonly", True, False),
        ("", "a=inactive", "inactive", False, False),
        ("a=sendonly", "", "recvonly", False, True),
        ("a=inactive", "a=sendrecv", "sendrecv", True, True),
    ],
)
def test_directions(session: str, media: str, ours: str, send: bool, receive: bool) -> None:
    head = HEAD + (f"{session}\r\n" if session else "")
    text, plan = answered("m=audio 40000 RTP/AVP 0", *([media] if media else []), head=head)
    assert text.endswith(f"a={ours}|")
    assert (plan.may_send, plan.may_receive) == (send, receive)


def test_the_address_of_the_old_hold() -> None:
    text, plan = answered("m=audio 40000 RTP/AVP 0", "c=IN IP4 0.0.0.0")
    assert (plan.may_send, plan.may_receive, plan.remote_host) == (False, True, "0.0.0.0")
    assert text.endswith("a=recvonly|")


def test_the_medias_address_wins() -> None:
    assert answered("m=audio 40000 RTP/AVP 0", "c=IN IP4 127.0.0.3/127")[1].remote_host == "127.0.0.3"


def test_ipv6() -> None:
    local = sdp.LocalMedia("::1", 20000)
    answer, plan = sdp.answer_offer(offer("m=audio 4 RTP/AVP 0", "c=IN IP6 2001:DB8:0::1"), local)
    assert plan.remote_host == "2001:db8::1"
    assert b"c=IN IP6 ::1\r\n" in answer.serialise()


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        ((), "the offer has no audio"),
        (("m=video 4 RTP/AVP 31",), "the offer has no audio"),
        (("m=audio 4 RTP/AVP 9 18",), "the offer holds none of our audio codecs: PCMU, PCMA"),
        (("m=audio 4 RTP/AVP 96", "a=rtpmap:96 PCMU/16000"), "the offer holds none of our audio codecs: PCMU, PCMA"),
        (("m=audio 4 RTP/AVP 96", "a=rtpmap:96 PCMU/8000/2"), "the offer holds none of our audio codecs: PCMU, PCMA"),
        (("m=audio 4 RTP/AVP 96",), "the offer holds none of our audio codecs: PCMU, PCMA"),
        (("m=audio 4 RTP/AVP 008",), "the offer holds none of our audio codecs: PCMU, PCMA"),
        (("m=audio 4 RTP/AVP 999 ²",), "the offer holds none of our audio codecs: PCMU, PCMA"),
        (("m=audio 4 RTP/SAVP 0",), "only audio over RTP/AVP is served"),
        (("m=audio 4 RTP/AVPF 0",), "only audio over RTP/AVP is served"),
        (("m=audio 4 UDP/TLS/RTP/SAVPF 0",), "only audio over RTP/AVP is served"),
        (("m=audio 0 RTP/AVP 0",), "the offer's audio has port 0"),
        (("m=audio 4 RTP/AVP 0", "c=IN IP4 phone.example.org"), "the connection address is not an IP address"),
        (("m=audio 4 RTP/AVP 0", "c=IN IP4 224.2.36.42/127"), "the connection address is not a unicast address"),
        (("m=audio 4 RTP/AVP 0", "c=IN IP6 fe80::1%eth0"), "the connection address is not a unicast address"),
        (("m=audio 4 RTP/AVP 0", "c=IN IP6 ::1"), "the offer's connection address is of another IP family than ours"),
    ],
)
def test_refusals(lines: tuple[str, ...], sentence: str) -> None:
    assert refused(*lines) == sentence


def test_no_address_at_all() -> None:
    assert refused("m=audio 4 RTP/AVP 0", head=HEAD.replace("c=IN IP4 127.0.0.9\r\n", "")) == "the audio has no c= line"


class TestOurOffer:
    OURS = sdp.make_offer(LOCAL)

    def test_its_text(self) -> None:
        assert self.OURS.serialise().partition(b"t=0 0\r\n")[2] == (
            b"m=audio 20000 RTP/AVP 0 8 101\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\n"
            b"a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\na=ptime:20\r\na=rtcp-mux\r\n"
            b"a=sendrecv\r\n"
        )

    def test_an_answer(self) -> None:
        plan = sdp.accept_answer(
            self.OURS, offer("m=audio 4000 RTP/AVP 8 101", "a=rtpmap:101 telephone-event/8000", "a=ptime:10")
        )
        assert plan == sdp.MediaPlan("127.0.0.9", 4000, "PCMA", 8, 8, 101, 101, 10)

    def test_an_answer_with_numbers_of_its_own(self) -> None:
        """RFC 3264 section 6.1 lets the answerer number its side as it likes: we send its numbers and receive ours."""
        plan = sdp.accept_answer(
            self.OURS, offer("m=audio 4 RTP/AVP 100 96", "a=rtpmap:100 PCMU/8000", "a=rtpmap:96 telephone-event/8000")
        )
        assert (plan.send_payload_type, plan.receive_payload_type) == (100, 0)
        assert (plan.send_digit_payload_type, plan.receive_digit_payload_type) == (96, 101)

    def test_an_answer_that_leaves_out_the_rtpmap(self) -> None:
        assert sdp.accept_answer(self.OURS, offer("m=audio 4 RTP/AVP 0 101")).send_digit_payload_type == 101

    def test_an_answer_that_only_listens(self) -> None:
        plan = sdp.accept_answer(self.OURS, offer("m=audio 4 RTP/AVP 0", "a=recvonly"))
        assert (plan.may_send, plan.may_receive) == (True, False)

    @pytest.mark.parametrize(
        ("lines", "sentence"),
        [
            ((), "the answer has not as many media as the offer"),
            (("m=audio 0 RTP/AVP 0",), "the answer declines the audio"),
            (("m=audio 4 RTP/SAVP 0",), "the answer to our audio is not audio over RTP/AVP"),
            (("m=video 4 RTP/AVP 0",), "the answer to our audio is not audio over RTP/AVP"),
            (("m=audio 4 RTP/AVP 18",), "the answer names no audio codec of the offer"),
            (
                ("m=audio 4 RTP/AVP 0", "c=IN IP6 ::1"),
                "the answer's connection address is of another IP family than ours",
            ),
        ],
    )
    def test_answers_that_cannot_be_used(self, lines: tuple[str, ...], sentence: str) -> None:
        with pytest.raises(RemoteProtocolError) as caught:
            sdp.accept_answer(self.OURS, offer(*lines))
        assert (caught.value.status, caught.value.sentence) == (488, sentence)


def test_a_codec_that_nobody_knows_is_a_bug_of_ours() -> None:
    with pytest.raises(LocalProtocolError):
        sdp.LocalMedia("127.0.0.1", 20000, codecs=("GSM",))
