"""What every test is held to: nothing logged as an error, no Deferred lost, no delayed call left, warnings are errors.

pytest-twisted sees neither a lost Deferred nor a leftover delayed call, so the autouse fixture ``watch`` does. There is
no opting out: a test that expects a logged failure takes it with ``logged_failures.take(...)``.
"""

from __future__ import annotations

import gc
import itertools
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from typing import Any

# Before numpy is imported: one thread, as in the server (a second one would stall whoever else needs this machine's
# core).
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import attrs
import pytest
from hypothesis import HealthCheck, settings
from twisted.internet.task import Clock
from twisted.logger import LogEvent, LogLevel, formatEvent, globalLogPublisher
from twisted.python.failure import Failure

import applets

pytest_plugins = ("tests.overlap",)

settings.register_profile(
    "agentstream", deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.register_profile("ci", settings.get_profile("agentstream"), derandomize=True, database=None)

REQUIRE_PEERS = "AGENTSTREAM_REQUIRE_PEERS"


def pytest_configure(config: pytest.Config) -> None:
    in_ci = os.environ.get("CI") or os.environ.get(REQUIRE_PEERS) == "1"
    settings.load_profile("ci" if in_ci else "agentstream")


def contract_place(item: pytest.Item) -> tuple[tuple[int, ...], int]:
    """Where a test of the wire contract stands in it, by its name: section 1.6 rule 4, or row 8 of section 10."""
    words = item.name.partition("[")[0].split("_")[1:]
    numbers = [int(word) for word in itertools.takewhile(str.isdigit, words)]
    if words[0] in ("row", "rows"):
        return (10,), int(words[1])
    rule = words[words.index("rule") + 1] if "rule" in words else "0"
    return tuple(numbers), int(rule)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """`pytest -m contract -v` is to be read beside the contract, so it follows its order."""
    if config.option.markexpr == "contract":
        items.sort(key=contract_place)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Keep what was imported out of the collections that follow each test: they then take a millisecond, not fifty."""
    gc.collect()
    gc.freeze()


@attrs.define
class LoggedFailures:
    """The errors that were logged during one test and that nobody has taken."""

    events: list[LogEvent] = attrs.field(factory=list)

    def __call__(self, event: LogEvent) -> None:
        # A lost Deferred logs a headline without its failure, and then the failure: one of the two is enough.
        is_headline = event.get("log_namespace") == "twisted.internet.defer" and "log_failure" not in event
        is_error = "log_failure" in event or event.get("log_level") in (LogLevel.error, LogLevel.critical)
        if is_error and not is_headline:
            self.events.append(event)

    def take(self, *kinds: type[BaseException]) -> list[Failure]:
        """Remove and return the logged failures of these kinds (of all, when none is named)."""
        gc.collect()
        taken, left = [], []
        for event in self.events:
            failure = event.get("log_failure")
            wanted = failure is not None and (not kinds or failure.check(*kinds))
            (taken if wanted else left).append(event)
        self.events = left
        return [event["log_failure"] for event in taken]

    def take_messages(self) -> list[str]:
        """Remove and return the texts of the errors that were logged without a failure."""
        taken = [event for event in self.events if "log_failure" not in event]
        self.events = [event for event in self.events if "log_failure" in event]
        return [formatEvent(event) for event in taken]

    def report(self) -> str:
        """Every error that is left, as text."""
        return "\n".join(
            f"{formatEvent(event)}\n{event['log_failure'].getTraceback() if 'log_failure' in event else ''}".strip()
            for event in self.events
        )


def real_delayed_calls() -> set[Any]:
    """What the process's reactor has to do later, if a reactor is installed; importing one would install it."""
    reactor: Any = sys.modules.get("twisted.internet.reactor")
    return set() if reactor is None else set(reactor.getDelayedCalls())


@pytest.fixture(autouse=True)
def watch() -> Iterator[LoggedFailures]:
    """Fail a test that leaves a logged error, a lost Deferred error or a delayed call on the real reactor."""
    logged = LoggedFailures()
    before = real_delayed_calls()
    globalLogPublisher.addObserver(logged)
    try:
        yield logged
        # A Deferred logs its unhandled error when it is collected; in a cycle that is whenever, so now.
        gc.collect()
    finally:
        globalLogPublisher.removeObserver(logged)
    left = [call for call in real_delayed_calls() - before if call.active()]
    for call in left:
        call.cancel()
    if logged.events:
        pytest.fail(f"Errors were logged and not taken:\n{logged.report()}", pytrace=False)
    if left:
        pytest.fail(f"Delayed calls were left on the reactor: {[str(call) for call in left]}", pytrace=False)


@pytest.fixture
def logged_failures(watch: LoggedFailures) -> LoggedFailures:
    """For a test that expects logged failures: ``take`` them, or they fail it."""
    return watch


@pytest.fixture
def clock() -> Iterator[Clock]:
    """A Clock on which nothing may be left to do when the test ends."""
    clock = Clock()
    yield clock
    left = [str(call) for call in clock.getDelayedCalls()]
    if left:
        pytest.fail(f"Delayed calls were left on the clock: {left}", pytrace=False)


@pytest.fixture
def drop_ins() -> Iterator[None]:
    """Folders of drop-ins that a test has searched, and what it found there, are forgotten again."""
    path, modules = list(applets.__path__), set(sys.modules)
    yield
    applets.__path__[:] = path
    for name in set(sys.modules) - modules:
        if name.startswith("applets."):
            del sys.modules[name]


def find_peer(name: str) -> str:
    """The path of a real program from outside; without it the test is skipped, or fails where peers are required."""
    # Debian keeps some of them where only root looks.
    path = shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"]))
    if path is not None:
        return path
    sentence = f"The program {name} is not installed; .ci/run names its Debian package."
    if os.environ.get(REQUIRE_PEERS) == "1":
        pytest.fail(sentence, pytrace=False)
    pytest.skip(sentence)


@pytest.fixture
def peer() -> Callable[[str], str]:
    """``peer("sipp")``: the program's path, or the test ends here as skipped (failed where peers are required)."""
    return find_peer


def pytest_runtest_setup(item: pytest.Item) -> None:
    """``@pytest.mark.peers("sipp", "tcpdump")`` asks for its programs before the test's fixtures start anything."""
    for marker in item.iter_markers("peers"):
        for name in marker.args:
            find_peer(name)
