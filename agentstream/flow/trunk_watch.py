"""Which trunks are up: their servers are pinged, and calls of ours go to those first that answer."""

from __future__ import annotations

from collections.abc import Callable

import attrs
from twisted.logger import Logger

from agentstream.config.access import Trunk
from agentstream.config.model import Config
from agentstream.net.edge import SipEdge
from agentstream.sip.events import ServerChanged
from agentstream.sip.grammar import format_host
from agentstream.sip.pings import TrunkPings
from agentstream.sip.uri import parse_uri


@attrs.define
class TrunkWatch:
    """All of one node.

    :ivar chance: gives a number from 0 to 1.
    """

    edge: SipEdge
    chance: Callable[[], float]
    _running: dict[str, tuple[Trunk, TrunkPings]] = attrs.Factory(dict)

    log = Logger()

    def update(self, config: Config) -> None:
        """Ping the trunks that the config wants pinged, and no others; one whose settings are the same goes on."""
        wanted = {trunk.name: trunk for trunk in config.trunk if trunk.server and trunk.ping_s}
        for name, (trunk, pings) in list(self._running.items()):
            if wanted.get(name) != trunk:
                del self._running[name]
                self.edge.unregister(pings)
        for name, trunk in wanted.items():
            if name not in self._running:
                pings = self._make(trunk)
                self._running[name] = (trunk, pings)
                self.edge.register(pings)

    def stop(self) -> None:
        """Ping nobody any more."""
        for _trunk, pings in self._running.values():
            self.edge.unregister(pings)
        self._running.clear()

    def states(self) -> dict[str, bool]:
        """Whether each trunk is up, by its name, as far as that is known."""
        known = {name: pings.is_up for name, (_, pings) in self._running.items()}
        return {name: is_up for name, is_up in known.items() if is_up is not None}

    def changed(self, event: ServerChanged) -> None:
        """Tell whoever calls, and the log."""
        outbound, hop = self.edge.outbound, event.hop
        if hop is not None and event.is_up is False:
            outbound.is_down(hop)
        elif hop is not None:
            outbound.answered(hop)
        if event.is_up is None:
            return
        where = "its servers" if hop is None else f"{format_host(hop.host)}:{hop.port}"
        transport = "" if hop is None else hop.transport
        alone = "" if event.is_up or event.is_trunk_up is not False else ", and no other server of the trunk is up"
        tell = self.log.info if event.is_up else self.log.warn
        tell(
            "trunk {trunk}: {server} is {state} ({reason}){alone}",
            alone=alone,
            kind="trunk_server",
            at=self.edge.stack_time(),
            fields={
                "trunk": event.name,
                "server": where,
                "transport": transport,
                "state": "up" if event.is_up else "down",
                "reason": event.reason,
            },
            trunk=event.name,
            server=where,
            state="up" if event.is_up else "down",
            reason=event.reason,
        )

    def _make(self, trunk: Trunk) -> TrunkPings:
        uri = parse_uri(trunk.server)
        return TrunkPings(
            self.edge.stack,
            trunk.name,
            uri,
            trunk.ping_s,
            lambda found: self.edge.find_hops([uri], found),
            self.chance,
        )
