"""Who may call, and how much at once: ``[access]`` and ``[[trunk]]``."""

from __future__ import annotations

import fnmatch
import ipaddress

import attrs

from agentstream.config.addresses import (
    Network,
    expect_aor,
    expect_name,
    expect_secret,
    expect_server,
    or_empty,
)
from agentstream.config.metadata import setting

LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))

MOVES = ("refer", "replaces", "3xx")
"""How a call is moved from its other end."""


@attrs.frozen
class Access:
    """Who belongs here, what becomes of the others, and how much at once."""

    realm: str = setting(
        default="agentstream",
        doc="What phones and trunks are told that their password is for (digest).",
        check=expect_name,
    )
    algorithms: tuple[str, ...] = setting(
        default=("SHA-256", "MD5"),
        doc="The digest algorithms that they are asked for, in this order: `SHA-256` and `MD5`. Phones that know MD5"
        " alone should skip the other (RFC 8760); those that give up instead, such as baresip 1.0 and sipsak, want"
        " `MD5` to be the only one.",
        least=1,
        example='["MD5"]',
        check=lambda text: "" if text in ("SHA-256", "MD5") else '"SHA-256" or "MD5"',
    )
    strangers: str = setting(
        default="refuse",
        doc="What becomes of requests from no trunk's address, without credentials: `refuse` answers 403, or 401 where"
        " credentials would help; `ignore` answers nothing, but for 401 to a user that there is.",
        choices=("refuse", "ignore"),
    )
    ban_after: int = setting(
        default=20,
        doc="After so many refused requests in a minute from one address all that it sends is ignored for a while, and"
        " the log says so in the line that etc/fail2ban matches. Addresses of trunks, of calls that are up and of"
        " registered phones are never ignored. 0: nobody is.",
        range=(0, 10000),
    )
    ban_s: int = setting(
        default=300,
        doc="How long, over TCP. Over UDP, where anybody can write any address, it is 60 s at most.",
        unit="s",
        range=(1, 86400),
    )
    calls_per_second: float = setting(
        default=0.0,
        doc="New calls of all trunks and phones together a second; what is above is answered 503. 0: as many as come.",
        range=(0.0, 10000.0),
    )
    source_calls: int = setting(
        default=0,
        doc="Calls at once from one address; the next one is answered 486. 0: as many as come.",
        range=(0, 10000),
    )
    source_calls_per_second: float = setting(
        default=0.0,
        doc="New calls from one address a second; what is above is answered 503. 0: as many as come.",
        range=(0.0, 10000.0),
    )
    reserved_calls: int = setting(
        default=0,
        doc="How many of `media.max_calls` are kept free for calls that we make.",
        range=(0, 10000),
    )


@attrs.frozen
class Trunk:
    """A SIP peer that may call."""

    name: str = setting(doc="What records and logs call it.", example='"carrier"', check=expect_name)
    address: tuple[Network, ...] = setting(
        default=(),
        doc="The addresses and networks, IPv4 or IPv6, that its requests come from. The first trunk that matches wins."
        " None of them is ever ignored.",
        example='["203.0.113.0/24", "2001:db8::/32"]',
    )
    known_by: str = setting(
        default="address",
        doc="How we know that a request is this trunk's: by where it comes from (`address`), by `user` and `password`"
        " from anywhere (`digest`), by one of the two (`either`), or only by `both`.",
        choices=("address", "digest", "either", "both"),
    )
    user: str = setting(
        default="",
        doc="The name that goes with `password` (digest, RFC 7616), theirs to us and ours to them.",
        example='"agentstream"',
        check=or_empty(expect_name),
    )
    password: str = setting(
        default="",
        doc="The password itself, `file:PATH` for the first line of a file, or `env:NAME` for an environment variable."
        " No log and no message shows it.",
        example='"file:carrier.secret"',
        secret=True,
        check=expect_secret,
    )
    server: str = setting(
        default="",
        doc="Where calls of ours to this trunk go: a `sip:` or `sips:` URI. A name leads to as many servers as its"
        " domain has (RFC 3263), each of which is tried where the one before fails. Empty: we do not call it.",
        example='"sip:carrier.example.com"',
        check=or_empty(expect_server),
    )
    numbers: tuple[str, ...] = setting(
        default=(),
        doc="The numbers that it is called for: globs (`*`, `?`, `[...]`) on the whole number. Of all trunks the first"
        " match wins; a number that no trunk has is not called.",
        example='["+49*", "0*"]',
        check=expect_name,
    )
    ping_s: float = setting(
        default=0.0,
        doc="How often OPTIONS goes to each address of `server`. One that leaves three in a row unanswered, or"
        " answers 503, is down: calls go to the others first, the log says so, and `agentstream_trunk_up` tells of"
        " the trunk. 0: never.",
        unit="s",
        range=(0.0, 3600.0),
        example="30.0",
    )
    max_calls: int = setting(
        default=0,
        doc="Calls of this trunk at once; the next one is answered 486. 0: as many as the node takes.",
        range=(0, 10000),
    )
    calls_per_second: float = setting(
        default=0.0,
        doc="New calls of this trunk a second; what is above is answered 503. 0: as many as come.",
        range=(0.0, 10000.0),
    )
    register_at: tuple[str, ...] = setting(
        default=(),
        doc="Its registrars, where it wants us to register: each is tried where the one before does not serve us. What"
        " a name leads to is looked up again for each refresh (RFC 3263).",
        example='["sip:carrier.example.com", "sip:203.0.113.6:5060;transport=tcp"]',
        check=expect_server,
    )
    address_of_record: str = setting(
        default="",
        doc="The address-of-record that we register. Empty: `user` at the first registrar.",
        example='"sip:4930123456@carrier.example.com"',
        check=or_empty(expect_aor),
    )
    register_expires_s: int = setting(
        default=3600,
        doc="How long a registration is asked to last; it is refreshed before what the registrar grants is over.",
        unit="s",
        range=(60, 86400),
    )
    nat: str = setting(
        default="host",
        doc="Whose RTP is heard: only the SDP's address (`strict`), any port of the host that the SDP or the signalling"
        " names (`host`), or anybody after 5 packets in sequence (`any`).",
        choices=("strict", "host", "any"),
    )
    digits: str = setting(
        default="rtp",
        doc="How digits are sent to it: as telephone-events, or as tones where those were not agreed on (`rtp`), or by"
        " SIP INFO (`info`). Both are heard.",
        choices=("rtp", "info"),
    )
    srtp: str = setting(
        default="off",
        doc="Sound by SRTP (keys by RFC 4568): never (`off`), as it is offered to us (`optional`), or always"
        " (`required`); what is offered otherwise is refused with 488. Of our own first offers only those of `required`"
        " are SRTP. The keys are in the SIP messages, so use TLS.",
        choices=("off", "optional", "required"),
    )
    obeys: tuple[str, ...] = setting(
        default=(),
        doc="What it may have us do with its calls: call somebody else in its place (`refer`), let one of its calls"
        " take the place of another (`replaces`), and call whom it names in its refusal (`3xx`). Whom it may name are"
        " phones and the `numbers` of trunks: it calls them at your cost.",
        choices=MOVES,
        example='["refer", "replaces"]',
    )

    @property
    def is_known_by_address(self) -> bool:
        """Its address is enough."""
        return self.known_by in ("address", "either")

    @property
    def is_known_by_digest(self) -> bool:
        """Its user and password let it in, from its addresses or from anywhere."""
        return self.known_by != "address"

    def reaches(self, number: str) -> bool:
        """Calls of ours to this number go here."""
        return bool(self.server) and any(fnmatch.fnmatchcase(number, pattern) for pattern in self.numbers)

    def is_from(self, host: str) -> bool:
        """This address belongs to the trunk; False for what is no IP address."""
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return False
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
            address = address.ipv4_mapped
        return any(address.version == network.version and address in network for network in self.address)


LOOPBACK_TRUNK = Trunk(name="loopback", address=LOOPBACK, nat="host")
"""Who may call where no trunk is configured."""
