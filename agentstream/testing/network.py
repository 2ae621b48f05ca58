"""A datagram network in memory, on a Clock: who is bound where, and what each path does to its packets.

Loss, delay and duplication are lists and not chance, so that a test that fails once fails always.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

import attrs
from twisted.internet.interfaces import IReactorTime

from agentstream.errors import ResourceError
from agentstream.media.ports import DISCARDS_A_TICK, PACKET_CAPACITY, Address, Pass

Receiver = Callable[[bytes, Address], None]


@attrs.define
class Path:
    """What happens to the datagrams from one address to another, by their number from 0.

    :ivar lost: numbers of datagrams that never arrive.
    :ivar delays_s: seconds for each number in turn; beyond the end of the list, ``delay_s``.
    :ivar twice: numbers of datagrams that arrive twice.
    :ivar sent: every datagram that was sent, with its time.
    """

    lost: frozenset[int] = attrs.field(default=frozenset(), converter=frozenset)
    delays_s: tuple[float, ...] = attrs.field(default=(), converter=tuple)
    delay_s: float = 0.0
    twice: frozenset[int] = attrs.field(default=frozenset(), converter=frozenset)
    sent: list[tuple[float, bytes]] = attrs.Factory(list)

    def fate(self, number: int) -> list[float]:
        """Seconds until each arrival of this datagram."""
        if number in self.lost:
            return []
        delay = self.delays_s[number] if number < len(self.delays_s) else self.delay_s
        return [delay, delay] if number in self.twice else [delay]


class Network:
    """Every datagram of a test goes through here.

    :param clock: a :class:`twisted.internet.task.Clock`.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._bound: dict[Address, Receiver] = {}
        self._paths: dict[tuple[Address | None, Address], Path] = {}
        self.unreachable: list[tuple[bytes, Address]] = []

    def bind(self, address: Address, receiver: Receiver) -> None:
        """Deliver what is sent to ``address``. Raises OSError where somebody is bound already."""
        if address in self._bound:
            raise OSError(98, "Address already in use")
        self._bound[address] = receiver

    def unbind(self, address: Address) -> None:
        self._bound.pop(address, None)

    def path(self, destination: Address, source: Address | None = None) -> Path:
        """The path to an address, from everywhere or from one source; made at first use, to be changed by the test."""
        return self._paths.setdefault((source, destination), Path())

    def send(self, data: bytes, source: Address, destination: Address) -> None:
        """Send one datagram; it arrives at once where no path says otherwise."""
        path = self._paths.get((source, destination)) or self.path(destination)
        number = len(path.sent)
        path.sent.append((self._clock.seconds(), data))
        for delay in path.fate(number):
            if delay:
                self._clock.callLater(delay, self._deliver, data, source, destination)
            else:
                self._deliver(data, source, destination)

    def _deliver(self, data: bytes, source: Address, destination: Address) -> None:
        receiver = self._bound.get(destination)
        if receiver is None:
            self.unreachable.append((data, destination))
        else:
            receiver(data, source)


class MemoryPorts:
    """The datagram ports of the media tick, on a :class:`Network`; the contract of media/ports.py."""

    def __init__(self, network: Network, host: str, ports: Iterable[int], rows: int, host_v6: str = "") -> None:
        self._network = network
        self._hosts = {":" in address: address for address in (host_v6, host) if address}
        self._free = deque(ports)
        self._ports: dict[int, Address] = {}
        self._queues: dict[int, deque[tuple[bytes, Address]]] = {}
        self._controls: dict[int, deque[tuple[bytes, Address]]] = {}
        # Passes since one found nothing, and what each of them has found: row, whether it is RTCP.
        self._passes = 0
        self._filled: set[tuple[int, bool]] = set()
        self.discarded = [0] * rows
        self.socket_errors = 0

    def open(self, row: int, now: float, *, is_v6: bool = False) -> int:
        if not self._free or is_v6 not in self._hosts:
            raise ResourceError("no RTP port pair is free; widen [media] ports")
        port = self._free.popleft()
        queue: deque[tuple[bytes, Address]] = deque()
        control: deque[tuple[bytes, Address]] = deque()
        here = (self._hosts[is_v6], port)
        self._network.bind(here, lambda data, source: queue.append((data, source)))
        self._network.bind((here[0], port + 1), lambda data, source: control.append((data, source)))
        self._ports[row], self._queues[row], self._controls[row] = here, queue, control
        self.discarded[row] = 0
        return port

    def close(self, row: int, now: float) -> None:
        here = self._ports.pop(row)
        del self._queues[row], self._controls[row]
        self._network.unbind(here)
        self._network.unbind((here[0], here[1] + 1))
        self._free.append(here[1])

    def sender(self, row: int) -> Callable[[memoryview, Address], object]:
        here = self._ports[row]
        return lambda packet, address: self._network.send(bytes(packet), here, address)

    def control_sender(self, row: int) -> Callable[[memoryview, Address], object]:
        host, port = self._ports[row]
        return lambda packet, address: self._network.send(bytes(packet), (host, port + 1), address)

    def settle(self, row: int, source: Address) -> None:
        """There is no cheaper way."""

    def unsettle(self, row: int) -> None:
        """Nothing was settled."""

    def receive(self, inbox: list[memoryview], into: Pass) -> bool:
        into.forget()
        found = {(row, False) for row, queue in self._queues.items() if queue}
        found |= {(row, True) for row, control in self._controls.items() if control}
        self._passes = self._passes + 1 if found else 0
        self._filled = found if self._passes < 2 else self._filled & found
        for row, control in self._controls.items():
            if control:
                data, source = control.popleft()
                into.control.append((row, data[:PACKET_CAPACITY], source))
        for row, queue in self._queues.items():
            if queue:
                data, source = queue.popleft()
                data = data[:PACKET_CAPACITY]
                inbox[len(into.rows)][: len(data)] = data
                into.others.append(len(into.rows))
                into.rows.append(row)
                into.lengths.append(len(data))
                into.sources.append(source)
        return bool(into.rows or into.control)

    def discard(self) -> None:
        self._passes = 0
        for row, is_control in self._filled:
            queue = (self._controls if is_control else self._queues)[row]
            for _ in range(min(len(queue), DISCARDS_A_TICK)):
                queue.popleft()
                self.discarded[row] += 1

    def release(self, now: float) -> None:
        """Nothing rests here: closed ports are free at once."""

    def stop(self) -> None:
        for row in list(self._ports):
            self.close(row, 0.0)
