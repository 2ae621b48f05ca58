"""The node's metrics for Prometheus: read where they are counted, when somebody asks, and kept nowhere twice."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from agentstream import __version__
from agentstream.flow.phones import Phones
from agentstream.flow.recordings import Recordings
from agentstream.flow.registrations import Registrations
from agentstream.flow.switchboard import Switchboard
from agentstream.flow.trunk_watch import TrunkWatch
from agentstream.media.chunk_waits import EDGES_S as CHUNK_EDGES_S
from agentstream.media.delay import BINS, LATE_BINS
from agentstream.media.leg import MediaLeg
from agentstream.media.measure import SPREAD_EDGES_S, LegStatistics, LegTotals, TimeHistogram
from agentstream.media.plane import MediaPlane
from agentstream.media.silero import Judge
from agentstream.media.slack import SlackCollector
from agentstream.net.edge import SipEdge
from agentstream.web.counts import STREAM_COUNTERS, CallCounts

EDGES_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.2)
"""Upper edges of the histograms of the tick."""

WAIT_EDGES_S = (0.0, 0.01, 0.02, 0.03, 0.04, 0.06, 0.08, 0.1, 0.15, 0.2, 0.3, 0.4)

SLICE = 20
"""Legs that are looked at in one go: some hundred microseconds."""

RTP_DOCS = {
    "received": "RTP packets from the sources that are heard.",
    "lost": "Sequence numbers that never came.",
    "misplaced": "Packets whose sequence numbers fitted nowhere.",
    "late": "Packets that came behind their time.",
    "duplicate": "Packets that came twice.",
    "foreign": "Packets from sources that are not heard.",
    "discarded": "Packets of floods, thrown away unread.",
    "sent": "RTP packets sent.",
    "send_errors": "RTP packets that the kernel refused.",
    "underruns": "Times that a bot's sound ran dry within an utterance.",
}
STREAM_DOCS = {
    "media_sent": "Media messages written to bots.",
    "media_dropped": "Media messages that slow bots never got.",
    "dropped_ms": "Their sound in milliseconds.",
    "media_received": "Media messages of bots.",
    "small_received": "Those that are smaller than the documentation asks for.",
    "uneven_received": "Those that are no multiple of 320 bytes.",
    "bytes_received": "Bytes of sound in them, as 16-bit samples.",
    "marks_received": "Marks that bots asked for.",
    "clears_received": "Times that bots took back what was not played.",
    "ignored": "Messages of bots that change nothing.",
    "invalid": "Messages of bots that are none.",
    "binary": "Binary messages of bots.",
}


@attrs.define
class Gathered:
    """What the legs add up to at one moment.

    :ivar totals: of the legs that are over and of those that are up.
    :ivar waits: packets by the blocks of 10 ms that they had to spare.
    :ivar playout_s: the delays of those that are up.
    """

    totals: LegTotals
    waits: npt.NDArray[np.int64]
    playout_s: list[float] = attrs.Factory(list)

    def add(self, one: LegStatistics) -> None:
        """A leg that is up."""
        self.totals.add(attrs.asdict(one))
        self.playout_s.append(one.playout_ms / 1000)


@attrs.frozen
class NodeMetrics:
    """Everything that can be counted of one node; a collector in the sense of prometheus-client."""

    node: str
    plane: MediaPlane
    edge: SipEdge
    switchboard: Switchboard
    registrations: Registrations
    trunk_watch: TrunkWatch
    phones: Callable[[], Phones | None]
    recordings: Recordings
    counts: CallCounts
    collector: SlackCollector | None = None
    judge: Judge | None = None

    def gather(self) -> Iterator[Gathered | None]:
        """Look at the legs slice by slice, so that no tick waits for it; the last one that comes is the result."""
        gathered = Gathered(self.plane.ended.copy(), self.plane.all_waits())
        legs: list[MediaLeg] = self.plane.open_legs
        for at in range(0, len(legs), SLICE):
            for leg in legs[at : at + SLICE]:
                gathered.add(leg.statistics())
            yield None
        yield gathered

    def exposition(self, gathered: Gathered) -> bytes:
        """The page, in the text format of Prometheus."""
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Once(lambda: self._families(gathered)))
        page: bytes = generate_latest(registry)
        return page

    def _families(self, gathered: Gathered) -> Iterator[Metric]:
        yield from self._tick()
        yield from self._rtp(gathered)
        yield from self._speech()
        yield from self._calls()
        yield from self._sip()
        yield from self._streams()

    def _counter(self, name: str, doc: str, values: Iterable[tuple[tuple[str, ...], float]], *labels: str) -> Metric:
        family = CounterMetricFamily(f"agentstream_{name}", doc, labels=("node", *labels))
        for label_values, value in values:
            family.add_metric((self.node, *label_values), value)
        return family

    def _count(self, name: str, doc: str, value: float) -> Metric:
        return self._counter(name, doc, [((), value)])

    def _gauge(self, name: str, doc: str, value: float) -> Metric:
        family = GaugeMetricFamily(f"agentstream_{name}", doc, labels=("node",))
        family.add_metric((self.node,), value)
        return family

    def _histogram(self, name: str, doc: str, times: TimeHistogram) -> Metric:
        family = HistogramMetricFamily(f"agentstream_{name}", doc, labels=("node",))
        edges: list[tuple[str, float]] = [
            (str(edge), count) for edge, count in zip(EDGES_S, times.buckets(EDGES_S), strict=True)
        ]
        family.add_metric((self.node,), [*edges, ("+Inf", times.count)], times.sum_s)
        return family

    def _tick(self) -> Iterator[Metric]:
        plane = self.plane
        info = GaugeMetricFamily("agentstream_info", "Always 1.", labels=("node", "version"))
        info.add_metric((self.node, __version__), 1)
        yield info
        yield self._histogram("tick_duration_seconds", "How long a media tick took.", plane.tick_duration)
        yield self._histogram("tick_lateness_seconds", "How late a media tick began.", plane.tick_lateness)
        yield self._count("tick_slots_late", "Slots of 20 ms that passed before their tick.", plane.late_slots)
        yield self._count("tick_slots_skipped", "Slots in which nothing could be sent.", plane.skipped_slots)
        if self.collector is not None:
            yield self._histogram("gc_pause_seconds", "How long garbage collections took.", self.collector.pauses)
        yield self._gauge("overloaded", "1 while the tick runs late and new calls are refused.", plane.is_overloaded)
        yield self._gauge("playback_bytes", "Sound of bots that waits to be played.", plane.budget.used)

    def _rtp(self, gathered: Gathered) -> Iterator[Metric]:
        counts = gathered.totals.counts
        for name, doc in RTP_DOCS.items():
            yield self._count(f"rtp_{name}", doc, counts[name])
        yield self._count("rtp_concealed_seconds", "Lost sound that was made up.", counts["concealed_ms"] / 1000)
        reasons = [((reason,), float(count)) for reason, count in sorted(gathered.totals.refused.items())]
        yield self._counter("rtp_refused", "Packets that were not heard, by reason.", reasons, "reason")
        yield self._waits(gathered.waits)
        yield self._chunk_waits()
        delays = gathered.playout_s or [0.0]
        yield self._gauge(
            "playout_delay_median_seconds", "Delay of the jitter buffers now, median.", statistics.median(delays)
        )
        yield self._gauge("playout_delay_most_seconds", "Delay of the jitter buffers now, longest.", max(delays))

    def _waits(self, waits: npt.NDArray[np.int64]) -> Metric:
        """In bins of 10 ms; what came too late waited for nothing."""
        blocks = np.maximum(np.arange(BINS) - LATE_BINS, 0)
        edges = [(str(edge), float(waits[blocks <= round(edge * 100)].sum())) for edge in WAIT_EDGES_S]
        family = HistogramMetricFamily(
            "agentstream_playout_wait_seconds",
            "How long RTP packets waited for their turn, from the tick that read them.",
            labels=("node",),
        )
        family.add_metric((self.node,), [*edges, ("+Inf", float(waits.sum()))], float((waits * blocks).sum()) / 100)
        return family

    def _speech(self) -> Iterator[Metric]:
        windows, dropped, cpu_s = (
            (0, 0, 0.0) if self.judge is None else (self.judge.windows, self.judge.dropped, self.judge.cpu_s)
        )
        yield self._count("speech_windows", "Windows of 32 ms that the neural detector judged.", windows)
        yield self._count("speech_windows_dropped", "Windows that it was too late for, or failed at.", dropped)
        yield self._count("speech_cpu_seconds", "CPU time of the neural detector.", cpu_s)
        yield self._count(
            "speech_alone_seconds", "Loud sound that energy judged alone meanwhile.", self.plane.speech_alone_s
        )

    def _chunk_waits(self) -> Metric:
        counts, sum_s = self.plane.all_chunk_waits()
        totals = np.cumsum(counts)
        family = HistogramMetricFamily(
            "agentstream_caller_to_bot_seconds",
            "From the tick that read the packet with a chunk's last sample until the chunk was written.",
            labels=("node",),
        )
        edges = [(str(edge), float(total)) for edge, total in zip(CHUNK_EDGES_S, totals, strict=True)]
        family.add_metric((self.node,), [*edges, ("+Inf", float(totals[-1]))], sum_s)
        return family

    def _calls(self) -> Iterator[Metric]:
        counts, switchboard, files = self.counts, self.switchboard, self.recordings
        yield self._gauge("calls", "Calls that are up.", len(switchboard.calls))
        yield self._gauge("legs", "Legs with media that are up.", self.plane.legs)
        yield self._gauge("calls_out", "Calls of ours that are up, or ring.", switchboard.admission.outgoing)
        yield self._gauge("draining", "1 while the node drains.", self.edge.is_draining)
        yield self._count("calls_started", "Calls that began.", counts.started)
        ended = [((by,), float(count)) for by, count in sorted(counts.ended.items())]
        yield self._counter("calls_ended", "Calls that are over, by who ended them.", ended, "by")
        refused = [((str(status),), float(count)) for status, count in sorted(switchboard.refused.items())]
        yield self._counter("calls_refused", "Calls that were refused, by SIP status.", refused, "status")
        reasons = [((reason,), float(count)) for reason, count in sorted(switchboard.refused_for.items())]
        yield self._counter("calls_turned_away", "The same, by why.", reasons, "reason")
        yield self._count("steps_failed", "Steps whose applet broke.", counts.steps_failed)
        yield self._gauge("recordings", "Recordings that run.", files.running)
        yield self._gauge("recording_waiting_bytes", "Sound that waits for the disk.", files.waiting_bytes)
        yield self._count("recordings_started", "Recordings that began.", files.started)
        yield self._count("recordings_failed", "Recordings that a disk or a format ended.", files.failed)

    def _sip(self) -> Iterator[Metric]:
        kinds: dict[tuple[str, str], list[tuple[tuple[str, ...], float]]] = {
            ("requests", "received"): [],
            ("requests", "sent"): [],
            ("responses", "received"): [],
            ("responses", "sent"): [],
        }
        others: Counter[str] = Counter()
        refused: list[tuple[tuple[str, ...], float]] = []
        for name, count in sorted(self.edge.stack.counters.items()):
            direction, *what = name.split(" ")
            if direction == "refused":
                refused.append((tuple(what), count))
            elif direction in ("received", "sent"):
                kinds["responses" if len(what) == 2 else "requests", direction].append((tuple(what), count))
            else:
                others[name] = count
        for (kind, direction), values in kinds.items():
            labels = ("method", "status") if kind == "responses" else ("method",)
            shown = " and ".join(labels)
            yield self._counter(f"sip_{kind}_{direction}", f"SIP {kind} {direction}, by {shown}.", values, *labels)
        yield self._counter("sip_refused", "SIP requests refused outside of calls, by status.", refused, "status")
        yield self._count("sip_dropped", "What came to a SIP port and is no SIP.", others["dropped"])
        yield self._count("sip_challenged", "Requests that were asked for credentials.", others["challenged"])
        yield self._count("sip_ignored", "Requests of strangers that got no answer.", others["ignored"])
        yield self._count("sip_banned", "Times that a source was ignored for a while.", others["banned"])
        yield self._count("sip_unsent", "SIP messages that the network refused.", others["send failed"])
        yield self._count("sip_unreachable", "Times that ICMP said that nobody is there by UDP.", others["icmp"])
        yield self._count("sip_keepalives", "Keep-alives (RFC 5626).", others["keepalives"])
        registered = GaugeMetricFamily(
            "agentstream_trunk_registered",
            "1 while our registration at the trunk stands.",
            labels=("node", "trunk"),
        )
        for trunk, is_registered in sorted(self.registrations.states().items()):
            registered.add_metric((self.node, trunk), is_registered)
        yield registered
        up = GaugeMetricFamily(
            "agentstream_trunk_up", "1 while a server of the trunk answers our pings.", labels=("node", "trunk")
        )
        for trunk, is_up in sorted(self.trunk_watch.states().items()):
            up.add_metric((self.node, trunk), is_up)
        yield up
        phones = self.phones()
        registrar = None if phones is None else phones.registrar
        users, bindings, silent = (
            (0, 0, 0) if registrar is None else (registrar.users, len(registrar), registrar.silent)
        )
        yield self._gauge("phones", "Phones that are registered.", users)
        yield self._gauge("phone_contacts", "Their contacts.", bindings)
        yield self._gauge("phone_contacts_silent", "Those that leave our pings unanswered.", silent)
        yield self._count("sip_pings", "Pings that keep the way to phones open.", others["pings"])
        stack = self.edge.stack
        yield self._gauge("sip_dialogs", "SIP dialogs that are up.", len(stack.dialogs))
        transactions = len(stack.servers) + len(stack.clients)
        yield self._gauge(
            "sip_transactions", "SIP transactions, with those that only take up repetitions.", transactions
        )

    def _streams(self) -> Iterator[Metric]:
        counts = self.counts
        ended = sum(counts.streams_ended.values())
        yield self._gauge("streams", "Streams to bots that are up.", max(0, counts.streams_started - ended))
        yield self._count("streams_started", "Streams that were connected.", counts.streams_started)
        yield self._count("streams_failed", "Bots that were not reached.", counts.streams_failed)
        by_end = [((str(is_clean).lower(),), float(count)) for is_clean, count in sorted(counts.streams_ended.items())]
        yield self._counter("streams_ended", "Streams that are over, by whether they ended cleanly.", by_end, "clean")
        ledger = self.switchboard.streams.ledger
        for name, doc, spread in (
            ("bot_to_wire", "From a message of a bot with an empty queue to its first RTP packet.", ledger.to_wire),
            ("bot_queue", "What was queued already when a message of a bot came.", ledger.queued),
        ):
            family = HistogramMetricFamily(f"agentstream_{name}_seconds", doc, labels=("node",))
            buckets = [(str(edge), float(count)) for edge, count in zip(SPREAD_EDGES_S, spread.buckets(), strict=True)]
            family.add_metric((self.node,), [*buckets, ("+Inf", float(spread.count))], spread.sum_s)
            yield family
        for name in STREAM_COUNTERS:
            doc = f"{STREAM_DOCS[name]} Of streams that are over."
            yield self._count(f"stream_{name}", doc, counts.passed[name])


@attrs.frozen
class _Once:
    """A collector of one scrape."""

    families: Callable[[], Iterator[Metric]]

    def collect(self) -> Iterable[Any]:
        return self.families()
