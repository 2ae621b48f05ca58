"""What the applets that open a stream have in common: the options of one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs

from agentstream.interfaces import StreamSpec

URL = {
    "doc": "The bot, whose query becomes custom parameters; or http(s): who answers a GET with the bot's URL.",
    "url": ("ws", "wss", "http", "https"),
}
CHUNK = {"doc": "Sound in one message.", "unit": "ms", "range": (20, 200), "multiple": 20}


@attrs.frozen(kw_only=True)
class BotOptions:
    """What every step with a bot may set."""

    chunk_ms: int = attrs.field(default=100, metadata={**CHUNK, "setting": "stream.chunk_ms"})
    ca_file: Path | None = attrs.field(
        default=None,
        metadata={"doc": "Certificates (PEM) to trust.", "file": "certificates", "setting": "stream.ca_file"},
    )
    max_s: int = attrs.field(
        default=3600,
        metadata={
            "doc": "After this time the stream is stopped.",
            "unit": "s",
            "range": (1, 86400),
            "setting": "stream.max_s",
        },
    )
    counters: str = attrs.field(
        default="string",
        metadata={
            "doc": "How sequence_number and chunk are written.",
            "choices": ("string", "number"),
            "setting": "stream.counters",
        },
    )
    keys: str = attrs.field(
        default="snake",
        metadata={
            "doc": "How keys are written; both: camelCase names beside the others.",
            "choices": ("snake", "both"),
            "setting": "stream.keys",
        },
    )
    codec: str = attrs.field(
        default="pcm16",
        metadata={
            "doc": "What a payload is: 16-bit samples, or mu-law, which has 8000 Hz.",
            "choices": ("pcm16", "mulaw"),
            "setting": "stream.codec",
        },
    )
    encoding: str = attrs.field(
        default="",
        metadata={"doc": "What media_format.encoding says. Empty: what fits the codec.", "setting": "stream.encoding"},
    )
    bit_rate: str = attrs.field(
        default="",
        metadata={"doc": "What media_format.bit_rate says. Empty: what fits the codec.", "setting": "stream.bit_rate"},
    )

    def spec(self, url: str, **more: Any) -> StreamSpec:
        """A stream to this bot as these options say."""
        return StreamSpec(
            url,
            chunk_ms=self.chunk_ms,
            ca_file=self.ca_file,
            max_s=self.max_s,
            counters=self.counters,
            keys=self.keys,
            codec=self.codec,
            encoding=self.encoding,
            bit_rate=self.bit_rate,
            **more,
        )
