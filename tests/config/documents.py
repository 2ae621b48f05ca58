"""A whole config with a flow, as plain values, and mistakes in them, both made from the metadata of the settings."""

from __future__ import annotations

import copy
import json
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs

from agentstream.config.addresses import Network, PortRange
from agentstream.config.model import Config
from agentstream.config.structure import plain_type
from agentstream.flow.registry import find_applets

GOOD_CONFIG: dict[str, Any] = {
    "node": {"name": "node1", "drain_s": 60},
    "account": {
        "sid": "agentstream",
        "time_zone": "Europe/Berlin",
        "numbering": "e164",
        "country_code": "49",
        "number_length": 11,
    },
    "sip": {
        "listen": ["udp:5060:interface=127.0.0.1", "tcp:5060:interface=[::1]"],
        "advertise": "127.0.0.1",
        "advertise_v6": "::1",
        "max_connections": 500,
        "max_connections_per_host": 100,
        "session_expires_s": 900,
        "min_session_expires_s": 120,
        "trace": True,
        "trace_file": "trace/sip.log",
        "trace_mb": 20,
    },
    "tls": {"certificate": "cert.pem", "key": "key.pem", "ca_file": "ca.pem", "client_ca_file": "ca.pem"},
    "media": {
        "listen": "127.0.0.1",
        "listen_v6": "::1",
        "advertise": "127.0.0.1",
        "advertise_v6": "::1",
        "ports": "20000-24999",
        "playout_ms": 60,
        "playout_min_ms": 20,
        "playout_max_ms": 400,
        "codecs": ["G722", "PCMA"],
        "inband_dtmf": False,
        "max_calls": 100,
        "playback_s": 600,
        "playback_memory_mb": 1024,
        "speech_detector": "silero",
        "speech_level_dbov": -45.0,
        "speech_above_noise_db": 9.0,
        "speech_start_ms": 100,
        "speech_stop_ms": 400,
        "silence_event_s": 10,
        "rtp_timeout_s": 300,
    },
    "stream": {
        "chunk_ms": 100,
        "ca_file": "ca.pem",
        "max_s": 600,
        "allow_private": True,
        "counters": "number",
        "keys": "both",
        "codec": "mulaw",
        "encoding": "audio/x-raw",
        "bit_rate": "16",
    },
    "recording": {"folder": "recordings", "format": "flac", "channels": "mono"},
    "http": {"listen": "tcp:8080:interface=127.0.0.1"},
    "flows": {"path": ["flows"]},
    "applets": {"path": ["drop-ins"]},
    "access": {
        "realm": "example.org",
        "algorithms": ["SHA-256", "MD5"],
        "strangers": "ignore",
        "ban_after": 10,
        "ban_s": 600,
        "calls_per_second": 50.0,
        "source_calls": 20,
        "source_calls_per_second": 5.0,
        "reserved_calls": 10,
    },
    "trunk": [
        {
            "name": "carrier",
            "address": ["203.0.113.0/24", "::1"],
            "nat": "any",
            "digits": "info",
            "srtp": "required",
            "known_by": "either",
            "user": "us",
            "password": "secret of theirs",
            "server": "sips:carrier.example.com",
            "ping_s": 30.0,
            "max_calls": 30,
            "calls_per_second": 2.5,
            "register_at": ["sip:registrar.example.com", "sip:[2001:db8::5]:5062;transport=tcp"],
            "address_of_record": "sip:us@carrier.example.com",
            "register_expires_s": 1800,
            "obeys": ["refer", "replaces", "3xx"],
            "numbers": ["+49*", "0*"],
        }
    ],
    "registrar": {
        "file": "phones.db",
        "min_expires_s": 120,
        "max_expires_s": 1800,
        "max_contacts": 3,
        "ping_s": 20.0,
        "keepalive": "options",
        "srtp": "optional",
        "obeys": ["refer"],
    },
    "phone": [{"user": "alice", "password": "wonderland", "max_calls": 2, "calls_per_second": 0.5}],
    "route": [{"to": "1000", "flow": "support"}],
}
"""Every setting there is; a test asserts that."""

BOT = {
    "chunk_ms": 40,
    "ca_file": "ca.pem",
    "max_s": 60,
    "counters": "string",
    "keys": "snake",
    "codec": "pcm16",
    "encoding": "raw",
    "bit_rate": "128",
}

GOOD_FLOW: dict[str, Any] = {
    "name": "support",
    "start": "greet",
    "step": {
        "greet": {"applet": "play", "file": "welcome.wav", "early": True, "next": "listen"},
        "listen": {
            "applet": "stream",
            "action": "start",
            "url": "wss://127.0.0.1:5001/listen",
            "name": "transcript",
            "track": "both",
            **BOT,
            "next": "bot",
        },
        "bot": {
            "applet": "voicebot",
            "url": "ws://127.0.0.1:5001/media",
            "play_out": False,
            "record": True,
            "barge_in": "clear",
            "barge_in_speech_ms": 150,
            "barge_in_guard_ms": 300,
            "barge_in_quiet_ms": 400,
            "barge_in_deadline_ms": 1500,
            "barge_in_clear": True,
            "speech_events": True,
            "playout_events": True,
            "downlink": "live",
            "live_ms": 300,
            **BOT,
            "next": "test",
        },
        "test": {"applet": "echo", "seconds": 3, "next": "menu"},
        "menu": {"applet": "send_digits", "digits": "12#", "duration_ms": 120, "gap_ms": 80, "next": "held"},
        "held": {"applet": "hold", "action": "resume", "next": "away"},
        "away": {
            "applet": "transfer",
            "attended": True,
            "ring_s": 30,
            "to": "+4930123456",
            "timeout_s": 20,
            "next": "quiet",
        },
        "quiet": {"applet": "record", "action": "pause", "next": "bye"},
        "bye": {"applet": "hangup", "reason": "enough"},
    },
}


@attrs.frozen
class Slip:
    """One mistake: in the config or in the flow, at ``place``, what to do there, and the dotted paths to report."""

    file: str
    place: tuple[Any, ...]
    kind: str
    value: Any
    reported: frozenset[str]

    @property
    def spoils(self) -> tuple[Any, ...]:
        """The place in which no other mistake can be told from this one."""
        whole = self.file == "flow" and self.place[-1] == "applet"
        return (self.file, *(self.place[:-1] if whole else self.place))

    @property
    def hides_flows(self) -> bool:
        """The flow file may not be found at all."""
        return self.place == ("flows", "path") and isinstance(self.value, list)

    def make(self, documents: dict[str, dict[str, Any]]) -> None:
        table: Any = documents[self.file]
        for part in self.place[:-1]:
            table = table[part]
        if self.kind == "misspelt":
            table[self.value] = table.pop(self.place[-1])
        else:
            table[self.place[-1]] = self.value


def slips() -> list[Slip]:
    """Every mistake that the metadata tells: for each field a wrong type, what its rules refuse, a misspelt name."""
    found = []
    for section in attrs.fields(Config):
        arguments = typing.get_args(section.type)
        place = (section.name, 0) if arguments else (section.name,)
        path = f"{section.name}[0]" if arguments else section.name
        cls: Any = arguments[0] if arguments else section.type
        for field in attrs.fields(cls):
            found += _slips_of("config", place, path, field)
        found.append(Slip("config", (section.name,), "wrong type", 5, frozenset({section.name})))
        misspelt = _misspelt(section.name)
        # Without its folder, routes or trunks the rest of the file still stands.
        found.append(Slip("config", (section.name,), "misspelt", misspelt, frozenset({misspelt})))
    applets = find_applets().applets
    for name, table in GOOD_FLOW["step"].items():
        for field in attrs.fields(applets[table["applet"]].options):
            found += _slips_of("flow", ("step", name), f"step.{name}", field)
        for reserved in ("applet", "next"):
            if reserved in table:
                at = ("step", name, reserved)
                found.append(Slip("flow", at, "wrong type", 5, frozenset({f"step.{name}.{reserved}"})))
                found.append(Slip("flow", at, "unknown", table[reserved] + "x", frozenset({f"step.{name}.{reserved}"})))
    return found


def _misspelt(name: str) -> str:
    return name[:-1] + ("y" if name[-1] != "y" else "z")


def _slips_of(file: str, place: tuple[Any, ...], path: str, field: attrs.Attribute[Any]) -> Iterator[Slip]:
    here, where = (*place, field.name), f"{path}.{field.name}"
    misspelt = _misspelt(field.name)
    required = {where} if field.default is attrs.NOTHING else set()
    yield Slip(file, here, "misspelt", misspelt, frozenset({f"{path}.{misspelt}", *required}))
    for value, reported in _refused(field):
        yield Slip(file, here, "refused", value, frozenset({where + reported}))


def _refused(field: attrs.Attribute[Any]) -> Iterator[tuple[Any, str]]:
    """``(value, where below the field)``: values that the field's type and metadata refuse."""
    hint, words = plain_type(field.type), field.metadata
    if typing.get_origin(hint) is tuple:
        (inner, *_) = typing.get_args(hint)
        yield "udp:5060", ""
        yield {}, ""
        fine = {str: "udp:5060", Path: "flows"}.get(inner, "::1")
        if inner is str and ("check" in words or "choices" in words):
            fine = json.loads(words["example"])[0]
        yield [fine, 7], "[1]"
        if words.get("least"):
            yield [], ""
        if inner == Network:
            yield ["203.0.113.7/24"], "[0]"
        if "folder" in words:
            yield ["no-such-folder"], "[0]"
        return
    yield from ((value, "") for value in ([], {}, ["a"]))
    if hint is not bool:
        yield True, ""
    if hint in (str, Path, PortRange):
        yield 5, ""
    else:
        yield "no", ""
    if hint is int:
        yield 1.9, ""
        yield float(words["range"][0]), ""
    if "range" in words:
        yield words["range"][0] - 1, ""
        yield words["range"][1] + 1, ""
    if "multiple" in words:
        yield words["range"][0] + 1, ""
    if "choices" in words:
        yield words["choices"][0] + "x", ""
    if "url" in words:
        yield from ((url, "") for url in ("ftp://127.0.0.1/", "ws://", "ws://a b/", "ws://a/#b", "ws://a:99999/"))
    if "check" in words:
        yield "\n", ""
    if "file" in words:
        yield "no-such-file", ""
        yield "not-one.wav", ""
    if hint is PortRange:
        yield "24999-20000", ""


def toml(table: dict[str, Any], prefix: str = "") -> str:
    """A document of tables, lists of tables and plain values as TOML."""
    lines, tables = [], []
    for name, value in table.items():
        if isinstance(value, dict):
            tables.append(f"[{prefix}{name}]\n" + toml(value, f"{prefix}{name}."))
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            tables += [f"[[{prefix}{name}]]\n" + toml(item, f"{prefix}{name}.") for item in value]
        else:
            lines.append(f"{name} = {json.dumps(value)}")
    return "\n".join([*lines, *tables]) + "\n"


def good() -> dict[str, dict[str, Any]]:
    """A copy of both documents."""
    return copy.deepcopy({"config": GOOD_CONFIG, "flow": GOOD_FLOW})
