"""Records the call from here on, pauses the recording, or ends it."""

from __future__ import annotations

import attrs
from twisted.internet.defer import Deferred, succeed
from twisted.plugin import IPlugin
from zope.interface import implementer

from agentstream.interfaces import IApplet, ICall, IRun, Outcome


@attrs.frozen(kw_only=True)
class Options:
    """What a step may set."""

    action: str = attrs.field(
        default="start",
        metadata={
            "doc": "`start` records until the call is over, or a step stops it; a pause is silence on both sides.",
            "choices": ("start", "pause", "resume", "stop"),
        },
    )


@implementer(IRun)
@attrs.define
class Run:
    """One change of one call's recording."""

    call: ICall
    options: Options

    def start(self) -> Deferred[str]:
        """Done at once: what becomes of the file is in the timeline and no business of the flow."""
        action = self.options.action
        if action == "start":
            self.call.record(whole_call=True)
        elif action == "pause":
            self.call.pause_recording()
        elif action == "resume":
            self.call.resume_recording()
        else:
            self.call.stop_recording()
        return succeed("done")

    def stop(self, reason: str) -> None:
        """It was done when it began."""


@implementer(IPlugin, IApplet)
@attrs.frozen
class Record:
    """The applet."""

    name = "record"
    options = Options
    outcomes = (Outcome("done", "At once, while the flow goes on."),)
    needs_answer = True
    after_hangup = False

    def open(self, call: ICall, options: Options) -> Run:
        """One step of one call."""
        return Run(call, options)


record = Record()
