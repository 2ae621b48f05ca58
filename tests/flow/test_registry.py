"""Drop-ins: each is imported, checked, and refused by name when something is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from agentstream.flow.registry import Registry, find_applets

GOOD = """
from __future__ import annotations
import attrs
from twisted.internet.defer import succeed
from twisted.plugin import IPlugin
from zope.interface import implementer
from agentstream.interfaces import IApplet, IRun, Outcome

@attrs.frozen
class Options:
    text: str = attrs.field(default="a", metadata={"doc": "Something."})

@implementer(IRun)
class Run:
    def start(self):
        return succeed("done")
    def stop(self, reason):
        pass

@implementer(IPlugin, IApplet)
class Thing:
    name = "thing"
    options = Options
    outcomes = (Outcome("done"),)
    needs_answer = True
    after_hangup = False
    def open(self, call, options):
        return Run()

thing = Thing()
"""


@pytest.fixture
def folder(tmp_path: Path, drop_ins: None) -> Path:
    """An empty folder of drop-ins that is forgotten afterwards."""
    return tmp_path


def find(folder: Path, **modules: str) -> Registry:
    for name, text in modules.items():
        (folder / f"{name}.py").write_text(text)
    return find_applets([folder])


def test_our_own() -> None:
    registry = find_applets()
    assert registry.problems == []
    assert {"voicebot", "play", "echo", "hangup"} <= set(registry.applets)


def test_a_good_one_and_a_module_for_others(folder: Path) -> None:
    registry = find(folder, thing=GOOD, _shared="x = 1", also=GOOD.replace('"thing"', '"also"'))
    assert registry.problems == []
    assert registry.files["thing"] == str(folder / "thing.py") and "also" in registry.applets


@pytest.mark.parametrize(
    ("old", "new", "path", "sentence"),
    [
        ("thing = Thing()", "1 / 0", "line 30", "cannot be imported: ZeroDivisionError: division by zero"),
        ("thing = Thing()", "thing = (", "line 30", "cannot be imported: SyntaxError: "),
        ("thing = Thing()", "raise SystemExit(1)", "line 30", "cannot be imported: SystemExit: 1"),
        ("thing = Thing()", "thing = Thing", "", "has no applet, expected a module-level instance that provides"),
        ("(IPlugin, IApplet)", "(IApplet)", "thing", "provides IApplet and not IPlugin, expected both"),
        ("    needs_answer = True\n", "", "thing.needs_answer", "is missing, expected: The call is answered before"),
        ("(self, call, options)", "(self, call)", "thing.open", "does not fit open(call, options): implementation"),
        ('"thing"', '"A Thing"', "thing.name", "found 'A Thing', expected lower-case letters, digits, - and _"),
        ("= True", "= 'no'", "thing.needs_answer", "found 'no', expected True or False"),
        ('(Outcome("done"),)', '["done"]', "thing.outcomes", "expected a tuple of Outcome with the ordinary one first"),
        ('(Outcome("done"),)', '(Outcome("a"),) * 2', "thing.outcomes", "has one name twice"),
        ("options = Options", "options = dict", "thing.options", "expected an attrs class"),
        ("text: str", "text: Text", "thing.options", "has an annotation that cannot be resolved: name 'Text'"),
        ("text: str", "text: dict", "thing.options.text", "has a type that TOML does not give"),
        ("text: str", "text: int", "thing.options.text", "has 'a' as its default, expected a whole number"),
        ("text: str", "next: str", "thing.options.next", "has a name that belongs to the flow"),
        ("text: str", "_text: str", "thing.options._text", "expected an option that can be given by its own name"),
        ('"doc": "Something."', "", "thing.options.text", "has no documentation, expected metadata="),
        ('"doc": ', '"rnage": (1, 2), "doc": ', "thing.options.text", 'has metadata "rnage", which nothing reads'),
        ('"doc": ', '"file": "image", "doc": ', "thing.options.text", 'has metadata "file", expected "audio"'),
        ('"doc": ', '"setting": "a.b", "doc": ', "thing.options.text", 'has metadata "setting" that is no setting'),
    ],
)
def test_one_mistake_and_its_sentence(folder: Path, old: str, new: str, path: str, sentence: str) -> None:
    assert old in GOOD
    registry = find(folder, thing=GOOD.replace(old, new))
    assert "thing" not in registry.applets
    (problem,) = registry.problems
    assert (problem.file, problem.path) == (str(folder / "thing.py"), path)
    assert problem.sentence.startswith(sentence), problem.sentence
    if "imported" in sentence:
        assert "Traceback" in registry.tracebacks[problem.file]


def test_two_applets_of_one_name(folder: Path) -> None:
    registry = find(folder, thing=GOOD, thong=GOOD)
    (problem,) = registry.problems
    assert problem.file == str(folder / "thong.py")
    assert problem.sentence.startswith(f'is a second applet with the name "thing", the first is in {folder}/thing.py')


def test_two_modules_of_one_name(folder: Path) -> None:
    registry = find(folder, play=GOOD)
    (problem,) = registry.problems
    assert problem.sentence.startswith("is a second module of this name, the first is ")
    assert "play" in registry.applets


def test_another_folder_with_a_module_of_that_name_is_read_anew(folder: Path) -> None:
    one, two = folder / "one", folder / "two"
    one.mkdir()
    two.mkdir()
    assert "thing" in find(one, thing=GOOD).applets
    registry = find(two, thing=GOOD.replace('"thing"', '"other"'))
    assert "other" in registry.applets and "thing" not in registry.applets
    assert find_applets([two, two]).problems == []


def test_an_edited_one_is_imported_anew(folder: Path) -> None:
    shared = "WORD = 'old'\n"
    good = GOOD.replace("thing = Thing()", "from applets import _shared\nthing = Thing()\nthing.word = _shared.WORD")
    before = find(folder, one=good, _shared=shared).applets["thing"]
    assert find(folder).applets["thing"] is before, "what was not edited stays"
    find(folder, _shared="WORD = 'newer'\n")
    after = find(folder).applets["thing"]
    assert after is not before
    assert (vars(before)["word"], vars(after)["word"]) == ("old", "newer")


def test_an_edited_one_that_is_broken_is_a_problem_until_it_is_mended(folder: Path) -> None:
    before = find(folder, one=GOOD).applets["thing"]
    (problem,) = find(folder, one=GOOD + "(").problems
    assert "cannot be imported" in problem.sentence
    assert before.name == "thing" and before.open(None, None).start().called, "who has the old one goes on with it"
    mended = find(folder, one=GOOD + "# mended")
    assert not mended.problems and mended.applets["thing"] is not before
