"""Calls that last: session timers (RFC 4028) and UPDATE (RFC 3311) through a whole server."""

from __future__ import annotations

import pytest

from agentstream.testing.bots import Echo
from agentstream.testing.phone import Description, Phone, speech
from agentstream.testing.server import ServerUnderTest
from tests.server.kit import bot_flow

TIMER = "Supported: timer\r\nSession-Expires: 90\r\n"
QUIET = {"media": {"rtp_timeout_s": 0}}


def talks(server: ServerUnderTest, phone: Phone, seed: int) -> bool:
    """What the phone says now comes back whole from the bot."""
    began, said = server.now, speech(400, seed=seed)
    phone.say(said)
    server.advance(1)
    return phone.heard_sound(since=began) == said


@pytest.mark.rfc(4028)
@pytest.mark.parametrize("method", ["UPDATE", "INVITE"])
def test_a_call_of_four_minutes_that_we_refresh(method: str) -> None:
    allow = "Allow: INVITE, ACK, BYE, CANCEL" + (", UPDATE" if method == "UPDATE" else "")
    with ServerUnderTest(bot_flow(), QUIET) as server:
        server.bot(Echo)
        phone = server.phone()
        phone.serves = {method}
        phone.reply_headers = "Session-Expires: 90;refresher=uac\r\nRequire: timer\r\n"
        phone.dial(headers=f"{TIMER}{allow}\r\n")
        server.advance(240)
        assert not phone.is_over and len(server.live_calls) == 1
        refreshes = [request.method for request in phone.requests if request.method != "ACK"]
        assert refreshes == [method] * 5
        assert talks(server, phone, 5)
        assert len(server.events("media_agreed")) == 1, "nothing changed in what is heard"


@pytest.mark.rfc(4028)
@pytest.mark.parametrize("method", ["UPDATE", "INVITE"])
def test_a_call_of_four_minutes_that_the_phone_refreshes(method: str) -> None:
    headers = "Supported: timer\r\nSession-Expires: 90;refresher=uac\r\n"
    with ServerUnderTest(bot_flow(), QUIET) as server:
        server.bot(Echo)
        phone = server.phone()
        phone.dial(headers=headers)
        server.advance(0.5)
        assert phone.responses[-1].header("session-expires") == "90;refresher=uac"
        offer = phone.description()
        for _ in range(5):
            server.advance(45)
            if method == "UPDATE":
                phone.send(phone.sip.request("UPDATE", headers=headers))
            else:
                phone.send(phone.sip.invite(offer, headers))
        server.advance(15)
        assert not phone.is_over and server.now > 240
        assert talks(server, phone, 6)


@pytest.mark.rfc(4028)
def test_a_phone_that_is_gone_is_hung_up_on_in_time() -> None:
    with ServerUnderTest(bot_flow(), QUIET) as server:
        server.bot(Echo)
        phone = server.phone()
        phone.dial(headers="Supported: timer\r\nSession-Expires: 90;refresher=uac\r\n")
        server.advance(59.5)
        assert not phone.is_over
        server.advance(1)
        assert phone.ended_by == "server" and not server.live_calls
        assert server.events("call_ended")[0].fields == {
            "by": "server",
            "reason": "the session was not refreshed in time",
        }


@pytest.mark.rfc(4028)
def test_the_intervals_of_the_config() -> None:
    sip = {"listen": ["udp:5060:interface=127.0.0.1"], "session_expires_s": 600, "min_session_expires_s": 300}
    with ServerUnderTest(bot_flow(), {"sip": sip}) as server:
        server.bot(Echo)
        phone = server.phone()
        phone.dial(headers=TIMER)
        server.advance(0.1)
        assert phone.statuses[-1] == 422 and phone.responses[-1].header("min-se") == "300"
        other = server.phone(host="127.0.0.3")
        other.dial(headers="Supported: timer\r\n")
        server.advance(0.5)
        assert other.responses[-1].header("session-expires") == "600;refresher=uas"


@pytest.mark.rfc(3311)
def test_an_update_holds_and_resumes() -> None:
    with ServerUnderTest(bot_flow()) as server:
        server.bot(Echo)
        phone = server.call()
        for direction, mirrored in (("inactive", "inactive"), ("sendrecv", "sendrecv")):
            phone.direction = direction
            phone.send(phone.sip.request("UPDATE", body=phone.description()))
            server.advance(0.2)
            reply = phone.replies[-1]
            assert reply.status == 200 and Description.read(reply.body).direction == mirrored
            packets = len(phone.arrivals)
            server.advance(1)
            assert (len(phone.arrivals) == packets) == (direction == "inactive")
        assert talks(server, phone, 7)


@pytest.mark.rfc(3311)
def test_an_update_that_cannot_be_served_leaves_the_call_as_it_is() -> None:
    with ServerUnderTest(bot_flow()) as server:
        server.bot(Echo)
        phone = server.call()
        offer = phone.description().replace(b"RTP/AVP 0 8", b"RTP/AVP 18")
        phone.send(phone.sip.request("UPDATE", body=offer))
        server.advance(0.2)
        assert phone.replies[-1].status == 488
        assert talks(server, phone, 8)
