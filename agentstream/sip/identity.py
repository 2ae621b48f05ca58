"""Who calls, as a trunk says beside From: P-Asserted-Identity (RFC 3325), Privacy (RFC 3323), Diversion (RFC 5806) and
History-Info (RFC 7044). Only what a trusted peer says is to be believed; what cannot be read is left out."""

from __future__ import annotations

import attrs

from agentstream.errors import RemoteProtocolError
from agentstream.sip.grammar import unquote
from agentstream.sip.headers import Headers, NameAddr, parse_name_addr

MOST = 16
"""Entries of one header that are kept."""


@attrs.frozen
class Diversion:
    """One diversion of the call: from whom, and why (``no-answer``, ``user-busy``, ...)."""

    uri: str
    user: str
    reason: str


@attrs.frozen
class Identity:
    """What was said.

    :ivar asserted: URIs of P-Asserted-Identity. :ivar asserted_user: the user part of the first.
    :ivar display: its display name. :ivar privacy: values of Privacy in lower case, such as ``id``.
    :ivar diversions: the latest first. :ivar history: URIs of History-Info, the oldest first.
    """

    asserted: tuple[str, ...] = ()
    asserted_user: str = ""
    display: str = ""
    privacy: tuple[str, ...] = ()
    diversions: tuple[Diversion, ...] = ()
    history: tuple[str, ...] = ()


def read_identity(headers: Headers) -> Identity:
    """Of an INVITE's headers."""
    asserted = _name_addrs(headers, "p-asserted-identity")
    privacy = (headers.get("privacy") or "").lower().split(";")
    return Identity(
        tuple(str(one.uri) for one in asserted),
        asserted[0].uri.user_text if asserted else "",
        next((one.display for one in asserted if one.display), ""),
        tuple(value.strip() for value in privacy if value.strip())[:MOST],
        tuple(
            Diversion(str(one.uri), one.uri.user_text, _word(one.parameters.get("reason")))
            for one in _name_addrs(headers, "diversion")
        ),
        tuple(str(attrs.evolve(one.uri, headers="")) for one in _name_addrs(headers, "history-info")),
    )


def _word(value: str | None) -> str:
    return unquote(value) if value else ""


def _name_addrs(headers: Headers, name: str) -> list[NameAddr]:
    try:
        values = headers.values_of(name)
    except RemoteProtocolError:
        return []
    found = []
    for value in values[:MOST]:
        try:
            found.append(parse_name_addr(value))
        except RemoteProtocolError:
            continue
    return found
