"""Digits as tones, where telephone-event was not negotiated."""

from __future__ import annotations

import numpy as np
import pytest

from agentstream.audio import g711
from agentstream.audio.codecs.g722 import G722Coder
from agentstream.audio.inband import InbandDigit, InbandDtmf
from agentstream.audio.tones import dtmf, silence
from agentstream.errors import LocalProtocolError, ResourceError
from tests.media.kit import FarEnd, World, decode, make_world

NO_EVENTS = {"send_digit_payload_type": None, "receive_digit_payload_type": None}


def keyed(digits: str, rate_hz: int = 8000) -> np.ndarray:
    """As a phone sends them: 100 ms each and 60 ms between, in whole frames."""
    pieces = [piece for digit in digits for piece in (dtmf(digit, 100, rate_hz), silence(60, rate_hz))]
    return np.concatenate([silence(60, rate_hz), *pieces, silence(60, rate_hz)])


def say(world: World, far: FarEnd, pcm: np.ndarray) -> None:
    codes = g711.PCM_TO_ULAW[pcm.view(np.uint16)]
    for frame in codes.reshape(-1, 160):
        far.say(frame.tobytes())
        world.ticks(1)
    world.ticks(10)


def digits_of(far: FarEnd) -> list[tuple[str, int]]:
    told: list[tuple[str, int]] = []
    far.leg.on_digit = lambda digit, duration_ms: told.append((digit, duration_ms))
    return told


def detected(pcm: np.ndarray) -> list[InbandDigit]:
    detector, row = InbandDtmf(1), np.zeros(1, np.intp)
    return [digit for frame in pcm.reshape(-1, 160) for digit in detector.hear(frame[None, :], row)]


def test_each_digit_is_told_once(world: World) -> None:
    far = world.call(**NO_EVENTS)
    told = digits_of(far)
    say(world, far, keyed("0123456789*#ABCD"))
    assert "".join(digit for digit, _ in told) == "0123456789*#ABCD"
    assert all(80 <= duration_ms <= 120 for _, duration_ms in told)


def test_not_where_telephone_event_was_negotiated(world: World) -> None:
    far = world.call()
    told = digits_of(far)
    say(world, far, keyed("12"))
    assert told == []


def test_not_where_the_config_says_no() -> None:
    world = make_world(4, inband_dtmf=False)
    far = world.call(**NO_EVENTS)
    told = digits_of(far)
    say(world, far, keyed("12"))
    world.plane.stop()
    assert told == []


def test_in_wide_calls_too(world: World) -> None:
    far = world.call(**NO_EVENTS, codec="G722", send_payload_type=9, receive_payload_type=9)
    told = digits_of(far)
    coder = G722Coder()
    for frame in keyed("159#", 16000).reshape(-1, 320):
        far.send(far.packet(coder.encode(frame), 9))
        world.ticks(1)
    world.ticks(10)
    assert "".join(digit for digit, _ in told) == "159#"


def test_half_a_digit_is_not_told_to_the_next_call(world: World) -> None:
    far = world.call(**NO_EVENTS)
    say(world, far, dtmf("5", 200))
    far.leg.close()
    again = world.call(**NO_EVENTS)
    told = digits_of(again)
    say(world, again, silence(200))
    assert told == []


def test_who_is_told_may_hang_up(world: World) -> None:
    one, other = world.call(**NO_EVENTS), world.call(**NO_EVENTS)
    told: list[str] = []
    one.leg.on_digit = lambda digit, duration_ms: (told.append(digit), one.leg.close(), other.leg.close())  # type: ignore[func-returns-value]
    other.leg.on_digit = lambda digit, duration_ms: told.append(digit)
    codes = g711.PCM_TO_ULAW[keyed("7").view(np.uint16)]
    for frame in codes.reshape(-1, 160):
        for far in (one, other):
            if far.leg.is_open:
                far.say(frame.tobytes())
        world.ticks(1)
    world.ticks(10)
    assert told == ["7"], "a leg that is closed is told nothing"


def test_digits_go_out_as_tones(world: World) -> None:
    far = world.call(**NO_EVENTS)
    far.leg.playback.write(decode(b"\x15" * 320).tobytes())
    done: list[None] = []
    far.leg.send_digits("1A#").addCallback(done.append)
    with pytest.raises(ResourceError):
        far.leg.send_digits("2")
    world.ticks(23)
    assert done == []
    world.ticks(20)
    assert done == [None]
    assert {packet.payload_type for packet in far.got} == {0}
    heard = decode(far.heard())
    assert "".join(digit.digit for digit in detected(heard)) == "1A#"
    assert b"\x15" * 320 in far.heard(), "what was queued waited"


def test_tones_through_g722(world: World) -> None:
    far = world.call(**NO_EVENTS, codec="G722", send_payload_type=9, receive_payload_type=9)
    far.leg.send_digits("42")
    world.ticks(40)
    coder = G722Coder()
    wide = np.concatenate([coder.decode(packet.payload) for packet in far.got])
    detector, row = InbandDtmf(1, 16000), np.zeros(1, np.intp)
    found = [digit.digit for frame in wide.reshape(-1, 320) for digit in detector.hear(frame[None, :], row)]
    assert "".join(found) == "42"


@pytest.mark.parametrize("digits", ["1x", "é"])
def test_what_is_no_digit_is_a_bug_of_ours(world: World, digits: str) -> None:
    far = world.call(**NO_EVENTS)
    with pytest.raises(LocalProtocolError):
        far.leg.send_digits(digits)
    far.leg.send_digits("1")


def test_a_call_that_ends_in_a_tone(world: World) -> None:
    far = world.call(**NO_EVENTS)
    done: list[None] = []
    far.leg.send_digits("1").addCallback(done.append)
    world.ticks(2)
    far.leg.close()
    assert done == [None]
    again = world.call(**NO_EVENTS)
    world.ticks(5)
    assert set(again.heard()) == {0xFF}
