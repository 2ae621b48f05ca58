"""What the query of a stream's URL says: the sample rate and the custom parameters."""

from __future__ import annotations

from urllib.parse import parse_qsl

import attrs

SAMPLE_RATES = (8000, 16000, 24000)
DEFAULT_SAMPLE_RATE = 8000
MAX_PARAMETERS = 3
MAX_CHARACTERS = 256

_RATE_KEYS = ("sample-rate", "sample_rate")


@attrs.frozen
class StreamParameters:
    """What a query asked for.

    :ivar sample_rate: one of SAMPLE_RATES; 8000 when the query names none, or an unknown one.
    :ivar custom_parameters: what ``start`` delivers, in the query's order.
    :ivar left_out: names beyond the limits of 3 parameters and 256 characters: to be told to the operator. The bot can
        still read them in the URL of the handshake.
    """

    sample_rate: int
    custom_parameters: dict[str, str]
    left_out: tuple[str, ...]


def read_query(query: str) -> StreamParameters:
    """Read a URL's query (without its question mark); any text is a query, so nothing is ever refused.

    Items without a value are kept, with an empty one. ``sample-rate`` and ``sample_rate`` are the rate and no custom
    parameter, and do not count against the limits. Of items with one name the last one holds.
    """
    sample_rate = DEFAULT_SAMPLE_RATE
    asked: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True, errors="replace"):
        if name in _RATE_KEYS:
            rates = {str(rate): rate for rate in SAMPLE_RATES}
            sample_rate = rates.get(value, DEFAULT_SAMPLE_RATE)
        else:
            asked[name] = value
    kept: dict[str, str] = {}
    left_out: list[str] = []
    characters = 0
    for name, value in asked.items():
        size = len(name) + len(value)
        if len(kept) < MAX_PARAMETERS and characters + size <= MAX_CHARACTERS:
            kept[name] = value
            characters += size
        else:
            left_out.append(name)
    return StreamParameters(sample_rate=sample_rate, custom_parameters=kept, left_out=tuple(left_out))
