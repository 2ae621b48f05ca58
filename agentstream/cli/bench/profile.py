"""A flame graph of the server while it is measured, by py-spy (of the extra ``bench``), which reads it from outside."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import attrs

from agentstream.cli.bench import machine
from agentstream.errors import AgentstreamError

_SPARE_S = 30.0
_SAMPLES_A_SECOND = 200


def find_tool() -> str:
    """Where py-spy is.

    :raises AgentstreamError: nowhere.
    """
    found = shutil.which("py-spy", path=str(Path(sys.executable).parent)) or shutil.which("py-spy")
    if found is None:
        raise AgentstreamError("--profile needs py-spy: install it with pip install 'agentstream[bench]'.")
    return found


def reason(said: str, status: int) -> str:
    """One sentence about a py-spy that failed."""
    if "ermission" in said or "ptrace" in said:
        return (
            "--profile may not look into the server: run the bench as root, or allow ptrace"
            " (sysctl kernel.yama.ptrace_scope=0; in a container --cap-add SYS_PTRACE)."
        )
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return f"py-spy ended with exit status {status}: {lines[-1] if lines else 'it said nothing'}"


@attrs.define(eq=False)
class Profile:
    """One flame graph.

    :ivar path: the SVG file that it is written to.
    """

    path: Path
    tool: str = attrs.field(factory=find_tool)
    _process: subprocess.Popen[str] | None = None

    def begin(self, pid: int, seconds: float) -> None:
        """Watch a process for so long."""
        words = ["record", "--format", "flamegraph", "--rate", str(_SAMPLES_A_SECOND), "--output", str(self.path)]
        words += ["--pid", str(pid), "--duration", str(max(1, round(seconds)))]
        self._process = subprocess.Popen(
            [self.tool, *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        machine.pin(self._process.pid, is_server=False)

    def finish(self) -> None:
        """Wait until it is written.

        :raises AgentstreamError: it could not be made.
        """
        process = self._process
        if process is None:
            return
        try:
            said, _ = process.communicate(timeout=_SPARE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            said, _ = process.communicate()
        if process.returncode != 0 or not self.path.exists():
            raise AgentstreamError(reason(said, process.returncode))
