"""Redirections (RFC 3261 sections 8.1.3.4 and 19.1.5): where a 3xx says to go, and for how long that is followed."""

from __future__ import annotations

import attrs

from agentstream.errors import RemoteProtocolError
from agentstream.sip.headers import parse_name_addr
from agentstream.sip.message import Response
from agentstream.sip.uri import Uri

FOLLOWED = (300, 301, 302)
"""305 and 380 name a proxy and another service, which is not what was called."""
MOST_HOPS = 5
"""Redirections of one call. Whoever redirects spends our money: a chain is short or wrong."""
MOST_CONTACTS = 8
"""Contacts of one response that are looked at."""
LEADS_BACK = "the redirection leads back to where the call has been"


def contacts_of(response: Response) -> tuple[Uri, ...]:
    """The Contacts of a 300, 301 or 302, the dearest first (section 8.1.3.4: "ordering by the "q" parameter value");
    what cannot be read, and what is no number to call, is left out."""
    if response.status not in FOLLOWED:
        return ()
    try:
        texts = response.headers.values_of("contact")[:MOST_CONTACTS]
    except RemoteProtocolError:
        return ()
    found = []
    for text in texts:
        try:
            contact = parse_name_addr(text)
        except RemoteProtocolError:
            continue
        if contact.uri.is_sip or contact.uri.scheme == "tel":
            # Headers in the URI would be headers of ours (section 19.1.5): nobody else writes those.
            found.append((-_quality(contact.parameters.get("q")), attrs.evolve(contact.uri, headers="")))
    return tuple(uri for _, uri in sorted(found, key=lambda one: one[0]))


def _quality(text: str | None) -> float:
    """A qvalue; 1 where there is none, as RFC 3261 section 10.2.1.2 has it for its use, and 0 for none that can be
    read."""
    if text is None:
        return 1.0
    try:
        value = float(text)
    except ValueError:
        return 0.0
    return value if 0.0 <= value <= 1.0 else 0.0


@attrs.define
class Redirections:
    """Those of one call, from the URI that it began with.

    :ivar hops: 3xx that were followed.
    """

    hops: int = 0
    _known: set[str] = attrs.field(factory=set)
    _waiting: list[Uri] = attrs.field(factory=list)

    @classmethod
    def of(cls, first: Uri) -> Redirections:
        """For a call that goes there now."""
        begun = cls()
        begun.take([first])
        return begun

    def take(self, contacts: tuple[Uri, ...] | list[Uri]) -> Uri | None:
        """The first of them that has not been called yet; the others come after it (:meth:`another`)."""
        fresh = []
        for uri in contacts:
            key = _key(uri)
            if key not in self._known:
                self._known.add(key)
                fresh.append(uri)
        self._waiting = fresh + self._waiting
        return self.another()

    def follow(self, contacts: tuple[Uri, ...]) -> Uri:
        """Where a 3xx with these Contacts leads; RemoteProtocolError where it is not followed."""
        if self.hops >= MOST_HOPS:
            raise RemoteProtocolError(f"the call was redirected more than {MOST_HOPS} times")
        if not contacts:
            raise RemoteProtocolError("the redirection names nobody that can be called")
        self.hops += 1
        uri = self.take(contacts)
        if uri is None:
            raise RemoteProtocolError(LEADS_BACK)
        return uri

    def another(self) -> Uri | None:
        """The next one, where the one before it did not answer."""
        return self._waiting.pop(0) if self._waiting else None


def _key(uri: Uri) -> str:
    """What is compared of a URI (RFC 3261 section 19.1.4, as far as loops go): parameters make no other target."""
    return f"{uri.user_text}@{uri.host.lower()}:{uri.port or ''}"
