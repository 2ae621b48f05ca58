"""sipsak: one request at a time from the command line, or as many as it can send."""

from __future__ import annotations

import re
import subprocess

import attrs


@attrs.frozen
class Said:
    """What came of one run.

    :ivar exit_status: 0 where the last answer was a 200.
    :ivar statuses: of the answers that it printed, in order.
    """

    exit_status: int
    statuses: tuple[int, ...]
    output: str


def sipsak(uri: str, *arguments: str, within_s: float = 20.0) -> Said:
    """Run it to its end. It says 127.0.0.1 of itself, because it would not start where the host has no full name."""
    done = subprocess.run(
        ["sipsak", "-vvv", "-H", "127.0.0.1", *arguments, "-s", uri],
        capture_output=True,
        text=True,
        timeout=within_s,
        check=False,
    )
    output = done.stdout + done.stderr
    return Said(done.returncode, tuple(int(one) for one in re.findall(r"^SIP/2.0 (\d{3})", output, re.M)), output)
