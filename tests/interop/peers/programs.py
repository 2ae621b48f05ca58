"""Outside programs: started with their output on a pipe, awaited by what they print, ended by their own process id."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import pytest

SOUNDS = Path("/usr/share/asterisk/sounds/en_US_f_Allison")
"""Recorded speech, 8 kHz mono WAV (Debian's asterisk-core-sounds-en-wav)."""


def require(*needed: Path, root: bool = False) -> None:
    """Skip the test when a file is missing, or rights; where peers are required, fail it.

    Programs are asked for by name: ``@pytest.mark.peers("sipp")``.
    """
    missing = [str(path) for path in needed if not path.exists()]
    if root and os.geteuid() != 0:
        missing.append("the rights of root, to capture or forge packets")
    if not missing:
        return
    sentence = f"Missing here: {', '.join(missing)}."
    if os.environ.get("AGENTSTREAM_REQUIRE_PEERS") == "1":
        pytest.fail(sentence, pytrace=False)
    pytest.skip(sentence)


class Program:
    """One process of ours and the lines that it has printed (standard output and error together).

    A context manager: leaving it ends the process if it has not ended by itself.

    :ivar lines: what was printed so far, without line ends.
    """

    def __init__(
        self, name: str, arguments: Sequence[str | Path], *, cwd: Path, env: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self.lines: list[str] = []
        self._has_news = threading.Condition()
        self._is_closed = False
        self.process = subprocess.Popen(
            [str(argument) for argument in arguments],
            cwd=cwd,
            env=None if env is None else {**os.environ, **env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self._reader = threading.Thread(target=self._read, name=f"output of {name}", daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as pipe:
            for line in pipe:
                with self._has_news:
                    self.lines.append(line.decode("utf-8", "replace").rstrip("\r\n"))
                    self._has_news.notify_all()
        with self._has_news:
            self._is_closed = True
            self._has_news.notify_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.end()

    @property
    def output(self) -> str:
        """Everything that was printed so far."""
        with self._has_news:
            return "\n".join(self.lines)

    def wait_for(self, pattern: str, *, within_s: float = 15.0, after: int = 0) -> re.Match[str]:
        """The first line that holds ``pattern``, from line number ``after`` on; none in time fails the test."""
        wanted = re.compile(pattern)
        deadline = time.monotonic() + within_s
        position = after
        with self._has_news:
            while True:
                for line in self.lines[position:]:
                    if match := wanted.search(line):
                        return match
                position = max(position, len(self.lines))
                left = deadline - time.monotonic()
                if self._is_closed or left <= 0:
                    break
                self._has_news.wait(left)
        why = "ended without" if self._is_closed else f"did not print within {within_s:g} s"
        pytest.fail(f"{self.name} {why} a line with {pattern!r}; it printed:\n{self.output[-6000:]}")

    def wait(self, *, within_s: float) -> int:
        """The exit status, once the program has ended by itself and its output was read."""
        try:
            status = self.process.wait(within_s)
        except subprocess.TimeoutExpired:
            pytest.fail(f"{self.name} did not end within {within_s:g} s; it printed:\n{self.output[-6000:]}")
        self._reader.join(5.0)
        return status

    def end(self, *, by: signal.Signals = signal.SIGTERM, within_s: float = 8.0) -> int:
        """End it (first politely), and its exit status; harmless when it is over."""
        if self.process.poll() is None:
            self.process.send_signal(by)
            try:
                self.process.wait(within_s)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(5.0)
        self._reader.join(5.0)
        return self.process.returncode


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def free_udp_port(host: str = "127.0.0.1") -> int:
    """A UDP port that nobody has, and that this process gives to nobody else for a while."""
    return free_udp_block(1, host)


def free_tcp_port(host: str = "127.0.0.1") -> int:
    """The same for TCP."""
    return _free_block(1, host, socket.SOCK_STREAM)


FIRST_PORT, SHARES, SHARE = 4000, 16, 1000
"""Below the range that the kernel hands out, and below the RTP ports of servers that the bench and the demo start."""


def _take_share() -> tuple[int, int]:
    """The first port and the end of this process's part of them: no two processes that test share ports."""
    folder = Path(tempfile.gettempdir()) / f"agentstream-ports-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    for number in range(SHARES):
        lock = (folder / str(number)).open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
        else:
            _locks.append(lock)
            break
    else:
        number = os.getpid() % SHARES
    first = FIRST_PORT + number * SHARE
    return first, first + SHARE


_locks: list[IO[str]] = []
_first, _end = _take_share()
_next_block = _first
_held: list[range] = []


@contextmanager
def held(first: int, count: int) -> Iterator[None]:
    """Give these ports to nobody else: a server binds those for RTP only while it has calls."""
    ports = range(first, first + count)
    _held.append(ports)
    try:
        yield
    finally:
        _held.remove(ports)


def free_udp_block(count: int, host: str = "127.0.0.1") -> int:
    """The first (even) of ``count`` UDP ports in a row that are all free.

    Blocks of one process follow each other, so that no test meets the late packets of the one before.
    """
    return _free_block(count, host, socket.SOCK_DGRAM)


def _free_block(count: int, host: str, kind: socket.SocketKind) -> int:
    global _next_block
    for _ in range(400):
        if _next_block + count > _end:
            _next_block = _first
        first = _next_block
        _next_block += count + count % 2
        ports = range(first, first + count)
        if any(first < held.stop and held.start < ports.stop for held in _held):
            continue
        probes: list[socket.socket] = []
        try:
            for port in ports:
                probe = socket.socket(_family(host), kind)
                probes.append(probe)
                if kind == socket.SOCK_STREAM:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((host, port))
        except OSError:
            continue
        finally:
            for probe in probes:
                probe.close()
        return first
    pytest.fail(f"no {count} free ports in a row")
