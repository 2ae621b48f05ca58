"""``[media] codecs``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentstream.audio.codecs import codec_named, codecs
from agentstream.flow.loader import examine


def problems(tmp_path: Path, media: str) -> list[str]:
    (tmp_path / "node.toml").write_text(f"[media]\n{media}\n")
    found = examine(tmp_path / "node.toml")[1]
    return [f"{problem.path}: {problem.sentence}" for problem in found if problem.path.startswith("media")]


def test_the_order_is_kept(tmp_path: Path) -> None:
    assert problems(tmp_path, 'codecs = ["L16", "G722", "PCMA"]') == []
    assert examine(tmp_path / "node.toml")[0].config.media.codecs == ("L16", "G722", "PCMA")


def test_those_that_there_are_not(tmp_path: Path) -> None:
    assert problems(tmp_path, 'codecs = ["PCMU", "g722", "GSM"]') == [
        'media.codecs[1]: found "g722", expected a codec; did you mean "G722"?',
        'media.codecs[2]: found "GSM", expected a codec; known are: G722, L16, OPUS, PCMA, PCMU',
    ]


def test_one_that_is_there_twice(tmp_path: Path) -> None:
    assert problems(tmp_path, 'codecs = ["PCMU", "PCMU"]') == [
        'media.codecs[1]: found "PCMU" again, expected each codec once'
    ]


def test_none_at_all(tmp_path: Path) -> None:
    assert problems(tmp_path, "codecs = []") == [
        'media.codecs: found a list, expected a list of 1 or more strings, such as ["G722", "PCMU", "PCMA"]'
    ]


@pytest.fixture
def without_opus(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As if the extra were not installed."""
    for name in [name for name in sys.modules if name.split(".")[0] == "opuslib_next"]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, "opuslib_next", None)
    monkeypatch.delitem(sys.modules, "agentstream.audio.codecs.opus", raising=False)
    codecs.cache_clear()
    codec_named.cache_clear()
    yield
    monkeypatch.undo()
    codecs.cache_clear()
    codec_named.cache_clear()


@pytest.mark.usefixtures("without_opus")
def test_one_whose_extra_is_not_installed(tmp_path: Path) -> None:
    assert codec_named("OPUS") is None
    assert problems(tmp_path, 'codecs = ["OPUS", "PCMU"]') == [
        'media.codecs[0]: found "OPUS", which needs `pip install "agentstream[opus]"`'
    ]
