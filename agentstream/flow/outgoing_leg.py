"""The leg of a call of ours: from its INVITE on, with every branch that forking proxies make of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from agentstream.errors import RemoteProtocolError
from agentstream.flow.leg import Leg
from agentstream.flow.recordings import Recordings
from agentstream.flow.stream import StreamOpener
from agentstream.media.leg import MediaLeg
from agentstream.net.edge import SipEdge
from agentstream.sdp import LocalMedia, MediaPlan, SessionDescription, accept_answer, parse
from agentstream.sip.headers import Reason, format_reason
from agentstream.sip.session import Session
from agentstream.sip.uri import Uri


class RingsFor(Protocol):
    """Whoever waits for the answer of a call of ours."""

    def progressed(self, status: int, *, has_sound: bool) -> None:
        """A provisional response; ``has_sound`` where the far end can be heard from now on."""

    def answered(self) -> None:
        """200, and sound both ways."""

    def refused(self, status: int, reason: str, contacts: Sequence[Uri] = ()) -> None:
        """It is over before it was answered.

        :param contacts: where a 3xx says to go.
        """


class OutgoingLeg(Leg):
    """A call of ours. Until it is answered, and if it never is, ``waiting`` is told; from then on ``call`` is, as with
    a leg that came in.

    :param offer: what the INVITE says of our media.
    :param on_over: called once when it is over, behind everything else.
    """

    def __init__(
        self,
        edge: SipEdge,
        session: Session,
        media: MediaLeg,
        local: LocalMedia,
        offer: SessionDescription,
        nat: str,
        streams: StreamOpener,
        recordings: Recordings,
        *,
        sends_info: bool,
        waiting: RingsFor,
        on_over: Callable[[], None],
    ) -> None:
        host = session.remote.host
        super().__init__(edge, session, media, local, host, nat, streams, recordings, sends_info=sends_info)
        self._sent = self._first_offer = offer
        self._waiting: RingsFor | None = waiting
        self._on_over = on_over
        self._branches: dict[str, MediaPlan] = {}

    def progressed(self, status: int, sdp: bytes, tag: str) -> None:
        """A provisional response. The sound of the branch that described itself last is heard (RFC 3960)."""
        plan = None
        if sdp:
            try:
                plan = accept_answer(self._first_offer, parse(sdp))
            except RemoteProtocolError as error:
                self.log.info("early media is of no use: {sentence}", sentence=error.sentence)
        if plan is not None:
            self._branches[tag] = plan
            self._point(plan)
        if self._waiting is not None:
            self._waiting.progressed(status, has_sound=plan is not None)

    def accepted(self, sdp: bytes, tag: str) -> None:
        """200. Where a reliable 183 of the same branch held the answer, it may hold none (RFC 6337 section 2.1)."""
        plan = self._branches.get(tag)
        sentence = "the 200 holds no answer to our offer"
        if sdp:
            try:
                plan = accept_answer(self._first_offer, parse(sdp))
            except RemoteProtocolError as error:
                plan, sentence = None, error.sentence
        self._branches.clear()
        if plan is None:
            waiting, self._waiting = self._waiting, None
            self.hang_up(sentence)
            if waiting is not None:
                waiting.refused(488, sentence)
            return
        self.is_answered = True
        self._point(plan)
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.answered()

    def refused(self, status: int, reason: str, contacts: Sequence[Uri] = ()) -> None:
        """Nobody answered, or not with 200."""
        waiting, self._waiting = self._waiting, None
        self.over("user", reason)
        if waiting is not None:
            waiting.refused(status, reason, contacts)

    def give_up(self, reason: str, status: int = 0) -> None:
        """CANCEL, with the status in its Reason where it stands for one (RFC 3326 section 3.1)."""
        self._waiting = None
        if not self._is_over:
            fields = [("Reason", format_reason(reason, "SIP", status))] if status else []
            self._edge.hang_up(self._session, reason, fields)
            self.over("server", reason)

    def over(self, by: str, reason: str, causes: tuple[Reason, ...] = ()) -> None:
        """The session is over. Whoever waits is told behind that: the next one that it rings may need the place."""
        if self._is_over:
            return
        waiting, self._waiting = self._waiting, None
        super().over(by, reason, causes)
        if waiting is not None:
            waiting.refused(480, reason)

    def _settle_on(self, session: Session, signalling_host: str, nat: str, *, sends_info: bool) -> Callable[[], None]:
        """Whom we called is at the far end no more."""
        self._branches.clear()
        return super()._settle_on(session, signalling_host, nat, sends_info=sends_info)

    def take_over(
        self, session: Session, sdp: bytes, signalling_host: str, nat: str, srtp: str, *, sends_info: bool
    ) -> None:
        """Also while it rings: then somebody else picks up for whom we called."""
        super().take_over(session, sdp, signalling_host, nat, srtp, sends_info=sends_info)
        self.is_answered = True
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.answered()

    def surrender(self) -> Callable[[], None]:
        """Its session goes on at another leg (:meth:`agentstream.flow.leg.Leg.adopt`), and nobody hears of this one any
        more; returns what gives its place back, when the session is over."""
        self._is_over = True
        self.call = _Nobody()
        on_over, self._on_over = self._on_over, _nothing
        return on_over

    def close_media(self) -> None:
        """The sound comes to the other leg by now."""
        self._media.close()

    def _point(self, plan: MediaPlan) -> None:
        # Where its messages come from may be another target by now than the one that was tried first.
        self._signalling_host = self._session.remote.host
        self._describe(plan)


def _nothing() -> None:
    pass


class _Nobody:
    """The call of a leg that nobody hears of."""

    def event(self, kind: str, **fields: Any) -> None:
        """For no timeline."""
