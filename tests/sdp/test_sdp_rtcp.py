"""Where RTCP goes and what it holds: RFC 3605, RFC 5761, RFC 3611 section 5."""

from __future__ import annotations

import pytest

from agentstream import sdp

LOCAL = sdp.LocalMedia("127.0.0.1", 20000, session_id=77)
HEAD = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.9\r\nt=0 0\r\n"
AUDIO = "m=audio 40000 RTP/AVP 0 101\r\na=rtpmap:101 telephone-event/8000\r\n"


def read(*lines: str, audio: str = AUDIO, head: str = HEAD) -> sdp.SessionDescription:
    return sdp.parse((head + audio + "".join(f"{line}\r\n" for line in lines)).encode())


def answered(*lines: str, audio: str = AUDIO, head: str = HEAD) -> tuple[str, sdp.MediaPlan]:
    """Our answer and the plan."""
    answer, plan = sdp.answer_offer(read(*lines, audio=audio, head=head), LOCAL)
    return answer.serialise().decode(), plan


@pytest.mark.rfc(5761)
class TestMux:
    def test_what_is_offered_is_answered(self) -> None:
        text, plan = answered("a=rtcp-mux")
        assert plan.is_muxed
        assert "a=rtcp-mux\r\n" in text

    def test_what_is_not_offered_is_not_answered(self) -> None:
        """RFC 5761 section 5.1.1: "the answer MUST NOT contain an "a=rtcp-mux" attribute"."""
        text, plan = answered()
        assert not plan.is_muxed
        assert "rtcp-mux" not in text

    def test_a_payload_type_that_looks_like_rtcp_shares_no_port(self) -> None:
        """RFC 5761 section 4: types 64 to 95 cannot be told from RTCP."""
        audio = "m=audio 40000 RTP/AVP 0 72\r\na=rtpmap:72 telephone-event/8000\r\n"
        text, plan = answered("a=rtcp-mux", audio=audio)
        assert not plan.is_muxed
        assert "rtcp-mux" not in text

    def test_our_offer_leaves_it_to_the_answer(self) -> None:
        ours = sdp.make_offer(LOCAL)
        assert b"a=rtcp-mux\r\n" in ours.serialise()
        assert sdp.accept_answer(ours, read("a=rtcp-mux")).is_muxed
        assert not sdp.accept_answer(ours, read()).is_muxed


@pytest.mark.rfc(3605)
@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("53020", ("", 53020)),
        ("53020 IN IP4 127.0.0.7", ("127.0.0.7", 53020)),
        # What cannot be used counts as not said: the next port.
        ("53020 IN IP6 ::1", ("", 0)),
        ("53020 IN IP4 phone.example", ("", 0)),
        ("53020 IN IP4 239.0.0.1", ("", 0)),
        ("53020 IN IP4 0.0.0.0", ("", 0)),
        ("53020 127.0.0.7", ("", 0)),
        ("70000", ("", 0)),
        ("0", ("", 0)),
        ("-1", ("", 0)),
        ("", ("", 0)),
    ],
)
def test_a_port_of_its_own(value: str, expected: tuple[str, int]) -> None:
    _, plan = answered(f"a=rtcp:{value}")
    assert (plan.control_host, plan.control_port) == expected


@pytest.mark.rfc(3611)
class TestExtendedReports:
    @pytest.mark.parametrize("value", ["voip-metrics", "rcvr-rtt=all voip-metrics", "voip-metrics stat-summary=loss"])
    def test_voip_metrics_that_are_wanted(self, value: str) -> None:
        text, plan = answered(f"a=rtcp-xr:{value}")
        assert plan.wants_voip_metrics
        assert "a=rtcp-xr:voip-metrics\r\n" in text

    def test_the_session_may_say_so(self) -> None:
        assert answered(head=HEAD + "a=rtcp-xr:voip-metrics\r\n")[1].wants_voip_metrics

    @pytest.mark.parametrize("lines", [(), ("a=rtcp-xr",), ("a=rtcp-xr:rcvr-rtt=all",)])
    def test_nothing_that_is_not_wanted(self, lines: tuple[str, ...]) -> None:
        text, plan = answered(*lines)
        assert not plan.wants_voip_metrics
        assert "rtcp-xr" not in text
