"""Session timers (RFC 4028): both sides know by when the other one has been heard of, or the session is over.

One side is the refresher: at half of the agreed interval it sends UPDATE (RFC 3311) where the peer serves that, else a
re-INVITE with the description that it sent last. Whoever sees no refresh in time ends the session with BYE.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from agentstream.errors import RemoteProtocolError
from agentstream.sip.grammar import parse_number, parse_parameters
from agentstream.sip.headers import Headers
from agentstream.sip.message import Request, Response
from agentstream.sip.timers import Deadline

if TYPE_CHECKING:
    from agentstream.sip.session import Session

LEAST_S = 90
"""Section 4: "the absolute minimum for the Session-Expires header field value is 90 seconds"."""
LONGEST_S = 2**31 - 1
AGAIN_S = 2.0
"""How soon a refresh is tried again that met something else under way."""

UAC, UAS = "uac", "uas"
Refusal = tuple[int, str, list[tuple[str, str]]]


@attrs.frozen
class Intervals:
    """What we want of session timers.

    :ivar expires_s: the session interval that we ask for; 0 asks for none.
    :ivar least_s: the shortest that we serve.
    """

    expires_s: int = 1800
    least_s: int = LEAST_S


@attrs.frozen
class SessionExpires:
    """The value of a Session-Expires header (section 4).

    :ivar refresher: ``uac``, ``uas`` or "".
    """

    interval_s: int
    refresher: str = ""

    def __str__(self) -> str:
        return f"{self.interval_s};refresher={self.refresher}" if self.refresher else str(self.interval_s)


def read_session_expires(headers: Headers) -> SessionExpires | None:
    """None where there is none, or none that can be read."""
    text = headers.get("session-expires")
    if text is None:
        return None
    number, semicolon, tail = text.partition(";")
    interval_s = parse_number(number.strip(), LONGEST_S)
    try:
        refresher = (parse_parameters(semicolon + tail).get("refresher") or "").lower()
    except RemoteProtocolError:
        return None
    return SessionExpires(interval_s, refresher if refresher in (UAC, UAS) else "") if interval_s else None


def read_min_se(headers: Headers) -> int:
    """The value of Min-SE, never less than 90 (section 5: "When the header field is not present, its default value is
    90 seconds")."""
    text = (headers.get("min-se") or "").partition(";")[0].strip()
    return max(parse_number(text, LONGEST_S) or 0, LEAST_S)


def supports(headers: Headers, tag: str) -> bool:
    """Whether Supported or Require names this option tag."""
    return tag in headers.tokens_of("supported") or tag in headers.tokens_of("require")


class SessionTimer:
    """The timer of one session.

    :ivar interval_s: what was agreed on; 0: no timer runs.
    :ivar is_refresher: we are to refresh.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._timers = session.stack.timers
        intervals = session.stack.intervals
        self._wanted_s = intervals.expires_s
        self._least_s = intervals.least_s
        self.interval_s = 0
        self.is_refresher = False
        self.deadlines: dict[str, Deadline] = {}

    # -- as UAS of a request that may refresh ------------------------------------------------------

    def refusal_of(self, request: Request) -> Refusal | None:
        """422 for an interval that is too short for us, from a peer that can ask for a longer one."""
        asked = read_session_expires(request.headers)
        if asked is None or asked.interval_s >= self._least_s or not supports(request.headers, "timer"):
            return None
        # Section 9: "the UAS MAY reject the request with a 422 ... it MUST include a Min-SE header field".
        return 422, f"a session of less than {self._least_s} s is not served", [("Min-SE", str(self._least_s))]

    def answer(self, request: Request, now: float) -> list[tuple[str, str]]:
        """What our 2xx says; the interval begins (section 9)."""
        headers = request.headers
        asked = read_session_expires(headers)
        can_refresh = supports(headers, "timer")
        if asked is not None:
            interval_s, refresher = asked.interval_s, asked.refresher
        elif can_refresh and (self.interval_s or self._wanted_s):
            interval_s, refresher = max(self.interval_s or self._wanted_s, read_min_se(headers)), ""
        else:
            interval_s, refresher = 0, ""
        if interval_s < LEAST_S:
            # A proxy's wish that cannot be raised, for its UAC knows nothing of timers; or no timer at all.
            self.stop()
            return []
        if not can_refresh:
            # Table 2: a UAC that does not know of timers cannot be the refresher.
            refresher = UAS
        elif not refresher:
            refresher = UAC if self.interval_s and not self.is_refresher else UAS
        self._agree(interval_s, refresher == UAS, now)
        fields = [("Session-Expires", str(SessionExpires(interval_s, refresher)))]
        if refresher == UAC:
            # "If the refresher parameter in the Session-Expires header field in the 2xx response has a value of 'uac',
            # the UAS MUST place a Require header field into the response with the value 'timer'."
            fields.append(("Require", "timer"))
        return fields

    # -- as UAC of a request that may refresh ------------------------------------------------------

    def ask(self) -> list[tuple[str, str]]:
        """What our INVITE, re-INVITE or UPDATE says (section 7.1 and 7.4)."""
        interval_s = self.interval_s or self._wanted_s
        if not interval_s:
            return []
        refresher = "" if not self.interval_s else UAC if self.is_refresher else UAS
        fields = [("Session-Expires", str(SessionExpires(interval_s, refresher)))]
        if self._least_s > LEAST_S:
            fields.append(("Min-SE", str(self._least_s)))
        return fields

    def accepted(self, response: Response, now: float) -> None:
        """Our request got its 2xx (section 7.2)."""
        agreed = read_session_expires(response.headers)
        if agreed is None:
            self.stop()
        else:
            self._agree(max(agreed.interval_s, LEAST_S), agreed.refresher != UAS, now)

    def raised(self, response: Response) -> bool:
        """Our request was answered 422: whether another, with the interval that the peer wants, can follow (7.3)."""
        least_s = read_min_se(response.headers)
        if least_s <= (self.interval_s or self._wanted_s):
            return False
        self._least_s = max(self._least_s, least_s)
        self._wanted_s = least_s
        if self.interval_s:
            self.interval_s = least_s
        return True

    # -- the time ----------------------------------------------------------------------------------

    def _agree(self, interval_s: int, is_refresher: bool, now: float) -> None:
        self.interval_s = interval_s
        self.is_refresher = is_refresher
        self._timers.cancel(self, "refresh")
        if is_refresher:
            # Section 7.4: "it is RECOMMENDED that this refresh be sent once half the session interval has elapsed".
            self._timers.set(self, "refresh", now + interval_s / 2)
        # Section 10: "the side not performing refreshes ... SHOULD send a BYE to terminate the session, slightly before
        # the session expiration. The minimum of 32 seconds and one third of the session interval is RECOMMENDED."
        self._timers.set(self, "expired", now + interval_s - min(32.0, interval_s / 3))

    def try_again(self, now: float) -> None:
        """The refresh was refused, and the session is not lost by that: try again until it expires."""
        self._timers.set(self, "refresh", now + max(AGAIN_S, self.interval_s / 20))

    def stop(self) -> None:
        """No timer runs any more."""
        self.interval_s = 0
        self._timers.cancel_all(self)

    def let_go(self) -> None:
        """The session is over: nothing here holds it any more."""
        self.stop()
        del self._session

    def timer_fired(self, letter: str, now: float) -> None:
        if letter == "expired":
            self._session.give_up(now, "timeout", "the session was not refreshed in time")
        elif not self._session.refresh(now):
            self._timers.set(self, "refresh", now + AGAIN_S)
