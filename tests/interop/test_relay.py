"""A call through a relay that loses, delays and reorders the caller's packets: what the bot hears of it.

The caller is SIPp, the relay and the bot are of the tests' own; only the server is agentstream's.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.interop.peers import report
from tests.interop.peers import sipp as s
from tests.interop.peers.programs import Program
from tests.interop.peers.server import bot_flow, scripted_bot, server
from tests.oracles import gaps

# Seconds of sound have to be said and heard.
pytestmark = [pytest.mark.peers("sipp"), pytest.mark.slow]

PLAYOUT_MS = 160
"""Fixed, so that each stretch can be told by what the network did. 40 ms of jitter and a reordering by 3 packets are
100 ms, which the 60 ms that a call begins with do not hold: a packet that is later than the first one by more than the
playout delay is as good as lost. 20 ms are the server's tick, and 40 ms are for a machine on which the caller, the
relay, the server and the bot wait for each other."""

SECONDS = 10
PACKETS = 50 * SECONDS + 25


def frames_of_noise() -> list[bytes]:
    """Mu-law in which each 10 ms is unlike any other, without its two zeros."""
    codes = np.array([code for code in range(256) if code not in (0x7F, 0xFF)], np.uint8)
    return [row.tobytes() for row in np.random.default_rng(20).choice(codes, (PACKETS, 160))]


class Relay:
    """relay.py as a process: where it listens, and what it did to the caller's packets."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.address = f"127.0.0.1:{json.loads(program.wait_for(r'.*listening.*')[0])['port']}"

    def packets(self) -> list[dict[str, Any]]:
        """Each packet of the caller's, in the order of its sequence numbers."""
        told = [json.loads(line) for line in self.program.lines if '"rtp"' in line]
        first = told[0]["sequence"]
        return sorted(told, key=lambda packet: (packet["sequence"] - first) & 0xFFFF)


@contextmanager
def relay(folder: Path, server_port: int, lost: frozenset[int], delays_ms: tuple[int, ...]) -> Iterator[Relay]:
    plan = folder / "plan.json"
    plan.write_text(json.dumps({"server": server_port, "lost": sorted(lost), "delays_ms": delays_ms}))
    script = Path(__file__).parent / "peers" / "relay.py"
    with Program("relay", [sys.executable, "-u", script, plan], cwd=folder) as program:
        yield Relay(program)


@pytest.mark.rfc(3550)
def test_every_silent_or_concealed_stretch_is_at_a_lost_number(tmp_path: Path) -> None:
    """5 % loss, 40 ms of jitter, reordering by 3 packets; and the delay at the end is the one at the start."""
    frames = frames_of_noise()
    (tmp_path / "noise.ul").write_bytes(b"".join(frames))
    lost, delays_ms = gaps.lost_of(PACKETS), gaps.delays_ms_of(PACKETS)
    text = s.scenario(s.answered(s.offer()), s.play(str(tmp_path / "noise.ul")), s.pause(1000 * SECONDS), s.hung_up())
    with (
        scripted_bot(tmp_path) as bot,
        server(
            tmp_path,
            {"record": bot_flow(f"{bot.url}/record?sample-rate=8000")},
            [("1000", "record")],
            media="".join(f"{name} = {PLAYOUT_MS}\n" for name in ("playout_ms", "playout_min_ms", "playout_max_ms")),
        ) as running,
        relay(tmp_path, running.sip_port, lost, delays_ms) as between,
        s.sipp(tmp_path / "uac", between.address, text=text) as run,
    ):
        run.finish()
        recorded = bot.wait_for("recorded")
        packets = between.packets()
        running.check()

    first = packets[0]
    numbers = [(packet["sequence"] - first["sequence"]) & 0xFFFF for packet in packets]
    assert numbers == list(range(len(packets))), "the caller numbered its packets without a gap"
    assert len(packets) > 50 * (SECONDS - 1)
    late_ms = {
        number: 1000 * (packet["left_s"] - first["left_s"]) - gaps.FRAME_MS * number
        for number, packet in enumerate(packets)
        if packet["left_s"] is not None
    }
    gone = set(numbers) - set(late_ms)
    assert gone == {number for number in numbers if number in lost}
    # Nobody is to blame for what the machine let wait for longer than the playout delay.
    too_late = {number for number, late in late_ms.items() if late > PLAYOUT_MS - gaps.FRAME_MS}
    assert len(too_late) < 0.02 * len(packets), "the machine had too much else to do for this test"

    said = [bytes.fromhex(packet["payload"]) for packet in packets]
    found = gaps.compare(said, Path(recorded["file"]).read_bytes())
    missed = {frame for first_frame, last_frame in found.gaps for frame in range(first_frame, last_frame + 1)}
    report.figure(
        f"through a relay: {len(gone)} of {len(packets)} packets lost, {len(too_late)} too late, up to"
        f" {max(late_ms.values()):.0f} ms late; {len(found.gaps)} stretches not as said, of which"
        f" {len(found.unexplained(gone | too_late))} are away from a lost number; delay of the first and the last block"
        f" {10 * found.delays[0]} and {10 * found.delays[-1]} ms of the bot's time"
    )
    assert len(found.delays) > 1.6 * len(packets), "most of what was said was heard as it was said"
    assert found.unexplained(gone | too_late) == []
    # The last half second may be under way when the caller hangs up.
    assert {number for number in gone if number < len(packets) - 25} <= missed
    assert abs(found.delays[-1] - found.delays[0]) <= gaps.BLOCKS
