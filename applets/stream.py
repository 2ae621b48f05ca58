"""Lets a bot listen to the call over a WebSocket while the flow goes on: for transcripts, agent assist, monitoring."""

from __future__ import annotations

import attrs
from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure
from zope.interface import implementer

from agentstream.interfaces import ICall, IRun, Outcome, StreamApplet
from applets._bot import URL, BotOptions


@attrs.frozen(kw_only=True)
class Options(BotOptions):
    """What a step may set."""

    action: str = attrs.field(
        default="start",
        metadata={"doc": "Whether a stream begins or ends.", "choices": ("start", "stop")},
    )
    url: str | None = attrs.field(default=None, metadata=URL)
    name: str = attrs.field(
        default="",
        metadata={"doc": "Tells streams apart. A stop without a name stops all, one with a name those of it."},
    )
    track: str = attrs.field(
        default="inbound",
        metadata={
            "doc": "Whom the bot hears: the caller (inbound), what the caller is played (outbound), or both.",
            "choices": ("inbound", "outbound", "both"),
        },
    )

    def __attrs_post_init__(self) -> None:
        if self.action == "start" and self.url is None:
            raise ValueError('a step with action "start" needs a url')
        if self.action == "stop" and self.url is not None:
            raise ValueError('a step with action "stop" takes no url; streams are stopped by name')


@implementer(IRun)
@attrs.define
class Run:
    """One beginning or end of a stream."""

    call: ICall
    options: Options

    def start(self) -> Deferred[str]:
        """Done at once: what becomes of the stream is in the timeline and no business of the flow."""
        options = self.options
        if options.url is None:
            stopped = self.call.stop_streams(options.name)
            self.call.event("streams_stopped", name=options.name, streams=stopped)
        else:
            spec = options.spec(options.url, two_way=False, track=options.track, name=options.name)
            self.call.open_stream(spec).addErrback(_told)
        return succeed("done")

    def stop(self, reason: str) -> None:
        """It was done when it began."""


def _told(failure: Failure) -> None:
    """The timeline has it already."""


stream = StreamApplet(
    name="stream",
    options=Options,
    run=Run,
    outcomes=(Outcome("done", "At once, while the stream is still being connected."),),
)
