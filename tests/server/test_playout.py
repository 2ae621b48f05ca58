"""What a caller who never pauses is held back by, through a whole server."""

from __future__ import annotations

import numpy as np
import pytest

from agentstream.audio.g711 import PCM_TO_ULAW
from agentstream.testing.bots import Echo
from agentstream.testing.server import ServerUnderTest
from tests.server.kit import bot_flow

LOUD = np.random.default_rng(9).integers(-9000, 9000, 10 * 8000).astype(np.int16)


@pytest.mark.parametrize("chunk_ms", [20, 100])
def test_on_a_clean_line_the_delay_is_the_least_after_seconds_and_the_ledger_says_so(chunk_ms: int) -> None:
    with ServerUnderTest(bot_flow(), {"stream": {"chunk_ms": chunk_ms}}) as server:
        server.bot(Echo)
        phone = server.call()
        phone.say(PCM_TO_ULAW[LOUD.view(np.uint16)].tobytes())
        server.advance(7)
        [leg] = server.service.plane.open_legs
        settled, counts = leg.statistics(), leg.chunk_waits()
        server.advance(2)
        later = leg.chunk_waits() - counts
        phone.hang_up()
        server.advance(1)
        [ended] = server.events("leg_ended")
    assert (settled.playout_ms, settled.left_out_ms, settled.concealed_ms) == (20, 40, 0)
    assert later.sum() == 2000 / chunk_ms
    # Packets are read by the tick after they came, and played by the one after that: 20 ms, give or take a rounding.
    assert sum(later[:3]) == later.sum()
    assert ended.fields["rtp_playout_ms"] == 20
