"""SIPp and session timers (RFC 4028): calls of 100 seconds at an interval of 90, whoever refreshes, and 422."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.interop.peers import sipp as s
from tests.interop.peers.house import House

# The shortest interval there is takes a minute and a half.
pytestmark = [pytest.mark.peers("sipp"), pytest.mark.slow, pytest.mark.rfc(4028)]

TIMER = "Supported: timer\nSession-Expires: 90"
AGREED = "Session-Expires: 90;refresher=uac\nRequire: timer\n"
RESTS_MS = 10_000


def we_refresh(method: str) -> str:
    """SIPp is refreshed twice and hangs up after 100 s."""
    allow = "Allow: INVITE, ACK, BYE, CANCEL" + (", UPDATE" if method == "UPDATE" else "")
    refreshed = s.expect(method, within_ms=47_000, actions=s.must_hold("90;refresher=uac", header="Session-Expires"))
    refreshed += s.respond("200 OK", AGREED, s.offer() if method == "INVITE" else "")
    refreshed += s.expect("ACK") if method == "INVITE" else ""
    return s.scenario(
        s.answered(
            s.offer(),
            s.must_hold("90;refresher=uas", header="Session-Expires"),
            f"{TIMER}\n{allow}\n",
        ),
        refreshed,
        refreshed,
        s.pause(RESTS_MS),
        # Behind a request of the server's, the last To is SIPp's own.
        s.hung_up().replace("[last_To:]", f"To: <{s.TARGET}>[peer_tag_param]"),
        variables="1",
    )


def they_refresh() -> str:
    """SIPp refreshes by UPDATE, then by re-INVITE, and hangs up after 100 s."""
    headers = f"{TIMER};refresher=uac\n"
    agreed = s.must_hold("90;refresher=uac", header="Session-Expires")
    return s.scenario(
        s.answered(s.offer(), agreed, headers),
        s.pause(45_000),
        s.request("UPDATE", cseq=2, headers=headers),
        s.receive(200, actions=agreed),
        s.pause(45_000),
        s.request("INVITE", cseq=3, sdp=s.offer(), headers=headers),
        s.PROVISIONAL,
        s.receive(200, actions=agreed),
        s.request("ACK", cseq=3, retrans=False),
        s.pause(RESTS_MS),
        s.hung_up(4),
        variables="1",
    )


def test_a_call_of_100_seconds(house: House, tmp_path: Path) -> None:
    """Three at once: we refresh by UPDATE, by re-INVITE, and SIPp does."""
    texts = {"update": we_refresh("UPDATE"), "invite": we_refresh("INVITE"), "theirs": they_refresh()}
    with (
        s.sipp(tmp_path / "update", house.server.address, text=texts["update"], service="echo", within_s=115) as update,
        s.sipp(tmp_path / "invite", house.server.address, text=texts["invite"], service="echo", within_s=115) as invite,
        s.sipp(tmp_path / "theirs", house.server.address, text=texts["theirs"], service="echo", within_s=115) as theirs,
    ):
        for run in (update, invite, theirs):
            run.finish(within_s=120)


def test_an_interval_that_is_too_short(house: House, tmp_path: Path) -> None:
    headers = "Supported: timer\nSession-Expires: 60\n"
    refused = s.refused(422, s.offer(), s.must_hold("90", header="Min-SE"))
    text = s.scenario(refused.replace("Max-Forwards: 70\n", f"Max-Forwards: 70\n{headers}", 1), variables="1")
    with s.sipp(tmp_path / "short", house.server.address, text=text, service="echo") as run:
        run.finish()
