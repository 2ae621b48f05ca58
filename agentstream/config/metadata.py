"""What a setting says about itself: one function that makes an attrs field with metadata, and that metadata's words.

The same words are understood in the options class of an applet, where a drop-in writes them as a plain dictionary:

``doc``       one line: what the setting is for (required everywhere)
``unit``      the unit of a number, such as ``ms``
``range``     ``(lowest, highest)`` of a number, both allowed
``multiple``  a number must be a multiple of this
``choices``   a string must be one of these
``example``   a value in TOML, for the documentation and for messages
``url``       a string must be a URL of one of these schemes, such as ``("ws", "wss")``
``file``      a path must be a file: ``"audio"`` that libsndfile can read, ``"certificates"`` in PEM, ``"any"``
``folder``    True: a path must be an existing folder
``least``     a list must have at least this many items
``alone``     True: a list of one string may be given as that string
``setting``   an applet's option that the step does not set takes this setting of the node, such as ``stream.chunk_ms``
``secret``    True: the value is in no message, and in no repr where :func:`setting` made the field
``check``     a function of one value (each item of a list) that returns what was expected, or "" when it is satisfied
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs

WORDS = frozenset(
    (
        *("doc", "unit", "range", "multiple", "choices", "example", "url"),
        *("file", "folder", "least", "alone", "setting", "secret", "check"),
    )
)


def setting(
    *,
    doc: str,
    default: Any = attrs.NOTHING,
    factory: Callable[[], Any] | None = None,
    **words: Any,
) -> Any:
    """An attrs field with this documentation. Without a default the setting must be given."""
    unknown = set(words) - WORDS
    if unknown:
        raise TypeError(f"no such metadata: {', '.join(sorted(unknown))}")
    metadata = {"doc": doc, **words}
    is_shown = not words.get("secret", False)
    if factory is not None:
        return attrs.field(factory=factory, metadata=metadata, kw_only=True, repr=is_shown)
    return attrs.field(default=default, metadata=metadata, kw_only=True, repr=is_shown)
