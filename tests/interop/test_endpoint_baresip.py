"""baresip over UDP, TCP and IPv6: hold and resume from its own keys, and hang-up from each side."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from tests.interop.peers import report
from tests.interop.peers.baresip import baresip
from tests.interop.peers.captures import Capture, rtp_packets
from tests.interop.peers.programs import SOUNDS
from tests.interop.test_endpoint_sipp import Endpoint, Way, _endpoint, endpoint, received

__all__ = ["_endpoint", "endpoint"]

# A call takes seconds, and the phone takes time to start.
pytestmark = [pytest.mark.peers("baresip"), pytest.mark.slow]

SPEECH = SOUNDS / "vm-options.wav"
WAYS = [
    Way("udp", "udp", "127.0.0.1"),
    Way("tcp", "tcp", "127.0.0.1"),
    Way("udp6", "udp", "::1"),
    Way("tcp6", "tcp", "::1"),
]
EVERY_WAY = pytest.mark.parametrize("way", WAYS, ids=[way.name for way in WAYS])


def uri(way: Way, endpoint: Endpoint, user: str) -> str:
    return f"sip:{user}@{way.address(endpoint)};transport={way.transport}"


@pytest.mark.rfc(3264)
@EVERY_WAY
def test_hold_and_resume(endpoint: Endpoint, tmp_path: Path, way: Way) -> None:
    before = len(endpoint.server.program.lines)
    with baresip(tmp_path / "phone", SPEECH, interface=way.host) as phone:
        phone.dial(uri(way, endpoint, "echo"))
        phone.wait_for("CALL_ESTABLISHED")
        phone.pass_time(1.0)
        phone.hold()
        endpoint.server.program.wait_for("media_agreed.* may_send=False may_receive=True", after=before)
        phone.pass_time(1.0)
        phone.resume()
        phone.pass_time(1.0)
        phone.hang_up()
        phone.wait_for("CALL_CLOSED")
    endpoint.server.program.wait_for("leg_ended", after=before)
    lines = endpoint.server.program.lines[before:]
    (invited,) = (line for line in lines if "invite_received" in line)
    assert invited.endswith(f"transport={way.transport}"), invited
    agreed = [line.partition("may_send=")[2].partition(" srtp")[0] for line in lines if "media_agreed" in line]
    assert agreed == ["True may_receive=True", "False may_receive=True", "True may_receive=True"]
    assert received(next(line for line in lines if "leg_ended" in line)) > 60
    report.calls_completed("baresip", report.version_of("baresip"))


@pytest.mark.rfc(3264)
@pytest.mark.peers("tcpdump")
def test_what_it_is_sent_while_it_holds(endpoint: Endpoint, tmp_path: Path) -> None:
    one = endpoint.server
    with (
        baresip(tmp_path / "phone", SPEECH) as phone,
        Capture(tmp_path, one.first_port, one.last_port) as capture,
    ):
        phone.dial(f"{one.uri('echo')};transport=tcp")
        phone.wait_for("CALL_ESTABLISHED")
        phone.pass_time(1.0)
        phone.hold()
        phone.pass_time(1.5)
        phone.resume()
        phone.pass_time(1.0)
        phone.hang_up()
        phone.wait_for("CALL_CLOSED")
        packets = list(rtp_packets(capture.datagrams()))
    back = [packet for packet in packets if one.first_port <= packet.source[1] <= one.last_port]
    gaps = [later.time_s - before.time_s for before, later in itertools.pairwise(back)]
    assert 1.2 < max(gaps) < 2.0
    report.calls_completed("baresip", report.version_of("baresip"))


@EVERY_WAY
def test_the_server_hangs_up(endpoint: Endpoint, tmp_path: Path, way: Way) -> None:
    with baresip(tmp_path / "phone", SPEECH, interface=way.host) as phone:
        phone.dial(uri(way, endpoint, "goodbye"))
        phone.wait_for("CALL_ESTABLISHED")
        phone.wait_for("CALL_CLOSED")
    report.calls_completed("baresip", report.version_of("baresip"))
