"""What a flow file says: steps, and what follows each of their outcomes. A flow is refused whole or usable whole.

``next`` is the target of an applet's ordinary outcome (its first), ``on.OUTCOME`` of any other. An outcome without a
target follows ``next`` unless the applet marks it required; a step without a target ends the call.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

from agentstream.config.addresses import expect_name
from agentstream.config.model import Config
from agentstream.config.structure import Mistake, anchored, key, mismatch, nearest, read
from agentstream.errors import Problem
from agentstream.flow.files import file_mistakes
from agentstream.interfaces import IApplet

RESERVED = ("applet", "next", "on")
"""What a step's table says to the flow; everything else in it is an option of its applet."""


@attrs.frozen
class Step:
    """An applet with its options at one place of a flow.

    :ivar options: an instance of the applet's options class; relative paths in it are resolved already.
    :ivar targets: outcome -> name of the step that follows; an outcome that is not here ends the call.
    """

    name: str
    applet: IApplet
    options: Any
    targets: Mapping[str, str] = attrs.field(factory=dict)

    @property
    def ordinary(self) -> str:
        """The outcome that is followed where nothing else is known."""
        return self.applet.outcomes[0].name

    def has_outcome(self, name: str) -> bool:
        """The applet declares this outcome."""
        return any(outcome.name == name for outcome in self.applet.outcomes)


@attrs.frozen
class Flow:
    """What a call goes through. ``steps`` has every step by name, ``start`` is one of them."""

    name: str
    start: str
    steps: Mapping[str, Step]
    file: str = ""

    def following(self, step: Step, outcome: str) -> Step | None:
        """The step after this outcome of a step; None ends the call."""
        target = step.targets.get(outcome)
        return None if target is None else self.steps[target]


def read_flow(
    document: Mapping[str, Any],
    file: str,
    applets: Mapping[str, IApplet],
    config: Config | None = None,
) -> tuple[Flow | None, list[Problem]]:
    """A flow file's document as a flow, or None and every problem of it.

    :param applets: the applets that exist, by name.
    :param config: where options that are not set may find the node's setting.
    """
    problems = [Problem(file, mistake.path, mistake.sentence) for mistake in _shape(document)]
    tables = document.get("step")
    steps = tables if isinstance(tables, dict) else {}
    made: dict[str, Step] = {}
    for name, table in steps.items():
        step, mistakes = _read_step(name, table, steps, Path(file).parent, applets, config or Config())
        problems += [mistake.problem(file, f"step.{key(name)}") for mistake in mistakes]
        if step is not None:
            made[name] = step
    problems += [
        Problem(file, f"step.{key(name)}", _UNREACHABLE) for name in _unreachable(document.get("start"), steps)
    ]
    if problems:
        return None, problems
    return Flow(document["name"], document["start"], made, file), []


_UNREACHABLE = "cannot be reached; make it the start or a target of another step, or take it out"


def _shape(document: Mapping[str, Any]) -> Iterator[Mistake]:
    known = ("name", "start", "step")
    for name in document:
        if name not in known:
            yield Mistake(key(name), f"is not known here; {nearest(name, known)}")
    own_name = document.get("name")
    if own_name is None:
        yield Mistake("name", "is missing, expected the name that routes give this flow")
    elif not isinstance(own_name, str) or expect_name(own_name):
        yield Mistake("name", mismatch(own_name, expect_name("")))
    tables = document.get("step")
    steps = tables if isinstance(tables, dict) else {}
    if tables is not None and not isinstance(tables, dict):
        yield Mistake("step", mismatch(tables, "a table with a table for each step, such as [step.greet]"))
    elif not steps:
        yield Mistake("step", "is missing, expected a table for each step, such as [step.greet]")
    if document.get("start") is None:
        yield Mistake("start", "is missing, expected the name of the first step")
    elif steps:
        yield from _target("start", document["start"], steps)


def _target(path: str, value: object, steps: Iterable[str]) -> Iterator[Mistake]:
    if not isinstance(value, str):
        yield Mistake(path, mismatch(value, "the name of a step"))
    elif value not in steps:
        yield Mistake(path, f"{mismatch(value, 'the name of a step')}; {nearest(value, steps)}")


def _read_step(
    name: str,
    table: object,
    steps: Mapping[str, Any],
    folder: Path,
    applets: Mapping[str, IApplet],
    config: Config,
) -> tuple[Step | None, list[Mistake]]:
    if not isinstance(table, dict):
        return None, [Mistake("", mismatch(table, 'a table with at least applet = "NAME"'))]
    mistakes = [] if not expect_name(name) else [Mistake("", f"is no name for a step, expected {expect_name(name)}")]
    named = table.get("applet")
    applet = applets.get(named) if isinstance(named, str) else None
    if named is None:
        mistakes.append(Mistake("applet", "is missing, expected the name of an applet"))
    elif not isinstance(named, str):
        mistakes.append(Mistake("applet", mismatch(named, "the name of an applet")))
    elif applet is None:
        mistakes.append(Mistake("applet", f"{mismatch(named, 'the name of an applet')}; {nearest(named, applets)}"))
    targets, wrong = _read_targets(table, steps, applet)
    mistakes += wrong
    if applet is None:
        return None, mistakes
    asked = {option: value for option, value in table.items() if option not in RESERVED}
    options, wrong = read(applet.options, asked, also_known=RESERVED)
    mistakes += wrong + file_mistakes(applet.options, asked, folder)
    if mistakes:
        return None, mistakes
    return Step(name, applet, _from_node(anchored(options, folder), asked, config), targets), []


def _read_targets(
    table: Mapping[str, Any], steps: Iterable[str], applet: IApplet | None
) -> tuple[dict[str, str], list[Mistake]]:
    mistakes: list[Mistake] = []
    if "next" in table:
        mistakes += _target("next", table["next"], steps)
    on = table.get("on", {})
    if not isinstance(on, dict):
        return {}, [*mistakes, Mistake("on", mismatch(on, 'a target for each outcome, such as on.failed = "sorry"'))]
    for outcome, target in on.items():
        mistakes += _target(f"on.{key(outcome)}", target, steps)
    if applet is None:
        return {}, mistakes
    ordinary, *others = applet.outcomes
    names = [outcome.name for outcome in others]
    for outcome in on:
        if outcome == ordinary.name:
            mistakes.append(Mistake(f"on.{outcome}", f'is the ordinary outcome of "{applet.name}"; write next instead'))
        elif outcome not in names:
            known = nearest(outcome, names)
            mistakes.append(Mistake(f"on.{key(outcome)}", f'is no outcome of "{applet.name}"; {known}'))
    targets: dict[str, str] = {}
    for outcome in applet.outcomes:
        path = "next" if outcome is ordinary else f"on.{outcome.name}"
        target = table.get("next") if outcome is ordinary else on.get(outcome.name)
        if target is None and outcome.required:
            meaning = f" ({outcome.doc})" if outcome.doc else ""
            mistakes.append(Mistake(path, f"is missing, expected the step that follows this outcome{meaning}"))
        target = table.get("next") if target is None else target
        if target is not None:
            targets[outcome.name] = target
    return targets, mistakes


def _from_node(options: Any, asked: Mapping[str, Any], config: Config) -> Any:
    """Options that the step does not set and that name a setting of the node take its value."""
    changes = {}
    for field in attrs.fields(type(options)):
        if "setting" in field.metadata and field.name not in asked:
            section, _, name = field.metadata["setting"].partition(".")
            changes[field.alias] = getattr(getattr(config, section), name)
    return attrs.evolve(options, **changes) if changes else options


def _unreachable(start: object, steps: Mapping[str, Any]) -> list[str]:
    """Steps that no way from the start leads to.

    A misspelt target counts as its nearest step, so that one slip is not reported twice; with a target that means
    nothing, nobody can tell.
    """

    def meant(target: object) -> str | None:
        if not isinstance(target, str) or target in steps:
            return target if isinstance(target, str) else None
        return next(iter(difflib.get_close_matches(target, list(steps), n=1, cutoff=0.6)), None)

    first = meant(start)
    if first is None:
        return []
    reached: set[str] = set()
    waiting = [first]
    while waiting:
        name = waiting.pop()
        if name in reached:
            continue
        reached.add(name)
        table = steps[name]
        on = table.get("on", {}) if isinstance(table, dict) else None
        if not isinstance(table, dict) or not isinstance(on, dict):
            return []
        for target in [*([table["next"]] if "next" in table else []), *on.values()]:
            leads_to = meant(target)
            if leads_to is None:
                return []
            waiting.append(leads_to)
    return [name for name in steps if name not in reached]
