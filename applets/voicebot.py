"""Connects the caller to a bot over a WebSocket: the bot hears the caller, and the caller hears the bot."""

from __future__ import annotations

from pathlib import Path

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.plugin import IPlugin
from twisted.python.failure import Failure
from zope.interface import implementer

from agentstream.interfaces import ICall, IRun, IStream, IVoicebotApplet, Outcome, StreamSpec

CHUNK = {"doc": "Sound of the caller in one message.", "unit": "ms", "range": (20, 200), "multiple": 20}


@attrs.frozen
class Options:
    """What a step may set."""

    url: str = attrs.field(metadata={"doc": "The bot; the query becomes custom parameters.", "url": ("ws", "wss")})
    chunk_ms: int = attrs.field(default=100, metadata={**CHUNK, "setting": "stream.chunk_ms"})
    play_out: bool = attrs.field(default=True, metadata={"doc": "What the bot queued before closing is still played."})
    ca_file: Path | None = attrs.field(
        default=None,
        metadata={"doc": "Certificates (PEM) to trust.", "file": "certificates", "setting": "stream.ca_file"},
    )


@implementer(IRun)
@attrs.define
class Run:
    """One caller's talk with one bot."""

    call: ICall
    options: Options
    _talk: Deferred[str] | None = None
    _stream: IStream | None = None

    def start(self) -> Deferred[str]:
        """Connect, then wait until either side ends it."""
        options = self.options
        spec = StreamSpec(options.url, chunk_ms=options.chunk_ms, play_out=options.play_out, ca_file=options.ca_file)
        self._talk = self.call.open_stream(spec).addCallbacks(self._opened, self._not_opened)
        return self._talk

    def _opened(self, stream: IStream) -> Deferred[str]:
        self._stream = stream
        return stream.ended().addCallback(lambda end: "done" if end.clean else "failed")

    def _not_opened(self, failure: Failure) -> str:
        return "done" if failure.check(CancelledError) else "failed"

    def stop(self, reason: str) -> None:
        """Tell the bot why, and close; before there is a bot, give up connecting."""
        if self._stream is not None:
            self._stream.stop(reason)
        elif self._talk is not None:
            self._talk.cancel()


@implementer(IPlugin, IVoicebotApplet)
@attrs.frozen
class Voicebot:
    """The applet."""

    name = "voicebot"
    options = Options
    outcomes = (
        Outcome("done", "The bot or the caller ended it."),
        Outcome("failed", "The bot was not reached, or lost."),
    )
    needs_answer = True
    after_hangup = False

    def open(self, call: ICall, options: Options) -> Run:
        """One step of one call."""
        return Run(call, options)


voicebot = Voicebot()
