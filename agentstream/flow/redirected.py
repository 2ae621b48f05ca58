"""A call of ours that is redirected (3xx): where it goes on, if its trunk may say so. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs

from agentstream.config.model import Config
from agentstream.errors import RemoteProtocolError
from agentstream.flow.outgoing_ways import NoWay, Way, find_ways
from agentstream.sip.redirect import LEADS_BACK, Redirections
from agentstream.sip.registrar import Binding
from agentstream.sip.uri import Uri


@attrs.define
class Redirected:
    """One INVITE and those that its redirections make of it, one after the other."""

    _redirections: Redirections
    _called: set[str]

    @classmethod
    def of(cls, way: Way) -> Redirected:
        """For a call that has not been sent yet."""
        return cls(Redirections.of(way.uri), {str(way.uri)})

    def follow(
        self, way: Way, contacts: Sequence[Uri], config: Config, bindings: Callable[[str], Sequence[Binding]]
    ) -> tuple[Way | None, str]:
        """Where a call goes on that this way has refused, or None and why not; "" where nobody asked for it.

        :param contacts: of a 3xx, the dearest first. Each is called as outbound routing has it: a phone, or a number of
            a trunk. The others are called where the first does not answer.
        """
        if contacts:
            if "3xx" not in way.trunk.obeys:
                return None, "its redirections are not followed"
            try:
                uri: Uri | None = self._redirections.follow(tuple(contacts))
            except RemoteProtocolError as error:
                return None, error.sentence
        else:
            uri = self._redirections.another()
        sentence = ""
        while uri is not None:
            try:
                ways = find_ways(config, bindings, str(uri), is_trusted=False)
            except NoWay as no_way:
                sentence = no_way.sentence
            else:
                # Numbers of one trunk are called at its server, whatever host the redirection named.
                for found in ways:
                    if str(found.uri) not in self._called:
                        self._called.add(str(found.uri))
                        return found, ""
                sentence = LEADS_BACK
            uri = self._redirections.another()
        return None, sentence
