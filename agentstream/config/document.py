"""One TOML document as a :class:`Config`: its sections, and what only several settings together show to be wrong."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import attrs

from agentstream.config.addresses import is_everywhere
from agentstream.config.model import Config
from agentstream.config.structure import anchored, key, nearest, read_section
from agentstream.errors import Problem


def read_config(document: Mapping[str, Any], file: str) -> tuple[Config, frozenset[str], list[Problem]]:
    """A TOML document as a :class:`Config`, the names of the sections that could not be read, and every problem.

    A section with a mistake is at its default in the Config, which is then good for further checking only.
    """
    problems: list[Problem] = []
    made: dict[str, Any] = {}
    sections = {field.name: field for field in attrs.fields(Config)}
    for name, table in document.items():
        if name not in sections:
            problems.append(Problem(file, key(name), f"is not known here; {nearest(name, sections)}"))
            continue
        value, mistakes = read_section(name, sections[name].type, table)
        if mistakes:
            problems += [mistake.problem(file) for mistake in mistakes]
        else:
            made[name] = value
    broken = frozenset(name for name in document if name in sections and name not in made)
    folder = Path(file).parent
    config = Config(**made)
    config = attrs.evolve(
        config,
        sip=anchored(config.sip, folder),
        tls=anchored(config.tls, folder),
        stream=anchored(config.stream, folder),
        recording=anchored(config.recording, folder),
        registrar=anchored(config.registrar, folder),
        flows=anchored(config.flows, folder),
        applets=anchored(config.applets, folder),
    )
    problems += _cross_check(document, config, broken, file)
    return config, broken, problems


def strings_of(document: Mapping[str, Any], section: str, name: str) -> Iterable[tuple[str, str]]:
    """``(dotted path, value)`` of one string setting in a list of tables, mistakes elsewhere in it notwithstanding."""
    tables = document.get(section)
    for index, table in enumerate(tables if isinstance(tables, list) else []):
        if isinstance(table, dict) and isinstance(table.get(name), str):
            yield f"{section}[{index}].{name}", table[name]


def _check_accounts(config: Config, file: str) -> Iterable[Problem]:
    """Who may call: trunks that nobody could be recognised as, and users that two of them have."""
    first: dict[str, str] = {}
    for index, trunk in enumerate(config.trunk):
        path = f"trunk[{index}]"
        is_only_called = bool(trunk.server) and trunk.known_by == "address"
        if trunk.known_by != "digest" and not trunk.address and not is_only_called:
            sentence = f'is empty while known_by is "{trunk.known_by}"; expected addresses, or known_by = "digest"'
            yield Problem(file, f"{path}.address", sentence)
        if trunk.numbers and not trunk.server:
            yield Problem(file, f"{path}.server", "is empty while numbers is not; expected where they are called")
        elif trunk.ping_s and not trunk.server:
            yield Problem(file, f"{path}.server", "is empty while ping_s is not 0; expected where pings go")
        if bool(trunk.user) != bool(trunk.password):
            name, other = ("password", "user") if trunk.user else ("user", "password")
            yield Problem(file, f"{path}.{name}", f"is empty while {other} is not; expected both, or neither")
        elif trunk.known_by != "address" and not trunk.user:
            yield Problem(file, f"{path}.user", f'is empty while known_by is "{trunk.known_by}"; expected a user')
        elif trunk.known_by != "address":
            if trunk.user in first:
                sentence = f'found "{trunk.user}", which {first[trunk.user]} has already; expected a user of its own'
                yield Problem(file, f"{path}.user", sentence)
            first.setdefault(trunk.user, path)
    for index, phone in enumerate(config.phone):
        if phone.user in first:
            sentence = f'found "{phone.user}", which {first[phone.user]} has already; expected a user of its own'
            yield Problem(file, f"phone[{index}].user", sentence)
        first.setdefault(phone.user, f"phone[{index}]")


def _cross_check(document: Mapping[str, Any], config: Config, broken: frozenset[str], file: str) -> Iterable[Problem]:
    first: dict[str, str] = {}
    for path, name in strings_of(document, "trunk", "name"):
        if name in first:
            yield Problem(file, path, f'found "{name}", which {first[name]} has already; expected a name of its own')
        first.setdefault(name, path)
    yield from _check_accounts(config, file)
    if "sip" not in broken:
        yield from _bound_twice(config, file)
        for is_v6 in (False, True):
            wide = [at for at in config.sip.listeners if at.is_everywhere and at.is_v6 == is_v6 and not at.advertise]
            if wide and not config.sip.advertised(is_v6=is_v6):
                name = "advertise_v6" if is_v6 and config.sip.advertise else "advertise"
                sentence = (
                    "is empty while a listener is on every address; expected the IP address that phones can reach"
                )
                yield Problem(file, f"sip.{name}", sentence)
    if "media" not in broken and config.media.listen_v6 and ":" in config.media.listen:
        yield Problem(file, "media.listen_v6", "is a second IPv6 address; expected one in listen or in listen_v6")
    yield from _bounds(config, file)
    if not broken & {"sip", "media"}:
        yield from _nowhere(config, file)
    if not broken & {"sip", "tls"}:
        yield from _half_of_tls(config, file)
    account = config.account
    if "account" not in broken and account.numbering in ("e164", "national") and not account.country_code:
        sentence = f'is empty while numbering is "{account.numbering}"; expected the code of the numbers without one'
        yield Problem(file, "account.country_code", sentence)


def _bound_twice(config: Config, file: str) -> Iterable[Problem]:
    """Listeners of one address and port; TLS is on a TCP port, too."""
    first: dict[tuple[bool, str, int], int] = {}
    for index, at in enumerate(config.sip.listeners):
        place = (at.transport == "udp", at.interface or "0.0.0.0", at.port)
        if at.port and place in first:
            sentence = f"is on the address and port of listen[{first[place]}]; expected another port or address"
            yield Problem(file, f"sip.listen[{index}]", sentence)
        first.setdefault(place, index)


def _bounds(config: Config, file: str) -> Iterable[Problem]:
    """A least that is more than what goes with it."""
    sip, media, registrar = config.sip, config.media, config.registrar
    pairs = (
        ("media.playout_min_ms", media.playout_min_ms, "media.playout_max_ms", media.playout_max_ms),
        ("registrar.min_expires_s", registrar.min_expires_s, "registrar.max_expires_s", registrar.max_expires_s),
        # RFC 4028 section 7.1: nobody asks for an interval that is shorter than the shortest.
        (
            *("sip.min_session_expires_s", sip.min_session_expires_s),
            *("sip.session_expires_s", sip.session_expires_s or sip.min_session_expires_s),
        ),
    )
    for path, least, other, most in pairs:
        if least > most:
            yield Problem(file, path, f"found {least}, expected no more than {other}, which is {most}")


def _nowhere(config: Config, file: str) -> Iterable[Problem]:
    """RTP that phones are told to send to an address that is none."""
    for is_v6 in (False, True):
        address = config.media_address(is_v6=is_v6)
        if address and is_everywhere(address):
            name = "advertise_v6" if is_v6 and ":" not in config.media.listen else "advertise"
            sentence = "is empty while RTP is on every address; expected the IP address that phones can reach"
            yield Problem(file, f"media.{name}", sentence)


def _half_of_tls(config: Config, file: str) -> Iterable[Problem]:
    """A listener without a certificate, a certificate without its key."""
    tls = config.tls
    if (tls.certificate is None) != (tls.key is None):
        name, other = ("key", "certificate") if tls.key is None else ("certificate", "key")
        yield Problem(file, f"tls.{name}", f"is empty while tls.{other} is set; expected the PEM file of the {name}")
    elif tls.certificate is None and any(at.transport == "tls" for at in config.sip.listeners):
        sentence = "is empty while sip.listen has a listener for TLS; expected the PEM file of our certificate"
        yield Problem(file, "tls.certificate", sentence)
