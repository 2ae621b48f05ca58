"""What a message may show of a URL, be it a right one or not: never who logs in there, nor what its query says."""

from __future__ import annotations

import re

HIDDEN = "***"

# A password that is not escaped as it should be may hold anything: what counts is the last @.
_USERINFO = re.compile(r"(:/+|//+).*@", re.DOTALL)
_PASSWORD = re.compile(r"^((?>sips?:[^:]*|[^:/]*)):(?!/).*@", re.DOTALL | re.IGNORECASE)
_URL = re.compile(r".*(?::/|//)|\S*/\S*[?#]|\S*\?\S*=", re.DOTALL)
"""What is a URL, or was meant to be one: its scheme may be wrong, or not there."""
_TOLD = frozenset(["sample-rate", "transport", "lr"])
"""Names whose values are nobody's secret."""


def without_secrets(text: str) -> str:
    """The text of a URL without userinfo, fragment and the values of its query; of a SIP URI without its password."""
    text = _PASSWORD.sub(rf"\1:{HIDDEN}@", text)
    if not _URL.match(text):
        return text
    text, hash_mark, _fragment = _USERINFO.sub(rf"\1{HIDDEN}@", text).partition("#")
    before, mark, query = text.partition("?")
    items = "&".join(_item(item) for item in query.split("&"))
    return before + mark + items + (hash_mark and hash_mark + HIDDEN)


def _item(item: str) -> str:
    name, equals, value = item.partition("=")
    if not equals:
        return HIDDEN if item else ""
    return f"{name}={value if name in _TOLD else HIDDEN}"
