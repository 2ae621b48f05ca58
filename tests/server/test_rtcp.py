"""RTCP, call quality and the limit on silence, on whole calls."""

from __future__ import annotations

import pytest

from agentstream.rtp.rtcp import Bye, ReceiverReport, ReportBlock, SenderReport, compound, parse
from agentstream.testing.bots import Echo
from agentstream.testing.phone import Phone, speech
from agentstream.testing.server import ServerUnderTest
from tests.server.kit import bot_flow

LEFT = ("round_trip_ms", "remote_lost", "remote_jitter_ms", "mos_heard", "mos_remote")


def left(server: ServerUnderTest) -> dict[str, object]:
    (event,) = server.events("leg_ended")
    return {name: event.fields[f"rtp_{name}"] for name in LEFT}


def answer_reports(server: ServerUnderTest, phone: Phone) -> None:
    """Answer each report of the server's at once, as a phone that lost 5 packets."""
    _, data, _ = phone.controls[-1]
    report = parse(data)[0]
    assert isinstance(report, SenderReport)
    block = ReportBlock(report.ssrc, 0, 5, 0, 16, report.ntp_time >> 16 & 0xFFFFFFFF, 0)
    phone.send_rtcp(compound(ReceiverReport(phone.ssrc, (block,))))


@pytest.mark.rfc(3550)
def test_the_record_of_a_call_says_how_it_sounded() -> None:
    with ServerUnderTest(bot_flow()) as server:
        server.bot(Echo)
        phone = server.call()
        phone.say(speech(8000))
        server.advance_until(lambda: phone.controls)
        answer_reports(server, phone)
        server.advance(4)
        phone.hang_up()
        server.advance(0.1)
        fields = left(server)
        # Nothing here takes time; what is measured is the wait for the tick.
        assert isinstance(fields["round_trip_ms"], float)
        assert 0 <= fields["round_trip_ms"] <= 20.1
        assert (fields["remote_lost"], fields["remote_jitter_ms"]) == (5, 2.0)
        assert isinstance(fields["mos_heard"], float)
        assert isinstance(fields["mos_remote"], float)
        assert 3.0 < fields["mos_remote"] < fields["mos_heard"] < 4.41
        assert {port for _, _, port in phone.controls} == {phone.rtp_address[1] + 1}
        *_, bye = parse(phone.controls[-1][1])
        assert isinstance(bye, Bye)


def test_what_is_not_known_is_null() -> None:
    with ServerUnderTest(bot_flow()) as server:
        server.bot(Echo)
        server.call().hang_up()
        server.advance(0.1)
        assert left(server) == dict.fromkeys(LEFT)


@pytest.mark.rfc(5761)
def test_a_phone_that_offers_one_port_gets_everything_there() -> None:
    with ServerUnderTest(bot_flow()) as server:
        server.bot(Echo)
        phone = server.call(attributes=["a=rtcp-mux"])
        assert phone.answer is not None
        assert "a=rtcp-mux\r\n" in phone.answer.text
        phone.say(speech(5000))
        server.advance(5)
        _, data, port = phone.controls[0]
        assert port == phone.rtp_address[1]
        report = parse(data)[0]
        phone.send_rtp(compound(ReceiverReport(phone.ssrc, (ReportBlock(report.ssrc, cumulative_lost=2),))))
        server.advance(0.1)
        phone.hang_up()
        server.advance(0.1)
        assert left(server)["remote_lost"] == 2
        assert {port for _, _, port in phone.controls} == {phone.rtp_address[1]}


@pytest.mark.rfc(3605)
def test_a_phone_with_rtcp_elsewhere() -> None:
    with ServerUnderTest(bot_flow()) as server:
        server.bot(Echo)
        got: list[bytes] = []
        server.reactor.network.bind(("127.0.0.2", 4711), lambda data, source: got.append(data))
        phone = server.call(attributes=["a=rtcp:4711"])
        server.advance(5)
        assert got
        assert not phone.controls


class TestSilence:
    @staticmethod
    def server(event_s: int = 2, timeout_s: int = 6) -> ServerUnderTest:
        config = {"media": {"silence_event_s": event_s, "rtp_timeout_s": timeout_s}}
        return ServerUnderTest(bot_flow(), config)

    def test_a_phone_that_is_gone_is_hung_up(self) -> None:
        with self.server() as server:
            server.bot(Echo)
            phone = server.call()
            phone.say(speech(1000))
            server.advance(12)
            assert phone.ended_by == "server"
            (stopped,) = server.events("rtp_stopped")
            assert stopped.fields == {"silent_s": 2}
            (ended,) = server.events("leg_ended")
            assert (ended.fields["by"], ended.fields["reason"]) == ("server", "no RTP for 6 s")

    def test_it_may_come_back(self) -> None:
        with self.server() as server:
            server.bot(Echo)
            phone = server.call()
            phone.say(speech(1000))
            server.advance(5)
            phone.say(speech(3000))
            server.advance(3)
            assert [event.kind for event in server.timeline if event.kind.startswith("rtp_")] == [
                "rtp_stopped",
                "rtp_resumed",
            ]
            assert not phone.is_over

    def test_a_phone_on_hold_may_be_silent(self) -> None:
        with self.server() as server:
            server.bot(Echo)
            phone = server.call()
            phone.say(speech(1000))
            server.advance(1)
            phone.hold()
            server.advance(20)
            assert not server.events("rtp_stopped")
            assert not phone.is_over

    def test_rtcp_keeps_a_phone_that_suppresses_silence(self) -> None:
        with self.server() as server:
            server.bot(Echo)
            phone = server.call()
            phone.say(speech(1000))
            for _ in range(5):
                server.advance(4)
                phone.send_rtcp(compound(ReceiverReport(phone.ssrc)))
            assert server.events("rtp_stopped")
            assert not phone.is_over
