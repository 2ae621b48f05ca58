"""A word to operators about bots whose chunks are of other sizes than the interface's documentation asks for.

It asks for 3200 bytes or more, in multiples of 320. Bots in use send less, and less is better for barge-in: every size
is played, so this is a warning and nothing else.
"""

from __future__ import annotations

from collections import OrderedDict

import attrs
from twisted.logger import Logger

from agentstream.ws.connection import CHUNK_STEP, LEAST_CHUNK

LOG_EVERY_S = 60.0
MOST_BOTS = 1000
"""Bots that are remembered; an HTTP answer may name a new one for each call."""


@attrs.define
class ChunkAdvice:
    """Of one node."""

    log = Logger()

    _said: OrderedDict[str, float] = attrs.field(factory=OrderedDict, init=False)

    def look(self, pcm: bytes, bot: str, stream_sid: str, now: float) -> bool:
        """Warn if this chunk is not as asked for, once a minute for each bot.

        :param pcm: 16-bit samples.
        :param bot: host and port.
        :return: whether it is such a chunk: then one need not look at others of this stream.
        """
        if len(pcm) >= LEAST_CHUNK and not len(pcm) % CHUNK_STEP:
            return False
        last = self._said.get(bot)
        if last is None or now - last >= LOG_EVERY_S:
            self._said[bot] = now
            self._said.move_to_end(bot)
            if len(self._said) > MOST_BOTS:
                self._said.popitem(last=False)
            self.log.warn(
                "the bot {bot} sends chunks of {size} bytes; {least} or more are asked for, in multiples of {step}."
                " All are played ({sid})",
                bot=bot,
                size=len(pcm),
                least=LEAST_CHUNK,
                step=CHUNK_STEP,
                sid=stream_sid,
            )
        return True
