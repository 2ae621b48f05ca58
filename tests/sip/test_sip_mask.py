"""What a trace may not hold is masked, and nothing else of a message is changed."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentstream.sip.mask import mask
from agentstream.testing.sip_peer import SipPeer

DIGEST = (
    b'Digest username="bob", realm="biloxi.com", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093", uri="sip:bob@biloxi.com",'
    b' qop=auth, nc=00000001, cnonce="0a4f113b", response="6629fae49393a05397450978507c4ef1", opaque="5ccc069c"'
)
KEPT = b'Digest username="bob", realm="biloxi.com", uri="sip:bob@biloxi.com", qop=auth, nc=00000001, ***'


@pytest.mark.parametrize(
    ("line", "masked"),
    [
        (b"Authorization: " + DIGEST, b"Authorization: " + KEPT),
        (b"PROXY-AUTHORIZATION :" + DIGEST, b"PROXY-AUTHORIZATION :" + KEPT),
        (b"Authorization: " + DIGEST.replace(b", ", b",\r\n  "), b"Authorization: " + KEPT),
        (b"Authorization: Basic Ym9iOnplcm8=", b"Authorization: Basic ***"),
        (b"authorization: Bearer abc.def", b"authorization: Bearer ***"),
        (b"Authorization: what=ever", b"Authorization: ***"),
        (b'Authentication-Info: nextnonce="47364c23", rspauth="6629fae4"', b"Authentication-Info: ***"),
        (b'Proxy-Authentication-Info: rspauth="6629fae4"', b"Proxy-Authentication-Info: ***"),
        (b"Contact: <sip:bob:secret@192.0.2.1:5060>;expires=60", b"Contact: <sip:bob:***@192.0.2.1:5060>;expires=60"),
        (b"From: <sip:+1;ext=2,3?:secret@x;lr>", b"From: <sip:+1;ext=2,3?:***@x;lr>"),
        (b"a=key-mgmt:mikey AQAFgM0XflABAAAAAAAAAAAAAAsAyO", b"a=key-mgmt:mikey ***"),
        (b"To: sips:bob:se%20cret@x", b"To: sips:bob:***@x"),
        (
            b"a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz|2^20|1:4",
            b"a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:***|2^20|1:4",
        ),
        (
            b"a=crypto:1 X inline:abc|2^20|1:4;inline:def|2^20|2:4 UNENCRYPTED_SRTP",
            b"a=crypto:1 X inline:***|2^20|1:4;inline:***|2^20|2:4 UNENCRYPTED_SRTP",
        ),
        (b"k=base64:c2VjcmV0", b"k=base64:***"),
    ],
)
def test_it_is_masked(line: bytes, masked: bytes) -> None:
    assert mask(b"INVITE sip:x SIP/2.0\r\n" + line + b"\r\nCSeq: 1 INVITE\r\n\r\n") == (
        b"INVITE sip:x SIP/2.0\r\n" + masked + b"\r\nCSeq: 1 INVITE\r\n\r\n"
    )


def test_the_rest_stays() -> None:
    for data in (
        SipPeer().invite(),
        b'WWW-Authenticate: Digest realm="x", nonce="y"\r\nP-Asserted-Identity: <sip:+1@x>\r\n',
        b"Route: <sip:[2001:db8::1]:5060;lr>\r\nVia: SIP/2.0/UDP [::1]:5060\r\nTo: <sip:bob@x>, <sip:y:5060>\r\n",
    ):
        assert mask(data) == data


@given(st.binary(max_size=200), st.sampled_from([b"Authorization: ", b"sip:a:", b"a=crypto:1 X inline:", b""]))
def test_any_bytes(data: bytes, start: bytes) -> None:
    once = mask(start + data)
    assert mask(once) == once or b"Authorization" in once


def test_no_length_is_slow() -> None:
    start = time.process_time()
    for piece in (b"sip:", b"sip:a:", b"Authorization: ", b"a=crypto:", b"inline:", b"\r\n ", b'uri="', b":"):
        mask(piece * (60_000 // len(piece)))
    # What is quadratic takes many seconds at this length.
    assert time.process_time() - start < 2
