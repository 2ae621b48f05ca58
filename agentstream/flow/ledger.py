"""What sound waits for between a caller and a bot: measured at each message and at the wire, never for each packet.

``to_wire`` is the time from a message that met an empty queue to the end of the slot in which the packet with its first
sample left; ``queued`` is what was queued before a message when that came; ``from_caller`` is the time from the tick
that read the packet with a chunk's last sample until the chunk was written.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs

from agentstream.media.chunk_waits import Counts, percentile_ms
from agentstream.media.measure import Spread
from agentstream.media.playback import Playback


@attrs.define
class NodeLedger:
    """All streams of a node, those that are up included."""

    to_wire: Spread = attrs.Factory(Spread)
    queued: Spread = attrs.Factory(Spread)


class StreamLedger:
    """One stream.

    :param seconds: the clock, in monotonic seconds.
    :param chunk_waits: gives the chunks that its leg has handed out so far, by how long they waited.
    """

    def __init__(self, seconds: Callable[[], float], node: NodeLedger, chunk_waits: Callable[[], Counts]) -> None:
        self._chunk_waits = chunk_waits
        self._chunks_before = chunk_waits()
        self._seconds = seconds
        self._asked = 0.0  # when the message was that met an empty queue last
        self.to_wire = Spread(node.to_wire)
        self.queued = Spread(node.queued)

    def write(self, voice: Playback, pcm: bytes) -> None:
        """Queue one message's sound, and note what it waits for."""
        asked = self._seconds()
        queued = voice.write(pcm, self._first_left)
        if not queued:
            self._asked = asked
        self.queued.add(queued / voice.rate_hz)

    def _first_left(self, is_played: bool) -> None:
        if is_played:
            self.to_wire.add(self._seconds() - self._asked)

    def fields(self) -> dict[str, float]:
        """For the record of the stream's end, in ms; nothing where nothing was measured."""
        chunks = self._chunk_waits() - self._chunks_before
        from_caller = {f"from_caller_p{percent}_ms": percentile_ms(chunks, percent) for percent in (50, 95)}
        return {name: value for name, value in from_caller.items() if value is not None} | {
            f"{name}_{what}_ms": value
            for name, spread in (("to_wire", self.to_wire), ("queued", self.queued))
            if spread.count
            for what, value in (
                ("p50", spread.percentile_ms(50)),
                ("p95", spread.percentile_ms(95)),
                ("most", round(spread.most_s * 1000, 1)),
            )
        }
