"""Connects the caller to a bot over a WebSocket: the bot hears the caller, and the caller hears the bot."""

from __future__ import annotations

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure
from zope.interface import implementer

from agentstream.interfaces import BargeIn, ICall, IRun, IStream, Outcome, StreamSpec, VoicebotApplet
from applets._bot import URL, BotOptions


@attrs.frozen(kw_only=True)
class Options(BotOptions):
    """What a step may set."""

    url: str = attrs.field(metadata=URL)
    record: bool = attrs.field(
        default=False, metadata={"doc": "Both sides are recorded while the step lasts; `[recording]` says where."}
    )
    play_out: bool = attrs.field(default=True, metadata={"doc": "What the bot queued before closing is still played."})
    barge_in: str = attrs.field(
        default="off",
        metadata={
            "doc": "When the caller speaks over the bot: nothing, tell the bot, silence the bot, or hold it.",
            "choices": ("off", "notify", "clear", "pause"),
        },
    )
    barge_in_speech_ms: int = attrs.field(
        default=200,
        metadata={"doc": "How long the caller speaks over the bot until that.", "unit": "ms", "range": (20, 5000)},
    )
    barge_in_guard_ms: int = attrs.field(
        default=200,
        metadata={
            "doc": "What the caller says this soon after the bot began does not count.",
            "unit": "ms",
            "range": (0, 10000),
        },
    )
    barge_in_quiet_ms: int = attrs.field(
        default=300,
        metadata={
            "doc": "After a clear by the server: this long without media behind the caller's last word, and the bot is"
            " heard again.",
            "unit": "ms",
            "range": (20, 10000),
        },
    )
    barge_in_deadline_ms: int = attrs.field(
        default=2000,
        metadata={"doc": "A held bot that says no clear goes on after this.", "unit": "ms", "range": (100, 60000)},
    )
    barge_in_clear: bool = attrs.field(
        default=False,
        metadata={"doc": "A bot that the server silences is sent clear: it starts over. Only with barge_in clear."},
    )
    speech_events: bool = attrs.field(
        default=False, metadata={"doc": "The bot is told when the caller begins and stops to speak."}
    )
    playout_events: bool = attrs.field(
        default=False, metadata={"doc": "The bot is told how much of what it said was heard."}
    )
    downlink: str = attrs.field(
        default="utterance",
        metadata={
            "doc": "Everything that the bot says is played (utterance), or no more of it waits than live_ms (live).",
            "choices": ("utterance", "live"),
        },
    )
    live_ms: int = attrs.field(
        default=400,
        metadata={"doc": "What may wait with downlink live; the oldest is dropped.", "unit": "ms", "range": (60, 960)},
    )

    def __attrs_post_init__(self) -> None:
        if self.barge_in_clear and self.barge_in != "clear":
            raise ValueError('barge_in_clear needs barge_in = "clear"; with any other the server clears nothing')

    def bot(self) -> StreamSpec:
        """The stream that these options ask for."""
        barge_in = BargeIn(
            self.barge_in,
            speech_ms=self.barge_in_speech_ms,
            guard_ms=self.barge_in_guard_ms,
            quiet_ms=self.barge_in_quiet_ms,
            deadline_ms=self.barge_in_deadline_ms,
            tells_clear=self.barge_in_clear,
        )
        return self.spec(
            self.url,
            play_out=self.play_out,
            barge_in=barge_in,
            speech_events=self.speech_events or self.barge_in in ("notify", "pause"),
            playout_events=self.playout_events or self.barge_in == "pause",
            live_ms=self.live_ms if self.downlink == "live" else 0,
        )


@implementer(IRun)
@attrs.define
class Run:
    """One caller's talk with one bot."""

    call: ICall
    options: Options
    _talk: Deferred[str] | None = None
    _stream: IStream | None = None

    def start(self) -> Deferred[str]:
        """Connect, then wait until either side ends it."""
        if self.options.record:
            self.call.record()
        self._talk = self.call.open_stream(self.options.bot()).addCallbacks(self._opened, self._not_opened)
        return self._talk

    def _opened(self, stream: IStream) -> Deferred[str]:
        self._stream = stream
        return stream.ended().addCallback(lambda end: "done" if end.clean else "failed")

    def _not_opened(self, failure: Failure) -> str:
        return "done" if failure.check(CancelledError) else "failed"

    def stop(self, reason: str) -> None:
        """Tell the bot why, and close; before there is a bot, give up connecting."""
        if self._stream is not None:
            self._stream.stop(reason)
        elif self._talk is not None:
            self._talk.cancel()


voicebot = VoicebotApplet(
    name="voicebot",
    options=Options,
    run=Run,
    outcomes=(
        Outcome("done", "The bot or the caller ended it."),
        Outcome("failed", "The bot was not reached, or lost."),
    ),
)
