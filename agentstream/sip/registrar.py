"""The registrar (RFC 3261 section 10.3): which phones are where, until when, and over which flow they are reached.

Pure. A phone is reached over the flow that it registered on, whatever its Contact says: behind a NAT that is the only
way there is. So each binding keeps the hop that its REGISTER came by, and that flow is kept open with CRLFs
(RFC 5626 section 4.4.1, and the same over UDP), or with OPTIONS, which shows who is not there any more, too.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import attrs

from agentstream.errors import RemoteProtocolError
from agentstream.sip.events import BindingsChanged, ContactChanged
from agentstream.sip.grammar import parse_number
from agentstream.sip.headers import NameAddr, parse_name_addr
from agentstream.sip.hop import Hop
from agentstream.sip.message import Request
from agentstream.sip.pings import Changed, Ping
from agentstream.sip.timers import Deadline
from agentstream.sip.uri import parse_uri

if TYPE_CHECKING:
    from agentstream.sip.core import Core

PING = b"\r\n\r\n"
SWEEP_S = 30.0
"""How often a binding is looked at where it is not pinged."""
EXPIRES_S = 3600
"""What a REGISTER that names no interval asks for."""


@attrs.frozen
class RegistrarSettings:
    """Seconds, and contacts of one phone; ``ping_s`` 0 for no pings.

    :ivar keepalive: ``crlf`` or ``options``.
    """

    min_expires_s: int = 60
    max_expires_s: int = 3600
    max_contacts: int = 10
    ping_s: float = 25.0
    keepalive: str = "crlf"


@attrs.define(eq=False)
class Binding:
    """One contact of one phone.

    :ivar contact: its URI as it was registered. :ivar until: monotonic seconds.
    :ivar path: the Path of its REGISTER (RFC 3327), the route set of requests to it. :ivar hop: the flow.
    :ivar is_gone: expired, replaced or taken back.
    """

    user: str
    contact: str
    call_id: str
    cseq: int
    until: float
    path: tuple[str, ...]
    hop: Hop
    is_gone: bool = False
    ping: Ping | None = None

    @property
    def is_silent(self) -> bool:
        """It has left OPTIONS of ours unanswered."""
        return self.ping is not None and self.ping.is_up is False


@attrs.frozen
class Registered:
    """What a REGISTER is answered with; a status of 200 has the phone's bindings in its headers."""

    status: int
    sentence: str = ""
    headers: tuple[tuple[str, str], ...] = ()


class _Refused(Exception):
    def __init__(self, status: int, sentence: str, *headers: tuple[str, str]) -> None:
        super().__init__(sentence)
        self.answer = Registered(status, sentence, headers)


class Registrar:
    """All bindings of one node.

    :param settings: the present ones.
    """

    def __init__(self, stack: Core, settings: Callable[[], RegistrarSettings]) -> None:
        self.deadlines: dict[str, Deadline] = {}
        self._stack = stack
        self._settings = settings
        self._bindings: dict[str, list[Binding]] = {}
        self._flows: Counter[Hop] = Counter()
        self._hosts: Counter[str] = Counter()
        self._due: deque[tuple[float, Binding]] = deque()
        self._now = 0.0

    def __len__(self) -> int:
        return sum(len(bindings) for bindings in self._bindings.values())

    @property
    def users(self) -> int:
        """Phones that are registered."""
        return len(self._bindings)

    def bindings(self, user: str, now: float) -> list[Binding]:
        """Where this phone is, the newest first and those last that do not answer; ring them over their ``hop``, with
        their ``path`` as Route."""
        found = [binding for binding in reversed(self._bindings.get(user, ())) if binding.until > now]
        return sorted(found, key=lambda binding: binding.is_silent)

    @property
    def silent(self) -> int:
        """Contacts that leave our OPTIONS unanswered."""
        return sum(binding.is_silent for bindings in self._bindings.values() for binding in bindings)

    def has_flow(self, hop: Hop) -> bool:
        """A phone is reached over this connection."""
        return hop in self._flows

    def has_host(self, host: str) -> bool:
        """A phone is at this address."""
        return host in self._hosts

    def flow_failed(self, hop: Hop) -> None:
        """A connection is gone and leads nowhere again: who was reached over it is not there (RFC 5626 section 5.3)."""
        if hop not in self._flows:
            return
        for bindings in list(self._bindings.values()):
            for binding in [one for one in bindings if one.hop == hop]:
                self._remove(binding)
                self._say(binding)

    def _say(self, binding: Binding) -> None:
        contacts = len(self._bindings.get(binding.user, ()))
        self._stack.events.append(BindingsChanged(binding.user, binding.hop, contacts))

    # REGISTER

    def register(self, request: Request, user: str, source: Hop, now: float) -> Registered:
        """A REGISTER whose credentials are those of ``user``; all of it is done, or nothing."""
        try:
            return self._register(request, user, source, now)
        except _Refused as refused:
            return refused.answer
        except RemoteProtocolError as error:
            return Registered(error.status or 400, error.sentence)

    def _register(self, request: Request, user: str, source: Hop, now: float) -> Registered:
        if request.to.uri.user_text != user:
            raise _Refused(403, "these credentials are another user's")
        texts = request.headers.values_of("contact")
        asked_s = self._asked(request.headers.get("expires"), EXPIRES_S)
        have = self.bindings(user, now)
        if "*" in texts:
            # 10.3, step 6: "If the request has an additional Contact header field value or an expiration time other
            # than zero, the request is invalid".
            if len(texts) > 1 or asked_s or "expires" not in request.headers:
                raise _Refused(400, "the Contact * is not alone, or its Expires is not 0")
            wanted = [(binding, 0) for binding in have]
        else:
            path = tuple(request.headers.values_of("path"))
            wanted = [self._wanted(text, request, user, asked_s, path, source, now) for text in texts]
        for binding, _seconds in wanted:
            self._check_order(binding, request, have)
        for binding, seconds in wanted:
            self._replace(binding, seconds)
        if wanted:
            self._stack.events.append(BindingsChanged(user, source, len(self._bindings.get(user, ()))))
            self._arm(now)
        headers = [("Path", value) for value in request.headers.get_all("path")] if texts else []
        for binding in self.bindings(user, now):
            left = max(1, round(binding.until - now))
            headers.append(("Contact", f"<{binding.contact}>;expires={left}"))
        return Registered(200, headers=tuple(headers))

    @staticmethod
    def _asked(text: str | None, default: int) -> int:
        """10.2.1.1: a malformed interval is 3600 s."""
        if text is None:
            return default
        seconds = parse_number(text.strip(), 2**62)
        return EXPIRES_S if seconds is None else min(seconds, 2**31)

    def _wanted(
        self, text: str, request: Request, user: str, asked_s: int, path: tuple[str, ...], source: Hop, now: float
    ) -> tuple[Binding, int]:
        contact: NameAddr = parse_name_addr(text)
        if not contact.uri.is_sip:
            raise _Refused(400, "a phone's Contact is a SIP URI")
        # It becomes the Request-URI of what is sent there, which has no headers (RFC 3261 section 19.1.1).
        reached_at = str(attrs.evolve(contact.uri, headers=""))
        settings = self._settings()
        seconds = self._asked(contact.parameters.get("expires"), asked_s)
        if 0 < seconds < settings.min_expires_s:
            # 10.3, step 7: "the registrar MAY reject the registration with a response of 423".
            least = ("Min-Expires", str(settings.min_expires_s))
            raise _Refused(423, f"less than {settings.min_expires_s} s is too short", least)
        seconds = min(seconds, settings.max_expires_s)
        made = Binding(user, reached_at, request.call_id, request.cseq.number, now + seconds, path, source)
        return made, seconds

    @staticmethod
    def _check_order(binding: Binding, request: Request, have: list[Binding]) -> None:
        """10.3, step 7: a request of the same Call-ID whose CSeq is not higher came late: it "MUST" change nothing."""
        for known in have:
            is_same = known.contact == binding.contact and known.call_id == request.call_id
            if is_same and request.cseq.number <= known.cseq:
                raise _Refused(500, "a later REGISTER of this Call-ID has come before")

    def _replace(self, binding: Binding, seconds: int) -> None:
        for known in list(self._bindings.get(binding.user, ())):
            if known.contact == binding.contact:
                self._remove(known)
        if seconds:
            # A phone that came back at another port has left its old contact behind: the oldest makes room.
            while len(self._bindings.get(binding.user, ())) >= self._settings().max_contacts:
                self._remove(self._bindings[binding.user][0])
            self._add(binding)

    def _add(self, binding: Binding) -> None:
        self._bindings.setdefault(binding.user, []).append(binding)
        self._flows[binding.hop] += 1
        self._hosts[binding.hop.host] += 1
        self._due.append((0.0, binding))

    def _remove(self, binding: Binding) -> None:
        binding.is_gone = True
        if binding.ping is not None:
            binding.ping.stop(self._now)
        bindings = self._bindings[binding.user]
        bindings.remove(binding)
        if not bindings:
            del self._bindings[binding.user]
        self._flows[binding.hop] -= 1
        self._hosts[binding.hop.host] -= 1
        if not self._flows[binding.hop]:
            del self._flows[binding.hop]
        if not self._hosts[binding.hop.host]:
            del self._hosts[binding.hop.host]

    # What was there before a restart

    def restore(self, bindings: Iterable[Binding], now: float) -> None:
        """Bindings that were kept; those that are over are left out."""
        for binding in bindings:
            if binding.until > now:
                self._add(binding)
        self._arm(now)

    # Time

    def _arm(self, now: float) -> None:
        if self._due and "sweep" not in self.deadlines:
            self._stack.timers.set(self, "sweep", now + 1.0)

    def timer_fired(self, letter: str, now: float) -> None:
        """Look at those whose turn it is: over, or to be pinged. Who is new comes in at once, and is in turn then."""
        self._now = now
        ping_s = self._settings().ping_s
        period_s = ping_s or SWEEP_S
        for _ in range(len(self._due)):
            due, binding = self._due[0]
            if due > now:
                break
            self._due.popleft()
            if binding.is_gone:
                continue
            if binding.until <= now:
                self._remove(binding)
                self._say(binding)
                continue
            if ping_s and due:
                self._ping(binding, now)
            elif not ping_s:
                self._forget_ping(binding, now)
            self._due.append((now + period_s, binding))
        self._arm(now)

    def _ping(self, binding: Binding, now: float) -> None:
        self._stack.counters["pings"] += 1
        if self._settings().keepalive == "options":
            if binding.ping is None:
                uri = parse_uri(binding.contact)
                binding.ping = Ping(self._stack, uri, binding.hop, self._teller(binding), binding.path)
            binding.ping.ask(now)
            return
        self._forget_ping(binding, now)
        self._stack.out.append((PING, binding.hop))

    @staticmethod
    def _forget_ping(binding: Binding, now: float) -> None:
        """The settings have changed, and with them what is known of it."""
        if binding.ping is not None:
            binding.ping.stop(now)
            binding.ping = None

    def _teller(self, binding: Binding) -> Changed:
        user, hop = binding.user, binding.hop

        def tell(was: bool | None, is_up: bool, reason: str) -> None:
            # That a phone which has just registered is there is no news.
            if was is not None or not is_up:
                self._stack.events.append(ContactChanged(user, hop, is_up, reason))

        return tell
