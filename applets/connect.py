"""Connects the caller with somebody: rings a phone that registers here, a number by a trunk, or a SIP URI."""

from __future__ import annotations

from pathlib import Path

import attrs
from twisted.internet.defer import Deferred
from zope.interface import implementer

from agentstream.interfaces import Applet, ConnectEnd, ConnectSpec, ICall, IRun, Outcome

STATUSES = {"done": "completed", "busy": "busy", "no_answer": "no-answer", "failed": "failed"}
"""What DialCallStatus says behind each outcome."""


def expect_target(text: str) -> str:
    """The ``check`` of a target."""
    if text and text == text.strip() and text.isprintable() and len(text) <= 256:
        return ""
    return 'a phone such as "alice", a number such as "+4930123456", or a URI such as "sip:alice@example.com"'


@attrs.frozen(kw_only=True)
class Options:
    """What a step may set."""

    to: tuple[str, ...] = attrs.field(
        metadata={
            "doc": "Whom to ring: a phone of `[[phone]]` by its user, a number that a `[[trunk]]` has among its"
            " `numbers`, or a `sip:`, `sips:` or `tel:` URI; several at once or in turn, as `ring` says.",
            "example": '["alice", "+4930123456"]',
            "least": 1,
            "alone": True,
            "check": expect_target,
        },
    )
    timeout_s: int = attrs.field(
        default=30,
        metadata={"doc": "How long they may ring; in turn, each of them.", "unit": "s", "range": (1, 180)},
    )
    ring: str = attrs.field(
        default="together",
        metadata={
            "doc": "`together`: everybody at once, and every contact of each; `in_turn`: one after the other.",
            "choices": ("together", "in_turn"),
        },
    )
    caller: str = attrs.field(
        default="",
        metadata={
            "doc": "Who they are told calls: a number, a name, or a SIP URI. Empty: the caller, or nobody where the"
            " caller wants that.",
            "example": '"+4930123400"',
        },
    )
    ringback: Path | None = attrs.field(
        default=None,
        metadata={
            "doc": "What the caller hears while it rings, again and again. Not set: a ringback tone, which an"
            " unanswered caller's own phone makes.",
            "file": "audio",
            "example": '"music.wav"',
        },
    )
    record: bool = attrs.field(
        default=False,
        metadata={"doc": "Record what they say to each other, with the caller on the left channel."},
    )


@implementer(IRun)
@attrs.define
class Run:
    """One conversation of one call."""

    call: ICall
    options: Options
    _connecting: Deferred[ConnectEnd] | None = None

    def start(self) -> Deferred[str]:
        """Ends when they have talked, or nobody has answered."""
        options = self.options
        spec = ConnectSpec(
            options.to, options.timeout_s, options.ring == "in_turn", options.caller, options.ringback, options.record
        )
        connecting = self._connecting = self.call.connect(spec)
        return connecting.addCallback(self._ended)

    def _ended(self, end: ConnectEnd) -> str:
        self._connecting = None
        is_given_up = end.outcome == "no_answer" and end.status == 0
        self.call.variables.update(
            {
                "DialCallStatus": "canceled" if is_given_up else STATUSES[end.outcome],
                "DialCallDuration": str(round(end.talked_s)),
                "DialWhomNumber": end.target,
                "DialSipStatus": str(end.status) if end.status else "",
                "DialReason": end.reason,
            }
        )
        return end.outcome

    def stop(self, reason: str) -> None:
        """Hang up at whoever was rung, or talked to."""
        if self._connecting is not None:
            self._connecting.cancel()


connect = Applet(
    name="connect",
    options=Options,
    run=Run,
    outcomes=(
        Outcome("done", "They have talked, and the other end hung up; the caller is still here."),
        Outcome("busy", "Whom we rang is busy, or declined."),
        Outcome("no_answer", "Nobody answered in time, or the phone is not registered."),
        Outcome("failed", "Nobody could be rung: no trunk has the number, no server answers, or it refused."),
    ),
    needs_answer=False,
)
