"""Sound files for the command line: any common format to telephone samples, a stereo recording, and where a sound
recurs."""

from __future__ import annotations

import io
import os
from importlib import resources
from pathlib import Path

import attrs
import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from agentstream.errors import AgentstreamError
from agentstream.interfaces import Audio

RATE_HZ = 8000

_PAGE = 4 * RATE_HZ
_NEW_ANCHOR = RATE_HZ // 5


def load_sound(path: Path) -> Audio:
    """The samples of a sound file, mono at 8 kHz.

    :raises AgentstreamError: it cannot be read; the sentence says why.
    """
    if not path.is_file():
        raise AgentstreamError(f"{path} is not there: give the path of a WAV file.")
    try:
        samples, rate_hz = soundfile.read(str(path), dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, OSError) as error:
        raise AgentstreamError(f"{path} is not a sound file that can be read: give a WAV file.") from error
    return _telephone_samples(samples, rate_hz)


def load_sample_speech() -> Audio:
    """The speech that is shipped with agentstream, mono at 8 kHz."""
    content = (resources.files("agentstream.samples") / "speech.wav").read_bytes()
    samples, rate_hz = soundfile.read(io.BytesIO(content), dtype="float32", always_2d=True)
    return _telephone_samples(samples, rate_hz)


def _telephone_samples(samples: npt.NDArray[np.float32], rate_hz: int) -> Audio:
    mono = samples.mean(axis=1)
    if rate_hz != RATE_HZ and len(mono):
        mono = soxr.resample(mono, rate_hz, RATE_HZ)
    rounded: Audio = np.clip(np.rint(mono * 32768), -32768, 32767).astype(np.int16)
    return rounded


@attrs.define
class _Track:
    """Samples on a timeline that grows as they come; what nobody wrote is silence."""

    samples: Audio = attrs.field(factory=lambda: np.zeros(_PAGE, np.int16))
    end: int = 0

    def write(self, at: int, audio: Audio) -> None:
        if at < 0:
            at, audio = 0, audio[-at:]
        end = at + len(audio)
        if end > len(self.samples):
            self.samples = np.concatenate([self.samples, np.zeros(max(end, len(self.samples)), np.int16)])
        self.samples[at:end] = audio
        self.end = max(self.end, end)


@attrs.define
class Recording:
    """What a phone says (left) and hears (right), on one timeline of 8 kHz samples that begins at ``start_s``.

    What was said stands where it was sent. What was heard stands where its first packet came in, and from there on by
    the packets' own RTP timestamps, so that jitter on the way leaves no holes; a packet of another source, or one that
    is more than 200 ms from where it would stand by its time of arrival, begins anew.

    :ivar start_s: monotonic seconds.
    """

    start_s: float
    said: _Track = attrs.field(factory=_Track)
    heard: _Track = attrs.field(factory=_Track)
    _anchor: tuple[int, int, int] | None = None

    def say(self, at_s: float, audio: Audio) -> None:
        """Note samples that were sent at this monotonic time."""
        self.said.write(round((at_s - self.start_s) * RATE_HZ), audio)

    def hear(self, at_s: float, ssrc: int, timestamp: int, audio: Audio) -> None:
        """Note samples that came in at this monotonic time with this RTP timestamp (8 kHz)."""
        arrived = round((at_s - self.start_s) * RATE_HZ)
        if self._anchor is not None and self._anchor[0] == ssrc:
            elapsed = ((timestamp - self._anchor[1] + (1 << 31)) & 0xFFFFFFFF) - (1 << 31)
            place = self._anchor[2] + elapsed
            if abs(place - arrived) <= _NEW_ANCHOR:
                self.heard.write(place, audio)
                return
        self._anchor = (ssrc, timestamp, arrived)
        self.heard.write(arrived, audio)

    def stereo(self) -> Audio:
        """Both tracks, int16[n, 2]."""
        length = max(self.said.end, self.heard.end)
        stereo = np.zeros((length, 2), np.int16)
        stereo[: self.said.end, 0] = self.said.samples[: self.said.end]
        stereo[: self.heard.end, 1] = self.heard.samples[: self.heard.end]
        return stereo

    def save(self, path: Path) -> None:
        """Write the WAV file.

        :raises AgentstreamError: it cannot be written; the sentence says what to do.
        """
        try:
            soundfile.write(str(path), self.stereo(), RATE_HZ, subtype="PCM_16", format="WAV")
        except (soundfile.LibsndfileError, OSError) as error:
            raise AgentstreamError(f"The recording cannot be written to {path}: choose another file.") from error


def expect_writable(path: Path) -> None:
    """See that a recording can be saved there, before a call is placed for it.

    :raises AgentstreamError: it cannot.
    """
    folder = path.absolute().parent
    if path.is_dir() or not os.access(path if path.exists() else folder, os.W_OK):
        raise AgentstreamError(f"The recording cannot be written to {path}: choose another file.")


_MOVES_AT_MOST = RATE_HZ // 4
"""Samples by which a piece of a sound is looked for before and behind where it should be."""


def find_sound(sound: Audio, within: Audio) -> tuple[int, float]:
    """Where a sound recurs within another: (its first sample there, likeness from 0 to 1).

    Likeness is the correlation coefficient at the best place, against as many samples as the sound has; the place is
    not negative. Two different speakers stay under 0.3; an exact copy gives 1.
    """
    if len(sound) == 0 or len(within) == 0:
        return 0, 0.0
    needle = sound.astype(np.float64)
    haystack = np.concatenate([within.astype(np.float64), np.zeros(len(needle))])
    size = 1 << (len(haystack) + len(needle)).bit_length()
    product = np.fft.irfft(np.fft.rfft(haystack, size) * np.conj(np.fft.rfft(needle, size)), size)[: len(within)]
    energy = np.concatenate([[0.0], np.cumsum(haystack**2)])
    around = energy[len(needle) : len(needle) + len(within)] - energy[: len(within)]
    scale = np.sqrt(np.maximum(around, 1.0) * max(float(needle @ needle), 1.0))
    # Where there is hardly any sound, rounding of the transform would pass for likeness.
    likeness = np.where(around > around.max() * 1e-6, product / scale, 0.0)
    place = int(np.argmax(likeness))
    return place, float(min(1.0, max(0.0, likeness[place])))


def find_in_pieces(sound: Audio, within: Audio) -> tuple[int, float]:
    """The same for a sound whose pauses may have become shorter or longer, as a jitter buffer that follows its packets
    makes them: each half second is looked for near where the one before it was.

    :return: (first sample of the first half second there, mean likeness of the half seconds by their energy).
    """
    size = RATE_HZ // 2
    place, likeness = find_sound(sound, within)
    if len(sound) <= size:
        return place, likeness
    first = shift = place
    energies, found = [], []
    for at in range(0, len(sound) - size + 1, size):
        piece = sound[at : at + size]
        begin = max(0, at + shift - _MOVES_AT_MOST)
        near, alike = find_sound(piece, within[begin : at + shift + _MOVES_AT_MOST + size])
        energies.append(float(np.square(piece, dtype=np.float64).sum()))
        found.append(alike)
        if alike > 0.5:
            shift = begin + near - at
        if at == 0:
            first = max(0, shift)
    return first, float(np.average(found, weights=energies)) if sum(energies) else 0.0
