"""Connects the caller to a bot over a WebSocket: the bot hears the caller, and the caller hears the bot."""

from __future__ import annotations

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.plugin import IPlugin
from twisted.python.failure import Failure
from zope.interface import implementer

from agentstream.interfaces import ICall, IRun, IStream, IVoicebotApplet, Outcome
from applets._bot import URL, BotOptions


@attrs.frozen(kw_only=True)
class Options(BotOptions):
    """What a step may set."""

    url: str = attrs.field(metadata=URL)
    record: bool = attrs.field(
        default=False, metadata={"doc": "Both sides are recorded while the step lasts; `[recording]` says where."}
    )
    play_out: bool = attrs.field(default=True, metadata={"doc": "What the bot queued before closing is still played."})


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
        if self.options.record:
            self.call.record()
        spec = self.options.spec(self.options.url, play_out=self.options.play_out)
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
