"""The 49 messages of RFC 4475, what may be answered to each, and one table of what a whole server does answer.

    python -m tests.sip.torture

Each message goes four ways: over UDP and TCP, from an address that a trunk has and from a stranger's. What cannot be
cut out of a stream ends its connection. After each one an OPTIONS from elsewhere is answered.
"""

from __future__ import annotations

import csv
import itertools
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import attrs
from twisted.internet.protocol import ClientFactory

from agentstream.sip.framing import MESSAGE_S, Framer
from agentstream.testing.server import ServerUnderTest
from agentstream.testing.sip_peer import SipPeer, read
from tests.sip.far_end import FarEnd

FOLDER = Path(__file__).resolve().parents[3] / "shared" / "sip-torture"

ALLOWED: dict[str, frozenset[str]] = {
    answer: frozenset(statuses.split())
    for answer, statuses in {
        "dropped": "",
        "481|2xx|4xx but not 400": "481",
        "405|501": "405 501",
        "not 400": "200 405",
        "exactly one answer, to the REGISTER; what follows it in the datagram is ignored": "405",
        "400": "400",
        "400|501": "400 501",
        "505": "505",
        "416": "416",
        "406": "406",
        "420 with Unsupported": "420",
        "415 with Accept": "415",
        "200 (a UAS answers; only a proxy says 483)": "200",
        "any answer but 400": "405",
        "400, or the method's own refusal": "400 405",
    }.items()
}
"""The statuses of ours by what expected.tsv allows; the answers that it leaves open are these:"""
ANY = frozenset({"200", "400", "405"})

WAYS = ("udp", "tcp", "udp stranger", "tcp stranger")
FRIENDS, STRANGERS = "127.0.1.", "127.0.2."
"""Networks with an address for each message."""
OPEN_END = "closed"


@attrs.frozen
class Message:
    """One row of the RFC.

    :ivar answer: what expected.tsv allows.
    """

    name: str
    section: str
    kind: str
    answer: str
    data: bytes

    @property
    def allowed(self) -> frozenset[str]:
        """The final statuses that a server of ours may answer to a friend; none for what has no answer."""
        return ALLOWED.get(self.answer, ANY)

    @property
    def is_framed(self) -> bool:
        """A stream carries it, whole and alone."""
        framer = Framer()
        framer.receive(self.data, 0.0)
        return framer.messages == [self.data] and framer.failure is None

    def is_right(self, way: str, got: tuple[str, ...]) -> bool:
        """Whether these final statuses (and perhaps the end of the connection) may be the answer."""
        finals = [one for one in got if one != OPEN_END]
        allowed = self.allowed
        if way.endswith("stranger") and allowed:
            allowed = frozenset({"400"}) if allowed == {"400"} else frozenset({"400", "403"})
        if way.startswith("tcp") and not self.is_framed:
            # What a stream cannot tell from the next message is its end, whatever was answered before.
            return OPEN_END in got and set(finals) <= {*allowed, "400"}
        return OPEN_END not in got and (len(finals) == 1 and finals[0] in allowed if allowed else not finals)


def messages() -> list[Message]:
    """All 49, in the RFC's order; FileNotFoundError where the folder is not there."""
    with (FOLDER / "expected.tsv").open() as table:
        return [
            Message(
                row["file"], row["rfc4475"], row["class"], row["answer"], (FOLDER / f"{row['file']}.dat").read_bytes()
            )
            for row in csv.DictReader(table, delimiter="\t")
        ]


class Carrier(Protocol):
    """Takes a message to a server and gives what came back."""

    def send(self, data: bytes, way: str, host: str, is_ended: bool) -> list[bytes]:
        """Everything that was answered, and b"" at the end where the connection was closed for it.

        :param is_ended: wait until the connection is closed, for longer than a message may take.
        """
        ...

    def is_answering(self) -> bool:
        """Whether an OPTIONS of a third party gets its 200."""
        ...


def answers_to(message: Message, way: str, carrier: Carrier, number: int) -> tuple[str, ...]:
    """The final statuses that come back, once each; ``closed`` is among them where the connection was closed."""
    host = f"{STRANGERS if way.endswith('stranger') else FRIENDS}{number}"
    got: dict[bytes, str] = {}
    for data in carrier.send(message.data, way, host, way.startswith("tcp") and not message.is_framed):
        if not data:
            got[data] = OPEN_END
        elif data.startswith(b"SIP/2.0 "):
            status = data.split(b" ", 2)[1].decode()
            # A 2xx is repeated until somebody acknowledges it.
            if status >= "200":
                got.setdefault(data, status)
    return tuple(got.values())


CONFIG = {
    "trunk": [{"name": "friends", "address": [f"{FRIENDS}0/24", "127.0.0.1"]}],
    "sip": {"listen": ["udp:5060:interface=127.0.0.1", "tcp:5060:interface=127.0.0.1"]},
    "media": {"max_calls": 64, "ports": "20000-20999"},
}
FLOW = {"start": "say", "step": {"say": {"applet": "play", "file": "hello.wav"}}}


class MemoryCarrier:
    """To a whole server in memory, on a clock."""

    def __init__(self, server: ServerUnderTest) -> None:
        self.server = server
        self._pings = itertools.count()
        self._sent: list[tuple[bytes, tuple[str, int]]] = []
        network = server.reactor.network
        deliver = network.send

        def send(data: bytes, source: tuple[str, int], destination: tuple[str, int]) -> None:
            if source == server.address:
                self._sent.append((data, destination))
            deliver(data, source, destination)

        network.send = send  # type: ignore[method-assign]

    def send(self, data: bytes, way: str, host: str, is_ended: bool) -> list[bytes]:
        server = self.server
        self._sent.clear()
        if way.startswith("udp"):
            server.reactor.network.send(data, (host, 5060), server.address)
            server.advance(0.1)
            return [sent for sent, destination in self._sent if destination[0] == host]
        stream = _Stream()
        server.reactor.connectTCP(*server.address, ClientFactory.forProtocol(lambda: stream), bindAddress=(host, 0))
        server.advance(0.02)
        assert stream.transport is not None
        stream.transport.write(data)
        server.advance(0.1)
        if is_ended:
            server.advance(MESSAGE_S + 2.0)
        if not stream.is_closed:
            stream.transport.loseConnection()
            server.advance(0.02)
            return stream.messages()
        return [*stream.messages(), b""]

    def is_answering(self) -> bool:
        peer = SipPeer(f"{FRIENDS}250", call_id=f"ping-{next(self._pings)}")
        self._sent.clear()
        self.server.reactor.network.send(peer.request("OPTIONS"), (peer.host, peer.port), self.server.address)
        self.server.advance(0.02)
        return [read(data).status for data, _ in self._sent if peer.call_id.encode() in data] == [200]


class _Stream(FarEnd):
    """A peer's end of a connection."""

    def messages(self) -> list[bytes]:
        """What came, cut at each start line: all of it is answers without bodies, or with SDP."""
        return [b"SIP/2.0 " + part for part in self.data.split(b"SIP/2.0 ")[1:] if part[:3].isdigit()]


@contextmanager
def memory_carrier() -> Iterator[MemoryCarrier]:
    """A server in memory, which must have nothing left when it stops."""
    from agentstream.testing.phone import speech
    from tests.server.kit import samples

    with ServerUnderTest(FLOW, CONFIG, sounds={"hello.wav": samples(speech(200))}) as server:
        yield MemoryCarrier(server)
        # Nobody acknowledges a 200 or answers a BYE: that takes as long as the timers of RFC 3261 say.
        server.service.switchboard.hang_up_all("the table is done")
        server.advance(70)


@attrs.define
class Table:
    """What was sent back.

    :ivar got: final statuses by message and way. :ivar wrong: a sentence for each that is not allowed.
    """

    messages: list[Message]
    got: dict[tuple[str, str], tuple[str, ...]] = attrs.Factory(dict)
    wrong: list[str] = attrs.Factory(list)

    def fill(self, way: str, carrier: Carrier) -> None:
        """Send all of them this way. A server takes one way only: by another, the same messages are repetitions."""
        for number, message in enumerate(self.messages, 1):
            got = self.got[message.name, way] = answers_to(message, way, carrier, number)
            if not message.is_right(way, got):
                answer = " ".join(got) or "nothing"
                self.wrong.append(f"{message.name} over {way}: {answer}, where {message.answer} is allowed")
            if not carrier.is_answering():
                self.wrong.append(f"behind {message.name} over {way} OPTIONS is not answered")

    def lines(self) -> list[str]:
        """A heading and a line for each message."""
        cells = [("section", "message", "allowed", *WAYS)]
        for one in self.messages:
            got = [" ".join(self.got.get((one.name, way), ())) or "-" for way in WAYS]
            cells.append((one.section, one.name, " ".join(sorted(one.allowed)) or "-", *got))
        return ["  ".join(f"{cell:<12}" for cell in row).rstrip() for row in cells]


def main() -> int:
    """Print the table; 1 where something is not allowed, 2 where the messages are not there."""
    if not FOLDER.is_dir():
        print(f"the messages are not there: {FOLDER}")
        return 2
    table = Table(messages())
    for way in WAYS:
        with memory_carrier() as carrier:
            table.fill(way, carrier)
    print(*table.lines(), "", sep="\n")
    print(
        f"{len(table.messages)} messages, {len(table.wrong)} answers outside of what is allowed", *table.wrong, sep="\n"
    )
    return 1 if table.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
