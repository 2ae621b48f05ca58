"""Kamailio's dispatcher before two servers: calls take turns, and a node that is full or being stopped is left out.

It asks each of them by OPTIONS once a second, and what is answered 503 gets no calls until it is answered 200 again.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import attrs
import pytest

from tests.interop.peers import report
from tests.interop.peers import sipp as s
from tests.interop.peers.house import ECHO
from tests.interop.peers.kamailio import Kamailio, kamailio
from tests.interop.peers.server import Server, server

# Calls take seconds, and programs take time to start.
pytestmark = [pytest.mark.peers("kamailio", "sipp"), pytest.mark.slow, pytest.mark.rfc(3261)]

UP, DOWN = "AP", "IP"
WITHIN_S = 5.0
"""A question a second, and one answer of 503 is enough."""


@attrs.frozen
class Balanced:
    """Two servers behind Kamailio."""

    kamailio: Kamailio
    nodes: tuple[Server, Server]

    def calls(self) -> list[int]:
        """How many calls each node has taken."""
        return [sum("invite_received" in line for line in node.program.lines) for node in self.nodes]

    def wait_until(self, first: str, second: str) -> float:
        """Until Kamailio thinks so of the nodes; returns the seconds."""
        flags = {f"sip:{node.address}": flag for node, flag in zip(self.nodes, (first, second), strict=True)}
        return self.kamailio.wait_for_flags(flags, within_s=WITHIN_S)


@contextmanager
def balanced(folder: Path, first: str = "", second: str = "") -> Iterator[Balanced]:
    """Start all three; ``first`` and ``second`` are more lines of the nodes' ``[media]``."""
    with ExitStack() as stack:
        nodes = [
            stack.enter_context(server(folder / name, {"echo": ECHO}, [("*", "echo")], media=media))
            for name, media in (("first", first), ("second", second))
        ]
        front = stack.enter_context(kamailio(folder / "kamailio", [f"sip:{node.address}" for node in nodes]))
        both = Balanced(front, (nodes[0], nodes[1]))
        both.wait_until(UP, UP)
        yield both


def text(lasting_ms: int) -> str:
    """A call that lasts so long."""
    return s.scenario(
        s.request("INVITE", cseq=1, sdp=s.offer(), in_dialog=False),
        s.PROVISIONAL,
        s.receive(200, rrs=True),
        s.request("ACK", cseq=1, retrans=False, headers="[routes]\n"),
        s.pause(lasting_ms),
        s.request("BYE", cseq=2, headers="[routes]\n"),
        s.receive(200),
    )


def call(folder: Path, both: Balanced, calls: int, lasting_ms: int = 0) -> AbstractContextManager[s.Sipp]:
    """SIPp with so many calls by way of Kamailio."""
    return s.sipp(folder, both.kamailio.address, text=text(lasting_ms), calls=calls, rate=20)


def test_calls_take_turns(tmp_path: Path) -> None:
    with balanced(tmp_path) as both:
        with call(tmp_path / "uac", both, 6) as run:
            run.finish()
        assert both.calls() == [3, 3]
        both.kamailio.count(6)


def test_a_full_node_is_left_out_until_it_has_room(tmp_path: Path) -> None:
    """Nobody hears a 503: before Kamailio knows, the node's own refusal sends the call on to the other one."""
    with balanced(tmp_path, first="max_calls = 1") as both:
        with call(tmp_path / "two", both, 2, lasting_ms=5000) as holding:
            for node in both.nodes:
                node.program.wait_for("invite_received")
            with call(tmp_path / "at-once", both, 4) as run:
                run.finish()
            assert both.calls() == [1, 5]
            out_s = both.wait_until(DOWN, UP)
            with call(tmp_path / "known", both, 4) as run:
                run.finish()
            assert both.calls() == [1, 9]
            holding.finish()
        in_s = both.wait_until(UP, UP)
        with call(tmp_path / "again", both, 2) as run:
            run.finish()
        assert both.calls() == [2, 10]
        both.kamailio.count(12)
        report.figure(f"Kamailio takes a full node out within {out_s:.1f} s and in again within {in_s:.1f} s")


def test_a_node_that_is_stopped_keeps_its_call_and_gets_no_more(tmp_path: Path) -> None:
    with balanced(tmp_path) as both:
        with call(tmp_path / "two", both, 2, lasting_ms=6000) as holding:
            for node in both.nodes:
                node.program.wait_for("invite_received")
            stopped = both.nodes[0].program
            stopped.process.send_signal(signal.SIGTERM)
            stopped.wait_for("draining: 1 calls")
            out_s = both.wait_until(DOWN, UP)
            with call(tmp_path / "more", both, 4) as run:
                run.finish()
            assert both.calls() == [1, 5]
            assert stopped.process.poll() is None
            holding.finish()
        assert stopped.wait(within_s=10) in (0, -signal.SIGTERM)
        both.kamailio.count(6)
        report.figure(f"Kamailio takes a node that is being stopped out within {out_s:.1f} s")
