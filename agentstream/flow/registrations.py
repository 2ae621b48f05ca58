"""Our registrations at trunks: begun at start, changed with the config, taken back at the end."""

from __future__ import annotations

from collections.abc import Callable

import attrs
from twisted.logger import Logger

from agentstream.config.access import Trunk
from agentstream.config.model import Config
from agentstream.flow.access import digest_client
from agentstream.net.edge import SipEdge
from agentstream.sip.events import RegistrationChanged
from agentstream.sip.grammar import format_host
from agentstream.sip.registration import REGISTERED, Account, Registration
from agentstream.sip.uri import Uri, parse_uri


@attrs.define
class Registrations:
    """All of one node.

    :ivar token: gives unpredictable words. :ivar chance: gives a number from 0 to 1.
    """

    edge: SipEdge
    token: Callable[[], str]
    chance: Callable[[], float]
    _running: dict[str, tuple[Trunk, Registration]] = attrs.Factory(dict)

    log = Logger()

    def update(self, config: Config) -> None:
        """Have those that the config wants, and no others; one whose settings are the same goes on as it is."""
        wanted = {trunk.name: trunk for trunk in config.trunk if trunk.register_at}
        for name, (trunk, registration) in list(self._running.items()):
            if wanted.get(name) != trunk:
                del self._running[name]
                self.edge.unregister(registration)
        for name, trunk in wanted.items():
            if name not in self._running:
                registration = self._make(trunk)
                self._running[name] = (trunk, registration)
                self.edge.register(registration)

    def stop(self) -> None:
        """Take all of them back."""
        for _trunk, registration in self._running.values():
            self.edge.unregister(registration)
        self._running.clear()

    def states(self) -> dict[str, bool]:
        """Whether each trunk's registration stands, by the trunk's name."""
        return {name: registration.state == REGISTERED for name, (_, registration) in self._running.items()}

    def changed(self, event: RegistrationChanged) -> None:
        """Tell the log."""
        where = f"{format_host(event.hop.host)}:{event.hop.port}"
        fields = {"trunk": event.name, "state": event.state, "registrar": where, "transport": event.hop.transport}
        if event.reason:
            fields["reason"] = event.reason
        tell = self.log.info if event.state == REGISTERED or not event.reason else self.log.warn
        tell(
            "the registration of trunk {trunk} at {registrar} is {state}{because}",
            because=f": {event.reason}; again in {event.seconds:.0f} s" if event.reason else "",
            kind="trunk_registration",
            at=self.edge.stack_time(),
            fields=fields,
            **{name: value for name, value in fields.items() if name != "reason"},
        )

    def _make(self, trunk: Trunk) -> Registration:
        registrars = [parse_uri(text) for text in trunk.register_at]
        if trunk.address_of_record:
            aor = parse_uri(trunk.address_of_record)
        else:
            aor = Uri("sip", trunk.user or "agentstream", registrars[0].host)
        account = Account(trunk.name, aor, Uri("sip", host=aor.host, port=aor.port), trunk.register_expires_s)
        client = digest_client(trunk, self.token)

        return Registration(
            self.edge.stack, account, lambda found: self.edge.find_hops(registrars, found), client, self.chance
        )
