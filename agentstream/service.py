"""The composition root: one top service that builds a node, binds everything it needs, drains it and closes it.

Nothing is opened before ``startService``; whatever cannot be opened there is one sentence and exit status 1.
"""

from __future__ import annotations

import datetime
import gc
import secrets
import signal
import socket
import time
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any

import attrs
from twisted.application.service import Service
from twisted.internet.defer import Deferred, TimeoutError, inlineCallbacks
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.threadpool import ThreadPool

from agentstream.audio.activity import ActivitySettings
from agentstream.audio.neural import States
from agentstream.config.addresses import Listener
from agentstream.config.fixed import keep_fixed
from agentstream.errors import AgentstreamError, ConfigError, StartError
from agentstream.flow.access import make_gate
from agentstream.flow.connecting import connector_of
from agentstream.flow.dialer import Dialer
from agentstream.flow.loader import SAMPLE, Loaded, load
from agentstream.flow.moving import Moves
from agentstream.flow.phones import Phones
from agentstream.flow.prompts import Prompts
from agentstream.flow.recordings import InThread, Recordings
from agentstream.flow.registrations import Registrations
from agentstream.flow.stream import StreamOpener
from agentstream.flow.switchboard import Switchboard
from agentstream.flow.trunk_watch import TrunkWatch
from agentstream.media.leg import RATE_HZ
from agentstream.media.plane import MediaPlane, MediaSettings
from agentstream.media.ports import DatagramPorts, KernelPorts
from agentstream.media.silero import Judge, ThreadJudge, load_silero
from agentstream.media.slack import SlackCollector
from agentstream.net.connections import ConnectionLimits
from agentstream.net.edge import SipEdge, new_token
from agentstream.net.tls import TlsFiles
from agentstream.net.trace import SipTrace
from agentstream.sip.events import BindingsChanged, ContactChanged, Event, RegistrationChanged, ServerChanged
from agentstream.sip.grammar import format_host
from agentstream.sip.registrar import Binding
from agentstream.sip.session_timer import Intervals
from agentstream.testing.bot import DEFAULT_LISTEN, echo_bot_service
from agentstream.web.counts import CallCounts
from agentstream.web.http import node_site
from agentstream.web.metrics import NodeMetrics
from agentstream.wire.sid import new_sid
from agentstream.ws.protocol import NO_NVX, nvx_in_use
from agentstream.ws.reads import Reads

MEBIBYTE = 1 << 20
HANG_UP_S = 1.0
"""Seconds at most for the BYEs of the last calls to be answered before the sockets close."""


def kernel_ports(loaded: Loaded) -> DatagramPorts:
    """Real UDP sockets as the config says."""
    media = loaded.config.media
    return KernelPorts(media.listen, media.ports.first, media.ports.last, media.max_calls, host_v6=media.listen_v6)


def _chance() -> float:
    return secrets.randbits(32) / 2**32


def _bits(count: int) -> int:
    return secrets.randbits(count)


def silero(loaded: Loaded, kind: type[Judge] = ThreadJudge) -> Judge | None:
    """The second speech detector, where the config asks for it."""
    media = loaded.config.media
    return kind(States(media.max_calls, load_silero())) if media.speech_detector == "silero" else None


class NodeService(Service):
    """One node: everything that one process serves.

    :param reactor: a reactor; its clock is made monotonic when the service starts.
    :param make_ports: the datagram ports of the media tick; memory in tests.
    :param make_judge: the second speech detector, or None.
    :param in_thread: does the file work of recordings; None has a thread for it.
    :param wall_clock: seconds since 1970.
    :ivar edge, plane, switchboard, recordings: the running parts, to look at; None until the service starts.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        loaded: Loaded,
        *,
        make_ports: Callable[[Loaded], DatagramPorts] = kernel_ports,
        make_judge: Callable[[Loaded], Judge | None] = silero,
        in_thread: InThread | None = None,
        is_alone: bool = True,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self.name = "agentstream"
        self._reactor = reactor
        self._loaded = loaded
        self._make_ports = make_ports
        self._make_judge = make_judge
        self._judge: Judge | None = None
        self._in_thread = in_thread
        self._files: InThread
        self._threads: ThreadPool | None = None
        self._is_alone = is_alone
        self._wall_clock = wall_clock
        self._drain_timer: IDelayedCall | None = None
        self._is_hanging_up = False
        self._bot: Any = None
        self._http: Any = None
        self._trace: SipTrace | None = None
        self._counts = CallCounts()
        self._metrics: NodeMetrics
        self._reads = Reads(reactor)
        self._collector: SlackCollector | None = None
        self.edge: SipEdge
        self.plane: MediaPlane
        self.phones: Phones | None = None
        self.switchboard: Switchboard
        self.dialer: Dialer
        self.registrations: Registrations
        self.trunk_watch: TrunkWatch
        self.recordings: Recordings

    # Start

    def startService(self) -> None:
        """Build and bind everything; a StartError becomes one sentence on standard error and exit status 1."""
        try:
            self._start()
        except StartError as error:
            if not self._is_alone:
                raise
            self.log.critical("cannot start: {sentence}", sentence=str(error))
            raise SystemExit(f"agentstream: {error}") from None
        Service.startService(self)

    def _start(self) -> None:
        reactor, loaded = self._reactor, self._loaded
        config = loaded.config
        if self._is_alone:
            # The wall clock may step; a 20 ms tick that it drives would stop for as long.
            reactor.seconds = time.monotonic
            self._collector = SlackCollector(reactor.seconds)
        trace = self._open_trace()
        prompts = Prompts()
        for file in loaded.sounds:
            try:
                prompts.load(file, RATE_HZ)
            except AgentstreamError as error:
                raise StartError(str(error)) from None
        media = config.media
        settings = MediaSettings(
            rows=media.max_calls,
            playout_ms=media.playout_ms,
            playout_min_ms=media.playout_min_ms,
            playout_max_ms=media.playout_max_ms,
            playback_ms=media.playback_s * 1000,
            playback_memory=media.playback_memory_mb * MEBIBYTE,
            codecs=media.codecs,
            inband_dtmf=media.inband_dtmf,
            speech=ActivitySettings(
                minimum_dbov=media.speech_level_dbov,
                above_noise_db=media.speech_above_noise_db,
                start_ms=media.speech_start_ms,
                hangover_ms=media.speech_stop_ms,
            ),
            silence_event_s=media.silence_event_s,
            rtp_timeout_s=media.rtp_timeout_s,
        )
        judge = self._judge = self._make_judge(loaded)
        ports = self._make_ports(loaded)
        self.plane = MediaPlane(reactor, ports, settings, _bits, self._collector, self._wall_clock, judge)
        in_thread = self._files = self._in_thread or self._start_thread(reactor)
        self.recordings = Recordings(lambda: self._loaded.config.recording, in_thread)
        self.plane.tapes.on_sound = self.recordings.take
        self.edge = SipEdge(
            reactor,
            config.sip.listen,
            on_event=self._handle,
            advertise=config.sip.advertise,
            advertise_v6=config.sip.advertise_v6,
            why_full=lambda: self.switchboard.why_full(),
            tls=TlsFiles(**attrs.asdict(config.tls)),
            limits=ConnectionLimits(all=config.sip.max_connections, per_host=config.sip.max_connections_per_host),
            intervals=Intervals(config.sip.session_expires_s, config.sip.min_session_expires_s),
            trace=trace,
            gate=make_gate(lambda: self._loaded.config, new_token, lambda host: self.edge.is_in_use(host)),
        )
        self.registrations = Registrations(self.edge, new_token, _chance)
        self.trunk_watch = TrunkWatch(self.edge, _chance)
        self.switchboard = Switchboard(
            reactor,
            loaded,
            self.edge,
            self.plane,
            StreamOpener(reactor, lambda: self._loaded.config, self._new_sid, reads=self._reads),
            self.recordings,
            prompts,
            self._new_sid,
            _bits,
        )
        self.dialer = Dialer(
            reactor,
            lambda: self._loaded.config,
            self.edge,
            self.plane,
            self.switchboard.streams,
            self.recordings,
            self.switchboard.admission,
            self.switchboard.legs,
            self._bindings,
            new_token,
            _bits,
        )
        self.switchboard.connector = connector_of(self.dialer)
        self.switchboard.moves = Moves(self.dialer)
        try:
            self._try_media_port(ports)
            self._serve_phones()
            if loaded.file == SAMPLE:
                self._start_bot()
            self._listen_http()
            self.edge.start()
        except StartError:
            ports.stop()
            self._stop_thread()
            if self._trace is not None:
                self._trace.close()
            if self._http is not None:
                self._http.stopListening()
            if self._bot is not None:
                self._bot.stopService()
            raise
        self.switchboard.observers.append(self._counts.observe)
        if judge is not None:
            judge.start()
        self.plane.tick_begins = self._reads.tick_begins
        self.plane.tick_follows = self._reads.tick_follows
        self.plane.start()
        self.recordings.finish_leftovers()
        self._tell_start()
        self.registrations.update(config)
        self.trunk_watch.update(config)
        if self._is_alone:
            self._take_signals()
        if self._collector is not None:
            self._collector.start()

    def _bindings(self, user: str) -> Sequence[Binding]:
        return () if self.phones is None else self.phones.bindings(user)

    def _handle(self, event: Event) -> None:
        if isinstance(event, RegistrationChanged):
            self.registrations.changed(event)
        elif isinstance(event, ServerChanged):
            self.trunk_watch.changed(event)
        elif isinstance(event, ContactChanged):
            assert self.phones is not None
            self.phones.checked(event)
        elif isinstance(event, BindingsChanged):
            assert self.phones is not None
            self.phones.changed(event)
        else:
            self.switchboard.handle(event)

    def _serve_phones(self) -> None:
        """Be a registrar where the config has phones; StartError where what was registered before cannot be read."""
        if self._loaded.config.phone and self.phones is None:
            phones = Phones(self._reactor, self.edge, lambda: self._loaded.config, self._files, self._wall_clock)
            phones.start()
            self.phones = phones

    def _try_media_port(self, ports: DatagramPorts) -> None:
        """An address that cannot be bound shows at start and not with the first call."""
        media = self._loaded.config.media
        for host in filter(None, (media.listen, media.listen_v6)):
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            if isinstance(ports, KernelPorts):
                with socket.socket(family, socket.SOCK_DGRAM) as probe:
                    try:
                        probe.bind((host, 0))
                    except OSError as error:
                        raise StartError(
                            f"RTP cannot be bound on {host} ({error.strerror}): set [media] listen to an address of"
                            " this machine"
                        ) from None

    def _open_trace(self) -> SipTrace | None:
        """The file of SIP messages, where the config asks for one."""
        sip = self._loaded.config.sip
        if sip.trace:
            self._trace = SipTrace(sip.trace_file, sip.trace_mb * MEBIBYTE, self._wall_clock)
        return self._trace

    def _listen_http(self) -> None:
        """Metrics and health, where [http] wants them."""
        text, reactor = self._loaded.config.http.listen, self._reactor
        if not text:
            return
        self._metrics = NodeMetrics(
            self._node_name,
            self.plane,
            self.edge,
            self.switchboard,
            self.registrations,
            self.trunk_watch,
            lambda: self.phones,
            self.recordings,
            self._counts,
            self._collector,
            self._judge,
        )
        listener = Listener.parse(text)
        try:
            site = node_site(reactor, self._metrics, self._why_unhealthy, self._why_not_ready)
            self._http = reactor.listenTCP(listener.port, site, interface=listener.interface)
        except CannotListenError as error:
            why = getattr(error.socketError, "strerror", None) or error.socketError
            raise StartError(f"HTTP cannot be served on {text} ({why}): set [http] listen to a free port") from None

    def _why_unhealthy(self) -> str:
        return "" if self.plane.is_running else "the media tick has stopped"

    def _why_not_ready(self) -> str:
        if self.edge.is_draining:
            return "the node drains"
        return "the media tick runs late" if self.plane.is_overloaded else self._why_unhealthy()

    def _start_thread(self, reactor: Any) -> InThread:
        """One thread for files: its calls hold no GIL, and they are done in the order in which they are asked for."""
        self._threads = threads = ThreadPool(0, 1, "files")
        threads.start()
        return lambda work: deferToThreadPool(reactor, threads, work)

    def _stop_thread(self) -> None:
        if self._threads is not None:
            threads, self._threads = self._threads, None
            threads.stop()

    def _start_bot(self) -> None:
        """The sample answers with a bot of its own."""
        bot = echo_bot_service(DEFAULT_LISTEN, reactor=self._reactor)
        failures: list[Any] = []
        bot.bind().addErrback(failures.append)
        for failure in failures:
            failure.trap(StartError)
            raise StartError(failure.getErrorMessage())
        bot.startService()
        self._bot = bot

    def _tell_start(self) -> None:
        config = self._loaded.config
        if not nvx_in_use():
            self.log.warn("{sentence}", sentence=NO_NVX)
        for warning in self._loaded.warnings:
            self.log.warn("{warning}", warning=str(warning))
        where = ", ".join(f"{at.transport}:{format_host(at.host)}:{at.port}" for at in self.edge.listeners)
        numbers = ", ".join(route.to for route in config.route) or "none"
        self.log.info(
            "agentstream {node} is ready: SIP on {where}; numbers {numbers}; at most {calls} calls",
            node=self._node_name,
            where=where,
            numbers=numbers,
            calls=config.media.max_calls,
            kind="node_started",
            at=self._reactor.seconds(),
            fields={
                "sip": [f"{format_host(at.host)}:{at.port}" for at in self.edge.listeners],
                "flows": sorted(self._loaded.flows),
            },
        )

    @property
    def _node_name(self) -> str:
        return self._loaded.config.node.name or socket.gethostname()

    @staticmethod
    def _new_sid() -> str:
        return new_sid(secrets.token_hex, datetime.datetime.now(datetime.UTC).date())

    # Reload and stop

    def _take_signals(self) -> None:
        if hasattr(signal, "SIGHUP"):
            signal.signal(signal.SIGHUP, lambda number, frame: self._reactor.callFromThread(self.reload))

    def reload(self) -> None:
        """Read the config again for the calls to come; live calls keep the flow they began with.

        What was bound or built at the start stays (:mod:`agentstream.config.fixed`). A file with mistakes changes
        nothing.
        """
        try:
            loaded = load(self._loaded.file)
        except ConfigError as error:
            self.log.error("the config was not reloaded: {problems}", problems=str(error))
            return
        known = self._loaded.warnings
        config, vain = keep_fixed(self._loaded.config, loaded.config, has_registrar=self.phones is not None)
        for what in vain:
            self.log.warn("{what} has changed, which takes effect at the next start", what=what)
        loaded = attrs.evolve(loaded, config=config)
        self._loaded = self.switchboard.loaded = loaded
        self.registrations.update(loaded.config)
        self.trunk_watch.update(loaded.config)
        self.switchboard.prompts.forget()
        self.edge.refresh_tls()
        try:
            self._serve_phones()
        except StartError as error:
            self.log.error("phones cannot register: {sentence}", sentence=str(error))
        for warning in loaded.warnings:
            if warning not in known:
                self.log.warn("{warning}", warning=str(warning))
        self.log.info("the config was reloaded", kind="config_reloaded", at=self._reactor.seconds(), fields={})
        gc.freeze()

    @inlineCallbacks
    def stopService(self) -> Any:
        """Drain, then close. Fires when everything is closed."""
        Service.stopService(self)
        self.edge.is_draining = True
        if self.switchboard.calls:
            yield self._drain()
        yield self._close()

    def _drain(self) -> Deferred[None]:
        calls, seconds = len(self.switchboard.calls), self._loaded.config.node.drain_s
        self._drain_timer = self._reactor.callLater(seconds, self._hang_up, "the node stopped")
        if self._is_alone:
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, self._second_signal)
        # Only now, because whoever reads this may send that signal at once.
        self.log.info(
            "draining: {calls} calls are up; they have {seconds} s, a second signal hangs up now",
            calls=calls,
            seconds=seconds,
        )
        return self.switchboard.emptied()

    def _second_signal(self, number: int, frame: FrameType | None) -> None:
        self._reactor.callFromThread(self._hang_up, "the node was stopped at once")

    def _hang_up(self, reason: str) -> None:
        if not self._is_hanging_up:
            self._is_hanging_up = True
            self.switchboard.hang_up_all(reason)

    @inlineCallbacks
    def _close(self) -> Any:
        if self._drain_timer is not None and self._drain_timer.active():
            self._drain_timer.cancel()
        self.trunk_watch.stop()
        self.registrations.stop()
        # BYEs of ours may still be under way, or want to be repeated.
        settled = self.edge.settled().addTimeout(HANG_UP_S, self._reactor)
        yield settled.addErrback(lambda failure: failure.trap(TimeoutError) and None)
        self._tell_end()
        if self._http is not None:
            yield self._http.stopListening()
        if self.phones is not None:
            yield self.phones.stop()
        yield self.recordings.close()
        self.plane.stop()
        self._reads.stop()
        if self._judge is not None:
            self._judge.stop()
        self._stop_thread()
        if self._bot is not None:
            yield self._bot.stopService()
        yield self.edge.stop()
        if self._trace is not None:
            self._trace.close()
        if self._collector is not None:
            self._collector.stop()

    def _tell_end(self) -> None:
        plane = self.plane
        fields = {
            "ticks": plane.tick_duration.count,
            "tick_p50_ms": plane.tick_duration.percentile_ms(50),
            "tick_p99_ms": plane.tick_duration.percentile_ms(99),
            "tick_most_ms": round(plane.tick_duration.most_s * 1000, 1),
            "lateness_p99_ms": plane.tick_lateness.percentile_ms(99),
            "lateness_most_ms": round(plane.tick_lateness.most_s * 1000, 1),
            "late_slots": plane.late_slots,
            "skipped_slots": plane.skipped_slots,
        }
        if self._judge is not None:
            fields["speech_windows"] = self._judge.windows
            fields["speech_windows_dropped"] = self._judge.dropped
            fields["speech_cpu_s"] = round(self._judge.cpu_s, 3)
            fields["speech_alone_s"] = plane.speech_alone_s
        if self._collector is not None:
            fields["gc_p99_ms"] = self._collector.pauses.percentile_ms(99)
            fields["gc_most_ms"] = round(self._collector.pauses.most_s * 1000, 1)
        self.log.info(
            "media has ended: a tick took {p99} ms (p99) and was {late} ms late (p99)",
            p99=fields["tick_p99_ms"],
            late=fields["lateness_p99_ms"],
            kind="media_ended",
            at=self._reactor.seconds(),
            fields=fields,
        )
