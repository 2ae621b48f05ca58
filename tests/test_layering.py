"""Who may know whom: reads the source and fails when an import points up, sideways, or out of a pure room.

The table is the picture of docs/architecture.md. Imports inside functions and under ``TYPE_CHECKING`` count: a
dependency is one whenever it happens. That the checks see what they claim is shown by planting each kind of breach in a
copy of the tree.
"""

from __future__ import annotations

import ast
import shutil
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# From the bottom up. A room may import what stands on a line below its own, and nothing beside it.
STOREYS: tuple[frozenset[str], ...] = tuple(
    frozenset(line.split())
    for line in (
        "errors samples",
        "interfaces",
        "config",
        "audio",
        "sip sdp rtp wire",
        "net media ws",
        "flow store",
        "web dialer",
        "tap service cli testing __main__",
    )
)
ROOTS = STOREYS[-1]
"""The composition roots build everything, so they may know each other."""

PURE = frozenset(["sip", "sdp", "rtp", "wire", "audio", "config", "errors"])
IMPURE = frozenset(
    ["twisted", "autobahn", "socket", "ssl", "time", "asyncio", "select", "selectors", "random", "secrets", "threading"]
)
"""Time, randomness and the outside world; a pure room is given what it needs of them."""

INTERFACES_MAY = frozenset({"twisted.internet.defer", "twisted.plugin", "zope.interface"})
"""interfaces.py is no pure room: it names Deferred, Interface and IPlugin, and nothing else of the kind."""

APPLETS_MAY = ("agentstream.interfaces", "agentstream.audio")
DYNAMIC = frozenset({"import_module", "__import__", "namedAny", "namedModule", "requireModule"})


def imported_names(path: Path, package: str) -> Iterable[tuple[int, str, bool]]:
    """Every module that a file imports: (line, dotted name, whether at module level).

    ``from a import b`` gives ``a.b``, which is a module or a name in one: for rooms it is the same. Relative imports
    are resolved against ``package``; a call such as ``import_module("a.b")`` counts when its argument is written out.
    """
    return names_in_source(path.read_text(), package)


@cache
def names_in_source(source: str, package: str) -> tuple[tuple[int, str, bool], ...]:
    return tuple(names_below(ast.parse(source), package, True))


def names_below(node: ast.AST, package: str, at_module_level: bool) -> Iterator[tuple[int, str, bool]]:
    for child in ast.iter_child_nodes(node):
        for name in names_of(child, package):
            yield getattr(child, "lineno", 1), name, at_module_level
        is_deferred = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        yield from names_below(child, package, at_module_level and not is_deferred)


def names_of(node: ast.AST, package: str) -> list[str]:
    """What one node imports."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            parents = package.split(".")
            parents = parents[: len(parents) - node.level + 1]
            base = ".".join([*parents, base] if base else parents)
        return [f"{base}.{alias.name}" for alias in node.names]
    if isinstance(node, ast.Call) and node.args:
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        argument = node.args[0]
        if called in DYNAMIC and isinstance(argument, ast.Constant) and isinstance(argument.value, str):
            return [argument.value]
    if isinstance(node, ast.Attribute) and node.attr == "random" and getattr(node.value, "id", "") in ("np", "numpy"):
        return ["random"]  # numpy's randomness is randomness
    return []


def is_within(name: str, module: str) -> bool:
    return name == module or name.startswith(module + ".")


def storey_of(room: str) -> int | None:
    return next((level for level, rooms in enumerate(STOREYS) if room in rooms), None)


def breaches_of_room(room: str, name: str) -> Iterator[str]:
    """What is wrong with one import in a room of agentstream."""
    top, _, rest = name.partition(".")
    target = rest.partition(".")[0]
    if top == "agentstream" and target not in ("", room):
        here, there = storey_of(room), storey_of(target)
        if there is None:
            # Something in agentstream/__init__.py, such as __version__; anything that is a file has a place.
            if (ROOT / "agentstream" / target).exists() or (ROOT / "agentstream" / f"{target}.py").exists():
                yield f"imports {name}, a room without a place in the house"
        elif here is not None and there >= here and not (room in ROOTS and target in ROOTS):
            yield f"imports {name}, which is not below it"
    # The package alone is a place to look in, and flow's registry looks there; what lies in it has no name here.
    if top == "applets" and room not in ROOTS and not (room == "flow" and name == "applets"):
        yield f"imports {name}: drop-ins are found, not imported"
    if room in PURE and (top in IMPURE or is_within(name, "numpy.random")):
        yield f"imports {name} in a pure room"
    if room == "interfaces" and top in IMPURE and not any(is_within(name, allowed) for allowed in INTERFACES_MAY):
        yield f"imports {name}, but interfaces only name Deferred, Interface and IPlugin"
    if is_within(name, "twisted.protocols.sip"):
        yield f"imports {name}, which is RFC 2543 and installs the reactor"


def breaches(root: Path) -> list[str]:
    """Every breach of the house's rules in a tree, as ``file:line sentence``."""
    found: list[str] = []

    def note(path: Path, line: int, sentence: str) -> None:
        found.append(f"{path.relative_to(root)}:{line} {sentence}")

    house = root / "agentstream"
    for path in sorted(house.rglob("*.py")):
        parts = path.relative_to(house).with_suffix("").parts
        room = parts[0]
        package = ".".join(["agentstream", *parts[:-1]])
        if room != "__init__" and storey_of(room) is None:
            note(path, 1, f"is in {room}, a room without a place in the house")
        for line, name, at_module_level in imported_names(path, package):
            if room == "__init__":
                if is_within(name, "agentstream"):
                    note(path, line, f"imports {name}, but the package itself is empty")
            else:
                for sentence in breaches_of_room(room, name):
                    note(path, line, sentence)
            if at_module_level and is_within(name, "twisted.internet.reactor"):
                note(path, line, "imports the reactor when it is imported itself")

    for path in sorted((root / "applets").rglob("*.py")):
        for line, name, at_module_level in imported_names(path, "applets"):
            if is_within(name, "agentstream") and not any(is_within(name, allowed) for allowed in APPLETS_MAY):
                note(path, line, f"imports {name}: a drop-in knows interfaces and audio only")
            if at_module_level and is_within(name, "twisted.internet.reactor"):
                note(path, line, "imports the reactor when it is imported itself")

    for path in sorted((root / "twisted").rglob("*.py")):
        if path.name == "__init__.py":
            note(path, 1, "would overwrite Twisted's own package")
        for line, name, _ in imported_names(path, "twisted.plugins"):
            if is_within(name, "agentstream"):
                note(path, line, f"imports {name}: twistd reads every plugin at each start, so it is named as a string")
        tree = ast.parse(path.read_text())
        texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
        if path.name != "__init__.py" and "agentstream.tap" not in texts:
            note(path, 1, "does not name agentstream.tap")
    return found


def test_the_house_is_in_order() -> None:
    assert breaches(ROOT) == []


def test_every_room_is_read() -> None:
    """A check that reads no files finds no breach."""
    names = {
        name for path in (ROOT / "agentstream").rglob("*.py") for _, name, _ in imported_names(path, "agentstream")
    }
    assert {"agentstream.errors.RemoteProtocolError", "numpy", "zope.interface.Interface"} <= names


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the sources, to plant breaches in."""
    copy = tmp_path_factory.mktemp("tree")
    for folder in ("agentstream", "applets", "twisted"):
        if (ROOT / folder).exists():
            shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__", "*.wav"))
    return copy


def new_breaches(tree: Path, file: str, source: str) -> list[str]:
    """What the checks find more when ``source`` stands at the end of ``file``; the tree is as before afterwards."""
    before = set(breaches(tree))
    path = tree / file
    path.parent.mkdir(parents=True, exist_ok=True)
    old = path.read_text() if path.exists() else None
    path.write_text(f"{old or ''}\n{source}\n")
    try:
        return [breach for breach in breaches(tree) if breach not in before]
    finally:
        path.unlink() if old is None else path.write_text(old)


PLANTED = [
    # up, sideways, and by every way of writing an import
    ("agentstream/sip/planted.py", "from agentstream.net import edge", "agentstream.net.edge, which is not below it"),
    ("agentstream/sip/planted.py", "import agentstream.sdp.offer", "agentstream.sdp.offer, which is not below it"),
    ("agentstream/sip/planted.py", "from agentstream import flow", "agentstream.flow, which is not below it"),
    ("agentstream/sip/planted.py", "from ..flow import call", "agentstream.flow.call, which is not below it"),
    ("agentstream/sip/planted.py", "from .. import flow", "agentstream.flow, which is not below it"),
    (
        "agentstream/media/planted.py",
        "def f():\n    import agentstream.flow",
        "agentstream.flow, which is not below it",
    ),
    (
        "agentstream/media/planted.py",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from agentstream.ws import x",
        "agentstream.ws.x, which is not below it",
    ),
    (
        "agentstream/media/planted.py",
        "import importlib\nimportlib.import_module('agentstream.flow.call')",
        "agentstream.flow.call, which is not below it",
    ),
    ("agentstream/net/planted.py", "import agentstream.media", "agentstream.media, which is not below it"),
    ("agentstream/ws/planted.py", "import agentstream.net", "agentstream.net, which is not below it"),
    ("agentstream/flow/planted.py", "import agentstream.service", "agentstream.service, which is not below it"),
    ("agentstream/flow/planted.py", "import agentstream.store", "agentstream.store, which is not below it"),
    ("agentstream/errors.py", "import agentstream.config", "agentstream.config, which is not below it"),
    ("agentstream/interfaces.py", "import agentstream.audio", "agentstream.audio, which is not below it"),
    ("agentstream/audio/planted.py", "import agentstream.rtp", "agentstream.rtp, which is not below it"),
    # rooms that the picture does not have, and a package that is not empty
    ("agentstream/helpers.py", "", "a room without a place in the house"),
    ("agentstream/__init__.py", "import agentstream.sip", "the package itself is empty"),
    # pure rooms
    *(
        (f"agentstream/{room}/planted.py", f"def f():\n    import {module}", f"imports {module} in a pure room")
        for room in sorted(PURE - {"errors"})
        for module in ("twisted.internet", "socket", "time", "asyncio", "select", "random")
    ),
    ("agentstream/errors.py", "from time import monotonic", "imports time.monotonic in a pure room"),
    ("agentstream/rtp/planted.py", "import numpy as np\nx = np.random.default_rng()", "imports random in a pure room"),
    ("agentstream/rtp/planted.py", "from numpy.random import default_rng", "numpy.random.default_rng in a pure room"),
    (
        "agentstream/interfaces.py",
        "from twisted.internet import task",
        "interfaces only name Deferred, Interface and IPlugin",
    ),
    # the reactor
    ("agentstream/net/planted.py", "from twisted.internet import reactor", "imports the reactor"),
    ("agentstream/net/planted.py", "import twisted.protocols.sip", "RFC 2543"),
    ("applets/planted.py", "from twisted.internet import reactor", "imports the reactor"),
    # drop-ins
    ("applets/planted.py", "from agentstream.flow import call", "a drop-in knows interfaces and audio only"),
    ("applets/planted.py", "from agentstream import errors", "a drop-in knows interfaces and audio only"),
    ("applets/planted.py", "def f():\n    import agentstream.media", "a drop-in knows interfaces and audio only"),
    ("agentstream/flow/planted.py", "import applets.echo", "drop-ins are found, not imported"),
    # twisted/plugins
    ("twisted/plugins/__init__.py", "", "would overwrite Twisted's own package"),
    ("twisted/__init__.py", "", "would overwrite Twisted's own package"),
    ("twisted/plugins/planted.py", "import agentstream.tap\nx = 'agentstream.tap'", "it is named as a string"),
    ("twisted/plugins/planted.py", "x = 'agentstream.service'", "does not name agentstream.tap"),
]


@pytest.mark.parametrize(("file", "source", "sentence"), PLANTED)
def test_a_planted_breach_is_found(tree: Path, file: str, source: str, sentence: str) -> None:
    new = new_breaches(tree, file, source)
    assert any(breach.startswith(file) and sentence in breach for breach in new), new


ALLOWED = [
    ("agentstream/sip/planted.py", "from agentstream.errors import RemoteProtocolError\nfrom . import timers"),
    ("agentstream/rtp/planted.py", "import numpy as np\nfrom agentstream.audio import g711"),
    ("agentstream/media/planted.py", "import time, selectors\nfrom agentstream.rtp.matrix import HeaderMatrix"),
    ("agentstream/service.py", "def f():\n    from twisted.internet import reactor"),
    ("agentstream/cli/planted.py", "import agentstream.service, agentstream.testing"),
    ("agentstream/net/planted.py", "from agentstream import __version__"),
    ("agentstream/flow/planted.py", "import applets"),
    ("applets/planted.py", "from agentstream.interfaces import IApplet\nfrom agentstream.audio import tones"),
    ("twisted/plugins/planted.py", "x = 'agentstream.tap'"),
]


@pytest.mark.parametrize(("file", "source"), ALLOWED)
def test_what_is_allowed_is_no_breach(tree: Path, file: str, source: str) -> None:
    assert new_breaches(tree, file, source) == []
