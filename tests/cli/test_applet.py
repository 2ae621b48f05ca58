"""``agentstream applet``: what is written works at once, and what is listed is what a server takes."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from agentstream.cli.applet_kinds import KINDS
from agentstream.cli.commands import main
from agentstream.flow.loader import load
from agentstream.flow.registry import find_applets
from agentstream.testing.dropin import load_applet
from agentstream.testing.server import ServerUnderTest
from tests.test_layering import APPLETS_MAY, imported_names, is_within

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, drop_ins: None) -> Path:
    """An empty working directory; drop-ins that were found in it are forgotten again."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def config_of(folder: Path, *paths: str) -> Path:
    """A config whose drop-ins are in these folders."""
    (folder / "flows").mkdir(exist_ok=True)
    file = folder / "agentstream.toml"
    file.write_text(f'[applets]\npath = {json.dumps(paths)}\n[flows]\npath = ["flows"]\n')
    return file


def tool(*words: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *map(str, words)], cwd=cwd, capture_output=True, text=True, timeout=120, check=False
    )


# -- new -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_what_is_written_is_an_applet(kind: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["applet", "new", "press_one", "--kind", kind]) == 0
    said = capsys.readouterr().out
    for line in ("my_applets/press_one.py", "my_applets/tests/test_press_one.py", 'path = ["my_applets"]'):
        assert line in said
    registry = load(config_of(folder, "my_applets")).registry
    assert registry.files["press_one"] == str(folder / "my_applets" / "press_one.py")
    assert load_applet(Path("my_applets/press_one.py")) is registry.applets["press_one"]


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_what_is_written_uses_what_is_public(kind: str, folder: Path) -> None:
    main(["applet", "new", "it", "--kind", kind])
    for file, allowed in (
        (Path("my_applets/it.py"), APPLETS_MAY),
        (Path("my_applets/tests/test_it.py"), ("agentstream.testing",)),
    ):
        ours = [name for _, name, _ in imported_names(file, "") if is_within(name, "agentstream")]
        assert ours and all(any(is_within(name, one) for one in allowed) for name in ours)
        assert ast.get_docstring(ast.parse(file.read_text()))


@pytest.mark.slow  # pytest, ruff and mypy are programs of their own
def test_what_is_written_passes_its_test_and_the_tools(folder: Path) -> None:
    """As a stranger has them (no settings but mypy's plugin), and with this project's own settings."""
    for kind in KINDS:
        main(["applet", "new", f"a_{kind}", "--kind", kind])
    tests = sorted(Path("my_applets/tests").iterdir())
    for test in tests:
        ran = tool("pytest", "-q", "-p", "no:cacheprovider", "-W", "error", test, cwd=folder)
        assert ran.returncode == 0 and "passed" in ran.stdout, ran.stdout + ran.stderr
    files = [file.resolve() for file in [*tests, *sorted(Path("my_applets").glob("*.py"))]]
    (folder / "mypy.ini").write_text("[mypy]\nstrict = True\nplugins = mypy_zope:plugin\n")
    for words, cwd in (
        (("ruff", "check", "--isolated", "--no-cache", *files), folder),
        (("ruff", "format", "--isolated", "--no-cache", "--check", *files), folder),
        (("ruff", "check", "--config", ROOT / ".ruff.toml", "--no-cache", *files), ROOT),
        (("ruff", "format", "--config", ROOT / ".ruff.toml", "--no-cache", "--check", *files), ROOT),
        (("mypy", "--cache-dir", folder / "cache", *files), folder),
    ):
        ran = tool(*words, cwd=cwd)
        assert ran.returncode == 0, ran.stdout + ran.stderr


def test_what_is_written_serves_a_call(folder: Path) -> None:
    main(["applet", "new", "by_number", "--kind", "plain"])
    flow = {
        "start": "ask",
        "step": {
            "ask": {"applet": "by_number", "prefix": "alice", "next": "talk", "on": {"other": "bye"}},
            "talk": {"applet": "echo", "seconds": 1},
            "bye": {"applet": "hangup"},
        },
    }
    with ServerUnderTest(flow, {"applets": {"path": [str(folder / "my_applets")]}}) as server:
        phone = server.call(user="alice")
        phone.hang_up()
        server.advance(1)
        assert server.steps[0] == ("ask", "matched")


def test_another_folder(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["applet", "new", "it", "--folder", "here/and there"]) == 0
    assert 'path = ["here/and there"]' in capsys.readouterr().out
    assert "it" in load(config_of(folder, "here/and there")).registry.applets


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("Press-One", '; "press_one" would do'),
        ("press one", '; "press_one" would do'),
        ("1st", ""),
        ("class", ""),
        ("_it", '; "it" would do'),
        ("größe", '; "gr_e" would do'),
        ("../it", '; "it" would do'),
        ("", ""),
        ("a" * 41, ""),
    ],
)
def test_names_that_are_none(name: str, hint: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["applet", "new", name])
    assert caught.value.code == 2 and not list(folder.iterdir())
    said = capsys.readouterr().err.strip()
    wanted = "expected up to 40 lower-case letters, digits and _, a letter first, and no word of Python's"
    assert said.endswith(f"found {json.dumps(name)}, {wanted}{hint}")


def test_a_name_that_is_taken(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["applet", "new", "play"]) == 1
    assert f'the name "play" is taken by {ROOT / "applets" / "play.py"}: take another.' in capsys.readouterr().err
    assert not list(folder.iterdir())


def test_a_name_that_a_drop_in_of_the_folder_has(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["applet", "new", "first"])
    file = Path("my_applets/first.py")
    file.write_text(file.read_text().replace('name="first"', 'name="second"'))
    (folder / "my_applets" / "third").mkdir()
    (folder / "my_applets" / "third" / "__init__.py").touch()
    for name, sentence in (
        ("second", f'the name "second" is taken by {file.resolve()}: take another.'),
        ("third", 'the name "third" is taken by another module of applets: take another.'),
    ):
        assert main(["applet", "new", name]) == 1
        assert sentence in capsys.readouterr().err


@pytest.mark.parametrize("there", ["it.py", "tests/test_it.py"])
def test_files_that_are_there_stay(there: str, capsys: pytest.CaptureFixture[str]) -> None:
    file = Path("my_applets", there)
    file.parent.mkdir(parents=True)
    file.write_text("mine")
    assert main(["applet", "new", "it"]) == 1
    assert f"{file} is there already: take another name, or another --folder." in capsys.readouterr().err
    assert file.read_text() == "mine"
    assert [path for path in Path("my_applets").rglob("*") if path.is_file()] == [file]


def test_a_folder_that_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    Path("my_applets").write_text("a file")
    assert main(["applet", "new", "it"]) == 1
    assert "agentstream: my_applets/tests cannot be written: " in capsys.readouterr().err


def test_a_drop_in_with_a_mistake_fails_its_test() -> None:
    main(["applet", "new", "it"])
    file = Path("my_applets/it.py")
    file.write_text(file.read_text().replace('"doc": ', '"dock": '))
    with pytest.raises(AssertionError, match=r"applet\.options\.file: has no documentation"):
        load_applet(file)
    file = Path("my_applets/that.py")
    file.write_text("1 / 0\n")
    with pytest.raises(AssertionError, match=r"line 1: cannot be imported: ZeroDivisionError(.|\n)*Traceback"):
        load_applet(file)


def test_a_drop_in_with_two_applets_is_asked_for_by_name() -> None:
    main(["applet", "new", "it"])
    file = Path("my_applets/it.py")
    text = file.read_text()
    second = text[text.index("applet = Applet(") :].replace('"it"', '"other"')
    file.write_text(text + "\n\n" + second.replace("applet = ", "other = "))
    assert load_applet(file, "other").name == "other"
    with pytest.raises(AssertionError, match=r"has the applets \['it', 'other'\]: name one of them"):
        load_applet(file)


def test_each_of_two_applets_in_one_file_says_what_it_is_for(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["applet", "new", "it"])
    file = Path("my_applets/it.py")
    text = file.read_text()
    second = text[text.index("applet = Applet(") :].replace('name="it"', 'name="other", doc="For other days."')
    file.write_text(
        text.replace('name="it"', 'name="it", doc="For most days."') + second.replace("applet = ", "other = ")
    )
    config = config_of(folder, "my_applets")
    capsys.readouterr()
    assert main(["applet", "list", "--config", str(config)]) == 0
    said = capsys.readouterr().out
    assert "it: For most days." in said and "other: For other days." in said


# -- list ----------------------------------------------------------------------------------------------------------


def test_every_applet_with_its_options_and_outcomes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["applet", "list"]) == 0
    said = re.sub(" +", " ", capsys.readouterr().out)  # columns are as wide as they need
    for name, applet in find_applets().applets.items():
        assert f"{name}: " in said
        assert all(outcome.doc in said for outcome in applet.outcomes)
    assert "play: Plays a sound file to the caller." in said
    assert " option seconds 0 s How long; 0 goes on until the caller hangs up. (a whole number of s from 0" in said
    assert " option chunk_ms [stream] chunk_ms: 100 ms " in said
    assert " outcome failed on.failed, else next The file could not be played." in said


def test_the_same_for_programs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["applet", "new", "by_number", "--kind", "plain"])
    config = config_of(folder, "my_applets")
    config.write_text(config.read_text() + "[stream]\nchunk_ms = 40\n")
    capsys.readouterr()
    assert main(["applet", "list", "--config", str(config), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["problems"] == []
    by_name = {applet["name"]: applet for applet in said["applets"]}
    assert by_name["by_number"] == {
        "name": "by_number",
        "doc": "Decides by the caller's number which step is next.",
        "file": str(folder / "my_applets" / "by_number.py"),
        "needs_answer": False,
        "after_hangup": False,
        "options": [
            {
                "name": "prefix",
                "doc": "How the numbers meant begin.",
                "required": True,
                "default": None,
                "setting": None,
                "unit": None,
                "expected": "a string",
            }
        ],
        "outcomes": [
            {"name": "matched", "doc": "The number begins so.", "required": False, "ordinary": True},
            {"name": "other", "doc": "It does not.", "required": True, "ordinary": False},
        ],
    }
    chunk = next(option for option in by_name["voicebot"]["options"] if option["name"] == "chunk_ms")
    assert (chunk["default"], chunk["setting"], chunk["unit"]) == (40, "stream.chunk_ms", "ms")


def test_broken_drop_ins_are_shown_with_their_reason(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "my_applets").mkdir()
    (folder / "my_applets" / "broken.py").write_text('"""Broken."""\n\nimport no_such_module\n')
    (folder / "my_applets" / "empty.py").write_text('"""Empty."""\n')
    config = config_of(folder, "my_applets")
    assert main(["applet", "list", "--config", str(config)]) == 1
    told = capsys.readouterr()
    reason = "cannot be imported: ModuleNotFoundError: No module named 'no_such_module'"
    broken = folder / "my_applets" / "broken.py"
    assert f"error: {broken}: line 3: {reason}" in told.out and "play: Plays" in told.out
    assert told.err == "2 mistakes in the drop-ins\n"
    assert main(["applet", "list", "--config", str(config), "--json"]) == 1
    first, second = json.loads(capsys.readouterr().out)["problems"]
    assert first == {"file": str(broken), "path": "line 3", "reason": reason}
    assert second["reason"].startswith("has no applet, expected a module-level instance")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('[applets]\npath = ["nowhere"]\n', "which is no folder; make it, or name another"),
        ("[applets\n", "is not TOML"),
    ],
)
def test_a_config_that_leads_nowhere(
    text: str, sentence: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "agentstream.toml").write_text(text)
    assert main(["applet", "list", "--config", "agentstream.toml"]) == 1
    assert sentence in capsys.readouterr().out


def test_what_else_is_wrong_with_a_config_is_for_check(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = config_of(folder)
    config.write_text(config.read_text() + '[[route]]\nto = "1000"\nflow = "none"\n')
    assert main(["applet", "list", "--config", str(config)]) == 0
    assert "error" not in capsys.readouterr().out
