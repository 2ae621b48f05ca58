"""What an RFC 4733 receiver must report, from the digits that were sent and the packets that were lost."""

from __future__ import annotations

import attrs

from agentstream.rtp.events import DIGITS, Digit, TelephoneEvent


@attrs.frozen
class Sent:
    """One packet of a digit: which digit, and what it says."""

    press: int
    payload: bytes
    timestamp: int


def digits_heard(arrived: list[Sent], rate_hz: int = 8000) -> list[Digit]:
    """One report for every press of which any packet arrived, in order, with the longest duration that arrived."""
    heard: list[Digit] = []
    for press in dict.fromkeys(sent.press for sent in arrived):
        events = [TelephoneEvent.parse(sent.payload)[0] for sent in arrived if sent.press == press]
        longest = max(event.duration for event in events)
        heard.append(Digit(DIGITS[events[0].event], longest * 1000 // rate_hz, events[0].volume))
    return heard
