"""SIPp over UDP, TCP and IPv6: hold, resume, a codec that changes, and hang-up from each side."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import attrs
import pytest

from tests.interop.peers import sipp as s
from tests.interop.peers.captures import Capture, rtp_packets, streams
from tests.interop.peers.house import GOODBYE
from tests.interop.peers.programs import SOUNDS, require
from tests.interop.peers.server import ScriptedBot, Server, bot_flow, scripted_bot, server
from tests.interop.peers.signals import encode, read_wav

# A call takes seconds, and programs take time to start.
pytestmark = [pytest.mark.peers("sipp"), pytest.mark.slow]

LISTEN = (
    "udp:PORT:interface=127.0.0.1",
    "tcp:PORT:interface=127.0.0.1",
    "udp:PORT:interface=[::1]",
    "tcp:PORT:interface=[::1]",
)


@attrs.frozen
class Endpoint:
    """A server on four listeners, and the bot that its calls reach."""

    server: Server
    bot: ScriptedBot


@attrs.frozen
class Way:
    """One way to the server."""

    name: str
    transport: str
    host: str

    def address(self, endpoint: Endpoint) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{endpoint.server.sip_port}"


WAYS = [
    Way("udp", "u1", "127.0.0.1"),
    Way("tcp", "t1", "127.0.0.1"),
    Way("tcp-each", "tn", "127.0.0.1"),
    Way("udp6", "u1", "::1"),
    Way("tcp6", "t1", "::1"),
]
EVERY_WAY = pytest.mark.parametrize("way", WAYS, ids=[way.name for way in WAYS])


@pytest.fixture(scope="module")
def _endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    require(SOUNDS)
    folder = tmp_path_factory.mktemp("endpoint")
    with ExitStack() as stack:
        bot = stack.enter_context(scripted_bot(folder))
        flows = {"goodbye": GOODBYE, **{name: bot_flow(f"{bot.url}/{name}") for name in ("echo", "listen", "close")}}
        routes = [(name, name) for name in flows]
        one = stack.enter_context(server(folder, flows, routes, listen=LISTEN, media='listen_v6 = "::1"'))
        yield Endpoint(one, bot)


@pytest.fixture
def endpoint(_endpoint: Endpoint) -> Iterator[Endpoint]:
    _endpoint.server.check()
    yield _endpoint
    _endpoint.server.check()


@pytest.fixture
def sounds(tmp_path: Path) -> dict[int, Path]:
    """Speech as SIPp's rtp_stream reads it, by payload type."""
    paths = {0: tmp_path / "speech.ul", 8: tmp_path / "speech.al"}
    for payload_type, path in paths.items():
        path.write_bytes(encode(read_wav(SOUNDS / "demo-congrats.wav"), payload_type))
    return paths


def changed(cseq: int, sdp: str, answer: str, number: int) -> str:
    """A re-INVITE, its 200 with an answer that holds the pattern, and the ACK."""
    return (
        s.request("INVITE", cseq=cseq, sdp=sdp)
        + s.PROVISIONAL
        + s.receive(200, actions=s.must_hold(answer, number=number))
        + s.request("ACK", cseq=cseq, retrans=False)
    )


def play(path: Path, payload_type: int) -> str:
    name = {0: "PCMU", 8: "PCMA"}[payload_type]
    return f'<nop><action><exec rtp_stream="{path},-1,{payload_type},{name}/8000"/></action></nop>\n'


def ended(endpoint: Endpoint, after: int, calls: int = 1) -> list[str]:
    """The server's own lines about the ends of the calls that began behind line ``after``."""
    found: list[str] = []
    position = after
    for _ in range(calls):
        endpoint.server.program.wait_for(r"leg_ended", after=position)
        lines = endpoint.server.program.lines
        position = next(at for at in range(position, len(lines)) if "leg_ended" in lines[at]) + 1
        found.append(lines[position - 1])
    return found


def received(line: str) -> int:
    """The RTP packets that the leg of this line was sent."""
    match = re.search(r" rtp_received=(\d+)", line)
    assert match is not None, line
    return int(match[1])


@pytest.mark.rfc(3264)
@EVERY_WAY
def test_hold_resume_and_another_codec(endpoint: Endpoint, sounds: dict[int, Path], tmp_path: Path, way: Way) -> None:
    """PCMU, held by sendonly and by inactive and by 0.0.0.0, resumed, then PCMA; SIPp hangs up."""
    held = s.offer(version=2).replace("a=sendrecv", "a=sendonly")
    quiet = s.offer(version=3).replace("a=sendrecv", "a=inactive")
    nowhere = re.sub(r"c=IN .*\n", "c=IN IP4 0.0.0.0\n", s.offer(version=4))
    a_law = s.offer(
        "8 101",
        attributes="a=rtpmap:8 PCMA/8000\na=rtpmap:101 telephone-event/8000\na=fmtp:101 0-16\na=ptime:20\na=sendrecv",
        version=6,
    )
    text = s.scenario(
        s.answered(s.offer(), s.must_hold("m=audio [0-9]+ RTP/AVP 0 101", number=1)),
        play(sounds[0], 0),
        s.pause(600),
        changed(2, held, "a=recvonly", 2),
        s.pause(300),
        changed(3, quiet, "a=inactive", 3),
        s.pause(300),
        changed(4, nowhere, "a=recvonly", 4),
        s.pause(300),
        changed(5, s.offer(version=5), "a=sendrecv", 5),
        s.pause(300),
        changed(6, a_law, "m=audio [0-9]+ RTP/AVP 8 101", 6),
        s.STOP_PLAYING,
        play(sounds[8], 8),
        s.pause(600),
        s.STOP_PLAYING,
        s.hung_up(7),
        variables="1,2,3,4,5,6",
    )
    after = len(endpoint.server.program.lines)
    with s.sipp(
        tmp_path / "uac", way.address(endpoint), text=text, service="echo", host=way.host, transport=way.transport
    ) as run:
        run.finish()
    (line,) = ended(endpoint, after)
    assert received(line) > 80, line
    invited = next(line for line in endpoint.server.program.lines[after:] if "invite_received" in line)
    assert invited.endswith(f"transport={'udp' if way.transport == 'u1' else 'tcp'}"), invited


@pytest.mark.rfc(3264)
@pytest.mark.peers("tcpdump")
def test_what_is_sent_while_it_is_held(endpoint: Endpoint, sounds: dict[int, Path], tmp_path: Path) -> None:
    """On the wire: not a packet while the caller takes none, and another codec from the answer on."""
    quiet = s.offer(version=2).replace("a=sendrecv", "a=inactive")
    a_law = s.offer("8", attributes="a=rtpmap:8 PCMA/8000\na=ptime:20\na=sendrecv", version=3)
    text = s.scenario(
        s.answered(s.offer()),
        play(sounds[0], 0),
        s.pause(1000),
        changed(2, quiet, "a=inactive", 1),
        s.pause(1500),
        changed(3, a_law, "m=audio [0-9]+ RTP/AVP 8", 2),
        s.pause(1000),
        s.hung_up(4),
        variables="1,2",
    )
    one = endpoint.server
    with (
        Capture(tmp_path, one.first_port, one.last_port) as capture,
        s.sipp(tmp_path / "uac", one.address, text=text, service="echo", transport="t1") as run,
    ):
        run.finish()
        packets = list(rtp_packets(capture.datagrams()))
    back = [packet for packet in packets if one.first_port <= packet.source[1] <= one.last_port]
    gaps = [later.time_s - before.time_s for before, later in itertools.pairwise(back)]
    assert 1.3 < max(gaps) < 1.9, "one silence, as long as the hold"
    assert sorted(gaps)[-2] < 0.2
    numbers = [packet.payload_type for packet in back]
    changes = numbers.index(8)
    assert set(numbers[:changes]) == {0} and set(numbers[changes:]) == {8}
    assert gaps.index(max(gaps)) == changes - 1
    (stream,) = streams(back)
    assert stream.missing == 0


@pytest.mark.rfc(3261)
@EVERY_WAY
def test_the_server_hangs_up(endpoint: Endpoint, tmp_path: Path, way: Way) -> None:
    bye = '<recv request="BYE" timeout="15000"/>\n' + s.respond("200 OK")
    text = s.scenario(s.answered(s.offer()), bye)
    with s.sipp(
        tmp_path / "uac",
        way.address(endpoint),
        text=text,
        service="goodbye",
        host=way.host,
        transport=way.transport,
        calls=3,
        rate=10,
        media_ports=8,
    ) as run:
        run.finish()


@pytest.mark.rfc(3264)
@pytest.mark.rfc(3261)
@EVERY_WAY
def test_offers_that_are_left_to_the_server(endpoint: Endpoint, tmp_path: Path, way: Way) -> None:
    """INVITE and re-INVITE without SDP: the 200 holds the offer and the ACK the answer (RFC 3261 section 13.2.1)."""
    answer = s.offer("0", attributes="a=rtpmap:0 PCMU/8000\na=sendrecv")
    first = s.request("INVITE", cseq=1, in_dialog=False) + s.PROVISIONAL
    first += s.receive(200, rrs=True, actions=s.must_hold("m=audio [0-9]+ RTP/AVP 0 8 101", number=1))
    again = s.request("INVITE", cseq=2) + s.PROVISIONAL
    again += s.receive(200, actions=s.must_hold("m=audio [0-9]+ RTP/AVP 0 8 101", number=2))
    text = s.scenario(
        first,
        s.request("ACK", cseq=1, sdp=answer, retrans=False),
        s.pause(300),
        again,
        s.request("ACK", cseq=2, sdp=answer, retrans=False),
        s.pause(300),
        s.hung_up(3),
        variables="1,2",
    )
    with s.sipp(
        tmp_path / "uac", way.address(endpoint), text=text, service="listen", host=way.host, transport=way.transport
    ) as run:
        run.finish()


@pytest.mark.rfc(3264)
def test_a_stream_that_is_disabled_and_another_media(endpoint: Endpoint, tmp_path: Path) -> None:
    """A video that is declined, then audio of port 0: the call stays, and its audio comes back."""
    more = s.offer() + "m=video 50000 RTP/AVP 99\na=rtpmap:99 H264/90000\n"
    text = s.scenario(
        s.answered(more, s.must_hold("m=video 0 RTP/AVP 99", number=1)),
        s.pause(300),
        changed(2, re.sub(r"m=audio \S+", "m=audio 0", more.replace(" 1 IN ", " 2 IN ")), "m=audio 0 RTP/AVP", 2),
        s.pause(300),
        changed(3, more.replace(" 1 IN ", " 3 IN "), "m=audio [1-9][0-9]* RTP/AVP", 3),
        s.pause(300),
        s.hung_up(4),
        variables="1,2,3",
    )
    with s.sipp(tmp_path / "uac", endpoint.server.address, text=text, service="listen") as run:
        run.finish()


@pytest.mark.rfc(3261)
def test_many_calls_over_one_connection(endpoint: Endpoint, tmp_path: Path) -> None:
    text = s.scenario(s.answered(s.offer()), s.pause(500), s.hung_up())
    with s.sipp(
        tmp_path / "uac",
        endpoint.server.address,
        text=text,
        service="listen",
        transport="t1",
        calls=20,
        rate=20,
        media_ports=8,
    ) as run:
        run.finish()
