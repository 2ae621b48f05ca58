"""Keys in descriptions: ``a=crypto`` lines for SRTP (RFC 4568, RFC 7714 section 14.2), read, chosen and written.

A line is taken when all that it wants is served here: one key, without a master key identifier, with a lifetime that
no call outlives by much, and no session parameter that changes what is protected. Any other line is passed over, and a
stream of which no line is left is declined.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from types import MappingProxyType

import attrs

from agentstream.errors import LocalProtocolError, RemoteProtocolError
from agentstream.sdp.description import MediaDescription, number

SECURE = "RTP/SAVP"

OFF = "off"
OPTIONAL = "optional"
REQUIRED = "required"

SUITES: Mapping[str, int] = MappingProxyType(
    {
        "AEAD_AES_256_GCM": 32 + 12,
        "AEAD_AES_128_GCM": 16 + 12,
        "AES_CM_128_HMAC_SHA1_80": 16 + 14,
        "AES_CM_128_HMAC_SHA1_32": 16 + 14,
    }
)
"""Bytes of master key and master salt together, in the order in which we offer the suites."""

LEAST_LIFETIME = 1 << 20
"""Packets, six hours of 20 ms each. A new key in time is the far end's to offer; one that lives for less is declined,
for it would end calls in silence."""

MOST_LIFETIME = 1 << 48
"""The same limit for all suites (RFC 3711 section 9.2, RFC 7714 section 14.2)."""

LINE_LIMIT = 64
"""Lines of one ``m=`` that are looked at."""

_IGNORED = ("WSH=",)
"""Session parameters that say something about the sender and bind nobody (RFC 4568 section 6.3.6)."""

NO_KEY = "the offer's RTP/SAVP has no a=crypto that is served here"

RandomBytes = Callable[[int], bytes]
"""That many unpredictable bytes."""


@attrs.frozen
class Crypto:
    """One key and what it is for.

    :ivar key: master key, then master salt; never shown.
    """

    tag: int
    suite: str
    key: bytes = attrs.field(repr=False)

    def line(self) -> str:
        """The value of its ``a=crypto``."""
        return f"{self.tag} {self.suite} inline:{base64.b64encode(self.key).decode()}"


@attrs.frozen
class Keys:
    """How one stream is protected: the suite, and the key of each direction (master key, then salt; never shown)."""

    suite: str
    send: bytes = attrs.field(repr=False)
    receive: bytes = attrs.field(repr=False)


def read_line(text: str) -> Crypto | None:
    """A line that is served here; None for one that is not, or is none."""
    words = text.split()
    if len(words) < 3:
        return None
    tag, suite, parameters = words[:3]
    length = SUITES.get(suite.upper())
    value = number(tag, 999_999_999)
    if length is None or value is None or len(tag) > 9 or not all(map(_is_harmless, words[3:])):
        return None
    method, colon, content = parameters.partition(":")
    inline, *rest = content.split("|")
    # Of several keys (";") each has an identifier, and so has the lifetime's place a second field.
    if method.lower() != "inline" or not colon or len(rest) > 1 or not all(map(_is_long_enough, rest)):
        return None
    try:
        # Some write no padding at the end of 28 or 44 bytes.
        key = base64.b64decode(inline.rstrip("=") + "=" * (-len(inline.rstrip("=")) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None
    return Crypto(value, suite.upper(), key) if len(key) == length else None


def _is_harmless(parameter: str) -> bool:
    """RFC 4568 section 6.3.7: an unknown parameter declines the line, unless it begins with a hyphen."""
    return parameter.startswith("-") or parameter.upper().startswith(_IGNORED)


def _is_long_enough(lifetime: str) -> bool:
    exponent = number(lifetime[2:], 48) if lifetime.startswith("2^") else None
    packets = number(lifetime, MOST_LIFETIME) if exponent is None else 1 << exponent
    return packets is not None and LEAST_LIFETIME <= packets <= MOST_LIFETIME


def lines_of(media: MediaDescription) -> list[Crypto]:
    """What is served of an ``m=`` line's ``a=crypto``, in order; of lines with one tag the first."""
    values = [value for name, value in media.attributes if name == "crypto" and value is not None]
    found: dict[int, Crypto] = {}
    for value in values[:LINE_LIMIT]:
        line = read_line(value)
        if line is not None:
            found.setdefault(line.tag, line)
    return list(found.values())


def is_secure(media: MediaDescription) -> bool:
    """It is SRTP."""
    return media.protocol.upper() == SECURE


def choose(media: MediaDescription, now: Keys | None, random_bytes: RandomBytes | None) -> tuple[Crypto, Keys]:
    """Our ``a=crypto`` for the answer to this ``m=`` line, and the keys of both directions.

    Raises RemoteProtocolError (488) where no line is served. Our key stays as it is while theirs does: whoever has a
    new one may be somebody new, who cannot know our rollover counter (RFC 4568 section 6.4).

    :param now: the keys that are in use.
    """
    lines = lines_of(media)
    if not lines:
        raise RemoteProtocolError(NO_KEY, 488)
    if now is not None:
        for line in lines:
            if (line.suite, line.key) == (now.suite, now.receive):
                return Crypto(line.tag, line.suite, now.send), now
    theirs = lines[0]
    ours = make_key(theirs.suite, random_bytes)
    return Crypto(theirs.tag, theirs.suite, ours), Keys(theirs.suite, ours, theirs.key)


def offered(before: MediaDescription | None, now: Keys | None, random_bytes: RandomBytes | None) -> list[Crypto]:
    """Our lines for an offer; a suite of ``before``, our last description of the stream, keeps its key and tag.

    RFC 3711 section 9.1: a key is never used with a rollover counter that began anew, so one that may have been given
    up in between is not offered again: what is not in ``before`` gets a new one, and so does what is not in use.

    :param now: the keys that are in use; None where the offer of ``before`` has no answer that is known.
    """
    lines = [] if before is None else lines_of(before)
    known = {line.suite: line for line in lines if now is None or (line.suite, line.key) == (now.suite, now.send)}
    tags = {line.tag for line in known.values()}
    free = (tag for tag in range(1, 999) if tag not in tags)
    made = [Crypto(next(free), suite, make_key(suite, random_bytes)) for suite in SUITES if suite not in known]
    return [*known.values(), *made]


def accepted(ours: MediaDescription, theirs: MediaDescription) -> Keys:
    """The keys of both directions when ``theirs`` answers ``ours``; raises RemoteProtocolError (488).

    RFC 4568 section 5.1.3: the answer has one line, with the tag and the suite of one of ours.
    """
    offers = {line.tag: line for line in lines_of(ours)}
    answers = lines_of(theirs)
    if len(answers) != 1:
        raise RemoteProtocolError("the answer over RTP/SAVP has not one a=crypto that is served here", 488)
    (answer,) = answers
    offer = offers.get(answer.tag)
    if offer is None or offer.suite != answer.suite:
        raise RemoteProtocolError("the answer's a=crypto has not the tag and the suite of one of ours", 488)
    if offer.key == answer.key:  # both directions would be one keystream (RFC 3711 section 9.1)
        raise RemoteProtocolError("the answer's a=crypto repeats our own key", 488)
    return Keys(offer.suite, offer.key, answer.key)


def make_key(suite: str, random_bytes: RandomBytes | None) -> bytes:
    """A new master key and salt."""
    if random_bytes is None:
        raise LocalProtocolError("keys need random bytes")
    return random_bytes(SUITES[suite])
