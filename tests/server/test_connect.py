"""A flow connects its caller with somebody: phones that register, numbers of trunks, URIs; whole calls on a Clock."""

from __future__ import annotations

import gc
import itertools
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from agentstream.audio.codecs import codec_named
from agentstream.audio.tones import tone
from agentstream.flow.call import Call
from agentstream.flow.connecting import Connection, DigitRelay, Looped
from agentstream.flow.dialer import Dialing
from agentstream.flow.leg import Leg
from agentstream.flow.outgoing_leg import OutgoingLeg
from agentstream.flow.ring import Ring
from agentstream.media.leg import MediaLeg
from agentstream.testing.phone import DIGIT_TYPE, Phone, speech
from agentstream.testing.server import ServerUnderTest
from tests.server.kit import pcm, register, samples
from tests.streams.kit import sound_of

CARRIER = {"name": "carrier", "address": ["127.0.0.2"]}
PASSWORD = "very-secret"


def connect_flow(to: Any = "alice", **options: Any) -> dict[str, Any]:
    """Connect, and a sound of its own behind each outcome but ``failed``."""
    step = {"applet": "connect", "to": to, "next": "after", "on": {"busy": "busy", "no_answer": "gone"}, **options}
    sounds = {name: {"applet": "play", "file": f"{name}.wav"} for name in ("after", "busy", "gone")}
    return {"start": "connect", "step": {"connect": step, **sounds}}


SOUNDS = {f"{name}.wav": samples(speech(200, seed=seed)) for name, seed in (("after", 61), ("busy", 62), ("gone", 63))}


def server(flow: dict[str, Any], *users: str, tmp: Any = None, **more: Any) -> ServerUnderTest:
    """A server where these users have phones and the caller is a trunk's."""
    phones = [{"user": user, "password": PASSWORD} for user in users or ("alice", "bob")]
    config = {"trunk": [CARRIER], "phone": phones, **more}
    return ServerUnderTest(flow, config, sounds=SOUNDS)


def registered(
    one: ServerUnderTest, host: str, user: str = "alice", headers: str = "", contact: str = "", **options: Any
) -> Phone:
    """A phone of this user that waits for calls.

    :param contact: the host of its Contact, where that is another.
    """
    phone = one.phone(host=host, user=user, **options)
    phone.takes_calls = True
    phone.sip.host = contact or phone.sip.host
    assert register(one, phone, PASSWORD, user=user, headers=headers) == 200
    return phone


def caller_of(one: ServerUnderTest, **options: Any) -> Phone:
    """Somebody who has just called."""
    phone = one.phone(host="127.0.0.2", user="carol", **options)
    phone.dial("1000")
    one.advance(0.1)
    return phone


def hears(one: ServerUnderTest, speaker: Phone, listener: Phone, seed: int) -> bool:
    """What one says is what the other gets, byte for byte, where both have the same codec."""
    said, now = speech(400, seed=seed), one.now
    speaker.say(said)
    one.advance(1.0)
    return said in listener.heard(now)


def coded_tone(codec: str, frequency_hz: int = 1000) -> bytes:
    """A second of it."""
    served = codec_named(codec)
    assert served is not None
    pcm = tone((frequency_hz,), 1000, served.rate_hz, -12.0)
    if served.encode is not None:
        return bytes(served.encode(pcm.reshape(1, -1)).tobytes())
    assert served.make_coder is not None
    coder = served.make_coder("")
    return b"".join(coder.encode(frame) for frame in pcm.reshape(-1, served.rate_hz // 50))


def tone_share(phone: Phone, since: float, frequency_hz: int = 1000) -> float:
    """How much of the sound that it got is this tone, of its middle half second."""
    served = codec_named(phone.codec)
    assert served is not None
    payloads = phone.heard(since)
    if served.decode is not None:
        pcm = served.decode(np.frombuffer(payloads, np.uint8).reshape(1, -1))[0]
    else:
        assert served.make_coder is not None
        coder = served.make_coder("")
        pcm = np.concatenate([coder.decode(payloads[at : at + 160]) for at in range(0, len(payloads), 160)])
    half = served.rate_hz // 2
    middle = pcm[half : 2 * half].astype(float)
    power = np.abs(np.fft.rfft(middle * np.hanning(len(middle)))) ** 2
    at = frequency_hz * len(middle) // served.rate_hz
    return float(power[at - 3 : at + 4].sum() / max(1.0, power.sum()))


def digits_of(phone: Phone) -> list[int]:
    """The telephone-events that it got, one number for each event."""
    events = [arrival.packet for arrival in phone.arrivals if arrival.packet.payload_type == DIGIT_TYPE]
    return [int(packet.payload[0]) for packet in events if packet.marker]


def test_a_phone_is_rung_and_both_hear_each_other() -> None:
    with server(connect_flow()) as one:
        alice = registered(one, "127.0.0.9")
        caller = caller_of(one)
        assert alice.invite is not None
        assert alice.invite.first.split()[1] == alice.sip.contact()[1:-1]
        assert alice.invite.header("from").startswith("<sip:carol@127.0.0.1>")
        assert caller.statuses == [100]
        alice.ring()
        one.advance(0.1)
        assert caller.statuses == [100, 180]
        alice.pick_up()
        one.advance_until(lambda: caller.is_answered)
        assert hears(one, caller, alice, 1)
        assert hears(one, alice, caller, 2)
        alice.hang_up()
        one.advance_until(lambda: caller.is_over)
        assert one.steps == [("connect", "done"), ("after", "done")]
        (end,) = one.events("connect_ended")
        assert (end.fields["by"], end.fields["status"], end.fields["outcome"]) == ("callee", 200, "done")
        assert end.fields["talked_s"] == pytest.approx(2.0, abs=0.2)
        assert one.service.switchboard.admission.outgoing == 0


def test_the_caller_hangs_up_and_so_do_we() -> None:
    with server(connect_flow()) as one:
        alice = registered(one, "127.0.0.9")
        caller = caller_of(one)
        alice.pick_up()
        one.advance_until(lambda: caller.is_answered)
        caller.hang_up()
        one.advance(0.1)
        assert alice.requests[-1].method == "BYE"
        (end,) = one.events("connect_ended")
        assert (end.fields["by"], end.fields["outcome"]) == ("caller", "done")
        (mine,), (theirs,) = one.events("leg_ended"), one.events("dialed_leg_ended")
        assert (mine.fields["by"], theirs.fields["by"], theirs.fields["target"]) == ("user", "server", "alice")


@pytest.mark.rfc(3261)
def test_the_caller_gives_up_while_it_rings_and_the_phone_is_cancelled() -> None:
    with server(connect_flow()) as one:
        alice = registered(one, "127.0.0.9")
        caller = caller_of(one)
        alice.ring()
        one.advance(0.1)
        caller.cancel()
        one.advance(0.1)
        assert [request.method for request in alice.requests] == ["INVITE", "CANCEL", "ACK"]
        assert caller.statuses[-1] == 487
        (end,) = one.events("connect_ended")
        assert end.fields["outcome"] == "no_answer"


@pytest.mark.rfc(3261)
def test_the_caller_gives_up_while_an_answer_is_on_its_way() -> None:
    """9.1: what was answered before our CANCEL came is a call; nobody is here for it any more."""
    with server(connect_flow()) as one:
        alice = registered(one, "127.0.0.9")
        caller = caller_of(one)
        alice.ring()
        one.advance(0.1)
        one.reactor.network.path(one.address, (alice.sip.host, alice.sip.port)).delay_s = 0.1
        alice.pick_up()
        caller.cancel()
        one.advance(0.5)
        assert [request.method for request in alice.requests] == ["INVITE", "CANCEL", "ACK", "BYE"]
        assert caller.statuses[-1] == 487 and alice.ended_by == "server"
        assert one.service.edge.stack.counters["received INVITE 487"] == 0, "a phone answers once"


@pytest.mark.parametrize(
    ("status", "outcome"), [(486, "busy"), (603, "busy"), (480, "no_answer"), (500, "failed"), (404, "failed")]
)
def test_what_a_refusal_comes_to(status: int, outcome: str) -> None:
    with server(connect_flow()) as one:
        alice = registered(one, "127.0.0.9")
        caller_of(one)
        alice.refuse(status, "No")
        one.advance(1.0)
        assert one.steps[0] == ("connect", outcome)
        (end,) = one.events("connect_ended")
        assert end.fields["status"] == status


def test_nobody_answers_in_time() -> None:
    with server(connect_flow(timeout_s=5)) as one:
        alice = registered(one, "127.0.0.9")
        caller_of(one)
        alice.ring()
        one.advance(4.0)
        assert one.steps == []
        one.advance(1.5)
        assert [request.method for request in alice.requests] == ["INVITE", "CANCEL", "ACK"]
        assert one.steps[0] == ("connect", "no_answer")
        (end,) = one.events("connect_ended")
        assert end.fields["status"] == 408


def test_a_phone_that_is_not_registered() -> None:
    with server(connect_flow()) as one:
        caller_of(one)
        one.advance(1.0)
        assert one.steps[0] == ("connect", "no_answer")
        (failed,) = one.events("dial_failed")
        assert (failed.fields["status"], failed.fields["reason"]) == (480, "the phone alice is not registered")


def loudest(phone: Phone, since: float) -> int:
    """The largest sample that it has heard since then."""
    heard = samples(phone.heard(since))
    assert len(heard), "nothing has come, not even silence"
    return int(np.abs(heard.astype(np.int32)).max())


def talking(one: ServerUnderTest, callee: Phone, caller: Phone) -> None:
    """The callee picks up."""
    callee.pick_up()
    one.advance_until(lambda: caller.is_answered)
    one.advance(0.2)


class TestSeveral:
    @pytest.mark.rfc(3326)
    def test_all_contacts_ring_and_the_first_answer_has_the_call(self) -> None:
        with server(connect_flow()) as one:
            desk, mobile = registered(one, "127.0.0.9"), registered(one, "127.0.0.10")
            caller = caller_of(one)
            desk.ring()
            mobile.ring()
            one.advance(0.5)
            talking(one, mobile, caller)
            assert [request.method for request in desk.requests] == ["INVITE", "CANCEL", "ACK"]
            assert desk.requests[1].header("reason") == 'SIP;cause=200;text="another phone answered"'
            assert hears(one, caller, mobile, 3)
            assert one.service.switchboard.admission.outgoing == 1

    @pytest.mark.rfc(3261)
    def test_an_answer_that_crosses_our_cancel_is_acknowledged_and_ended(self) -> None:
        with server(connect_flow()) as one:
            desk, mobile = registered(one, "127.0.0.9"), registered(one, "127.0.0.10")
            caller = caller_of(one)
            desk.pick_up()
            mobile.pick_up()
            one.advance_until(lambda: caller.is_answered)
            one.advance(0.5)
            late = mobile if any(request.method == "BYE" for request in mobile.requests) else desk
            assert [request.method for request in late.requests if request.method != "CANCEL"] == [
                "INVITE",
                "ACK",
                "BYE",
            ]
            other = desk if late is mobile else mobile
            assert hears(one, caller, other, 4)
            assert one.service.plane.legs == 2

    @pytest.mark.contract
    def test_4_5_in_turn_each_has_its_time(self) -> None:
        with server(connect_flow(["alice", "bob"], ring="in_turn", timeout_s=5)) as one:
            alice, bob = registered(one, "127.0.0.9"), registered(one, "127.0.0.10", "bob")
            caller = caller_of(one)
            alice.ring()
            one.advance(3)
            assert bob.invite is None
            one.advance(3)
            assert alice.requests[1].method == "CANCEL"
            assert bob.invite is not None
            talking(one, bob, caller)
            (end,) = one.events("connected")
            assert end.fields["target"] == "bob"

    def test_in_turn_a_refusal_is_followed_at_once(self) -> None:
        with server(connect_flow(["nobody", "alice", "bob"], ring="in_turn")) as one:
            alice, bob = registered(one, "127.0.0.9"), registered(one, "127.0.0.10", "bob")
            caller_of(one)
            alice.refuse(486)
            one.advance(0.1)
            bob.refuse(500, "Oh")
            one.advance(1)
            assert one.steps[0] == ("connect", "busy")
            assert [event.fields["status"] for event in one.events("dial_failed")] == [404, 486, 500]

    @pytest.mark.rfc(3261)
    def test_a_second_branch_of_one_fork_is_acknowledged_and_ended(self) -> None:
        """13.2.2.4: a proxy before the phone rings two, both pick up, and both 200 come to the one INVITE."""
        with server(connect_flow()) as one:
            alice = registered(one, "127.0.0.9")
            caller = caller_of(one)
            first = alice.sip.local_tag
            alice.ring()
            alice.sip.local_tag = "other"
            alice.ring()
            one.advance(0.2)
            alice.pick_up()
            one.advance(0.2)
            alice.sip.local_tag = first
            alice.pick_up()
            one.advance(0.5)
            byes = [request for request in alice.requests if request.method == "BYE"]
            acks = [request for request in alice.requests if request.method == "ACK"]
            assert [bye.header("to").endswith(first) for bye in byes] == [True]
            assert len(acks) == 2
            alice.sip.local_tag = "other"
            alice.ended_by = ""
            assert caller.is_answered
            assert not caller.is_over


class TestSound:
    @pytest.mark.rfc(3960)
    def test_early_media_of_the_far_end_is_heard_before_anybody_answers(self) -> None:
        with server(connect_flow()) as one:
            alice = registered(one, "127.0.0.9")
            caller = caller_of(one)
            alice.ring(183, has_sound=True)
            one.advance(0.2)
            assert caller.statuses == [100, 183]
            assert hears(one, alice, caller, 5)
            assert not caller.is_answered
            talking(one, alice, caller)
            assert hears(one, caller, alice, 6)

    def test_another_branch_has_sound_of_its_own(self) -> None:
        """The early media of one branch, and then the answer of another that is elsewhere."""
        with server(connect_flow()) as one:
            alice, bob = registered(one, "127.0.0.9"), registered(one, "127.0.0.10", "bob")
            caller = caller_of(one)
            alice.ring(183, has_sound=True)
            one.advance(0.2)
            alice.sip.local_tag = "other"
            sdp = bob.description()
            alice.send(alice.sip.respond(alice.invite_data, 200, "OK", sdp))
            bob.answer = alice.answer
            one.advance(0.2)
            assert caller.is_answered
            assert hears(one, bob, caller, 7)
            assert hears(one, caller, bob, 8)

    def test_music_while_it_rings(self) -> None:
        """The file comes again and again, for a caller who is not answered as early media."""
        with server(connect_flow(ringback="busy.wav")) as one:
            alice = registered(one, "127.0.0.9")
            caller = caller_of(one)
            alice.ring()
            rang = one.now
            one.advance(2.0)
            assert caller.statuses == [100, 183]
            assert caller.heard_sound(rang).count(speech(200, seed=62)) >= 5
            talking(one, alice, caller)
            assert hears(one, alice, caller, 19)

    @pytest.mark.rfc(3960)
    def test_a_caller_that_hears_us_gets_a_ringback_tone(self) -> None:
        flow = connect_flow()
        flow["start"] = "welcome"
        flow["step"]["welcome"] = {"applet": "play", "file": "after.wav", "next": "connect"}
        with server(flow) as one:
            alice = registered(one, "127.0.0.9")
            caller = one.call(host="127.0.0.2", user="carol")
            one.advance(1.0)
            assert loudest(caller, one.now - 0.2) == 0
            alice.ring()
            rang = one.now
            one.advance(0.5)
            assert loudest(caller, rang) > 1000
            one.advance(3.5)
            assert loudest(caller, one.now - 1.0) == 0
            one.advance(1.5)
            assert loudest(caller, one.now - 0.4) > 1000
            alice.pick_up()
            one.advance(0.1)
            quiet = one.now
            one.advance(0.5)
            assert loudest(caller, quiet) == 0
            assert hears(one, alice, caller, 9)

    @pytest.mark.parametrize(("mine", "theirs"), [("PCMU", "PCMA"), ("G722", "PCMU"), ("G722", "G722")])
    def test_two_codecs(self, mine: str, theirs: str) -> None:
        """A tone of 1 kHz passes in both directions, whatever the codecs are."""
        media = {"codecs": ["PCMU", "PCMA", "G722"], "ports": "20000-20999", "max_calls": 16}
        with server(connect_flow(), media=media) as one:
            alice = registered(one, "127.0.0.9", codecs=[theirs])
            caller = caller_of(one, codecs=[mine])
            talking(one, alice, caller)
            for speaker, listener in ((caller, alice), (alice, caller)):
                now = one.now
                speaker.say(coded_tone(speaker.codec))
                one.advance(1.2)
                assert tone_share(listener, now) > 0.9

    def test_wide_sound_stays_wide(self) -> None:
        """5 kHz, which nothing at 8,000 samples a second can carry, from one G.722 phone to the other."""
        media = {"codecs": ["G722"], "ports": "20000-20999", "max_calls": 16}
        with server(connect_flow(), media=media) as one:
            alice = registered(one, "127.0.0.9", codecs=["G722"])
            caller = caller_of(one, codecs=["G722"])
            talking(one, alice, caller)
            now = one.now
            caller.say(coded_tone("G722", 5000))
            one.advance(1.2)
            assert tone_share(alice, now, 5000) > 0.9

    def test_digits_pass_as_digits(self) -> None:
        with server(connect_flow()) as one:
            alice = registered(one, "127.0.0.9")
            caller = caller_of(one)
            talking(one, alice, caller)
            caller.press("12")
            alice.press("#")
            one.advance(1.5)
            assert digits_of(alice) == [1, 2]
            assert digits_of(caller) == [11]

    @pytest.mark.rfc(3264)
    def test_a_side_on_hold_and_the_other_one(self) -> None:
        """Alice holds: with inactive the caller hears silence, with sendonly what she sends; then all is as before."""
        with server(connect_flow()) as one:
            alice = registered(one, "127.0.0.9")
            caller = caller_of(one)
            talking(one, alice, caller)
            alice.sip.called = "carol"
            alice.hold()
            one.advance(0.5)
            held = one.now
            caller.say(speech(400, seed=10))
            one.advance(0.6)
            assert not alice.heard(held)
            assert set(caller.heard(held)) == {0xFF}
            alice.reinvite("sendonly")
            one.advance(0.2)
            assert hears(one, alice, caller, 11)
            assert not hears(one, caller, alice, 12)
            alice.resume()
            one.advance(0.2)
            assert hears(one, caller, alice, 13)
            assert hears(one, alice, caller, 14)

    def test_a_change_of_codec_on_one_side_does_not_disturb_the_other(self) -> None:
        with server(connect_flow()) as one:
            alice = registered(one, "127.0.0.9")
            caller = caller_of(one)
            talking(one, alice, caller)
            sequence = [arrival.packet.sequence_number for arrival in caller.arrivals]
            alice.codecs = ("PCMA",)
            alice.reinvite()
            one.advance(0.5)
            now = one.now
            caller.say(coded_tone("PCMU"))
            alice.say(coded_tone("PCMA"))
            one.advance(1.2)
            assert tone_share(alice, now) > 0.9
            assert tone_share(caller, now) > 0.9
            assert [request.method for request in caller.requests] == []
            later = [arrival.packet.sequence_number for arrival in caller.arrivals][len(sequence) - 1 :]
            assert all((after - before) & 0xFFFF == 1 for before, after in itertools.pairwise(later))

    @pytest.mark.contract
    def test_4_2_a_bot_that_listens_hears_both(self) -> None:
        """Agent assist: the applet stream before connect hears the caller and whom he is connected with."""
        flow = connect_flow()
        flow["start"] = "listen"
        listen = {"applet": "stream", "url": "ws://127.0.0.1:5001/ear", "track": "both", "next": "connect"}
        flow["step"]["listen"] = listen
        with server(flow) as one:
            ear = one.bot()
            alice = registered(one, "127.0.0.9")
            caller = one.call(host="127.0.0.2", user="carol")
            alice.pick_up()
            one.advance_until(lambda: one.events("connected"))
            one.advance(0.5)
            assert hears(one, caller, alice, 17)
            assert hears(one, alice, caller, 18)
            one.advance(0.5)
            assert pcm(speech(400, seed=17)) in sound_of(ear.session, "inbound")
            assert pcm(speech(400, seed=18)) in sound_of(ear.session, "outbound")

    def test_what_they_say_is_recorded_side_by_side(self, tmp_path: Path) -> None:
        recording = {"folder": str(tmp_path)}
        with server(connect_flow(record=True), recording=recording) as one:
            alice = registered(one, "127.0.0.9")
            caller = caller_of(one)
            talking(one, alice, caller)
            assert hears(one, caller, alice, 15)
            assert hears(one, alice, caller, 16)
            alice.hang_up()
            one.advance(1)
            (file,) = tmp_path.rglob("*.wav")
            both, _ = soundfile.read(file, dtype="int16")
        for side, seed in ((0, 15), (1, 16)):
            said = samples(speech(400, seed=seed)).tobytes()
            assert said in both[:, side].tobytes()


TRUNKS = [
    {**CARRIER, "server": "sip:127.0.0.5:5070", "numbers": ["+49*"], "user": "us", "password": "trunk-secret"},
    {"name": "other", "server": "sip:127.0.0.6:5070", "numbers": ["+4930*", "0?*"], "max_calls": 1},
]


HELD = (Connection, Dialing, Ring, OutgoingLeg, DigitRelay, Looped, Call, Leg, MediaLeg)


def held() -> Counter[str]:
    """Objects of one call that are in memory."""
    return Counter(kind.__name__ for kind in map(type, gc.get_objects()) if kind in HELD)


@pytest.mark.parametrize("end", ["caller", "callee", "cancel", "refused"])
def test_nothing_of_it_is_held(end: str) -> None:
    """Without a collection: what is over is freed by counting references."""
    with server(connect_flow()) as one:
        phones = [registered(one, "127.0.0.9"), registered(one, "127.0.0.10")]
        gc.collect()
        before = held()
        gc.disable()
        try:
            caller = caller_of(one)
            assert held()["OutgoingLeg"] == 2
            for phone in phones:
                phone.ring()
            one.advance(0.2)
            if end == "cancel":
                caller.cancel()
            elif end == "refused":
                for phone in phones:
                    phone.refuse()
            else:
                talking(one, phones[0], caller)
                phones[0].press("1")
                one.advance(0.5)
                (phones[0] if end == "callee" else caller).hang_up()
            one.advance(45)
            assert one.service.plane.legs == 0
            assert held() - before == Counter()
        finally:
            gc.enable()


class TestNumbers:
    @pytest.mark.rfc(7616)
    def test_a_number_goes_to_the_first_trunk_that_has_it_with_its_credentials(self) -> None:
        with server(connect_flow("+49 (30) 1234"), trunk=TRUNKS) as one:
            carrier = one.phone(host="127.0.0.5", sip_port=5070)
            carrier.takes_calls = True
            caller = caller_of(one)
            assert carrier.invite is not None
            assert carrier.invite.first == "INVITE sip:+49301234@127.0.0.5:5070 SIP/2.0"
            assert carrier.invite.header("from").startswith("<sip:carol@127.0.0.5>")
            challenge = 'WWW-Authenticate: Digest realm="carrier", nonce="n1", algorithm=MD5, qop="auth"\r\n'
            carrier.refuse(401, "Unauthorized", challenge)
            one.advance(0.1)
            assert 'username="us"' in carrier.invite.header("authorization")
            talking(one, carrier, caller)
            assert hears(one, caller, carrier, 21)
            (started,) = one.events("dial_started")
            assert started.fields["trunk"] == "carrier"
            assert "trunk-secret" not in one.story() + "".join(one.log)

    def test_a_number_that_no_trunk_has(self) -> None:
        with server(connect_flow("+331234"), trunk=TRUNKS) as one:
            caller_of(one)
            one.advance(1)
            assert one.steps[0] == ("connect", "failed")
            (failed,) = one.events("dial_failed")
            assert failed.fields["reason"] == "+331234 is no phone, and no trunk has it among its numbers"

    def test_who_we_say_we_are(self) -> None:
        with server(connect_flow("07", caller="+4930999"), trunk=TRUNKS) as one:
            other = one.phone(host="127.0.0.6", sip_port=5070)
            other.takes_calls = True
            caller_of(one)
            assert other.invite is not None
            assert other.invite.header("from").startswith("<sip:+4930999@127.0.0.6>")

    @pytest.mark.rfc(3323)
    def test_a_caller_who_wants_to_be_nobody_is(self) -> None:
        with server(connect_flow("07"), trunk=TRUNKS) as one:
            other = one.phone(host="127.0.0.6", sip_port=5070)
            other.takes_calls = True
            one.phone(host="127.0.0.2", user="carol").dial("1000", headers="Privacy: id\r\n")
            one.advance(0.1)
            assert other.invite is not None
            assert other.invite.header("from").startswith("<sip:anonymous@anonymous.invalid>")
            assert "carol" not in str(other.invite)

    @pytest.mark.rfc(3323)
    def test_a_phone_that_wants_to_be_nobody_is(self) -> None:
        with server(connect_flow("07"), trunk=TRUNKS) as one:
            other = one.phone(host="127.0.0.6", sip_port=5070)
            other.takes_calls = True
            caller = one.phone(host="127.0.0.9", user="bob", credentials=("bob", PASSWORD))
            caller.dial("1000", headers="Privacy: user;id\r\n")
            one.advance(0.3)
            assert other.invite is not None
            assert other.invite.header("from").startswith("<sip:anonymous@anonymous.invalid>")
            assert "bob" not in str(other.invite)

    def test_a_full_trunk_is_not_called(self) -> None:
        with server(connect_flow("07"), trunk=TRUNKS) as one:
            other = one.phone(host="127.0.0.6", sip_port=5070)
            other.takes_calls = True
            first = caller_of(one)
            talking(one, other, first)
            second = caller_of(one)
            one.advance(0.5)
            (failed,) = one.events("dial_failed")
            assert failed.fields["reason"] == "all 1 calls of this trunk are up"
            first.hang_up()
            second.hang_up()
            one.advance(0.5)
            caller_of(one)
            assert len(one.events("dial_started")) == 2

    def test_reserved_calls_are_for_calls_of_ours(self) -> None:
        """Two calls at once, one of them kept for us: one caller comes in, is connected, and the next one is 503."""
        media = {"max_calls": 2, "ports": "20000-20999"}
        with server(connect_flow("07"), trunk=TRUNKS, media=media, access={"reserved_calls": 1}) as one:
            other = one.phone(host="127.0.0.6", sip_port=5070)
            other.takes_calls = True
            caller = caller_of(one)
            talking(one, other, caller)
            assert caller_of(one).statuses == [100, 503]

    def test_a_node_that_is_full_calls_nobody(self) -> None:
        with server(connect_flow("07"), trunk=TRUNKS, media={"max_calls": 1, "ports": "20000-20999"}) as one:
            caller_of(one)
            one.advance(0.5)
            (failed,) = one.events("dial_failed")
            assert failed.fields["reason"] == "all 1 calls of this node are up"

    def test_a_server_that_does_not_answer(self) -> None:
        with server(connect_flow("07", timeout_s=60), trunk=TRUNKS) as one:
            caller_of(one)
            one.advance(40)
            assert one.steps[0] == ("connect", "no_answer")
            assert one.events("dial_failed")[0].fields["status"] == 408

    def test_a_uri_of_the_flow_goes_where_it_leads(self) -> None:
        with server(connect_flow("sip:dave@127.0.0.8:5080")) as one:
            dave = one.phone(host="127.0.0.8", sip_port=5080)
            dave.takes_calls = True
            caller = caller_of(one)
            talking(one, dave, caller)
            assert dave.invite is not None
            assert dave.invite.first == "INVITE sip:dave@127.0.0.8:5080 SIP/2.0"

    def test_a_name_that_leads_nowhere(self) -> None:
        with server(connect_flow("sips:dave@127.0.0.8:5081")) as one:
            caller_of(one)
            one.advance(0.5)
            assert one.steps[0] == ("connect", "failed")
            assert one.events("dial_failed")[0].fields["status"] == 503


class TestPhones:
    @pytest.mark.rfc(3327)
    def test_the_path_of_its_registration_is_the_route_to_it(self) -> None:
        path = "<sip:127.0.0.9:5090;lr>"
        with server(connect_flow()) as one:
            alice = registered(one, "127.0.0.9", headers=f"Path: {path}\r\nSupported: path\r\n")
            caller_of(one)
            assert alice.invite is not None
            assert alice.invite.header("route") == path

    @pytest.mark.rfc(5626)
    def test_it_is_called_where_it_registered_from_whatever_its_contact_says(self) -> None:
        with server(connect_flow()) as one:
            alice = registered(one, "127.0.0.10", contact="10.1.2.3")
            caller = caller_of(one)
            assert alice.invite is not None
            assert "@10.1.2.3:" in alice.invite.first
            talking(one, alice, caller)
            assert hears(one, caller, alice, 31)
            caller.hang_up()
            one.advance(0.1)
            assert alice.requests[-1].method == "BYE"


class TestTheCaller:
    @pytest.mark.rfc(7332)
    def test_a_call_that_goes_on_has_fewer_hops_left(self) -> None:
        with server(connect_flow()) as one:
            alice = registered(one, "127.0.0.9")
            caller_of(one)
            assert alice.invite is not None
            assert alice.invite.header("max-forwards") == "69"
            alice.refuse()
            last = one.phone(host="127.0.0.2", user="carol")
            invite = last.sip.invite(last.description())
            last.send(invite.replace(b"Max-Forwards: 70", b"Max-Forwards: 1"))
            one.advance(0.5)
            assert len(one.events("dial_started")) == 1
            assert one.events("dial_failed")[-1].fields["status"] == 483
            last.cancel()

    @pytest.mark.rfc(7332)
    def test_a_call_that_comes_back_to_us_for_ever_ends(self) -> None:
        """The trunk's server is this node, and each time round it calls itself again: the hops run out."""
        loop = {"name": "loop", "address": ["127.0.0.1"], "server": "sip:127.0.0.1:5060", "numbers": ["*"]}
        media = {"max_calls": 200, "ports": "20000-20999"}
        with server(connect_flow("1000"), trunk=[CARRIER, loop], media=media) as one:
            caller_of(one)
            one.advance(2)
            assert len(one.events("call_started")) == 70
            assert one.events("dial_failed")[0].fields["status"] == 483

    def test_whom_he_heard_before_an_answer_goes_and_another_rings_on(self) -> None:
        flow = connect_flow(["alice", "bob"])
        flow["start"] = "welcome"
        flow["step"]["welcome"] = {"applet": "play", "file": "after.wav", "next": "connect"}
        with server(flow) as one:
            alice, bob = registered(one, "127.0.0.9"), registered(one, "127.0.0.10", "bob")
            caller = one.call(host="127.0.0.2", user="carol")
            one.advance(0.5)
            bob.ring()
            alice.ring(183, has_sound=True)
            one.advance(0.3)
            assert hears(one, alice, caller, 45)
            alice.refuse(480, "Gone")
            quiet = one.now
            one.advance(0.5)
            assert loudest(caller, quiet) > 1000
            talking(one, bob, caller)
            assert hears(one, bob, caller, 46)

    def test_one_that_leaves_the_offer_to_us_is_answered_with_the_other_end(self) -> None:
        with server(connect_flow()) as one:
            alice = registered(one, "127.0.0.9")
            caller = one.phone(host="127.0.0.2", user="carol")
            caller.dial("1000", sdp=b"")
            one.advance(0.1)
            alice.ring(183, has_sound=True)
            one.advance(0.3)
            assert caller.statuses == [100, 180]
            talking(one, alice, caller)
            assert hears(one, alice, caller, 41)
            assert hears(one, caller, alice, 42)

    def test_the_server_stops_and_both_ends_hear_of_it(self) -> None:
        with server(connect_flow()) as one:
            alice = registered(one, "127.0.0.9")
            caller = caller_of(one)
            talking(one, alice, caller)
            one.service.switchboard.hang_up_all("the node stops")
            one.advance(0.5)
            assert alice.requests[-1].method == caller.requests[-1].method == "BYE"

    def test_an_answer_without_a_description_is_none(self) -> None:
        with server(connect_flow()) as one:
            alice = registered(one, "127.0.0.9")
            caller_of(one)
            alice.send(alice.sip.respond(alice.invite_data, 200, "OK"))
            one.advance(0.5)
            assert one.steps[0] == ("connect", "failed")
            assert one.events("dial_failed")[0].fields["reason"] == "the 200 holds no answer to our offer"
            assert [request.method for request in alice.requests] == ["INVITE", "ACK", "BYE"]

    @pytest.mark.rfc(3262)
    def test_a_reliable_183_may_hold_the_answer_alone(self) -> None:
        with server(connect_flow()) as one:
            alice = registered(one, "127.0.0.9")
            alice.serves = {"PRACK"}
            caller = caller_of(one)
            alice.ring(183, has_sound=True, headers="Require: 100rel\r\nRSeq: 1\r\n")
            one.advance(0.3)
            assert alice.requests[-1].method == "PRACK"
            alice.send(alice.sip.respond(alice.invite_data, 200, "OK"))
            one.advance_until(lambda: caller.is_answered)
            assert hears(one, alice, caller, 43)
            assert hears(one, caller, alice, 44)

    def test_a_callee_that_dies_is_followed_by_the_next_step(self) -> None:
        """No RTP and no RTCP for longer than rtp_timeout_s: the callee is given up, the caller is still here."""
        media = {"rtp_timeout_s": 10, "ports": "20000-20999", "max_calls": 16}
        with server(connect_flow(), media=media) as one:
            alice = registered(one, "127.0.0.9")
            caller = caller_of(one)
            talking(one, alice, caller)
            caller.say(speech(14000, seed=3))
            one.advance(14)
            assert alice.requests[-1].method == "BYE"
            assert one.steps[0] == ("connect", "done")
            (end,) = one.events("connect_ended")
            assert end.fields["by"] == "server"
