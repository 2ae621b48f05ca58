"""A drop-in from its file, imported and checked as a server does it: what the test of an applet begins with.

ask = load_applet(Path(__file__).parents[1] / "ask.py")
"""

from __future__ import annotations

from pathlib import Path

from agentstream.flow.registry import find_applets
from agentstream.interfaces import IApplet


def load_applet(file: Path, name: str = "") -> IApplet:
    """The applet of this module. AssertionError with every sentence that a server would refuse it with.

    :param name: the one of this name, where the module has several.
    """
    file = file.resolve()
    registry = find_applets([file.parent])
    problems = [str(problem) for problem in registry.problems if problem.file == str(file)]
    if problems:
        raise AssertionError("\n".join(problems) + "\n" + registry.tracebacks.get(str(file), ""))
    here = {known: applet for known, applet in registry.applets.items() if registry.files[known] == str(file)}
    if name in here:
        return here[name]
    if name or len(here) != 1:
        raise AssertionError(f"{file} has the applets {sorted(here)}: name one of them.")
    return here.popitem()[1]
