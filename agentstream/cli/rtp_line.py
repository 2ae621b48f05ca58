"""The test phone's own RTP: one UDP socket, a 20 ms grid, and plain counting.

Contract: an independent witness. It shares nothing with the server's media plane: not its tick, its sockets or its
buffers. Time is an argument (monotonic seconds); the socket is anything with recvmsg and sendto. ``send_due`` is called
at ``deadline`` or later and sends what the grid asks for; ``receive`` is called when the socket is readable.
"""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Callable
from typing import Protocol

import attrs
import numpy as np
from pylibsrtp import Error, Policy
from pylibsrtp import Session as SrtpSession

from agentstream.audio import g711
from agentstream.audio.level import level_dbov
from agentstream.cli.kernel_time import ANCILLARY_BYTES, Ancillary, ArrivalClock, ask_for_time
from agentstream.cli.sound import Recording
from agentstream.errors import AgentstreamError, RemoteProtocolError
from agentstream.interfaces import Audio
from agentstream.rtp.events import DIGITS, DigitReceiver, EventPacket, packets_of_digit
from agentstream.rtp.packet import Packet
from agentstream.rtp.serial import add_16, add_32
from agentstream.rtp.statistics import Reception
from agentstream.sdp import MediaPlan

FRAME = 160
"""Samples of 20 ms."""

TICK_S = 0.02
QUIET_DBOV = -60.0
_MOST_LATE = 5
_GAP_SLOTS = 5
_PROFILES = {
    "AES_CM_128_HMAC_SHA1_80": Policy.SRTP_PROFILE_AES128_CM_SHA1_80,
    "AES_CM_128_HMAC_SHA1_32": Policy.SRTP_PROFILE_AES128_CM_SHA1_32,
    "AEAD_AES_128_GCM": Policy.SRTP_PROFILE_AEAD_AES_128_GCM,
    "AEAD_AES_256_GCM": Policy.SRTP_PROFILE_AEAD_AES_256_GCM,
}
_LAWS = {"PCMU": (g711.ULAW_TO_PCM, g711.PCM_TO_ULAW), "PCMA": (g711.ALAW_TO_PCM, g711.PCM_TO_ALAW)}


class RtpSocket(Protocol):
    """What the line needs of a UDP socket that never waits."""

    def recvmsg(self, bufsize: int, ancbufsize: int, /) -> tuple[bytes, Ancillary, int, tuple[str, int]]:
        """One datagram; BlockingIOError where there is none."""

    def sendto(self, data: bytes, address: tuple[str, int], /) -> int:
        """Send one datagram."""


def open_rtp_socket(host: str) -> socket.socket:
    """A UDP socket on an even port of this address (RFC 3550 section 11) that notes times of arrival."""
    while True:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            sock.bind((host, 0))
        except OSError as error:
            sock.close()
            raise AgentstreamError(f"RTP cannot be received on {host}: give an address of this machine.") from error
        if sock.getsockname()[1] % 2 == 0:
            sock.setblocking(False)
            ask_for_time(sock)
            return sock
        sock.close()


@attrs.define
class Tally:
    """What one line sent and received.

    :ivar reception: loss by sequence numbers and jitter (RFC 3550).
    :ivar out_of_order: packets that came behind a later one, duplicates among them.
    :ivar silent: received frames of sound below -60 dBov.
    :ivar ignored: datagrams that were no RTP, or no SRTP under the far end's key, or of no payload type that was agreed
        on.
    :ivar skipped: places of the grid where nothing was sent because this process came too late.
    """

    reception: Reception = attrs.field(factory=Reception)
    sent: int = 0
    out_of_order: int = 0
    silent: int = 0
    ignored: int = 0
    skipped: int = 0

    @property
    def received(self) -> int:
        """RTP packets."""
        return self.reception.received

    @property
    def lost(self) -> int:
        """Packets that the sequence numbers tell of and that did not come."""
        return self.reception.lost


@attrs.define(eq=False)
class RtpLine:
    """One call's sound, both ways.

    :ivar plan: what offer and answer agreed on.
    :ivar recording: where both ways are noted.
    :ivar start_s: monotonic seconds of the first place on the grid.
    :ivar audio: what is played, once; silence follows. int16 at 8 kHz.
    :ivar on_packet: called with each valid packet and the monotonic nanoseconds of its arrival.
    :ivar digits_heard: the far end's telephone-events.
    :ivar slots: places of the grid that have passed.
    """

    sock: RtpSocket
    plan: MediaPlan
    recording: Recording
    start_s: float
    ssrc: int
    sequence_number: int
    timestamp: int
    audio: Audio
    on_packet: Callable[[Packet, int], None] | None = None
    tally: Tally = attrs.field(factory=Tally)
    clock: ArrivalClock = attrs.field(factory=ArrivalClock)
    digits_heard: str = ""
    position: int = 0
    slots: int = 0
    _to_dial: deque[EventPacket | None] = attrs.field(factory=deque)
    _event_timestamp: int = 0
    _digits: DigitReceiver = attrs.field(factory=DigitReceiver)
    _is_first: bool = True
    _heard_ssrc: int | None = None
    _sender: SrtpSession | None = None
    _reader: SrtpSession | None = None

    def __attrs_post_init__(self) -> None:
        keys = self.plan.keys
        if keys is not None:
            profile = _PROFILES[keys.suite]
            self._sender = SrtpSession(Policy(keys.send, Policy.SSRC_ANY_OUTBOUND, srtp_profile=profile))
            self._reader = SrtpSession(Policy(keys.receive, Policy.SSRC_ANY_INBOUND, srtp_profile=profile))

    @property
    def deadline(self) -> float:
        """When the next packet is due."""
        return self.start_s + self.slots * TICK_S

    @property
    def is_played(self) -> bool:
        """All that was to be said has been said, digits too."""
        return self.position >= len(self.audio) and not self._to_dial

    def dial(self, digits: str) -> None:
        """Send digits as telephone-events of 100 ms, 100 ms apart, from the next place on; the audio waits meanwhile.

        :raises AgentstreamError: the far end has not agreed to telephone-events, or a character is no digit.
        """
        if self.plan.send_digit_payload_type is None:
            raise AgentstreamError("The far end takes no DTMF: its SDP answer has no telephone-event.")
        for digit in digits:
            if digit not in DIGITS:
                raise AgentstreamError(f"{digit!r} is no DTMF digit: use {DIGITS}.")
            self._to_dial.extend(packets_of_digit(digit, 100))
            self._to_dial.extend([None] * _GAP_SLOTS)

    def send_due(self, now: float) -> None:
        """Send what the grid asks for up to now; places that are more than 100 ms late are left out."""
        # A microslot more, so that a deadline that is met to the bit is not missed by a rounding.
        due = int((now - self.start_s) / TICK_S + 1e-6) + 1 - self.slots
        if due > _MOST_LATE:
            self.tally.skipped += due - _MOST_LATE
            self.slots += due - _MOST_LATE
            self.timestamp = add_32(self.timestamp, FRAME * (due - _MOST_LATE))
        for _ in range(min(due, _MOST_LATE)):
            self._send_one()

    def _send_one(self) -> None:
        if self.plan.may_send:
            event = self._to_dial.popleft() if self._to_dial else None
            if event is not None and self.plan.send_digit_payload_type is not None:
                self._send_event(event, self.plan.send_digit_payload_type)
            else:
                self._send_audio(self._frame())
        self.slots += 1
        self.timestamp = add_32(self.timestamp, FRAME)

    def _frame(self) -> Audio:
        """The next 20 ms of what is played; silence while digits are dialled and behind the end."""
        frame = np.zeros(FRAME, np.int16)
        if not self._to_dial:
            piece = self.audio[self.position : self.position + FRAME]
            frame[: len(piece)] = piece
            self.position += len(piece)
        return frame

    def _send_audio(self, frame: Audio) -> None:
        decoding, encoding = _LAWS[self.plan.codec]
        payload = np.take(encoding, frame.view(np.uint16))
        # The recording holds what the codec has left of the sound, as whoever listens gets it.
        self.recording.say(self.deadline, np.take(decoding, payload))
        self._send(self.plan.send_payload_type, payload.tobytes(), self.timestamp, self._is_first)
        self._is_first = False

    def _send_event(self, event: EventPacket, payload_type: int) -> None:
        if event.marker:
            self._event_timestamp = self.timestamp
        timestamp = add_32(self._event_timestamp, event.timestamp_offset)
        self._send(payload_type, event.payload, timestamp, event.marker)

    def _send(self, payload_type: int, payload: bytes, timestamp: int, marker: bool) -> None:
        packet = Packet(payload_type, self.sequence_number, timestamp, self.ssrc, payload, marker)
        self.sequence_number = add_16(self.sequence_number, 1)
        data = packet.serialise()
        if self._sender is not None:
            data = self._sender.protect(data)
        try:
            self.sock.sendto(data, (self.plan.remote_host, self.plan.remote_port))
        except OSError:
            # A closed port answers by ICMP, which the kernel reports here; the packet before it was sent.
            return
        self.tally.sent += 1

    def receive(self) -> None:
        """Take every datagram that waits."""
        while True:
            try:
                data, ancillary, _, _ = self.sock.recvmsg(2048, ANCILLARY_BYTES)
            except BlockingIOError:
                return
            except OSError:
                continue
            self._take(data, self.clock.arrival_ns(ancillary))

    def _take(self, data: bytes, at_ns: int) -> None:
        try:
            packet = Packet.parse(data if self._reader is None else self._reader.unprotect(data))
        except (RemoteProtocolError, Error, ValueError):  # the last for what is longer than pylibsrtp takes
            self.tally.ignored += 1
            return
        plan = self.plan
        is_sound = packet.payload_type == plan.receive_payload_type
        if not is_sound and packet.payload_type != plan.receive_digit_payload_type:
            self.tally.ignored += 1
            return
        self._count(packet, at_ns / 1e9, is_sound)
        if is_sound:
            decoding, _ = _LAWS[plan.codec]
            audio = np.take(decoding, np.frombuffer(packet.payload, np.uint8))
            if len(audio):
                self.tally.silent += level_dbov(audio) < QUIET_DBOV
                self.recording.hear(at_ns / 1e9, packet.ssrc, packet.timestamp, audio)
        else:
            self._hear_digits(packet, at_ns / 1e9)
        if self.on_packet is not None:
            self.on_packet(packet, at_ns)

    def _count(self, packet: Packet, at_s: float, is_sound: bool) -> None:
        reception = self.tally.reception
        if packet.ssrc != self._heard_ssrc:
            if self._heard_ssrc is not None:
                reception.new_source()
            self._heard_ssrc = packet.ssrc
        highest = reception.highest
        if reception.count(packet.sequence_number):
            self.tally.out_of_order += reception.highest == highest
            if is_sound:
                reception.time(packet.timestamp, at_s)

    def _hear_digits(self, packet: Packet, now: float) -> None:
        try:
            digits = self._digits.receive(packet.payload, packet.timestamp, now)
        except RemoteProtocolError:
            self.tally.ignored += 1
            return
        self.digits_heard += "".join(each.digit for each in digits)
