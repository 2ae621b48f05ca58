"""A stack with everything it is given: numbered tokens, a time of its own, and what it sent and said as lists."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import TypeVar

from agentstream.sip.events import Event
from agentstream.sip.session_timer import Intervals
from agentstream.sip.stack import Hop, Listener, Session, Stack
from agentstream.testing.sip_peer import Received, read

PEER = Hop("udp", "127.0.0.1", 5090, "u")
E = TypeVar("E")
SDP = b"v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 20000 RTP/AVP 0\r\n"


class Bench:
    """One stack under test. ``now`` moves only by :meth:`advance`."""

    def __init__(
        self,
        is_allowed: Callable[[str], bool] = lambda _host: True,
        ring_limit_s: float = 180.0,
        name: str = "t",
        intervals: Intervals | None = None,
    ) -> None:
        numbers = itertools.count(1)
        self.now = 1000.0
        self.stack = Stack(
            token=lambda: f"{name}{next(numbers):07d}",
            is_allowed=is_allowed,
            listeners={"u": Listener("udp", "127.0.0.1", 5060)},
            ring_limit_s=ring_limit_s,
            intervals=intervals or Intervals(),
        )

    def receive(self, data: bytes, source: Hop = PEER) -> list[bytes]:
        """Give it a datagram; what it sent."""
        self.stack.receive(data, source, self.now)
        return self.sent()

    def sent(self) -> list[bytes]:
        """What it sent since the last look. Every refusal says why."""
        data = [data for data, _ in self.stack.out]
        for one in data:
            if one.startswith(b"SIP/2.0 ") and one[8:9] >= b"3":
                assert b"\r\nWarning: " in one or b"\r\nReason: " in one, one
        self.stack.out.clear()
        return data

    def read(self) -> list[Received]:
        """The same, taken apart."""
        return [read(data) for data in self.sent()]

    def lines(self) -> list[str]:
        """The same as short lines: status or method."""
        return [str(message.status or message.method) for message in self.read()]

    def events(self) -> list[Event]:
        """What it said since the last look."""
        events = list(self.stack.events)
        self.stack.events.clear()
        return events

    def event(self, kind: type[E]) -> E:
        """The one event since the last look, which is of this kind."""
        (event,) = self.events()
        assert isinstance(event, kind), event
        return event

    def advance(self, seconds: float) -> list[tuple[float, str]]:
        """Let time pass; what was sent, as (seconds since the beginning of this, status or method)."""
        start, end = self.now, self.now + seconds
        out = []
        while True:
            deadline = self.stack.next_timer()
            if deadline is None or deadline > end:
                break
            self.now = max(self.now, deadline)
            self.stack.handle_timer(self.now)
            out += [(round(self.now - start, 3), line) for line in self.lines()]
        self.now = end
        return out

    def next_sent(self) -> list[bytes]:
        """Let time pass until something is sent."""
        while not (sent := self.sent()):
            deadline = self.stack.next_timer()
            assert deadline is not None, "nothing is left that would be sent"
            self.now = max(self.now, deadline)
            self.stack.handle_timer(self.now)
        return sent

    def settle(self) -> None:
        """Let all timers run out, and see that nothing is left."""
        for _ in range(10_000):
            deadline = self.stack.next_timer()
            if deadline is None:
                break
            self.now = max(self.now, deadline)
            self.stack.handle_timer(self.now)
        self.sent()
        self.events()
        assert self.stack.is_idle
        assert not self.stack.dialogs
        assert not self.stack.servers
        assert not self.stack.clients


__all__ = ["PEER", "SDP", "Bench", "Session"]
