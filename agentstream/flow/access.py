"""Who may call: the config's trunks as what the SIP stack asks at its gate, and the trunk of a call that came in."""

from __future__ import annotations

from collections.abc import Callable

from agentstream.config.access import Trunk
from agentstream.config.model import Config
from agentstream.sip.digest import DigestServer
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


def caller_of(config: Config, event: InviteReceived) -> Trunk | None:
    """The trunk that a call came by: that of its credentials, or else of its address."""
    account = event.guest.account
    if account is None:
        return config.trunk_of(plain_host(event.source.host))
    if account.is_phone:
        return phone_trunk(config, account.peer)
    return next((trunk for trunk in config.trunk if trunk.name == account.peer), None)


def phone_trunk(config: Config, user: str) -> Trunk:
    """What a phone is, where trunks are asked for: one without limits of its own."""
    return Trunk(name=user, srtp=config.registrar.srtp, obeys=config.registrar.obeys)


def permissions_of(trunk: Trunk) -> Permissions:
    """What the SIP stack lets it do with its calls."""
    return Permissions(refer="refer" in trunk.obeys, replaces="replaces" in trunk.obeys, redirect="3xx" in trunk.obeys)
