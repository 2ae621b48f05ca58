"""The recordings of one node: from the blocks that the tick hands over to files with their last name.

All file work is done in one thread, in the order in which it was asked for, by calls that hold no GIL; the reactor's
thread decides and tells. Whatever goes wrong with a file ends that recording with an event, and never a call.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import soundfile
from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from agentstream.config.streams import Recording as Settings
from agentstream.flow import wav
from agentstream.flow.ileg import IRecording
from agentstream.flow.tape_file import PART, TapeFile, parts_below
from agentstream.media.leg import MediaLeg
from agentstream.media.recording import CHANNELS, Sound, Tape

MOST_WAITING_BYTES = 64 << 20
"""Sound that may wait for the disk, of all recordings together: half a minute of 60 calls."""

TOO_SLOW = "the disk does not keep up"
TOO_LONG = "a WAV file holds no more"

InThread = Callable[[Callable[[], None]], Deferred[None]]
"""Runs a function in the one thread for files; fires when it has returned."""

Tell = Callable[..., None]
"""``event(kind, **fields)`` of a call."""


def mixed(sound: Sound) -> Sound:
    """Both channels as one."""
    if isinstance(sound, int):
        return sound // CHANNELS
    both = np.frombuffer(sound, "<i2").reshape(-1, CHANNELS)
    samples: bytes = np.clip(both.sum(axis=1, dtype=np.int32), -32768, 32767).astype("<i2").tobytes()
    return samples


@implementer(IRecording)
@attrs.define(eq=False)
class Recording:
    """One recording of one call.

    :ivar file: its name when it is done.
    :ivar is_running: sound is added to it.
    """

    file: Path
    kind: str
    written: TapeFile
    tape: Tape
    tell: Tell
    _recordings: Recordings
    is_running: bool = True
    has_failed: bool = False
    asked_bytes: int = 0

    def pause(self) -> None:
        """Record silence from now on."""
        if self.is_running and not self.tape.is_paused:
            self.tape.pause()
            self.tell("recording_paused", file=str(self.file), at_ms=self.tape.ms)

    def resume(self) -> None:
        """Record sound again."""
        if self.is_running and self.tape.is_paused:
            self.tape.resume()
            self.tell("recording_resumed", file=str(self.file), at_ms=self.tape.ms)

    def stop(self) -> None:
        """End it; ``recording_ended`` follows when the file has its name. Harmless when repeated."""
        self._recordings.stop(self)


@attrs.define(eq=False)
class _Task:
    """Something to be done in the thread, and who is told of its result or its error behind it.

    :ivar waiting: bytes of sound that are held for it.
    """

    do: Callable[[], Any]
    then: Callable[[Any, Exception | None], None]
    waiting: int = 0
    result: Any = None
    error: Exception | None = None


def _do(tasks: list[_Task]) -> None:
    """In the thread."""
    for task in tasks:
        try:
            task.result = task.do()
        except Exception as error:
            task.error = error


class Recordings:
    """All recordings of one node.

    :param settings: gives the settings as they are now, for the recordings to come.
    :param in_thread: does the file work.
    :ivar waiting_bytes: sound that waits for the disk.
    :ivar started, failed: how many there have been.
    """

    log = Logger()

    def __init__(self, settings: Callable[[], Settings], in_thread: InThread) -> None:
        self._settings = settings
        self._in_thread = in_thread
        self._tapes: dict[Tape, Recording] = {}
        self._tasks: list[_Task] = []
        self._is_at_work = False
        self._is_closing = False
        self._emptied: list[Deferred[None]] = []
        self.waiting_bytes = 0
        self.started = 0
        self.failed = 0

    @property
    def running(self) -> int:
        """Recordings that run now."""
        return len(self._tapes)

    # From calls and the tick

    def start(self, media: MediaLeg, sid: str, number: int, created_at: datetime.datetime, tell: Tell) -> Recording:
        """Record a leg from now on.

        :param number: how many recordings this call has had, with this one.
        """
        settings = self._settings()
        name = sid if number == 1 else f"{sid}-{number}"
        channels = CHANNELS if settings.channels == "stereo" else 1
        folder = settings.folder / f"{created_at:%Y-%m-%d}"
        written = TapeFile(folder / (name + PART), channels, media.rate_hz)
        file = written.named(settings.format)
        recording = Recording(file, settings.format, written, media.record(), tell, self)
        self._tapes[recording.tape] = recording
        self.started += 1
        tell("recording_started", file=str(file), channels=settings.channels)
        self._ask(recording, written.open)
        self._work()
        return recording

    def take(self, whole: list[tuple[Tape, Sound]]) -> None:
        """What the tick hands over."""
        for tape, sound in whole:
            recording = self._tapes.get(tape)
            if recording is not None:
                self._write(recording, sound)
        self._work()

    def _write(self, recording: Recording, sound: Sound) -> None:
        if recording.written.channels == 1:
            sound = mixed(sound)
        is_silence = isinstance(sound, int)
        length = sound if isinstance(sound, int) else len(sound)
        waiting = 0 if is_silence else length
        if recording.asked_bytes + length > wav.MOST_BYTES:
            self._fail(recording, TOO_LONG)
        elif self.waiting_bytes + waiting > MOST_WAITING_BYTES:
            self._fail(recording, TOO_SLOW)
        elif length:
            recording.asked_bytes += length
            self._ask(recording, partial(recording.written.write, sound), waiting)

    def stop(self, recording: Recording) -> None:
        """End a recording; its file gets its name behind what is still to be written."""
        if not recording.is_running:
            return
        recording.is_running = False
        rest = recording.tape.stop()
        del self._tapes[recording.tape]
        if not recording.has_failed:
            self._write(recording, rest)
        self._add(partial(_settle, recording), partial(self._settled, recording))
        self._work()

    def _fail(self, recording: Recording, reason: str) -> None:
        """What is in the file is all that there will be."""
        if recording.has_failed:
            return
        recording.has_failed = True
        self.failed += 1
        self.log.warn("the recording {file} has failed: {reason}", file=str(recording.file), reason=reason)
        recording.tell("recording_failed", file=str(recording.file), reason=reason)
        self.stop(recording)

    def _ask(self, recording: Recording, do: Callable[[], Any], waiting: int = 0) -> None:
        """Have something done for a recording; an error is its end."""

        def done(_: Any, error: Exception | None) -> None:
            if error is not None:
                self._fail(recording, self._reason(error))

        self._add(do, done, waiting)

    def _reason(self, error: Exception) -> str:
        if not isinstance(error, OSError | soundfile.SoundFileError):
            self.log.failure("a file of a recording failed", Failure(error))
        return getattr(error, "strerror", None) or str(error)

    # The end of a file

    def _settled(self, recording: Recording, _: Any, error: Exception | None) -> None:
        if error is not None:
            self._fail(recording, self._reason(error))
        written = recording.written
        if written.is_named:
            recording.file = written.named("wav")
        recording.tell(
            "recording_ended",
            file=str(recording.file) if written.sound_bytes else "",
            seconds=round(written.seconds, 3),
            bytes=written.sound_bytes,
        )
        if written.sound_bytes and not written.is_named:
            self._convert(written, recording.kind, recording.tell)
        else:
            self._add(written.close, _ignore)
        recording.tell = _tell_nobody  # a call, which holds its recording

    def _convert(self, written: TapeFile, kind: str, tell: Tell) -> None:
        """Make it into another format, slice by slice, so that those who write wait for one slice at the most."""
        if self._is_closing:
            self._add(written.close, _ignore)  # the next start does it
            return
        slices = written.convert(kind)

        def step() -> None:
            self._add(partial(next, slices, True), converted)

        def converted(is_over: Any, error: Exception | None) -> None:
            if error is not None:
                reason = self._reason(error)
                self.failed += 1
                self.log.warn(
                    "{file} was not made into {kind}: {reason}", file=str(written.part), kind=kind, reason=reason
                )
                tell("recording_not_converted", file=str(written.named("wav")), reason=reason)
                self._add(written.keep, _ignore)
            elif not is_over:
                if not self._is_closing:
                    step()
                    return
                self._add(slices.close, _ignore)
            else:
                tell("recording_converted", file=str(written.named(kind)))
            self._add(written.close, _ignore)

        step()

    # What a process that is gone has left behind

    def finish_leftovers(self) -> None:
        """Give every recording that was cut off its name, in the format that the settings say now."""
        settings = self._settings()
        self._add(partial(parts_below, settings.folder), self._found)
        self._work()

    def _found(self, parts: list[Path] | None, error: Exception | None) -> None:
        if error is not None:
            self.log.warn("the recordings cannot be looked through: {reason}", reason=self._reason(error))
        kind = self._settings().format
        for part in parts or ():
            self._add(partial(TapeFile.left_over, part), partial(self._left_over, part, kind))

    def _left_over(self, part: Path, kind: str, written: TapeFile | None, error: Exception | None) -> None:
        if error is not None:
            self.log.warn("{file} cannot be finished: {reason}", file=str(part), reason=self._reason(error))
        elif written is not None:
            self.log.info("{file} was cut off after {seconds} s", file=str(part), seconds=round(written.seconds, 3))
            if kind == "wav":
                self._add(written.keep, _ignore)
                self._add(written.close, _ignore)
            else:
                self._convert(written, kind, _tell_nobody)

    # The thread

    def _add(self, do: Callable[[], Any], then: Callable[[Any, Exception | None], None], waiting: int = 0) -> None:
        self._tasks.append(_Task(do, then, waiting))
        self.waiting_bytes += waiting

    def _work(self) -> None:
        """Have what has been asked for done: one batch at a time, so that its order is that of the asking."""
        if not self._is_at_work:
            Deferred.fromCoroutine(self._do_all()).addErrback(
                lambda failure: self.log.failure("the recordings stand still", failure)
            )

    async def _do_all(self) -> None:
        self._is_at_work = True
        try:
            while self._tasks:
                batch, self._tasks = self._tasks, []
                await self._in_thread(partial(_do, batch))
                for task in batch:
                    self.waiting_bytes -= task.waiting
                    try:
                        task.then(task.result, task.error)
                    except Exception:
                        self.log.failure("what follows a file's work failed")
        finally:
            self._is_at_work = False
        emptied, self._emptied = self._emptied, []
        for waiting in emptied:
            waiting.callback(None)

    def close(self) -> Deferred[None]:
        """End every recording; fires when all that was heard is in the files. What is not in its format yet is left to
        the next start."""
        self._is_closing = True
        for recording in list(self._tapes.values()):
            self.stop(recording)
        if not self._is_at_work:
            return succeed(None)
        waiting: Deferred[None] = Deferred()
        self._emptied.append(waiting)
        return waiting


def _settle(recording: Recording) -> None:
    """In the thread. What could not be written whole is kept as the WAV that it is."""
    written = recording.written
    written.settle(is_wanted=recording.has_failed or written.is_broken or recording.kind == "wav")


def _ignore(_: Any, error: Exception | None) -> None:
    if error is not None:
        Recordings.log.warn("a file of a recording could not be closed: {reason}", reason=str(error))


def _tell_nobody(kind: str, **fields: Any) -> None:
    pass
