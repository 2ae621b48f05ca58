"""Any bytes on the SIP and RTP sockets while a call is up leave that call undisturbed."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from agentstream.rtp.packet import Packet
from agentstream.testing.bots import Echo
from agentstream.testing.phone import speech
from agentstream.testing.server import ServerUnderTest
from agentstream.testing.sip_peer import SipPeer
from tests.server.kit import bot_flow

STRANGER = "127.0.0.66"
METHODS = ("INVITE", "ACK", "BYE", "CANCEL", "OPTIONS", "REGISTER", "INFO", "FOO")


@st.composite
def sip_bytes(draw: st.DrawFn) -> bytes:
    """A request or response, whole or with bytes cut out, put in or exchanged; or no SIP at all."""
    if draw(st.integers(0, 3)) == 0:
        return draw(st.binary(max_size=300))
    peer = SipPeer(STRANGER, 5090, called="2000", remote_tag=draw(st.sampled_from(["", "x"])))
    data = peer.request(draw(st.sampled_from(METHODS)))
    if draw(st.booleans()):
        data = peer.respond(data, draw(st.sampled_from([100, 180, 200, 404, 699])))
    for _ in range(draw(st.integers(0, 3))):
        # The peer numbers its calls, so that a message's length is not the same each time; the drawn range is.
        at = draw(st.integers(0, 1000)) % (len(data) + 1)
        data = data[:at] + draw(st.binary(max_size=8)) + data[at + draw(st.integers(0, 8)) :]
    return data


@st.composite
def foreign_rtp(draw: st.DrawFn, ssrc: int = 0) -> bytes:
    """RTP like the call's own from somebody else; or anything."""
    if draw(st.booleans()):
        return draw(st.binary(max_size=200))
    number = draw(st.sampled_from([0, 8, 101, 127]))
    sequence, timestamp = draw(st.integers(0, 0xFFFF)), draw(st.integers(0, 0xFFFFFFFF))
    return Packet(number, sequence, timestamp, 0x1234, draw(st.binary(max_size=170))).serialise()


OWN_NO_RTP = st.one_of(
    st.binary(max_size=100).filter(lambda data: not data or data[0] >> 6 != 2),
    st.builds(lambda rest: b"\x80\xc8" + rest, st.binary(max_size=60)),
    st.just(b"\x80\x00\x00\x01"),
    st.just(bytes(3000)),
)
"""From the phone's own port: no version 2, RTCP on the wrong port, cut short, oversize."""


@settings(max_examples=15)
@given(
    sip=st.lists(sip_bytes(), max_size=12),
    foreign=st.lists(foreign_rtp(), max_size=12),
    own=st.lists(OWN_NO_RTP, max_size=8),
)
def test_any_bytes(sip: list[bytes], foreign: list[bytes], own: list[bytes]) -> None:
    with ServerUnderTest(bot_flow(), {"route": [{"to": "1000", "flow": "main"}]}) as server:
        server.bot(Echo)
        phone = server.call()
        said = speech(400)
        phone.say(said)
        network = server.reactor.network
        assert phone.answer is not None
        server_rtp = (phone.answer.host, phone.answer.port)
        for number in range(12):
            if number < len(sip):
                network.send(sip[number], (STRANGER, 5090), server.address)
            if number < len(foreign):
                network.send(foreign[number], (STRANGER, 40_000), server_rtp)
            if number < len(own):
                phone.send_rtp(own[number])
            server.advance(0.04)
        server.advance(0.6)
        assert phone.heard_sound() == said
        assert not phone.is_over and len(server.live_calls) == 1
        phone.hang_up()
        server.advance(0.1)
        assert server.events("leg_ended")[0].fields["rtp_lost"] == 0
