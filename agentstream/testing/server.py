"""A whole server in a test: config and flows as TOML, phones and bots in memory, time from a Clock.

    with ServerUnderTest({"start": "bot", "step": {"bot": {"applet": "voicebot", "url": URL}}}) as server:
        bot = server.bot(Echo)
        phone = server.call()
        phone.say(speech(200))
        server.advance(1)
        ...

Behind the ``with`` everything is hung up, every protocol timer runs out, and what is left then fails the test: a call,
a leg, a dialog, a connection, a delayed call.
"""

from __future__ import annotations

import importlib
import json
import shutil
import sys
import tempfile
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import soundfile
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent, globalLogPublisher
from zope.interface import implementer

from agentstream.flow.call import Call
from agentstream.flow.loader import Loaded, load
from agentstream.flow.timeline import Event
from agentstream.interfaces import Audio
from agentstream.media.ports import Address
from agentstream.media.silero import Judge
from agentstream.service import NodeService, silero
from agentstream.testing.bots import BotServer, Session
from agentstream.testing.network import MemoryPorts
from agentstream.testing.phone import Phone
from agentstream.testing.reactor import MemoryReactor
from agentstream.testing.web import Answer, Asked, WebServer

Document = str | Mapping[str, Any]
"""TOML as text, or what it says."""

SLOT_S = 0.020
BEHIND_S = 1e-6
"""The clock stops a hair behind the 20 ms grid, so that no sum of floats ends before it."""

EPOCH_S = 1_700_000_000.0
"""What the wall clock shows when the reactor's clock stands at 0."""

SIP_TIMERS_S = 40.0
"""Longer than every timer of RFC 3261: 64*T1 is 32 s."""

RATE_HZ = 8000

DEFAULTS: dict[str, Any] = {
    "node": {"name": "test", "drain_s": 5},
    "sip": {"listen": ["udp:5060:interface=127.0.0.1"]},
    "media": {"ports": "20000-20999", "max_calls": 16},
}
"""What a test's config says where it says nothing else; a section is merged key by key."""


@implementer(ILogObserver)
class _Log:
    """What was logged from level info on, but for the timelines."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def __call__(self, event: LogEvent) -> None:
        if event["log_level"] >= LogLevel.info and "timeline" not in event:
            self.lines.append(formatEvent(event))


class ServerUnderTest:
    """A NodeService on a reactor in memory.

    :param flows: one flow or several. One without a ``name`` is called ``main``.
    :param file: serve this config file, with its own flows, sounds and applets, and nothing else. Its listeners need
        addresses of their own: no wildcards.
    :param config: what the config says beyond :data:`DEFAULTS`; without a route every number leads to the first flow.
    :param sounds: sound files beside the flows: int16 samples at 8 kHz by file name.
    :param applets: drop-ins: Python source by module name.
    :ivar reactor: its clock, network and TCP; see :class:`agentstream.testing.reactor.MemoryReactor`.
    :ivar service: the node; ``service.plane``, ``service.edge``, ``service.switchboard`` are there to be looked at.
    :ivar timeline: every event of every call, in order.
    """

    def __init__(
        self,
        flows: Document | Sequence[Document] = (),
        config: Document = "",
        *,
        file: Path | None = None,
        sounds: Mapping[str, Audio] | None = None,
        applets: Mapping[str, str] | None = None,
    ) -> None:
        several = [flows] if isinstance(flows, str | Mapping) else flows
        documents = [{"name": "main", **_read(flow)} for flow in several]
        self._folder = Path(tempfile.mkdtemp(prefix="agentstream-test-"))
        self._applets = tuple(applets or ())
        try:
            if file is None:
                file = self._write(documents, _read(config), sounds or {}, applets or {})
            self.loaded = load(file)
        except BaseException:
            self._forget_folder()
            raise
        self.reactor = MemoryReactor()
        self.service = NodeService(
            self.reactor,
            self.loaded,
            make_ports=self._make_ports,
            make_judge=lambda loaded: silero(loaded, Judge),
            in_thread=maybeDeferred,
            is_alone=False,
            wall_clock=lambda: self.reactor.seconds() + EPOCH_S,
        )
        self.timeline: list[Event] = []
        self._log = _Log()
        self.phones: list[Phone] = []
        self.bots: list[BotServer] = []
        self.webs: list[WebServer] = []
        self._slot = 0

    def _write(
        self,
        flows: list[dict[str, Any]],
        config: dict[str, Any],
        sounds: Mapping[str, Audio],
        applets: Mapping[str, str],
    ) -> Path:
        """Everything as files, and the config's."""
        folder = self._folder
        for name in ("flows", "applets"):
            (folder / name).mkdir()
        for flow in flows:
            (folder / "flows" / f"{flow['name']}.toml").write_text(to_toml(flow))
        for sound, samples in sounds.items():
            soundfile.write(folder / "flows" / sound, np.asarray(samples, np.int16), RATE_HZ)
        for module, source in applets.items():
            (folder / "applets" / f"{module}.py").write_text(source)
        merged: dict[str, Any] = {"route": [{"to": "*", "flow": flows[0]["name"]}]}
        if applets:
            merged["applets"] = {"path": ["applets"]}
        for section, value in (*DEFAULTS.items(), *config.items()):
            is_table = isinstance(value, Mapping)
            merged[section] = {**merged.get(section, {}), **value} if is_table else value
        file = folder / "agentstream.toml"
        file.write_text(to_toml(merged))
        return file

    def _make_ports(self, loaded: Loaded) -> MemoryPorts:
        media = loaded.config.media
        return MemoryPorts(self.reactor.network, media.listen, media.ports.pairs, media.max_calls, media.listen_v6)

    # Start and stop

    def start(self) -> None:
        """Bind everything; StartError where that cannot be."""
        globalLogPublisher.addObserver(self._log)
        self.service.startService()
        self.service.switchboard.observers.append(self.timeline.append)

    def stop(self) -> list[str]:
        """Hang up, stop the node, let every timer run out, and say what is left all the same."""
        for phone in self.phones:
            if phone.is_answered and not phone.is_over:
                phone.hang_up()
        self.advance(0.1)
        self.service.switchboard.hang_up_all("the test is over")
        for bot in self.bots:
            bot.stop()
        for web in self.webs:
            web.stop()
        # Timers of transactions would keep the node open for its second of patience; here they may run out.
        self.advance(SIP_TIMERS_S)
        left = self.left()
        stopped = self.begin_stop()
        self.advance(self.loaded.config.node.drain_s + 2.0)
        if not stopped.called:
            left.append("the service has not stopped")
        for phone in self.phones:
            phone.close()
        left += [f"a delayed call is left: {call}" for call in self.reactor.getDelayedCalls()]
        globalLogPublisher.removeObserver(self._log)
        self._forget_folder()
        return left

    def begin_stop(self) -> Deferred[None]:
        """What SIGTERM does: drain, then close. Fires when all is closed; harmless when it has begun."""
        if not hasattr(self, "_stopping"):
            self._stopping: Deferred[None] = self.service.stopService()
        return self._stopping

    def __enter__(self) -> ServerUnderTest:
        try:
            self.start()
        except BaseException:
            globalLogPublisher.removeObserver(self._log)
            self._forget_folder()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            left = self.stop()
        except Exception:
            if kind is None:
                raise
            return  # what went wrong first is what matters
        if kind is None and left:
            raise AssertionError("; ".join(left))

    def left(self) -> list[str]:
        """What would be left over when no call is up; [] when nothing is."""
        service = self.service
        stack, plane, switchboard = service.edge.stack, service.plane, service.switchboard
        counts = {
            "calls": len(switchboard.calls),
            "legs": len(switchboard.legs),
            "legs with media": plane.legs,
            "legs that are joined": 2 * len(plane.bridges),
            "calls of ours that are counted": switchboard.admission.outgoing,
            "legs with keys": plane.protection.count,
            "legs that are being moved": len(switchboard.moves),
            "ends of TCP connections": len(self.reactor.tcp.open_connections),
            "bytes of queued sound": plane.budget.used,
        }
        if service.edge.listeners:
            # With its sockets a stack's timers are gone too, and what waited for them stays as it was.
            counts["SIP dialogs"] = len(stack.dialogs)
            counts["SIP server transactions"] = len(stack.servers)
            # A node registers and pings for as long as it runs, with calls and without.
            asked = [client.request.method for client in stack.clients.values()]
            counts["SIP client transactions"] = len(asked) - asked.count("REGISTER") - asked.count("OPTIONS")
        return [f"{count} {name} are left" for name, count in counts.items() if count]

    def _forget_folder(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)
        package: Any = importlib.import_module("applets")
        package.__path__[:] = [entry for entry in package.__path__ if not Path(entry).is_relative_to(self._folder)]
        for module in self._applets:
            sys.modules.pop(f"applets.{module}", None)

    # Time

    @property
    def now(self) -> float:
        """Seconds of the reactor's clock."""
        return self.reactor.seconds()

    def advance(self, seconds: float) -> None:
        """Let this much time pass, in whole slots of 20 ms, from event to event."""
        self._slot += max(1, round(seconds / SLOT_S))
        self.reactor.run_until(self._slot * SLOT_S + BEHIND_S)

    def hold_up(self, seconds: float) -> None:
        """Let this much time pass in one step, as when the process got no processor."""
        self._slot += max(1, round(seconds / SLOT_S))
        self.reactor.advance(self._slot * SLOT_S + BEHIND_S - self.now)

    def advance_until(self, is_so: Callable[[], object], most_s: float = 10.0) -> float:
        """Let slots pass until ``is_so()``; returns the seconds that took. AssertionError after ``most_s``."""
        began = self.now
        while not is_so():
            if self.now - began >= most_s:
                raise AssertionError(f"it did not become so within {most_s} s; the timeline: {self.story()}")
            self.advance(SLOT_S)
        return self.now - began

    # Who is there

    @property
    def address(self) -> Address:
        """Of the first SIP listener."""
        listener = self.service.edge.listeners[0]
        return listener.host, listener.port

    def phone(self, **options: Any) -> Phone:
        """A phone in memory; options as :class:`agentstream.testing.phone.Phone` takes them."""
        phone = Phone(self.reactor, self.address, **options)
        self.phones.append(phone)
        return phone

    def call(self, number: str = "1000", **options: Any) -> Phone:
        """A phone whose call has been answered."""
        phone = self.phone(**options)
        phone.dial(number)
        self.advance_until(lambda: phone.is_answered or phone.is_over)
        if not phone.is_answered:
            raise AssertionError(f"the call was refused: {phone.responses[-1].first}")
        return phone

    def bot(self, *scripts: Callable[[], Session], host: str = "127.0.0.1", port: int = 5001) -> BotServer:
        """A bot server in memory; see :class:`agentstream.testing.bots.BotServer`."""
        bot = BotServer(self.reactor, *scripts, host=host, port=port)
        self.bots.append(bot)
        return bot

    def web(self, answer: Callable[[Asked], Answer | None], *, host: str = "127.0.0.1", port: int = 8080) -> WebServer:
        """A web server in memory; see :class:`agentstream.testing.web.WebServer`."""
        web = WebServer(self.reactor, answer, host=host, port=port)
        self.webs.append(web)
        return web

    # What happened

    @property
    def live_calls(self) -> list[Call]:
        """The calls that are up."""
        return list(self.service.switchboard.calls.values())

    def events(self, kind: str, call_sid: str = "") -> list[Event]:
        """The events of this kind, of all calls or of one."""
        return [event for event in self.timeline if event.kind == kind and (not call_sid or event.call_sid == call_sid)]

    @property
    def steps(self) -> list[tuple[str, str]]:
        """(step, outcome) of every step that has ended, in order."""
        return [(event.fields["step"], event.fields["outcome"]) for event in self.events("step_ended")]

    @property
    def log(self) -> list[str]:
        """What was logged from level info on, as text, but for the timelines."""
        return self._log.lines

    def story(self) -> str:
        """The timeline as text, for a failure's message."""
        return "; ".join(f"{event.at:.3f} {event}" for event in self.timeline)


def _read(document: Document) -> dict[str, Any]:
    return tomllib.loads(document) if isinstance(document, str) else dict(document)


def to_toml(document: Mapping[str, Any]) -> str:
    """A TOML file that says this: text, numbers, booleans, lists and tables of them."""
    return "".join(f"{_toml_key(key)} = {_toml_value(value)}\n" for key, value in document.items())


def _toml_key(key: str) -> str:
    return json.dumps(key, ensure_ascii=False)


def _toml_value(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_toml_key(key)} = {_toml_value(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml_value(inner) for inner in value) + "]"
    # JSON's strings, numbers and booleans are TOML's.
    return json.dumps(str(value) if isinstance(value, Path) else value, ensure_ascii=False)
