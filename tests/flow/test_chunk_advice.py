"""The word to operators about chunks of other sizes than asked for."""

from __future__ import annotations

import pytest

from agentstream.flow import chunk_advice
from agentstream.flow.chunk_advice import LOG_EVERY_S, ChunkAdvice

SMALL = bytes(640)


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []

    class Log:
        def warn(self, text: str, **fields: object) -> None:
            lines.append(str(fields["bot"]))

    monkeypatch.setattr(ChunkAdvice, "log", Log())
    return lines


def test_each_bot_once_a_minute(said: list[str]) -> None:
    advice = ChunkAdvice()
    for now in (0.0, 1.0, LOG_EVERY_S - 0.1, LOG_EVERY_S, LOG_EVERY_S + 1):
        assert advice.look(SMALL, "a:1", "s", now)
    assert advice.look(SMALL, "b:1", "s", 1.0)
    assert said == ["a:1", "a:1", "b:1"]


def test_what_is_as_asked_for(said: list[str]) -> None:
    advice = ChunkAdvice()
    assert [size for size in range(0, 7000, 80) if not advice.look(bytes(size), "a:1", "s", 0.0)] == list(
        range(3200, 7000, 320)
    )


def test_bots_that_come_and_go_are_forgotten(said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunk_advice, "MOST_BOTS", 3)
    advice = ChunkAdvice()
    for name in "abcda":
        advice.look(SMALL, name, "s", 0.0)
    assert said == ["a", "b", "c", "d", "a"] and len(advice._said) == 3
