"""The AgentStream dialect: one :class:`ExotelSession` is one stream's messages, both ways.

Pure: what goes out is returned as the bytes of one text frame, what comes in is given as the bytes of one. Its one
contract: *call the methods in the order of writing*, because sequence_number and chunk are counted in them.
Counters and numbers go out as strings, keys in snake_case, unless a :class:`Spelling` says otherwise; what comes in is
read whatever ids it carries.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping
from typing import Any

import attrs
import orjson
import pybase64

from agentstream.errors import RemoteProtocolError
from agentstream.wire.messages import Clear, Ignored, Mark, Media, Message, StreamStart
from agentstream.wire.payload import PCM16, Payload, Pcm

Fields = Mapping[str, str | int | float | bool]
"""The members of an object, in order."""

NOTHING: Fields = types.MappingProxyType({})

_MAX_EVENT_NAME = 40

NOT_JSON = "The message is not valid JSON."
NOT_AN_OBJECT = "The message is not a JSON object."
NO_EVENT = "The message does not name its event."
NO_PAYLOAD = "The media message carries no payload."
BAD_BASE64 = "The payload of the media message is not valid base64."
NO_MARK_NAME = "The mark message carries no name."

ONE_WAY = "The stream is one-way: nothing is taken from the bot."
OURS_TO_SEND = "The event is one that only the server sends."
UNKNOWN_EVENT = "The event is unknown."

_FROM_US = frozenset({"connected", "start", "dtmf", "stop"})


def _quoted(text: str) -> bytes:
    """Text as a JSON string; what is no Unicode text (a lone surrogate from a header) becomes a question mark."""
    return orjson.dumps(text.encode("utf-8", "replace").decode())


def _members(fields: Fields) -> list[tuple[str, bytes]]:
    """Numbers are written as text, as in all that this dialect says; what is true or false is not."""
    return [
        (name, orjson.dumps(value) if type(value) is bool else _quoted(str(value))) for name, value in fields.items()
    ]


def _for_format(part: bytes) -> bytes:
    return part.replace(b"%", b"%%")


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


@attrs.frozen
class Spelling:
    """How the same messages are written for bots that expect them a little differently.

    :ivar counters: ``string`` writes ``sequence_number`` and ``chunk`` as strings, ``number`` as numbers.
    :ivar keys: ``snake`` writes keys in snake_case, ``both`` the camelCase name beside each that differs.
    :ivar encoding: ``media_format.encoding``: any text, which changes nothing in the audio.
    :ivar bit_rate: ``media_format.bit_rate``, likewise.
    """

    counters: str = "string"
    keys: str = "snake"
    encoding: str = "base64"
    bit_rate: str = "128kbps"

    def count(self, number: bytes) -> bytes:
        """A counter as JSON."""
        return number if self.counters == "number" else b'"' + number + b'"'

    def pair(self, name: str, value: bytes) -> bytes:
        """One member of an object, or the same value under both names."""
        written = b'"%s":%s' % (name.encode(), value)
        if self.keys == "both" and "_" in name:
            written += b',"%s":%s' % (_camel(name).encode(), value)
        return written

    def object(self, *members: tuple[str, bytes]) -> bytes:
        """A whole object."""
        return b"{" + b",".join(self.pair(name, value) for name, value in members) + b"}"


PLAIN = Spelling()


def _media(body: dict[str, Any]) -> Message:
    media = body.get("media")
    payload = media.get("payload") if type(media) is dict else None
    if type(payload) is not str:
        raise RemoteProtocolError(NO_PAYLOAD)
    try:
        return Media(pybase64.b64decode(payload, validate=True))
    except ValueError:
        pass
    try:
        # MIME encoders break base64 into lines, and a bot written in an older Python may use one.
        return Media(pybase64.b64decode("".join(payload.split()), validate=True))
    except ValueError:
        raise RemoteProtocolError(BAD_BASE64) from None


def _mark(body: dict[str, Any]) -> Message:
    mark = body.get("mark")
    name = mark.get("name") if type(mark) is dict else None
    if type(name) is int:
        name = str(name)
    if type(name) is not str:
        raise RemoteProtocolError(NO_MARK_NAME)
    return Mark(name)


def _clear(body: dict[str, Any]) -> Message:
    return Clear()


_READERS: dict[str, Callable[[dict[str, Any]], Message]] = {"media": _media, "mark": _mark, "clear": _clear}


@attrs.define
class ExotelSession:
    """One stream's messages.

    :ivar stream_start: who is on the stream, and in which format.
    :ivar two_way: the bot may speak (voicebot); False only listens (stream), and what it sends is ignored.
    :ivar spelling: how they are written.
    :ivar payload: what their sound is on the wire.
    :ivar sequence_number: the number of the last message sent; ``start`` is 1, and ``connected`` has none.
    :ivar chunk: the number of the last media message sent, whatever track it belongs to.
    """

    stream_start: StreamStart
    two_way: bool = True
    spelling: Spelling = PLAIN
    payload: Payload = PCM16
    sequence_number: int = attrs.field(default=0, init=False)
    chunk: int = attrs.field(default=0, init=False)
    _sid: bytes = attrs.field(init=False)
    _media_heads: dict[str, bytes] = attrs.field(init=False)
    _is_numbered_twice: bool = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._sid = _quoted(self.stream_start.stream_sid)
        self._is_numbered_twice = self.spelling.keys == "both"
        self._media_heads = {track: self._media_head(track) for track in ("", "inbound", "outbound")}

    def _media_head(self, track: str) -> bytes:
        """Ready to be filled in with sequence_number, chunk and timestamp: the only work left for each message is the
        base64 of its samples."""
        pair, number = self.spelling.pair, self.spelling.count(b"%d")
        return b"".join(
            (
                b'{"event":"media",',
                pair("sequence_number", number),
                b",",
                _for_format(pair("stream_sid", self._sid)),
                b',"media":{',
                b'"track":"%s",' % track.encode() if track else b"",
                b'"chunk":',
                number,
                b',"timestamp":"%d","payload":"',
            )
        )

    def connected(self) -> bytes:
        """The first message of every stream."""
        return b'{"event":"connected"}'

    def start(self) -> bytes:
        """The second message of every stream, right behind ``connected``: bots read these two to know the dialect."""
        start, spelling = self.stream_start, self.spelling
        media_format = spelling.object(
            ("encoding", _quoted(spelling.encoding)),
            ("sample_rate", b'"%d"' % start.sample_rate),
            ("bit_rate", _quoted(spelling.bit_rate)),
        )
        members = [
            ("stream_sid", self._sid),
            ("call_sid", _quoted(start.call_sid)),
            ("account_sid", _quoted(start.account_sid)),
            ("from", _quoted(start.caller)),
            ("to", _quoted(start.callee)),
            ("media_format", media_format),
        ]
        if start.custom_parameters:
            items = (_quoted(name) + b":" + _quoted(value) for name, value in start.custom_parameters.items())
            members.append(("custom_parameters", b"{" + b",".join(items) + b"}"))
        return spelling.object(
            ("event", b'"start"'),
            ("stream_sid", self._sid),
            ("sequence_number", self._next()),
            ("start", spelling.object(*members)),
        )

    def media(self, pcm: Pcm, timestamp_ms: int, track: str = "") -> bytes:
        """One chunk of what the caller says.

        :param pcm: samples, such as a row of an int16 matrix.
        :param timestamp_ms: the stream's milliseconds at the chunk's first sample.
        :param track: ``inbound`` or ``outbound`` where the stream has both, else nothing.
        """
        self.chunk += 1
        self.sequence_number += 1
        number, head = self.sequence_number, self._media_heads[track]
        if self._is_numbered_twice:
            head %= (number, number, self.chunk, timestamp_ms)
        else:
            head %= (number, self.chunk, timestamp_ms)
        encode = self.payload.encode
        sound = pcm if encode is None else encode(pcm)
        encoded = pybase64.b64encode(sound)  # type: ignore[arg-type]  # numpy's stubs name the buffer from 3.12 on
        return b"".join((head, encoded, b'"}}'))

    def digit(self, digit: str, duration_ms: int) -> bytes:
        """A key that the caller pressed."""
        return self._message("dtmf", ("digit", _quoted(digit)), ("duration", b'"%d"' % duration_ms))

    def mark(self, name: str, more: Fields = NOTHING) -> bytes:
        """The echo of a mark: everything that the bot sent before it has been played, or dropped.

        :param more: fields of ours, for bots that asked for them.
        """
        return self._message("mark", ("name", _quoted(name)), *_members(more))

    def clear(self) -> bytes:
        """What the bot said has been dropped: it starts over. Only for bots that asked for it."""
        return self.spelling.object(("event", b'"clear"'), ("sequence_number", self._next()), ("stream_sid", self._sid))

    def stop(self, reason: str, more: Fields = NOTHING) -> bytes:
        """The last message of every stream. ``reason`` is ``stopped`` or ``callended``.

        :param more: fields of ours, for bots that asked for them.
        """
        return self._message(
            "stop",
            ("call_sid", _quoted(self.stream_start.call_sid)),
            ("account_sid", _quoted(self.stream_start.account_sid)),
            ("reason", _quoted(reason)),
            *_members(more),
        )

    def extension(self, event: str, fields: Fields) -> bytes:
        """A message that is ours and nobody else's, for bots that asked for it."""
        return self._message(event, *_members(fields))

    def _message(self, event: str, *members: tuple[str, bytes]) -> bytes:
        """An event with an object of the same name."""
        return self.spelling.object(
            ("event", b'"%s"' % event.encode()),
            ("sequence_number", self._next()),
            ("stream_sid", self._sid),
            (event, self.spelling.object(*members)),
        )

    def receive(self, data: bytes) -> Message:
        """Read the payload of one text frame.

        Ids, counters and further keys are not looked at: one socket is one stream, and bots in use send them missing,
        in camelCase or made up.

        :raises RemoteProtocolError: not JSON, or a message without what its event is about. To be counted and logged;
            never a reason to close.
        """
        try:
            body = orjson.loads(data)
        except orjson.JSONDecodeError:
            raise RemoteProtocolError(NOT_JSON) from None
        if type(body) is not dict:
            raise RemoteProtocolError(NOT_AN_OBJECT)
        event = body.get("event")
        if type(event) is not str:
            raise RemoteProtocolError(NO_EVENT)
        reader = _READERS.get(event)
        if reader is None:
            reason = OURS_TO_SEND if event in _FROM_US else UNKNOWN_EVENT
            return Ignored(reason, event[:_MAX_EVENT_NAME])
        if not self.two_way:
            return Ignored(ONE_WAY, event)
        message = reader(body)
        decode = self.payload.decode
        if decode is not None and type(message) is Media:
            return Media(decode(message.pcm))
        return message

    def _next(self) -> bytes:
        self.sequence_number += 1
        return self.spelling.count(b"%d" % self.sequence_number)
