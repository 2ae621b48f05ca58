"""What the sound of callers waits for: from the tick that read the packet with a chunk's last sample to its listeners.

Counted for each chunk that a listener was handed, which is when a bot's is written, for all rows at once.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

EDGES_S = (0.01, 0.02, 0.025, 0.03, 0.035, 0.04, 0.045, 0.05, 0.06, 0.08, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6)
"""Upper edges of the bins; a wait of more is counted nowhere, because nothing of so long ago is played."""

Counts = npt.NDArray[np.int64]

_EDGES = np.array(EDGES_S)


class ChunkWaits:
    """The chunks of every leg by how long they waited.

    :param rows: how many rows there can be.
    :ivar counts: int64 (rows, len(EDGES_S)). :ivar sums_s: of all waits of a row, float64 (rows,).
    """

    def __init__(self, rows: int) -> None:
        self.counts = np.zeros((rows, len(EDGES_S)), np.int64)
        self.sums_s = np.zeros(rows)

    def open(self, row: int) -> None:
        """A new leg."""
        self.counts[row] = 0
        self.sums_s[row] = 0

    def add(self, rows: npt.NDArray[np.int64], waits_s: npt.NDArray[np.float64]) -> None:
        """One chunk each of these rows, which may be the same: seconds, or inf where its end was in no packet."""
        bins = np.searchsorted(_EDGES, waits_s)
        is_known = bins < len(EDGES_S)
        rows = rows[is_known]
        np.add.at(self.counts, (rows, bins[is_known]), 1)
        np.add.at(self.sums_s, rows, waits_s[is_known])


def percentile_ms(counts: Counts, percent: float) -> float | None:
    """The upper edge, in ms, of the bin that this share of the chunks does not pass; None when there are none."""
    totals = np.cumsum(counts)
    if not totals[-1]:
        return None
    return round(EDGES_S[int(np.searchsorted(totals, totals[-1] * percent / 100.0))] * 1000, 1)
