"""Sends DTMF digits to the other end, as to a menu that it has called from."""

from __future__ import annotations

import attrs
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from zope.interface import implementer

from agentstream.interfaces import Applet, ICall, IRun, Outcome


def _expect_digits(text: str) -> str:
    return "" if text and set(text) <= set("0123456789*#ABCD") else "digits: 0 to 9, *, # and A to D"


@attrs.frozen(kw_only=True)
class Options:
    """What a step may set."""

    digits: str = attrs.field(metadata={"doc": "What is sent.", "example": '"12#"', "check": _expect_digits})
    duration_ms: int = attrs.field(
        default=100,
        metadata={"doc": "How long each digit lasts.", "unit": "ms", "range": (40, 2000), "multiple": 20},
    )
    gap_ms: int = attrs.field(
        default=60,
        metadata={"doc": "The silence between two.", "unit": "ms", "range": (40, 2000), "multiple": 20},
    )


@implementer(IRun)
@attrs.define
class Run:
    """Digits to one caller."""

    call: ICall
    options: Options

    def start(self) -> Deferred[str]:
        """Done when the last one has left."""
        options = self.options
        sent = self.call.send_digits(options.digits, options.duration_ms, options.gap_ms)
        return sent.addCallbacks(lambda _: "done", self._refused)

    def _refused(self, failure: Failure) -> str:
        self.call.event("digits_refused", reason=failure.getErrorMessage())
        return "failed"

    def stop(self, reason: str) -> None:
        """What has begun is sent to its end."""


send_digits = Applet(
    name="send_digits",
    options=Options,
    run=Run,
    outcomes=(Outcome("done", "All have been sent."), Outcome("failed", "The other end did not take them.")),
)
