"""What a dialect turns bytes into, and what it is told about a stream. Values only; no wire format lives here."""

from __future__ import annotations

import attrs


@attrs.frozen
class Media:
    """Audio from the bot.

    :ivar pcm: 16-bit little-endian mono samples at the stream's rate, exactly as sent where the payload is such
        samples: it may be empty, and it may end in half a sample, which the next message completes.
    """

    pcm: bytes


@attrs.frozen
class Mark:
    """The bot asks to be told when everything that it sent before this has been played."""

    name: str


@attrs.frozen
class Clear:
    """The bot drops what it has queued and what has not been played."""


@attrs.frozen
class Ignored:
    """A message that is understood and changes nothing.

    :ivar reason: a fixed sentence.
    :ivar event: the event's name as sent, at most 40 characters; for a log, never for a metric.
    """

    reason: str
    event: str = ""


Message = Media | Mark | Clear | Ignored


@attrs.frozen
class StreamStart:
    """Who is on the stream and in which format: what ``start`` says.

    :ivar stream_sid: the stream's id, 32 lower-case characters.
    :ivar call_sid: the call's id, 32 lower-case characters.
    :ivar account_sid: the account's name.
    :ivar caller: the number that calls.
    :ivar callee: the number that is called.
    :ivar sample_rate: samples a second of the stream's audio: 8000, 16000 or 24000.
    :ivar custom_parameters: from the URL's query; nothing is sent of it when it is empty.
    """

    stream_sid: str
    call_sid: str
    account_sid: str
    caller: str
    callee: str
    sample_rate: int = 8000
    custom_parameters: dict[str, str] = attrs.Factory(dict)
