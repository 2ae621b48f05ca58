"""Many cases in one test: a rule is one line of ``pytest -v``, and what failed is named all the same."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any

Test = Callable[..., None]


def cases(
    names: str | Sequence[str], values: Iterable[Any], ids: Sequence[str] | Callable[[Any], str] | None = None
) -> Callable[[Test], Test]:
    """As ``pytest.mark.parametrize``, but all cases are one test, which runs them all and then fails for each that did.

    They share the test's fixtures, so each must leave them as it found them.
    """
    arguments = (names,) if isinstance(names, str) else tuple(names)
    tuples = [(value,) if isinstance(names, str) else tuple(value) for value in values]

    def label(index: int) -> str:
        if ids is None or callable(ids):
            return ", ".join(repr(value) if ids is None else str(ids(value)) for value in tuples[index])
        return ids[index]

    def decorate(test: Test) -> Test:
        @functools.wraps(test)
        def run(**fixtures: Any) -> None:
            failed: list[Exception] = []
            for index, values_of_one in enumerate(tuples):
                try:
                    test(**fixtures, **dict(zip(arguments, values_of_one, strict=True)))
                except Exception as error:
                    error.add_note(f"in the case: {label(index)}")
                    failed.append(error)
            if len(failed) == 1:
                raise failed[0]
            if failed:
                raise ExceptionGroup(f"{len(failed)} of {len(tuples)} cases failed", failed)

        signature = inspect.signature(test)
        left = [one for name, one in signature.parameters.items() if name not in arguments]
        run.__signature__ = signature.replace(parameters=left)  # type: ignore[attr-defined]
        return run

    return decorate
