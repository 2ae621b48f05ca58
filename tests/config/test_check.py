"""``agentstream check`` finds every mistake that the metadata of the settings tells, several at once."""

from __future__ import annotations

import argparse
import contextlib
import io
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from agentstream.cli import check
from agentstream.config.model import Config
from tests.certificates import Authority
from tests.config.documents import GOOD_CONFIG, GOOD_FLOW, Slip, good, slips, toml

SLIPS = slips()


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with everything that the good config names."""
    folder = tmp_path_factory.mktemp("house")
    (folder / "flows").mkdir()
    (folder / "drop-ins").mkdir()
    soundfile.write(folder / "flows" / "welcome.wav", np.zeros(800, np.int16), 8000)
    (folder / "flows" / "not-one.wav").write_text("RIFF, says the name")
    ours = Authority().sign("sip.example.com")
    ours.write(folder)
    for place in (folder, folder / "flows"):
        (place / "ca.pem").write_bytes(ours.authority)
        (place / "not-one.wav").write_text("RIFF, says the name")
    return folder


def checked(house: Path, documents: dict[str, dict[str, Any]]) -> tuple[int, list[str]]:
    """The exit status and the lines of errors."""
    (house / "agentstream.toml").write_text(toml(documents["config"]))
    (house / "flows" / "support.toml").write_text(toml(documents["flow"]))
    parser = argparse.ArgumentParser()
    check.add_arguments(parser)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(io.StringIO()):
        status = check.run(parser.parse_args([str(house / "agentstream.toml")]))
    return status, [line for line in printed.getvalue().splitlines() if line.startswith("error: ")]


def test_the_good_one_is_good_and_names_every_setting(house: Path) -> None:
    assert checked(house, good()) == (0, [])
    for section in attrs.fields(Config):
        table = GOOD_CONFIG[section.name]
        cls: Any = type(getattr(Config(), section.name))
        if isinstance(table, list):
            cls, table = section.type.__args__[0], table[0]  # type: ignore[union-attr]
        assert set(table) == {field.name for field in attrs.fields(cls)}
    assert set(GOOD_FLOW) == {"name", "start", "step"}


def expected_lines(house: Path, slip: Slip) -> list[str]:
    file = house / "agentstream.toml" if slip.file == "config" else house / "flows" / "support.toml"
    return [f"error: {file}: {path}: " for path in slip.reported]


@pytest.mark.parametrize("slip", SLIPS, ids=lambda slip: f"{'.'.join(map(str, slip.place))}-{slip.kind}-{slip.value}")
def test_each_mistake_alone_is_found_and_nothing_else_is_said(house: Path, slip: Slip) -> None:
    documents = good()
    slip.make(documents)
    status, lines = checked(house, documents)
    assert status == 1
    for start in expected_lines(house, slip):
        assert any(line.startswith(start) for line in lines), (start, lines)
    assert len(lines) == len(slip.reported), lines
    if slip.kind == "misspelt":
        assert f'did you mean "{slip.place[-1]}"?' in "\n".join(lines) or "known are: " in "\n".join(lines)


def _is_in_the_way(one: Slip, other: Slip) -> bool:
    """One is at, or inside, a place that the other has spoilt."""
    if other.hides_flows and one.file == "flow":
        return True
    if {one.place, other.place} == {("tls", "certificate"), ("tls", "key")}:
        return True  # without one of them the other is not read
    return one.spoils[: len(other.spoils)] == other.spoils


@settings(max_examples=80)
@given(st.lists(st.sampled_from(SLIPS), min_size=2, max_size=8))
def test_several_at_once_are_all_found(house: Path, chosen: list[Slip]) -> None:
    documents, made = good(), []
    for slip in chosen:
        if not any(_is_in_the_way(slip, other) or _is_in_the_way(other, slip) for other in made):
            slip.make(documents)
            made.append(slip)
    status, lines = checked(house, documents)
    assert status == 1
    for slip in made:
        for start in expected_lines(house, slip):
            assert any(line.startswith(start) for line in lines), (start, lines)


def test_what_this_machine_does_not_give() -> None:
    few = attrs.evolve(
        Config(), media=attrs.evolve(Config().media, ports=check.Config().media.ports.parse("20000-20099"))
    )
    (ports,) = check.machine_warnings(few, "f", 10**6)
    assert ports.path == "media.ports" and "room for 50 calls" in ports.sentence
    (files,) = check.machine_warnings(Config(), "f", 256)
    assert files.path == "media.max_calls" and "ulimit -n 864" in files.sentence
    tight = attrs.evolve(Config(), media=attrs.evolve(Config().media, ports=Config().media.ports.parse("20000-20599")))
    (rate,) = check.machine_warnings(tight, "f", 10**6)
    assert "lets 50 calls a second begin" in rate.sentence


def test_the_packaged_sample_and_the_operators_are_good(capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    check.add_arguments(parser)
    assert check.run(parser.parse_args([])) == 0
    sample = Path(__file__).parents[2] / "etc" / "agentstream.toml"
    assert check.run(parser.parse_args([str(sample)])) == 0
    assert "error" not in capsys.readouterr().out


def test_a_file_that_is_not_there(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    parser = argparse.ArgumentParser()
    check.add_arguments(parser)
    assert check.run(parser.parse_args([str(tmp_path / "none.toml")])) == 1
    assert "cannot be read: No such file" in capsys.readouterr().out
