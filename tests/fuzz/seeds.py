"""What the fuzzer begins with: a few good and bad inputs for each target, as files beside this one.

They are made here and committed as files, so that a run begins where the last one did.
"""

from __future__ import annotations

import shutil
import struct
from pathlib import Path

from agentstream.rtp import rtcp
from agentstream.rtp.events import packets_of_digit
from agentstream.rtp.packet import Extension, Packet
from agentstream.testing.sip_peer import OFFER, SipPeer
from tests.fuzz.targets import PIECE_END

FOLDER = Path(__file__).parent / "seeds"

FULL_SDP = (
    b"v=0\r\no=alice 2890844526 2890842807 IN IP6 2001:db8::1\r\ns=A call\r\ni=x\r\nu=http://x\r\ne=x@example.com\r\n"
    b"c=IN IP6 2001:db8::1\r\nb=AS:64\r\nt=3034423619 3042462419\r\na=sendonly\r\na=rtcp-xr:voip-metrics=x\r\n"
    b"m=audio 49170/2 RTP/AVP 9 0 8 96 97 98 13 101\r\nc=IN IP6 2001:db8::2\r\na=rtpmap:96 L16/8000/1\r\n"
    b"a=rtpmap:97 opus/48000/2\r\na=fmtp:97 useinbandfec=1;maxplaybackrate=16000\r\na=rtpmap:98 iLBC/8000\r\n"
    b"a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\na=ptime:30\r\na=maxptime:60\r\na=recvonly\r\n"
    b"a=rtcp:53020 IN IP6 2001:db8::3\r\na=rtcp-mux\r\nm=video 51372 RTP/AVP 99\r\na=rtpmap:99 h263-1998/90000\r\n"
    b"m=image 0 udptl t38\r\n"
)
HOLD_SDP = b"v=0\no=- 1 2 IN IP4 0.0.0.0\ns= \nc=IN IP4 0.0.0.0\nt=0 0\nm=audio 4000 RTP/AVP 0\na=inactive\n"
NOISE_FIRST_SDP = OFFER.replace(b"RTP/AVP 0 8", b"RTP/AVP 13 0 8")
SECURE_SDP = OFFER.replace(b"RTP/AVP", b"RTP/SAVP") + (
    b"a=crypto:2 AEAD_AES_128_GCM inline:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGw==|2^31 WSH=64 -x\r\n"
    b"a=crypto:3 AES_CM_128_HMAC_SHA1_80 inline:PS1uQCVeeCFCanVmcjkpPywjNWhcYD0mXXtxaVBR|2^20|1:4 KDR=1\r\n"
)

URIS = (
    b"sip:alice@example.com",
    b"sips:alice:secret@example.com:5061;transport=tcp;lr?subject=x&priority=urgent",
    b"sip:+1-212-555-1212:1234@gateway.com;user=phone",
    b"sip:%61lice@[2001:db8::1]:5070",
    b"sip:user;par=u%40example.net@example.com",
    b"sip:[::ffff:192.0.2.1]",
    b"sip:user@[2001:db8:::192.0.2.1]",
    b"tel:+358-555-1234567;postd=pp22;phone-context=example.com",
    b"urn:service:sos",
    b"sip:192.0.2.1:0",
)
HEADERS = (
    b'\x00"A \\"quoted\\" name" <sip:alice@example.com;transport=udp?x=y>;tag=1928301774;q=0.5',
    b"\x00Bob <sips:bob@[::1]:5061>;expires=60",
    b"\x00sip:carol@example.com;tag=abc",
    b"\x01SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK87asdks7;rport;received=192.0.2.9",
    b"\x01SIP / 2.0 / TCP [2001:db8::9:1] : 5061;received=[2001:db8::9:255];maddr=x",
    b"\x02 2147483647 INVITE",
    b'\x03Q.850;cause=16;text="Normal call clearing"',
    b"\x04SIP/2.0/TLS host;rport=;ttl=1",
    b'\x05<sip:a,b@c;lr>, "x, y" <sip:d>, e;f="g,h"',
)
EXTENSIONS = (
    b"\x00425928@bobster.example.org;to-tag=7743;from-tag=6472;early-only",
    b'\x01"Bob" <sips:bob@example.com;transport=tcp?Replaces=12%40host%3Bto-tag%3D1%3Bfrom-tag%3D2&x=y>;z=1',
    b"\x01<sip:bob@example.com;method=SUBSCRIBE>",
    b"\x02SIP/2.0 486 Busy Here\r\nContact: <sip:bob@example.com>\r\n",
    b"\x03<sip:a@b;x=y?Subject=z>;q=0.7, <tel:+1>;q=1, <http://x>, sip:c@d",
    b'\x04Digest realm="a, \\"b\\"", nonce="84a4cc6f3082121f", qop="auth,auth-int", algorithm=SHA-256, stale=TRUE,'
    b' opaque=""',
    b'\x05Digest username="bob", realm="a", nonce="b", uri="sip:c@d", response="e", algorithm=MD5, qop=auth,'
    b' nc=00000001, cnonce="f"',
    b"\x06Signal= 5\r\nDuration= 160\r\n",
    b"\x06#",
    b"\x071800;refresher=uac",
    b'\x08"Alice" <sip:+4930123456@example.com>;reason="no-answer";counter=2, <tel:+1>',
)
BOT_MESSAGES = (
    b'{"event":"media","stream_sid":"x","sequence_number":"3","media":{"chunk":"1","timestamp":"0","payload":"AAECAw=="}}',
    b'{"event":"media","media":{"payload":"AAEC\\r\\nAwQF"}}',
    b'{"event":"mark","mark":{"name":"greeting"}}',
    b'{"event":"mark","mark":{"name":7}}',
    b'{"event":"clear"}',
    b'{"event":"stop","stop":{}}',
    b'{"event":"\xc3\xa9\\u00e9\\ud83d\\ude00"}',
    b'[{"event":1e999}]',
)


def _sip() -> dict[str, bytes]:
    call = SipPeer(call_id="seed-1@peer", local_tag="seed1")
    invite = call.invite()
    offerless = SipPeer(call_id="seed-2@peer", local_tag="seed2").invite(b"")
    ringing = call.respond(invite, 180, "Ringing", headers='Reason: SIP;cause=486;text="x"\r\n')
    multipart = (
        b"--b\r\nContent-Type: application/sdp\r\n\r\n"
        + OFFER
        + b"\r\n--b\r\nContent-Type: text/plain\r\n\r\nx\r\n--b--\r\n"
    )
    carrier = SipPeer(call_id="seed-3@peer", local_tag="seed3").request(
        "INVITE",
        body=multipart,
        content_type="multipart/mixed;boundary=b",
        headers='P-Asserted-Identity: "A" <sip:+1@x>\r\nRecord-Route: <sip:p1;lr>,\r\n <sip:p2;lr>\r\n'
        "Supported: timer,100rel\r\nAccept: application/sdp\r\n"
        "Content-Disposition: session;handling=optional\r\nTimestamp: 54\r\n",
    )
    compact = (
        b"OPTIONS sip:1000@127.0.0.1 SIP/2.0\r\nv: SIP/2.0/UDP 127.0.0.1:5090;branch=z9hG4bKs4, SIP/2.0/TCP x\r\n"
        b"f: <sip:a@b>;tag=s4\r\nt: sip:c@d\r\ni: seed-4\r\nCSeq:1 OPTIONS\r\nm: *\r\n"
        b"Max-Forwards:\r\n 70\r\nl: 0\r\n\r\n"
    )
    in_call = SipPeer(call_id="seed-1@peer", local_tag="seed1", remote_tag="t0000002", cseq=1)
    in_call.invite_cseq = 1
    return {
        "invite": invite,
        "offerless": offerless,
        "cancel": call.cancel(),
        "ringing": ringing,
        "carrier": carrier,
        "compact": compact,
        "ack": in_call.ack(),
        "reinvite": in_call.invite(HOLD_SDP),
        "bye": in_call.bye('Reason: Q.850;cause=16;text="bye"\r\n'),
        "options": call.options(),
        "required": SipPeer(call_id="seed-5").request("INVITE", headers="Require: 100rel\r\n"),
        "latin": compact.replace(b"<sip:a@b>", b"\xe9 <sip:a@b>"),
        "short": invite[:-20],
    }


def seeds() -> dict[str, dict[str, bytes]]:
    """Inputs by target and name."""
    sip = _sip()
    call = PIECE_END.join(sip[name] for name in ("invite", "ack", "reinvite", "ack", "bye"))
    cancelled = PIECE_END.join(sip[name] for name in ("invite", "cancel", "options", "ringing"))
    framed = {name: data.replace(b"UDP", b"TCP") for name, data in sip.items()}
    extended = Packet(8, 1, 160, 7, b"\xd5" * 20, True, (1, 2), Extension(0xBEDE, b"abcd"), 4)
    report = rtcp.ReportBlock(5, 1, -2, 3, 4, 5, 6)
    names = rtcp.SourceDescription.of_cname(7, "a@b")
    digits = packets_of_digit("5", 80)
    return {
        "sip_message": sip,
        "sip_extensions": {str(number): data for number, data in enumerate(EXTENSIONS)},
        "sip_headers": {str(number): data for number, data in enumerate(HEADERS)},
        "sip_uri": {str(number): data for number, data in enumerate(URIS)},
        "sip_stream": {
            "pings": b"\r\n\r\n" + framed["invite"] + b"\r\n" + PIECE_END + b"\r\n" + framed["bye"],
            "cut": framed["carrier"][:200] + PIECE_END + framed["carrier"][200:],
            "unframed": framed["required"].replace(b"Content-Length: 0\r\n", b""),
            "too-long": framed["options"].replace(b"Content-Length: 0", b"Content-Length: 99999"),
            "bare": b"\n",
        },
        "sip_stack": {"call": call, "cancelled": cancelled, **sip},
        "sdp": {
            "offer": OFFER,
            "full": FULL_SDP,
            "hold": HOLD_SDP,
            "noise-first": NOISE_FIRST_SDP,
            "secure": SECURE_SDP,
        },
        "rtp": {
            "plain": Packet(0, 65535, 2**32 - 1, 7, b"\xff" * 20).serialise(),
            "extended": extended.serialise(),
            "cut": extended.serialise()[:25],
            "rtcp": rtcp.compound(rtcp.ReceiverReport(7)),
        },
        "rtp_events": {
            "digit": b"".join(struct.pack("!I", 160) + packet.payload for packet in digits),
            "two": struct.pack("!I4sI4s", 0, b"\x01\x0a\x00\xa0", 800, b"\x0b\x8a\xff\xff"),
            "flash": struct.pack("!I4s", 0, b"\x10\x80\x00\x00"),
        },
        "rtcp": {
            "sender": rtcp.compound(rtcp.SenderReport(7, 2**63, 1, 2, 3, (report,)), names),
            "goodbye": rtcp.compound(rtcp.ReceiverReport(7, (report, report)), names, rtcp.Bye((7, 8), b"bye")),
            "extended": rtcp.compound(rtcp.ReceiverReport(7), rtcp.ExtendedReport(7, (rtcp.VoipMetrics(5),))),
            "odd-padding": b"\xa0\xc9\x00\x02\x00\x00\x00\x07\x00\x00\x00\x03",
            "other": rtcp.compound(rtcp.ReceiverReport(7), rtcp.Other(206, 1, b"abcdefgh")),
        },
        "wire": {str(number): data for number, data in enumerate(BOT_MESSAGES)},
    }


def write_seeds() -> None:
    """Write all of them, and nothing else, to the folder."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    for target, inputs in seeds().items():
        (FOLDER / target).mkdir(parents=True)
        for name, data in inputs.items():
            (FOLDER / target / name).write_bytes(data)
