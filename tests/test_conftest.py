"""The watch itself: each kind of leak fails the test that leaves it, shown in runs of their own."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from pathlib import Path

import pytest
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from tests.conftest import LoggedFailures

HERE = Path(__file__).parent

LEAKS = """
from __future__ import annotations
import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred, fail
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python import log

def test_clean(clock):
    clock.callLater(1, int)
    clock.advance(1)

@pytest_twisted.ensureDeferred
async def test_clean_on_the_reactor():
    await deferLater(reactor, 0.01, int)

def test_lost_deferred():
    fail(ValueError("lost"))

def test_lost_deferred_in_a_cycle():
    lost = Deferred()
    lost.itself = lost
    lost.errback(ValueError("lost"))

def test_logged_failure():
    try:
        1 / 0
    except ZeroDivisionError:
        Logger().failure("logged")

def test_logged_the_old_way():
    log.err(ValueError("old"))

def test_logged_error():
    Logger().error("only words")

def test_left_on_the_clock(clock):
    clock.callLater(1, int)

def test_left_on_the_reactor():
    reactor.callLater(60, int)

async def never():
    pass

def test_coroutine_that_nobody_awaits():
    never()

@pytest.mark.peers("no-such-program-anywhere")
def test_marked():
    raise AssertionError

def test_asked(peer):
    peer("no-such-program-anywhere")

@pytest.mark.peers("sh")
def test_there(peer):
    assert peer("sh").endswith("/sh")
"""
CLEAN = {"test_clean", "test_clean_on_the_reactor", "test_there"}
PEERS = {"test_marked", "test_asked"}


def outcomes(folder: Path, require_peers: str) -> dict[str, set[str]]:
    """Test names by outcome, of a pytest run with our configuration over LEAKS."""
    (folder / "conftest.py").write_text((HERE / "conftest.py").read_text())
    (folder / "test_leaks.py").write_text(LEAKS)
    run = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-c",
            HERE.parent / "setup.cfg",
            "--rootdir",
            folder,
            "-rA",
            "-q",
            "test_leaks.py",
        ],
        cwd=folder,
        env={
            **os.environ,
            "AGENTSTREAM_REQUIRE_PEERS": require_peers,
            "PYTEST_ADDOPTS": "",
            "PYTHONPATH": str(HERE.parent),
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    found: dict[str, set[str]] = {"PASSED": set(), "FAILED": set(), "ERROR": set(), "SKIPPED": set()}
    for line in run.stdout.splitlines():
        word, _, rest = line.partition(" ")
        if word in found:
            found[word].add(rest.partition("::")[2].partition(" ")[0])
    assert run.returncode == 1, run.stdout
    return found


@pytest.mark.slow
def test_every_leak_is_found_and_nothing_else(tmp_path: Path) -> None:
    """Takes two seconds: it is a pytest run inside a pytest run."""
    found = outcomes(tmp_path, "")
    leaks = {name.partition("(")[0].removeprefix("def ") for name in LEAKS.splitlines() if name.startswith("def test")}
    leaks -= CLEAN | PEERS
    assert found["FAILED"] | found["ERROR"] == leaks
    assert found["PASSED"] >= CLEAN
    assert not found["PASSED"] & PEERS


@pytest.mark.slow
def test_an_absent_peer_fails_where_peers_are_required(tmp_path: Path) -> None:
    """Takes two seconds: it is a pytest run inside a pytest run."""
    found = outcomes(tmp_path, "1")
    assert found["FAILED"] | found["ERROR"] >= PEERS


def test_expected_failures_are_taken(logged_failures: LoggedFailures) -> None:
    lost: Deferred[None] = Deferred()
    lost.errback(ValueError("lost"))
    del lost
    gc.collect()
    Logger().error("the words {n}", n=1)
    assert [failure.value.args for failure in logged_failures.take(ValueError)] == [("lost",)]
    assert logged_failures.take_messages() == ["the words 1"]
