"""We as a client of a registrar (RFC 3261 section 10.2): one address-of-record, kept registered for as long as we run.

A target that cannot be reached, or that says that it cannot serve, is followed by the next one at once; when none is
left, all are tried again after a pause that doubles from round to round and is never the same for two nodes (RFC 5626
section 4.5).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import attrs

from agentstream.errors import RemoteProtocolError
from agentstream.sip.digest import Answers, DigestClient
from agentstream.sip.events import RegistrationChanged
from agentstream.sip.grammar import format_host, parse_number
from agentstream.sip.headers import Headers, NameAddr, parse_name_addr
from agentstream.sip.hop import Hop
from agentstream.sip.message import Request, Response
from agentstream.sip.timers import Deadline
from agentstream.sip.transactions import ClientTransaction, Transaction
from agentstream.sip.uri import Uri

if TYPE_CHECKING:
    from agentstream.sip.core import Core

FIRST_PAUSE_S = 30.0
LONGEST_PAUSE_S = 1800.0
MARGIN_S = 64.0
"""A refresh begins so long before the end, where there is so much: REGISTER may take 32 s to fail."""
TARGET_S = 5.0
"""Seconds for a target to answer, where there is another one."""
MOST_EXPIRES_S = 86_400
"""A Min-Expires above is not followed."""

IDLE = "idle"
TRYING = "trying"
REGISTERED = "registered"
FAILED = "failed"
ENDING = "ending"
ENDED = "ended"


@attrs.frozen
class Account:
    """What is registered, and where.

    :ivar name: what events call it. :ivar aor: the address-of-record.
    :ivar registrar: the Request-URI: the domain of the registrar.
    :ivar expires_s: what is asked for.
    """

    name: str
    aor: Uri
    registrar: Uri
    expires_s: int = 3600


Found = Callable[[Sequence[Hop], float], None]
"""Told of hops, and of the time."""


class Registration:
    """One registration.

    :param targets: tells its argument the hops to try, in order: at once or, where names are looked up, later. It is
        asked anew each round. :param chance: gives a number from 0 to 1.
    :ivar state: one of the words above. :ivar granted_s: what the registrar gave last. :ivar failures: rounds in
        which no target took it, since the last that did.
    """

    def __init__(
        self,
        stack: Core,
        account: Account,
        targets: Callable[[Found], None],
        credentials: DigestClient | None,
        chance: Callable[[], float],
    ) -> None:
        self.account = account
        self.state = IDLE
        self.granted_s = 0
        self.failures = 0
        self.deadlines: dict[str, Deadline] = {}
        self._stack = stack
        self._targets = targets
        self._chance = chance
        self._answers = None if credentials is None else Answers(credentials)
        self._left: list[Hop] = []
        self._hop: Hop | None = None
        self._transaction: ClientTransaction | None = None
        self._asked_s = account.expires_s
        self._retry_after_s = 0.0
        # RFC 3261 section 10.2: "All registrations from a UAC SHOULD use the same Call-ID header field value for
        # registrations sent to a particular registrar", with a CSeq that goes up.
        self._call_id = ""
        self._tag = stack.token()
        self._cseq = 0

    def start(self, now: float) -> None:
        """Register, and go on until :meth:`stop`."""
        if self.state == IDLE:
            self.state = TRYING
            self._begin_round()

    def stop(self, now: float) -> None:
        """Take the binding back (RFC 3261 section 10.2.2); nothing is tried again after that."""
        self._stack.timers.cancel_all(self)
        if self.state in (ENDING, ENDED):
            return
        asked, self._transaction = self._transaction, None
        if asked is not None:
            # Its 200 would have us registered again, and refreshed for ever.
            asked.end(now)
        was_registered = self.granted_s > 0
        self.state = ENDING if was_registered else ENDED
        if was_registered and self._hop is not None:
            self._send(self._hop, now)

    # Rounds and requests

    def _begin_round(self) -> None:
        self._targets(self._located)

    def _located(self, found: Sequence[Hop], now: float) -> None:
        if self.state in (ENDING, ENDED):
            return
        targets = list(found)
        if self._hop is not None and (self._hop in targets or not targets):
            # The one that served last is asked first: it may be the only one that knows the others. And it is asked
            # when a name that led there leads nowhere now: more often than not it is the DNS that is away.
            targets = [self._hop, *(hop for hop in targets if hop != self._hop)]
        self._left = targets
        self._retry_after_s = 0.0
        self._next_target(now, "no target is known")

    def _next_target(self, now: float, reason: str) -> None:
        self._stack.timers.cancel(self, "target")
        if self.state == ENDING:
            self._end(reason)
        elif self._left:
            self.state = TRYING if self.state != REGISTERED else REGISTERED
            if self._answers is not None:
                self._answers.forget_tries()
            self._send(self._left.pop(0), now)
        else:
            self._fail(now, reason)

    def _fail(self, now: float, reason: str) -> None:
        pause_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** min(self.failures, 10))
        # RFC 5626 section 4.5: "a uniform random time between 50 and 100% of the upper-bound wait time".
        pause_s = max(pause_s * (0.5 + self._chance() / 2), self._retry_after_s)
        self.failures += 1
        self.state, self.granted_s = FAILED, 0
        self._stack.timers.set(self, "retry", now + pause_s)
        self._say(FAILED, reason, pause_s)

    def _send(self, hop: Hop, now: float) -> None:
        stack, account = self._stack, self.account
        self._hop = hop
        listener = stack.listeners.of(hop)
        self._call_id = self._call_id or f"{stack.token()}@{format_host(listener.host)}"
        self._cseq += 1
        uri = str(account.registrar)
        fields = Headers()
        fields.add("Via", stack.listeners.via(hop, stack.token()))
        fields.add("Max-Forwards", "70")
        fields.add("From", str(NameAddr(account.aor, parameters={"tag": self._tag})))
        fields.add("To", str(NameAddr(account.aor)))
        fields.add("Call-ID", self._call_id)
        fields.add("CSeq", f"{self._cseq} REGISTER")
        fields.add("Contact", str(NameAddr(self._contact(hop))))
        fields.add("Expires", str(0 if self.state == ENDING else self._asked_s))
        if self._answers is not None:
            for name, value in self._answers.headers("REGISTER", uri):
                fields.add(name, value)
        self._transaction = stack.start_client(Request("REGISTER", uri, fields), hop, now, self)
        if self._left and self.state != ENDING:
            stack.timers.set(self, "target", now + TARGET_S)

    def _contact(self, hop: Hop) -> Uri:
        """Where calls to us shall go: our listener, with our user."""
        ours = parse_name_addr(self._stack.listeners.contact(hop)).uri
        return attrs.evolve(ours, user=self.account.aor.user)

    # What comes back

    def timer_fired(self, letter: str, now: float) -> None:
        """It is time for a refresh, for another round, or for another target."""
        if letter != "target":
            self._begin_round()
        elif self._transaction is not None:
            silent, self._transaction = self._transaction, None
            silent.end(now)
            self._next_target(now, "no answer to our REGISTER")

    def response_received(self, transaction: ClientTransaction, response: Response, now: float) -> None:
        if transaction is not self._transaction or response.status < 200:
            return
        self._stack.timers.cancel(self, "target")
        status, hop = response.status, transaction.hop
        if status in (401, 407) and self._answers is not None and self._answers.hear(response):
            self._send(hop, now)
        elif self.state == ENDING:
            self._end("" if status < 300 else response.explain())
        elif status < 300:
            self._accept(response, hop, now)
        elif status == 423 and self._raise(response):
            self._send(hop, now)
        else:
            retry = parse_number((response.headers.get("retry-after") or "").split("(")[0].split(";")[0].strip(), 2**31)
            self._retry_after_s = max(self._retry_after_s, float(min(retry or 0, MOST_EXPIRES_S)))
            if status < 500 and status not in (408, 480):
                # It is served here and was refused: another way to the same registrar would not change that.
                self._left = []
            self._next_target(now, response.explain())

    def transaction_failed(self, transaction: ClientTransaction, status: int, now: float) -> None:
        if transaction is self._transaction:
            self._next_target(now, "no answer to our REGISTER" if status == 408 else "the registrar cannot be reached")

    def transaction_ended(self, transaction: Transaction, now: float) -> None:
        """Nothing is kept by it."""

    def _raise(self, response: Response) -> bool:
        """RFC 3261 section 10.2.8: after a 423 the interval is at least its Min-Expires."""
        least = parse_number((response.headers.get("min-expires") or "").strip(), MOST_EXPIRES_S)
        if least is None or least <= self._asked_s:
            return False
        self._asked_s = least
        return True

    def _accept(self, response: Response, hop: Hop, now: float) -> None:
        self.granted_s = granted = self._granted(response, hop)
        if not granted:
            self._next_target(now, "the registrar lists no binding of ours")
            return
        if self._answers is not None:
            self._answers.accepted(response)
        was_registered = self.state == REGISTERED
        self.state, self.failures = REGISTERED, 0
        # 10.2.4: refreshed before it expires; not all nodes of a site at the same moment.
        latest = max(granted - MARGIN_S, granted / 2)
        refresh_s = latest * (0.9 + self._chance() / 10)
        self._stack.timers.set(self, "refresh", now + refresh_s)
        if not was_registered:
            self._say(REGISTERED, "", refresh_s)

    def _granted(self, response: Response, hop: Hop) -> int:
        """Seconds: 10.2.4 has "the expiration interval" in the Contact that is ours; where no Contact is ours, as from
        registrars behind a NAT of theirs, that of the header, or what we asked for."""
        ours = self._contact(hop)
        header = parse_number((response.headers.get("expires") or "").strip(), 2**31)
        found: list[int | None] = []
        for text in response.headers.values_of("contact"):
            try:
                contact = parse_name_addr(text)
            except RemoteProtocolError:
                continue
            seconds = parse_number(contact.parameters.get("expires") or "", 2**31)
            if (contact.uri.user, contact.uri.host, contact.uri.port) == (ours.user, ours.host, ours.port):
                return min(self._asked_s if header is None else header, 2**31) if seconds is None else seconds
            found.append(seconds)
        if len(found) == 1 and found[0] is not None:
            return found[0]
        if not found and header is None:
            # A 2xx without any Contact says that there is no binding; some say nothing and mean what was asked for.
            return self._asked_s
        return self._asked_s if header is None else header

    def _end(self, reason: str) -> None:
        self.state, self.granted_s = ENDED, 0
        self._say(ENDED, reason, 0.0)

    def _say(self, state: str, reason: str, seconds: float) -> None:
        hop = self._hop or Hop("udp", "", 0)
        self._stack.events.append(RegistrationChanged(self.account.name, state, hop, reason, seconds))
