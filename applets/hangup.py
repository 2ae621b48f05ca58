"""Ends the call."""

from __future__ import annotations

import attrs
from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from agentstream.interfaces import Applet, ICall, IRun, Outcome


@attrs.frozen
class Options:
    """What a step may set."""

    reason: str = attrs.field(default="hangup", metadata={"doc": "What the timeline gives as the call's end."})


@implementer(IRun)
@attrs.define
class Run:
    """One end of one call."""

    call: ICall
    options: Options

    def start(self) -> Deferred[str]:
        """Hang up; steps that also run after it follow."""
        self.call.hang_up(self.options.reason)
        return succeed("done")

    def stop(self, reason: str) -> None:
        """Nothing is left to stop."""


hangup = Applet(
    name="hangup",
    options=Options,
    run=Run,
    outcomes=(Outcome("done", "The call has ended."),),
    needs_answer=False,  # a call that has not been answered is refused
)
