"""Which applets there are: every module of the package ``applets`` and of the configured folders, imported and checked.

``twisted.plugin.getPlugins`` alone would log a broken drop-in and go on, and would lose a module of the same name in a
second folder without a word. Here each of these is a problem with the module's file, and its traceback is kept.
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import re
import sys
import traceback
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import attrs
from twisted.plugin import IPlugin
from zope.interface import Interface
from zope.interface.exceptions import BrokenImplementation, BrokenMethodImplementation, Invalid
from zope.interface.verify import verifyObject

from agentstream.config.metadata import WORDS
from agentstream.config.model import Config
from agentstream.config.structure import expected, is_readable_type, plain_type, rule_broken
from agentstream.errors import Problem
from agentstream.flow.definition import RESERVED
from agentstream.interfaces import IApplet, Outcome

# By name: drop-ins stand above this room and are found, not imported.
applets_package = importlib.import_module("applets")

_OWN_FOLDERS = tuple(applets_package.__path__)


@attrs.define
class Registry:
    """The applets by name, where each was found, and what is wrong with those that were refused.

    :ivar tracebacks: the file of a module that does not import -> the whole traceback as text.
    """

    applets: dict[str, IApplet] = attrs.field(factory=dict)
    files: dict[str, str] = attrs.field(factory=dict)
    problems: list[Problem] = attrs.field(factory=list)
    tracebacks: dict[str, str] = attrs.field(factory=dict)


def find_applets(folders: Iterable[Path] = ()) -> Registry:
    """Import every module in the package ``applets`` and in these folders, and check what they provide.

    Modules whose name begins with an underscore are for the others to import and hold no applet.
    """
    registry = Registry()
    seen: dict[str, Path] = {}
    importlib.invalidate_caches()
    for folder in _distinct([*map(Path, _OWN_FOLDERS), *folders]):
        if str(folder) not in applets_package.__path__:
            applets_package.__path__.append(str(folder))
        modules = sorted(pkgutil.iter_modules([str(folder)]), key=lambda module: module.name)
        files = [_file_of(folder, module) for module in modules]
        if str(folder) not in _OWN_FOLDERS:
            _forget_edited(files)
        for module, file in zip(modules, files, strict=True):
            if module.name in seen:
                sentence = f"is a second module of this name, the first is {seen[module.name]}; rename one"
                registry.problems.append(Problem(str(file), "", sentence))
                continue
            seen[module.name] = file
            if not module.name.startswith("_") and file.exists():
                _add_module(registry, module.name, file)
    return registry


def _distinct(folders: Iterable[Path]) -> Iterable[Path]:
    done: set[Path] = set()
    for folder in folders:
        resolved = folder.resolve()
        if resolved not in done and resolved.is_dir():
            done.add(resolved)
            yield resolved


def _file_of(folder: Path, module: pkgutil.ModuleInfo) -> Path:
    return folder / module.name / "__init__.py" if module.ispkg else folder / f"{module.name}.py"


_imported: dict[Path, tuple[int, int]] = {}
"""Files of drop-ins as they were at the last look: (nanoseconds of their last change, octets)."""


def _forget_edited(files: Iterable[Path]) -> None:
    """Have a folder's modules imported anew where one of them was edited: they may import one another. Flows that run
    keep the objects that they have."""
    stamps = {file: (status.st_mtime_ns, status.st_size) for file in files if file.exists() for status in [file.stat()]}
    is_edited = any(_imported.get(file, stamp) != stamp for file, stamp in stamps.items())
    _imported.update(stamps)
    if not is_edited:
        return
    for full, module in list(sys.modules.items()):
        package, _, name = full.partition(".")
        source = getattr(module, "__file__", None)
        if package == applets_package.__name__ and source and _top_of(Path(source).resolve(), stamps):
            del sys.modules[full]
            # "from applets import _shared" asks the package first.
            vars(applets_package).pop(name, None)


def _top_of(source: Path, files: Iterable[Path]) -> bool:
    """The module is one of these files, or lies in a package that is."""
    return any(source == file or (file.name == "__init__.py" and file.parent in source.parents) for file in files)


def _import(name: str, file: Path) -> ModuleType:
    """The module ``applets.NAME`` from exactly this file."""
    full = f"{applets_package.__name__}.{name}"
    existing = sys.modules.get(full)
    if existing is not None and Path(existing.__file__ or "").resolve() == file:
        return existing
    spec = importlib.util.spec_from_file_location(full, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[full] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[full]
        raise
    setattr(applets_package, name, module)
    return module


def _add_module(registry: Registry, name: str, file: Path) -> None:
    def refuse(path: str, sentence: str) -> None:
        registry.problems.append(Problem(str(file), path, sentence))

    try:
        module = _import(name, file)
    except (Exception, SystemExit) as error:
        registry.tracebacks[str(file)] = traceback.format_exc()
        last = traceback.format_exception_only(error)[-1].strip()
        refuse(_line_in(error, file), f"cannot be imported: {last}")
        return
    found = 0
    for attribute, value in sorted(vars(module).items()):
        if isinstance(value, type) or not _provides(IApplet, value):
            continue
        found += 1
        if any(value is known for known in registry.applets.values()):
            continue
        if not _provides(IPlugin, value):
            refuse(attribute, "provides IApplet and not IPlugin, expected both")
            continue
        mistakes = list(_applet_mistakes(value))
        for path, sentence in mistakes:
            refuse(f"{attribute}.{path}" if path else attribute, sentence)
        if mistakes:
            continue
        if value.name in registry.applets:
            first = registry.files[value.name]
            refuse(attribute, f'is a second applet with the name "{value.name}", the first is in {first}; rename one')
            continue
        registry.applets[value.name] = value
        registry.files[value.name] = str(file)
    if not found:
        refuse("", "has no applet, expected a module-level instance that provides IPlugin and IApplet")


def _provides(interface: type[Interface], value: object) -> bool:
    try:
        return bool(interface.providedBy(value))
    except Exception:
        # An object whose attributes cannot even be asked for is nobody's applet.
        return False


def _line_in(error: BaseException, file: Path) -> str:
    """``line N``: the last line of this file that the error passed through, or that its syntax is wrong in."""
    if isinstance(error, SyntaxError) and error.filename == str(file):
        return f"line {error.lineno}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
    return f"line {lines[-1]}" if lines else ""


def _applet_mistakes(applet: Any) -> Iterable[tuple[str, str]]:
    try:
        verifyObject(IApplet, applet)
    except Invalid as invalid:
        # MultipleInvalid is one of several; each of these speaks for itself.
        for one in getattr(invalid, "exceptions", [invalid]):
            yield _part_that_is_broken(one)
        return
    if not isinstance(applet.name, str) or not re.fullmatch(r"[a-z][a-z0-9_-]*", applet.name):
        yield "name", f"found {applet.name!r}, expected lower-case letters, digits, - and _, with a letter first"
    for flag in ("needs_answer", "after_hangup"):
        if not isinstance(getattr(applet, flag), bool):
            yield flag, f"found {getattr(applet, flag)!r}, expected True or False"
    outcomes = applet.outcomes
    if not isinstance(outcomes, tuple) or not outcomes or not all(isinstance(one, Outcome) for one in outcomes):
        yield "outcomes", "expected a tuple of Outcome with the ordinary one first"
    elif len({outcome.name for outcome in outcomes}) != len(outcomes):
        yield "outcomes", "has one name twice, expected a name of its own for each outcome"
    yield from _options_mistakes(applet.options)


def _part_that_is_broken(invalid: Invalid) -> tuple[str, str]:
    """The attribute or method that does not fit the interface, and how."""
    if isinstance(invalid, BrokenMethodImplementation):
        method = invalid.method
        return method.getName(), f"does not fit {method.getName()}{method.getSignatureString()}: {invalid.mess}"
    if isinstance(invalid, BrokenImplementation):
        attribute = invalid.args[1]
        return attribute.getName(), f"is missing, expected: {attribute.getDoc()}"
    return "", " ".join(str(invalid).split())


def _options_mistakes(options: Any) -> Iterable[tuple[str, str]]:
    if not isinstance(options, type) or not attrs.has(options):
        yield "options", "expected an attrs class"
        return
    try:
        attrs.resolve_types(options)
    except Exception as error:
        yield "options", f"has an annotation that cannot be resolved: {error}"
        return
    for field in attrs.fields(options):
        path, words = f"options.{field.name}", field.metadata
        if not field.init or field.alias != field.name:
            yield path, "expected an option that can be given by its own name (no init=False, no leading underscore)"
            continue
        if field.name in RESERVED:
            yield path, f"has a name that belongs to the flow, expected another than {', '.join(RESERVED)}"
        if not isinstance(words.get("doc"), str) or not words["doc"]:
            yield path, 'has no documentation, expected metadata={"doc": "..."}'
        if field.type is None or not is_readable_type(field.type):
            yield (
                path,
                ("has a type that TOML does not give, expected str, int, float, bool, Path, or tuple[..., ...] of one"),
            )
            continue
        yield from ((path, sentence) for sentence in _words_mistakes(words))
        default = field.default
        if default is attrs.NOTHING or isinstance(default, attrs.Factory):  # type: ignore[arg-type]
            continue
        if not _fits(default, field.type) or (not isinstance(default, tuple) and rule_broken(default, words)):
            yield path, f"has {default!r} as its default, expected {expected(field.type, words)}"


def _words_mistakes(words: Mapping[str, Any]) -> Iterable[str]:
    known = WORDS - {"folder", "least"}
    for word in words:
        if isinstance(word, str) and word not in WORDS:
            yield f'has metadata "{word}", which nothing reads; known are: {", ".join(sorted(known))}'
    if "file" in words and words["file"] not in ("audio", "certificates", "any"):
        yield 'has metadata "file", expected "audio", "certificates" or "any"'
    if "setting" in words:
        section, _, name = str(words["setting"]).partition(".")
        if not hasattr(getattr(Config(), section, None), name):
            yield 'has metadata "setting" that is no setting of the node, such as "stream.chunk_ms"'


def _fits(value: Any, hint: Any) -> bool:
    """A default is of its field's type."""
    if value is None:
        return plain_type(hint) is not hint
    hint = plain_type(hint)
    if isinstance(value, tuple):
        return str(hint).startswith("tuple")
    if not isinstance(hint, type):
        return True
    if isinstance(value, bool):
        return hint is bool
    return isinstance(value, (int, float) if hint is float else hint)
