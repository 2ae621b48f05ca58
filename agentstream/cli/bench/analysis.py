"""What the load and the sink noted, turned into figures.

Pure: arrays in, numbers out; the tests feed arrays made by hand. Every figure counts what was seen at a socket: frame
numbers inside the audio, and the kernel's times of arrival.
"""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np
import numpy.typing as npt

from agentstream.cli.bench.frames import BURST_FRAMES, PROBE_CALL, read_codes

Records = npt.NDArray[Any]
Keys = npt.NDArray[np.int64]

_NS_PER_MS = 1e6
_NS_PER_SAMPLE = 125_000  # at 8 kHz


@attrs.frozen
class Load:
    """What the callers noted (agentstream.cli.bench.load): ``sent`` numbered frames, ``received`` packets."""

    sent: Records
    received: Records


@attrs.frozen
class Sink:
    """What the bot noted (agentstream.cli.bench.sink)."""

    messages: Records
    codes: npt.NDArray[np.uint8]
    bursts: Records


@attrs.frozen
class Figures:
    """What one run showed; times in milliseconds, nan where nothing was there to measure."""

    frames_sent: int
    frames_lost_to_bot: int
    frames_lost_to_caller: int
    frames_foreign: int
    bursts: int
    bot_to_rtp_ms: npt.NDArray[np.float64]
    rtp_to_bot_ms: npt.NDArray[np.float64]
    round_trip_ms: npt.NDArray[np.float64]
    egress_ms: npt.NDArray[np.float64]

    @property
    def frames_lost(self) -> int:
        """Frames that one side sent and the other never got, both ways, with the bursts of the probes."""
        return self.frames_lost_to_bot + self.frames_lost_to_caller


def percentile(values_ms: npt.NDArray[np.float64], percent: float) -> float:
    """The percentile of measured values; nan of none."""
    return float(np.percentile(values_ms, percent)) if len(values_ms) else float("nan")


def _keys(calls: npt.NDArray[Any], numbers: npt.NDArray[Any]) -> Keys:
    return (calls.astype(np.int64) << 24) | numbers.astype(np.int64)


def _first_times(keys: Keys, at_ns: npt.NDArray[Any]) -> tuple[Keys, npt.NDArray[np.int64]]:
    """Each key once, growing, and the earliest time that it was seen."""
    order = np.lexsort((at_ns, keys))
    unique, first = np.unique(keys[order], return_index=True)
    return unique, at_ns[order][first].astype(np.int64)


def _delays_ms(
    began: tuple[Keys, npt.NDArray[np.int64]], ended: tuple[Keys, npt.NDArray[np.int64]]
) -> npt.NDArray[np.float64]:
    """From the time of a key in the one to its time in the other, for the keys that both have."""
    _, one, other = np.intersect1d(began[0], ended[0], assume_unique=True, return_indices=True)
    return (ended[1][other] - began[1][one]) / _NS_PER_MS


def _message_ends(sink: Sink, is_code: npt.NDArray[np.bool_], keys: Keys) -> tuple[Keys, npt.NDArray[np.int64]]:
    """The frame that holds each message's last sample, and when the message came in.

    That is the frame whose code is in one of the message's last two blocks of 10 ms.
    """
    blocks = sink.messages["blocks"].astype(np.int64)
    last = np.cumsum(blocks) - 1
    at_ns = sink.messages["at_ns"]
    found_keys, found_times = [], []
    for back in (0, 1):
        usable = np.flatnonzero(blocks > back)
        place = last[usable] - back
        usable, place = usable[is_code[place]], place[is_code[place]]
        found_keys.append(keys[place])
        found_times.append(at_ns[usable])
    return _first_times(np.concatenate(found_keys), np.concatenate(found_times))


def _egress_ms(received: Records) -> npt.NDArray[np.float64]:
    """How far each packet came in from its call's 20 ms grid, which is laid where it fits best (the median)."""
    deviations = []
    for call in np.unique(received["call"]):
        mine = received[received["call"] == call]
        elapsed = np.diff(mine["timestamp"].astype(np.uint32), prepend=mine["timestamp"][:1]).astype(np.int32)
        late_ns = mine["at_ns"] - np.cumsum(elapsed.astype(np.int64)) * _NS_PER_SAMPLE
        deviations.append(np.abs(late_ns - np.median(late_ns)) / _NS_PER_MS)
    return np.concatenate(deviations) if deviations else np.empty(0)


def analyse(load: Load, sink: Sink, window_ns: tuple[int, int]) -> Figures:
    """All figures of one run.

    :param window_ns: monotonic begin and end of the steady time, in which egress is measured.
    """
    sent = _first_times(_keys(load.sent["call"], load.sent["frame"]), load.sent["at_ns"])

    is_code, calls, numbers = read_codes(sink.codes)
    sink_keys = _keys(calls, numbers)
    at_sink = np.unique(sink_keys[is_code])

    fields = load.received["codes"].reshape(-1, 8)
    is_heard, heard_calls, heard_numbers = read_codes(fields)
    heard_at = np.repeat(load.received["at_ns"], 2)[is_heard]
    heard_by = np.repeat(load.received["call"], 2)[is_heard]
    heard_calls = heard_calls[is_heard]
    heard = _first_times(_keys(heard_calls, heard_numbers[is_heard]), heard_at)
    is_foreign = (heard_calls < PROBE_CALL) & (heard_calls != heard_by)

    burst_keys = _keys(sink.bursts["call"], sink.bursts["frame"])
    burst_frames = np.unique((burst_keys[:, None] + np.arange(BURST_FRAMES)).ravel())
    spoken = np.union1d(np.intersect1d(at_sink, sent[0]), burst_frames)
    in_window = (load.received["at_ns"] >= window_ns[0]) & (load.received["at_ns"] < window_ns[1])
    return Figures(
        frames_sent=len(sent[0]),
        frames_lost_to_bot=len(np.setdiff1d(sent[0], at_sink, assume_unique=True)),
        frames_lost_to_caller=len(np.setdiff1d(spoken, heard[0], assume_unique=True)),
        frames_foreign=int(np.count_nonzero(is_foreign)),
        bursts=len(burst_keys),
        bot_to_rtp_ms=_delays_ms(_first_times(burst_keys, sink.bursts["at_ns"]), heard),
        rtp_to_bot_ms=_delays_ms(sent, _message_ends(sink, is_code, sink_keys)),
        round_trip_ms=_delays_ms(sent, heard),
        egress_ms=_egress_ms(load.received[in_window]),
    )
