"""One SIP session joined with its media: what a call holds of the telephone network."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import attrs
import numpy as np
from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import Logger
from zope.interface import implementer

from agentstream.errors import AgentstreamError, LocalProtocolError, RemoteProtocolError, ResourceError, StreamFailed
from agentstream.flow.hearers import Hearers
from agentstream.flow.ileg import ILeg, IRecording
from agentstream.flow.info_digits import InfoDigits
from agentstream.flow.recordings import Recording, Recordings
from agentstream.flow.referral import Referral, not_sent, target_uri
from agentstream.flow.stream import StreamOpener
from agentstream.interfaces import Audio, EndCause, ICall, IStream, StreamSpec, TransferEnd
from agentstream.media.leg import MediaLeg
from agentstream.media.silence import TIMED_OUT, RtpChange
from agentstream.media.speech import SpeechChange
from agentstream.net.edge import SipEdge
from agentstream.sdp import (
    LocalMedia,
    MediaPlan,
    SessionDescription,
    accept_answer,
    answer_offer,
    family_of,
    make_offer,
    parse,
    revise,
)
from agentstream.sip.grammar import format_host, parse_number
from agentstream.sip.headers import Reason
from agentstream.sip.replaces import refer_to
from agentstream.sip.session import Session
from agentstream.sip.uac import MAX_FORWARDS
from agentstream.sip.uri import Uri

ANOTHER = "the far end is another one now"


@attrs.frozen(eq=False)
class _Change:
    """What a re-INVITE of ours asks for.

    :ivar done: fires when it is agreed.
    """

    local: LocalMedia
    done: Deferred[None] = attrs.Factory(Deferred)


@implementer(ILeg)
class Leg:
    """An incoming call's leg.

    :param local: what we offer and answer with: address, port, codecs.
    :param nat: the trunk's rule of whose RTP is heard.
    :param sends_info: digits go out by INFO.
    :ivar call: told ``leg_ended(by, reason, causes)`` once; set by who makes the call.
    """

    log = Logger()

    def __init__(
        self,
        edge: SipEdge,
        session: Session,
        media: MediaLeg,
        local: LocalMedia,
        signalling_host: str,
        nat: str,
        streams: StreamOpener,
        recordings: Recordings,
        *,
        sends_info: bool = False,
    ) -> None:
        self._edge = edge
        self._session = session
        self._media = media
        self._local = local
        self._signalling_host = signalling_host
        self._nat = nat
        self._streams = streams
        self._recordings = recordings
        self._recorded: list[Recording] = []
        self._plan: MediaPlan | None = None
        self._answer: SessionDescription | None = None
        # Two, for a change of ours may be sent as soon as the ACK is here, and before the ACK is told.
        self._offer_of_200: SessionDescription | None = None
        self._offer: SessionDescription | None = None
        self._sent: SessionDescription | None = None
        self._changes: deque[_Change] = deque()
        self._acknowledged: Deferred[None] | None = None
        self._hearers = Hearers()
        self._info_digits = InfoDigits(lambda digit, duration_ms: edge.send_digit(session, digit, duration_ms))
        self._sends_info = sends_info
        self._referral = Referral()
        self._is_early = False
        self._is_over = False
        # Whoever was at the far end has sent us elsewhere and left; nobody else is there yet.
        self._is_deserted = False
        self._endings: list[Callable[[], None]] = []
        self._on_over: Callable[[], None] = _nothing
        self.is_answered = False
        self.rate_hz = media.rate_hz
        self.call: Any = None
        media.on_digit = lambda digit, duration_ms: self.digit_heard(digit, duration_ms, "rtp")
        media.on_speech = self._speech_heard
        media.on_rtp = self._rtp_changed

    # Who is at the far end

    @property
    def session(self) -> Session:
        """The one that is at its far end now."""
        return self._session

    @property
    def local_user(self) -> str:
        """Who we are to the far end."""
        ours, _theirs = self._uris
        return ours.user_text

    @property
    def _uris(self) -> tuple[Uri, Uri]:
        """Ours and the far end's, as the INVITE of its session has them."""
        invite = self._session.request
        to, from_ = invite.to.uri, invite.from_.uri
        return (to, from_) if self._session.is_incoming else (from_, to)

    def at_end(self, fn: Callable[[], None]) -> None:
        """Call this when the leg is over."""
        self._endings.append(fn)

    def not_at_end(self, fn: Callable[[], None]) -> None:
        """Do not call it; harmless where it has been called."""
        if fn in self._endings:
            self._endings.remove(fn)

    def desert(self) -> None:
        """The session is over, and the leg goes on: another one is to come (RFC 5589 section 6). Nothing is sent to who
        has left, and no sound of his is missed."""
        self._is_deserted = True
        if self._plan is not None:
            nobody = attrs.evolve(self._plan, may_send=False, may_receive=False)
            self._media.describe(nobody, self._signalling_host, self._nat)

    def take_over(
        self, session: Session, sdp: bytes, signalling_host: str, nat: str, srtp: str, *, sends_info: bool
    ) -> None:
        """An INVITE has come whose session takes the place of this leg's (RFC 3891): answer it, on the same port.
        Raises RemoteProtocolError with 488, and everything stays as it was."""
        offer = parse(sdp) if sdp else None
        local = attrs.evolve(self._local, srtp=srtp)
        found = None if offer is None else answer_offer(offer, local)
        if offer is not None and family_of(offer) not in ("", "IP6" if ":" in self._local.host else "IP4"):
            raise RemoteProtocolError("the call that is replaced has RTP of the other IP family", 488)
        tell = self._settle_on(session, signalling_host, nat, sends_info=sends_info)
        self._local, self._sent = local, None
        if found is None:
            self._offer_of_200 = self._revised(make_offer(self._local))
            self._edge.answer(session, self._offer_of_200.serialise())
        else:
            self._edge.answer(session, self._revised(found[0]).serialise())
            self._describe(found[1])
        tell()

    def adopt(self, other: Leg, on_over: Callable[[], None]) -> Deferred[None]:
        """Who is at the far end of another leg that is up is at this one's from now on; a re-INVITE has the sound come
        here, and the Deferred fires when that is agreed. The other leg has no far end then.

        :param on_over: called once when this far end is gone, or another one is in its place.
        """
        tell = self._settle_on(other._session, other._signalling_host, other._nat, sends_info=other._sends_info)
        self._local, self._sent = attrs.evolve(self._local, srtp=other._local.srtp), other._sent
        self._on_over = on_over
        agreed = self._change(is_holding=False)
        tell()
        return agreed

    def _settle_on(self, session: Session, signalling_host: str, nat: str, *, sends_info: bool) -> Callable[[], None]:
        """Returns what tells those who wait for something of the far end before: to be called when the new one is here
        altogether, for whoever hears it may end the call."""
        changes, self._changes = self._changes, deque()
        digits, edge = self._info_digits, self._edge
        acknowledged, self._acknowledged = self._acknowledged, None

        def tell() -> None:
            self.transfer_ended(0, ANOTHER)
            digits.stop()
            for change in changes:
                change.done.errback(AgentstreamError(ANOTHER))
            if acknowledged is not None:
                acknowledged.callback(None)

        self._info_digits = InfoDigits(lambda digit, duration_ms: edge.send_digit(session, digit, duration_ms))
        self._session, self._signalling_host, self._nat = session, signalling_host, nat
        self._sends_info = sends_info
        self._hearers.digit_source = ""
        self._is_deserted = False
        # What is agreed next is told to the media, even where it is what was agreed before.
        self._plan = self._offer = self._offer_of_200 = None
        self._release()
        return tell

    def _release(self) -> None:
        on_over, self._on_over = self._on_over, _nothing  # which may hold this leg
        on_over()

    @property
    def _is_up(self) -> bool:
        return self.is_answered and not self._is_over and not self._is_deserted

    # Offer and answer (RFC 3264)

    def consider(self, offer: SessionDescription | None) -> None:
        """Look at the offer of the INVITE, before anything is promised; None leaves the offer to us. Raises
        RemoteProtocolError with 488."""
        if offer is not None:
            self._answer, self._plan = answer_offer(offer, self._local)

    def ring(self) -> None:
        """Send 180: the caller's phone says by itself that it rings. Nothing where the caller hears us already."""
        if not (self._is_over or self.is_answered or self._is_early):
            try:
                self._edge.progress(self._session, 180)
            except LocalProtocolError as error:
                self.log.info("the caller is not told that it rings: {sentence}", sentence=str(error))

    def early_media(self) -> Deferred[None]:
        """Send 183 with our answer: from now on the caller hears us, and we hear the caller, where his side lets us."""
        if self._is_over:
            return fail(AgentstreamError("the caller is gone"))
        if self.is_answered or self._is_early:
            return succeed(None)
        if self._answer is None or self._plan is None:
            return fail(AgentstreamError("the caller left the offer to us: nothing can be heard before the answer"))
        self._is_early = True
        plan, self._plan = self._plan, None
        self._edge.progress(self._session, 183, self._revised(self._answer).serialise())
        self._describe(plan)
        return succeed(None)

    def answer(self) -> Deferred[None]:
        """Send 200; fires when audio may flow: now, or with the ACK where the caller left the offer to us."""
        if self._is_over:
            return fail(AgentstreamError("the caller is gone"))
        if self.is_answered:
            return succeed(None)
        self.is_answered = True
        if self._is_early and self._sent is not None:
            self._edge.answer(self._session, self._sent.serialise())
            return succeed(None)
        if self._answer is not None and self._plan is not None:
            plan, self._plan = self._plan, None
            self._edge.answer(self._session, self._revised(self._answer).serialise())
            self._describe(plan)
            return succeed(None)
        self._offer_of_200 = self._revised(make_offer(self._local))
        self._acknowledged = Deferred()
        self._edge.answer(self._session, self._offer_of_200.serialise())
        return self._acknowledged

    def _revised(self, description: SessionDescription) -> SessionDescription:
        """The description as it is sent: with the version that it must have behind the last one."""
        self._sent = revise(self._sent, description)
        return self._sent

    def acknowledged(self, sdp: bytes) -> None:
        """The ACK is here; it holds the answer where our 200 held the offer."""
        waiting, self._acknowledged = self._acknowledged, None
        offer, self._offer_of_200 = self._offer_of_200, None
        if offer is None:
            return
        try:
            plan = accept_answer(offer, parse(sdp))
        except RemoteProtocolError as error:
            self.hang_up(error.sentence)
            if waiting is not None:
                waiting.errback(AgentstreamError(error.sentence))
            return
        self._describe(plan)
        if waiting is not None:
            waiting.callback(None)

    def reoffered(self, sdp: bytes) -> None:
        """A re-INVITE: the same port and, where something changes, the next version of our description; 488 leaves
        everything as it was."""
        if not sdp:
            self._offer_of_200 = self._revised(make_offer(self._local, self._sent, self._plan))
            self._edge.answer(self._session, self._offer_of_200.serialise())
            return
        try:
            answer, plan = answer_offer(parse(sdp), self._local, self._plan)
        except RemoteProtocolError as error:
            self._edge.reject(self._session, error.status or 488, error.sentence)
            return
        self._edge.answer(self._session, self._revised(answer).serialise())
        self._describe(plan)

    def updated(self, sdp: bytes) -> None:
        """The same by UPDATE (RFC 3311), which is never without an offer here."""
        try:
            answer, plan = answer_offer(parse(sdp), self._local, self._plan)
        except RemoteProtocolError as error:
            self._edge.reject_update(self._session, error.status or 488, error.sentence)
            return
        self._edge.answer_update(self._session, self._revised(answer).serialise())
        self._describe(plan)

    def refreshed(self, sdp: bytes) -> None:
        """A re-INVITE with our last description was accepted (RFC 4028): the answer is mostly the one that is known,
        and one that cannot be used changes nothing."""
        if self._sent is None or not sdp:
            return
        try:
            plan = accept_answer(self._sent, parse(sdp))
        except RemoteProtocolError as error:
            self.log.info("the answer to a session refresh is of no use: {sentence}", sentence=error.sentence)
            return
        self._describe(plan)

    def hold(self) -> Deferred[None]:
        """Ask the caller's phone to stop sending (``sendonly``, RFC 3264 section 8.4); fires when it has agreed."""
        return self._change(is_holding=True)

    def resume(self) -> Deferred[None]:
        """Take the hold back; fires when the caller's phone has agreed."""
        return self._change(is_holding=False)

    def _change(self, *, is_holding: bool) -> Deferred[None]:
        if not self._is_up:
            return fail(AgentstreamError("the call is not up"))
        change = _Change(attrs.evolve(self._local, is_holding=is_holding))
        self._changes.append(change)
        if len(self._changes) == 1:
            self._edge.reinvite(self._session, self._make_change)
        return change.done

    def _make_change(self) -> bytes:
        """The offer of the first change, made when its re-INVITE is sent."""
        self._offer = self._revised(make_offer(self._changes[0].local, self._sent, self._plan))
        return self._offer.serialise()

    def change_answered(self, sdp: bytes) -> None:
        """Our re-INVITE got its answer."""
        change = self._changes.popleft()
        offer, self._offer = self._offer, None
        assert offer is not None
        try:
            plan = accept_answer(offer, parse(sdp))
        except RemoteProtocolError as error:
            change.done.errback(AgentstreamError(error.sentence))
            self.hang_up(error.sentence)
            return
        self._local = change.local
        self._describe(plan)
        self._next_change()
        change.done.callback(None)

    def change_refused(self, reason: str) -> None:
        """Our re-INVITE was refused: everything stays as it was."""
        change = self._changes.popleft()
        self._offer = None
        self._next_change()
        change.done.errback(AgentstreamError(reason))

    def _next_change(self) -> None:
        if self._changes:
            self._edge.reinvite(self._session, self._make_change)

    def _describe(self, plan: MediaPlan) -> None:
        if plan == self._plan:
            return  # a session refresh: what is heard goes on undisturbed
        self._plan = plan
        self._media.describe(plan, self._signalling_host, self._nat)
        self.call.event(
            "media_agreed",
            codec=plan.codec,
            remote=f"{format_host(plan.remote_host)}:{plan.remote_port}",
            port=self._media.port,
            may_send=plan.may_send,
            may_receive=plan.may_receive,
            srtp=plan.keys.suite if plan.keys is not None else "",
        )

    # What a call asks for (ILeg)

    def play(self, audio: Audio) -> Deferred[None]:
        """Queue samples; fires when the last has left."""
        if self._is_over:
            return fail(AgentstreamError("the caller is gone"))
        playback = self._media.playback

        def cancelled(_: Deferred[None]) -> None:
            playback.clear()

        played: Deferred[None] = Deferred(cancelled)

        def told(is_played: bool) -> None:
            if not played.called:
                played.callback(None)

        playback.write_samples(np.ascontiguousarray(audio, dtype=np.int16))
        playback.mark(told)
        return played

    @property
    def is_heard(self) -> bool:
        """What is played reaches the far end's phone, before the answer or after it."""
        return self._is_early or self.is_answered

    @property
    def hears_tones(self) -> bool:
        """Digits come as tones in the sound, so that whoever hears the sound has them already."""
        has_events = self._plan is not None and self._plan.receive_digit_payload_type is not None
        return not has_events and self._hearers.digit_source != "info"

    @property
    def hops_left(self) -> int:
        """Fewer than its INVITE had left (RFC 7332): a call that comes back to us again and again ends some time."""
        left = parse_number((self._session.request.headers.get("max-forwards") or "").strip(), MAX_FORWARDS)
        return MAX_FORWARDS - 1 if left is None else left - 1

    def join(self, other: Any) -> Callable[[], None]:
        """Each hears the other; returns what ends it."""
        return self._media.join(other._media)

    def hear(self, chunk_ms: int, fn: Callable[[Audio, int], None]) -> Callable[[], None]:
        """``fn(chunk, timestamp_ms)`` with a chunk of its own each time."""
        return self._media.hear(chunk_ms, lambda chunk, timestamp_ms: fn(chunk.copy(), timestamp_ms))

    def hear_digits(self, fn: Callable[[str, int], None]) -> Callable[[], None]:
        """``fn(digit, duration_ms)`` for each digit."""
        return self._hearers.add_digits(fn)

    def digit_heard(self, digit: str, duration_ms: int, source: str) -> None:
        """A digit from ``rtp`` or from ``info``."""
        if self._hearers.believes(source):
            self.call.event("digit_received", digit=digit, duration_ms=duration_ms)
            self._hearers.tell_digit(digit, duration_ms)

    def hear_speech(self, fn: Callable[[bool, float], None]) -> Callable[[], None]:
        """``fn(is_speaking, level_dbov)`` for each change."""
        return self.hear_changes(lambda change: fn(change.is_speaking, change.level_dbov))

    def hear_changes(self, fn: Callable[[SpeechChange], None]) -> Callable[[], None]:
        """The same with everything that is known of it."""
        return self._hearers.add_speech(fn)

    def _speech_heard(self, change: SpeechChange) -> None:
        kind = "speech_started" if change.is_speaking else "speech_stopped"
        self.call.event(kind, at_ms=change.at_ms, level_dbov=change.level_dbov)
        self._hearers.tell_speech(change)

    def _rtp_changed(self, change: RtpChange) -> None:
        if change.kind == TIMED_OUT:
            self.hang_up(f"no RTP for {change.silent_s} s")
        else:
            self.call.event(change.kind, silent_s=change.silent_s)

    def send_digits(self, digits: str, duration_ms: int, gap_ms: int) -> Deferred[None]:
        """By RFC 4733 or as tones, or by INFO where the trunk wants that."""
        if not self._is_up:
            return fail(AgentstreamError("the call is not up"))
        if self._sends_info:
            if not self._session.is_up:
                return fail(AgentstreamError("the call is not up"))
            if self._info_digits.is_sending:
                return fail(AgentstreamError("digits are being sent already"))
            return self._info_digits.begin(digits, duration_ms)
        try:
            return self._media.send_digits(digits, duration_ms, gap_ms)
        except ResourceError as error:
            return fail(AgentstreamError(str(error)))

    def info_answered(self, status: int, reason: str) -> None:
        """An INFO of ours got its answer."""
        self._info_digits.answered(status, reason)

    def transfer(self, target: str, timeout_s: float) -> Deferred[TransferEnd]:
        """REFER (RFC 3515) to a URI or a bare number."""
        _ours, theirs = self._uris
        try:
            uri = target_uri(target, theirs, self._signalling_host)
        except RemoteProtocolError as error:
            return not_sent(error.sentence)
        return self._refer(uri, timeout_s)

    def hand_over(self, other: Any, timeout_s: float) -> Deferred[TransferEnd]:
        """REFER to who is at the far end of another leg that is up, whose call with us is replaced (RFC 5589)."""
        try:
            uri = refer_to(other.session)
        except LocalProtocolError as error:
            return not_sent(str(error))
        return self._refer(uri, timeout_s)

    def _refer(self, uri: Uri, timeout_s: float) -> Deferred[TransferEnd]:
        if self._referral.is_under_way:
            return not_sent("a transfer is under way already")
        # A session is not up where its 200 waits for a PRACK.
        if not (self._is_up and self._session.is_up):
            return not_sent("the call is not up")
        ours, _theirs = self._uris
        return self._referral.begin(self._edge, self._session, uri, ours, timeout_s)

    def transfer_progressed(self, status: int) -> None:
        """The far end is on its way."""
        self.call.event("transfer_progressed", status=status)

    def transfer_ended(self, status: int, reason: str) -> None:
        """It has got there, or it has not."""
        self._referral.end(self.call, status, reason)

    def open_stream(self, spec: StreamSpec, call: ICall) -> Deferred[IStream]:
        """Connect a bot."""
        if self._is_over:
            return fail(StreamFailed("the caller is gone"))
        return self._streams.open(self._media, spec, call, self.hear_digits, self.hear_changes)

    def record(self) -> IRecording:
        """Record both sides."""
        call = self.call
        number = len(self._recorded) + 1
        self._recorded.append(self._recordings.start(self._media, call.sid, number, call.created_at, call.event))
        return self._recorded[-1]

    def hang_up(self, reason: str) -> None:
        """A refusal or BYE, whichever the session needs."""
        if not self._is_over:
            self._edge.hang_up(self._session, reason)
            self.over("server", reason)

    # What the session tells

    def over(self, by: str, reason: str, causes: tuple[Reason, ...] = ()) -> None:
        """The session is over: give the media back and tell the call, once.

        :param causes: what the far end's Reason headers say.
        """
        if self._is_over:
            return
        self._is_over = True
        counts = attrs.asdict(self._media.statistics())
        said = tuple(EndCause(cause.protocol, cause.cause, cause.text) for cause in causes)
        facts = {f"rtp_{name}": count for name, count in counts.items()}
        if said:
            facts["causes"] = ", ".join(f"{cause.protocol} {cause.code}" for cause in said)
        self.call.event("leg_ended", by=by, reason=reason, **facts)
        waiting, self._acknowledged = self._acknowledged, None
        # The call stops its step before the media goes: what was queued is dropped then, and dropping it ends no step.
        self.call.leg_ended(by, reason, said)
        for recording in self._recorded:
            recording.stop()
        self._media.close()
        if waiting is not None:
            waiting.errback(AgentstreamError("the caller is gone"))
        self._info_digits.stop()
        self.transfer_ended(0, "the call is over")
        while self._changes:
            self._changes.popleft().done.errback(AgentstreamError("the caller is gone"))
        self._recorded.clear()
        self.call = None  # which holds this leg
        endings, self._endings = self._endings, []
        for ending in endings:
            ending()
        self._release()


def _nothing() -> None:
    pass
