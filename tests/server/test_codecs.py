"""Whole calls in codecs other than G.711, and with digits that are heard."""

from __future__ import annotations

import numpy as np
import pytest

from agentstream.audio import g711
from agentstream.audio.codecs.g722 import G722Coder
from agentstream.audio.codecs.l16 import decode as from_l16
from agentstream.audio.codecs.l16 import encode as to_l16
from agentstream.audio.codecs.opus import OpusCoder
from agentstream.audio.level import level_dbov
from agentstream.audio.tones import dtmf, silence
from agentstream.rtp.packet import Packet
from agentstream.testing.bots import Echo, Speaker
from agentstream.testing.phone import speech
from agentstream.testing.server import ServerUnderTest
from tests.audio.test_opus import voice
from tests.server.kit import bot_flow

# The delay stays, so that everything can be compared sample by sample.
STEADY = {"playout_min_ms": 60, "playout_max_ms": 60}
WIDE_URL = "ws://127.0.0.1:5001/media?sample-rate=16000"


def chirp(seconds: float, rate_hz: int = 16000) -> np.ndarray:
    """A sweep up to 7/16 of the rate, int16."""
    at = np.arange(int(seconds * rate_hz)) / rate_hz
    return np.rint(9000 * np.sin(2 * np.pi * (300 * at + rate_hz * 0.2 / seconds * at**2))).astype(np.int16)


def coded(pcm: np.ndarray) -> bytes:
    coder = G722Coder()
    return b"".join(coder.encode(frame) for frame in pcm.reshape(-1, 320))


def decoded(payload: bytes) -> np.ndarray:
    return G722Coder().decode(payload)


def within(sound: np.ndarray) -> np.ndarray:
    """From the first sample that is not silence to the last."""
    at = np.flatnonzero(sound)
    return sound[at[0] : at[-1] + 1]


@pytest.mark.rfc(3551)
def test_g722_reaches_a_bot_of_16_khz_as_it_was_decoded_and_comes_back() -> None:
    with ServerUnderTest(bot_flow(url=WIDE_URL), {"media": {"codecs": ["PCMU", "G722"], **STEADY}}) as server:
        bot = server.bot(Echo)
        phone = server.phone(codecs=("G722", "PCMU"))
        phone.dial("1000")
        server.advance(0.5)
        assert phone.codec == "G722"
        said = coded(chirp(1.0))
        phone.say(said)
        server.advance(3)
        heard = within(np.frombuffer(bot.session.audio, "<i2"))
        assert np.array_equal(heard, within(decoded(said)))
        assert set(np.diff([arrival.packet.timestamp for arrival in phone.arrivals]) % 2**32) == {160}
        echo = decoded(phone.heard()).astype(float)
        spectrum = np.abs(np.fft.rfft(echo)) ** 2
        high = spectrum[np.fft.rfftfreq(len(echo), 1 / 16000) > 4600].sum() / spectrum.sum()
        assert high > 0.3, "what is above 4 kHz is there"
        said_again = decoded(said).astype(float)
        size = len(echo) + len(said_again)
        product = np.fft.rfft(echo, size) * np.conj(np.fft.rfft(said_again, size))
        likeness = np.abs(np.fft.irfft(product)).max() / (np.linalg.norm(echo) * np.linalg.norm(said_again))
        assert likeness > 0.98


def test_l16_both_ways_to_the_bit() -> None:
    with ServerUnderTest(bot_flow(), {"media": {"codecs": ["L16"], **STEADY}}) as server:
        bot = server.bot(Echo)
        phone = server.phone(codecs=("PCMU", "L16"))
        phone.dial("1000")
        server.advance(0.5)
        pcm = np.random.default_rng(1).integers(1, 20000, 8000).astype(np.int16)
        phone.say(to_l16(pcm[None, :]).tobytes())
        server.advance(2)
        assert np.array_equal(within(np.frombuffer(bot.session.audio, "<i2")), pcm)
        back = from_l16(np.frombuffer(phone.heard(), np.uint8)[None, :])[0]
        assert np.array_equal(within(back), pcm)


@pytest.mark.rfc(3264)
def test_a_phone_that_changes_to_g722_in_mid_sentence_hears_the_rest() -> None:
    pcm = chirp(2.0)
    config = {"media": {"codecs": ["PCMU", "G722"], **STEADY}}
    with ServerUnderTest(bot_flow(url=WIDE_URL), config) as server:
        bot = server.bot(lambda: Speaker(pcm.tobytes()))
        phone = server.phone(codecs=("PCMU", "G722"))
        phone.dial("1000")
        server.advance(1.0)
        phone.codecs = ("G722", "PCMU")
        phone.reinvite()
        server.advance(2.0)
        kinds = [arrival.packet.payload_type for arrival in phone.arrivals]
        assert set(kinds) == {0, 9} and kinds == sorted(kinds)
        assert bot.session.marks == ["said"], "the queue and its mark stayed"


def test_none_of_what_the_config_names() -> None:
    with ServerUnderTest(bot_flow(), {"media": {"codecs": ["G722"]}}) as server:
        phone = server.phone(codecs=("PCMU",))
        phone.dial("1000")
        server.advance(0.5)
        assert phone.statuses == [100, 488]


def keyed(digits: str) -> bytes:
    pieces = [piece for digit in digits for piece in (dtmf(digit, 100), silence(60))]
    return g711.PCM_TO_ULAW[np.concatenate(pieces).view(np.uint16)].tobytes()


@pytest.mark.parametrize("is_on", [True, False])
def test_digits_that_are_heard_reach_the_bot(is_on: bool) -> None:
    with ServerUnderTest(bot_flow(), {"media": {"inband_dtmf": is_on}}) as server:
        bot = server.bot(Echo)
        phone = server.phone()
        phone.takes_events = False
        phone.dial("1000")
        server.advance(0.5)
        phone.say(keyed("159#0"))
        server.advance(2)
        assert bot.session.digits == ("159#0" if is_on else "")


def test_a_phone_of_telephone_event_is_not_listened_to() -> None:
    with ServerUnderTest(bot_flow()) as server:
        bot = server.bot(Echo)
        phone = server.call()
        server.advance(0.5)
        phone.say(keyed("159"))
        phone.press("7")
        server.advance(2)
        assert bot.session.digits == "7"


@pytest.mark.rfc(3389)
def test_a_phone_that_suppresses_silence_is_heard_with_its_noise() -> None:
    with ServerUnderTest(bot_flow(), {"media": STEADY}) as server:
        bot = server.bot(Echo)
        phone = server.phone(codecs=("PCMU",))
        phone.dial("1000", sdp=phone.description().replace(b"AVP 0 101", b"AVP 0 13 101"))
        server.advance(0.5)
        assert phone.answer is not None and phone.answer.numbers == (0, 101, 13)
        phone.say(speech(400, seed=1))
        server.advance(0.5)
        at = len(bot.session.audio)
        phone.send_rtp(Packet(13, phone.sequence_number, phone.timestamp, phone.ssrc, bytes([45])).serialise())
        phone.sequence_number = (phone.sequence_number + 1) & 0xFFFF
        server.advance(1.0)
        pause = np.frombuffer(bot.session.audio[at:], "<i2")
        phone.say(speech(400, seed=2))
        server.advance(1.0)
        phone.hang_up()
        server.advance(0.5)
        assert level_dbov(pause[4000:]) == pytest.approx(-45, abs=2)
        fields = server.events("leg_ended")[0].fields
        assert (fields["rtp_lost"], fields["rtp_concealed_ms"]) == (0, 0)


@pytest.mark.rfc(7587)
def test_opus_reaches_a_bot_of_16_khz_as_it_was_decoded_and_comes_back() -> None:
    config = {"media": {"codecs": ["PCMU", "OPUS"], **STEADY}}
    with ServerUnderTest(bot_flow(url=WIDE_URL), config) as server:
        bot = server.bot(Echo)
        phone = server.phone(codecs=("OPUS", "PCMU"), attributes=("a=fmtp:111 useinbandfec=1",))
        phone.dial("1000")
        server.advance(0.5)
        assert phone.codec == "OPUS"
        assert phone.answer is not None and phone.answer.names == {111: "opus/48000/2", 110: "telephone-event/48000"}
        here, there, back = OpusCoder(), OpusCoder(), OpusCoder()
        said = [here.encode(frame) for frame in voice(1.0, top_hz=7000).reshape(-1, 320)]
        phone.say_packets(said)
        server.advance(3)
        decoded_said = np.concatenate([there.decode(payload) for payload in said])
        assert np.array_equal(within(np.frombuffer(bot.session.audio, "<i2")), within(decoded_said))
        assert set(np.diff([arrival.packet.timestamp for arrival in phone.arrivals]) % 2**32) == {960}
        echo = np.concatenate([back.decode(arrival.packet.payload) for arrival in phone.arrivals]).astype(float)
        size = len(echo) + len(decoded_said)
        product = np.fft.rfft(echo, size) * np.conj(np.fft.rfft(decoded_said.astype(float), size))
        likeness = np.abs(np.fft.irfft(product)).max() / (np.linalg.norm(echo) * np.linalg.norm(decoded_said))
        assert likeness > 0.9


@pytest.mark.rfc(4733)
def test_digits_beside_opus_reach_the_bot() -> None:
    with ServerUnderTest(bot_flow(), {"media": {"codecs": ["OPUS"]}}) as server:
        bot = server.bot(Echo)
        phone = server.phone(codecs=("OPUS",))
        phone.dial("1000")
        server.advance(0.5)
        phone.press("42#")
        server.advance(2)
        assert bot.session.digits == "42#"
        assert [event.fields["duration_ms"] for event in server.events("digit_received")] == [100, 100, 100]


@pytest.mark.rfc(3264)
def test_a_call_changes_to_opus_and_back_without_losing_a_word() -> None:
    config = {"media": {"codecs": ["PCMU", "OPUS"], **STEADY}}
    with ServerUnderTest(bot_flow(), config) as server:
        server.bot(Echo)
        phone = server.phone(codecs=("PCMU", "OPUS"))
        phone.dial("1000")
        server.advance(0.5)
        for codecs, kind in ((("OPUS", "PCMU"), 111), (("PCMU", "OPUS"), 0)):
            phone.codecs = codecs
            phone.reinvite()
            server.advance(0.5)
            assert phone.arrivals[-1].packet.payload_type == kind
        phone.hang_up()
        server.advance(0.5)
        assert server.events("leg_ended")[0].fields["rtp_refused"] == {}
