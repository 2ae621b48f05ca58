from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentstream.errors import LocalProtocolError, RemoteProtocolError
from agentstream.rtp import events
from agentstream.rtp.events import Digit, DigitReceiver, TelephoneEvent, packets_of_digit
from tests.oracles.events import Sent, digits_heard

pytestmark = pytest.mark.rfc(4733)


def press(receiver: DigitReceiver, digit: str, duration_ms: int, timestamp: int, now: float = 0.0) -> list[Digit]:
    """Give the receiver every packet of a digit; returns what it reported."""
    reported: list[Digit] = []
    for packet in packets_of_digit(digit, duration_ms):
        at = (timestamp + packet.timestamp_offset) & 0xFFFFFFFF
        reported += receiver.receive(packet.payload, at, now + packet.delay_ms / 1000)
    return reported


def test_golden_bytes_both_ways() -> None:
    event = TelephoneEvent(11, True, 10, 800)
    assert event.serialise() == bytes.fromhex("0b8a0320")
    assert TelephoneEvent.parse(bytes.fromhex("0bca0320")) == (event,)  # the reserved bit is not looked at
    assert TelephoneEvent.parse(bytes.fromhex("0b8a0320 00000001"))[1] == TelephoneEvent(0, False, 0, 1)


@pytest.mark.parametrize("payload", [b"", b"\x01", b"\x01\x02\x03", b"\x01\x02\x03\x04\x05"])
def test_a_payload_of_another_length_is_refused(payload: bytes) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        DigitReceiver().receive(payload, 0, 0.0)
    assert caught.value.sentence == events.WRONG_LENGTH


@given(st.lists(st.tuples(st.binary(max_size=9), st.integers(0, 2**32 - 1), st.floats(0, 100)), max_size=20))
def test_any_bytes_are_digits_or_a_protocol_error(packets: list[tuple[bytes, int, float]]) -> None:
    receiver = DigitReceiver()
    for payload, timestamp, now in packets:
        try:
            reported = receiver.receive(payload, timestamp, now)
        except RemoteProtocolError:
            continue
        assert all(digit.digit in events.DIGITS for digit in reported)
    receiver.expire(1000.0)
    assert not receiver.is_pressed


@pytest.mark.parametrize("digit", events.DIGITS)
def test_each_digit_is_reported_once_with_its_duration(digit: str) -> None:
    receiver = DigitReceiver()
    assert press(receiver, digit, 130, 0xFFFFFFF0) == [Digit(digit, 130, 10)]
    assert not receiver.is_pressed


def test_the_digit_is_reported_at_its_first_end_packet() -> None:
    receiver = DigitReceiver()
    packets = packets_of_digit("7", 60)
    reported = [receiver.receive(packet.payload, 500, packet.delay_ms / 1000) for packet in packets]
    assert reported == [(), (), (Digit("7", 60, 10),), (), ()]


def test_the_same_digit_twice_is_two_digits() -> None:
    receiver = DigitReceiver()
    assert press(receiver, "4", 80, 1000, 0.0) + press(receiver, "4", 90, 2600, 0.2) == [
        Digit("4", 80, 10),
        Digit("4", 90, 10),
    ]


def test_a_lost_end_is_reported_when_the_next_digit_begins() -> None:
    receiver = DigitReceiver()
    first, second = TelephoneEvent(1, False, 12, 480), TelephoneEvent(2, False, 12, 160)
    assert receiver.receive(first.serialise(), 1000, 0.06) == ()
    assert receiver.receive(second.serialise(), 2000, 0.18) == (Digit("1", 60, 12),)
    assert receiver.is_pressed


def test_a_lost_end_is_reported_when_its_packets_stay_away() -> None:
    receiver = DigitReceiver()
    assert receiver.expire(5.0) == ()
    receiver.receive(TelephoneEvent(9, False, 12, 480).serialise(), 1000, 10.0)
    assert receiver.expire(10.0 + events.EXPIRES_AFTER_S - 0.01) == ()
    assert receiver.expire(10.01 + events.EXPIRES_AFTER_S) == (Digit("9", 60, 12),)
    assert receiver.expire(11.0) == ()
    # An end packet that comes after all is not a second digit.
    assert receiver.receive(TelephoneEvent(9, True, 12, 800).serialise(), 1000, 10.5) == ()


def test_only_the_end_packet_is_enough() -> None:
    assert DigitReceiver().receive(TelephoneEvent(15, True, 3, 1600).serialise(), 7, 0.0) == (Digit("D", 200, 3),)


def test_a_late_packet_of_the_digit_before_changes_nothing() -> None:
    receiver = DigitReceiver()
    press(receiver, "1", 60, 1000)
    assert receiver.receive(TelephoneEvent(2, False, 10, 160).serialise(), 2000, 0.2) == ()
    assert receiver.receive(TelephoneEvent(1, True, 10, 480).serialise(), 1000, 0.21) == ()
    assert receiver.receive(TelephoneEvent(2, True, 10, 320).serialise(), 2000, 0.22) == (Digit("2", 40, 10),)
    assert receiver.receive(TelephoneEvent(1, True, 10, 480).serialise(), 1000, 0.23) == ()


def test_a_phone_whose_clock_went_back_is_heard_again_after_a_while() -> None:
    receiver = DigitReceiver()
    press(receiver, "1", 60, 1_000_000, 0.0)
    assert press(receiver, "1", 60, 5, events.FORGOTTEN_AFTER_S + 1) == [Digit("1", 60, 10)]


def test_a_long_event_in_segments_is_one_digit() -> None:
    packets = packets_of_digit("0", 20_000)
    assert {packet.timestamp_offset for packet in packets} == {0, 0xFFFF, 2 * 0xFFFF}
    assert [packet.marker for packet in packets] == [True] + [False] * (len(packets) - 1)
    assert press(DigitReceiver(), "0", 20_000, 0xFFFF0000) == [Digit("0", 20_000, 10)]


def test_a_long_event_survives_the_loss_of_a_whole_segment() -> None:
    receiver = DigitReceiver()
    reported: list[Digit] = []
    for packet in packets_of_digit("0", 20_000):
        if packet.timestamp_offset != 0xFFFF:
            reported += receiver.receive(packet.payload, packet.timestamp_offset, packet.delay_ms / 1000)
    assert reported == [Digit("0", 20_000, 10)]


def test_a_segment_from_days_ahead_is_another_digit() -> None:
    receiver = DigitReceiver()
    assert receiver.receive(TelephoneEvent(1, False, 10, 800).serialise(), 0, 1.0) == ()
    found = receiver.receive(TelephoneEvent(1, True, 10, 160).serialise(), 30_000 * 0xFFFF, 1.1)
    assert [(digit.digit, digit.duration_ms) for digit in found] == [("1", 100), ("1", 20)]


def test_events_that_are_no_digits_are_passed_over() -> None:
    receiver = DigitReceiver()
    assert receiver.receive(TelephoneEvent(16, True, 0, 800).serialise(), 0, 0.0) == ()
    assert receiver.receive(TelephoneEvent(255, False, 0, 800).serialise(), 9, 0.0) == ()
    assert not receiver.is_pressed


def test_several_events_in_one_packet() -> None:
    payload = TelephoneEvent(1, True, 5, 400).serialise() + TelephoneEvent(2, False, 5, 160).serialise()
    receiver = DigitReceiver()
    assert receiver.receive(payload, 1000, 0.0) == (Digit("1", 50, 5),)
    assert receiver.receive(TelephoneEvent(2, True, 5, 480).serialise(), 1400, 0.1) == (Digit("2", 60, 5),)


def test_another_source_has_timestamps_of_its_own() -> None:
    receiver = DigitReceiver()
    end = TelephoneEvent(5, True, 10, 800).serialise()
    assert [digit.digit for digit in receiver.receive(end, 90_000, 1.0, ssrc=1)] == ["5"]
    assert [digit.digit for digit in receiver.receive(end, 8_000, 1.5, ssrc=2)] == ["5"]
    assert receiver.receive(end, 8_000, 1.6, ssrc=2) == ()
    begun = TelephoneEvent(6, False, 10, 160).serialise()
    assert receiver.receive(begun, 16_000, 2.0, ssrc=2) == ()
    found = receiver.receive(TelephoneEvent(7, True, 10, 800).serialise(), 10, 2.1, ssrc=3)
    assert [(digit.digit, digit.duration_ms) for digit in found] == [("6", 20), ("7", 100)]


def test_reset_forgets_the_press_and_the_report() -> None:
    receiver = DigitReceiver()
    receiver.receive(TelephoneEvent(3, False, 5, 160).serialise(), 1000, 0.0)
    receiver.reset()
    assert receiver.expire(10.0) == ()
    assert press(receiver, "3", 40, 900) == [Digit("3", 40, 10)]


# Losses as a list over the packets of up to four presses: everything is sent, some of it arrives, some of it doubled.
@given(
    st.lists(st.tuples(st.sampled_from(events.DIGITS), st.integers(1, 400)), min_size=1, max_size=4),
    st.sampled_from([20, 50]),
    st.lists(st.sampled_from([0, 1, 1, 2]), max_size=80),
)
def test_a_digit_of_which_anything_arrives_is_reported_once(
    presses: list[tuple[str, int]], step_ms: int, copies: list[int]
) -> None:
    receiver = DigitReceiver()
    arrived: list[Sent] = []
    reported: list[Digit] = []
    now, timestamp, number = 0.0, 0xFFFFF000, 0
    for i, (digit, duration_ms) in enumerate(presses):
        for packet in packets_of_digit(digit, duration_ms, step_ms=step_ms):
            for _ in range(copies[number] if number < len(copies) else 1):
                arrived.append(Sent(i, packet.payload, timestamp))
                reported += receiver.receive(packet.payload, timestamp, now + packet.delay_ms / 1000)
            number += 1
        now += duration_ms / 1000 + 0.1
        timestamp = (timestamp + 8 * duration_ms + 800) & 0xFFFFFFFF
    reported += receiver.expire(now + 10)
    assert reported == digits_heard(arrived)


@pytest.mark.parametrize(
    ("step_ms", "expected"),
    [
        (20, [(160, 0, 0), (320, 20, 0), (480, 40, 0), (560, 60, 1), (560, 80, 1), (560, 100, 1)]),
        (50, [(400, 0, 0), (560, 50, 1), (560, 100, 1), (560, 150, 1)]),
        (100, [(560, 0, 1), (560, 100, 1), (560, 200, 1)]),
    ],
)
def test_packets_of_a_digit(step_ms: int, expected: list[tuple[int, int, int]]) -> None:
    packets = packets_of_digit("#", 70, step_ms=step_ms, volume=7)
    assert [
        (event.duration, packet.delay_ms, event.is_end)
        for packet in packets
        for event in TelephoneEvent.parse(packet.payload)
    ] == expected
    assert {packet.payload[0] for packet in packets} == {11}
    assert [packet.marker for packet in packets] == [True] + [False] * (len(packets) - 1)


@pytest.mark.parametrize(("digit", "duration_ms"), [("", 100), ("12", 100), ("E", 100), ("1", 0)])
def test_what_is_no_digit_is_ours_to_fix(digit: str, duration_ms: int) -> None:
    with pytest.raises(LocalProtocolError):
        packets_of_digit(digit, duration_ms)
