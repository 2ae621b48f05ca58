"""The test phone, from INVITE to BYE, on a network in memory."""

from __future__ import annotations

import numpy as np
import pytest

from agentstream.cli.phone import LAST_PACKET_S, Errand
from agentstream.cli.sound import find_sound
from agentstream.errors import AgentstreamError
from agentstream.rtp.events import DigitReceiver
from agentstream.rtp.packet import Packet

from .fakes import Switchboard, noise, phone, ulaw


def test_a_whole_call() -> None:
    told: list[tuple[str, dict[str, object]]] = []
    speech = noise(8000)
    caller = phone(Errand(speech, tail_s=0.5), told)
    far = Switchboard(caller)
    caller.start(far.now)
    far.run(110.0)
    result = caller.result()
    assert [kind for kind, _ in told] == ["calling", "ringing", "answered", "hanging_up", "ended"]
    assert (result.status, result.problem, result.ended_by, result.codec) == (200, "", "local", "PCMU")
    assert result.sent == result.received == len(far.heard)
    assert 75 <= result.sent <= 77
    assert (result.lost, result.out_of_order, result.ignored) == (0, 0, 0)
    assert "SessionEnded" in far.told

    packets = [Packet.parse(data) for data in far.heard]
    assert packets[0].marker and not any(packet.marker for packet in packets[1:])
    assert {packet.payload_type for packet in packets} == {0}
    assert b"".join(packet.payload for packet in packets)[:8000] == ulaw(speech)
    steps = np.diff([packet.timestamp for packet in packets])
    assert set(steps % 2**32) == {160}

    stereo = caller.line.recording.stereo()
    assert find_sound(speech, stereo[:, 0])[1] > 0.99
    assert find_sound(speech, stereo[:, 1])[1] > 0.99


def test_it_falls_silent_before_its_bye() -> None:
    caller = phone(Errand(noise(160), tail_s=0.1))
    far = Switchboard(caller)
    caller.start(far.now)
    last_packet = 0.0
    while not caller.is_over and far.now < 110:
        before = len(caller.rtp.sent)
        far.turn()
        last_packet = far.now if len(caller.rtp.sent) > before else last_packet
        if any(data.startswith(b"BYE ") for data, _ in caller.sip.sock.sent):
            break
        far.now += 0.005
    assert far.now - last_packet >= LAST_PACKET_S - 0.001


@pytest.mark.parametrize("status", [403, 404, 486, 503])
def test_a_refusal_is_told_at_once(status: int) -> None:
    caller = phone(Errand(noise(160)))
    far = Switchboard(caller, status=status)
    caller.start(far.now)
    far.run(101.0)
    result = caller.result()
    assert caller.is_over
    assert result.status == status and str(status) in result.problem
    assert result.sent == 0


def test_nobody_there() -> None:
    caller = phone(Errand(noise(160)))
    caller.start(100.0)
    now = 100.0
    while not caller.is_over and now < 140:
        caller.work(now)
        now += 0.05
    assert caller.is_over and now < 115
    assert caller.result().problem == "nothing was heard from 127.0.0.1:5060: see that a SIP server runs there"


def test_it_stops_ringing_after_a_while() -> None:
    caller = phone(Errand(noise(160), ring_s=3.0))
    far = Switchboard(caller, status=0)
    caller.start(far.now)
    far.run(110.0)
    assert caller.is_over and far.now < 104
    assert caller.result().problem == "nobody answered within 3 seconds"
    assert any(data.startswith(b"CANCEL ") for data, _ in caller.sip.sock.sent)


def test_the_far_end_hangs_up() -> None:
    caller = phone(Errand(noise(16_000)))
    far = Switchboard(caller)
    caller.start(far.now)
    far.run(101.0)
    far.stack.hang_up(far.session, far.now)
    far.run(103.0)
    result = caller.result()
    assert caller.is_over and (result.ended_by, result.problem) == ("remote", "")
    assert 0.9 < result.talk_s < 1.1


def test_digits_go_out_as_telephone_events_and_the_audio_waits() -> None:
    speech = noise(8000)
    caller = phone(Errand(speech, digits="12#", tail_s=0.3))
    far = Switchboard(caller)
    caller.start(far.now)
    far.run(110.0)
    packets = [Packet.parse(data) for data in far.heard]
    receiver = DigitReceiver()
    events = [packet for packet in packets if packet.payload_type == 101]
    digits = [
        digit for i, packet in enumerate(events) for digit in receiver.receive(packet.payload, packet.timestamp, i / 50)
    ]
    assert [(digit.digit, digit.duration_ms) for digit in digits] == [("1", 100), ("2", 100), ("#", 100)]
    assert sum(packet.marker for packet in events) == 3
    numbers = np.diff([packet.sequence_number for packet in packets]) % 65536
    assert set(numbers) == {1}
    sound = b"".join(packet.payload for packet in packets if packet.payload_type == 0)
    assert ulaw(speech[:3200]) in sound and ulaw(speech[-3200:]) in sound
    result = caller.result()
    assert result.digits_heard == "12#" and result.problem == ""


def test_seconds_end_a_call_before_its_last_word() -> None:
    caller = phone(Errand(noise(80_000), seconds=1.0))
    far = Switchboard(caller)
    caller.start(far.now)
    far.run(105.0)
    assert caller.result().sent in (50, 51)


def test_a_call_without_sound_is_a_problem() -> None:
    caller = phone(Errand(noise(160), tail_s=0.2))
    far = Switchboard(caller)
    caller.start(far.now)
    while not caller.is_over and far.now < 105:
        caller.rtp.waiting.clear()
        far.turn()
        caller.rtp.waiting.clear()
        far.now += 0.005
    caller.line.tally.reception.received = 0
    assert caller.result().problem.startswith("no RTP came back")


def test_loss_disorder_and_strangers_are_counted() -> None:
    caller = phone(Errand(noise(16_000)))
    far = Switchboard(caller)
    caller.start(far.now)
    far.run(100.1)
    line = caller.line
    line.tally.reception.new_source()
    before = line.tally.received
    for number in (10, 11, 14, 13, 15):
        line.sock.waiting.append(Packet(0, number, 160 * number, 9, ulaw(noise(160))).serialise())
    line.sock.waiting.append(b"not RTP")
    line.sock.waiting.append(Packet(96, 16, 0, 9, b"x").serialise())
    line.receive()
    assert line.tally.received - before == 5
    assert (line.tally.lost, line.tally.out_of_order, line.tally.ignored) == (1, 1, 2)


def test_a_phone_that_wakes_late_leaves_out_what_is_too_late() -> None:
    caller = phone(Errand(noise(80_000)))
    far = Switchboard(caller)
    caller.start(far.now)
    far.run(100.1)
    line = caller.line
    sent, first = line.tally.sent, line.timestamp
    line.send_due(line.deadline + 0.98)
    assert line.tally.sent - sent == 5 and line.tally.skipped == 45
    assert (line.timestamp - first) % 2**32 == 50 * 160


@pytest.mark.parametrize("uri", ["1000", "tel:+49123", "sips:a@127.0.0.1", "sip:a@no such host", "sip:"])
def test_what_cannot_be_called_is_one_sentence(uri: str) -> None:
    from agentstream.cli.sip_socket import Target

    with pytest.raises(AgentstreamError, match=r"give one like sip:1000@127\.0\.0\.1:5060\.$"):
        Target.parse(uri)
