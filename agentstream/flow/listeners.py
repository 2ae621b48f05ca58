"""The streams of one call that only listen: they begin in a step, and outlive it."""

from __future__ import annotations

import attrs
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from agentstream.interfaces import IStream, StreamEnd


@attrs.define(eq=False)
class Listeners:
    """Who listens to one call, by name; connecting or connected."""

    _connecting: dict[Deferred[IStream], str] = attrs.field(factory=dict)
    _streams: dict[IStream, str] = attrs.field(factory=dict)

    def add(self, name: str, opening: Deferred[IStream]) -> Deferred[IStream]:
        """Keep what ``opening`` gives until it is over; returns ``opening``."""
        self._connecting[opening] = name

        def settled(result: IStream | Failure) -> IStream | Failure:
            is_wanted = self._connecting.pop(opening, None) is not None
            if isinstance(result, Failure):
                return result
            if not is_wanted:
                result.stop("stopped")
                return result
            self._streams[result] = name

            def forget(end: StreamEnd) -> None:
                self._streams.pop(result, None)

            result.ended().addCallback(forget)
            return result

        return opening.addBoth(settled)

    def stop(self, name: str, reason: str) -> int:
        """Stop those of this name, or all where it is empty; how many there were."""
        connecting = [opening for opening, known in self._connecting.items() if name in ("", known)]
        streams = [stream for stream, known in self._streams.items() if name in ("", known)]
        for opening in connecting:
            del self._connecting[opening]
            opening.cancel()
        for stream in streams:
            self._streams.pop(stream, None)
            stream.stop(reason)
        return len(connecting) + len(streams)
