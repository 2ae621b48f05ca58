"""Sends the caller to another number: the phone or PBX at the other end calls there itself, and this call is over.

Attended, we ring there first: only when somebody has answered is the caller sent to him, and has him from us.
"""

from __future__ import annotations

import attrs
from twisted.internet.defer import Deferred
from zope.interface import implementer

from agentstream.interfaces import Applet, ConnectEnd, ConnectSpec, ICall, IRun, Outcome, TransferEnd


@attrs.frozen(kw_only=True)
class Options:
    """What a step may set."""

    to: str = attrs.field(
        metadata={
            "doc": "A number, or a `sip:`, `sips:` or `tel:` URI; attended, also a phone, as with `connect`.",
            "example": '"+4930123456"',
        },
    )
    attended: bool = attrs.field(
        default=False,
        metadata={"doc": "Ring there ourselves first, and send the caller there when somebody has answered."},
    )
    ring_s: int = attrs.field(
        default=30,
        metadata={"doc": "How long it may ring there, attended.", "unit": "s", "range": (1, 180)},
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
    _connecting: Deferred[ConnectEnd] | None = None

    def start(self) -> Deferred[str]:
        """Done when the other end has said that it got through."""
        options = self.options
        if not options.attended:
            return self.call.transfer(options.to, options.timeout_s).addCallback(self._ended)
        spec = ConnectSpec((options.to,), options.ring_s, hand_over_s=options.timeout_s)
        connecting = self._connecting = self.call.connect(spec)
        return connecting.addCallback(self._handed_over)

    def _ended(self, end: TransferEnd) -> str:
        return "done" if end.is_done else "failed"

    def _handed_over(self, end: ConnectEnd) -> str:
        self._connecting = None
        return "done" if end.outcome == "done" else "failed"

    def stop(self, reason: str) -> None:
        """Hang up at whoever was rung; a REFER that was sent cannot be taken back."""
        if self._connecting is not None:
            self._connecting.cancel()


transfer = Applet(
    name="transfer",
    options=Options,
    run=Run,
    outcomes=(
        Outcome("done", "The other end has reached the target; hang up now, as the flow does without a next step."),
        Outcome(
            "failed",
            "It was refused, nobody answered, or nobody said in time what became of it; the caller is still here.",
        ),
    ),
)
