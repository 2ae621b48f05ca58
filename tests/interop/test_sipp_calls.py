"""SIPp calls: its own scenario with 30 ms PCMA packets, and ours for each way in which a call can begin and end."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.interop.peers import sipp as s
from tests.interop.peers.captures import Capture, rtp_packets, streams, write_rtp_pcap
from tests.interop.peers.house import House
from tests.interop.peers.server import bot_flow, scripted_bot, server
from tests.interop.peers.signals import encode, read_wav

# A call takes seconds, and programs take time to start.
pytestmark = [pytest.mark.peers("sipp", "tcpdump"), pytest.mark.slow]


@pytest.fixture
def ulaw(tmp_path: Path, speech: dict[str, Path]) -> Path:
    """Speech as SIPp's rtp_stream reads it."""
    path = tmp_path / "speech.ul"
    path.write_bytes(encode(read_wav(speech["congrats"]), 0))
    return path


def test_sipp_scenario_of_its_own_with_30_ms_alaw_packets(house: House, tmp_path: Path) -> None:
    """-sn uac_pcap offers PCMA and sends g711a.pcap: 30 ms packets, then a digit as RFC 2833 packets."""
    with (
        Capture(tmp_path, house.server.first_port, house.server.last_port) as capture,
        s.sipp(tmp_path / "uac", house.server.address, builtin="uac_pcap", calls=2, rate=1, media_ports=16) as run,
    ):
        run.finish()
        packets = list(rtp_packets(capture.datagrams()))
    inbound = [
        packet for packet in packets if house.server.first_port <= packet.destination[1] <= house.server.last_port
    ]
    back = streams(packet for packet in packets if packet.source[1] in {one.destination[1] for one in inbound})
    assert {len(packet.payload) for packet in inbound if packet.payload_type == 8} == {240}
    assert len(back) == 2
    for stream in back:
        assert {packet.payload_type for packet in stream.packets} == {8}
        assert {len(packet.payload) for packet in stream.packets} == {160}
        assert any(set(packet.payload) - {0xD5, 0x55} for packet in stream.packets), "no sound came back"
        assert stream.missing == 0


def test_sipp_talks_by_rtp_stream(house: House, ulaw: Path, tmp_path: Path) -> None:
    """Four calls whose RTP leaves from one port: told apart by the ports that they are sent to."""
    text = s.scenario(s.answered(s.offer()), s.play(str(ulaw)), s.pause(3000), s.STOP_PLAYING, s.hung_up())
    with s.sipp(tmp_path / "uac", house.server.address, text=text, calls=4, rate=4) as run:
        run.finish()


def test_sipp_talks_by_pcap_from_a_port_of_its_own(house: House, ulaw: Path, tmp_path: Path) -> None:
    """Symmetric RTP: each call sends from the port that its SDP names."""
    data = ulaw.read_bytes()[:24000]
    pcap = tmp_path / "speech.pcap"
    write_rtp_pcap(pcap, [data[start : start + 160] for start in range(0, len(data), 160)], payload_type=0)
    offer = s.offer(port="[auto_media_port]")
    text = s.scenario(s.answered(offer), s.play(str(pcap)), s.pause(3500), s.hung_up())
    with s.sipp(tmp_path / "uac", house.server.address, text=text, calls=3, rate=3, media_ports=32) as run:
        run.finish()


def test_server_hangs_up_when_the_flow_ends(house: House, ulaw: Path, tmp_path: Path) -> None:
    """The flow plays and hangs up: BYE comes from the server."""
    bye = '<recv request="BYE" timeout="15000"/>\n' + s.respond("200 OK")
    text = s.scenario(s.answered(s.offer()), s.play(str(ulaw)), bye)
    with s.sipp(tmp_path / "uac", house.server.address, text=text, service="goodbye") as run:
        run.finish()


def test_bot_closes_and_the_call_ends(house: House, ulaw: Path, tmp_path: Path) -> None:
    """A bot hangs up by closing its socket: the flow has no next step, so the call ends."""
    bye = '<recv request="BYE" timeout="15000"/>\n' + s.respond("200 OK")
    text = s.scenario(s.answered(s.offer()), s.play(str(ulaw)), bye)
    with s.sipp(tmp_path / "uac", house.server.address, text=text, service="close") as run:
        run.finish()


def test_unknown_number_is_404(house: House, tmp_path: Path) -> None:
    text = s.scenario(s.refused(404, s.offer()))
    with s.sipp(tmp_path / "uac", house.server.address, text=text, service="nobody") as run:
        run.finish()


def test_no_common_codec_is_488_with_a_warning(house: House, tmp_path: Path) -> None:
    """RFC 3261 section 21.4.26: 488 should say in a Warning what was wrong."""
    warning = s.must_hold("30[45] [^ ]+ .+", header="Warning")
    offer = s.offer("9 96", attributes="a=rtpmap:9 G722/8000\na=rtpmap:96 opus/48000/2")
    text = s.scenario(s.refused(488, offer, warning), variables="1")
    with s.sipp(tmp_path / "uac", house.server.address, text=text) as run:
        run.finish()


def test_strangers_are_403(tmp_path: Path) -> None:
    """With a trunk of one address, another address may not call; the trunk may."""
    with (
        scripted_bot(tmp_path) as bot,
        server(
            tmp_path,
            {"listen": bot_flow(f"{bot.url}/listen")},
            [("*", "listen")],
            more='[[trunk]]\nname = "carrier"\naddress = ["127.0.0.3/32"]\n',
        ) as one,
    ):
        with s.sipp(
            tmp_path / "stranger", one.address, text=s.scenario(s.refused(403, s.offer())), host="127.0.0.2"
        ) as run:
            run.finish()
        known = s.scenario(s.answered(s.offer()), s.pause(300), s.hung_up())
        with s.sipp(tmp_path / "carrier", one.address, text=known, host="127.0.0.3") as run:
            run.finish()


def test_full_house_refuses_and_takes_calls_again(tmp_path: Path) -> None:
    """max_calls = 1: the second call is refused with a reason, and when the first has ended a third is answered."""
    with (
        scripted_bot(tmp_path) as bot,
        server(tmp_path, {"listen": bot_flow(f"{bot.url}/listen")}, [("*", "listen")], media="max_calls = 1") as one,
    ):
        short = s.scenario(s.answered(s.offer()), s.pause(300), s.hung_up())
        first = s.scenario(s.answered(s.offer()), s.pause(4000), s.hung_up())
        with s.sipp(tmp_path / "first", one.address, text=first) as holding:
            bot.wait_for("start")
            with s.sipp(tmp_path / "second", one.address, text=s.scenario(s.refused(503, s.offer()))) as run:
                run.finish()
            holding.finish()
        with s.sipp(tmp_path / "third", one.address, text=short) as run:
            run.finish()


def test_hold_and_resume(house: House, ulaw: Path, tmp_path: Path) -> None:
    """A re-INVITE with sendonly is answered recvonly, and the next one resumes the call (RFC 3264 section 8.4)."""
    hold = s.offer(version=2).replace("a=sendrecv", "a=sendonly")
    again = s.offer(version=3)
    text = s.scenario(
        s.answered(s.offer()),
        s.play(str(ulaw)),
        s.pause(1000),
        s.request("INVITE", cseq=2, sdp=hold),
        s.PROVISIONAL,
        s.receive(200, actions=s.must_hold("a=recvonly", number=1)),
        s.request("ACK", cseq=2, retrans=False),
        s.pause(500),
        s.request("INVITE", cseq=3, sdp=again),
        s.PROVISIONAL,
        s.receive(200, actions=s.must_hold("a=sendrecv", number=2)),
        s.request("ACK", cseq=3, retrans=False),
        s.pause(500),
        s.hung_up(4),
        variables="1,2",
    )
    with s.sipp(tmp_path / "uac", house.server.address, text=text) as run:
        run.finish()


RINGING = '''\
"""Keeps a caller waiting and never answers."""

import attrs
from twisted.internet.defer import Deferred
from zope.interface import implementer

from agentstream.interfaces import Applet, IRun, Outcome


@attrs.frozen
class Options:
    """Nothing to set."""


@implementer(IRun)
class Run:
    def start(self):
        self.over = Deferred()
        return self.over

    def stop(self, reason):
        self.over.callback("done")


ringing = Applet(
    name="ringing",
    options=Options,
    run=lambda call, options: Run(),
    outcomes=(Outcome("done", "The caller gave up."),),
    needs_answer=False,
)
'''


def test_cancel_before_the_answer(tmp_path: Path) -> None:
    """CANCEL is answered 200 and its INVITE 487, while a drop-in of the operator's keeps the caller waiting."""
    (tmp_path / "drop_ins").mkdir()
    (tmp_path / "drop_ins" / "ringing.py").write_text(RINGING)
    flow = 'name = "NAME"\nstart = "wait"\n[step.wait]\napplet = "ringing"\n'
    text = s.scenario(
        s.request("INVITE", cseq=1, sdp=s.offer(), in_dialog=False),
        s.receive(100),
        s.pause(200),
        # The branch of the INVITE, counted back over the messages of this scenario.
        s.request("CANCEL", cseq=1, in_dialog=False).replace("[branch]", "[branch-3]"),
        s.receive(180, optional=True),
        s.receive(200),
        s.receive(487),
        s.request("ACK", cseq=1, retrans=False).replace("[branch]", "[branch-7]").replace("[next_url]", s.TARGET),
    )
    with (
        server(tmp_path, {"wait": flow}, [("*", "wait")], more='[applets]\npath = ["drop_ins"]\n') as one,
        s.sipp(tmp_path / "uac", one.address, text=text, calls=3, rate=20) as run,
    ):
        run.finish()
