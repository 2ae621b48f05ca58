"""What the load and the sink noted, turned into figures.

Pure: arrays in, numbers out; the tests feed arrays made by hand. Every figure counts what was seen at a socket: frame
numbers inside the audio, and the kernel's times of arrival. Notes may be mapped files of many gigabytes: they are read
a piece at a time, and what is kept is one time a frame.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt

from agentstream.cli.bench.frames import (
    BURST_FRAMES,
    MAX_CALLS,
    PROBE_CALL,
    UTTERANCE_FRAMES,
    codes_of_samples,
    read_codes,
)

Records = npt.NDArray[Any]
Times = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_NS_PER_MS = 1e6
_NS_PER_SAMPLE = 125_000  # at 8 kHz
_NS_PER_FRAME = 20_000_000
_PIECE = 200_000
FAIR_MS = 30.0
"""With the receiving tick's 20 ms and some jitter, what a playout delay of 60 ms holds out against."""

_NEVER = np.iinfo(np.int64).max
_SILENCE = 0xFF  # of mu-law


@attrs.frozen
class Load:
    """What the callers noted (agentstream.cli.bench.callers).

    :ivar sent: numbered frames. :ivar received: packets.
    :ivar codes: uint8 (packets, 2, 8): what was read from tones in their stead; None: the codes are in the packets.
    """

    sent: Records
    received: Records
    codes: npt.NDArray[np.uint8] | None = None


@attrs.frozen
class Sink:
    """What the bot noted (agentstream.cli.bench.sink).

    :ivar codes: (blocks, 8): codes as uint8, or the samples they were read from as int16.
    """

    messages: Records
    codes: npt.NDArray[Any]


@attrs.frozen
class Steady:
    """What a time in which all bots echo showed; times in milliseconds.

    :ivar frames_sent_late: frames that never reached the bot and that their caller had sent more than FAIR_MS behind
        its grid: this machine's doing, so they are not among the lost ones.
    :ivar lost_at_s: when each frame that was lost was sent, seconds from the first one on.
    """

    frames_sent: int
    frames_lost_to_bot: int
    frames_lost_to_caller: int
    frames_foreign: int
    rtp_to_bot_ms: Floats
    round_trip_ms: Floats
    egress_ms: Floats
    frames_sent_late: int = 0
    lost_at_s: Floats = attrs.field(factory=lambda: np.empty(0))

    @property
    def frames_lost(self) -> int:
        """Frames that one side sent and the other never got, both ways."""
        return self.frames_lost_to_bot + self.frames_lost_to_caller


@attrs.frozen
class Probes:
    """What bots that speak in bursts, and clear, showed; milliseconds."""

    bursts: int
    frames_lost: int
    bot_to_rtp_ms: Floats
    clears: int
    clear_to_silence_ms: Floats


def percentile(values_ms: Floats, percent: float) -> float:
    """The percentile of measured values; nan of none."""
    return float(np.percentile(values_ms, percent)) if len(values_ms) else float("nan")


class _FirstSeen:
    """When each frame was seen first: nanoseconds (calls, frames), or never.

    :param base: the number of the first frame that is kept.
    """

    def __init__(self, calls: int, base: int, frames: int) -> None:
        self.at_ns = np.full((calls, frames), _NEVER, np.int64)
        self._base = base

    def see(self, calls: npt.NDArray[Any], frames: npt.NDArray[Any], at_ns: npt.NDArray[Any]) -> None:
        """Frames and their times; those that are outside are nobody's."""
        rows, columns = calls.astype(np.int64), frames.astype(np.int64) - self._base
        inside = (rows < self.at_ns.shape[0]) & (columns >= 0) & (columns < self.at_ns.shape[1])
        places = rows[inside] * self.at_ns.shape[1] + columns[inside]
        np.minimum.at(self.at_ns.reshape(-1), places, at_ns[inside].astype(np.int64))


def _between_ms(began: Times, ended: Times) -> Floats:
    """From the one to the other, of frames that have both."""
    both = (began != _NEVER) & (ended != _NEVER)
    delays: Floats = (ended[both] - began[both]) / _NS_PER_MS
    return delays


def _pieces(count: int) -> Iterator[slice]:
    return (slice(first, min(first + _PIECE, count)) for first in range(0, count, _PIECE))


def _heard_codes(load: Load, piece: slice) -> npt.NDArray[np.uint8]:
    codes = load.received["codes"] if load.codes is None else load.codes
    return np.ascontiguousarray(codes[piece]).reshape(-1, 8)


def _see_messages(sink: Sink, at_bot: _FirstSeen, chunk_end: _FirstSeen) -> None:
    """Note when each frame, and each frame that holds a message's last sample, came to the bot.

    The latter is the frame whose code is in one of the message's last two blocks of 10 ms.
    """
    ends = np.cumsum(sink.messages["blocks"].astype(np.int64))
    for piece in _pieces(len(sink.messages)):
        at_ns, blocks = sink.messages["at_ns"][piece], sink.messages["blocks"][piece].astype(np.int64)
        first = int(ends[piece.start - 1]) if piece.start else 0
        codes = sink.codes[first : int(ends[piece.stop - 1])]
        if codes.dtype != np.uint8:
            codes = codes_of_samples(codes)
        is_code, calls, numbers = read_codes(codes)
        at_bot.see(calls[is_code], numbers[is_code], np.repeat(at_ns, blocks)[is_code])
        last = np.cumsum(blocks) - 1
        for back in (0, 1):
            usable = np.flatnonzero(blocks > back)
            place = last[usable] - back
            usable, place = usable[is_code[place]], place[is_code[place]]
            chunk_end.see(calls[place], numbers[place], at_ns[usable])


def _egress_ms(received: Records) -> Floats:
    """How far each packet came in from its call's 20 ms grid, which is laid where it fits best (the median)."""
    if not len(received):
        return np.empty(0)
    order = np.argsort(received["call"], kind="stable")
    edges = np.flatnonzero(np.diff(received["call"][order], prepend=-1)).tolist()
    deviations = []
    for first, end in zip(edges, [*edges[1:], len(order)], strict=True):
        mine = order[first:end]
        timestamps = received["timestamp"][mine].astype(np.uint32)
        elapsed = np.diff(timestamps, prepend=timestamps[:1]).astype(np.int32)
        late_ns = received["at_ns"][mine] - np.cumsum(elapsed.astype(np.int64)) * _NS_PER_SAMPLE
        deviations.append(np.abs(late_ns - np.median(late_ns)) / _NS_PER_MS)
    return np.concatenate(deviations)


def _sent_late(sent_ns: Times, missing: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Which of the missing frames were sent too late, against the grid that fits their call best."""
    late = np.zeros_like(missing)
    for call in np.flatnonzero(missing.any(axis=1)).tolist():
        mine = sent_ns[call]
        frames = np.flatnonzero(mine != _NEVER)
        off_ns = mine[frames] - frames * _NS_PER_FRAME
        late[call, frames] = off_ns - np.median(off_ns) > FAIR_MS * _NS_PER_MS
    late &= missing
    return late


def analyse(load: Load, sink: Sink, window_ns: tuple[int, int]) -> Steady:
    """Figures of a steady time.

    :param window_ns: monotonic begin and end of the time in which egress is measured.
    """
    numbers = load.sent["frame"]
    calls = int(load.sent["call"].max()) + 1 if len(numbers) else 0
    base = int(numbers.min()) if len(numbers) else 0
    frames = int(numbers.max()) - base + 1 if len(numbers) else 0
    sent, at_bot, chunk_end, heard = (_FirstSeen(calls, base, frames) for _ in range(4))
    sent.see(load.sent["call"], numbers, load.sent["at_ns"])
    _see_messages(sink, at_bot, chunk_end)
    foreign = 0
    for piece in _pieces(len(load.received)):
        is_code, said_by, said = read_codes(_heard_codes(load, piece))
        is_code &= said_by < PROBE_CALL
        heard_by = np.repeat(load.received["call"][piece], 2)
        foreign += int(np.count_nonzero(is_code & (said_by != heard_by)))
        heard.see(said_by[is_code], said[is_code], np.repeat(load.received["at_ns"][piece], 2)[is_code])
    was_sent, was_heard = sent.at_ns != _NEVER, heard.at_ns != _NEVER
    reached_bot = was_sent & (at_bot.at_ns != _NEVER)
    late = _sent_late(sent.at_ns, was_sent & ~reached_bot)
    lost = was_sent & ~(reached_bot & was_heard) & ~late
    at_ns = load.received["at_ns"]
    in_window = np.flatnonzero((at_ns >= window_ns[0]) & (at_ns < window_ns[1]))
    first_ns = int(sent.at_ns.min()) if lost.any() else 0
    return Steady(
        frames_sent=int(np.count_nonzero(was_sent)),
        frames_lost_to_bot=int(np.count_nonzero(was_sent & ~reached_bot & ~late)),
        frames_lost_to_caller=int(np.count_nonzero(reached_bot & ~was_heard)),
        frames_foreign=foreign,
        rtp_to_bot_ms=_between_ms(sent.at_ns, chunk_end.at_ns),
        round_trip_ms=_between_ms(sent.at_ns, heard.at_ns),
        egress_ms=_egress_ms(load.received[in_window]),
        frames_sent_late=int(np.count_nonzero(late)),
        lost_at_s=np.sort(sent.at_ns[lost] - first_ns) / 1e9,
    )


def analyse_probes(load: Load, bursts: Records, clears: Records) -> Probes:
    """Figures of bots that speak and clear: what they wrote, and what the callers heard."""
    is_code, calls, numbers = read_codes(_heard_codes(load, slice(0, len(load.received))))
    is_code &= calls >= PROBE_CALL
    most = int(max((records["frame"].max() for records in (bursts, clears) if len(records)), default=0))
    wrote, heard = (_FirstSeen(MAX_CALLS - PROBE_CALL, 0, most + BURST_FRAMES) for _ in range(2))
    wrote.see(bursts["call"] - PROBE_CALL, bursts["frame"], bursts["at_ns"])
    at_ns = np.repeat(load.received["at_ns"], 2)
    heard.see(calls[is_code] - PROBE_CALL, numbers[is_code], at_ns[is_code])
    lost = sum(
        int(np.count_nonzero(heard.at_ns[bursts["call"] - PROBE_CALL, bursts["frame"] + later] == _NEVER))
        for later in range(BURST_FRAMES)
    )
    said = np.where(is_code, (calls << 24) | numbers, -1).reshape(-1, 2)
    return Probes(
        bursts=len(bursts),
        frames_lost=lost,
        bot_to_rtp_ms=_between_ms(wrote.at_ns, heard.at_ns),
        clears=len(clears),
        clear_to_silence_ms=_clear_to_silence_ms(load.received, said, clears),
    )


def _clear_to_silence_ms(received: Records, said: npt.NDArray[np.int64], clears: Records) -> Floats:
    """From the write of each ``clear`` to the first packet whose second half is silence, behind all that was said.

    Only those count of which the caller had heard something before. (A packet begins with a fade of at most 5 ms.)

    :param said: int64 (packets, 2): call and frame of what each half says, or -1.
    """
    is_silent = (received["codes"][:, 1] == _SILENCE).all(axis=1)
    keys = said.max(axis=1)
    speaker = keys >> 24
    delays = []
    for probe in np.unique(clears["call"]):
        spoken = np.flatnonzero(speaker == probe)
        if not len(spoken):
            continue
        mine = np.flatnonzero(received["call"] == received["call"][spoken[0]])
        mine = mine[np.argsort(received["at_ns"][mine], kind="stable")]
        at_ns, frames, silent = received["at_ns"][mine], keys[mine] & 0xFFFFFF, is_silent[mine]
        is_said = speaker[mine] == probe
        for clear in clears[clears["call"] == probe]:
            first = int(clear["frame"])
            words = np.flatnonzero(is_said & (frames >= first) & (frames < first + UTTERANCE_FRAMES))
            if not len(words) or at_ns[words[0]] >= clear["at_ns"]:
                continue
            quiet = np.flatnonzero(silent[words[-1] + 1 :])
            if len(quiet):
                delays.append((at_ns[words[-1] + 1 + quiet[0]] - clear["at_ns"]) / _NS_PER_MS)
    return np.array(delays, np.float64)
