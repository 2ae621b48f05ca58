"""What the server says of itself at /metrics, and what two such readings tell of the time between them."""

from __future__ import annotations

import math
import urllib.request

import attrs
from prometheus_client.parser import text_string_to_metric_families

from agentstream.errors import AgentstreamError

TICK = "agentstream_tick_duration_seconds"
SPEECH = "agentstream_speech_cpu_seconds_total"
LATENESS = "agentstream_tick_lateness_seconds"
_TIMEOUT_S = 10.0


@attrs.frozen
class Scrape:
    """One reading.

    :ivar values: name of the sample -> value; samples that differ in labels alone are added up.
    :ivar buckets: name of the histogram -> (upper edge in seconds, how many up to it), growing.
    """

    values: dict[str, float]
    buckets: dict[str, tuple[tuple[float, float], ...]]


def parse(text: str) -> Scrape:
    """Read the text format."""
    values: dict[str, float] = {}
    buckets: dict[str, list[tuple[float, float]]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if "le" in sample.labels:
                buckets.setdefault(family.name, []).append((float(sample.labels["le"]), float(sample.value)))
            else:
                values[sample.name] = values.get(sample.name, 0.0) + float(sample.value)
    return Scrape(values, {name: tuple(sorted(each)) for name, each in buckets.items()})


def scrape(port: int) -> Scrape:
    """Ask the server at a port of this machine.

    :raises AgentstreamError: no answer in time.
    """
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=_TIMEOUT_S) as answer:
            return parse(answer.read().decode())
    except OSError as error:
        raise AgentstreamError(f"The server does not answer at /metrics: {error}.") from error


def percentile_ms(before: Scrape, after: Scrape, name: str, percent: float) -> float:
    """A percentile of what a histogram counted between two readings, straight between two edges; nan of nothing.

    Beyond the last edge it is that edge.
    """
    earlier = dict(before.buckets.get(name, ()))
    counts = [(edge, count - earlier.get(edge, 0.0)) for edge, count in after.buckets.get(name, ())]
    total = counts[-1][1] if counts else 0.0
    if total <= 0:
        return math.nan
    wanted, low_s, below = total * percent / 100, 0.0, 0.0
    for edge_s, count in counts:
        if count >= wanted:
            if math.isinf(edge_s):
                return 1000 * low_s
            return 1000 * (low_s + (edge_s - low_s) * (wanted - below) / (count - below))
        low_s, below = edge_s, count
    return 1000 * low_s
