"""Who may send anything outside a dialog: addresses that are known, and credentials (RFC 3261 section 22.1).

The stack asks :meth:`Gate.judge` before a request costs a transaction. Everything that it says no to is answered
without state, or not at all.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs

from agentstream.errors import RemoteProtocolError
from agentstream.sip.bans import Ban, Bans
from agentstream.sip.digest import DigestServer, parse_answer
from agentstream.sip.grammar import plain_host
from agentstream.sip.hop import Hop
from agentstream.sip.message import Request

STRANGER = "this address may not call here"
BAD = "these credentials are nobody's"
UNREADABLE = "the credentials cannot be read"
ASKED = "this needs credentials"


@attrs.frozen
class Account:
    """Who may present credentials.

    :ivar peer: what the owner calls it.
    :ivar is_from: whether it may come from this address.
    :ivar is_phone: it may register.
    """

    peer: str
    password: str = attrs.field(repr=False)
    is_from: Callable[[str], bool] = attrs.field(default=lambda _host: True, repr=False)
    is_phone: bool = False


@attrs.frozen
class Guest:
    """Let in.

    :ivar user: the user of its credentials; "" for one who is known by address. :ivar account: None for such a one.
    """

    user: str = ""
    account: Account | None = None


@attrs.frozen
class Refusal:
    """Not let in.

    :ivar status: 0 for no answer at all. :ivar ban: what this refusal was one too many for.
    """

    status: int
    sentence: str
    headers: tuple[tuple[str, str], ...] = ()
    ban: Ban | None = None


@attrs.frozen
class Rules:
    """What the owner wants of those who are not known.

    :ivar is_silent: who has no name here gets no answer. :ivar ban_after: refusals in a minute; 0 for no bans.
    """

    is_silent: bool = False
    ban_after: int = 0
    ban_s: float = 300.0


def _nobody(_user: str) -> Account | None:
    return None


def _never(_host: str) -> bool:
    return False


class Gate:
    """All that decides who may begin something.

    :param digest: asks for credentials. :param is_known: this address is enough.
    :param is_protected: this address is never banned. :param account_of: the account of a user, or None.
    :param has_accounts: there is anybody who could present credentials. :param rules: the present ones.
    :ivar bans: who is ignored.
    :ivar is_registrar: phones register here, so that REGISTER needs credentials from every address.
    """

    def __init__(
        self,
        digest: DigestServer,
        *,
        is_known: Callable[[str], bool],
        is_protected: Callable[[str], bool] = _never,
        account_of: Callable[[str], Account | None] = _nobody,
        has_accounts: Callable[[], bool] = lambda: False,
        rules: Callable[[], Rules] = Rules,
    ) -> None:
        self.digest = digest
        self.bans = Bans()
        self.is_known = is_known
        self.is_protected = is_protected
        self.account_of = account_of
        self.has_accounts = has_accounts
        self.rules = rules
        self.is_registrar = False

    def is_banned(self, host: str, now: float) -> bool:
        """All that this address sends is ignored."""
        return self.bans.is_banned(plain_host(host), now)

    def is_silent_to(self, host: str) -> bool:
        """What this address sends is not even told what is wrong with it."""
        return self.rules().is_silent and not self.is_known(plain_host(host))

    def judge(self, request: Request, source: Hop, now: float) -> Guest | Refusal:
        """Whether a request outside any dialog may go on. REGISTER is the phone's own: an address is not enough."""
        is_register = self.is_registrar and request.method == "REGISTER"
        source = attrs.evolve(source, host=plain_host(source.host))
        if not is_register and self.is_known(source.host):
            return Guest()
        if not self.has_accounts():
            return self._refuse(source, now, 403, STRANGER)
        values = [*request.headers.get_all("authorization"), *request.headers.get_all("proxy-authorization")]
        if not values:
            # In silence only those are asked whose name there is: the others might look for names.
            user = (request.to if is_register else request.from_).uri.user_text
            if self.rules().is_silent and self.account_of(user) is None:
                return self._refuse(source, now, 403, STRANGER)
            return self._ask(source, now, ASKED)
        try:
            answers = [parse_answer(value) for value in values]
        except RemoteProtocolError:
            return self._refuse(source, now, 403, UNREADABLE)
        answer = next((one for one in answers if one.realm == self.digest.realm), answers[0])
        account = self.account_of(answer.user)
        if account is not None and (not account.is_from(source.host) or (is_register and not account.is_phone)):
            account = None
        outcome = self.digest.verify(answer, None if account is None else account.password, request.method, now)
        if outcome == "stale":
            return self._ask(source, now, ASKED, is_stale=True)
        if outcome == "bad" or account is None:
            return self._refuse(source, now, 403, BAD)
        self.bans.forgive(source.host)
        return Guest(answer.user, account)

    def _ask(self, source: Hop, now: float, sentence: str, *, is_stale: bool = False) -> Refusal:
        headers = tuple(("WWW-Authenticate", value) for value in self.digest.challenges(now, is_stale=is_stale))
        # Who never answers is counted like one who answers wrongly; the right answer wipes it out.
        return Refusal(401, sentence, headers, None if is_stale else self._count(source, now))

    def _refuse(self, source: Hop, now: float, status: int, sentence: str) -> Refusal:
        return Refusal(0 if self.rules().is_silent else status, sentence, (), self._count(source, now))

    def _count(self, source: Hop, now: float) -> Ban | None:
        rules, host = self.rules(), source.host
        ban = self.bans.count(host, source.transport, rules.ban_after, rules.ban_s, now)
        if ban is not None and self.is_protected(host):
            self.bans.forgive(host)
            return None
        return ban
