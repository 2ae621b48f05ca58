"""Codecs other than G.711 in offers and answers, by static and dynamic numbers."""

from __future__ import annotations

import attrs
import pytest

from agentstream import sdp
from agentstream.errors import RemoteProtocolError
from tests.sdp.test_sdp_negotiation import LOCAL, offer

ALL = attrs.evolve(LOCAL, codecs=("G722", "L16", "PCMU", "PCMA"))

pytestmark = [pytest.mark.rfc(3264), pytest.mark.rfc(3551)]


def formats(description: sdp.SessionDescription) -> dict[str, str | None]:
    """Payload type to encoding of the first audio."""
    media = description.media[0]
    return {form: media.payload_attribute("rtpmap", form) for form in media.formats}


def test_our_offer_of_all() -> None:
    assert formats(sdp.make_offer(ALL)) == {
        "9": "G722/8000",
        "96": "L16/8000",
        "0": "PCMU/8000",
        "8": "PCMA/8000",
        "101": "telephone-event/8000",
    }


@pytest.mark.parametrize(
    ("lines", "codec", "number"),
    [
        (("m=audio 40000 RTP/AVP 9 0",), "G722", 9),
        (("m=audio 40000 RTP/AVP 0 9",), "PCMU", 0),
        (("m=audio 40000 RTP/AVP 98 0", "a=rtpmap:98 g722/8000"), "G722", 98),
        (("m=audio 40000 RTP/AVP 98 0", "a=rtpmap:98 L16/8000"), "L16", 98),
        (("m=audio 40000 RTP/AVP 98 0", "a=rtpmap:98 L16/8000/1"), "L16", 98),
        (("m=audio 40000 RTP/AVP 98 0", "a=rtpmap:98 L16/16000"), "PCMU", 0),
        (("m=audio 40000 RTP/AVP 98 0", "a=rtpmap:98 L16/8000/2"), "PCMU", 0),
        (("m=audio 40000 RTP/AVP 9 0", "a=rtpmap:9 G722/16000"), "PCMU", 0),
        (("m=audio 40000 RTP/AVP 11 10 0",), "PCMU", 0),
    ],
)
def test_what_is_accepted(lines: tuple[str, ...], codec: str, number: int) -> None:
    answer, plan = sdp.answer_offer(offer(*lines), ALL)
    assert (plan.codec, plan.send_payload_type, plan.receive_payload_type) == (codec, number, number)
    assert formats(answer) == {str(number): f"{codec}/8000"}


def test_not_what_the_config_leaves_out() -> None:
    assert sdp.answer_offer(offer("m=audio 40000 RTP/AVP 9 0"), LOCAL)[1].codec == "PCMU"
    with pytest.raises(RemoteProtocolError, match="PCMU, PCMA"):
        sdp.answer_offer(offer("m=audio 40000 RTP/AVP 9"), LOCAL)


@pytest.mark.rfc(4733)
def test_events_count_the_clock_of_their_sound() -> None:
    lines = (
        "m=audio 40000 RTP/AVP 111 9 110 101",
        "a=rtpmap:111 opus/48000/2",
        "a=rtpmap:110 telephone-event/48000",
        "a=rtpmap:101 telephone-event/8000",
    )
    answer, plan = sdp.answer_offer(offer(*lines), ALL)
    assert (plan.codec, plan.send_digit_payload_type, plan.receive_digit_payload_type) == ("G722", 101, 101)
    assert formats(answer) == {"9": "G722/8000", "101": "telephone-event/8000"}
    plan = sdp.answer_offer(offer(*lines[:3]), ALL)[1]
    assert plan.receive_digit_payload_type is None


class TestTheAnswerToOurs:
    OURS = sdp.make_offer(ALL)

    def test_with_numbers_of_its_own(self) -> None:
        answer = offer("m=audio 40000 RTP/AVP 100 99", "a=rtpmap:100 L16/8000", "a=rtpmap:99 telephone-event/8000")
        plan = sdp.accept_answer(self.OURS, answer)
        assert (plan.codec, plan.send_payload_type, plan.receive_payload_type) == ("L16", 100, 96)
        assert (plan.send_digit_payload_type, plan.receive_digit_payload_type) == (99, 101)

    def test_with_ours(self) -> None:
        plan = sdp.accept_answer(self.OURS, offer("m=audio 40000 RTP/AVP 9"))
        assert (plan.codec, plan.send_payload_type, plan.receive_digit_payload_type) == ("G722", 9, None)


def test_a_number_goes_on_to_mean_what_it_meant() -> None:
    """RFC 3264 section 8.3.2: "the mapping from a particular dynamic payload type number to a particular codec within
    that media stream MUST NOT change for the duration of a session"."""
    lines = ("m=audio 40000 RTP/AVP 101 96", "a=rtpmap:101 L16/8000", "a=rtpmap:96 telephone-event/8000")
    answer, _ = sdp.answer_offer(offer(*lines), ALL)
    assert formats(sdp.make_offer(ALL, answer)) == {
        "9": "G722/8000",
        "101": "L16/8000",
        "0": "PCMU/8000",
        "8": "PCMA/8000",
        "96": "telephone-event/8000",
    }


def test_a_digit_number_that_the_other_side_gave_to_sound() -> None:
    lines = ("m=audio 40000 RTP/AVP 101", "a=rtpmap:101 L16/8000")
    answer, _ = sdp.answer_offer(offer(*lines), ALL)
    numbers = formats(sdp.make_offer(ALL, answer))
    assert numbers["101"] == "L16/8000"
    assert numbers["96"] == "telephone-event/8000"


@pytest.mark.rfc(3389)
class TestComfortNoise:
    NOISY = ("m=audio 40000 RTP/AVP 0 13 101", "a=rtpmap:13 CN/8000", "a=rtpmap:101 telephone-event/8000")

    @pytest.mark.parametrize("lines", [NOISY, (NOISY[0], NOISY[2])], ids=["with an rtpmap", "without"])
    def test_it_is_answered_where_it_is_offered(self, lines: tuple[str, ...]) -> None:
        answer, plan = sdp.answer_offer(offer(*lines), ALL)
        assert plan.receive_noise_payload_type == 13
        assert formats(answer) == {"0": "PCMU/8000", "101": "telephone-event/8000", "13": "CN/8000"}

    @pytest.mark.parametrize(
        "lines",
        [
            ("m=audio 40000 RTP/AVP 0",),
            ("m=audio 40000 RTP/AVP 0 98", "a=rtpmap:98 CN/16000"),
            ("m=audio 40000 RTP/AVP 9 13",),
        ],
        ids=["not offered", "at another clock", "beside a codec with a memory"],
    )
    def test_nowhere_else(self, lines: tuple[str, ...]) -> None:
        answer, plan = sdp.answer_offer(offer(*lines), ALL)
        assert plan.receive_noise_payload_type is None
        assert "CN/8000" not in formats(answer).values()

    def test_it_is_no_codec(self) -> None:
        with pytest.raises(RemoteProtocolError):
            sdp.answer_offer(offer("m=audio 40000 RTP/AVP 13"), ALL)
        ours = sdp.make_offer(LOCAL, sdp.answer_offer(offer(*self.NOISY), LOCAL)[0])
        assert sdp.accept_answer(ours, offer("m=audio 40000 RTP/AVP 13 0")).codec == "PCMU"
        with pytest.raises(RemoteProtocolError, match="no audio codec of the offer"):
            sdp.accept_answer(ours, offer("m=audio 40000 RTP/AVP 13"))

    def test_our_offers_keep_what_the_session_has_and_bring_up_nothing(self) -> None:
        assert "CN/8000" not in formats(sdp.make_offer(ALL)).values()
        again = sdp.make_offer(LOCAL, sdp.answer_offer(offer(*self.NOISY), LOCAL)[0])
        assert formats(again)["13"] == "CN/8000"
        plan = sdp.accept_answer(again, offer(*self.NOISY))
        assert plan.receive_noise_payload_type == 13
        assert sdp.accept_answer(again, offer("m=audio 40000 RTP/AVP 0")).receive_noise_payload_type is None
        assert sdp.accept_answer(sdp.make_offer(LOCAL), offer(*self.NOISY)).receive_noise_payload_type is None


@pytest.mark.rfc(7587)
class TestOpus:
    OURS = attrs.evolve(LOCAL, codecs=("OPUS", "PCMU"))
    FMTP = "maxplaybackrate=16000;sprop-maxcapturerate=16000;useinbandfec=1"

    def test_our_offer(self) -> None:
        made = sdp.make_offer(self.OURS)
        assert formats(made) == {
            "96": "opus/48000/2",
            "0": "PCMU/8000",
            "101": "telephone-event/48000",
            "97": "telephone-event/8000",
        }
        assert made.media[0].payload_attribute("fmtp", "96") == self.FMTP

    @pytest.mark.rfc(4733)
    def test_it_is_accepted_with_events_of_its_clock(self) -> None:
        lines = (
            "m=audio 40000 RTP/AVP 111 0 110 126",
            "a=rtpmap:111 opus/48000/2",
            "a=fmtp:111 minptime=10;useinbandfec=1;maxaveragebitrate=20000",
            "a=rtpmap:110 telephone-event/48000",
            "a=rtpmap:126 telephone-event/8000",
        )
        answer, plan = sdp.answer_offer(offer(*lines), self.OURS)
        assert (plan.codec, plan.send_payload_type, plan.receive_payload_type) == ("OPUS", 111, 111)
        assert (plan.clock_hz, plan.receive_digit_payload_type) == (48_000, 110)
        assert plan.parameters == "minptime=10;useinbandfec=1;maxaveragebitrate=20000"
        assert formats(answer) == {"111": "opus/48000/2", "110": "telephone-event/48000"}
        assert answer.media[0].payload_attribute("fmtp", "111") == self.FMTP
        assert answer.media[0].payload_attribute("fmtp", "110") == "0-15"

    @pytest.mark.parametrize("encoding", ["opus/48000", "opus/48000/1", "opus/16000/2", "opus/8000"])
    def test_with_another_clock_or_other_channels_it_is_not_opus(self, encoding: str) -> None:
        """RFC 7587 section 4.1: "Opus ... RTP clock rate ... MUST be 48000, and the number of channels MUST be 2"."""
        lines = ("m=audio 40000 RTP/AVP 111 0", f"a=rtpmap:111 {encoding}")
        assert sdp.answer_offer(offer(*lines), self.OURS)[1].codec == "PCMU"

    def test_the_answer_to_ours(self) -> None:
        answer = offer("m=audio 40000 RTP/AVP 107", "a=rtpmap:107 OPUS/48000/2", "a=fmtp:107 maxplaybackrate=8000")
        plan = sdp.accept_answer(sdp.make_offer(self.OURS), answer)
        assert (plan.codec, plan.send_payload_type, plan.receive_payload_type) == ("OPUS", 107, 96)
        assert (plan.parameters, plan.clock_hz) == ("maxplaybackrate=8000", 48_000)
        assert plan.receive_digit_payload_type is None
