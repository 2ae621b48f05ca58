"""One target in a process of its own: ``python -m tests.fuzz.one TARGET [libFuzzer's arguments] [FOLDERS or FILES]``.

A file is run once, which is how a finding is looked at again. The process ends in the fuzzer's own way.
"""

from __future__ import annotations

import contextlib
import io
import sys

import atheris


def main() -> None:
    """Import the parsers so that every branch of them is counted, then let the fuzzer have them."""
    with contextlib.redirect_stderr(io.StringIO()), atheris.instrument_imports(include=["agentstream"]):
        from tests.fuzz.targets import TARGETS
    target = TARGETS[sys.argv[1]]
    atheris.Setup([sys.argv[0], *sys.argv[2:]], target.run)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
