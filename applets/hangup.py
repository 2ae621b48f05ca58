"""Ends the call."""

from __future__ import annotations

import attrs
from twisted.internet.defer import Deferred, succeed
from twisted.plugin import IPlugin
from zope.interface import implementer

from agentstream.interfaces import IApplet, ICall, IRun, Outcome


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


@implementer(IPlugin, IApplet)
@attrs.frozen
class Hangup:
    """The applet. A call that has not been answered is refused."""

    name = "hangup"
    options = Options
    outcomes = (Outcome("done", "The call has ended."),)
    needs_answer = False
    after_hangup = False

    def open(self, call: ICall, options: Options) -> Run:
        """One step of one call."""
        return Run(call, options)


hangup = Hangup()
