"""baresip changes from PCMU to PCMA in mid-call: the server offers its codecs anew, the phone follows their order."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from tests.interop.peers import report
from tests.interop.peers.baresip import baresip
from tests.interop.peers.captures import Capture, Stream, rtp_packets, streams
from tests.interop.peers.programs import SOUNDS
from tests.interop.peers.server import Server, scripted_bot, server
from tests.interop.peers.signals import Samples, linear

pytestmark = [pytest.mark.peers("baresip", "tcpdump"), pytest.mark.slow]

OFFERS_ANEW = '''
"""Offers the codecs of this node again, two seconds into what follows."""

import attrs
from twisted.internet.defer import succeed
from zope.interface import implementer

from agentstream.interfaces import Applet, IRun, Outcome


@attrs.frozen
class Options:
    pass


@implementer(IRun)
@attrs.define
class Run:
    call: object
    options: Options

    def start(self):
        from twisted.internet import reactor

        reactor.callLater(2.0, self.call.call.leg.resume)  # behind the words for applets, as nobody needs it
        return succeed("done")

    def stop(self, reason):
        pass


offers_anew = Applet(name="offers_anew", options=Options, run=Run, outcomes=(Outcome("done"),))
'''

FLOW = """
name = "NAME"
start = "anew"
[step.anew]
applet = "offers_anew"
next = "talk"
[step.talk]
applet = "voicebot"
url = "{url}"
"""


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose own offers have PCMA first; of what others offer it takes what is first there."""
    folder = tmp_path_factory.mktemp("change")
    (folder / "drop_ins").mkdir()
    (folder / "drop_ins" / "offers_anew.py").write_text(OFFERS_ANEW)
    with ExitStack() as stack:
        bot = stack.enter_context(scripted_bot(folder))
        flows = {"anew": FLOW.replace("{url}", f"{bot.url}/echo")}
        media = 'codecs = ["PCMA", "PCMU"]\nplayout_min_ms = 60\nplayout_max_ms = 60'
        more = '[applets]\npath = ["drop_ins"]\n'
        yield stack.enter_context(server(folder, flows, [("*", "anew")], media=media, more=more))


@pytest.mark.rfc(3264)
def test_from_pcmu_to_pcma(node: Server, tmp_path: Path) -> None:
    before = len(node.program.lines)
    with (
        baresip(tmp_path / "phone", SOUNDS / "demo-congrats.wav", "PCMU/8000/1,PCMA") as phone,
        Capture(tmp_path, node.first_port, node.last_port) as capture,
    ):
        phone.dial(node.uri("anew"))
        phone.wait_for("CALL_ESTABLISHED")
        node.program.wait_for("media_agreed codec=PCMA", after=before)
        phone.pass_time(3.0)
        phone.hold()
        node.program.wait_for("media_agreed.* may_send=False may_receive=True", after=before)
        found = streams(rtp_packets(capture.datagrams()))
        phone.resume()
        phone.pass_time(0.5)
        phone.hang_up()
        phone.wait_for("CALL_CLOSED")
    node.program.wait_for("leg_ended", after=before)
    lines = [line.partition("media_agreed codec=")[2][:4] for line in node.program.lines[before:]]
    assert [codec for codec in lines if codec] == ["PCMU", "PCMA", "PCMA", "PCMA"], "and it stays so in its own offers"
    (said,) = (stream for stream in found if node.first_port <= stream.destination[1] <= node.last_port)
    (heard,) = (stream for stream in found if node.first_port <= stream.source[1] <= node.last_port)
    for stream in (said, heard):
        runs = [(number, len(list(run))) for number, run in itertools.groupby(p.payload_type for p in stream.packets)]
        assert [number for number, _ in runs] == [0, 8] and min(size for _, size in runs) > 70, runs
        assert stream.missing == 0
        steps = {(b.timestamp - a.timestamp) % 2**32 for a, b in itertools.pairwise(stream.packets)}
        assert steps == {160}, "one clock, without a step where the codec changes"
    # Of a second around the change, what comes back is what went, but for the steps of the two laws.
    change = 160 * len(said.audio(0))
    went = sound_of(said)[change - 4000 : change + 4000]
    came = sound_of(heard)
    delay = int(np.argmax(np.correlate(came, went, "valid")))
    difference = came[delay : delay + len(went)] - went
    loss_db = 10 * np.log10(np.mean(went**2) / np.mean(difference**2))
    report.figure(f"baresip from PCMU to PCMA: what comes back around the change differs by {-loss_db:.1f} dB")
    assert loss_db > 30
    report.calls_completed("baresip", report.version_of("baresip"))


def sound_of(stream: Stream) -> Samples:
    """All of a stream, each packet by the law that it names."""
    return np.concatenate([linear(packet.payload, packet.payload_type) for packet in stream.audio(0, 8)])
