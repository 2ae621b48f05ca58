"""Passwords that a config names: from a file, from the environment, and in no message."""

from __future__ import annotations

from pathlib import Path

import pytest

from agentstream.errors import ConfigError
from agentstream.flow.loader import load

CONFIG = """\
[[trunk]]
name = "carrier"
known_by = "digest"
user = "us"
password = {password}
"""


def loaded(folder: Path, password: str) -> str:
    (folder / "flows").mkdir()
    (folder / "a.toml").write_text(CONFIG.format(password=password))
    return load(folder / "a.toml").config.trunk[0].password


def refused(folder: Path, password: str) -> str:
    with pytest.raises(ConfigError) as caught:
        loaded(folder, password)
    (problem,) = caught.value.problems
    assert problem.path == "trunk[0].password"
    return problem.sentence


def test_a_password_is_what_it_says(tmp_path: Path) -> None:
    assert loaded(tmp_path, '"plain: as it is"') == "plain: as it is"


def test_the_first_line_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "carrier.secret").write_text("from the file \nsecond line\n")
    assert loaded(tmp_path, '"file:carrier.secret"') == "from the file"


def test_a_variable_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CARRIER", "from outside")
    assert loaded(tmp_path, '"env:CARRIER"') == "from outside"


@pytest.mark.parametrize(
    ("password", "sentence"),
    [
        ('"file:none"', "names the file none, which cannot be read: No such file or directory"),
        ('"file:empty"', "names empty, which is empty"),
        ('"file:binary"', "names the file binary, which cannot be read: it is not UTF-8"),
        ('"env:NOT_THERE"', "names NOT_THERE, which is not set"),
    ],
)
def test_what_is_not_there(tmp_path: Path, password: str, sentence: str) -> None:
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    assert refused(tmp_path, password) == sentence


@pytest.mark.parametrize("password", ["12345678", '"line\\nbreak12345678"', '["12345678"]', '"file:"'])
def test_what_is_wrong_with_one_is_said_without_it(tmp_path: Path, password: str) -> None:
    sentence = refused(tmp_path, password)
    assert sentence.startswith("found what is not shown here, expected ")
    assert "1234" not in sentence
