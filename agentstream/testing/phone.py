"""A phone for whole calls on a Clock: SIP by :mod:`agentstream.testing.sip_peer`, RTP packet by packet.

It shares no line with agentstream.sip, sdp or media, so that what both would get wrong shows. It says only what it is
told to (between, it is a phone with silence suppression), numbers its packets by itself, and keeps every packet that it
gets with the time of its arrival. Loss, delay and order of its packets belong to the paths of the network; the skew of
its clock is a list here.
"""

from __future__ import annotations

import base64
import itertools
import re
from collections.abc import Iterable, Sequence
from typing import Any

import attrs
import numpy as np
from pylibsrtp import Error, Policy, Session
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import DatagramProtocol

from agentstream.media.ports import Address
from agentstream.rtp.events import packets_of_digit
from agentstream.rtp.packet import Packet
from agentstream.testing.network import Network, Path
from agentstream.testing.sip_peer import Received, SipPeer, authorization, read

NUMBERS = {"PCMU": 0, "PCMA": 8, "G722": 9, "L16": 97, "OPUS": 111}
DIGIT_TYPE = 101
WIDE_DIGIT_TYPE = 110
"""Of telephone-event/48000, which goes with Opus."""

WIDE_CLOCK_HZ = 48_000
RATE_HZ = 8000
BYTES_PER_MS = 8
"""Of G.711 and G.722; also the RTP clock of every codec but Opus, units a millisecond."""

RTPMAPS = {"OPUS": "opus/48000/2"}
BYTES_PER_UNIT = {"PCMU": 1, "PCMA": 1, "G722": 1, "L16": 2}
OPUS_SILENCE = bytes([0xF8, 0xFF, 0xFE])
"""20 ms of it."""

SILENT = {"PCMU": 0xFF, "PCMA": 0xD5}
"""The byte of silence, of the codecs that have one."""

PROFILES = {
    "AES_CM_128_HMAC_SHA1_80": Policy.SRTP_PROFILE_AES128_CM_SHA1_80,
    "AES_CM_128_HMAC_SHA1_32": Policy.SRTP_PROFILE_AES128_CM_SHA1_32,
    "AEAD_AES_128_GCM": Policy.SRTP_PROFILE_AEAD_AES_128_GCM,
    "AEAD_AES_256_GCM": Policy.SRTP_PROFILE_AEAD_AES_256_GCM,
}
KEY_BYTES = {
    "AES_CM_128_HMAC_SHA1_80": 30,
    "AES_CM_128_HMAC_SHA1_32": 30,
    "AEAD_AES_128_GCM": 28,
    "AEAD_AES_256_GCM": 44,
}

_ports = itertools.count(40000, 2)


def _clock_of(codec: str) -> int:
    return WIDE_CLOCK_HZ if codec == "OPUS" else RATE_HZ


def speech(ms: int, seed: int = 1) -> bytes:
    """Mu-law bytes that are unlike any other seed's and hold neither of the two zeros, so that silence is never taken
    for them and nothing that an echo brings back differs from what was said."""
    codes = np.array([code for code in range(256) if code not in (0x7F, 0xFF)], np.uint8)
    return np.random.default_rng(seed).choice(codes, ms * BYTES_PER_MS).tobytes()


@attrs.frozen
class Arrival:
    """One RTP packet that the phone got.

    :ivar at: seconds of the reactor's clock.
    """

    at: float
    packet: Packet


@attrs.frozen
class Description:
    """What an SDP says about its first audio that is not declined, read line by line.

    :ivar numbers: payload types in the order of the ``m=`` line.
    :ivar names: the encoding of each payload type that has an rtpmap, such as ``PCMU/8000``.
    """

    host: str
    port: int
    numbers: tuple[int, ...]
    names: dict[int, str]
    direction: str
    text: str

    @classmethod
    def read(cls, sdp: bytes) -> Description:
        """A ValueError is a failure of the test."""
        text = sdp.decode()
        found = list(re.finditer(r"^m=audio (\d+) RTP/S?AVP ([\d ]+)\r$", text, re.MULTILINE))
        audio = next((one for one in found if one[1] != "0"), found[0] if found else None)
        host = re.search(r"^c=IN IP[46] (\S+)\r$", text, re.MULTILINE)
        if audio is None or host is None:
            raise ValueError(f"the SDP has no audio or no address: {text}")
        names = {int(number): name for number, name in re.findall(r"^a=rtpmap:(\d+) (\S+)\r$", text, re.MULTILINE)}
        direction = re.search(r"^a=(sendrecv|sendonly|recvonly|inactive)\r$", text, re.MULTILINE)
        numbers = tuple(int(number) for number in audio[2].split())
        return cls(host[1], int(audio[1]), numbers, names, direction[1] if direction else "sendrecv", text)


@attrs.frozen
class _Slot:
    """What one packet to come holds. ``offset``: where its event began, seen from its own timestamp."""

    payload: bytes
    samples: int
    is_digit: bool = False
    marker: bool = False
    offset: int = 0


class Phone:
    """One phone with one call.

    :param target: the server's SIP address.
    :param host: the phone's own address, in 127.0.0.0/8 where the server has no trunks.
    :param codecs: what it offers, in order; it speaks the one that the answer names first.
    :param ptime_ms: of its packets, 10 to 60.
    :param attributes: more lines of its audio's description, such as ``a=rtcp-mux``.
    :param phase_s: how long after the first ``say`` its packets leave, so that none falls together with a tick.
    :param srtp: its sound is SRTP, by a suite of :data:`PROFILES`; "" for RTP.
    :param credentials: user and password, for an INVITE that is answered 401; it is sent again once.
    :param sip_port: its own; 0 takes any.
    :ivar responses: every response to its INVITEs, in order of arrival.
    :ivar replies: every response to its other requests.
    :ivar requests: every request of the server's, in order of arrival.
    :ivar arrivals: every RTP packet.
    :ivar srtp_key: its master key and salt; a new one is said in its next description.
    :ivar unread: packets of RTP and RTCP that it could not read for their keys.
    :ivar controls: (when, datagram, own port) of all RTCP, on the port behind RTP's or on RTP's own.
    :ivar answer: the server's latest description; None before there is one.
    :ivar acknowledges: False: no 200 is ever acknowledged.
    :ivar serves: the methods that it answers 200 beside BYE; INVITE with its description. Others get 501.
    :ivar takes_calls: an INVITE outside a call is kept in ``invite`` until :meth:`ring`, :meth:`pick_up` or
        :meth:`refuse`; a CANCEL ends it.
    :ivar invite: the INVITE that the phone was called with last; ``invite_data`` is its bytes.
    :ivar reply_headers: whole lines with CRLF that its 200 to those carries.
    :ivar takes_events: False: telephone-event is not offered.
    :ivar skews_ppm: how much faster its clock runs than it should, in millionths, for each packet in turn; beyond the
        end the last.
    """

    def __init__(
        self,
        reactor: Any,
        target: Address,
        *,
        host: str = "127.0.0.2",
        user: str = "alice",
        codecs: Sequence[str] = ("PCMU", "PCMA"),
        ptime_ms: int = 20,
        attributes: Sequence[str] = (),
        phase_s: float = 0.005,
        srtp: str = "",
        credentials: tuple[str, str] | None = None,
        sip_port: int = 0,
    ) -> None:
        self._reactor = reactor
        self._network: Network = reactor.network
        self._target = target
        self.acknowledges = True
        self.serves: set[str] = set()
        self.takes_calls = False
        self.invite: Received | None = None
        self.invite_data = b""
        self._has_answered = False
        self.reply_headers = ""
        self.credentials = credentials
        self._invited: tuple[bytes, str] | None = None
        self.takes_events = True
        self.srtp = srtp
        self.srtp_key = bytes(range(KEY_BYTES.get(srtp, 0)))
        self.unread = 0
        self._sessions: dict[tuple[str, bytes, bool], Session] = {}
        self.codecs = tuple(codecs)
        self.ptime_ms = ptime_ms
        self.attributes = tuple(attributes)
        self.phase_s = phase_s
        self.skews_ppm: Sequence[float] = ()
        self.rtp_address: Address = (host, next(_ports))
        self.direction = "sendrecv"
        self.connection_host = host
        self.responses: list[Received] = []
        self.replies: list[Received] = []
        self.requests: list[Received] = []
        self.arrivals: list[Arrival] = []
        self.controls: list[tuple[float, bytes, int]] = []
        self.answer: Description | None = None
        self.ended_by = ""
        self.packets_sent = 0
        self.ssrc = 0x1000 + self.rtp_address[1]
        self.sequence_number = 65530
        self.timestamp = 0xFFFFF000
        self._sdp_version = 0
        self._is_offer_ours = True
        self._slots: list[_Slot] = []
        self._next_packet: IDelayedCall | None = None
        self._next_at = 0.0
        self._is_first = True
        sip = _Datagrams(self._sip_received)
        self._sip_port = reactor.listenUDP(sip_port, sip, interface=host, maxPacketSize=65536)
        self._rtp_port = reactor.listenUDP(self.rtp_address[1], _Datagrams(self._rtp_received), interface=host)
        self._control_port = reactor.listenUDP(self.rtp_address[1] + 1, _Datagrams(self._rtcp_received), interface=host)
        self.sip = SipPeer(host, self._sip_port.getHost().port, user, f"{target[0]}:{target[1]}")

    # Signalling

    def dial(self, number: str = "1000", *, sdp: bytes | None = None, headers: str = "") -> None:
        """Send an INVITE; ``sdp=b""`` leaves the offer to the server. ``headers`` are whole lines with CRLF."""
        self.sip.called = number
        offer = self.description() if sdp is None else sdp
        self._is_offer_ours = bool(offer)
        self._invited = (offer, headers)
        self.send(self.sip.invite(offer, headers))

    def ring(self, status: int = 180, *, has_sound: bool = False, headers: str = "") -> None:
        """A provisional response to the call that is coming in, with the phone's description where it has sound."""
        self._reply(status, "Ringing" if status == 180 else "Session Progress", has_sound=has_sound, headers=headers)

    def pick_up(self, headers: str = "") -> None:
        """Answer the call that is coming in."""
        self._reply(200, "OK", has_sound=True, headers=headers)

    def refuse(self, status: int = 486, phrase: str = "Busy Here", headers: str = "") -> None:
        """Do not answer it."""
        self._reply(status, phrase, has_sound=False, headers=headers)
        self.ended_by = "phone"

    def _reply(self, status: int, phrase: str, *, has_sound: bool, headers: str) -> None:
        sdp = self.description() if has_sound else b""
        self._has_answered = status >= 200
        self.send(self.sip.respond(self.invite_data, status, phrase, sdp, headers))

    def reinvite(self, direction: str = "sendrecv", *, sdp: bytes | None = None) -> None:
        """Describe the session anew."""
        self.direction = direction
        offer = self.description() if sdp is None else sdp
        self._is_offer_ours = bool(offer)
        self.send(self.sip.invite(offer))

    def hold(self) -> None:
        """Put the far end on hold: it may not send, and is sent nothing."""
        self.reinvite("inactive")

    def resume(self) -> None:
        """Take it off hold."""
        self.reinvite("sendrecv")

    def cancel(self) -> None:
        """Give up before the answer."""
        self.send(self.sip.cancel())

    def hang_up(self) -> None:
        """BYE, and not a packet more."""
        self._end("phone")
        self.send(self.sip.bye())

    def send(self, data: bytes) -> None:
        """Any bytes to the server's SIP port."""
        self._sip_port.write(data, self._target)

    def description(self) -> bytes:
        """The phone's SDP, one version on."""
        self._sdp_version += 1
        host, port = self.rtp_address
        family = "IP6" if ":" in host else "IP4"
        clocks = [clock for clock in (RATE_HZ, WIDE_CLOCK_HZ) if clock in map(_clock_of, self.codecs)]
        events = {DIGIT_TYPE if clock == RATE_HZ else WIDE_DIGIT_TYPE: clock for clock in clocks}
        numbers = [NUMBERS[codec] for codec in self.codecs] + list(events) * self.takes_events
        event_lines = [
            line
            for number, clock in events.items()
            for line in (f"a=rtpmap:{number} telephone-event/{clock}", f"a=fmtp:{number} 0-15")
        ]
        lines = [
            "v=0",
            f"o=phone 7 {self._sdp_version} IN {family} {host}",
            "s=-",
            f"c=IN {family} {self.connection_host}",
            "t=0 0",
            f"m=audio {port} RTP/{'S' if self.srtp else ''}AVP {' '.join(map(str, numbers))}",
            *([f"a=crypto:1 {self.srtp} inline:{base64.b64encode(self.srtp_key).decode()}"] if self.srtp else ()),
            *(f"a=rtpmap:{NUMBERS[codec]} {RTPMAPS.get(codec, f'{codec}/{RATE_HZ}')}" for codec in self.codecs),
            *(event_lines if self.takes_events else ()),
            f"a=ptime:{self.ptime_ms}",
            *self.attributes,
            f"a={self.direction}",
        ]
        return "".join(f"{line}\r\n" for line in lines).encode()

    @property
    def statuses(self) -> list[int]:
        """The statuses of all responses to its INVITEs, in order."""
        return [response.status for response in self.responses]

    @property
    def is_answered(self) -> bool:
        """A 200 has come for its first INVITE."""
        return 200 in self.statuses

    @property
    def is_over(self) -> bool:
        """The call was refused or ended; :attr:`ended_by` says by whom: ``phone`` or ``server``."""
        return bool(self.ended_by)

    def _sip_received(self, data: bytes, source: Address) -> None:
        if not data.strip():
            return  # a ping
        message = read(data)
        if not message.status:
            self._asked(data, message)
        elif message.method == "INVITE":
            self._invite_answered(data)
        else:
            self.replies.append(message)

    def _invite_answered(self, data: bytes) -> None:
        response = self.sip.take(data)
        self.responses.append(response)
        if response.status >= 300:
            self.send(self.sip.ack_refusal(data))
            if response.status == 401 and self.credentials is not None and self._invited is not None:
                offer, headers = self._invited
                self._invited = None
                uri = f"sip:{self.sip.called}@{self.sip.target}"
                proof = authorization(response.headers("www-authenticate"), *self.credentials, "INVITE", uri)
                self.send(self.sip.invite(offer, f"{headers}Authorization: {proof}\r\n"))
                return
            if not self.is_answered:
                self._end("server")
        elif response.status >= 200:
            if response.body:
                self.answer = Description.read(response.body)
            if self.acknowledges:
                self.send(self.sip.ack(b"" if self._is_offer_ours else self.description()))

    def _asked(self, data: bytes, request: Received) -> None:
        self.requests.append(request)
        if request.method == "BYE":
            self._end("server")
            self.send(self.sip.respond(data, 200))
        elif request.method == "INVITE" and self.takes_calls and "tag=" not in request.header("to"):
            self._called(data, request)
        elif request.method == "CANCEL" and self.takes_calls:
            self.send(self.sip.respond(data, 200))
            if not self._has_answered:  # RFC 3261 section 9.2: else it has no effect
                self.refuse(487, "Request Terminated")
                self.ended_by = "server"
        elif request.method in self.serves:
            is_offer = bool(request.body) and request.header("content-type") == "application/sdp"
            if is_offer:
                self.answer = Description.read(request.body)
            sdp = self.description() if is_offer else b""
            self.send(self.sip.respond(data, 200, sdp=sdp, headers=self.reply_headers))
        elif request.method != "ACK":
            self.send(self.sip.respond(data, 501, "Not Implemented"))

    def _called(self, data: bytes, invite: Received) -> None:
        if self.invite is not None and invite.header("via") == self.invite.header("via"):
            return  # it has been here before
        self.invite, self.invite_data = invite, data
        self._has_answered = False
        self.ended_by = ""
        self.answer = Description.read(invite.body)
        self.sip.called_by(data)

    def _end(self, by: str) -> None:
        self.ended_by = self.ended_by or by
        self._slots.clear()
        if self._next_packet is not None:
            self._next_packet.cancel()
            self._next_packet = None

    def close(self) -> None:
        """Let go of the ports and say nothing more."""
        self._end("phone")
        self._sip_port.stopListening()
        self._rtp_port.stopListening()
        self._control_port.stopListening()

    # Sound

    @property
    def codec(self) -> str:
        """One of ``codecs``, as the answer has it."""
        assert self.answer is not None
        return next(codec for codec in self.codecs if NUMBERS[codec] in self.answer.numbers)

    @property
    def clock_hz(self) -> int:
        """Of its RTP."""
        return _clock_of(self.codec)

    @property
    def path_out(self) -> Path:
        """What happens to the phone's RTP on its way to the server."""
        return self._network.path(self._server_rtp(), self.rtp_address)

    @property
    def path_in(self) -> Path:
        """What happens to the server's RTP on its way to the phone."""
        return self._network.path(self.rtp_address)

    def say(self, sound: bytes, ptimes_ms: Iterable[int] = ()) -> None:
        """Queue bytes of the call's codec, to be sent in real time.

        :param ptimes_ms: the length of each packet in turn; beyond the end, the phone's own ``ptime_ms``.
        """
        lengths, wide = iter(ptimes_ms), BYTES_PER_UNIT[self.codec]
        at = 0
        while at < len(sound):
            count = next(lengths, self.ptime_ms) * BYTES_PER_MS * wide
            payload = sound[at : at + count]
            self._slots.append(_Slot(payload, len(payload) // wide))
            at += count
        self._begin()

    def say_packets(self, payloads: Iterable[bytes], ms: int = 20) -> None:
        """Queue payloads of a codec whose lengths vary, each of so many milliseconds."""
        self._slots += [_Slot(payload, ms * self.clock_hz // 1000) for payload in payloads]
        self._begin()

    def press(self, digits: str, duration_ms: int = 100, gap_ms: int = 60) -> None:
        """Queue telephone-events (RFC 4733); no sound is sent meanwhile."""
        samples = self.ptime_ms * self.clock_hz // 1000
        for digit in digits:
            events = packets_of_digit(digit, duration_ms, step_ms=self.ptime_ms, rate_hz=self.clock_hz)
            for number, event in enumerate(events):
                offset = event.timestamp_offset - number * samples
                self._slots.append(_Slot(event.payload, samples, True, event.marker, offset))
            if self.codec == "OPUS":
                silence = OPUS_SILENCE
            else:
                silence = bytes([SILENT.get(self.codec, 0)]) * (samples * BYTES_PER_UNIT[self.codec])
            self._slots += [_Slot(silence, samples)] * max(1, gap_ms // self.ptime_ms)
        self._begin()

    @property
    def is_quiet(self) -> bool:
        """Everything queued has been sent."""
        return not self._slots

    def send_rtp(self, data: bytes, source_port: int | None = None) -> None:
        """Any bytes to the server's RTP port, from the phone's own or from another port of its host."""
        source = (self.rtp_address[0], source_port or self.rtp_address[1])
        self._network.send(data, source, self._server_rtp())

    def send_rtcp(self, data: bytes) -> None:
        """Any bytes to the server's RTCP port, from the phone's own."""
        host, port = self._server_rtp()
        self._control_port.write(data, (host, port + 1))

    def heard(self, since: float = 0.0) -> bytes:
        """The audio payloads from this time on, in the order of arrival."""
        return b"".join(
            arrival.packet.payload
            for arrival in self.arrivals
            if arrival.at >= since and arrival.packet.payload_type in NUMBERS.values()
        )

    def heard_sound(self, since: float = 0.0) -> bytes:
        """The same without the packets that are nothing but silence."""
        silent = frozenset(SILENT.values())
        payloads = (arrival.packet.payload for arrival in self.arrivals if arrival.at >= since)
        return b"".join(payload for payload in payloads if not set(payload) <= silent)

    @property
    def server_key(self) -> tuple[str, bytes] | None:
        """Suite and key of the server's answer; None for RTP in clear."""
        assert self.answer is not None
        found = re.search(r"^a=crypto:\d+ (\S+) inline:(\S+)\r$", self.answer.text, re.MULTILINE)
        return None if found is None else (found[1], base64.b64decode(found[2]))

    def _session(self, suite: str, key: bytes, *, sends: bool) -> Session:
        """One for each key, so that its rollover counter goes on."""
        if (suite, key, sends) not in self._sessions:
            kind = Policy.SSRC_ANY_OUTBOUND if sends else Policy.SSRC_ANY_INBOUND
            policy = Policy(key=key, ssrc_type=kind, srtp_profile=PROFILES[suite])
            self._sessions[suite, key, sends] = Session(policy)
        return self._sessions[suite, key, sends]

    def protect(self, packet: bytes) -> bytes:
        """An RTP packet as it leaves."""
        return self._session(self.srtp, self.srtp_key, sends=True).protect(packet) if self.srtp else packet

    def _opened(self, data: bytes, *, is_control: bool) -> bytes | None:
        key = None if self.answer is None else self.server_key
        if key is None:
            return data
        session = self._session(*key, sends=False)
        try:
            return session.unprotect_rtcp(data) if is_control else session.unprotect(data)
        except Error:
            self.unread += 1
            return None

    def _server_rtp(self) -> Address:
        assert self.answer is not None, "the call has no answer yet"
        return self.answer.host, self.answer.port

    def _rtp_received(self, data: bytes, source: Address) -> None:
        if 192 <= data[1] <= 223:  # RFC 5761 section 4
            self._control_received(data, self.rtp_address[1])
        elif (opened := self._opened(data, is_control=False)) is not None:
            self.arrivals.append(Arrival(self._reactor.seconds(), Packet.parse(opened)))

    def _rtcp_received(self, data: bytes, source: Address) -> None:
        self._control_received(data, self.rtp_address[1] + 1)

    def _control_received(self, data: bytes, port: int) -> None:
        if (opened := self._opened(data, is_control=True)) is not None:
            self.controls.append((self._reactor.seconds(), opened, port))

    def _begin(self) -> None:
        if self._next_packet is not None or not self._slots:
            return
        now = self._reactor.seconds()
        slot_s = self.ptime_ms / 1000
        if self._is_first:
            self._next_at = now + self.phase_s
        while self._next_at < now:
            # It was silent: the RTP clock went on, and no sequence number did (RFC 3550 section 5.1).
            self._next_at += slot_s
            self.timestamp = (self.timestamp + self.ptime_ms * self.clock_hz // 1000) & 0xFFFFFFFF
            self._is_first = True
        self._next_packet = self._reactor.callLater(self._next_at - now, self._send_next)

    def _send_next(self) -> None:
        self._next_packet = None
        slot = self._slots.pop(0)
        digit_type = DIGIT_TYPE if self.clock_hz == RATE_HZ else WIDE_DIGIT_TYPE
        number = digit_type if slot.is_digit else NUMBERS[self.codec]
        marker = slot.marker if slot.is_digit else self._is_first
        timestamp = (self.timestamp + slot.offset) & 0xFFFFFFFF
        packet = Packet(number, self.sequence_number, timestamp, self.ssrc, slot.payload, marker=marker)
        self._is_first = False
        self._rtp_port.write(self.protect(packet.serialise()), self._server_rtp())
        skews = self.skews_ppm
        skew = skews[min(self.packets_sent, len(skews) - 1)] if skews else 0.0
        self.packets_sent += 1
        self.sequence_number = (self.sequence_number + 1) & 0xFFFF
        self.timestamp = (self.timestamp + slot.samples) & 0xFFFFFFFF
        self._next_at += slot.samples / self.clock_hz / (1 + skew / 1_000_000)
        if self._slots:
            delay = max(0.0, self._next_at - self._reactor.seconds())
            self._next_packet = self._reactor.callLater(delay, self._send_next)


class _Datagrams(DatagramProtocol):
    """A port whose datagrams one function takes."""

    noisy = False

    def __init__(self, take: Any) -> None:
        self._take = take

    def datagramReceived(self, datagram: bytes, addr: Address) -> None:
        self._take(datagram, addr)
