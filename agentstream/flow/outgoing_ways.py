"""Where a call of ours to a number, a phone or a URI is sent, and as whom: the config's outbound routing. Pure.

A *target* is what somebody wants to be connected with: the user of a phone that registers here (``alice``), a number
(``+4930123456``), or a ``sip:``, ``sips:`` or ``tel:`` URI. A *way* is one INVITE that may reach it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from urllib.parse import quote

import attrs

from agentstream.config.access import Trunk
from agentstream.config.model import Config
from agentstream.errors import AgentstreamError, RemoteProtocolError
from agentstream.flow.access import phone_trunk
from agentstream.sip.hop import Hop
from agentstream.sip.registrar import Binding
from agentstream.sip.uri import Uri, parse_uri

MOST_WAYS = 10
"""INVITEs of one call to its targets, at once or in turn."""

USER_SAFE = "!$&'()*+,-.;=?_~/"
"""What stands unescaped in the user part of a SIP URI, beside letters and digits (RFC 3261 section 25.1)."""

ANONYMOUS = Uri("sip", "anonymous", "anonymous.invalid")
"""From whom a call is whose caller wants to be nobody (RFC 3323 section 4.1.1.3)."""

_VISUAL = re.compile(r"[ ().-]")

_NUMBER = re.compile(r"[A-Za-z0-9+*#_]*")
"""What others may have called. In a user part there is room for more: a trunk group (RFC 4904) and other parameters,
which a pattern of the trunk would let pass, and which the trunk may obey."""


class NoWay(AgentstreamError):
    """No call can be sent to this target.

    :ivar status: what it would be answered with.
    """

    def __init__(self, sentence: str, status: int = 404) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.status = status


@attrs.frozen
class Way:
    """One INVITE that may reach a target.

    :ivar target: as it was asked for.
    :ivar uri: the Request-URI. :ivar to_uri: who is called.
    :ivar trunk: its limits, its credentials, and whose RTP is heard; one without limits and name for a phone or a URI.
    :ivar via: where it is sent when that is not where ``uri`` leads.
    :ivar hop: the flow that a phone has registered on.
    :ivar routes: Route values.
    """

    target: str
    uri: Uri
    to_uri: Uri
    trunk: Trunk
    via: Uri | None = None
    hop: Hop | None = None
    routes: tuple[str, ...] = ()

    @property
    def domain(self) -> str:
        """The host of who we say we are; "" for our own."""
        if self.via is None:
            return ""
        return parse_uri(self.trunk.address_of_record).host if self.trunk.address_of_record else self.via.host


def find_ways(
    config: Config, bindings: Callable[[str], Sequence[Binding]], target: str, *, is_trusted: bool = True
) -> list[Way]:
    """How this target is reached, at least one way; raises NoWay.

    :param bindings: where the phone of this user is now.
    :param is_trusted: False for a target that somebody else named, in a REFER, a 3xx or an HTTP answer: then only
        phones and the numbers of trunks are called, and of a SIP URI only its user part counts.
    """
    uri = _uri_of(target)
    if uri is not None and uri.is_sip and is_trusted:
        return [
            Way(target, attrs.evolve(uri, headers=""), attrs.evolve(uri, headers="", parameters=()), Trunk(name=""))
        ]
    number = target if uri is None else uri.user_text
    if number in config.phones_by_user:
        found = [_to_phone(target, one, phone_trunk(config)) for one in bindings(number)]
        if not found:
            raise NoWay(f"the phone {number} is not registered", 480)
        return found[:MOST_WAYS]
    number = _VISUAL.sub("", number)
    if not is_trusted and not _NUMBER.fullmatch(number):
        raise NoWay(f"{target} was named by somebody else, and holds more than a number")
    trunk = config.trunk_to(number) if number else None
    if trunk is None:
        raise NoWay(f"{target} is no phone, and no trunk has it among its numbers")
    server = parse_uri(trunk.server)
    called = Uri(server.scheme, quote(number, safe=USER_SAFE), server.host, server.port)
    return [Way(target, called, called, trunk, via=server)]


def caller_uri(way: Way, caller: str, own_host: str) -> Uri:
    """From whom the call is.

    :param caller: a number or name, or a SIP URI; "" for nobody.
    """
    if not caller:
        return ANONYMOUS
    uri = _uri_of(caller)
    if uri is not None and uri.is_sip:
        return attrs.evolve(uri, headers="", parameters=())
    user = caller if uri is None else uri.user_text
    return Uri("sip", quote(user, safe=USER_SAFE), way.domain or own_host)


def named_by_others(user: str) -> str:
    """Who calls, where a user part of somebody else's says so. One that reads as a URI is nobody's number: its host
    would be theirs to choose."""
    return "" if _is_uri(user) else user


def _is_uri(text: str) -> bool:
    return text.lower().startswith(("sip:", "sips:", "tel:"))


def _uri_of(text: str) -> Uri | None:
    """The URI that the text is; None for a number or a name. Raises NoWay where it is a broken one."""
    if not _is_uri(text):
        return None
    try:
        return parse_uri(text)
    except RemoteProtocolError as error:
        raise NoWay(f"{text}: {error.sentence}", 416) from None


def _to_phone(target: str, binding: Binding, trunk: Trunk) -> Way:
    """Over the flow that it registered on (RFC 5626 section 5.3), through the proxies that its REGISTER came by (RFC
    3327 section 5.1)."""
    uri = parse_uri(binding.contact)
    to = Uri("sip", quote(binding.user, safe=USER_SAFE), uri.host)
    return Way(target, uri, to, trunk, hop=binding.hop, routes=binding.path)
