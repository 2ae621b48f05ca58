"""Records the call from here on, pauses the recording, or ends it."""

from __future__ import annotations

import attrs
from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from agentstream.interfaces import Applet, ICall, IRun, Outcome


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


record = Applet(
    name="record",
    options=Options,
    run=Run,
    outcomes=(Outcome("done", "At once, while the flow goes on."),),
)
