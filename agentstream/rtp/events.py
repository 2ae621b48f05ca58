"""Telephone events, RFC 4733: the caller's DTMF digits in, and the packets of one digit out.

Contract: each digit is reported once, whatever was lost, doubled or reordered on the way. Only events 0 to 15 are
digits; others are parsed and passed over. Durations and timestamps count the RTP clock; reports are in milliseconds.
"""

from __future__ import annotations

import struct

import attrs

from agentstream.errors import LocalProtocolError, RemoteProtocolError
from agentstream.rtp.serial import subtract_32

DIGITS = "0123456789*#ABCD"
"""The characters of events 0 to 15 (RFC 4733 table 3)."""

LONGEST_SEGMENT = 0xFFFF
MOST_SEGMENTS = 4
"""That a packet may be ahead of the one before it, within one event: of more, nobody's finger is on the key."""
END_PACKETS = 3
EXPIRES_AFTER_S = 0.2
"""Without a packet for so long the end was lost: four packets of the slowest common sender (50 ms)."""
FORGOTTEN_AFTER_S = 2.0
"""After so long a packet is no late copy of the last digit, whatever its timestamp says: some phones' stand still."""

WRONG_LENGTH = "The telephone-event payload is not a whole number of 4 byte events."

_EVENT = struct.Struct("!BBH")


@attrs.frozen
class TelephoneEvent:
    """The payload of RFC 4733 section 2.3.

    :ivar event: 0 to 255; 0 to 15 are DIGITS.
    :ivar is_end: the E bit: the duration is final.
    :ivar volume: 0 to 63, the level in dBm0 with its sign dropped.
    :ivar duration: 0 to 65535 units of the RTP clock since the packet's timestamp.
    """

    event: int
    is_end: bool
    volume: int
    duration: int

    @classmethod
    def parse(cls, payload: bytes) -> tuple[TelephoneEvent, ...]:
        """One event, or several in a row (section 2.5.1.5). Raises RemoteProtocolError with a fixed sentence."""
        if not payload or len(payload) % _EVENT.size:
            raise RemoteProtocolError(WRONG_LENGTH)
        return tuple(
            cls(event, bool(flags & 0x80), flags & 0x3F, duration)
            for event, flags, duration in _EVENT.iter_unpack(payload)
        )

    def serialise(self) -> bytes:
        """Four bytes; the reserved bit is 0."""
        return _EVENT.pack(self.event, self.is_end << 7 | self.volume, self.duration)


@attrs.frozen
class Digit:
    """A digit that the caller pressed.

    :ivar digit: one of DIGITS.
    :ivar duration_ms: how long the tone lasted, as far as its packets came.
    :ivar volume: the level in dBm0 with its sign dropped, 0 to 63.
    """

    digit: str
    duration_ms: int
    volume: int


@attrs.define
class _Press:
    """A digit whose end has not come yet.

    :ivar timestamp: where its current segment begins.
    :ivar before: units in the segments before this one.
    :ivar duration: units in this one so far.
    """

    event: int
    timestamp: int
    volume: int
    before: int = 0
    duration: int = 0


@attrs.define
class DigitReceiver:
    """The digits of one leg's incoming stream.

    :ivar rate_hz: the RTP clock of telephone-event, 8000 for G.711.
    """

    rate_hz: int = 8000
    _press: _Press | None = None
    _reported: tuple[int, int] | None = None
    """The event and the timestamp of the last segment that was reported."""
    _last_seen: float = 0.0
    _ssrc: int = 0

    @property
    def is_pressed(self) -> bool:
        """A digit has begun and has not been reported: ``expire`` has to be called."""
        return self._press is not None

    def receive(self, payload: bytes, timestamp: int, now: float, ssrc: int = 0) -> tuple[Digit, ...]:
        """Take the payload of one RTP packet; returns the digits that are over.

        :param timestamp: the packet's RTP timestamp: where the event began.
        :param now: monotonic seconds.
        :param ssrc: of the packet; another source's timestamps have nothing to do with those before.
        :raises RemoteProtocolError: when the payload is no telephone-event.
        """
        events = TelephoneEvent.parse(payload)
        over: list[Digit] = []
        if ssrc != self._ssrc:
            self._ssrc = ssrc
            if self._press is not None:
                over.append(self._report(self._press))
            self._reported = None
        if self._press is None and now - self._last_seen > FORGOTTEN_AFTER_S:
            self._reported = None
        self._last_seen = now
        for event in events:
            self._take(event, timestamp, over)
            # "The first event starts at the RTP timestamp, each next one where the one before it ends" (2.5.1.5).
            timestamp = (timestamp + event.duration) & 0xFFFFFFFF
        return tuple(over)

    def expire(self, now: float) -> tuple[Digit, ...]:
        """The digit whose end was lost, once its packets have stayed away for EXPIRES_AFTER_S; else nothing."""
        if self._press is None or now - self._last_seen < EXPIRES_AFTER_S:
            return ()
        return (self._report(self._press),)

    def reset(self) -> None:
        """Forget everything: another source, another call."""
        self._press = None
        self._reported = None

    def _take(self, event: TelephoneEvent, timestamp: int, over: list[Digit]) -> None:
        press = self._press
        if event.event >= len(DIGITS):
            return
        if press is not None:
            ahead = subtract_32(timestamp, press.timestamp)
            is_segment = ahead % LONGEST_SEGMENT == 0 and 0 < ahead <= MOST_SEGMENTS * LONGEST_SEGMENT
            if event.event == press.event and is_segment:
                # "If the duration exceeds the maximum, the event is split into contiguous segments" (2.5.1.3): the next
                # one begins exactly 0xFFFF later. One that was lost whole is counted too.
                press.before += ahead
                press.timestamp, press.duration = timestamp, 0
            elif ahead < 0:
                return  # overtaken by a later event: this one was reported or its packets are out of order
            elif ahead > 0 or event.event != press.event:
                over.append(self._report(press))
                press = None
        if press is None:
            if self._is_old(event, timestamp):
                return
            press = self._press = _Press(event.event, timestamp, event.volume)
        press.duration = max(press.duration, event.duration)
        press.volume = event.volume
        if event.is_end:
            over.append(self._report(press))

    def _is_old(self, event: TelephoneEvent, timestamp: int) -> bool:
        """A repeated end packet of the digit that was reported, or one of a digit before it."""
        if self._reported is None:
            return False
        reported_event, reported_timestamp = self._reported
        ahead = subtract_32(timestamp, reported_timestamp)
        return ahead < 0 or (ahead == 0 and event.event == reported_event)

    def _report(self, press: _Press) -> Digit:
        self._press = None
        self._reported = (press.event, press.timestamp)
        return Digit(DIGITS[press.event], (press.before + press.duration) * 1000 // self.rate_hz, press.volume)


@attrs.frozen
class EventPacket:
    """One RTP packet of a digit that we send.

    :ivar payload: four bytes.
    :ivar marker: on the first packet of the event only.
    :ivar timestamp_offset: units of the RTP clock from the event's beginning; 0 but for events of several segments.
    :ivar delay_ms: when to send it, counted from the first packet.
    """

    payload: bytes
    marker: bool
    timestamp_offset: int
    delay_ms: int


def packets_of_digit(
    digit: str, duration_ms: int, *, step_ms: int = 20, volume: int = 10, rate_hz: int = 8000
) -> list[EventPacket]:
    """The packets of one digit: an update every ``step_ms``, then its end, three times at the same distance.

    :param digit: one of DIGITS.
    :param duration_ms: of the tone, at least 1.
    :param step_ms: 20 or 50 with most senders; the duration in a packet is what will have passed when its step is over.
    :raises LocalProtocolError: when the digit, a duration or the volume is none.
    """
    if len(digit) != 1 or digit not in DIGITS or duration_ms < 1 or step_ms < 1 or not 0 <= volume <= 63:
        raise LocalProtocolError("A digit is one of 0-9*#A-D, its durations are at least 1 ms, its volume 0 to 63.")
    event = DIGITS.index(digit)
    packets: list[EventPacket] = []

    def add(elapsed: int, segment: int, delay_ms: int, is_end: bool = False) -> None:
        start = segment * LONGEST_SEGMENT
        payload = TelephoneEvent(event, is_end, volume, elapsed - start).serialise()
        packets.append(EventPacket(payload, not packets, start, delay_ms))

    segment = 0
    steps = -(-duration_ms // step_ms)
    for step in range(steps):
        elapsed = min((step + 1) * step_ms, duration_ms) * rate_hz // 1000
        while elapsed - segment * LONGEST_SEGMENT > LONGEST_SEGMENT:
            # The segment that is full says so in a packet of its own before the next one begins (2.5.1.3).
            add((segment + 1) * LONGEST_SEGMENT, segment, step * step_ms)
            segment += 1
        if step < steps - 1:
            add(elapsed, segment, step * step_ms)
    for repeat in range(END_PACKETS):
        add(elapsed, segment, (steps - 1 + repeat) * step_ms, is_end=True)
    return packets
