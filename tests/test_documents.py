"""README and docs: what they link to and name exists, and the README begins with its two commands."""

from __future__ import annotations

import configparser
import pkgutil
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_within_the_project_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)\s#]+)(?:#[^)]*)?\)", page.read_text())
    broken = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert broken == []


def test_readme_begins_with_exactly_two_commands() -> None:
    """One installs and shows the main job, one installs and runs the tests; .ci/run takes the second from here."""
    lines = (ROOT / "README.md").read_text().partition("\n## ")[0].splitlines()
    commands = [line.strip() for line in lines if line.startswith("    ")]
    assert lines[0] == "# agentstream"
    assert len(commands) == 2
    assert all(command.startswith("python3 -m venv .venv && ") for command in commands)
    assert commands[0].endswith("agentstream demo")
    assert "-e '.[test]'" in commands[1] and "pytest" in commands[1]


def test_architecture_names_what_exists() -> None:
    """Each `agentstream.…` of docs/architecture.md is a module, or something in one."""
    names = set(re.findall(r"`(agentstream(?:\.\w+)+)`", (ROOT / "docs" / "architecture.md").read_text()))
    unknown = []
    for name in sorted(names):
        try:
            pkgutil.resolve_name(name)
        except (ImportError, AttributeError):
            unknown.append(name)
    assert names and unknown == []


def test_each_change_has_a_kind_that_the_release_notes_have() -> None:
    """Others are left out of them (docs/changes/README.md)."""
    types = tomllib.loads((ROOT / ".towncrier.toml").read_text())["tool"]["towncrier"]["type"]
    kinds = {one["directory"] for one in types}
    names = sorted(path.name for path in (ROOT / "docs" / "changes").iterdir() if path.name != "README.md")
    known = re.compile(rf"(\d+|\+[a-z0-9-]+)\.({'|'.join(kinds)})\.md")
    assert names and [name for name in names if not known.fullmatch(name)] == []


def test_each_dependency_says_what_it_replaces() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    extras = dict(setup["options.extras_require"])
    texts = [setup["options"]["install_requires"], *extras.values()]
    names = {re.split(r"[\[<>=]", line)[0] for text in texts for line in text.split()}
    page = (ROOT / "docs" / "adr" / "0001-dependencies.md").read_text()
    assert names and sorted(name for name in names if not re.search(rf"(?<![\w-]){name}(?![\w-])", page)) == []
