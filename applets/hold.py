"""Puts the caller on hold, or takes the hold back: a phone on hold sends no sound, and often plays music of its own."""

from __future__ import annotations

import attrs
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from zope.interface import implementer

from agentstream.interfaces import Applet, ICall, IRun, Outcome


@attrs.frozen(kw_only=True)
class Options:
    """What a step may set."""

    action: str = attrs.field(
        default="hold",
        metadata={"doc": "`hold`: the caller is heard no more; `resume`: he is again.", "choices": ("hold", "resume")},
    )


@implementer(IRun)
@attrs.define
class Run:
    """One change of one call."""

    call: ICall
    options: Options

    def start(self) -> Deferred[str]:
        """Done when the phone has agreed."""
        asked = self.call.hold() if self.options.action == "hold" else self.call.resume()
        return asked.addCallbacks(lambda _: "done", self._refused)

    def _refused(self, failure: Failure) -> str:
        self.call.event("hold_refused", action=self.options.action, reason=failure.getErrorMessage())
        return "failed"

    def stop(self, reason: str) -> None:
        """What was asked for cannot be taken back."""


hold = Applet(
    name="hold",
    options=Options,
    run=Run,
    outcomes=(Outcome("done", "The phone has agreed."), Outcome("failed", "It has not, and nothing has changed.")),
)
