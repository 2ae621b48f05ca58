"""The words between applets and the server: everything a drop-in may rely on.

A drop-in imports this module and :mod:`agentstream.audio`, nothing else of ours. Audio is always a one-dimensional
numpy array of int16 samples, mono, at ``ICall.rate_hz`` samples a second.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt
from twisted.internet.defer import Deferred
from twisted.plugin import IPlugin
from zope.interface import Attribute, Interface, implementer

Audio = npt.NDArray[np.int16]
"""Mono samples, shape (n,), dtype int16."""


@attrs.frozen
class Outcome:
    """One way in which a step can end.

    :ivar name: what ``on.NAME`` of a flow file says.
    :ivar required: the flow must say what follows; without it, ``next`` does.
    :ivar doc: one line for ``agentstream applet list``.
    """

    name: str
    doc: str = ""
    required: bool = False


@attrs.frozen
class BargeIn:
    """What happens when the caller speaks while the bot is being heard.

    :ivar mode: ``off``: nothing. ``notify``: the bot is told. ``clear``: the bot is silenced, and what it goes on
        sending is dropped until it says ``clear`` itself or pauses. ``pause``: the bot is held until it says ``clear``,
        or goes on at the deadline.
    :ivar speech_ms: how long the caller speaks over the bot until that happens.
    :ivar guard_ms: what the caller says this soon after the bot began to speak does not count.
    :ivar quiet_ms: ``clear``: this long without media after the caller stopped, the bot is heard again.
    :ivar deadline_ms: ``pause``: this long after the pause began, the bot goes on.
    :ivar tells_clear: ``clear``: the bot is sent ``clear`` when it is silenced.
    """

    mode: str = "off"
    speech_ms: int = 200
    guard_ms: int = 200
    quiet_ms: int = 300
    deadline_ms: int = 2000
    tells_clear: bool = False


@attrs.frozen
class StreamSpec:
    """What a step asks for when it opens a stream to a bot.

    :ivar url: ``ws://`` or ``wss://``, with userinfo for Basic auth and a query that becomes custom parameters; or
        ``http://`` or ``https://``: a server that answers a GET with ``{"url": "wss://..."}``.
    :ivar two_way: the bot may speak (voicebot); False only listens (stream), and lives on when its step is over.
    :ivar chunk_ms: milliseconds of audio in one ``media`` message, 20 to 200.
    :ivar play_out: after a clean close by the bot, what it has queued is still played.
    :ivar ca_file: certificates to trust for ``wss`` and ``https`` instead of the system's; None trusts the system's.
    :ivar max_s: seconds after which the stream is stopped.
    :ivar track: what a stream that only listens hears: ``inbound`` (the caller), ``outbound`` (what the caller is sent)
        or ``both``, each in messages of its own. A bot that may speak hears the caller.
    :ivar name: what ``ICall.stop_streams`` knows a stream that only listens by.
    :ivar counters: ``string`` or ``number``: how sequence_number and chunk are written.
    :ivar keys: ``snake``, or ``both`` for camelCase names beside the snake_case ones.
    :ivar codec: ``pcm16``, or ``mulaw`` for a byte a sample, at 8000 Hz whatever the URL asks for.
    :ivar encoding: what ``media_format.encoding`` says; empty: what fits the codec.
    :ivar bit_rate: what ``media_format.bit_rate`` says, likewise.
    :ivar barge_in: what happens when the caller speaks over a bot that may speak.
    :ivar speech_events: such a bot is told when the caller begins and stops to speak.
    :ivar playout_events: such a bot is told how much of what it said was heard.
    :ivar live_ms: what such a bot may have queued; beyond it the oldest is dropped. 0: nothing is ever dropped.
    """

    url: str = attrs.field(repr=False)
    two_way: bool = True
    chunk_ms: int = 100
    play_out: bool = True
    ca_file: Path | None = None
    max_s: int = 3600
    track: str = "inbound"
    name: str = ""
    counters: str = "string"
    keys: str = "snake"
    codec: str = "pcm16"
    encoding: str = ""
    bit_rate: str = ""
    barge_in: BargeIn = BargeIn()
    speech_events: bool = False
    playout_events: bool = False
    live_ms: int = 0


@attrs.frozen
class StreamEnd:
    """How a stream ended.

    :ivar clean: a close frame came, or we ended it: the outcome is ``done``. False: it broke, ``failed``.
    :ivar by: ``bot``, ``user`` (the caller hung up), or ``NA`` (the server, or nobody: it broke).
    :ivar code: the WebSocket close code (RFC 6455 section 7.4); 1006 when no close frame came.
    :ivar reason: a sentence for the log and the timeline.
    """

    clean: bool
    by: str
    code: int
    reason: str


@attrs.frozen
class Diversion:
    """One diversion of a call before it came here (RFC 5806).

    :ivar user: the user part of ``uri``. :ivar reason: such as ``no-answer`` or ``user-busy``; "" where none is said.
    """

    uri: str
    user: str
    reason: str = ""


@attrs.frozen
class CallerIdentity:
    """What a trunk says of the caller beside From.

    :ivar asserted: URIs of P-Asserted-Identity (RFC 3325). :ivar asserted_user: the user part of the first of them.
    :ivar display: its display name. :ivar privacy: values of Privacy (RFC 3323); with ``id`` the number is not for the
        ears of others.
    :ivar diversions: the latest first. :ivar history: URIs of History-Info (RFC 7044), the oldest first.
    """

    asserted: tuple[str, ...] = ()
    asserted_user: str = ""
    display: str = ""
    privacy: tuple[str, ...] = ()
    diversions: tuple[Diversion, ...] = ()
    history: tuple[str, ...] = ()


@attrs.frozen
class EndCause:
    """Why the caller's side ended the call, as its BYE or CANCEL says (RFC 3326).

    :ivar protocol: ``Q.850`` or ``SIP``. :ivar code: the cause or status; 16 of Q.850 is an ordinary end, 17 busy.
    """

    protocol: str
    code: int
    text: str = ""


@attrs.frozen
class TransferEnd:
    """What became of a transfer.

    :ivar is_done: the other end has reached the target. :ivar status: the SIP status that says so; 0 where none does.
    """

    is_done: bool
    status: int
    reason: str


@attrs.frozen
class ConnectSpec:
    """Whom a caller is to be connected with.

    :ivar to: phones that register here by their users, numbers of trunks, and ``sip:``, ``sips:`` or ``tel:`` URIs.
    :ivar timeout_s: how long they may ring; ``in_turn``, each of them.
    :ivar in_turn: one after the other; False rings all at once.
    :ivar caller: who they are told calls: a number, a name, or a SIP URI; "" for who calls us.
    :ivar ringback: a sound file for the caller while it rings, again and again; None for a tone.
    :ivar record: what they say to each other is recorded, on the caller's two channels.
    :ivar hand_over_s: when they can talk, the caller's phone is asked to call whoever answered in our place (RFC 5589),
        and may take so long; 0 lets them talk through us until one of them hangs up.
    """

    to: tuple[str, ...]
    timeout_s: float = 30
    in_turn: bool = False
    caller: str = ""
    ringback: Path | None = None
    record: bool = False
    hand_over_s: float = 0


@attrs.frozen
class ConnectEnd:
    """What became of it.

    :ivar outcome: ``done`` (they talked, or talk without us where they were to be handed over), ``busy``, ``no_answer``
        or ``failed``.
    :ivar status: the SIP status that says so; 200 where somebody answered, 0 where nobody was asked to the end.
    :ivar target: who answered, as ``to`` names it; "" for nobody.
    :ivar talked_s: seconds that they could talk.
    :ivar by: who ended a conversation: ``caller``, ``callee`` or ``server``; "" where there was none.
    :ivar causes: why the callee's side ended it, where it says so.
    """

    outcome: str
    status: int
    reason: str
    target: str = ""
    talked_s: float = 0.0
    by: str = ""
    causes: tuple[EndCause, ...] = ()


class IStream(Interface):
    """One open WebSocket session to a bot."""

    sid: str = Attribute("The stream's id: 32 lower-case characters.")

    def ended() -> Deferred[StreamEnd]:
        """A new Deferred that fires once when the stream is over and what may be played out has been played.

        Never errbacks. Each caller gets one of its own.
        """

    def stop(reason: str) -> None:
        """Send ``stop`` with this reason (``stopped`` or ``callended``) and close. Harmless when it is over."""


class ICall(Interface):
    """One run of a flow, as its applets see it."""

    sid: str = Attribute("The call's id: 32 lower-case characters.")
    caller: str = Attribute("Who calls: the user part of the From URI; of a phone's call, the phone's user.")
    callee: str = Attribute("Who is called: the user part of the Request-URI.")
    rate_hz: int = Attribute("Samples a second of everything that is heard and played.")
    variables: dict[str, str] = Attribute("Free for applets; lives as long as the call.")
    created_at: datetime.datetime = Attribute("When the call came in, in UTC.")
    ended_by: str = Attribute("Who ended the call: user or server; empty while it is up.")
    sip_headers: tuple[tuple[str, str], ...] = Attribute("(name, value) of the INVITE's X- headers, as received.")
    identity: CallerIdentity = Attribute("What the trunk says of the caller beside From; a phone is not asked.")
    trunk: str = Attribute("The name of the trunk that the call came by; empty for a phone's.")
    phone: str = Attribute("The user of the phone that calls, known by its password; empty for a trunk's call.")
    end_causes: tuple[EndCause, ...] = Attribute("Why the caller's side ended the call; empty where it did not say.")

    def answer() -> Deferred[None]:
        """Answer the call (200) unless it is answered already; fires when audio may flow."""

    def early_media() -> Deferred[None]:
        """Let the caller hear what is played without answering the call (183); fires when audio may flow.

        Errbacks with AgentstreamError where the caller left the offer to us. Harmless when the call is answered.
        """

    def hold() -> Deferred[None]:
        """Put the caller's phone on hold: it sends no sound, and what is played is still heard.

        Fires when the phone has agreed; errbacks with AgentstreamError when it refuses.
        """

    def resume() -> Deferred[None]:
        """Take the hold back; as :meth:`hold`."""

    def send_digits(digits: str, duration_ms: int = 100, gap_ms: int = 60) -> Deferred[None]:
        """Send DTMF digits (0-9, *, #, A-D); fires when the last one has left. What is being played waits meanwhile.

        As telephone-events, as tones where those were not agreed on, or by INFO where the trunk says so. Errbacks with
        AgentstreamError when they cannot be sent.
        """

    def transfer(target: str, timeout_s: float = 30) -> Deferred[TransferEnd]:
        """Ask the other end to call ``target`` instead (a number, or a sip, sips or tel URI); RFC 3515.

        Fires when it has said what became of it, or after ``timeout_s``; never errbacks. Whatever became of it, this
        call is up until somebody hangs up.
        """

    def connect(spec: ConnectSpec) -> Deferred[ConnectEnd]:
        """Ring somebody and connect the caller with whoever answers; fires when they have talked, or nobody answered.

        With ``hand_over_s`` it fires when the caller's phone has called him in our place, or has not: ``failed``, and
        the caller is still here.

        The caller is answered when the other end is, unless he has been before; until then he hears that it rings.
        Never errbacks. A cancel, the end of the step and the caller's hanging up end it, whatever it has come to.
        """

    def play(audio: Audio | Path) -> Deferred[None]:
        """Queue audio, or a sound file of any common format, behind what is queued already.

        Fires when its last sample has left in an RTP packet; cancelling it silences and drops what has not been played.
        Errbacks with AgentstreamError where a file cannot be read.
        """

    def wait(seconds: float) -> Deferred[None]:
        """Fires when so much time has passed (zero or more); cancelling it ends the wait. Nothing is played for it.

        It does not fire when the step is over before, as it is when the caller hangs up.
        """

    def hear(chunk_ms: int, fn: Callable[[Audio, int], None]) -> Callable[[], None]:
        """Call ``fn(chunk, timestamp_ms)`` for every chunk_ms (20 to 200, a multiple of 20) of what the caller says.

        The chunk is the callee's to keep. ``timestamp_ms`` is the time of its first sample since hearing began. An
        exception in ``fn`` ends the step as the applet's failure. Returns a function that ends the hearing.
        """

    def hear_digits(fn: Callable[[str, int], None]) -> Callable[[], None]:
        """Call ``fn(digit, duration_ms)`` for each DTMF digit; returns a function that ends it."""

    def hear_speech(fn: Callable[[bool, float], None]) -> Callable[[], None]:
        """Call ``fn(is_speaking, level_dbov)`` when the caller begins to speak and when he has stopped.

        The second level is the loudest of what he said. Returns a function that ends it.
        """

    def open_stream(spec: StreamSpec) -> Deferred[IStream]:
        """Connect a bot. Errbacks with :class:`agentstream.errors.StreamFailed`; cancelling it gives up.

        A stream that speaks is over when its step is. One that only listens goes on until ``stop_streams`` or the end
        of the call, and so does its connecting; what becomes of it is then in the timeline.
        """

    def stop_streams(name: str = "") -> int:
        """Stop the streams of this call that only listen: those of one name, or all; returns how many."""

    def record(*, whole_call: bool = False) -> bool:
        """Record both sides from now on, until the step is over (with ``whole_call``: until the call is).

        False where the call is being recorded already, or is over. What becomes of the file is in the timeline: a disk
        that is full ends the recording and never the call.
        """

    def pause_recording() -> bool:
        """Record silence from now on, as while a card number is said; False where nothing is being recorded."""

    def resume_recording() -> bool:
        """Record sound again; False where nothing is being recorded."""

    def stop_recording() -> bool:
        """End the recording that runs, whichever step began it; False where there is none."""

    def hang_up(reason: str) -> None:
        """End the call now; the reason goes to the timeline."""

    def event(kind: str, **fields: Any) -> None:
        """Add to the call's timeline. ``kind`` is a past-tense name such as ``menu_chosen``."""


class IRun(Interface):
    """One step of one call, at work. Per-call state lives here."""

    def start() -> Deferred[str]:
        """Begin; fires with the name of one of the applet's outcomes."""

    def stop(reason: str) -> None:
        """End now: ``callended`` (the caller is gone) or ``stopped``. The Deferred of start should fire soon after; the
        call does not wait for it."""


class IApplet(Interface):
    """One kind of step; a drop-in provides it as a module-level instance that also provides IPlugin."""

    name: str = Attribute("What ``applet = NAME`` of a flow file says.")
    options: type = Attribute("An attrs class: what a step may set. Each field carries ``metadata={'doc': ...}``.")
    outcomes: tuple[Outcome, ...] = Attribute("The first is the ordinary one.")
    needs_answer: bool = Attribute("The call is answered before the run is opened.")
    after_hangup: bool = Attribute("The step also runs when the caller is gone already.")

    def open(call: ICall, options: Any) -> IRun:
        """The run of one step of one call."""


class IStreamApplet(IApplet):
    """An applet that opens a stream and only listens."""


class IVoicebotApplet(IApplet):
    """An applet that opens a stream that listens and speaks."""


@implementer(IPlugin, IApplet)
@attrs.frozen(kw_only=True)
class Applet:
    """An applet that needs no class of its own: what a drop-in says of itself, and what makes its runs.

    :ivar run: gives the run of one step of one call from that call and the step's options, such as the run's class.
    :ivar doc: what for, in one line, where its module has more than one applet.
    """

    name: str
    options: type
    run: Callable[[ICall, Any], IRun]
    outcomes: tuple[Outcome, ...]
    needs_answer: bool = True
    after_hangup: bool = False
    doc: str = ""

    def open(self, call: ICall, options: Any) -> IRun:
        """One step of one call begins."""
        return self.run(call, options)


@implementer(IStreamApplet)
class StreamApplet(Applet):
    """One that opens a stream and only listens."""


@implementer(IVoicebotApplet)
class VoicebotApplet(Applet):
    """One that opens a stream that listens and speaks."""
