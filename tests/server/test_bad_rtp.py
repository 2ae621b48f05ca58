"""RTP as nobody should send it, in whole calls: each kind is counted by its name, and the call beside it is untouched.

The other caller talks to an echo meanwhile. Each of its packets arrives on the 20 ms grid, numbered without a gap, and
what it hears is byte by byte what it says.
"""

from __future__ import annotations

import gc
import random
import tracemalloc
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import attrs
import pytest

from agentstream.media.arrivals import STRAY
from agentstream.media.ports import Address
from agentstream.rtp import packet as rtp
from agentstream.rtp.matrix import Reason
from agentstream.rtp.packet import Packet
from agentstream.testing.bots import Echo, Session
from agentstream.testing.phone import Phone, speech
from agentstream.testing.server import ServerUnderTest
from tests.media.kit import make_world
from tests.server.kit import TICK_S, bot_flow

pytestmark = pytest.mark.rfc(3550)

FLOWS = [bot_flow(), {**bot_flow(url="ws://127.0.0.1:5002/"), "name": "other"}]
CONFIG = {
    "route": [{"to": "1", "flow": "main"}, {"to": "2", "flow": "other"}],
    # Nothing is left out of the good call to make its delay shorter.
    "media": {"playout_ms": 60, "playout_min_ms": 60, "playout_max_ms": 60},
}

OVERSIZE = Reason.OVERSIZE.sentence
NOT_NEGOTIATED = "The payload type was not negotiated."

OURS = [tracemalloc.Filter(True, f"*/agentstream/{room}/*") for room in ("media", "rtp", "audio")]

Counts = dict[str, Any]
Datagrams = Iterator[bytes]


def ordinary(number: int, ssrc: int = 0x5EED, **changes: Any) -> Packet:
    """Packet ``number`` of a stream of tone."""
    fields: Counts = {
        "payload_type": 0,
        "sequence_number": (500 + number) & 0xFFFF,
        "timestamp": (160 * number) & 0xFFFFFFFF,
        "ssrc": ssrc,
        "payload": bytes([0x20 + number % 7]) * 160,
    }
    return Packet(**(fields | changes))


def wrong_versions() -> Datagrams:
    for number in range(200):
        data = bytearray(ordinary(number).serialise())
        data[0] = data[0] & 0x3F | (number % 4 if number % 4 != 2 else 0) << 6
        yield bytes(data)


def lying_lengths() -> Datagrams:
    """Contributing sources, an extension and padding that are longer than the packet, one after another."""
    for number in range(201):
        data = bytearray(ordinary(number, payload=bytes([0x20] * 10)).serialise())
        data[0] |= (0x0F, 0x10, 0x20)[number % 3]
        data[14:16] = (1000).to_bytes(2, "big")  # words of the extension
        data[-1] = 11  # the padding
        yield bytes(data)


def oversize() -> Datagrams:
    for number in range(200):
        yield ordinary(number).serialise() + bytes(65_000 - 172)


def one_byte() -> Datagrams:
    for number in range(200):
        yield bytes([number])


def random_types() -> Datagrams:
    chance = random.Random(5)
    kinds = [kind for kind in range(1, 128) if kind not in (8, 13, 101) and not 64 <= kind < 96]
    for number in range(200):
        yield ordinary(number, payload_type=chance.choice(kinds), marker=bool(number % 2)).serialise()


def sequence_jumps() -> Datagrams:
    """Back and forth, so that no number confirms the one before it."""
    for number in range(200):
        yield ordinary(number, sequence_number=(number + 30_000 * (number % 2)) & 0xFFFF).serialise()


def interleaved_sources() -> Datagrams:
    for number in range(200):
        ssrc = (0xAAAA, 0xBBBB)[number % 2]
        yield ordinary(number // 2, ssrc, timestamp=(160 * (number // 2) + ssrc * 77_777) & 0xFFFFFFFF).serialise()


def backward_timestamps() -> Datagrams:
    for number in range(200):
        yield ordinary(number, timestamp=-160 * number & 0xFFFFFFFF).serialise()


@attrs.frozen
class Kind:
    """One kind of bad RTP.

    :ivar datagrams: that the bad caller sends, and ``a_tick`` how many of them in each tick.
    :ivar check: told the fields of its ``leg_ended``, says what is wrong with them: nothing.
    """

    name: str
    datagrams: Callable[[], Datagrams]
    check: Callable[[Counts], object]
    a_tick: int = 1


def all_refused(*sentences: str) -> Callable[[Counts], object]:
    """Every packet is refused, as many for each of these reasons, and none counts as received."""

    def check(fields: Counts) -> None:
        refused = fields["rtp_refused"]
        assert set(refused) == set(sentences) and len(set(refused.values())) == 1
        assert sum(refused.values()) in (200, 201)
        assert (fields["rtp_received"], fields["rtp_lost"], fields["rtp_late"]) == (0, 0, 0)

    return check


def jumps_counted(fields: Counts) -> None:
    # By RFC 3550 A.1 a number that nothing confirms is no packet of the stream; the timestamps say where it sounds.
    assert (fields["rtp_received"], fields["rtp_misplaced"]) == (100, 100)
    assert (fields["rtp_concealed_ms"], fields["rtp_late"], fields["rtp_refused"]) == (0, 0, {})


def others_counted(fields: Counts) -> None:
    # The first is heard; of the other the last packet may yet be followed by one that proves it.
    assert fields["rtp_refused"] == {STRAY: 99}
    assert (fields["rtp_received"], fields["rtp_concealed_ms"]) == (200, 0)


def backward_counted(fields: Counts) -> None:
    assert fields["rtp_received"] == 200 and fields["rtp_lost"] == 0
    assert fields["rtp_late"] + fields["rtp_duplicate"] + sum(fields["rtp_refused"].values()) > 50


KINDS = (
    Kind("wrong version", wrong_versions, all_refused(rtp.WRONG_VERSION)),
    Kind("lying lengths", lying_lengths, all_refused(rtp.CSRC_TOO_LONG, rtp.EXTENSION_TOO_LONG, rtp.PADDING_TOO_LONG)),
    Kind("65,000 bytes", oversize, all_refused(OVERSIZE)),
    Kind("1 byte", one_byte, all_refused(rtp.TOO_SHORT)),
    Kind("random payload types", random_types, all_refused(NOT_NEGOTIATED)),
    Kind("sequence jumps", sequence_jumps, jumps_counted),
    Kind("two SSRCs", interleaved_sources, others_counted, a_tick=2),
    Kind("backward timestamps", backward_timestamps, backward_counted),
)


class TwoCalls:
    """One caller who sends what it likes, and one who talks to an echo."""

    def __init__(self, server: ServerUnderTest) -> None:
        self.server = server
        server.bot(Session)
        server.bot(Echo, port=5002)
        self.bad: Phone = server.call("1", host="127.0.0.2")
        self.good: Phone = server.call("2", host="127.0.0.3")
        server.advance(0.1)

    def run(self, datagrams: Datagrams, a_tick: int, stranger: Address | None = None) -> Counts:
        """Send all of it, so many a tick, beside a good call; gives the fields of the bad one's ``leg_ended``.

        :param stranger: who sends it in place of the bad caller.
        """
        server, good, waiting = self.server, self.good, list(datagrams)
        answer = self.bad.answer
        assert answer is not None
        said = speech(20 * (len(waiting) // a_tick))
        begin = len(good.arrivals)
        good.say(said)
        while waiting:
            for data in waiting[:a_tick]:
                server.reactor.network.send(data, stranger or self.bad.rtp_address, (answer.host, answer.port))
            del waiting[:a_tick]
            server.advance(TICK_S)
        server.advance(0.6)
        self.assert_undisturbed(begin, said)
        self.bad.hang_up()
        server.advance(0.1)
        return dict(server.events("leg_ended")[0].fields)

    def assert_undisturbed(self, begin: int, said: bytes) -> None:
        arrivals = self.good.arrivals[begin:]
        first = arrivals[0]
        for number, arrival in enumerate(arrivals):
            assert arrival.at == pytest.approx(first.at + TICK_S * number, abs=1e-9), "on the grid"
            assert arrival.packet.sequence_number == (first.packet.sequence_number + number) & 0xFFFF
            assert arrival.packet.timestamp == (first.packet.timestamp + 160 * number) & 0xFFFFFFFF
        assert self.good.heard_sound() == said, "byte by byte"


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_each_kind_is_counted_and_the_other_call_is_not_touched(kind: Kind) -> None:
    with ServerUnderTest(FLOWS, CONFIG) as server:
        kind.check(TwoCalls(server).run(kind.datagrams(), kind.a_tick))


@pytest.mark.parametrize("is_stranger", [False, True], ids=["caller", "stranger"])
def test_two_thousand_packets_a_second(is_stranger: bool) -> None:
    """Beyond what a tick reads they are thrown away unread, and that is counted, too."""
    with ServerUnderTest(FLOWS, CONFIG) as server:
        flood = (ordinary(number).serialise() for number in range(4000))
        fields = TwoCalls(server).run(flood, 40, ("127.0.0.66", 4000) if is_stranger else None)
        heard = "rtp_foreign" if is_stranger else "rtp_received"
        assert fields[heard] == 8 * 100
        assert fields["rtp_discarded"] == 32 * 100


def test_nothing_grows_however_often_it_comes() -> None:
    """What the media plane holds behind a round of all kinds, it holds behind each further one."""
    world = make_world(4)
    far, other = world.call(), world.call()
    far.leg.hear(20, lambda chunk, at: None)
    other.leg.hear(20, lambda chunk, at: None)
    datagrams = [data for kind in KINDS for data in islice(kind.datagrams(), 60)]

    def hold() -> int:
        for number, data in enumerate(datagrams):
            far.send_raw(data)
            if number % 7 == 0:
                other.say(b"\x31" * 160)
                world.ticks(1)
        world.ticks(10)
        # What the network and the far ends note is theirs.
        far.got.clear()
        other.got.clear()
        world.network.unreachable.clear()
        for path in world.network._paths.values():
            path.sent.clear()
        gc.collect()
        return sum(trace.size for trace in tracemalloc.take_snapshot().filter_traces(OURS).traces)

    tracemalloc.start()
    try:
        hold()
        hold()
        sizes = [hold() for _ in range(3)]
    finally:
        tracemalloc.stop()
    # A round has 480 packets, and the least of objects has 28 bytes; counters become larger numbers.
    assert sizes[-1] - sizes[0] < 2048, sizes
    world.plane.stop()
