"""Offers and answers in the middle of a session (RFC 3264 section 8)."""

from __future__ import annotations

import attrs
import pytest

from agentstream import sdp
from agentstream.errors import RemoteProtocolError
from tests.sdp.test_sdp_negotiation import LOCAL, offer

AUDIO = "m=audio 40000 RTP/AVP 0"
HOLDING = attrs.evolve(LOCAL, is_holding=True)


def directions(description: sdp.SessionDescription) -> list[str | None]:
    return [media.direction for media in description.media]


@pytest.mark.rfc(3264)
class TestVersion:
    def test_the_same_description_keeps_its_version(self) -> None:
        first, _ = sdp.answer_offer(offer(AUDIO), LOCAL)
        second, _ = sdp.answer_offer(offer(AUDIO, "a=ptime:40"), LOCAL)
        assert sdp.revise(None, first) is first
        assert sdp.revise(first, second) == first

    def test_another_one_has_the_next(self) -> None:
        first, _ = sdp.answer_offer(offer(AUDIO), LOCAL)
        held, _ = sdp.answer_offer(offer(AUDIO, "a=sendonly"), LOCAL)
        second = sdp.revise(first, held)
        assert attrs.evolve(second.origin, version=1) == first.origin
        assert second.origin.version == 2
        assert sdp.revise(second, first).origin.version == 3
        assert sdp.revise(second, held) == second


@pytest.mark.rfc(3264)
class TestHold:
    @pytest.mark.parametrize(
        ("theirs", "ours"),
        [("sendrecv", "sendonly"), ("recvonly", "sendonly"), ("sendonly", "inactive"), ("inactive", "inactive")],
    )
    def test_while_we_hold_their_offers_change_nothing_about_it(self, theirs: str, ours: str) -> None:
        answer, plan = sdp.answer_offer(offer(AUDIO, f"a={theirs}"), HOLDING)
        assert directions(answer) == [ours]
        assert not plan.may_receive
        assert plan.may_send is (ours == "sendonly")

    def test_our_offer_of_a_hold(self) -> None:
        ours = sdp.make_offer(HOLDING)
        assert directions(ours) == ["sendonly"]
        plan = sdp.accept_answer(ours, offer(AUDIO, "a=recvonly"))
        assert (plan.may_send, plan.may_receive) == (True, False)
        plan = sdp.accept_answer(ours, offer(AUDIO))
        assert not plan.may_receive, "an answer may not want more than was offered (section 6.1)"

    @pytest.mark.parametrize("line", ["c=IN IP4 0.0.0.0", "c=IN IP6 ::"])
    @pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
    def test_the_old_hold_in_either_family(self, line: str, host: str) -> None:
        answer, plan = sdp.answer_offer(offer(AUDIO, line), sdp.LocalMedia(host, 20000))
        assert directions(answer) == ["recvonly"]
        assert not plan.may_send


@pytest.mark.rfc(3264)
class TestDisabled:
    def test_port_0_ends_the_stream_and_not_the_session(self) -> None:
        _, before = sdp.answer_offer(offer(AUDIO), LOCAL)
        answer, plan = sdp.answer_offer(offer("m=audio 0 RTP/AVP 0"), LOCAL, before)
        assert [media.port for media in answer.media] == [0]
        assert (plan.remote_port, plan.may_send, plan.may_receive, plan.codec) == (0, False, False, "PCMU")

    def test_but_a_first_offer_without_audio_is_refused(self) -> None:
        with pytest.raises(RemoteProtocolError) as caught:
            sdp.answer_offer(offer("m=audio 0 RTP/AVP 0"), LOCAL)
        assert caught.value.status == 488

    def test_and_so_is_a_change_to_what_we_cannot_serve(self) -> None:
        _, before = sdp.answer_offer(offer(AUDIO), LOCAL)
        for lines in (("m=audio 40000 RTP/AVP 9",), ("m=video 40000 RTP/AVP 99",), ()):
            with pytest.raises(RemoteProtocolError) as caught:
                sdp.answer_offer(offer(*lines), LOCAL, before)
            assert caught.value.status == 488


@pytest.mark.rfc(3264)
class TestOurLaterOffers:
    VIDEO_FIRST = offer("m=video 4 RTP/AVP 99", "m=audio 6 RTP/SAVP 0", AUDIO, "m=audio 8 RTP/AVP 0")

    def test_the_lines_keep_their_places(self) -> None:
        answer, _ = sdp.answer_offer(self.VIDEO_FIRST, LOCAL)
        assert [(media.kind, media.port) for media in answer.media] == [
            ("video", 0),
            ("audio", 0),
            ("audio", 20000),
            ("audio", 0),
        ]
        ours = sdp.make_offer(LOCAL, answer)
        assert [(media.kind, media.port) for media in ours.media] == [
            ("video", 0),
            ("audio", 0),
            ("audio", 20000),
            ("audio", 0),
        ]
        assert ours.media[2].formats == ("0", "8", "101")

    def test_and_so_does_the_answer_to_them(self) -> None:
        answer, _ = sdp.answer_offer(self.VIDEO_FIRST, LOCAL)
        ours = sdp.make_offer(LOCAL, answer)
        theirs = offer("m=video 0 RTP/AVP 99", "m=audio 0 RTP/SAVP 0", "m=audio 40002 RTP/AVP 8", "m=audio 0 RTP/AVP 0")
        plan = sdp.accept_answer(ours, theirs)
        assert (plan.remote_port, plan.codec) == (40002, "PCMA")

    def test_a_disabled_stream_is_offered_again_in_its_place(self) -> None:
        _, before = sdp.answer_offer(offer(AUDIO), LOCAL)
        disabled, _ = sdp.answer_offer(offer("m=audio 0 RTP/AVP 0"), LOCAL, before)
        assert [media.port for media in sdp.make_offer(LOCAL, disabled).media] == [20000]


def test_the_family_of_an_offer() -> None:
    assert sdp.family_of(offer(AUDIO)) == "IP4"
    assert sdp.family_of(offer("m=video 2 RTP/AVP 99", "c=IN IP4 1.1.1.1", AUDIO, "c=IN IP6 ::1")) == "IP6"
    assert sdp.family_of(offer("m=audio 0 RTP/AVP 0")) == ""
