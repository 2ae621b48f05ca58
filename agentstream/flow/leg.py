"""One SIP session joined with its media: what a call holds of the telephone network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import numpy as np
from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import Logger
from zope.interface import implementer

from agentstream.errors import AgentstreamError, RemoteProtocolError, StreamFailed
from agentstream.flow.ileg import ILeg
from agentstream.flow.stream import StreamOpener
from agentstream.interfaces import Audio, ICall, IStream, StreamSpec
from agentstream.media.plane import MediaLeg
from agentstream.net.edge import SipEdge
from agentstream.sdp.description import SessionDescription, parse
from agentstream.sdp.negotiation import LocalMedia, MediaPlan, accept_answer, answer_offer, make_offer
from agentstream.sip.session import Session


@implementer(ILeg)
class Leg:
    """An incoming call's leg.

    :param local: what we offer and answer with: address, port, codecs.
    :param nat: the trunk's rule of whose RTP is heard.
    :ivar call: told ``leg_ended(by, reason)`` once; set by who makes the call.
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
    ) -> None:
        self._edge = edge
        self._session = session
        self._media = media
        self._local = local
        self._signalling_host = signalling_host
        self._nat = nat
        self._streams = streams
        self._plan: MediaPlan | None = None
        self._answer: SessionDescription | None = None
        self._offer: SessionDescription | None = None
        self._acknowledged: Deferred[None] | None = None
        self._digit_fns: list[Callable[[str, int], None]] = []
        self._is_over = False
        self.is_answered = False
        self.rate_hz = media.rate_hz
        self.call: Any = None
        media.on_digit = self._digit_heard

    # Offer and answer (RFC 3264)

    def consider(self, sdp: bytes) -> None:
        """Read the offer of the INVITE, before anything is promised. Raises RemoteProtocolError with 400 or 488."""
        if sdp:
            self._answer, self._plan = answer_offer(parse(sdp), self._local)

    def answer(self) -> Deferred[None]:
        """Send 200; fires when audio may flow: now, or with the ACK where the caller left the offer to us."""
        if self._is_over:
            return fail(AgentstreamError("the caller is gone"))
        if self.is_answered:
            return succeed(None)
        self.is_answered = True
        if self._answer is not None and self._plan is not None:
            self._edge.answer(self._session, self._answer.serialise())
            self._describe(self._plan)
            return succeed(None)
        self._offer = make_offer(self._local)
        self._acknowledged = Deferred()
        self._edge.answer(self._session, self._offer.serialise())
        return self._acknowledged

    def acknowledged(self, sdp: bytes) -> None:
        """The ACK is here; it holds the answer where our 200 held the offer."""
        waiting, self._acknowledged = self._acknowledged, None
        offer, self._offer = self._offer, None
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
        """A re-INVITE: the same port and the next version of our description; 488 leaves everything as it was."""
        self._local = self._local.next_version()
        if not sdp:
            self._offer = make_offer(self._local)
            self._edge.answer(self._session, self._offer.serialise())
            return
        try:
            answer, plan = answer_offer(parse(sdp), self._local)
        except RemoteProtocolError as error:
            self._edge.reject(self._session, error.status or 488, error.sentence)
            return
        self._edge.answer(self._session, answer.serialise())
        self._describe(plan)

    def _describe(self, plan: MediaPlan) -> None:
        self._plan = plan
        self._media.describe(plan, self._signalling_host, self._nat)
        self.call.event(
            "media_agreed",
            codec=plan.codec,
            remote=f"{plan.remote_host}:{plan.remote_port}",
            port=self._media.port,
            may_send=plan.may_send,
            may_receive=plan.may_receive,
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

    def hear(self, chunk_ms: int, fn: Callable[[Audio, int], None]) -> Callable[[], None]:
        """``fn(chunk, timestamp_ms)`` with a chunk of its own each time."""
        return self._media.hear(chunk_ms, lambda chunk, timestamp_ms: fn(chunk.copy(), timestamp_ms))

    def hear_digits(self, fn: Callable[[str, int], None]) -> Callable[[], None]:
        """``fn(digit, duration_ms)`` for each digit."""
        self._digit_fns.append(fn)

        def stop() -> None:
            if fn in self._digit_fns:
                self._digit_fns.remove(fn)

        return stop

    def _digit_heard(self, digit: str, duration_ms: int) -> None:
        self.call.event("digit_received", digit=digit, duration_ms=duration_ms)
        for fn in list(self._digit_fns):
            try:
                fn(digit, duration_ms)
            except Exception:
                self.log.failure("a listener for digits failed")

    def open_stream(self, spec: StreamSpec, call: ICall) -> Deferred[IStream]:
        """Connect a bot."""
        if self._is_over:
            return fail(StreamFailed("the caller is gone"))
        return self._streams.open(self._media, spec, call, self.hear_digits)

    def hang_up(self, reason: str) -> None:
        """A refusal or BYE, whichever the session needs."""
        if not self._is_over:
            self._edge.hang_up(self._session, reason)
            self.over("server", reason)

    # What the session tells

    def over(self, by: str, reason: str) -> None:
        """The session is over: give the media back and tell the call, once."""
        if self._is_over:
            return
        self._is_over = True
        counts = attrs.asdict(self._media.statistics())
        self.call.event("leg_ended", by=by, reason=reason, **{f"rtp_{name}": count for name, count in counts.items()})
        waiting, self._acknowledged = self._acknowledged, None
        # The call stops its step before the media goes: what was queued is dropped then, and dropping it ends no step.
        self.call.leg_ended(by, reason)
        self._media.close()
        if waiting is not None:
            waiting.errback(AgentstreamError("the caller is gone"))
