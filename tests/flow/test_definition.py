"""Flow files: refused whole with every mistake, or usable whole."""

from __future__ import annotations

import tomllib
from pathlib import Path

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentstream.config.model import Config
from agentstream.config.streams import Stream
from agentstream.flow.definition import Flow, read_flow
from agentstream.interfaces import Outcome
from tests.flow.fakes import FakeApplet


@attrs.frozen
class MenuOptions:
    """What a menu may set."""

    digits: int = attrs.field(default=1, metadata={"doc": "How many.", "range": (1, 9)})
    chunk_ms: int = attrs.field(default=100, metadata={"doc": "Chunks.", "setting": "stream.chunk_ms"})


MENU_OUTCOMES = (Outcome("pressed"), Outcome("timeout"), Outcome("wrong", "an unknown digit", required=True))
APPLETS = {
    "say": FakeApplet("say"),
    "menu": FakeApplet("menu", outcomes=MENU_OUTCOMES, options=MenuOptions),
    "bot": FakeApplet("bot", outcomes=(Outcome("done"), Outcome("failed"))),
}

GOOD = """
name = "support"
start = "ask"
[step.ask]
applet = "menu"
digits = 2
next = "talk"
on.wrong = "sorry"
[step.talk]
applet = "bot"
on.failed = "sorry"
[step.sorry]
applet = "say"
"""


def flow_and_problems(text: str, config: Config | None = None) -> tuple[Flow | None, list[str]]:
    flow, problems = read_flow(tomllib.loads(text), "flow.toml", APPLETS, config)
    return flow, [str(problem).removeprefix("flow.toml: ") for problem in problems]


def test_targets_of_outcomes() -> None:
    flow, problems = flow_and_problems(GOOD)
    assert flow is not None and not problems
    ask, talk, sorry = flow.steps.values()
    assert ask.options == MenuOptions(2)
    assert ask.targets == {"pressed": "talk", "timeout": "talk", "wrong": "sorry"}
    assert flow.following(talk, "done") is None and flow.following(talk, "failed") is sorry
    assert sorry.targets == {}


def test_an_option_that_is_not_set_takes_the_nodes_setting() -> None:
    config = Config(stream=Stream(chunk_ms=40))
    flow, _ = flow_and_problems(GOOD, config)
    assert flow is not None and flow.steps["ask"].options.chunk_ms == 40
    flow, _ = flow_and_problems(GOOD.replace("digits = 2", "chunk_ms = 60"), config)
    assert flow is not None and flow.steps["ask"].options.chunk_ms == 60


@pytest.mark.parametrize(
    ("old", "new", "problems"),
    [
        ('name = "support"', "", ["name: is missing, expected the name that routes give this flow"]),
        ('start = "ask"', "", ["start: is missing, expected the name of the first step"]),
        ('start = "ask"', 'start = "aks"', ['start: found "aks", expected the name of a step; did you mean "ask"?']),
        ('start = "ask"', 'start = "ask"\nfoo = 1', ["foo: is not known here; known are: name, start, step"]),
        ('"menu"', '"meun"', ['step.ask.applet: found "meun", expected the name of an applet; did you mean "menu"?']),
        ('applet = "say"', "", ["step.sorry.applet: is missing, expected the name of an applet"]),
        ("digits = 2", "digit = 2", ['step.ask.digit: is not known here; did you mean "digits"?']),
        ("digits = 2", "digits = 12", ["step.ask.digits: found 12, expected a whole number from 1 to 9"]),
        ("on.failed", "on.faild", ['step.talk.on.faild: is no outcome of "bot"; did you mean "failed"?']),
        ("on.failed", "on.done", ['step.talk.on.done: is the ordinary outcome of "bot"; write next instead']),
        (
            'on.failed = "sorry"',
            'on.failed = "sory"',
            ['step.talk.on.failed: found "sory", expected the name of a step; did you mean "sorry"?'],
        ),
        (
            'on.failed = "sorry"',
            'on = "sorry"',
            ['step.talk.on: found "sorry", expected a target for each outcome, such as on.failed = "sorry"'],
        ),
        (
            'on.wrong = "sorry"',
            "",
            ["step.ask.on.wrong: is missing, expected the step that follows this outcome (an unknown digit)"],
        ),
        (
            'next = "talk"',
            'next = "sorry"',
            ["step.talk: cannot be reached; make it the start or a target of another step, or take it out"],
        ),
        ('next = "talk"', "next = 5", ["step.ask.next: found 5, expected the name of a step"]),
    ],
)
def test_one_mistake_and_its_sentence(old: str, new: str, problems: list[str]) -> None:
    assert flow_and_problems(GOOD.replace(old, new, 1)) == (None, problems)


def test_several_mistakes_at_once() -> None:
    text = GOOD.replace("digits = 2", "digits = 12\nfoo = 1").replace('"sorry"', '"sory"').replace('"say"', '"sya"')
    assert len(flow_and_problems(text)[1]) == 5


def test_no_steps_at_all() -> None:
    assert flow_and_problems('name = "a"\nstart = "b"')[1] == [
        "step: is missing, expected a table for each step, such as [step.greet]"
    ]
    assert len(flow_and_problems("step = 5")[1]) == 3
    assert len(flow_and_problems('name = "a"\nstart = "b"\n[step]\nb = 5')[1]) == 1


def test_files_of_a_step_start_at_the_folder_of_the_flow(tmp_path: Path) -> None:
    from applets.play import play

    text = 'name = "a"\nstart = "b"\n[step.b]\napplet = "play"\nfile = "c.wav"'
    flow, (problem,) = read_flow(tomllib.loads(text), str(tmp_path / "flow.toml"), {"play": play})
    assert flow is None and problem.path == "step.b.file"
    assert problem.sentence == f"names {tmp_path / 'c.wav'}, which cannot be read: No such file or directory"
    (tmp_path / "c.wav").write_bytes(b"RIFF....WAVE but no more")
    _, (problem,) = read_flow(tomllib.loads(text), str(tmp_path / "flow.toml"), {"play": play})
    assert "which is no sound file (" in problem.sentence
    assert problem.sentence.endswith("); give a WAV, FLAC, Ogg or MP3 file")


words = st.sampled_from(["name", "start", "step", "applet", "next", "on", "a", "b", "say", "menu", "failed", "digits"])
anything = st.recursive(
    words | st.integers() | st.booleans() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words | st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


@given(
    st.dictionaries(words, anything)
    | st.builds(
        lambda start, steps: {"name": "a", "start": start, "step": steps},
        anything,
        st.dictionaries(words, st.dictionaries(words, anything)),
    )
)
def test_any_document_is_a_flow_or_has_problems(document: dict[str, object]) -> None:
    flow, problems = read_flow(document, "flow.toml", APPLETS)
    assert (flow is None) == bool(problems)
