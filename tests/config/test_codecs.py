"""``[media] codecs``."""

from __future__ import annotations

from pathlib import Path

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
        'media.codecs[2]: found "GSM", expected a codec; known are: G722, L16, PCMA, PCMU',
    ]


def test_one_that_is_there_twice(tmp_path: Path) -> None:
    assert problems(tmp_path, 'codecs = ["PCMU", "PCMU"]') == [
        'media.codecs[1]: found "PCMU" again, expected each codec once'
    ]


def test_none_at_all(tmp_path: Path) -> None:
    assert problems(tmp_path, "codecs = []") == [
        'media.codecs: found a list, expected a list of 1 or more strings, such as ["G722", "PCMU", "PCMA"]'
    ]
