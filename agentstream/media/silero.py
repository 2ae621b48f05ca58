"""The Silero network, by onnxruntime and without torch: one thread, which does nothing but run it.

The tick puts batches into a queue and finds the answers one tick later; nobody waits for anybody. A run holds no lock
of the interpreter, unlike any other Python thread. If it falls behind, the oldest batches go unanswered.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue

import attrs
import numpy as np
from twisted.logger import Logger

from agentstream.audio.neural import Batch, Floats, Infer, States
from agentstream.errors import StartError

MODEL = Path(__file__).with_name("models") / "silero_vad.onnx"
MODEL_SHA256 = "1a153a22f4509e292a94e67d6f9b85e8deb25b4988682b7e174c65279d8788e3"
"""Of silero-vad 6.2.3, MIT; its licence lies beside it."""

HOW_TO_INSTALL = "needs onnxruntime: pip install 'agentstream[silero]'"

MOST_WAITING_S = 0.1
"""Batches that have waited for longer are not worth a run."""

NICE = 5
"""The tick goes first where cores are few."""


def is_installed() -> bool:
    """The extra ``silero`` is there; nothing is imported to find out."""
    return importlib.util.find_spec("onnxruntime") is not None


def load_silero(model: Path = MODEL) -> Infer:
    """The network, run in the thread that calls. Raises StartError where it cannot be loaded."""
    try:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    except ImportError as error:
        raise StartError(f'[media] speech_detector = "silero" {HOW_TO_INSTALL} ({error})') from None
    except Exception as error:
        raise StartError(f"the speech detector {model} cannot be loaded: {error}") from None
    rate_hz = np.array(8000, np.int64)

    def infer(sound: Floats, state: Floats) -> tuple[Floats, Floats]:
        probabilities, after = session.run(["output", "stateN"], {"input": sound, "state": state, "sr": rate_hz})
        return probabilities[:, 0], after

    return infer


@attrs.define(eq=False)
class Judge:
    """Who answers batches, in their order and here at once.

    :param seconds: a monotonic clock, for how long batches have waited.
    :ivar windows: windows that were answered. :ivar dropped: windows that never will be.
    :ivar cpu_s: what answering took of a core.
    """

    states: States
    seconds: Callable[[], float] = time.monotonic
    windows: int = 0
    dropped: int = 0
    cpu_s: float = 0.0
    log: Logger = attrs.field(factory=Logger, init=False)
    _waiting: deque[tuple[float, Batch]] = attrs.field(factory=deque, init=False)
    _answers: deque[tuple[Batch, Floats | None]] = attrs.field(factory=deque, init=False)
    _told_at: float = attrs.field(default=-3600.0, init=False)
    _failure: str = attrs.field(default="", init=False)

    def start(self) -> None:
        """Before the first batch."""

    def stop(self) -> None:
        """No batch will be answered any more."""

    def put(self, batches: list[Batch]) -> None:
        """Have these answered; what has waited for too long is given up."""
        now = self.seconds()
        while self._waiting and now - self._waiting[0][0] > MOST_WAITING_S:
            try:
                _, batch = self._waiting.popleft()
            except IndexError:  # taken meanwhile
                break
            self.dropped += len(batch.rows)
        for batch in batches:
            self._waiting.append((now, batch))
            self._wake()

    def take(self) -> list[tuple[Batch, Floats]]:
        """The answers since the last time, in order."""
        answers: list[tuple[Batch, Floats]] = []
        while self._answers:
            batch, probabilities = self._answers.popleft()
            if probabilities is None:
                self.dropped += len(batch.rows)
            else:
                self.windows += len(batch.rows)
                answers.append((batch, probabilities))
        if self._failure:
            self._tell_failure()
        return answers

    def work(self) -> None:
        """Answer the batch that has waited longest."""
        try:
            _, batch = self._waiting.popleft()
        except IndexError:  # it was given up
            return
        began = time.thread_time()
        try:
            answer: Floats | None = self.states.answer(batch)
        except Exception as error:
            answer, self._failure = None, repr(error)
        self.cpu_s += time.thread_time() - began
        self._answers.append((batch, answer))

    def _wake(self) -> None:
        """A batch waits."""
        self.work()

    def _tell_failure(self) -> None:
        failure, self._failure = self._failure, ""
        if self.seconds() - self._told_at >= 60:
            self._told_at = self.seconds()
            self.log.error("the neural speech detector failed, and energy decides alone: {failure}", failure=failure)


@attrs.define(eq=False)
class ThreadJudge(Judge):
    """The same, but in a thread of its own and when that has time."""

    _calls: SimpleQueue[bool] = attrs.field(factory=SimpleQueue, init=False)
    _thread: threading.Thread | None = attrs.field(default=None, init=False)

    def start(self) -> None:
        """Start the thread."""
        self._thread = threading.Thread(target=self._run, name="silero", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End it, behind the run it is in."""
        if self._thread is not None:
            self._waiting.clear()
            self._calls.put(False)
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        if sys.platform == "linux":  # elsewhere this is not a thread's, but the process's
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), os.getpriority(os.PRIO_PROCESS, 0) + NICE)
        while self._calls.get():
            self.work()

    def _wake(self) -> None:
        self._calls.put(True)
