"""The short version of tests/interop/mutated_invites.py: eight seconds at the same rate."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from rich.console import Console

from tests.interop.mutated_invites import attack
from tests.interop.peers import report


@pytest.mark.slow  # a server with calls, for eight seconds of real time
@pytest.mark.skipif(sys.platform != "linux", reason="the bench reads Linux's /proc")
def test_mutated_invites_disturb_nobody(tmp_path: Path) -> None:
    # With so long a delay a busy machine makes nothing late: what is lost then is lost.
    outcome = attack(tmp_path, calls=20, seconds=8.0, messages=1200, console=Console(quiet=True), playout_ms=200)
    for line in outcome.lines():
        report.figure(line)
    assert outcome.messages == 1200 and len(outcome.options_ms) >= 12
    assert outcome.refused > 200 and outcome.dropped > 20, "some are requests, and some are nothing"
    assert outcome.broken() == []
