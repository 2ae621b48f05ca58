"""Phones of our own, ``[[phone]]``, and where they register, ``[registrar]``."""
# ruff: noqa: RUF009 - setting() makes an attrs field, and defaults are immutable

from __future__ import annotations

from pathlib import Path

import attrs

from agentstream.config.access import MOVES
from agentstream.config.addresses import expect_name, expect_secret
from agentstream.config.metadata import setting


@attrs.frozen
class Registrar:
    """Where the phones below `[[phone]]` register."""

    file: Path = setting(
        default=Path("phones.db"),
        doc="Where registrations are kept, so that a restart loses none (SQLite). It is made when there are phones.",
    )
    min_expires_s: int = setting(
        default=60,
        doc="A phone that wants to register for less is answered 423.",
        unit="s",
        range=(10, 3600),
    )
    max_expires_s: int = setting(
        default=3600,
        doc="A phone that wants to register for more gets this.",
        unit="s",
        range=(60, 86400),
    )
    max_contacts: int = setting(
        default=10,
        doc="Contacts of one phone; with one more, the oldest is forgotten.",
        range=(1, 100),
    )
    ping_s: float = setting(
        default=25.0,
        doc="How often each contact of a phone is pinged, so that the NAT in front of it keeps the way open; 0 for"
        " never.",
        unit="s",
        range=(0.0, 3600.0),
    )
    keepalive: str = setting(
        default="crlf",
        doc="What a ping is: an empty message, which costs next to nothing and which nobody answers (`crlf`), or"
        " OPTIONS, which a phone answers (`options`): a contact that leaves three in a row unanswered is rung last, and"
        " `agentstream_phone_contacts_silent` counts it.",
        choices=("crlf", "options"),
    )
    srtp: str = setting(
        default="off",
        doc="Sound of phones by SRTP (keys by RFC 4568): never (`off`), as it is offered to us (`optional`), or always"
        " (`required`); what is offered otherwise is refused with 488. Of our own first offers only those of `required`"
        " are SRTP. The keys are in the SIP messages, so use TLS.",
        choices=("off", "optional", "required"),
    )
    obeys: tuple[str, ...] = setting(
        default=(),
        doc="What phones may have us do with their calls; see `obeys` of `[[trunk]]`.",
        choices=MOVES,
        example='["refer", "replaces"]',
    )


@attrs.frozen
class Phone:
    """A phone that may register and call."""

    user: str = setting(doc="Its user, which is what it is called by, too.", example='"alice"', check=expect_name)
    password: str = setting(
        doc="Its password (digest), `file:PATH` for the first line of a file, or `env:NAME` for an environment"
        " variable. No log and no message shows it.",
        example='"file:alice.secret"',
        secret=True,
        check=lambda text: expect_secret(text) or ("" if text else expect_secret("file:")),
    )
    max_calls: int = setting(
        default=0,
        doc="Calls of this phone at once; the next one is answered 486. 0: as many as the node takes.",
        range=(0, 10000),
    )
    calls_per_second: float = setting(
        default=0.0,
        doc="New calls of this phone a second; what is above is answered 503. 0: as many as come.",
        range=(0.0, 10000.0),
    )
