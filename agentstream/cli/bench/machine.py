"""What the bench runs on: the machine's name, its cores, and what a process has spent and holds (Linux's /proc)."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

import agentstream

SERVER_CORE = 0
_PROC = Path("/proc")


def machine_name() -> str:
    """One line that says what ran the bench: processor, cores, kernel, Python."""
    model = platform.processor() or platform.machine()
    try:
        for line in (_PROC / "cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    except OSError:
        pass
    return (
        f"{model}, {os.cpu_count()} cores, {platform.system()} {platform.release()}, Python {platform.python_version()}"
    )


def commit() -> str:
    """Which source this is: the commit of its checkout, with a plus sign when the package was changed since."""
    folder = Path(agentstream.__file__).parent

    def git(*words: str) -> str:
        said = subprocess.run(
            ["git", "-C", str(folder), *words], capture_output=True, text=True, check=True, timeout=10
        )
        return said.stdout.strip()

    try:
        return git("rev-parse", "--short=10", "HEAD") + ("+" if git("status", "--porcelain", "-uno", ".") else "")
    except (OSError, subprocess.SubprocessError):
        return f"version {version('agentstream')}"


def pin(pid: int, *, is_server: bool) -> str:
    """Bind a process to the server's core, or to all the others; returns what was done, in words."""
    if not hasattr(os, "sched_setaffinity"):
        return "not pinned: this system cannot bind a process to a core"
    cores = os.sched_getaffinity(0) | os.sched_getaffinity(pid)
    others = cores - {SERVER_CORE}
    if not others or SERVER_CORE not in cores:
        return "not pinned: there is no second core"
    os.sched_setaffinity(pid, {SERVER_CORE} if is_server else others)
    return f"server on core {SERVER_CORE}, load and bot on core {', '.join(map(str, sorted(others)))}"


def _family(pid: int) -> list[int]:
    """A process and all that descend from it and still run."""
    parents: dict[int, list[int]] = {}
    for entry in _PROC.iterdir():
        if entry.name.isdigit():
            try:
                parents.setdefault(_stat(int(entry.name))[0], []).append(int(entry.name))
            except OSError:
                continue
    family = [pid]
    for member in family:
        family.extend(parents.get(member, ()))
    return family


def _stat(pid: int) -> tuple[int, int]:
    """(parent's id, clock ticks spent by the process, its threads, and its children that have ended)."""
    fields = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    # proc(5): state is field 3 and the first one here; ppid 4, utime 14, stime 15, cutime 16, cstime 17
    return int(fields[1]), sum(map(int, fields[11:15]))


def cpu_s(pid: int) -> float:
    """Seconds of user and system time of a process, its threads and its children, in steps of a clock tick (10 ms)."""
    ticks = 0
    for member in _family(pid):
        try:
            ticks += _stat(member)[1]
        except OSError:
            continue
    return ticks / os.sysconf("SC_CLK_TCK")


def others_s() -> float:
    """Seconds of all cores' time spent by what does not descend from this process, since the system began."""
    # proc(5), /proc/stat: user nice system idle iowait irq softirq steal, in clock ticks of all cores
    user, nice, system, _, _, irq, softirq, steal = map(int, (_PROC / "stat").read_text().split()[1:9])
    spent = (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
    return spent - cpu_s(os.getpid())


def open_files(pid: int) -> int:
    """How many files and sockets a process holds."""
    return len(os.listdir(_PROC / str(pid) / "fd"))


def memory_bytes(pid: int) -> int:
    """Resident memory of a process and its children."""
    pages = 0
    for member in _family(pid):
        try:
            pages += int((_PROC / str(member) / "statm").read_text().split()[1])
        except OSError:
            continue
    return pages * os.sysconf("SC_PAGE_SIZE")
