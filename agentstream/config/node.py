"""This process: its name and whose calls it takes, where flows and drop-ins are, where it is watched."""

from __future__ import annotations

from pathlib import Path

import attrs

from agentstream.config.addresses import (
    expect_country_code,
    expect_http_listener,
    expect_name,
    expect_time_zone,
    or_empty,
)
from agentstream.config.metadata import setting

STYLES = ("auto", "as_received", "e164", "national")
"""How numbers can be written; see :class:`agentstream.wire.numbering.Numbering`."""


@attrs.frozen
class Node:
    """This process."""

    name: str = setting(
        default="",
        doc="The name of this process in records, metrics and logs. Empty: the host name.",
        example='"node1"',
        check=or_empty(expect_name),
    )
    drain_s: int = setting(
        default=60,
        doc="How long live calls may go on after SIGTERM while new ones are refused; a second signal hangs up now.",
        unit="s",
        range=(0, 86400),
    )


@attrs.frozen
class Account:
    """Whose calls these are."""

    sid: str = setting(
        default="agentstream",
        doc="`account_sid` in what bots receive.",
        check=expect_name,
    )
    time_zone: str = setting(
        default="Asia/Kolkata",
        doc="The time zone of local times in what other systems are told, by its name in the IANA database.",
        example='"Europe/Berlin"',
        check=expect_time_zone,
    )
    numbering: str = setting(
        default="auto",
        doc="How bots are told numbers: as the phone or carrier wrote them (`as_received`), as `+919876543210`"
        " (`e164`), or as `09876543210` with numbers of other countries in E.164 (`national`). `auto` is `as_received`"
        " without a `country_code`, `national` for India (91) and `e164` for any other country.",
        choices=STYLES,
    )
    country_code: str = setting(
        default="",
        doc="The country calling code of numbers without one, in digits.",
        example='"91"',
        check=expect_country_code,
    )
    number_length: int = setting(
        default=10,
        doc="Digits of a number inside the country; only such a number gets the `country_code` when neither `+` nor `0`"
        " stands before it.",
        range=(4, 14),
    )


@attrs.frozen
class Flows:
    """Where the flow files are."""

    path: tuple[Path, ...] = setting(
        default=(Path("flows"),),
        doc="Folders of flow files: every `*.toml` in and below them is one flow.",
        least=1,
        folder=True,
    )


@attrs.frozen
class Applets:
    """Where drop-in applets are."""

    path: tuple[Path, ...] = setting(
        default=(),
        doc="More folders of drop-in applets, besides the package `applets`.",
        example='["my_applets"]',
        folder=True,
    )


@attrs.frozen
class Http:
    """Metrics and health for whoever watches this node."""

    listen: str = setting(
        default="",
        doc="Where `/metrics`, `/healthz` and `/readyz` are served; there is no password. Empty: nowhere.",
        example='"tcp:8080:interface=127.0.0.1"',
        check=expect_http_listener,
    )
