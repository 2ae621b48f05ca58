"""Sends the caller to another number: the phone or PBX at the other end calls there itself, and this call is over."""

from __future__ import annotations

import attrs
from twisted.internet.defer import Deferred
from zope.interface import implementer

from agentstream.interfaces import Applet, ICall, IRun, Outcome, TransferEnd


@attrs.frozen(kw_only=True)
class Options:
    """What a step may set."""

    to: str = attrs.field(
        metadata={"doc": "A number, or a `sip:`, `sips:` or `tel:` URI.", "example": '"+4930123456"'},
    )
    timeout_s: int = attrs.field(
        default=30,
        metadata={"doc": "How long the other end may take to say what became of it.", "unit": "s", "range": (1, 300)},
    )


@implementer(IRun)
@attrs.define
class Run:
    """One transfer of one call."""

    call: ICall
    options: Options

    def start(self) -> Deferred[str]:
        """Done when the other end has said that it got through."""
        return self.call.transfer(self.options.to, self.options.timeout_s).addCallback(self._ended)

    def _ended(self, end: TransferEnd) -> str:
        return "done" if end.is_done else "failed"

    def stop(self, reason: str) -> None:
        """What was asked for cannot be taken back."""


transfer = Applet(
    name="transfer",
    options=Options,
    run=Run,
    outcomes=(
        Outcome("done", "The other end has reached the target; hang up now, as the flow does without a next step."),
        Outcome("failed", "It was refused, or nobody said in time what became of it; the caller is still here."),
    ),
)
