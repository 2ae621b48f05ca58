"""What was called with what, as tests say it: it travels with their reports, and one line a peer is printed at the end.

See tests/overlap.py: with several processes each says its own, and one prints.
"""

from __future__ import annotations

import functools
import re
import subprocess
from collections import Counter
from collections.abc import Iterable

Said = tuple[list[tuple[str, str, int]], list[str]]
"""Peer, its version and calls completed; and sentences with measured figures."""

_calls: Counter[tuple[str, str]] = Counter()
_figures: list[str] = []


@functools.cache
def version_of(peer: str) -> str:
    """What the peer says its own version is."""
    flag = {"sipp": "-v", "baresip": "-h", "kamailio": "-v"}.get(peer, "--version")
    shown = subprocess.run([peer, flag], capture_output=True, text=True, timeout=10, check=False)
    match = re.search(r"v?(\d+\.\d+(?:\.\d+)?)", shown.stdout + shown.stderr)
    return match[1] if match else "unknown"


def calls_completed(peer: str, version: str, calls: int = 1) -> None:
    """Count calls that did what they should."""
    _calls[(peer, version)] += calls


def figure(sentence: str) -> None:
    """Keep one measured figure for the end of the run."""
    _figures.append(sentence)


def take() -> Said | None:
    """What was said since the last time; None: nothing."""
    if not _calls and not _figures:
        return None
    said = [(peer, version, calls) for (peer, version), calls in _calls.items()], list(_figures)
    _calls.clear()
    _figures.clear()
    return said


def lines(said: Iterable[Said]) -> list[str]:
    """The report of all that was said."""
    calls: Counter[tuple[str, str]] = Counter()
    figures: list[str] = []
    for counts, sentences in said:
        for peer, version, count in counts:
            calls[(peer, version)] += count
        figures += sentences
    return [f"{peer} {version}: {count} calls completed" for (peer, version), count in sorted(calls.items())] + figures
