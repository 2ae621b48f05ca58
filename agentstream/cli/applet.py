"""``agentstream applet new NAME`` writes a drop-in with its test; ``agentstream applet list`` shows what there is.

What is written stands in ``applet_kinds.py``. What is listed is what the registry found and checked, so that a drop-in
which is listed here is one that a server takes.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import keyword
import pkgutil
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import attrs
import orjson

import applets
from agentstream.cli.applet_kinds import KINDS, written
from agentstream.config.model import Config
from agentstream.config.structure import expected, plain_type
from agentstream.errors import AgentstreamError, Problem
from agentstream.flow.loader import examine
from agentstream.flow.registry import Registry, find_applets
from agentstream.interfaces import Applet, IApplet

FOLDER = Path("my_applets")
"""Where a new drop-in goes unless another folder is named."""

MOST_LETTERS = 40
"""Of a new applet's name: the lines that hold it stay short, and so do the flow's."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The two commands and their options."""
    commands = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    new = commands.add_parser("new", help="write a new drop-in and its test", description="Write a drop-in and a test.")
    new.add_argument("name", metavar="NAME", type=_name, help="what flows call it: lower-case letters, digits and _")
    new.add_argument(
        "--folder",
        type=Path,
        default=FOLDER,
        metavar="DIR",
        help=f"where it goes; default: {FOLDER}, made when missing",
    )
    kinds = "; ".join(f"{name}: {kind.does}" for name, kind in KINDS.items())
    new.add_argument("--kind", choices=tuple(KINDS), default="play", help=f"what to start from. {kinds}. Default: play")
    shown = commands.add_parser("list", help="show every applet", description="Show every applet that there is.")
    shown.add_argument("--config", type=Path, metavar="FILE", help="also the drop-ins in the folders of this config")
    shown.add_argument("--json", action="store_true", help="print one JSON object and nothing else")


def run(args: argparse.Namespace) -> int:
    """0: written, or listed and nothing is broken. 1: refused, or a drop-in is broken. 2: wrong usage."""
    return _new(args.name, args.folder, args.kind) if args.action == "new" else _list(args.config, args.json)


# -- new -----------------------------------------------------------------------------------------------------------


def _name(text: str) -> str:
    """A name that is a module's, an applet's and one that a flow can say without quotes."""
    if re.fullmatch(r"[a-z][a-z0-9_]*", text) and not keyword.iskeyword(text) and len(text) <= MOST_LETTERS:
        return text
    wanted = f"expected up to {MOST_LETTERS} lower-case letters, digits and _, a letter first, and no word of Python's"
    better = re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")
    hint = f'; "{better}" would do' if better != text and _is_usable(better) else ""
    raise argparse.ArgumentTypeError(f"found {json.dumps(text)}, {wanted}{hint}")


def _is_usable(text: str) -> bool:
    try:
        return bool(_name(text))
    except argparse.ArgumentTypeError:
        return False


def _new(name: str, folder: Path, kind: str) -> int:
    """Write both files, or neither."""
    applet_file, test_file = folder / f"{name}.py", folder / "tests" / f"test_{name}.py"
    for file in (applet_file, test_file):
        if file.exists():
            raise AgentstreamError(f"{file} is there already: take another name, or another --folder.")
    _expect_free(name, folder)
    applet_text, test_text = written(kind, name)
    try:
        test_file.parent.mkdir(parents=True, exist_ok=True)
        for file, text in ((applet_file, applet_text), (test_file, test_text)):
            with file.open("x", encoding="utf-8") as stream:
                stream.write(text)
    except OSError as error:
        raise AgentstreamError(f"{error.filename or folder} cannot be written: {error.strerror}.") from None
    print("\n".join(_what_next(name, folder, kind, applet_file, test_file)))
    return 0


def _expect_free(name: str, folder: Path) -> None:
    """Raises when an applet, or a module of one, has the name: the server would refuse the second."""
    registry = find_applets([folder])
    modules = {module.name for module in pkgutil.iter_modules(applets.__path__)}
    if name in registry.applets:
        raise AgentstreamError(f'the name "{name}" is taken by {registry.files[name]}: take another.')
    if name in modules:
        raise AgentstreamError(f'the name "{name}" is taken by another module of applets: take another.')


def _what_next(name: str, folder: Path, kind: str, applet_file: Path, test_file: Path) -> Iterator[str]:
    yield f"wrote    {applet_file}"
    yield f"wrote    {test_file}"
    yield ""
    first = "" if importlib.util.find_spec("pytest") else "pip install pytest, then "
    yield f"test it  {first}pytest {test_file}"
    yield "serve it in a config file; a relative path starts at that file's folder:"
    yield ""
    yield "    [applets]"
    yield f"    path = [{json.dumps(str(folder), ensure_ascii=False)}]"
    yield ""
    yield "use it   in a flow:"
    yield ""
    yield f"    [step.{name}]"
    yield f'    applet = "{name}"'
    for line in KINDS[kind].flow_lines:
        yield f"    {line}"


# -- list ----------------------------------------------------------------------------------------------------------


def _list(file: Path | None, as_json: bool) -> int:
    """Every applet with its options and outcomes, then what is broken."""
    config, registry, problems = _found(file)
    shown = [_applet(applet, config, registry) for _, applet in sorted(registry.applets.items())]
    if as_json:
        broken = [{"file": one.file, "path": one.path, "reason": one.sentence} for one in problems]
        print(orjson.dumps({"applets": shown, "problems": broken}, default=str).decode())
    else:
        print("\n\n".join("\n".join(_lines(applet)) for applet in shown))
        for problem in problems:
            print(f"\nerror: {problem}")
        if problems:
            print(f"{len(problems)} mistake{'s' if len(problems) > 1 else ''} in the drop-ins", file=sys.stderr)
    return 1 if problems else 0


def _found(file: Path | None) -> tuple[Config, Registry, list[Problem]]:
    """Settings, applets, and what keeps a drop-in from being one; what else is wrong with a config is for check."""
    if file is None:
        registry = find_applets()
        return Config(), registry, registry.problems
    loaded, problems = examine(file)
    about_folders = [
        problem
        for problem in problems
        if problem.file == str(file) and (not loaded.registry.applets or problem.path.startswith("applets"))
    ]
    return loaded.config, loaded.registry, [*about_folders, *loaded.registry.problems]


def _applet(applet: IApplet, config: Config, registry: Registry) -> dict[str, Any]:
    return {
        "name": applet.name,
        "doc": _doc(applet, registry),
        "file": registry.files[applet.name],
        "needs_answer": applet.needs_answer,
        "after_hangup": applet.after_hangup,
        "options": [_option(field, config) for field in attrs.fields(applet.options)],
        "outcomes": [
            {"name": one.name, "doc": one.doc, "required": one.required, "ordinary": one is applet.outcomes[0]}
            for one in applet.outcomes
        ],
    }


def _doc(applet: IApplet, registry: Registry) -> str:
    """The first line of its module's docstring; where a module has several applets, what each says of itself."""
    file = registry.files[applet.name]
    path = Path(file)
    module = sys.modules.get(f"applets.{path.parent.name if path.stem == '__init__' else path.stem}")
    own = applet.doc if isinstance(applet, Applet) else type(applet).__doc__
    is_alone = list(registry.files.values()).count(file) == 1
    text = (module and module.__doc__) if is_alone else own
    return _first_line(text or own or "")


def _first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "")


def _option(field: attrs.Attribute[Any], config: Config) -> dict[str, Any]:
    words = field.metadata
    default: Any = field.default
    if isinstance(default, attrs.Factory):  # type: ignore[arg-type]
        default = default.factory()
    setting = words.get("setting")
    if setting is not None:
        section, _, name = str(setting).partition(".")
        default = getattr(getattr(config, section), name)
    is_required = field.default is attrs.NOTHING and setting is None
    return {
        "name": field.name,
        "doc": words["doc"],
        "required": is_required,
        "default": None if is_required else _plain(default),
        "setting": setting,
        "unit": words.get("unit"),
        "expected": expected(plain_type(field.type), words),
    }


def _plain(value: Any) -> Any:
    """A default as JSON and TOML have it."""
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    return str(value) if isinstance(value, Path) else value


def _lines(applet: dict[str, Any]) -> Iterator[str]:
    """One applet as text: three columns, the second and third as wide as they need."""
    yield f"{applet['name']}: {applet['doc']}"
    yield f"  {applet['file']}"
    yield from _table([("option", one["name"], _default(one), _wants(one)) for one in applet["options"]])
    yield from _table([("outcome", one["name"], _weight(one), one["doc"]) for one in applet["outcomes"]])


def _table(rows: list[tuple[str, ...]]) -> Iterable[str]:
    widths = [max((len(row[column]) for row in rows), default=0) for column in range(4)]
    for row in rows:
        yield "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _default(option: dict[str, Any]) -> str:
    if option["required"]:
        return "required"
    value = "none" if option["default"] is None else json.dumps(option["default"], ensure_ascii=False)
    unit = f" {option['unit']}" if option["unit"] and option["default"] is not None else ""
    return f"[{'] '.join(option['setting'].split('.'))}: {value}{unit}" if option["setting"] else f"{value}{unit}"


def _wants(option: dict[str, Any]) -> str:
    return f"{option['doc']} ({option['expected']})"


def _weight(outcome: dict[str, Any]) -> str:
    where = "next" if outcome["ordinary"] else f"on.{outcome['name']}"
    if outcome["required"]:
        return f"{where}, required"
    return where if outcome["ordinary"] else f"{where}, else next"
