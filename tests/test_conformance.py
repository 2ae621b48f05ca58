"""docs/conformance.md: each test that it cites exists and carries the marker of its chapter, and each row cites one."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

import attrs
import pytest

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "conformance.md"

CONTRACT = "contract"

DEFAULTS = "The defaults of section 10"
WAITING = re.compile(r"belongs to [^,|]+, which (is|are) not served yet")


@attrs.frozen
class Chapter:
    """One heading of the page with what is below it.

    :ivar markers: any one of these is what its tests carry: numbers of RFCs, or CONTRACT.
    """

    title: str
    markers: frozenset[int | str]
    rows: tuple[tuple[str, ...], ...]
    ids: tuple[str, ...]


def chapters() -> list[Chapter]:
    found = []
    for part in re.split(r"^##+ ", PAGE.read_text(), flags=re.MULTILINE)[1:]:
        title, _, text = part.partition("\n")
        rows = [
            tuple(cell.strip() for cell in line.strip("|").split("|")) for line in re.findall(r"^\|.*\|$", text, re.M)
        ]
        numbers = {int(number) for number in re.findall(r"\d{4}", title)} if title.startswith("RFC ") else {CONTRACT}
        ids = re.findall(r"`(tests/[^`]*)`", text)
        if rows or ids:
            found.append(Chapter(title, frozenset(numbers), tuple(rows[2:]), tuple(ids)))
    return found


def marker_of(node: ast.expr) -> int | str | None:
    """``pytest.mark.rfc(3261)`` or ``pytest.mark.contract`` as what it marks."""
    text = ast.unparse(node)
    if text == "pytest.mark.contract":
        return CONTRACT
    number = re.fullmatch(r"pytest\.mark\.rfc\((\d+)\)", text)
    return int(number[1]) if number else None


def _markers(nodes: list[ast.expr]) -> frozenset[int | str]:
    return frozenset(marker for node in nodes if (marker := marker_of(node)) is not None)


@functools.cache
def markers_by_test(path: Path) -> dict[str, frozenset[int | str]]:
    """Every test of a file by its name (``TestClass::test_name`` in a class), with its own, its class's and its
    file's markers."""
    tree = ast.parse(path.read_text())
    of_file: frozenset[int | str] = frozenset()
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "pytestmark":
            of_file = _markers(node.value.elts if isinstance(node.value, ast.List) else [node.value])
    found = {}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            found[node.name] = of_file | _markers(node.decorator_list)
        elif isinstance(node, ast.ClassDef) and node.name.startswith("Test"):
            of_class = of_file | _markers(node.decorator_list)
            for inner in node.body:
                if isinstance(inner, ast.FunctionDef) and inner.name.startswith("test_"):
                    found[f"{node.name}::{inner.name}"] = of_class | _markers(inner.decorator_list)
    return found


def cited() -> list[tuple[Chapter, str]]:
    return [(chapter, test) for chapter in chapters() for test in dict.fromkeys(chapter.ids)]


def test_there_is_something_to_check() -> None:
    assert len(chapters()) >= 15 and len(cited()) > 100
    assert {3261, 3264, 3326, 3550, 3551, 3581, 4566, 4733, 4961, 5118, 5761, 6026, 6455, 8866, CONTRACT} <= {
        marker for chapter in chapters() for marker in chapter.markers
    }


@pytest.mark.parametrize(
    ("chapter", "test"),
    [pytest.param(chapter, test, id=f"{chapter.title.partition(':')[0]}: {test}") for chapter, test in cited()],
)
def test_a_cited_test_exists_and_carries_its_marker(chapter: Chapter, test: str) -> None:
    file, _, name = test.partition("::")
    assert (ROOT / file).is_file(), f"there is no {file}"
    tests = markers_by_test(ROOT / file)
    assert name in tests, f"{file} has no test {name}"
    assert tests[name] & chapter.markers, f"{test} carries {set(tests[name])}, and none of {set(chapter.markers)}"


@pytest.mark.parametrize("chapter", chapters(), ids=lambda chapter: chapter.title)
def test_each_row_cites_a_test(chapter: Chapter) -> None:
    for row in chapter.rows:
        is_waiting = chapter.title == DEFAULTS and WAITING.fullmatch(row[2])
        assert len(row) == 3 and ("`tests/" in row[2] or is_waiting), row


def test_each_row_of_section_10_is_there_once_and_its_tests_name_it() -> None:
    (defaults,) = (chapter for chapter in chapters() if chapter.title == DEFAULTS)
    assert [row[0] for row in defaults.rows] == [str(number) for number in range(1, 35)]
    for number, _, tests in defaults.rows:
        for test in re.findall(r"`(tests/[^`]*)`", tests):
            assert number in rows_of(test), f"row {number} cites {test}"


def rows_of(test: str) -> list[str]:
    """The rows that a test's name says: ``test_rows_1_2_3_5_...``, ``test_2_3_and_row_32_...``."""
    found = re.search(r"_rows?_((?:\d+_)+)", test)
    return found[1].rstrip("_").split("_") if found else []


def test_markers_are_read_where_they_may_stand(tmp_path: Path) -> None:
    """A check that finds a marker nowhere, or everywhere, would be worth nothing."""
    file = tmp_path / "test_x.py"
    file.write_text(
        "import pytest\n"
        "pytestmark = [pytest.mark.rfc(1), pytest.mark.slow]\n"
        "def test_plain(): ...\n"
        "@pytest.mark.rfc(2)\n@pytest.mark.contract\ndef test_two(): ...\n"
        "@pytest.mark.rfc(3)\nclass TestC:\n"
        "    @pytest.mark.rfc(4)\n    def test_in(self): ...\n    def helper(self): ...\n"
    )
    assert markers_by_test(file) == {"test_plain": {1}, "test_two": {1, 2, CONTRACT}, "TestC::test_in": {1, 3, 4}}


def test_a_test_of_the_contract_is_named_by_its_section_or_row() -> None:
    """So that `pytest -m contract -v` reads as the contract's own table of contents."""
    named = re.compile(r"(\w+::)?test_(\d+_|rows?_\d)")
    for file in sorted((ROOT / "tests").rglob("test_*.py")):
        for name, markers in markers_by_test(file).items():
            assert CONTRACT not in markers or named.match(name), f"{file}::{name}"
