"""From one config file to everything that a node serves: settings, applets, flows. It blocks, and opens no socket.

Whatever is wrong is found in one go: :func:`examine` goes on after mistakes, :func:`load` raises them all together.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import attrs

import agentstream.samples
from agentstream.audio.codecs import codecs, missing_library
from agentstream.config.addresses import expect_name
from agentstream.config.document import read_config, strings_of
from agentstream.config.model import Config
from agentstream.config.structure import nearest
from agentstream.errors import ConfigError, Problem
from agentstream.flow.definition import Flow, read_flow
from agentstream.flow.files import file_mistakes, named_files, read_toml
from agentstream.flow.registry import Registry, find_applets
from agentstream.flow.secrets import with_secrets
from agentstream.media.silero import HOW_TO_INSTALL
from agentstream.media.silero import is_installed as is_silero_installed
from agentstream.net.tls import UnusableFile, read_identity
from agentstream.sip.grammar import parse_address
from agentstream.sip.uri import parse_uri
from agentstream.wire.parameters import read_query
from agentstream.wire.payload import PAYLOADS

SAMPLE = Path(agentstream.samples.__file__).with_name("agentstream.toml")
"""What is served when no config is given: loopback only, 1000 reaches the sample echo bot."""


@attrs.frozen
class Loaded:
    """A config file with its flows and applets.

    :ivar flows: by name.
    :ivar sounds: every sound file that a step names, so that it can be made ready before the first call.
    :ivar warnings: what is allowed and yet probably not meant.
    """

    file: Path
    config: Config
    flows: Mapping[str, Flow]
    registry: Registry
    sounds: tuple[Path, ...] = ()
    warnings: tuple[Problem, ...] = ()


def load(file: Path = SAMPLE) -> Loaded:
    """Everything that this config file leads to; ConfigError with every problem when there is one."""
    loaded, problems = examine(file)
    if problems:
        raise ConfigError(problems)
    return loaded


def examine(file: Path = SAMPLE) -> tuple[Loaded, list[Problem]]:
    """The same, as far as it could be read, and every problem. With a problem, it is for reports only."""
    document, problems = read_toml(file)
    if problems:
        return Loaded(file, Config(), {}, Registry()), problems
    config, broken, problems = read_config(document, str(file))
    config, missing = with_secrets(config, file, os.environ)
    problems += missing
    for field in attrs.fields(Config):
        if field.type is not None and attrs.has(field.type):
            mistakes = file_mistakes(field.type, document.get(field.name), file.parent)
            problems += [mistake.problem(str(file), field.name) for mistake in mistakes]
    registry = find_applets(_folders(document, "applets", config.applets.path, file))
    problems += registry.problems
    flows, names, flow_problems = _read_flows(_folders(document, "flows", config.flows.path, file), registry, config)
    problems += flow_problems
    # Where the flows could not be looked for, none can be missed.
    is_sure = not any(problem.file == str(file) and problem.path.startswith("flows") for problem in problems)
    for path, name in strings_of(document, "route", "flow"):
        if is_sure and name not in names and not expect_name(name):
            sentence = f'found "{name}", expected the name of a flow; {nearest(name, names)}'
            problems.append(Problem(str(file), path, sentence))
    problems += _wrong_tls(document, file, problems)
    problems += _wrong_codecs(config, str(file))
    problems += _wrong_rates(flows.values())
    if config.media.speech_detector == "silero" and not is_silero_installed():
        problems.append(Problem(str(file), "media.speech_detector", f'is "silero", which {HOW_TO_INSTALL}'))
    warnings = (
        *_warnings(document, config, broken, names, str(file)),
        *_in_the_clear(flows.values()),
        *_dates(document, file),
    )
    return Loaded(file, config, flows, registry, tuple(_sounds(flows.values())), warnings), problems


def _identity_files(document: Mapping[str, Any], folder: Path) -> tuple[Path, Path] | None:
    """Our certificate and its key, a mistake elsewhere in their table notwithstanding; None without both."""
    table = document.get("tls")
    named = [table.get(name) for name in ("certificate", "key")] if isinstance(table, dict) else []
    paths = [folder / name for name in named if isinstance(name, str) and name and "\0" not in name]
    return (paths[0], paths[1]) if len(paths) == 2 else None


def _wrong_tls(document: Mapping[str, Any], file: Path, known: list[Problem]) -> Iterator[Problem]:
    """A certificate and a key that do not fit each other, where each of them is a file that can be read."""
    files = _identity_files(document, file.parent)
    if files is not None and not any(problem.path in ("tls.certificate", "tls.key") for problem in known):
        try:
            read_identity(*files)
        except UnusableFile as error:
            yield Problem(str(file), f"tls.{error.setting}", error.sentence)


def _dates(document: Mapping[str, Any], file: Path) -> Iterator[Problem]:
    """A certificate that has expired keeps nothing from starting: there may be calls that need none."""
    files = _identity_files(document, file.parent)
    if files is not None:
        try:
            remark = read_identity(*files).remark(datetime.datetime.now(datetime.UTC))
        except UnusableFile:
            return  # said as an error already
        if remark:
            yield Problem(str(file), "tls.certificate", remark)


def _wrong_codecs(config: Config, file: str) -> Iterator[Problem]:
    """Codecs that there are not, or that are there twice."""
    names = config.media.codecs
    known = [codec.name for codec in codecs()]
    for index, name in enumerate(names):
        missing = missing_library(name) if name not in known else ""
        if missing:
            yield Problem(file, f"media.codecs[{index}]", f'found "{name}", which needs {missing}')
        elif name not in known:
            yield Problem(file, f"media.codecs[{index}]", f'found "{name}", expected a codec; {nearest(name, known)}')
        elif name in names[:index]:
            yield Problem(file, f"media.codecs[{index}]", f'found "{name}" again, expected each codec once')


def _folders(document: Mapping[str, Any], section: str, read: tuple[Path, ...], file: Path) -> list[Path]:
    """The folders of a section: as read, or those that a section with a mistake names all the same."""
    table = document.get(section)
    named = table.get("path") if isinstance(table, dict) else None
    if not isinstance(named, list):
        return list(read)
    return [file.parent / name for name in named if isinstance(name, str) and name and "\0" not in name]


def _read_flows(
    folders: Iterable[Path], registry: Registry, config: Config
) -> tuple[dict[str, Flow], dict[str, str], list[Problem]]:
    """The flows that are whole, the file of every flow that has a name, and every problem."""
    flows: dict[str, Flow] = {}
    names: dict[str, str] = {}
    problems: list[Problem] = []
    files = {found.resolve(): found for folder in folders for found in sorted(folder.rglob("*.toml"))}
    for file in files.values():
        document, wrong = read_toml(file)
        problems += wrong
        if wrong:
            continue
        flow, wrong = read_flow(document, str(file), registry.applets, config)
        problems += wrong
        name = document.get("name")
        if isinstance(name, str) and name in names:
            sentence = f'found "{name}", which {names[name]} has already, expected a name of its own'
            problems.append(Problem(str(file), "name", sentence))
        elif isinstance(name, str):
            names[name] = str(file)
            if flow is not None:
                flows[name] = flow
    return flows, names, problems


def _warnings(
    document: Mapping[str, Any], config: Config, broken: frozenset[str], names: Mapping[str, str], file: str
) -> Iterator[Problem]:
    if not broken & {"sip", "media"}:
        yield from _deaf_listeners(config, file)
    if config.phone and not any(listener.transport == "tls" for listener in config.sip.listeners):
        sentence = (
            "phones register here, and no listener has TLS: whoever is on the way sees who calls whom, can guess weak"
            ' passwords from what is sent, and can take calls over; expected a listener such as "tls:5061:..."'
        )
        yield Problem(file, "sip.listen", sentence)
    yield from _readable_keys(config, file)
    if "sip" not in broken:
        yield from _unreachable_servers(config, file)
    if "route" in broken:
        return
    if not config.route:
        yield Problem(file, "route", "there is none, so that every call is answered 404")
        return
    routed = {name for _, name in strings_of(document, "route", "flow")}
    for name in sorted(set(names) - routed):
        yield Problem(names[name], "name", f'no route of {file} leads to the flow "{name}"')
    for index, route in enumerate(config.route):
        for first, earlier in enumerate(config.route[:index]):
            if earlier.to in ("*", route.to):
                yield Problem(file, f"route[{index}]", f"is never used, because route[{first}] matches the same calls")
                break


def _readable_keys(config: Config, file: str) -> Iterator[Problem]:
    """SRTP whose keys go through SIP in clear (RFC 4568 section 9)."""
    if any(listener.transport == "tls" for listener in config.sip.listeners):
        return
    trunks = [(f"trunk[{index}].srtp", trunk.srtp) for index, trunk in enumerate(config.trunk)]
    phones = [("registrar.srtp", config.registrar.srtp)] if config.phone else []
    for path, srtp in (*trunks, *phones):
        if srtp == "required":
            sentence = (
                "is required, and no listener has TLS: the keys are in the SIP messages, so whoever can read those can"
                ' listen; expected a listener such as "tls:5061:..."'
            )
            yield Problem(file, path, sentence)


def _unreachable_servers(config: Config, file: str) -> Iterator[Problem]:
    """Servers and registrars that want a transport, or an IP family, that we have no listener for."""
    bound = {(listener.transport, listener.is_v6) for listener in config.sip.listeners}
    for index, trunk in enumerate(config.trunk):
        servers = [(f"trunk[{index}].server", trunk.server)] if trunk.server else []
        servers += [(f"trunk[{index}].register_at[{at}]", text) for at, text in enumerate(trunk.register_at)]
        for path, text in servers:
            uri = parse_uri(text)
            address = parse_address(uri.host)
            # RFC 3263 section 4.1: what says no transport is asked of the DNS, or UDP where nothing can be asked.
            named = "tls" if uri.scheme == "sips" else uri.parameter("transport") or ""
            transport = named or ("udp" if address is not None or uri.port else "")
            families = (False, True) if address is None else (address.version == 6,)
            if not any(family in families and transport in ("", one) for one, family in bound):
                over = transport.upper() + ("" if address is None else f" over IPv{address.version}")
                sentence = (
                    f"is reached by {over}, and no listener has that: nothing can go there; add one to sip.listen"
                )
                yield Problem(file, path, sentence)


def _deaf_listeners(config: Config, file: str) -> Iterator[Problem]:
    """SIP in an IP family in which no RTP is bound: calls come in, and those whose sound is in that family are 488."""
    for index, listener in enumerate(config.sip.listeners):
        is_v6 = ":" in listener.interface
        if not config.media_address(is_v6=is_v6):
            path, family = ("media.listen_v6", "IPv6") if is_v6 else ("media.listen", "IPv4")
            sentence = (
                f"gives no {family} address, so calls to sip.listen[{index}] with sound over {family} are refused"
            )
            yield Problem(file, path, sentence)
            return


def _in_the_clear(flows: Iterable[Flow]) -> Iterator[Problem]:
    """URLs whose sound and passwords anybody on the way can read."""
    for flow in flows:
        for step in flow.steps.values():
            for field in attrs.fields(type(step.options)):
                url = getattr(step.options, field.name) if "url" in field.metadata else None
                if isinstance(url, str) and urlsplit(url).scheme in ("ws", "http") and not _is_this_machine(url):
                    secure = "wss" if url.startswith("ws") else "https"
                    sentence = (
                        f"leads to another machine without TLS, expected {secure}:// outside of a trusted network"
                    )
                    yield Problem(flow.file, f"step.{step.name}.{field.name}", sentence)


def _wrong_rates(flows: Iterable[Flow]) -> Iterator[Problem]:
    """URLs of bots that ask for a sample rate which the payload of their step cannot have."""
    for step, file in ((step, flow.file) for flow in flows for step in flow.steps.values()):
        fields = attrs.fields(type(step.options))
        codec = next((field.name for field in fields if field.metadata.get("setting") == "stream.codec"), "")
        payload = PAYLOADS[getattr(step.options, codec)] if codec else None
        for field in fields:
            url = getattr(step.options, field.name) if "url" in field.metadata else None
            if payload is None or not isinstance(url, str) or urlsplit(url).scheme not in ("ws", "wss"):
                continue
            asked_hz = read_query(urlsplit(url).query).sample_rate
            if payload.rate(asked_hz) != asked_hz:
                sentence = (
                    f"asks for {asked_hz} samples a second, but the codec {payload.name} has {payload.rate_hz};"
                    ' take sample-rate out, or set codec = "pcm16"'
                )
                yield Problem(file, f"step.{step.name}.{field.name}", sentence)


def _is_this_machine(url: str) -> bool:
    """The URL's host is this machine, by its address or as localhost."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _sounds(flows: Iterable[Flow]) -> Iterable[Path]:
    """Each sound file once, in the order of the flows."""
    found: dict[Path, None] = {}
    for flow in flows:
        for step in flow.steps.values():
            options = {field.name: getattr(step.options, field.name) for field in attrs.fields(type(step.options))}
            for _, file, field in named_files(type(step.options), options, Path()):
                if field.metadata.get("file") == "audio":
                    found[file] = None
    return found
