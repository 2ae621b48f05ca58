"""Who may call: trunks and phones of the config as what the SIP stack asks at its gate, and whose call it was that came
in."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from agentstream.config.access import Trunk
from agentstream.config.model import Config
from agentstream.sip.digest import Credentials, DigestClient, DigestServer
from agentstream.sip.events import InviteReceived
from agentstream.sip.gate import Account, Gate, Rules
from agentstream.sip.grammar import plain_host
from agentstream.sip.permissions import Permissions


def make_gate(config: Callable[[], Config], token: Callable[[], str], is_in_use: Callable[[str], bool]) -> Gate:
    """The gate of a node; the config is asked anew each time.

    :param token: gives unpredictable words. :param is_in_use: a call is up with this address, or a phone
        is registered from there.
    """
    digest = DigestServer(config().access.realm, token, config().access.algorithms)

    def rules() -> Rules:
        access = config().access
        return Rules(access.strangers == "ignore", access.ban_after, access.ban_s)

    return Gate(
        digest,
        is_known=lambda host: config().trunk_of(host) is not None,
        is_protected=lambda host: config().is_trunk_address(host) or is_in_use(host),
        account_of=lambda user: account_of(config(), user),
        has_accounts=lambda: bool(config().trunks_by_user or config().phone),
        rules=rules,
    )


def account_of(config: Config, user: str) -> Account | None:
    """Whose credentials these are."""
    phone = config.phones_by_user.get(user)
    if phone is not None:
        return Account(phone.user, phone.password, is_phone=True)
    trunk = config.trunks_by_user.get(user)
    if trunk is None:
        return None
    if trunk.known_by == "both":
        return Account(trunk.name, trunk.password, trunk.is_from)
    return Account(trunk.name, trunk.password)


@attrs.frozen
class Caller:
    """Who a call came in from.

    :ivar trunk: what the config says of it; for a phone what it says of the phone, under a name that no log shows.
    :ivar phone: the user of the phone; "" for a trunk's call.
    """

    trunk: Trunk
    phone: str = ""

    @property
    def kind(self) -> str:
        """``trunk`` or ``phone``."""
        return "phone" if self.phone else "trunk"

    @property
    def name(self) -> str:
        """What the config calls it."""
        return self.phone or self.trunk.name

    def user_of(self, event: InviteReceived) -> str:
        """Who calls: what a trunk says, and of a phone whose password it has, whatever it says of itself."""
        return self.phone or event.request.from_.uri.user_text


def digest_client(trunk: Trunk, token: Callable[[], str]) -> DigestClient | None:
    """What a challenge of this trunk's is answered with; None where the config has no credentials for it."""
    return DigestClient(Credentials(trunk.user, trunk.password), token) if trunk.user else None


def caller_of(config: Config, event: InviteReceived) -> Caller | None:
    """Who calls: the one whose credentials the INVITE has, or else the trunk of its address."""
    account = event.guest.account
    if account is None:
        trunk = config.trunk_of(plain_host(event.source.host))
    elif account.is_phone:
        phone = config.phones_by_user[account.peer]
        same = attrs.evolve(
            phone_trunk(config),
            name=f"phone {phone.user}",
            max_calls=phone.max_calls,
            calls_per_second=phone.calls_per_second,
        )
        return Caller(same, phone.user)
    else:
        trunk = next((trunk for trunk in config.trunk if trunk.name == account.peer), None)
    return None if trunk is None else Caller(trunk)


def phone_trunk(config: Config) -> Trunk:
    """What phones are, where trunks are asked for: one without limits, and without a name that a trunk may have."""
    return Trunk(name="", srtp=config.registrar.srtp, obeys=config.registrar.obeys)


def permissions_of(trunk: Trunk) -> Permissions:
    """What the SIP stack lets it do with its calls."""
    return Permissions(refer="refer" in trunk.obeys, replaces="replaces" in trunk.obeys, redirect="3xx" in trunk.obeys)
