"""Whole calls whose description changes: versions, packet times, several media, disabled ones, our own hold, IPv6."""

from __future__ import annotations

import re
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from agentstream.flow.leg import Leg
from agentstream.testing.bots import Echo
from agentstream.testing.phone import Phone, speech
from agentstream.testing.server import ServerUnderTest
from agentstream.testing.sip_peer import Received
from tests.server.kit import bot_flow, pcm


def version_of(response: Received) -> int:
    """The version in the o= line of a response's SDP."""
    found = re.search(rb"^o=\S+ \d+ (\d+) ", response.body, re.MULTILINE)
    assert found is not None
    return int(found[1])


def leg_of(server: ServerUnderTest) -> Leg:
    """The leg of the one call that is up."""
    (leg,) = server.service.switchboard.legs.values()
    return leg


@pytest.mark.rfc(3264)
def test_the_version_moves_only_with_the_description() -> None:
    with ServerUnderTest(bot_flow()) as server:
        server.bot(Echo)
        phone = server.call()
        for direction in ("sendrecv", "sendrecv", "sendonly", "sendonly", "sendrecv"):
            phone.reinvite(direction)
            server.advance(0.1)
        phone.reinvite(sdp=b"v=0\r\no=- 1 1 IN IP4 127.0.0.2\r\nc=IN IP4 127.0.0.2\r\nm=audio 9 RTP/AVP 9\r\n")
        server.advance(0.1)
        phone.reinvite("sendrecv")
        server.advance(0.1)
        assert phone.statuses.count(488) == 1
        assert [version_of(one) for one in phone.responses if one.status == 200] == [1, 1, 1, 2, 2, 3, 3]


@pytest.mark.rfc(3264)
def test_a_refresh_disturbs_no_sound() -> None:
    """The same description again, in the middle of a word."""
    with ServerUnderTest(bot_flow()) as server:
        bot = server.bot()
        phone = server.call()
        said = speech(1000)
        phone.say(said)
        for _ in range(4):
            server.advance(0.2)
            phone.reinvite()
        server.advance(1)
        assert pcm(said) in bot.session.audio
        assert phone.statuses.count(200) == 5
        assert len(server.events("media_agreed")) == 1


@pytest.mark.rfc(3551)
@pytest.mark.parametrize("ptime_ms", [10, 20, 30, 40, 50, 60])
def test_packets_of_any_length_are_heard_whole(ptime_ms: int) -> None:
    with ServerUnderTest(bot_flow()) as server:
        bot = server.bot()
        phone = server.call(ptime_ms=ptime_ms)
        said = speech(600)
        phone.say(said)
        server.advance(1)
        assert pcm(said) in bot.session.audio


@pytest.mark.rfc(3551)
def test_packets_may_change_their_length_in_the_middle() -> None:
    with ServerUnderTest(bot_flow()) as server:
        bot = server.bot(Echo)
        phone = server.call()
        lengths = [20] * 10 + [30] * 10 + [10] * 10 + [60] * 5 + [40] * 5 + [50] * 4
        said = speech(sum(lengths))
        phone.say(said, lengths)
        server.advance(3)
        assert pcm(said) in bot.session.audio
        assert phone.heard_sound() == said
        assert {len(arrival.packet.payload) for arrival in phone.arrivals} == {160}


SEVERAL = """\
v=0\r
o=phone 7 9 IN IP4 127.0.0.2\r
s=-\r
c=IN IP4 127.0.0.2\r
t=0 0\r
m=video 50000 RTP/AVP 99\r
m=audio 50002 RTP/SAVP 0\r
m=audio {port} RTP/AVP 0 101\r
a=rtpmap:101 telephone-event/8000\r
m=image 50006 udptl t38\r
m=audio 50008 RTP/AVP 8\r
"""


@pytest.mark.rfc(3264)
def test_of_several_media_the_others_are_declined() -> None:
    with ServerUnderTest(bot_flow()) as server:
        server.bot(Echo)
        phone = server.phone()
        phone.dial(sdp=SEVERAL.format(port=phone.rtp_address[1]).encode())
        server.advance(0.2)
        answer = phone.responses[-1].body.decode()
        lines = [line.split()[:3] for line in answer.splitlines() if line.startswith("m=")]
        ours = next(line[1] for line in lines if line[1] != "0")
        assert lines == [
            ["m=video", "0", "RTP/AVP"],
            ["m=audio", "0", "RTP/SAVP"],
            ["m=audio", ours, "RTP/AVP"],
            ["m=image", "0", "udptl"],
            ["m=audio", "0", "RTP/AVP"],
        ]
        said = speech(400)
        phone.say(said)
        server.advance(1)
        assert phone.heard_sound() == said


@pytest.mark.rfc(3264)
def test_port_0_stops_the_sound_and_not_the_call() -> None:
    with ServerUnderTest(bot_flow()) as server:
        bot = server.bot()
        phone = server.call()
        server.advance(0.2)
        own = phone.rtp_address
        phone.rtp_address = (own[0], 0)
        phone.reinvite()
        server.advance(0.1)
        phone.rtp_address = own
        assert phone.statuses[-1] == 200
        assert b"m=audio 0 RTP/AVP" in phone.responses[-1].body
        packets, port = len(phone.arrivals), phone.answer
        phone.answer = port and type(port)(port.host, _media_port(server), port.numbers, {}, "sendrecv", "")
        bot.session.say(pcm(speech(200)))
        phone.say(speech(200, seed=9))
        server.advance(1)
        assert len(phone.arrivals) == packets, "not a packet more"
        assert pcm(speech(200, seed=9)) not in bot.session.audio
        assert not phone.is_over
        phone.resume()
        server.advance(0.1)
        assert phone.statuses[-1] == 200
        resumed, said = server.now, speech(400, seed=5)
        phone.say(said)
        bot.session.say(pcm(speech(400)))
        server.advance(1)
        assert pcm(said) in bot.session.audio
        assert phone.heard_sound(since=resumed) == speech(400)


def _media_port(server: ServerUnderTest) -> int:
    (leg,) = server.service.plane._legs.values()
    return leg.port


class Held(Phone):
    """A phone that answers re-INVITEs.

    :ivar says: the statuses to answer with, in turn; 200 beyond the end.
    """

    says: tuple[int, ...] = ()

    def _asked(self, data: bytes, request: Received) -> None:
        if request.method != "INVITE":
            super()._asked(data, request)
            return
        self.requests.append(request)
        status, *rest = self.says or (200,)
        self.says = tuple(rest)
        asked = re.search(rb"a=(sendrecv|sendonly|recvonly|inactive)", request.body)
        assert asked is not None
        self.direction = {b"sendonly": "recvonly"}.get(asked[1], "sendrecv")
        self.send(self.sip.respond(data, status, "So", self.description() if status == 200 else b""))


def held_call(server: ServerUnderTest, says: tuple[int, ...] = ()) -> Held:
    phone = Held(server.reactor, server.address)
    phone.says = says
    server.phones.append(phone)
    phone.dial()
    server.advance(0.2)
    assert phone.is_answered
    return phone


def settled(deferred: Deferred[None]) -> list[Any]:
    """What it fired with: [] while it has not."""
    results: list[Any] = []
    deferred.addBoth(results.append)
    return results


@pytest.mark.rfc(3264)
def test_our_hold_and_resume() -> None:
    with ServerUnderTest(bot_flow()) as server:
        bot = server.bot()
        phone = held_call(server)
        leg = leg_of(server)
        done = settled(leg.hold())
        server.advance(0.1)
        assert done == [None]
        (offer,) = [one for one in phone.requests if one.method == "INVITE"]
        assert b"a=sendonly\r\n" in offer.body
        assert version_of(offer) == 2
        said = speech(300)
        phone.say(said)
        bot.session.say(pcm(speech(300, seed=8)))
        server.advance(0.6)
        assert pcm(said) not in bot.session.audio
        assert phone.heard_sound() == speech(300, seed=8), "who holds may still speak"
        # While we hold, an offer of theirs changes nothing about it.
        phone.reinvite("sendrecv")
        server.advance(0.1)
        assert phone.answer is not None and phone.answer.direction == "sendonly"
        done = settled(leg.resume())
        server.advance(0.1)
        assert done == [None]
        phone.say(said)
        server.advance(0.6)
        assert pcm(said) in bot.session.audio


@pytest.mark.rfc(3261)
def test_hold_and_resume_at_once_come_one_after_the_other() -> None:
    with ServerUnderTest(bot_flow()) as server:
        server.bot()
        phone = held_call(server)
        leg = leg_of(server)
        done = [settled(leg.hold()), settled(leg.resume())]
        server.advance(0.2)
        assert done == [[None], [None]]
        bodies = [one.body for one in phone.requests if one.method == "INVITE"]
        assert [b"a=sendonly" in body for body in bodies] == [True, False]


@pytest.mark.rfc(3261)
def test_our_hold_after_glare() -> None:
    with ServerUnderTest(bot_flow()) as server:
        server.bot()
        phone = held_call(server, says=(491, 491))
        done = settled(leg_of(server).hold())
        server.advance(0.1)
        assert done == []
        server.advance(4.2)
        assert done == [None]
        assert [one.method for one in phone.requests].count("INVITE") == 3
        assert {version_of(one) for one in phone.requests if one.method == "INVITE"} == {2}


@pytest.mark.rfc(3261)
def test_our_hold_that_is_refused_and_one_whose_call_ends() -> None:
    with ServerUnderTest(bot_flow()) as server:
        bot = server.bot()
        phone = held_call(server, says=(488,))
        done = settled(leg_of(server).hold())
        server.advance(0.1)
        assert done[0].getErrorMessage() == "488 So"
        said = speech(300)
        phone.say(said)
        server.advance(0.6)
        assert pcm(said) in bot.session.audio
        phone.says = (100,)
        leg = leg_of(server)
        done = settled(leg.hold())
        server.advance(0.1)
        phone.hang_up()
        server.advance(0.1)
        assert done[0].getErrorMessage() == "the caller is gone"
        assert settled(leg.hold())[0].getErrorMessage() == "the call is not up"


V6 = {"sip": {"listen": ["udp:5060:interface=[::1]"]}, "media": {"listen_v6": "::1"}}
BOTH = {
    "sip": {"listen": ["udp:5060:interface=127.0.0.1", "udp:5060:interface=[::1]"]},
    "media": {"listen_v6": "::1"},
}


@pytest.mark.rfc(5118)
@pytest.mark.parametrize("offer", ["theirs", "ours"])
def test_a_call_over_ipv6(offer: str) -> None:
    with ServerUnderTest(bot_flow(), V6) as server:
        server.bot(Echo)
        phone = server.phone(host="::1")
        phone.sip.host, phone.sip.target = "[::1]", "[::1]:5060"
        phone.dial(sdp=None if offer == "theirs" else b"")
        server.advance(0.2)
        assert phone.answer is not None and phone.answer.host == "::1"
        assert "o=- " in phone.answer.text and " IN IP6 ::1\r\n" in phone.answer.text
        said = speech(400)
        phone.say(said)
        server.advance(1)
        assert phone.heard_sound() == said
        phone.hold()
        server.advance(0.1)
        assert phone.answer.direction == "inactive"
        assert server.events("media_agreed")[0].fields["remote"].startswith("[::1]:")


@pytest.mark.rfc(5118)
@pytest.mark.rfc(3264)
def test_each_call_gets_the_family_of_its_offer() -> None:
    with ServerUnderTest(bot_flow(), BOTH) as server:
        server.bot(Echo, Echo)
        four, six = server.call(), server.phone(host="::1")
        six._target = ("::1", 5060)
        six.sip.host, six.sip.target = "[::1]", "[::1]:5060"
        six.dial()
        server.advance(0.2)
        assert four.answer is not None and six.answer is not None
        assert (four.answer.host, six.answer.host) == ("127.0.0.1", "::1")


@pytest.mark.rfc(5118)
@pytest.mark.rfc(3264)
def test_a_family_that_is_not_bound_is_488() -> None:
    with ServerUnderTest(bot_flow()) as server:
        phone = server.phone()
        phone.dial(sdp=phone.description().replace(b"IP4 127.0.0.2", b"IP6 ::1"))
        server.advance(0.2)
        assert phone.statuses[-1] == 488
        assert "RTP over IPv6 is not served here" in phone.responses[-1].header("warning")
