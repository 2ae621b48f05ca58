"""What a message may show of a URL, be it a right one or not: never who logs in there, nor what its query says."""

from __future__ import annotations

import re

HIDDEN = "***"

# A password that is not escaped as it should be may hold anything: what counts is the last @.
_USERINFO = re.compile(r"(:/+).*@", re.DOTALL)
_PASSWORD = re.compile(r"^((?>(?:sips?:)?)[^:/]*):(?!/).*@", re.DOTALL | re.IGNORECASE)
_TOLD = frozenset(["sample-rate", "transport", "lr"])
"""Names whose values are nobody's secret."""


def without_secrets(text: str) -> str:
    """The text of a URL without userinfo and without the values of its query; of a SIP URI without its password."""
    text = _PASSWORD.sub(rf"\1:{HIDDEN}@", text)
    if ":/" not in text:
        return text
    before, mark, query = _USERINFO.sub(rf"\1{HIDDEN}@", text).partition("?")
    return before + mark + "&".join(_item(item) for item in query.split("&")) if mark else before


def _item(item: str) -> str:
    name, equals, value = item.partition("=")
    if not equals:
        return HIDDEN if item else ""
    return f"{name}={value if name in _TOLD else HIDDEN}"
