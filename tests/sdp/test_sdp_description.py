"""Session descriptions, read and written (RFC 8866)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentstream import sdp
from agentstream.errors import RemoteProtocolError

pytestmark = pytest.mark.rfc(8866)

FULL = (
    b"v=0\r\no=jdoe 3724394400 3724394405 IN IP4 198.51.100.1\r\ns=Call to John\r\ni=info\r\nu=http://x\r\n"
    b"c=IN IP4 198.51.100.1\r\nb=AS:64\r\nt=0 0\r\na=sendonly\r\nm=audio 49170/2 RTP/AVP 0 96\r\ni=title\r\n"
    b"c=IN IP6 2001:db8::2\r\nb=AS:64\r\nk=clear:x\r\na=rtpmap:96 opus/48000/2\r\na=fmtp:96 useinbandfec=1\r\n"
    b"a=inactive\r\nm=video 51372 RTP/AVP 99\r\n"
)


def test_a_full_description() -> None:
    description = sdp.parse(FULL)
    assert (description.origin.session_id, description.origin.version) == (3724394400, 3724394405)
    assert description.name == "Call to John"
    assert description.connection == sdp.Connection("198.51.100.1")
    assert description.direction == "sendonly"
    audio, video = description.media
    assert (audio.kind, audio.port, audio.protocol, audio.formats) == ("audio", 49170, "RTP/AVP", ("0", "96"))
    assert audio.connection == sdp.Connection("2001:db8::2", "IP6")
    assert audio.payload_attribute("rtpmap", "96") == "opus/48000/2"
    assert audio.payload_attribute("fmtp", "9") is None
    assert (audio.direction, video.direction) == ("inactive", None)
    assert (audio.attribute("inactive"), audio.attribute("ptime")) == ("", None)


def test_what_we_write_reads_back_the_same() -> None:
    for description in (sdp.parse(FULL), sdp.make_offer(sdp.LocalMedia("2001:db8::1", 20000))):
        assert sdp.parse(description.serialise()) == description


@pytest.mark.parametrize(
    "data",
    [
        FULL.replace(b"\r\n", b"\n"),
        FULL.rstrip(),
        FULL.replace(b"s=Call to John\r\n", b""),
        FULL.replace(b"t=0 0\r\n", b""),
    ],
)
def test_what_phones_leave_out(data: bytes) -> None:
    assert len(sdp.parse(data).media) == 2


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "the session description does not begin with v=0"),
        (FULL.replace(b"v=0", b"v=1"), "the session description does not begin with v=0"),
        (FULL.replace(b"o=", b"z="), "the session description has no o= line"),
        (FULL.replace(b"o=jdoe", b"o="), "the o= line has not six words"),
        (FULL.replace(b"c=IN IP4", b"c=IN IP9"), "a c= line is not IN, IP4 or IP6 and an address"),
        (FULL.replace(b"c=IN IP4 ", b"c=IN IP4 /"), "a c= line is not IN, IP4 or IP6 and an address"),
        (FULL.replace(b"49170", b"66000"), "an m= line's port is not a number below 65536"),
        (FULL.replace(b"49170", "²".encode()), "an m= line's port is not a number below 65536"),
        (FULL.replace(b" RTP/AVP 0 96", b""), "an m= line has not four words"),
        (FULL + b"m =video 1 RTP/AVP 1\r\n", "a line of the session description is not a letter and an equals sign"),
        (FULL + b"m=audio 1 RTP/AVP 0\r\n" * 40, "the session description has more than 32 media"),
        (FULL + b"a=x\r\n" * 9000, "the session description is longer than 16 kB"),
    ],
)
def test_what_is_no_description(data: bytes, sentence: str) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        sdp.parse(data)
    assert (caught.value.status, caught.value.sentence) == (400, sentence)


LINES = st.sampled_from(FULL.split(b"\r\n")) | st.binary(max_size=30)


@given(
    st.lists(LINES, max_size=12).map(b"\r\n".join)
    | st.lists(LINES, max_size=12).map(lambda lines: b"\r\n".join([*FULL.split(b"\r\n")[:3], *lines]))
)
@settings(max_examples=300)
def test_any_bytes(data: bytes) -> None:
    local = sdp.LocalMedia("127.0.0.1", 20000)
    try:
        description = sdp.parse(data)
        answer, plan = sdp.answer_offer(description, local)
        assert len(answer.media) == len(description.media)
        assert plan.codec in ("PCMU", "PCMA")
        sdp.accept_answer(sdp.make_offer(local), description)
    except RemoteProtocolError as error:
        assert error.status in (400, 488)
