"""Processes that a command starts: they speak JSON lines, and they end with the command whatever happens.

Contract: used as a context manager; when it closes, by an end, an error or Ctrl-C, every child has ended: asked first
(SIGTERM), made to (SIGKILL) after some seconds. A child that ends by itself while news of it is awaited is an error
with its own last words.
"""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import IO, Any

import attrs
import orjson

from agentstream.errors import AgentstreamError

News = dict[str, Any]

_ASKED_S = 4.0


@attrs.define(eq=False)
class Child:
    """One process.

    :ivar name: what messages to the user call it, such as ``server``.
    :ivar news: JSON objects that it has written to standard output and nobody has taken yet.
    :ivar is_over: its standard output is closed.
    """

    name: str
    process: subprocess.Popen[bytes]
    _errors: IO[bytes]
    news: list[News] = attrs.field(factory=list)
    other_lines: list[str] = attrs.field(factory=list)
    is_over: bool = False
    _buffer: bytes = b""

    @property
    def pid(self) -> int:
        """The process's id."""
        return self.process.pid

    def fileno(self) -> int:
        """Its standard output, for a selector."""
        assert self.process.stdout is not None
        return self.process.stdout.fileno()

    def say(self, kind: str, **fields: Any) -> None:
        """Write one JSON line to its standard input."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(orjson.dumps({"kind": kind, **fields}) + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise AgentstreamError(self.last_words()) from None

    def read(self) -> None:
        """Take what it has written; lines that are no JSON object are kept apart."""
        data = os.read(self.fileno(), 1 << 16)
        if not data:
            self.is_over = True
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        for line in lines:
            try:
                news = orjson.loads(line)
            except orjson.JSONDecodeError:
                news = None
            if isinstance(news, dict):
                self.news.append(news)
            elif line.strip():
                self.other_lines.append(line.decode("utf-8", "replace"))

    def take(self, kind: str) -> News | None:
        """The first news of this kind, which is then no longer there."""
        for place, news in enumerate(self.news):
            if news.get("kind") == kind:
                return self.news.pop(place)
        return None

    def errors(self) -> str:
        """What it has written to standard error, the last 20 kB."""
        self._errors.flush()
        size = self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, size - 20_000))
        return self._errors.read().decode("utf-8", "replace")

    def last_words(self) -> str:
        """One sentence about an end that nobody asked for."""
        status = self.process.wait(_ASKED_S)
        lines = [line.strip() for line in self.errors().splitlines() if line.strip()] or self.other_lines
        said = f": {lines[-1]}" if lines else "."
        return f"The {self.name} ended by itself with exit status {status}{said}"

    def end(self) -> int:
        """Ask it to end, ask again, then make it; returns its exit status.

        A server that is asked once lets its calls come to their end; asked twice it hangs up.
        """
        if self.process.stdin is not None:
            with suppress(BrokenPipeError):
                self.process.stdin.close()
        for ask, patience_s in ((signal.SIGTERM, _ASKED_S), (signal.SIGTERM, _ASKED_S), (signal.SIGKILL, _ASKED_S)):
            if self.process.poll() is None:
                self.process.send_signal(ask)
            deadline = time.monotonic() + patience_s
            while not self.is_over and (left := deadline - time.monotonic()) > 0:
                # What it still writes is news too, and a full pipe would keep it from ending.
                if _readable(self, left):
                    self.read()
            with suppress(subprocess.TimeoutExpired):
                return self.process.wait(max(0.1, deadline - time.monotonic()))
        return self.process.wait()

    def close(self) -> None:
        """End it and let go of its pipes."""
        self.end()
        if self.process.stdout is not None:
            self.process.stdout.close()
        self._errors.close()


def _readable(child: Child, timeout_s: float) -> bool:
    with selectors.DefaultSelector() as selector:
        selector.register(child.fileno(), selectors.EVENT_READ)
        return bool(selector.select(max(0.0, timeout_s)))


@attrs.define
class Children:
    """All processes of one command.

    :ivar on_news: called with a child and each piece of its news as it comes, before anybody awaits it.
    """

    on_news: Callable[[Child, News], None] | None = None
    all: list[Child] = attrs.field(factory=list)

    def start(self, name: str, arguments: Sequence[str], environment: dict[str, str] | None = None) -> Child:
        """Start ``python ARGUMENTS`` in a process group of its own, so that Ctrl-C reaches it only through us."""
        errors = tempfile.TemporaryFile()  # noqa: SIM115  closed by Child.close
        process = subprocess.Popen(
            [sys.executable, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env={**os.environ, "PYTHONUNBUFFERED": "1", "OPENBLAS_NUM_THREADS": "1", **(environment or {})},
            process_group=0,
        )
        child = Child(name, process, errors)
        self.all.append(child)
        return child

    def pump(self, timeout_s: float, also: Sequence[int] = ()) -> None:
        """Wait for anything from any child, or for one of the file descriptors, and take what the children wrote."""
        with selectors.DefaultSelector() as selector:
            for child in self.all:
                if not child.is_over:
                    selector.register(child.fileno(), selectors.EVENT_READ, child)
            for fd in also:
                selector.register(fd, selectors.EVENT_READ)
            for key, _ in selector.select(max(0.0, timeout_s)):
                if isinstance(key.data, Child):
                    known = len(key.data.news)
                    key.data.read()
                    if self.on_news is not None:
                        for news in key.data.news[known:]:
                            self.on_news(key.data, news)

    def expect(self, child: Child, kind: str, timeout_s: float) -> News:
        """Wait for one piece of news.

        :raises AgentstreamError: the child ended, or the time is up.
        """
        deadline = time.monotonic() + timeout_s
        while (news := child.take(kind)) is None:
            if child.is_over:
                raise AgentstreamError(child.last_words())
            left = deadline - time.monotonic()
            if left <= 0:
                raise AgentstreamError(f"The {child.name} gave no news of {kind!r} within {timeout_s:.0f} seconds.")
            self.pump(min(left, 1.0))
        return news

    def close(self) -> None:
        """End all, the last started first."""
        for child in reversed(self.all):
            child.close()
        self.all.clear()


@contextmanager
def children(on_news: Callable[[Child, News], None] | None = None) -> Iterator[Children]:
    """Children that end when the block does; SIGTERM ends the block like Ctrl-C."""

    def terminate(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    family = Children(on_news)
    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield family
    finally:
        # Asked once more while children are ended (timeout(1) and a group's signal do), this process would leave some.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        try:
            family.close()
        finally:
            signal.signal(signal.SIGTERM, before)
