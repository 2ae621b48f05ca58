"""The examples of docs/testing.md run as they stand there, and the page names what there is."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import pytest

from agentstream.testing import bots, hostile_bots
from agentstream.testing.applet import AppletRun
from agentstream.testing.phone import Phone
from agentstream.testing.server import ServerUnderTest

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "testing.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
TESTS = [(number, name) for number, text in enumerate(EXAMPLES) for name in re.findall(r"^def (test_\w+)", text, re.M)]


@pytest.fixture
def folder(tmp_path: Path, drop_ins: None) -> Path:
    """A folder with the drop-in of docs/applets.md in it, and one for its tests."""
    example = re.search(r"## A whole one.*?```python\n(.*?)```", (DOCS / "applets.md").read_text(), re.DOTALL)
    assert example is not None
    (tmp_path / "ask.py").write_text(example[1])
    (tmp_path / "tests").mkdir()
    return tmp_path


@pytest.mark.parametrize(("number", "name"), TESTS, ids=[name for _, name in TESTS])
def test_example(number: int, name: str, folder: Path) -> None:
    file = folder / "tests" / "test_example.py"
    module: dict[str, Any] = {"__file__": str(file), "__name__": "test_example"}
    exec(compile(EXAMPLES[number], str(file), "exec"), module)
    test = module[name]
    test(folder) if inspect.signature(test).parameters else test()


def test_the_page_names_every_script() -> None:
    scripts = [
        name
        for name, value in {**vars(bots), **vars(hostile_bots)}.items()
        if isinstance(value, type) and issubclass(value, bots.Session) and not name.startswith("_")
    ]
    assert len(scripts) > 15
    assert [name for name in scripts if f"`{name}" not in PAGE] == []


@pytest.mark.parametrize("kind", [AppletRun, ServerUnderTest, Phone])
def test_the_page_names_what_they_do(kind: type) -> None:
    public = [name for name, value in vars(kind).items() if not name.startswith("_") and callable(value)]
    explained = {"start", "stop", "now", "description", "send", "send_rtp", "close"}
    assert [name for name in public if name not in explained and f"{name}(" not in PAGE] == []
