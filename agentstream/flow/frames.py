"""What a failure holds: the frames that its exception went through, each with all that it knew of its call.

Such a frame often knows the failure, too, so that only a garbage collection would find them. Whoever has passed a
failure on to an applet, or passes one on from one coroutine to another, lets its frames go.
"""

from __future__ import annotations

from typing import TypeVar

from twisted.python.failure import Failure

T = TypeVar("T")


def forget_frames(result: T) -> T:
    """A failure keeps its text and none of its frames; anything else stays as it is. Returns what it is given."""
    if isinstance(result, Failure):
        result.cleanFailure()  # type: ignore[no-untyped-call]
        error = result.value
        while error is not None:
            error.__traceback__ = None
            error = error.__cause__ or error.__context__
    return result
