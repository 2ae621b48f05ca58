"""Sound files as samples: any format that libsndfile reads, mixed to mono, at the rate of the call, kept for the next.

:meth:`Prompts.load` blocks and belongs in a thread or before the reactor runs; :meth:`Prompts.fetch` is for a call.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import soundfile
import soxr
from twisted.internet.defer import Deferred, succeed
from twisted.internet.threads import deferToThread

from agentstream.errors import AgentstreamError
from agentstream.flow.files import sound_mistake
from agentstream.interfaces import Audio

MEBIBYTE = 1024 * 1024


def load_sound(file: Path, rate_hz: int) -> Audio:
    """The whole file as mono int16 at this rate; AgentstreamError with a sentence where it cannot be played.

    A mono 16-bit file of the same rate comes out sample for sample as it is.
    """
    mistake = sound_mistake(file)
    if mistake:
        raise AgentstreamError(f"the step {mistake}")
    try:
        info = soundfile.info(str(file))
        if info.channels == 1 and info.samplerate == rate_hz:
            samples, _ = soundfile.read(str(file), dtype="int16")
            return np.ascontiguousarray(samples, dtype=np.int16)
        frames, found_hz = soundfile.read(str(file), dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, OSError) as error:
        raise AgentstreamError(f"the step names {file}, which cannot be read to its end: {error}") from None
    mono = soxr.resample(frames.mean(axis=1, dtype=np.float32), found_hz, rate_hz)
    samples = np.clip(np.rint(mono * 32768.0), -32768, 32767)
    return np.asarray(samples, dtype=np.int16)


@attrs.define
class Prompts:
    """The sounds that have been played, up to so many bytes; the one that was used longest ago goes first.

    A file that changes on disk is heard as it was until :meth:`forget`. Arrays are shared, so they are read-only.

    :ivar defer: runs a blocking function somewhere else; ``deferToThread`` outside tests.
    """

    maximum_bytes: int = 64 * MEBIBYTE
    defer: Callable[..., Deferred[Any]] = deferToThread
    _kept: OrderedDict[tuple[Path, int], Audio] = attrs.field(factory=OrderedDict)
    _bytes: int = 0

    def fetch(self, file: Path, rate_hz: int) -> Deferred[Audio]:
        """The samples: at once when they are kept, otherwise from a thread. Errbacks with AgentstreamError."""
        audio = self._kept.get((file, rate_hz))
        if audio is None:
            return self.defer(load_sound, file, rate_hz).addCallback(self._keep, file, rate_hz)
        self._kept.move_to_end((file, rate_hz))
        return succeed(audio)

    def load(self, file: Path, rate_hz: int) -> Audio:
        """Read now and keep. Blocks."""
        return self._keep(load_sound(file, rate_hz), file, rate_hz)

    def forget(self) -> None:
        """Read every file anew from now on."""
        self._kept.clear()
        self._bytes = 0

    def _keep(self, audio: Audio, file: Path, rate_hz: int) -> Audio:
        audio.flags.writeable = False
        self._drop((file, rate_hz))
        self._kept[(file, rate_hz)] = audio
        self._bytes += audio.nbytes
        while self._bytes > self.maximum_bytes:
            self._drop(next(iter(self._kept)))
        return audio

    def _drop(self, name: tuple[Path, int]) -> None:
        dropped = self._kept.pop(name, None)
        if dropped is not None:
            self._bytes -= dropped.nbytes
