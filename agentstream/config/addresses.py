"""Small languages inside strings: port ranges, listeners, networks, codes. Pure: text in, value or ValueError out.

The message of every ValueError says what was expected, so that it can stand behind "found ..., expected".
"""

from __future__ import annotations

import ipaddress
import re
import zoneinfo
from collections.abc import Callable, Iterable

import attrs

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

TRANSPORTS = ("udp", "tcp", "tls")

PORT_RANGE_FORM = 'a range of ports such as "20000-24999", from 1024 to 65535, with room for one even port and the next'
LISTENER_FORM = (
    'a listener such as "udp:5060:interface=127.0.0.1", "tcp:5060:interface=[::1]" or'
    ' "tls:5061:interface=10.0.0.7:advertise=sip.example.com"'
)
HTTP_FORM = 'a listener such as "tcp:8080:interface=127.0.0.1"'
NETWORK_FORM = 'an IP address or a network such as "203.0.113.0/24"'
V6_FORM = 'an IPv6 address such as "2001:db8::7"'
ADDRESS_FORM = 'an IP address such as "203.0.113.7"'


@attrs.frozen
class PortRange:
    """The UDP ports that RTP may use: RTP on the even ones, RTCP on the odd one above each."""

    first: int
    last: int

    @classmethod
    def parse(cls, text: str) -> PortRange:
        """``LOW-HIGH``; ValueError with what was expected."""
        match = re.fullmatch(r"([0-9]{1,5})-([0-9]{1,5})", text)
        if not match:
            raise ValueError(PORT_RANGE_FORM)
        first, last = int(match[1]), int(match[2])
        made = cls(first, last)
        if not 1024 <= first <= last <= 65535 or not made.pairs:
            raise ValueError(PORT_RANGE_FORM)
        return made

    @property
    def pairs(self) -> range:
        """The even ports whose odd neighbour is in the range too."""
        return range(self.first + self.first % 2, self.last, 2)

    def __str__(self) -> str:
        return f"{self.first}-{self.last}"


@attrs.frozen
class Listener:
    """One SIP listener.

    :ivar transport: ``udp``, ``tcp`` or ``tls``.
    :ivar port: 0 lets the system choose.
    :ivar interface: an IPv4 or IPv6 address; "" stands for every IPv4 address of the machine.
    :ivar advertise: what others are told instead of the interface: an IP address or a host's name; "" for nothing.
    """

    transport: str
    port: int
    interface: str = ""
    advertise: str = ""

    @classmethod
    def parse(cls, text: str) -> Listener:
        """``udp:PORT[:interface=ADDRESS][:advertise=HOST]``, ``tcp:`` or ``tls:`` likewise; ValueError with what was
        expected.

        The colons of an IPv6 address are escaped with backslashes as Twisted does it, or it stands in brackets, or
        bare.
        """
        head, *pieces = re.split(r":(?=[a-z_]*=)", text)
        transport, _, port = head.partition(":")
        if transport not in TRANSPORTS or not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65535:
            raise ValueError(LISTENER_FORM)
        options: dict[str, str] = {}
        for piece in pieces:
            key, _, value = piece.partition("=")
            value = value.replace("\\:", ":")
            value = value[1:-1] if value.startswith("[") and value.endswith("]") else value
            if key not in ("interface", "advertise") or key in options or not value:
                raise ValueError(LISTENER_FORM)
            options[key] = str(ipaddress.ip_address(value)) if is_address(value) else value
        interface, advertise = options.get("interface", ""), options.get("advertise", "")
        if interface and not is_address(interface):
            raise ValueError(LISTENER_FORM)
        if advertise and (is_everywhere(advertise) if is_address(advertise) else not is_host_name(advertise)):
            raise ValueError(LISTENER_FORM)
        return cls(transport, int(port), interface, advertise)

    @property
    def is_everywhere(self) -> bool:
        """It listens on every address, so that none of them can be told to others."""
        return not self.interface or is_everywhere(self.interface)

    @property
    def is_v6(self) -> bool:
        """Whether its family is IPv6."""
        return ":" in self.interface


def is_everywhere(address: str) -> bool:
    """The address stands for every address of a machine."""
    return ipaddress.ip_address(address).is_unspecified


def is_host_name(text: str) -> bool:
    """A host's name as SIP URIs write it (RFC 3261 section 25.1): labels of letters, digits and hyphens; the last one
    begins with a letter."""
    label = r"[A-Za-z0-9](?:[A-Za-z0-9\-]{0,61}[A-Za-z0-9])?"
    return len(text) <= 253 and re.fullmatch(rf"(?:{label}\.)*(?=[A-Za-z]){label}", text) is not None


def is_address(text: str) -> bool:
    """An IPv4 or IPv6 address in its usual spelling."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def parse_network(text: str) -> Network:
    """An address or a CIDR network without host bits; ValueError with what was expected."""
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        pass
    try:
        meant = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError(NETWORK_FORM) from None
    raise ValueError(f'a network whose host bits are 0, such as "{meant}"')


def or_empty(check: Callable[[str], str]) -> Callable[[str], str]:
    """The ``check`` of what may be left empty, too."""
    return lambda text: check(text) if text else ""


def expect_listener(text: str) -> str:
    """The ``check`` of a listener."""
    try:
        Listener.parse(text)
    except ValueError as error:
        return str(error)
    return ""


def expect_http_listener(text: str) -> str:
    """The ``check`` of a listener for HTTP, or nothing."""
    if not text or (text.startswith("tcp:") and not expect_listener(text) and not Listener.parse(text).advertise):
        return ""
    return f'{HTTP_FORM}, or ""'


def expect_address(text: str) -> str:
    """The ``check`` of an IP address."""
    return "" if is_address(text) else ADDRESS_FORM


def expect_address_or_empty(text: str) -> str:
    """The ``check`` of an IP address that others can reach, or nothing."""
    if not text:
        return ""
    if not is_address(text) or ipaddress.ip_address(text).is_unspecified:
        return f'{ADDRESS_FORM} that others can reach, or ""'
    return ""


def expect_v6_or_empty(text: str) -> str:
    """The ``check`` of an IPv6 address that others can reach, or nothing."""
    return "" if not text or (":" in text and not expect_address_or_empty(text)) else f'{V6_FORM}, or ""'


def first_of_family(addresses: Iterable[str], *, is_v6: bool) -> str:
    """The first of these addresses that is of the family; "" where none is."""
    return next((address for address in addresses if address and (":" in address) == is_v6), "")


def expect_name(text: str) -> str:
    """The ``check`` of a name: something visible, and nothing that would break a line of a log."""
    if text and text == text.strip() and text.isprintable() and len(text) <= 64:
        return ""
    return "a name of 1 to 64 printable characters"


def expect_secret(text: str) -> str:
    """The ``check`` of a password, or of where it is, or of nothing."""
    if text.isprintable() and len(text) <= 256 and text not in ("file:", "env:"):
        return ""
    return 'a password, "file:PATH" or "env:NAME"'


def expect_server(text: str) -> str:
    """The ``check`` of a SIP URI that leads to a server, by its name or its address."""
    match = re.fullmatch(
        r"sips?:(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252}[A-Za-z0-9])?)(?::([0-9]{1,5}))?"
        r"(?:;transport=(udp|tcp|tls))?",
        text,
    )
    # RFC 3261 section 26.2.2: sips is TLS, which UDP has not.
    if match and _is_place(match[1], match[2]) and not (text.startswith("sips:") and match[3] == "udp"):
        return ""
    return 'a SIP URI such as "sip:carrier.example.com" or "sips:203.0.113.5:5061"'


def expect_aor(text: str) -> str:
    """The ``check`` of an address-of-record."""
    match = re.fullmatch(
        r"sip:(?:[A-Za-z0-9_.!~*'()&=+$,;?/-]|%[0-9A-Fa-f]{2})+@(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+)(?::([0-9]{1,5}))?",
        text,
    )
    if match and _is_place(match[1], match[2]):
        return ""
    return 'an address-of-record such as "sip:4930123456@carrier.example.com"'


def _is_place(host: str, port: str | None) -> bool:
    """A host and a port of a SIP URI, each of the right form, are an address or a name, and a port that there is."""
    if not 0 < int(port or "5060") < 65536:
        return False
    if host.startswith("["):
        return ":" in host and is_address(host[1:-1])
    # A name of digits and dots alone is an address, or a mistake.
    return is_address(host) if re.fullmatch(r"[0-9.]+", host) else ".." not in host


def expect_time_zone(text: str) -> str:
    """The ``check`` of a name in the IANA time zone database."""
    try:
        zoneinfo.ZoneInfo(text)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        return 'the name of a time zone such as "Asia/Kolkata"'
    return ""


def expect_country_code(text: str) -> str:
    """The ``check`` of a country calling code (ITU-T E.164)."""
    return "" if re.fullmatch(r"|[1-9][0-9]{0,2}", text) else 'a country calling code such as "91", without a plus'
