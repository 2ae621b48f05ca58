"""Processes that a command starts always end with it; each here is a Python that does next to nothing."""

from __future__ import annotations

import os
import signal

import pytest

from agentstream.cli.children import Child, children
from agentstream.errors import AgentstreamError

ECHO = """
import sys
print("not json", flush=True)
for line in sys.stdin:
    print(line.strip(), flush=True)
"""
DEAF = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print('{"kind": "ready"}', flush=True)
while True: time.sleep(1)
"""


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.slow  # a new interpreter takes a while to begin
def test_news_comes_back_and_the_child_ends_with_the_block() -> None:
    seen = []
    with children(lambda child, news: seen.append((child.name, news))) as family:
        child = family.start("echo", ["-c", ECHO])
        child.say("hello", number=1)
        assert family.expect(child, "hello", 10) == {"kind": "hello", "number": 1}
        assert child.other_lines == ["not json"]
        assert seen == [("echo", {"kind": "hello", "number": 1})]
    assert not is_running(child.pid)


@pytest.mark.slow  # new interpreters take a while to begin
def test_an_error_ends_a_child_that_does_not_listen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentstream.cli.children._ASKED_S", 0.1)
    with pytest.raises(KeyboardInterrupt), children() as family:
        child = family.start("deaf", ["-c", DEAF])
        family.expect(child, "ready", 10)
        raise KeyboardInterrupt
    assert not is_running(child.pid)


@pytest.mark.slow  # a new interpreter takes a while to begin
def test_a_child_that_dies_is_one_sentence_with_its_last_words() -> None:
    with children() as family:
        child = family.start("server", ["-c", "import sys; sys.exit('The port 5060 is in use.')"])
        with pytest.raises(AgentstreamError, match=r"^The server ended by itself with exit status 1: The port 5060"):
            family.expect(child, "ready", 10)


@pytest.mark.slow  # a new interpreter takes a while to begin
def test_the_time_for_news_is_bounded() -> None:
    with children() as family:
        child = family.start("echo", ["-c", ECHO])
        with pytest.raises(AgentstreamError, match="The echo gave no news of 'never'"):
            family.expect(child, "never", 0.01)


@pytest.mark.slow  # a new interpreter takes a while to begin
def test_sigterm_once_more_while_children_are_ended_leaves_none(monkeypatch: pytest.MonkeyPatch) -> None:
    end = Child.end

    def asked_again(child: Child) -> int:
        os.kill(os.getpid(), signal.SIGTERM)
        return end(child)

    monkeypatch.setattr(Child, "end", asked_again)
    with children() as family:
        pids = [family.start("echo", ["-c", ECHO]).pid for _ in range(2)]
    assert not any(is_running(pid) for pid in pids)


@pytest.mark.slow  # a new interpreter takes a while to begin
def test_sigterm_ends_the_block_and_its_children() -> None:
    with pytest.raises(SystemExit) as caught, children() as family:
        child = family.start("echo", ["-c", ECHO])
        os.kill(os.getpid(), signal.SIGTERM)
        family.pump(5.0)
    assert caught.value.code == 128 + signal.SIGTERM
    assert not is_running(child.pid)
