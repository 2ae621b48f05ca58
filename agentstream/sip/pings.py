"""Whether somebody is there: OPTIONS to the servers of a trunk and to phones, time and again (RFC 3261 section 11).

Pure. Whatever is answered shows that somebody is there, be it a refusal; a 503 says that no calls are taken, and no
answer at all, several times in a row, that nobody would take one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from agentstream.sip.events import ServerChanged
from agentstream.sip.grammar import format_host
from agentstream.sip.headers import Headers, NameAddr, parse_name_addr
from agentstream.sip.hop import Hop
from agentstream.sip.message import Request, Response
from agentstream.sip.timers import Deadline
from agentstream.sip.transactions import ClientTransaction, Transaction
from agentstream.sip.uri import Uri

if TYPE_CHECKING:
    from agentstream.sip.core import Core
    from agentstream.sip.registration import Found

ANSWER_S = 5.0
"""Seconds for a ping to be answered."""
AGAIN_S = 2.0
"""Seconds until the next one where somebody may have gone."""
FAILURES = 3
"""Pings in a row that nobody answers until somebody counts as gone."""
FIRST_S = 5.0
"""The first pings of all trunks are spread over so many seconds."""

Changed = Callable[[bool | None, bool, str], None]


class Ping:
    """One server or phone.

    :param uri: whom OPTIONS is for. :param hop: the way there. :param routes: its Route headers.
    :param changed: told of each change: what ``is_up`` was and is, and why.
    :ivar is_up: None until the first answer, or until there was none for long enough.
    """

    __slots__ = ("_changed", "_failures", "_routes", "_stack", "_transaction", "_uri", "deadlines", "hop", "is_up")

    def __init__(self, stack: Core, uri: Uri, hop: Hop, changed: Changed, routes: Iterable[str] = ()) -> None:
        self.hop = hop
        self.is_up: bool | None = None
        self.deadlines: dict[str, Deadline] = {}
        self._stack = stack
        self._uri = uri
        self._changed = changed
        self._routes = tuple(routes)
        self._failures = 0
        self._transaction: ClientTransaction | None = None

    def ask(self, now: float) -> None:
        """Send one, unless one is under way."""
        if self._transaction is None and "again" not in self.deadlines:
            self._stack.timers.set(self, "silent", now + ANSWER_S)
            self._transaction = self._stack.start_client(self._build(), self.hop, now, self)

    def stop(self, now: float) -> None:
        """Nobody wants to know any more."""
        self._stack.timers.cancel_all(self)
        asked, self._transaction = self._transaction, None
        if asked is not None:
            asked.end(now)

    def _build(self) -> Request:
        stack, hop = self._stack, self.hop
        is_secure = self._uri.scheme == "sips"
        contact = stack.listeners.contact(hop, is_secure=is_secure)
        fields = Headers()
        fields.add("Via", stack.listeners.via(hop, stack.token()))
        fields.add("Max-Forwards", "70")
        for route in self._routes:
            fields.add("Route", route)
        fields.add("From", str(NameAddr(parse_name_addr(contact).uri, parameters={"tag": stack.token()})))
        fields.add("To", str(NameAddr(self._uri)))
        fields.add("Call-ID", f"{stack.token()}@{format_host(stack.listeners.of(hop).host)}")
        fields.add("CSeq", "1 OPTIONS")
        fields.add("Contact", contact)
        fields.add("Accept", "application/sdp")
        return Request("OPTIONS", str(self._uri), fields)

    def response_received(self, transaction: ClientTransaction, response: Response, now: float) -> None:
        """Any final one will do, 503 but for calls."""
        if transaction is not self._transaction or response.status < 200:
            return
        self._transaction = None
        self._stack.timers.cancel_all(self)
        self._failures = 0
        self._is_found(response.status != 503, response.explain())

    def transaction_failed(self, transaction: ClientTransaction, status: int, now: float) -> None:
        """It did not get there."""
        if transaction is self._transaction:
            self._fail(now, "no answer to OPTIONS" if status == 408 else "it cannot be reached")

    def transaction_ended(self, transaction: Transaction, now: float) -> None:
        """Nothing is kept by it."""

    def timer_fired(self, letter: str, now: float) -> None:
        """No answer has come; or it is time for another try."""
        if letter == "again":
            self.ask(now)
        elif self._transaction is not None:
            silent = self._transaction
            self._fail(now, "no answer to OPTIONS")
            silent.end(now)

    def _fail(self, now: float, reason: str) -> None:
        self._transaction = None
        self._stack.timers.cancel_all(self)
        self._failures += 1
        if self._failures >= FAILURES:
            self._is_found(False, reason)
        else:
            self._stack.timers.set(self, "again", now + AGAIN_S)

    def _is_found(self, is_up: bool, reason: str) -> None:
        if is_up is not self.is_up:
            was, self.is_up = self.is_up, is_up
            self._changed(was, is_up, reason)


class TrunkPings:
    """The servers that a trunk's URI leads to, each pinged once in ``period_s``.

    :param targets: tells its argument the ways to them, best first: at once or, where names are looked up, later. It is
        asked anew each time. :param chance: gives a number from 0 to 1.
    """

    def __init__(
        self,
        stack: Core,
        name: str,
        uri: Uri,
        period_s: float,
        targets: Callable[[Found], None],
        chance: Callable[[], float],
    ) -> None:
        self.deadlines: dict[str, Deadline] = {}
        self.servers: dict[Hop, Ping] = {}
        self._stack = stack
        self._name = name
        self._uri = uri
        self._period_s = period_s
        self._targets = targets
        self._chance = chance
        self._is_over = False
        self._is_nowhere = False

    @property
    def is_up(self) -> bool | None:
        """Whether one of them answers; None while it is not known of any, and some may."""
        states = {ping.is_up for ping in self.servers.values()}
        if True in states:
            return True
        if self._is_nowhere:
            return False
        return None if None in states or not states else False

    def start(self, now: float) -> None:
        """Begin, not at the moment at which all trunks do."""
        self._stack.timers.set(self, "round", now + self._chance() * min(FIRST_S, self._period_s))

    def stop(self, now: float) -> None:
        """No more."""
        self._is_over = True
        self._stack.timers.cancel_all(self)
        for hop in list(self.servers):
            self._forget(hop, now)

    def timer_fired(self, letter: str, now: float) -> None:
        """Another round. Those of several trunks, and of several nodes, do not stay in step."""
        self._stack.timers.set(self, "round", now + self._period_s * (0.9 + self._chance() / 5))
        self._targets(self._located)

    def _located(self, found: Sequence[Hop], now: float) -> None:
        if self._is_over:
            return
        # A name that led somewhere and leads nowhere now: more often than not it is the DNS that is away.
        if found:
            self._is_nowhere = False
            for hop in [hop for hop in self.servers if hop not in found]:
                self._forget(hop, now)
            for hop in found:
                if hop not in self.servers:
                    self.servers[hop] = Ping(self._stack, self._uri, hop, self._teller(hop))
        elif not self.servers and not self._is_nowhere:
            self._is_nowhere = True
            self._say(None, False, "no address that can be reached from here belongs to it")
        for ping in self.servers.values():
            ping.ask(now)

    def _forget(self, hop: Hop, now: float) -> None:
        self.servers.pop(hop).stop(now)
        self._say(hop, None, "it is pinged no more")

    def _teller(self, hop: Hop) -> Changed:
        return lambda _was, is_up, reason: self._say(hop, is_up, reason)

    def _say(self, hop: Hop | None, is_up: bool | None, reason: str) -> None:
        self._stack.events.append(ServerChanged(self._name, hop, is_up, reason, self.is_up))
