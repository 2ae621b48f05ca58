"""Whole calls with SRTP: keys in offers and answers (RFC 4568), sound under them (RFC 3711), and nothing in clear."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import Any

import pytest

from agentstream.flow.loader import examine
from agentstream.testing.bots import Echo
from agentstream.testing.phone import KEY_BYTES, Phone, speech
from agentstream.testing.server import ServerUnderTest
from tests.server.kit import Everything, bot_flow
from tests.server.test_connect import caller_of, connect_flow, hears, registered
from tests.server.test_connect import server as connecting

pytestmark = pytest.mark.rfc(4568)

GCM_256 = "AEAD_AES_256_GCM"
CM_80 = "AES_CM_128_HMAC_SHA1_80"


def trunk(srtp: str, **more: Any) -> dict[str, Any]:
    return {"trunk": [{"name": "carrier", "address": ["127.0.0.0/8"], "srtp": srtp}], **more}


def echoed(server: ServerUnderTest, phone: Phone, seed: int) -> bool:
    """The bot sends back what the phone says."""
    said, since = speech(400, seed), server.reactor.seconds()
    phone.say(said)
    server.advance(1.0)
    return said[160:-160] in phone.heard(since)


@pytest.mark.rfc(3711)
@pytest.mark.rfc(7714)
@pytest.mark.parametrize("suite", KEY_BYTES)
def test_a_call_in_each_suite(suite: str) -> None:
    with ServerUnderTest(bot_flow(), trunk("required")) as server:
        server.bot(Echo)
        phone = server.call(srtp=suite)
        assert echoed(server, phone, 1)
        assert phone.answer is not None
        assert re.findall(r"^m=audio \d+ (\S+)|^a=crypto:(1 \S+)", phone.answer.text, re.MULTILINE) == [
            ("RTP/SAVP", ""),
            ("", f"1 {suite}"),
        ]
        server.advance(6)
        assert phone.controls and not phone.unread
        assert server.events("media_agreed")[0].fields["srtp"] == suite
        phone.hang_up()
        server.advance(0.1)
        assert server.events("leg_ended")[0].fields["rtp_refused"] == {}


@pytest.mark.parametrize(
    ("setting", "srtp", "sentence"),
    [
        ("off", CM_80, "only audio over RTP/AVP is served"),
        ("required", "", "only audio over RTP/SAVP is served"),
    ],
)
def test_what_does_not_fit_the_setting_is_488_and_says_why(setting: str, srtp: str, sentence: str) -> None:
    with ServerUnderTest(bot_flow(), trunk(setting)) as server:
        phone = server.phone(srtp=srtp)
        phone.dial()
        server.advance(1)
        assert phone.statuses[-1] == 488
        assert phone.responses[-1].header("warning") == f'305 agentstream "{sentence}"'
        assert not phone.arrivals


@pytest.mark.parametrize("lines", ["", "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:PS1uQCVeeCFCanVmcjkp|2^20|1:4\r\n"])
def test_an_offer_over_savp_without_a_key_of_use_is_never_answered_in_clear(lines: str) -> None:
    with ServerUnderTest(bot_flow(), trunk("optional")) as server:
        phone = server.phone()
        phone.dial(sdp=phone.description().replace(b"RTP/AVP", b"RTP/SAVP") + lines.encode())
        server.advance(1)
        assert phone.statuses[-1] == 488
        assert not phone.arrivals


@pytest.mark.parametrize("suite", ["", CM_80])
def test_optional_takes_either(suite: str) -> None:
    with ServerUnderTest(bot_flow(), trunk("optional")) as server:
        server.bot(Echo)
        phone = server.call(srtp=suite)
        assert (phone.server_key is not None) == bool(suite)
        assert echoed(server, phone, 1)
        phone.hang_up()
        server.advance(0.1)


@pytest.mark.rfc(3711)
def test_hold_and_resume_under_one_key() -> None:
    """The phone's numbers wrap before the hold, so its rollover counter is 1."""
    with ServerUnderTest(bot_flow(), trunk("required")) as server:
        server.bot(Echo)
        phone = server.call(srtp=CM_80)
        assert echoed(server, phone, 1)
        key = phone.server_key
        phone.hold()
        server.advance(1)
        phone.resume()
        server.advance(0.5)
        assert phone.server_key == key
        assert echoed(server, phone, 2)
        phone.hang_up()
        server.advance(0.1)
        assert server.events("leg_ended")[0].fields["rtp_refused"] == {}
        assert not phone.unread


def test_another_key_in_mid_call() -> None:
    with ServerUnderTest(bot_flow(), trunk("required")) as server:
        server.bot(Echo)
        phone = server.call(srtp=CM_80)
        assert echoed(server, phone, 1)
        before = phone.server_key
        phone.srtp_key = bytes(30)
        phone.reinvite()
        server.advance(0.5)
        assert phone.server_key != before
        assert echoed(server, phone, 2)
        phone.srtp, phone.srtp_key = GCM_256, bytes(44)
        phone.reinvite()
        server.advance(0.5)
        assert echoed(server, phone, 3)
        phone.hang_up()
        server.advance(0.1)
        assert server.events("leg_ended")[0].fields["rtp_refused"] == {}


def test_a_change_that_is_refused_leaves_the_call_under_its_keys() -> None:
    with ServerUnderTest(bot_flow(), trunk("required")) as server:
        server.bot(Echo)
        phone = server.call(srtp=CM_80)
        phone.reinvite(sdp=phone.description().replace(b"RTP/SAVP", b"RTP/AVP"))
        server.advance(0.5)
        assert phone.statuses[-1] == 488
        assert echoed(server, phone, 2)
        phone.hang_up()
        server.advance(0.1)


def test_our_own_offer_follows_the_setting() -> None:
    with ServerUnderTest(bot_flow(), trunk("required")) as server:
        server.bot(Echo)
        phone = server.phone(srtp=GCM_256)
        phone.dial(sdp=b"")
        server.advance_until(lambda: phone.is_answered)
        assert phone.answer is not None
        suites = re.findall(r"^a=crypto:(\d) (\S+)", phone.answer.text, re.MULTILINE)
        assert suites[0] == ("1", GCM_256) and len(suites) == 4
        assert echoed(server, phone, 1)
        phone.hang_up()
        server.advance(0.1)


def test_our_own_hold_keeps_the_key() -> None:
    with ServerUnderTest(bot_flow(), trunk("required")) as server:
        server.bot(Echo)
        phone = server.call(srtp=CM_80)
        phone.serves.add("INVITE")
        key = phone.server_key
        (call,) = server.service.switchboard.calls.values()
        for change in (call.leg.hold, call.leg.resume):
            change()
            server.advance(0.5)
            offer = phone.requests[-2].body.decode()
            assert key is not None and f"a=crypto:1 {CM_80} inline:{base64.b64encode(key[1]).decode()}" in offer
        assert echoed(server, phone, 2)
        phone.hang_up()
        server.advance(0.1)


def test_no_key_is_written_down_anywhere(tmp_path: Path, everything: Everything) -> None:
    more = {"sip": {"trace": True, "trace_file": str(tmp_path / "sip.log")}}
    with ServerUnderTest(bot_flow(), trunk("required", **more)) as server:
        server.bot(Echo)
        phone = server.call(srtp=CM_80)
        theirs = phone.server_key
        assert theirs is not None
        keys = [phone.srtp_key, theirs[1]]
        (call,) = server.service.switchboard.calls.values()
        shapes = f"{call.leg._plan!r} {call.leg._local!r}"
        phone.hang_up()
        server.advance(0.1)
        timeline = " ".join(repr(event) for event in server.timeline)
    trace = (tmp_path / "sip.log").read_text()
    assert trace.count("inline:***") == 2
    for text in (trace, timeline, shapes, everything.text):
        for key in keys:
            for shown in (base64.b64encode(key).decode(), key.hex(), repr(key), repr(key)[2:-1]):
                assert shown not in text


class TestKeysThatCanBeRead:
    """SRTP that is wanted where SIP is not encrypted."""

    def test_a_call_says_so_once_a_minute(self) -> None:
        with ServerUnderTest(bot_flow(), trunk("required")) as server:
            server.bot(Echo, Echo, Echo)
            for pause in (1, 61, 0.1):
                phone = server.call(srtp=CM_80)
                phone.hang_up()
                server.advance(pause)
            said = [line for line in server.log if "whoever can read its SIP has the keys" in line]
            assert (
                said
                == [
                    "carrier wants SRTP and calls over UDP: whoever can read its SIP has the keys; use TLS",
                ]
                * 2
            )

    @pytest.mark.parametrize("srtp", ["off", "optional"])
    def test_where_it_is_not_wanted_nothing_is_said(self, srtp: str) -> None:
        with ServerUnderTest(bot_flow(), trunk(srtp)) as server:
            server.bot(Echo)
            server.call().hang_up()
            server.advance(0.1)
            assert not [line for line in server.log if "SRTP" in line]

    @pytest.mark.parametrize(
        ("listen", "count"), [("udp:5060:interface=127.0.0.1", 2), ("tls:5061:interface=127.0.0.1", 0)]
    )
    def test_the_config_is_warned_about(self, tmp_path: Path, listen: str, count: int) -> None:
        file = tmp_path / "agentstream.toml"
        file.write_text(
            f'[sip]\nlisten = ["{listen}"]\n[tls]\ncertificate = "c.pem"\nkey = "k.pem"\n'
            '[[trunk]]\nname = "a"\naddress = ["127.0.0.1"]\nsrtp = "required"\n'
            '[[trunk]]\nname = "b"\naddress = ["127.0.0.2"]\nsrtp = "optional"\n'
            '[[phone]]\nuser = "alice"\npassword = "secret of hers"\n[registrar]\nsrtp = "required"\n'
        )
        loaded, _ = examine(file)
        assert [warning.path for warning in loaded.warnings if "the keys are in" in warning.sentence] == (
            ["trunk[0].srtp", "registrar.srtp"][:count]
        )


def test_phones_of_the_registrar_have_a_setting_of_their_own() -> None:
    config = {
        "trunk": [{"name": "carrier", "address": ["203.0.113.0/24"]}],
        "registrar": {"srtp": "required"},
        "phone": [{"user": "alice", "password": "wonderland"}],
    }
    with ServerUnderTest(bot_flow(), config) as server:
        server.bot(Echo)
        clear = server.phone(credentials=("alice", "wonderland"))
        clear.dial()
        server.advance(1)
        assert clear.statuses[-1] == 488
        phone = server.call(srtp=CM_80, credentials=("alice", "wonderland"))
        assert echoed(server, phone, 1)
        phone.hang_up()
        server.advance(0.1)


def test_a_call_of_ours_is_srtp_where_that_is_required() -> None:
    """From a trunk in clear to a phone with SRTP, and back: our offer has keys, and its answer chooses."""
    with connecting(connect_flow(), registrar={"srtp": "required"}) as server:
        alice = registered(server, "127.0.0.9", srtp=GCM_256)
        caller = caller_of(server)
        alice.pick_up()
        server.advance_until(lambda: caller.is_answered)
        server.advance(0.5)
        assert hears(server, caller, alice, 1)
        assert hears(server, alice, caller, 2)
        assert (caller.server_key, alice.unread) == (None, 0)
        assert {event.fields["srtp"] for event in server.events("dialed_media_agreed")} == {GCM_256}
        caller.hang_up()
        server.advance(1)
