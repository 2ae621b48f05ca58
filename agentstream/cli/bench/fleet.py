"""The processes of one run, pinned to their cores: a server, a bot and callers, and what is asked of them.

The server has core 0 to itself and all else the others. What every mode of the bench does to them is here; what order
it does it in is the mode's.
"""

from __future__ import annotations

import math
import socket
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt
from rich.console import Console

from agentstream.audio.g711 import ULAW_TO_PCM
from agentstream.cli.bench import machine, notes, tone_codes
from agentstream.cli.bench.analysis import Load, Probes, Records, Sink, Steady, analyse, analyse_probes
from agentstream.cli.bench.callers import RECEIVED, SENT
from agentstream.cli.bench.frames import BLOCK, CODE_BYTES, FRAME_BYTES, RATE_HZ
from agentstream.cli.bench.profile import Profile
from agentstream.cli.bench.scrape import LATENESS, SPEECH, TICK, Scrape, percentile_ms, scrape
from agentstream.cli.bench.sink import BURST, MESSAGE
from agentstream.cli.bench.variants import Variant
from agentstream.cli.children import Child, Children
from agentstream.cli.server import ServerSettings, free_port, start_server, wait_for_server
from agentstream.errors import AgentstreamError

CALLS_A_SECOND = 50
SPARE_S = 30.0
_SPOKEN_S = 0.5
_ASKING_S = 0.005
_FLOOR_S = 5.0

Sample = Callable[[float], None]


def need_files(calls: int) -> None:
    """Raise this process's limit of open files, which its children inherit, to what so many calls need."""
    import resource

    needed = 6 * calls + 300
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= needed or soft == resource.RLIM_INFINITY:
        return
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise AgentstreamError(
            f"{calls} calls need {needed} open files and {hard} are allowed: raise it with ulimit -n."
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


@attrs.frozen
class Window:
    """A steady time of so many calls.

    :ivar cpu_percent: of one core, user and system, of the server and its children; and the same of callers and bot.
    :ivar speech_percent: of one core, what of the server's was the neural speech detector; nan where the server said
        nothing or has none.
    :ivar others_percent: of one core, what everything else on this machine took: a run beside much of it says little.
    :ivar late_p99_ms: how late ticks began; nan where the server said nothing.
    :ivar dropped: calls that the server ended, until then.
    :ivar latest_ms: by how much a caller's packet left too late at worst, because the load's core was taken: beyond the
        playout delay, what was lost is the machine's fault and not the server's.
    """

    calls: int
    seconds: float
    cpu_percent: float
    load_percent: float
    sink_percent: float
    speech_percent: float
    others_percent: float
    memory_bytes: int
    tick_p99_ms: float
    late_p99_ms: float
    dropped: int
    latest_ms: float
    steady: Steady


@attrs.define(eq=False)
class Fleet:
    """One server, its bot and its callers.

    :ivar streams: how many streams the bot has had.
    :ivar refused: how many calls the server has refused.
    """

    family: Children
    folder: Path
    console: Console
    rate_hz: int
    pinning: str
    server: Child
    sink: Child
    load: Child
    sip_port: int
    http_port: int
    streams: int = 0
    refused: int = 0

    @classmethod
    def start(
        cls,
        family: Children,
        folder: Path,
        console: Console,
        variant: Variant,
        most: int,
        bot_module: str = "sink",
        users: tuple[str, ...] = ("echo", "probe"),
        applets: Mapping[str, str] | None = None,
        spare: int = 10,
    ) -> Fleet:
        """Everything up and on its core, no call yet.

        :param most: calls of the callers at once. :param spare: how many more the server has room for.
        :param applets: users that lead to no bot (agentstream.cli.server.ServerSettings).
        """
        need_files(most + spare)
        rate = str(variant.rate_hz)
        sink = family.start("bot", ["-m", f"agentstream.cli.bench.{bot_module}", rate])
        bot = f"ws://127.0.0.1:{family.expect(sink, 'listening', SPARE_S)['port']}"
        port, http_port = free_port(socket.SOCK_DGRAM), free_port(socket.SOCK_STREAM)
        settings = ServerSettings(
            port,
            {user: f"{bot}/{user}?sample-rate={rate}" for user in users},
            variant.chunk_ms,
            applets=applets or {},
            max_calls=most + spare,
            fixed_playout_ms=variant.playout_ms,
            http_port=http_port,
            recordings=folder / "recordings" if variant.recording else None,
            hears_speech=variant.vad != "off",
            speech_detector="" if variant.vad in ("on", "off") else variant.vad,
            srtp=bool(variant.srtp),
        )
        server = start_server(family, settings.write(folder), hears_speech=settings.hears_speech)
        wait_for_server(family, server, port)
        load = family.start(
            "load", ["-m", "agentstream.cli.bench.load", str(port), str(most), rate, *filter(None, [variant.srtp])]
        )
        family.expect(load, "ready", SPARE_S)
        pinning = machine.pin(server.pid, is_server=True)
        for child in (sink, load):
            machine.pin(child.pid, is_server=False)
        return cls(family, folder, console, variant.rate_hz, pinning, server, sink, load, port, http_port)

    @property
    def memory_bytes(self) -> int:
        """What the server holds."""
        return machine.memory_bytes(self.server.pid)

    def place(self, user: str, calls: int, *, may_refuse: bool = False) -> dict[str, Any]:
        """Have calls placed and wait until each has its stream; returns the load's tally.

        :raises AgentstreamError: the server refused one, where that is not asked for.
        """
        self.console.print(f"placing {calls} calls, {CALLS_A_SECOND} a second")
        self.load.say("place", user=user, calls=calls, per_second=CALLS_A_SECOND)
        placed = self.family.expect(self.load, "placed", SPARE_S + calls / CALLS_A_SECOND)
        self.refused = refused = sum(placed["refused"].values())
        if refused and not may_refuse:
            raise AgentstreamError(f"The server refused {refused} of the calls: {placed['refused']}.")
        until = time.monotonic() + SPARE_S
        while self.streams < placed["placed"] - refused:
            if time.monotonic() >= until:
                wanted = placed["placed"] - refused
                raise AgentstreamError(f"Of {wanted} calls {self.streams} have a stream after {SPARE_S:g} seconds.")
            self.rest(0.1)
            while (news := self.sink.take("stream_started")) is not None:
                self.streams = news["streams"]
        return placed

    def rest(self, seconds: float, every_s: float = 0.0, sample: Sample | None = None) -> None:
        """Let time pass; a process that ends meanwhile is an error.

        :param sample: called every so many seconds with the time since the beginning.
        """
        began = time.monotonic()
        next_s = every_s
        while (left := began + seconds - time.monotonic()) > 0:
            if sample is not None:
                if (now_s := time.monotonic() - began) >= next_s:
                    next_s += every_s
                    sample(now_s)
                left = min(left, max(0.0, began + next_s - time.monotonic()))
            self.family.pump(left)
            for child in self.family.all:
                if child.is_over:
                    raise AgentstreamError(child.last_words())

    def steady(
        self,
        calls: int,
        seconds: float,
        profile: Profile | None = None,
        every_s: float = 0.0,
        sample: Sample | None = None,
    ) -> Window:
        """Have the callers number their frames for so long, and say what became of them."""
        self.console.print(f"measuring {calls} calls for {seconds:g} s")
        path = str(self.folder / "steady")
        before = self._said_of_itself()
        self._open_notes(path)
        self.load.say("number", seconds=seconds)
        began_ns = self.family.expect(self.load, "numbering", SPARE_S)["at_ns"]
        if profile is not None:
            profile.begin(self.server.pid, seconds)
        spent, at = self._spent(), time.monotonic()
        if sample is not None:
            self.rest(max(0.0, seconds - (time.monotonic() - at) - 0.2), every_s, sample)
        ended_ns = self.family.expect(self.load, "numbered", seconds + SPARE_S)["at_ns"]
        elapsed = time.monotonic() - at
        percents = [100 * max(0.0, now - then) / elapsed for now, then in zip(self._spent(), spent, strict=True)]
        memory_bytes = self.memory_bytes
        self.family.expect(self.load, "settled", SPARE_S)
        after = self._said_of_itself()
        tally = self._close_notes()
        if profile is not None:
            profile.finish()
        found = analyse(self._load(path), self._bot(path), (began_ns, ended_ns))
        return _window(calls, elapsed, percents, memory_bytes, (before, after), tally, found)

    def scrape(self) -> Scrape:
        """The server's metrics. What it logs meanwhile is read: a server whose log nobody reads stands still.

        :raises AgentstreamError: no answer in time.
        """
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(scrape, self.http_port)
            while not asked.done():
                self.family.pump(_ASKING_S)
            return asked.result()

    def _said_of_itself(self) -> Scrape:
        """The server's metrics; none where it has no time for them, which is no reason not to measure it."""
        try:
            return self.scrape()
        except AgentstreamError:
            return Scrape({}, {})

    def _spent(self) -> list[float]:
        """Seconds of CPU until now: of server, callers, bot, and everybody else."""
        mine = [machine.cpu_s(child.pid) for child in (self.server, self.load, self.sink)]
        return [*mine, machine.others_s()]

    def _open_notes(self, path: str) -> None:
        for child in (self.sink, self.load):
            child.say("note", path=path)
            self.family.expect(child, "noting", SPARE_S)

    def _close_notes(self) -> dict[str, Any]:
        for child in (self.sink, self.load):
            child.say("close")
        self.family.expect(self.sink, "noted", SPARE_S)
        return self.family.expect(self.load, "noted", SPARE_S)

    def probe(self, calls: int, seconds: float, *, may_refuse: bool = False) -> Probes:
        """Have so many more calls, whose bots speak in bursts and clear; they are hung up behind it."""
        self.place("probe", calls, may_refuse=may_refuse)
        self.console.print(f"bursts of {calls} more bots for {seconds:g} s")
        path = str(self.folder / "probe")
        self._open_notes(path)
        self.sink.say("probe", seconds=seconds)
        self.rest(seconds + _SPOKEN_S + 1.0)
        self._close_notes()
        self.load.say("end", user="probe")
        self.family.expect(self.load, "ended", SPARE_S)
        return analyse_probes(self._load(path), *(notes.read(path, kind, BURST) for kind in ("bursts", "clears")))

    def _load(self, path: str) -> Load:
        sent, received = notes.read(path, "sent", SENT), notes.read(path, "received", RECEIVED)
        if self.rate_hz == RATE_HZ:
            return Load(sent, received)
        # The notes hold sound; put the codes of the numbers that it says where they would be at 8 kHz.
        heard = ULAW_TO_PCM[notes.read(path, "sound", np.uint8, FRAME_BYTES)].reshape(-1, BLOCK)
        return Load(sent, received, tone_codes.read_streams(np.repeat(received["call"], 2), heard).reshape(-1, 2, 8))

    def _bot(self, path: str) -> Sink:
        messages: Records = notes.read(path, "messages", MESSAGE)
        codes: npt.NDArray[Any]
        if self.rate_hz == RATE_HZ:
            codes = notes.read(path, "codes", np.int16, CODE_BYTES)
        else:
            pcm = notes.read(path, "pcm", np.int16, BLOCK)
            codes = tone_codes.read_streams(np.repeat(messages["stream"], messages["blocks"]), pcm)
        return Sink(messages, codes)

    def finish(self) -> dict[str, Any]:
        """Hang up all calls, end the server; returns the load's tally."""
        self.load.say("finish")
        tally = self.family.expect(self.load, "finished", SPARE_S + self.streams / CALLS_A_SECOND)
        self.family.pump(0.2)
        self.sink.say("finish")
        self.server.end()
        return tally

    def floor(self, calls: int, seconds: float, chunk_ms: int) -> dict[str, float]:
        """What the socket calls of so many calls cost alone (agentstream.cli.bench.floor)."""
        self.console.print("the floor: socket calls alone")
        words = [str(calls), str(min(_FLOOR_S, seconds)), str(chunk_ms), str(self.rate_hz)]
        child = self.family.start("floor", ["-m", "agentstream.cli.bench.floor", *words])
        return self.family.expect(child, "floor", _FLOOR_S + SPARE_S)


def _window(
    calls: int,
    seconds: float,
    percents: list[float],
    memory_bytes: int,
    scrapes: tuple[Scrape, Scrape],
    tally: dict[str, Any],
    steady: Steady,
) -> Window:
    tick, late = (percentile_ms(*scrapes, name, 99) for name in (TICK, LATENESS))
    server, load, sink, others = percents
    spent = [said.values.get(SPEECH, math.nan) for said in scrapes]
    # No window was judged yet: there is no such detector.
    speech = 100 * (spent[1] - spent[0]) / seconds if spent[1] else math.nan
    return Window(
        calls=calls,
        seconds=seconds,
        cpu_percent=server,
        load_percent=load,
        sink_percent=sink,
        speech_percent=speech,
        others_percent=others,
        memory_bytes=memory_bytes,
        tick_p99_ms=tick,
        late_p99_ms=late,
        dropped=tally["dropped"],
        latest_ms=tally["latest_ms"],
        steady=steady,
    )
