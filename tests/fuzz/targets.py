"""One target for each parser that reads what others send.

A target takes any bytes. What is wrong it says by raising something else than the parser's own protocol error; beside
"nothing else is raised" each one asks what must hold of what was read.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs
import numpy as np

from agentstream.errors import RemoteProtocolError
from agentstream.rtp import rtcp
from agentstream.rtp.events import DigitReceiver
from agentstream.rtp.matrix import HeaderMatrix
from agentstream.rtp.packet import Packet
from agentstream.sdp import (
    OPTIONAL,
    REQUIRED,
    LocalMedia,
    SessionDescription,
    accept_answer,
    answer_offer,
    make_offer,
)
from agentstream.sdp import parse as parse_sdp
from agentstream.sdp.description import SIZE_LIMIT
from agentstream.sip.capabilities import inspect
from agentstream.sip.digest import parse_answer, parse_challenge
from agentstream.sip.events import InviteReceived, ReinviteReceived
from agentstream.sip.framing import HEAD_LIMIT, MESSAGE_LIMIT, Framer
from agentstream.sip.grammar import quote, split_outside, unquote
from agentstream.sip.headers import Headers, parse_cseq, parse_name_addr, parse_reason, parse_via, stamp_via
from agentstream.sip.hop import Hop, Listener
from agentstream.sip.identity import read_identity
from agentstream.sip.info import PLAIN, RELAY, read_digit
from agentstream.sip.message import Request, Response, build_response
from agentstream.sip.parser import MalformedRequest, parse_message
from agentstream.sip.redirect import MOST_CONTACTS, contacts_of
from agentstream.sip.refer import read_sipfrag
from agentstream.sip.referred import read_refer_to
from agentstream.sip.replaces import parse_replaces
from agentstream.sip.session_timer import LEAST_S, read_min_se, read_session_expires
from agentstream.sip.stack import Stack
from agentstream.sip.transactions import server_key
from agentstream.sip.uri import parse_uri
from agentstream.wire.exotel import ExotelSession
from agentstream.wire.messages import Mark, Media, StreamStart
from agentstream.wire.payload import MULAW, PCM16

PEER = Hop("udp", "127.0.0.1", 5090, "u")
PIECE_END = b"\x00\xff\x00"
"""Between two datagrams, or two segments, of one input."""

SIP_WORDS = (
    *("INVITE", "ACK", "BYE", "CANCEL", "OPTIONS", "REGISTER", "PRACK", "UPDATE", "SIP/2.0", "SIP/2.0/UDP", "z9hG4bK"),
    *(
        "Via: ",
        "v:",
        "From: ",
        "To: ",
        "Call-ID: ",
        "CSeq: 1 ",
        "Contact: ",
        "Max-Forwards: ",
        "Content-Length: ",
        "l:",
    ),
    *(
        "Content-Type: multipart/mixed;boundary=",
        "application/sdp",
        "Record-Route: ",
        "Route: ",
        "Require: ",
        "Accept: ",
    ),
    *("l:", "Accept: "),
    *("Reason: Q.850;cause=16;text=", "Expires: ", ";tag=", ";branch=", ";rport", ";received=", ";lr", "transport=tcp"),
    *("sip:", "sips:", "tel:+", "[::1]", "[::ffff:1.2.3.4]", "[1:::1.2.3.4]", "%41", "\r\n", "\r\n\r\n", "\r\n ", "<>"),
)
EXTENSION_WORDS = (
    *("Digest ", 'realm="a", ', 'nonce="b"', "qop=auth", "algorithm=SHA-256", "nc=00000001", 'cnonce="', "stale=true"),
    *('username="', 'uri="sip:', 'response="', ";to-tag=", ";from-tag=", ";early-only", "?Replaces=", "%3B", "%3D"),
    *("<sip:a@b>", ";q=0.7", ";reason=", ";refresher=uac", "SIP/2.0 200 OK", "Signal=5", "Duration=160", "tel:+1"),
)
SDP_WORDS = (
    *("v=0\r\n", "o=- 1 1 IN IP4 127.0.0.1\r\n", "c=IN IP4 127.0.0.1\r\n", "c=IN IP6 ::1\r\n", "t=0 0\r\n", "IP6"),
    *(
        "m=audio 40000 RTP/AVP 0 8 96\r\n",
        "m=video 0 RTP/AVP 31\r\n",
        "a=rtpmap:96 telephone-event/8000\r\n",
        "G722/8000",
    ),
    *("a=fmtp:96 0-15\r\n", "a=ptime:20\r\n", "a=sendonly\r\n", "a=inactive\r\n", "a=rtcp:5005 IN IP4 127.0.0.1\r\n"),
    *(
        "G722/8000",
        "a=rtcp-mux\r\n",
        "RTP/SAVP",
        "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:PS1uQCVeeCFCanVmcjkpPywjNWhcYD0mXXtxaVBR|2^20\r\n",
        "AEAD_AES_128_GCM",
        "|1:4",
        " KDR=1",
        "a=rtcp-xr:voip-metrics\r\n",
        "L16/8000/1",
        "opus/48000/2",
        "CN/8000",
        "0.0.0.0",
        "224.0.0.1",
    ),
)
JSON_WORDS = (
    *(
        '{"event":"media",',
        '"media":{"payload":"',
        '"mark":{"name":"',
        '{"event":"clear"}',
        "\\u0000",
        "\\ud800",
        "1e999",
    ),
    *('"stream_sid":"', "AAAA", "====", "null", "true", "[[[[", '"}}'),
)


def sip_message(data: bytes) -> None:
    """A datagram as a message, and every look that the stack takes at one."""
    try:
        message = parse_message(data)
    except MalformedRequest as error:
        assert error.status in (400, 513)
        error.request.stamp(PEER)
        build_response(error.request, error.status, to_tag="t")
        return
    except RemoteProtocolError as error:
        assert error.status == 0
        return
    _look_at(message)
    if isinstance(message, Response):
        message.explain()
        return
    message.stamp(PEER)
    try:
        message.check()
        key = server_key(message)
    except RemoteProtocolError as error:
        assert error.status in (400, 413, 414, 505)
        return
    inspect(message)
    answer = parse_message(build_response(message, 200, to_tag="t"))
    assert isinstance(answer, Response)
    assert answer.call_id == message.call_id and answer.cseq == message.cseq
    assert answer.from_.tag == message.from_.tag and answer.to.tag == (message.to.tag or "t")
    assert answer.via.branch == message.via.branch
    again = parse_message(data)
    assert isinstance(again, Request) and server_key(again) == key


def _look_at(message: Request | Response) -> None:
    looks: tuple[Callable[[], object], ...] = (
        lambda: message.from_,
        lambda: message.to,
        lambda: message.cseq,
        lambda: message.call_id,
        lambda: message.via,
        lambda: message.contact,
        lambda: message.reason,
        lambda: message.content_type,
        lambda: message.sdp,
        lambda: message.is_body_optional,
        lambda: message.headers.values_of("record-route"),
        lambda: message.headers.tokens_of("accept"),
    )
    for look in looks:
        try:
            look()
        except RemoteProtocolError as error:
            assert error.status == 400


def sip_headers(data: bytes) -> None:
    """One header's value: the first byte says which."""
    text = data[1:].decode("utf-8", "replace")
    try:
        match data[0] % 6 if data else 0:
            case 0:
                address = parse_name_addr(text)
                again = parse_name_addr(str(address))
                assert again.uri == address.uri and again.tag == address.tag
            case 1:
                via = parse_via(text)
                stamped = parse_via(stamp_via(text, "127.0.0.1", 5090))
                assert (stamped.branch, stamped.sent_by) == (via.branch, via.sent_by)
                assert stamped.parameters["received"] == "127.0.0.1"
            case 2:
                assert 0 <= parse_cseq(text).number < 2**31
            case 3:
                str(parse_reason(text))
            case 4:
                stamp_via(text, "::1", 1)
            case _:
                assert "".join(split_outside(text, ",")).count(",") <= text.count(",")
    except RemoteProtocolError as error:
        assert error.status == 400


def sip_extensions(data: bytes) -> None:
    """What extensions of SIP put into a header or a body: the first byte says which."""
    text = data[1:].decode("utf-8", "replace").replace("\r", " ").replace("\n", " ")
    request = Request("REFER", "sip:a@b", Headers([("Refer-To", text)]))
    try:
        match data[0] % 9 if data else 0:
            case 0:
                replaces = parse_replaces(text)
                assert parse_replaces(str(replaces)) == replaces
            case 1:
                target = read_refer_to(request)
                assert not target.uri.headers and parse_uri(str(target.uri)) == target.uri
            case 2:
                fragment = read_sipfrag(data[1:])
                assert fragment is None or 100 <= fragment[0] <= 699
            case 3:
                found = contacts_of(Response(302, "Moved", Headers([("Contact", text)])))
                assert len(found) <= MOST_CONTACTS and not any(uri.headers for uri in found)
            case 4:
                assert parse_challenge(text).nonce in text.replace("\\", "") or "\\" in text
            case 5:
                answer = parse_answer(text)
                # What is written is one line: control characters are spaces in it.
                assert parse_answer(str(answer)).user == unquote(quote(answer.user))
            case 6:
                for kind in (RELAY, PLAIN):
                    digit = read_digit(kind, data[1:])
                    assert digit is None or (len(digit[0]) == 1 and digit[1] > 0)
            case 7:
                headers = Headers([("Session-Expires", text), ("Min-SE", text)])
                expires = read_session_expires(headers)
                assert expires is None or expires.interval_s > 0
                assert read_min_se(headers) >= LEAST_S
            case _:
                names = ("P-Asserted-Identity", "Privacy", "Diversion", "History-Info")
                read_identity(Headers([(name, text) for name in names]))
    except RemoteProtocolError as error:
        assert error.status in (400, 416, 603)


def sip_uri(data: bytes) -> None:
    """A URI, which is the same again when it has been written."""
    try:
        uri = parse_uri(data.decode("utf-8", "replace"))
    except RemoteProtocolError as error:
        assert error.status == 400
        return
    assert uri.user_text.isascii() or "%" in uri.user
    assert parse_uri(str(uri)) == uri


def sip_stream(data: bytes) -> None:
    """A stream cut into segments: the messages of the whole, in bounds."""
    whole = Framer()
    whole.receive(data.replace(PIECE_END, b""), 0.0)
    framer = Framer()
    messages: list[bytes] = []
    for piece in data.split(PIECE_END):
        framer.receive(piece, 0.0)
        messages += framer.messages
        framer.messages.clear()
        assert len(framer._buffer) <= HEAD_LIMIT + MESSAGE_LIMIT + len(piece)
    assert messages == whole.messages and framer.pings == whole.pings
    assert framer.failure == whole.failure and (framer.deadline is None) == (whole.deadline is None)
    for message in messages:
        assert len(message) <= MESSAGE_LIMIT


def sip_stack(data: bytes) -> None:
    """Several datagrams to a stack with a call up: that call stays or ends by its own messages, and in the end nothing
    is left."""
    number = 0

    def token() -> str:
        nonlocal number
        number += 1
        return f"t{number:07d}"

    stack = Stack(token=token, listeners={"u": Listener("udp", "127.0.0.1", 5060)})
    now = 1000.0
    for datagram in data.split(PIECE_END)[:8]:
        stack.receive(datagram, PEER, now)
        while stack.events:
            event = stack.events.popleft()
            if isinstance(event, InviteReceived | ReinviteReceived):
                stack.answer(event.session, SDP, now)
        stack.out.clear()
        now += 0.1
    stack.receive(OPTIONS, PEER, now)
    assert stack.out.popleft()[0].startswith(b"SIP/2.0 200 OK\r\n")
    for session in {id(session): session for session, _dialog in stack.dialogs.values()}.values():
        if session.is_open:
            stack.hang_up(session, now)
    for _ in range(2000):
        deadline = stack.next_timer()
        if deadline is None:
            break
        now = max(now, deadline)
        stack.handle_timer(now)
        stack.out.clear()
    assert stack.is_idle


SDP = b"v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 20000 RTP/AVP 0\r\n"
OPTIONS = (
    b"OPTIONS sip:127.0.0.1:5060 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:5090;branch=z9hG4bK-the-last-one;rport\r\n"
    b"From: <sip:fuzz@127.0.0.1>;tag=the-last-one\r\nTo: <sip:127.0.0.1>\r\nCall-ID: the-last-one\r\n"
    b"CSeq: 2147483647 OPTIONS\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
)
LOCAL = LocalMedia("127.0.0.1", 20000, ("PCMU", "PCMA", "G722", "L16"), srtp=OPTIONAL, random_bytes=bytes)
OFFER = make_offer(LOCAL)
SECURE_OFFER = make_offer(attrs.evolve(LOCAL, srtp=REQUIRED))


def sdp(data: bytes) -> None:
    """A description: read, answered as an offer, taken as an answer, and changed by an offer of ours."""
    try:
        description = parse_sdp(data)
    except RemoteProtocolError as error:
        assert error.status == 400
        return
    _is_written_again(description)
    _accept(OFFER, description)
    _accept(SECURE_OFFER, description)
    try:
        answer, plan = answer_offer(description, LOCAL)
    except RemoteProtocolError as error:
        assert error.status == 488
        return
    assert len(answer.media) == len(description.media)
    assert parse_sdp(answer.serialise()) == answer
    assert plan.codec in LOCAL.codecs and 1 <= plan.ptime_ms <= 1000
    assert (plan.keys is not None) == any(media.port and media.protocol == "RTP/SAVP" for media in answer.media)
    later = make_offer(LOCAL, answer)
    assert len(later.media) == len(answer.media)
    _accept(later, description)


def _accept(offer: SessionDescription, answer: SessionDescription) -> None:
    try:
        plan = accept_answer(offer, answer)
    except RemoteProtocolError as error:
        assert error.status == 488
    else:
        assert 0 < plan.remote_port < 65536 and 0 <= plan.send_payload_type < 128


def _is_written_again(description: SessionDescription) -> None:
    written = description.serialise()
    if len(written) <= SIZE_LIMIT:  # what could not be decoded is longer when it is written
        again = parse_sdp(written)
        assert (again.media, again.connection) == (description.media, description.connection)
        assert (again.origin, again.time) == (description.origin, description.time)


MATRIX = HeaderMatrix(1)
ROW = np.zeros((1, 512), np.uint8)
LENGTH = np.zeros(1, np.int32)


def rtp(data: bytes) -> None:
    """An RTP packet: the matrix says what the parser says, and digits are told from anything."""
    data = data[:511]
    ROW[0, : len(data)] = np.frombuffer(data, np.uint8)
    LENGTH[0] = len(data)
    MATRIX.parse(ROW, LENGTH)
    try:
        packet = Packet.parse(data)
    except RemoteProtocolError:
        assert not MATRIX.is_ok[0] and MATRIX.payload_length[0] == 0
        return
    assert MATRIX.is_ok[0] and MATRIX.payload_type[0] == packet.payload_type
    start = MATRIX.payload_offset[0]
    assert data[start : start + MATRIX.payload_length[0]] == packet.payload
    assert (MATRIX.sequence_number[0], MATRIX.timestamp[0]) == (packet.sequence_number, packet.timestamp)
    assert (MATRIX.ssrc[0], bool(MATRIX.marker[0])) == (packet.ssrc, packet.marker)
    assert Packet.parse(packet.serialise()) == packet


def rtp_events(data: bytes) -> None:
    """The payloads of telephone-events, each with its timestamp: digits that have a length, and an end."""
    receiver = DigitReceiver()
    now = 0.0
    for at in range(0, len(data), 8):
        timestamp = int.from_bytes(data[at : at + 4], "big")
        try:
            digits = receiver.receive(data[at + 4 : at + 8], timestamp, now)
        except RemoteProtocolError:
            digits = ()
        now += 0.02
        assert all(digit.duration_ms >= 0 and 0 <= digit.volume < 64 for digit in digits)
    receiver.expire(now + 1)
    assert not receiver.is_pressed


def rtcp_packets(data: bytes) -> None:
    """A compound packet, which is the same again when it has been written."""
    try:
        packets = rtcp.parse(data)
    except RemoteProtocolError:
        return
    assert rtcp.parse(rtcp.compound(*packets)) == packets


START = StreamStart("s" * 32, "c" * 32, "account", "100", "200")
TWO_WAY = ExotelSession(START)
ONE_WAY = ExotelSession(START, two_way=False, payload=MULAW)
LAW = ExotelSession(START, payload=MULAW)


def wire(data: bytes) -> None:
    """A text frame of a bot."""
    for session in (TWO_WAY, ONE_WAY, LAW):
        try:
            message = session.receive(data)
        except RemoteProtocolError:
            continue
        if isinstance(message, Mark):
            session.mark(message.name)
        elif isinstance(message, Media) and session.payload is not PCM16:
            assert len(message.pcm) % 2 == 0


@attrs.frozen
class Target:
    """One parser.

    :ivar run: takes any bytes.
    :ivar words: what its language is made of, for the fuzzer.
    :ivar max_length: bytes of the longest input.
    """

    run: Callable[[bytes], None]
    words: tuple[str, ...] = ()
    max_length: int = 2048


TARGETS: dict[str, Target] = {
    "sip_message": Target(sip_message, SIP_WORDS),
    "sip_headers": Target(sip_headers, SIP_WORDS, 400),
    "sip_extensions": Target(sip_extensions, (*EXTENSION_WORDS, *SIP_WORDS), 400),
    "sip_uri": Target(sip_uri, SIP_WORDS, 300),
    "sip_stream": Target(sip_stream, SIP_WORDS),
    "sip_stack": Target(sip_stack, SIP_WORDS),
    "sdp": Target(sdp, SDP_WORDS, 1500),
    "rtp": Target(rtp, max_length=400),
    "rtp_events": Target(rtp_events, max_length=200),
    "rtcp": Target(rtcp_packets, max_length=600),
    "wire": Target(wire, JSON_WORDS, 1000),
}
