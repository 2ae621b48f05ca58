"""What was called with what: one line a peer, printed when the tests are over."""

from __future__ import annotations

import functools
import re
import subprocess
from collections import Counter

_calls: Counter[tuple[str, str]] = Counter()
_figures: list[str] = []


@functools.cache
def version_of(peer: str) -> str:
    """What the peer says its own version is."""
    flag = {"sipp": "-v", "baresip": "-h"}.get(peer, "--version")
    shown = subprocess.run([peer, flag], capture_output=True, text=True, timeout=10, check=False)
    match = re.search(r"v?(\d+\.\d+(?:\.\d+)?)", shown.stdout + shown.stderr)
    return match[1] if match else "unknown"


def calls_completed(peer: str, version: str, calls: int = 1) -> None:
    """Count calls that did what they should."""
    _calls[(peer, version)] += calls


def figure(sentence: str) -> None:
    """Keep one measured figure for the end of the run."""
    _figures.append(sentence)


def lines() -> list[str]:
    """The report so far; taking it empties it, so that it is printed once."""
    found = [f"{peer} {version}: {calls} calls completed" for (peer, version), calls in sorted(_calls.items())]
    found += _figures
    _calls.clear()
    _figures.clear()
    return found
