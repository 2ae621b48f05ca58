"""Ids of calls and streams: 32 lower-case characters whose last four tell the date."""

from __future__ import annotations

import datetime
from collections.abc import Callable

_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_RANDOM_BYTES = 14


def new_sid(token: Callable[[int], str], date: datetime.date) -> str:
    """A new id: 28 random hex characters, then the date.

    The date is year - 2000 as two hex digits, the month as one hex digit, the day as one base-36 digit, which is what
    ids in captures look like: ``1a8p`` is 2026-08-25. Ids hold letters beyond f, so nobody may read them as hex.

    :param token: gives twice as many hex characters as it is asked for bytes, such as :func:`secrets.token_hex`.
    :param date: a day of the years 2000 to 2255.
    """
    return f"{token(_RANDOM_BYTES)}{date.year - 2000:02x}{date.month:x}{_DIGITS[date.day]}"
