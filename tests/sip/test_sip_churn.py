"""What many calls leave behind: nothing behind their timers, and little until then."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Iterator

import pytest

from agentstream.sip.events import InviteReceived
from agentstream.testing.sip_peer import SipPeer
from tests.sip.kit import SDP, Bench
from tests.sip.test_sip_uac import call

CALLS = 100


@pytest.fixture
def _counted() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


def kept() -> int:
    """Bytes that are in use."""
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


def call_in(bench: Bench) -> None:
    """A call that is answered, acknowledged and ended by the caller."""
    peer = SipPeer(call_id=f"churn{bench.now}")
    bench.receive(peer.invite())
    session = bench.event(InviteReceived).session
    bench.stack.answer(session, SDP, bench.now)
    peer.take(bench.sent()[0])
    bench.receive(peer.ack())
    bench.receive(peer.bye())
    bench.events()


def call_out(bench: Bench) -> None:
    """A call of ours that rings, is answered, and is ended by us."""
    peer = SipPeer()
    session, invite = call(bench)
    bench.receive(peer.respond(invite, 180, "Ringing"))
    bench.receive(peer.respond(invite, 200, "OK", SDP))
    bench.stack.hang_up(session, bench.now)
    (bye,) = bench.sent()
    bench.receive(peer.respond(bye, 200))
    bench.events()


def refused(bench: Bench) -> None:
    """A call that is refused and acknowledged, and one that its caller takes back."""
    peer = SipPeer()
    bench.receive(peer.invite())
    bench.stack.reject(bench.event(InviteReceived).session, 486, bench.now)
    (refusal,) = bench.sent()
    bench.receive(peer.ack_refusal(refusal))
    peer = SipPeer()
    bench.receive(peer.invite())
    _ok, refusal = bench.receive(peer.cancel())
    bench.receive(peer.ack_refusal(refusal))
    bench.events()


@pytest.mark.rfc(3261)
@pytest.mark.parametrize("one", [call_in, call_out, refused])
def test_memory_does_not_grow_with_the_calls_that_were(one: object, _counted: None) -> None:
    """Over half a second, because a leak shows only in many calls."""
    assert callable(one)
    bench = Bench()
    sizes = []
    for _ in range(3):
        for _ in range(CALLS):
            one(bench)
            bench.now += 0.0025
        bench.settle()
        sizes.append(kept())
    assert sizes[2] - sizes[1] < 16 * CALLS


def test_an_ended_call_is_small_until_its_timers_run_out(_counted: None) -> None:
    """Timers L and J keep both transactions for 32 s: 12,800 calls at 400 a second. Neither the requests nor the
    session are among what they keep."""
    bench = Bench()
    call_in(bench)
    before = kept()
    for _ in range(CALLS):
        call_in(bench)
        bench.now += 0.0025
    assert len(bench.stack.servers) == 2 * CALLS + 2
    assert (kept() - before) / CALLS < 5000
