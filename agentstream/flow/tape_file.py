"""One recording's file, as a thread sees it: everything here blocks, and holds no GIL while it does.

While a recording runs its file is WAV under the name ``NAME.wav.part``, and after each write its header says how much
sound there is; so what is there after a crash can be played, and the next start finishes it. A lock of the process that
writes (gone with it, however it ends) tells a file that is left over from one that another process is writing.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Generator
from pathlib import Path

import attrs
import soundfile

from agentstream.flow import wav

PART = ".wav.part"
FORMATS = {"flac": ("FLAC", "PCM_16"), "opus": ("OGG", "OPUS"), "mp3": ("MP3", "MPEG_LAYER_III")}
"""What WAV is made into behind the call: libsndfile's names of each format, whose own name is the file's ending."""

INCOMPLETE = "what was written is shorter than the recording"

_MODE = 0o640
_SLICE_S = 10


@attrs.define(eq=False)
class TapeFile:
    """A WAV file that grows.

    :ivar part: its name while it does.
    :ivar sound_bytes: bytes of sound that are in it for certain.
    :ivar is_broken: a write has failed; nothing is added behind it.
    :ivar is_named: it has its last name.
    """

    part: Path
    channels: int
    rate_hz: int
    sound_bytes: int = 0
    is_broken: bool = False
    is_named: bool = False
    _fd: int = -1

    @property
    def seconds(self) -> float:
        """How much sound is in it."""
        return self.sound_bytes / (self.channels * wav.SAMPLE_BYTES * self.rate_hz)

    @classmethod
    def left_over(cls, part: Path) -> TapeFile | None:
        """What a process that is gone has left behind, made good; None when somebody writes it, or it is none of
        ours. A file without a sample is removed."""
        fd = os.open(part, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return None
        head = wav.repaired(os.pread(fd, wav.HEADER_BYTES, 0), os.fstat(fd).st_size)
        if head is None:
            os.close(fd)
            return None
        os.pwrite(fd, head, 0)
        file = cls(part, *wav.lengths(head), fd=fd)
        if not file.sound_bytes:
            part.unlink()
            file.close()
            return None
        return file

    def open(self) -> None:
        """Make the file. It gets the name that others look for when it is locked."""
        self.part.parent.mkdir(parents=True, exist_ok=True)
        unlocked = self.part.with_suffix(".new")
        self._fd = os.open(unlocked, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _MODE)
        fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _write(self._fd, wav.header(self.channels, self.rate_hz, 0))
        unlocked.rename(self.part)

    def write(self, sound: bytes | int) -> None:
        """Add sound, or this many bytes of silence; then the header says so."""
        if self.is_broken:
            return
        try:
            if isinstance(sound, int):
                length = sound
                os.ftruncate(self._fd, wav.HEADER_BYTES + self.sound_bytes + length)
                os.lseek(self._fd, 0, os.SEEK_END)
            else:
                length = len(sound)
                _write(self._fd, sound)
            os.pwrite(self._fd, wav.header(self.channels, self.rate_hz, self.sound_bytes + length), 0)
        except OSError:
            self.is_broken = True
            raise
        self.sound_bytes += length

    def settle(self, is_wanted: bool) -> None:
        """No more comes: what a failed write has left behind the last whole one is cut off.

        :param is_wanted: it gets its name now; else it is left as it is for :meth:`convert`. A file without a sample is
            removed.
        """
        if self._fd < 0:
            return
        os.ftruncate(self._fd, wav.HEADER_BYTES + self.sound_bytes)
        if not self.sound_bytes:
            self.part.unlink()
        elif is_wanted:
            self.keep()

    def keep(self) -> None:
        """Give it its name as it is."""
        self.part.rename(self.named("wav"))
        self.is_named = True

    def close(self) -> None:
        """Let go of it, and of its lock. Harmless when repeated."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)

    def named(self, ending: str) -> Path:
        """The name in this format when all is done."""
        return self.part.with_name(self.part.name.removesuffix(PART) + f".{ending}")

    def convert(self, kind: str) -> Generator[None, None, None]:
        """Make it into this format and name that; a slice of some seconds at each step. The WAV is removed when all of
        its sound is in the new file."""
        final = self.named(kind)
        part = final.with_name(final.name + ".part")
        try:
            yield from self._copy(part, *FORMATS[kind])
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        part.rename(final)
        self.part.unlink()

    def _copy(self, to: Path, format: str, subtype: str) -> Generator[None, None, None]:
        with soundfile.SoundFile(str(self.part)) as source:
            rate_hz, frames = source.samplerate, source.frames
            with soundfile.SoundFile(str(to), "w", rate_hz, source.channels, format=format, subtype=subtype) as target:
                while len(samples := source.read(_SLICE_S * rate_hz, dtype="int16")):
                    target.write(samples)
                    yield
        if soundfile.info(str(to)).frames < frames:
            raise OSError(INCOMPLETE)


def parts_below(folder: Path) -> list[Path]:
    """The files that recordings have in and below a folder while they run."""
    return sorted(folder.rglob(f"*{PART}"))


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
