"""What the captured audio says: G.711 by its formula, alignment byte for byte, and correlation."""

from __future__ import annotations

import wave
from pathlib import Path

import attrs
import numpy as np
import numpy.typing as npt

from tests.interop.peers.captures import RtpPacket

Samples = npt.NDArray[np.float64]


def _ulaw_table() -> Samples:
    """G.711 mu-law, table 2a: inverted bits; sign, three bits of segment, four of step."""
    code = np.arange(256) ^ 0xFF
    magnitude = (((code & 15) << 3) + 132 << ((code >> 4) & 7)) - 132
    return np.where(code & 0x80, -magnitude, magnitude).astype(np.float64)


def _alaw_table() -> Samples:
    """G.711 A-law, table 1a: even bits inverted; here a set sign bit is positive."""
    code = np.arange(256) ^ 0x55
    segment, step = (code >> 4) & 7, ((code & 15) << 4) + 8
    magnitude = np.where(segment == 0, step, (step + 256) << np.maximum(segment - 1, 0))
    return np.where(code & 0x80, magnitude, -magnitude).astype(np.float64)


LINEAR = {0: _ulaw_table(), 8: _alaw_table()}
"""By static payload type: 256 linear values."""

SILENCE = {0: 0xFF, 8: 0xD5}
"""By static payload type: the byte of silence."""


def linear(payload: bytes, payload_type: int) -> Samples:
    """The samples of a G.711 payload."""
    return LINEAR[payload_type][np.frombuffer(payload, np.uint8)]


def comparable(payload: bytes, payload_type: int) -> bytes:
    """The payload with mu-law's two zeros made one: linear audio keeps no negative zero."""
    return payload.replace(b"\x7f", b"\xff") if payload_type == 0 else payload


@attrs.frozen
class Track:
    """The audio of consecutive packets, and when each sample was on the wire.

    :ivar payload: G.711 bytes, made comparable.
    :ivar times_s: for each byte, the capture time of its packet.
    """

    payload: bytes
    times_s: Samples


def track(packets: list[RtpPacket]) -> Track:
    """Join the payloads of one payload type, in the order given."""
    return Track(
        payload=b"".join(comparable(packet.payload, packet.payload_type) for packet in packets),
        times_s=np.concatenate([np.full(len(packet.payload), packet.time_s) for packet in packets]),
    )


@attrs.frozen
class Run:
    """A stretch of what was sent that was heard again unchanged; all in samples."""

    sent: int
    heard: int
    length: int


def matching_runs(sent: bytes, heard: bytes, *, key: int = 400, quiet: int = 0xFF) -> list[Run]:
    """Find ``sent`` in ``heard``, byte for byte: the stretches that match, in order, each as long as it goes.

    :param key: the samples that must match for a stretch to be found at all; keys of near silence are not looked for.
    """
    runs: list[Run] = []
    sent_array, heard_array = np.frombuffer(sent, np.uint8), np.frombuffer(heard, np.uint8)
    position = after = 0
    while position + key <= len(sent):
        candidate = sent[position : position + key]
        found = heard.find(candidate, after) if len(set(candidate)) > 24 else -1
        if found < 0:
            position += key // 4
            continue
        floor = runs[-1].sent + runs[-1].length if runs else 0
        back = _equal_length(sent_array[floor:position][::-1], heard_array[after:found][::-1])
        forward = _equal_length(sent_array[position:], heard_array[found:])
        runs.append(Run(position - back, found - back, back + forward))
        position, after = position + forward, found + forward
    return runs


def _equal_length(first: npt.NDArray[np.uint8], second: npt.NDArray[np.uint8]) -> int:
    """How many leading values are the same."""
    length = min(len(first), len(second))
    differs = np.flatnonzero(first[:length] != second[:length])
    return int(differs[0]) if len(differs) else length


def delays_s(sent: Track, heard: Track, run: Run) -> Samples:
    """For each sample of a run: from its packet towards the server to its packet back, in seconds."""
    return heard.times_s[run.heard : run.heard + run.length] - sent.times_s[run.sent : run.sent + run.length]


def correlation(first: Samples, second: Samples) -> float:
    """The largest absolute normalised cross-correlation over all shifts, 0 to 1."""
    size = 1 << int(np.ceil(np.log2(len(first) + len(second))))
    product = np.fft.rfft(first, size) * np.conj(np.fft.rfft(second, size))
    scale = float(np.linalg.norm(first) * np.linalg.norm(second))
    return float(np.max(np.abs(np.fft.irfft(product, size)))) / scale if scale else 0.0


def read_wav(path: Path) -> Samples:
    """The samples of a 16-bit mono WAV file."""
    with wave.open(str(path)) as file:
        assert (file.getsampwidth(), file.getnchannels()) == (2, 1)
        return np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float64)


def encode(samples: Samples, payload_type: int) -> bytes:
    """G.711 by nearest value: slow and plain."""
    table = LINEAR[payload_type]
    order = np.argsort(table, kind="stable")
    levels = table[order]
    right = np.clip(np.searchsorted(levels, samples), 1, 255)
    nearer = np.where(samples - levels[right - 1] <= levels[right] - samples, right - 1, right)
    return order[nearer].astype(np.uint8).tobytes()


def recordings(folder: Path) -> list[Samples]:
    """What the baresip of this folder has heard, a file from each time that it was not on hold."""
    return [read_wav(path) for path in sorted((folder / "rec").glob("dump-*-dec.wav"))]


def best_second(heard: list[Samples], said: Samples) -> float:
    """How much the second of what was heard that is most like some second of what was said is like it."""
    seconds = [sound[at : at + 8000] for sound in heard for at in range(0, len(sound) - 7999, 4000)]
    pieces = [said[at : at + 8000] for at in range(0, max(1, min(len(said), 40000) - 8000), 800)]
    return max((correlation(second, piece) for second in seconds for piece in pieces), default=0.0)
