"""The applet and the flows of docs/applets.md and docs/flows.md are loaded and run as they stand there."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
import soundfile

import applets
from agentstream.cli.commands import main
from agentstream.flow.definition import read_flow
from agentstream.flow.loader import SAMPLE
from agentstream.flow.registry import find_applets
from agentstream.testing.server import ServerUnderTest
from tests.flow.fakes import Scene

DOCS = Path(__file__).parents[2] / "docs"


def blocks(page: str, language: str, heading: str = "") -> list[str]:
    """The blocks of code in this language, from a heading on."""
    text = (DOCS / page).read_text()
    return re.findall(rf"```{language}\n(.*?)```", text[text.index(heading) :], re.DOTALL)


def block(page: str, language: str) -> str:
    """The worked example: the first block on the page, or below its heading."""
    return blocks(page, language, "## A whole one" if page == "applets.md" else "")[0]


@pytest.fixture
def documented(tmp_path: Path, drop_ins: None) -> dict[str, Any]:
    """The applets that there are when the page's drop-in is one of them; sounds lie beside it."""
    (tmp_path / "ask.py").write_text(block("applets.md", "python"))
    for name in ("question", "welcome", "sorry"):
        soundfile.write(tmp_path / f"{name}.wav", np.zeros(800, np.int16), 8000)
    registry = find_applets([tmp_path])
    assert registry.problems == []
    return registry.applets


def test_the_worked_example_is_under_40_lines() -> None:
    assert len(block("applets.md", "python").splitlines()) < 40


@pytest.mark.parametrize(("digit", "outcome", "then"), [("1", "yes", "bot"), ("2", "no", "bye")])
def test_the_worked_example(documented: dict[str, Any], tmp_path: Path, digit: str, outcome: str, then: str) -> None:
    flow, problems = read_flow(tomllib.loads(block("applets.md", "toml")), str(tmp_path / "flow.toml"), documented)
    assert flow is not None and not problems
    scene = Scene(flow)
    scene.call.start()
    assert scene.leg.log == ["answer", "play 800"]
    scene.leg.ears[0](digit, 100)
    assert scene.steps[0] == ("question", outcome)
    assert "silence" in scene.leg.log and "question_answered" in scene.kinds
    assert [event.fields["step"] for event in scene.events if event.kind == "step_started"] == ["question", then]
    if then == "bot":
        scene.call.leg_ended("user", "BYE")


def test_the_worked_example_when_the_caller_hangs_up(documented: dict[str, Any], tmp_path: Path) -> None:
    flow, _ = read_flow(tomllib.loads(block("applets.md", "toml")), str(tmp_path / "flow.toml"), documented)
    assert flow is not None
    scene = Scene(flow)
    scene.call.start()
    scene.call.leg_ended("user", "BYE")
    assert scene.leg.log == ["answer", "play 800", "silence"] and scene.ended


def test_the_flow_of_the_page(documented: dict[str, Any], tmp_path: Path) -> None:
    for text in blocks("flows.md", "toml"):
        flow, problems = read_flow(tomllib.loads(text), str(tmp_path / "flow.toml"), documented)
        assert problems == []
    flow, problems = read_flow(tomllib.loads(block("flows.md", "toml")), str(tmp_path / "flow.toml"), documented)
    assert flow is not None and not problems


def test_the_page_names_every_applet_option_and_outcome() -> None:
    page = (DOCS / "flows.md").read_text()
    for applet in find_applets().applets.values():
        assert f"`{applet.name}`" in page
        for name in [field.name for field in attrs.fields(applet.options)] + [one.name for one in applet.outcomes]:
            assert f"`{name}`" in page


def test_from_an_idea_to_a_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page's walk, with the files and the commands as they stand there, up to the server."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(applets, "__path__", list(applets.__path__))
    first, options, steps, outcomes, tones, test = blocks("applets.md", "python", "## From an idea")[:6]
    flow, config = blocks("applets.md", "toml", "## From an idea")[:2]
    assert main(["applet", "new", "press_one"]) == 0
    file = Path("my_applets/press_one.py")
    text = file.read_text()
    for begin, end, new in (
        ('"""Plays', "\n# isort", first),
        ("import attrs\n", "from agentstream.interfaces", "import attrs\n" + tones),
        ("    file: Path", "\n\n@implementer(IRun)", options),
        ("    async def _steps", "    def _pressed", steps + "\n"),
        ("    outcomes=(", "\n)\n", outcomes.rstrip()),
    ):
        text = text[: text.index(begin)] + new + text[text.index(end) :]
    file.write_text(text)
    Path("my_applets/tests/test_press_one.py").write_text(test)
    Path("flows").mkdir()
    Path("flows/press.toml").write_text(flow)
    Path("agentstream.toml").write_text(config)
    shutil.copy(SAMPLE.with_name("welcome.wav"), "flows/greeting.wav")
    for words in (
        ("pytest", "-q", "-p", "no:cacheprovider", "-W", "error", "my_applets"),
        ("agentstream", "check", "agentstream.toml"),
        ("ruff", "check", "--isolated", "--no-cache", "my_applets"),
        ("ruff", "format", "--isolated", "--no-cache", "--check", "my_applets"),
    ):
        ran = subprocess.run(
            [sys.executable, "-m", *words], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
    with ServerUnderTest(file=tmp_path / "agentstream.toml") as server:
        phone = server.call("100")
        phone.press("1")
        server.advance_until(lambda: phone.is_over)
        assert server.steps == [("ask", "one")]
    sys.modules.pop("applets.press_one")
