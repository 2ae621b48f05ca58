"""A run in several processes (``pytest -n 4``): who runs beside whom, at which priority, and one report of all of them.

A pytest plugin, loaded by tests/conftest.py. Most of what real calls take is waiting, so they go on beside tests that
compute. What runs one after the other in one process is a *group*: a file, or one of three lanes of real calls.

- ``measured``: times, losses or whole sound are looked at; these calls are never beside one another.
- ``waits``: what hardly does anything for a minute, such as waiting until nothing of a call is left.
- ``calls``: everything else in tests/interop.

Lanes are first in the queue and keep the priority that the run was started with. Files run at the lowest one, so that a
server, a phone or a bot in a lane gets a processor as soon as it has something to do. Without ``-n`` there is one
process, and nothing of this.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import pytest

from tests.interop.peers import report

MEASURED = (
    "tests/cli/test_demo.py",
    "tests/cli/test_flood.py",
    "tests/cli/test_loopback.py",
    "tests/interop/test_baresip_calls.py",
    "tests/interop/test_barge_in.py",
    "tests/interop/test_bots.py",
    "tests/interop/test_codec_change_baresip.py",
    "tests/interop/test_codecs_baresip.py",
    "tests/interop/test_echo_content.py",
    "tests/interop/test_failover.py",
    "tests/interop/test_moving_sipp.py",
    "tests/interop/test_mutated_invites.py",
    "tests/interop/test_quickstart.py",
    "tests/interop/test_recording.py",
    "tests/interop/test_relay.py",
    "tests/interop/test_rtcp.py",
)
WAITS = (
    "tests/cli/test_loopback.py::test_calls_that_come_and_go_leave_nothing",
    "tests/cli/test_loopback.py::test_calls_without_sound_leave_nothing",
    "tests/interop/test_session_timers_sipp.py",
    "tests/remains/test_remains.py",
)
LANES = {"measured": MEASURED, "calls": ("tests/interop/",), "waits": WAITS}
"""Lane -> its folders, files and tests. Where several fit, the one that says most decides."""

EARLY = ("tests/packaging/", "tests/fuzz/")
"""These take minutes: they come before the files that take seconds, so that the last process to end ends soon."""

LOWERED = 19
SECTION = "real peers"


def group_of(nodeid: str) -> str:
    """The lane of a test, or else its file."""
    fits = [(len(place), lane) for lane, places in LANES.items() for place in places if nodeid.startswith(place)]
    return max(fits)[1] if fits else nodeid.partition("::")[0]


def place_of(group: str) -> int:
    """Where a group is in the queue: before those with a higher number."""
    if group in LANES:
        return list(LANES).index(group)
    return len(LANES) + (0 if group.startswith(EARLY) else 1)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Have processes take whole groups, in the order of the queue."""
    from xdist.scheduler import LoadScopeScheduling

    class Groups(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group_of(nodeid)

    config.option.loadscopereorder = False
    return Groups(config, log)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: place_of(group_of(item.nodeid)))


_began_with = os.getpriority(os.PRIO_PROCESS, 0)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Take the group's priority before fixtures start programs, which inherit it."""
    if not hasattr(item.config, "workerinput"):
        return
    lowered = 0 if group_of(item.nodeid) in LANES else LOWERED
    # Only root may raise it again; lanes are first in the queue, so a process needs that rarely.
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, _began_with + lowered)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Give what the test says of its peers to its report, which reaches the process that prints."""
    found: Any = yield
    if said := report.take():
        found.user_properties.append((SECTION, said))
    return found


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Peer, version, calls completed, and the figures that tests measured."""
    reports = [one for some in terminalreporter.stats.values() for one in some if isinstance(one, pytest.TestReport)]
    said = [value for one in reports for name, value in one.user_properties if name == SECTION]
    if lines := report.lines(said):
        terminalreporter.section(SECTION)
        for line in lines:
            terminalreporter.write_line(line)
