"""Sound between this node and bots, ``[stream]``, and in files, ``[recording]``."""
# ruff: noqa: RUF009 - setting() makes an attrs field, and defaults are immutable

from __future__ import annotations

from pathlib import Path

import attrs

from agentstream.config.addresses import expect_name, or_empty
from agentstream.config.metadata import setting


@attrs.frozen
class Stream:
    """Defaults of the WebSocket sessions to bots."""

    chunk_ms: int = setting(
        default=100,
        doc="How much of the caller's sound goes into one `media` message, unless a step says otherwise.",
        unit="ms",
        range=(20, 200),
        multiple=20,
    )
    ca_file: Path | None = setting(
        default=None,
        doc="Certificates (PEM) to trust for `wss` bots instead of the system's, unless a step says otherwise.",
        example='"ca.pem"',
        file="certificates",
    )
    max_s: int = setting(
        default=3600,
        doc="After this time a stream is stopped and its step ends as usual, unless a step says otherwise.",
        unit="s",
        range=(1, 86400),
    )
    allow_private: bool = setting(
        default=False,
        doc="Whether a bot's URL, or a redirect, that comes from an HTTP answer may lead to loopback, link-local,"
        " private and other addresses that are not public. URLs in flow files may always.",
    )
    counters: str = setting(
        default="string",
        doc="How `sequence_number` and `chunk` are written, unless a step says otherwise.",
        choices=("string", "number"),
    )
    keys: str = setting(
        default="snake",
        doc="How keys are written, unless a step says otherwise: `both` adds the camelCase name beside each snake_case"
        " name. Some bots then take the stream for another provider's.",
        choices=("snake", "both"),
    )
    codec: str = setting(
        default="pcm16",
        doc="What a payload is, both ways, unless a step says otherwise: 16-bit samples, or mu-law, which has 8000 Hz.",
        choices=("pcm16", "mulaw"),
    )
    encoding: str = setting(
        default="",
        doc="What `media_format.encoding` says, unless a step says otherwise; it changes nothing in the sound. Empty:"
        " `base64`, and with mu-law `audio/x-mulaw`.",
        example='"audio/x-raw"',
        check=or_empty(expect_name),
    )
    bit_rate: str = setting(
        default="",
        doc="What `media_format.bit_rate` says, unless a step says otherwise. Empty: `128kbps`, and with mu-law"
        " `64kbps`.",
        example='"16"',
        check=or_empty(expect_name),
    )


@attrs.frozen
class Recording:
    """Files of what is said on recorded calls: steps with ``record = true`` and the applet ``record`` make them."""

    folder: Path = setting(
        default=Path("recordings"),
        doc="Where the files are, in a folder for each day (UTC). It is made when it is needed.",
    )
    format: str = setting(
        default="wav",
        doc="What a recording is when it is done. While the call is up it is always WAV, under a name that ends in"
        " `.wav.part`; what a crash has left under such a name is finished at the next start.",
        choices=("wav", "flac", "opus", "mp3"),
    )
    channels: str = setting(
        default="stereo",
        doc="`stereo`: the caller left, what the caller is played right. `mono`: both in one channel.",
        choices=("stereo", "mono"),
    )
