"""``python -m tests.fuzz``: every target, or those that are named, one after the other; a table at the end.

    python -m tests.fuzz --seconds 60          a minute in all
    python -m tests.fuzz --runs 1000000 sdp    a million inputs for each target that is named
    python -m tests.fuzz --seeds               write the seeds anew

Exit status 1 where a parser failed; the input is kept in the folder ``fuzz-findings`` and named, with the command that
runs it again.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import attrs

from tests.fuzz.seeds import FOLDER, write_seeds
from tests.fuzz.targets import TARGETS

MEMORY_MB = 1024
INPUT_S = 5
"""Seconds for one input: more is a finding, too."""
RAISED = re.compile(r"^(?:[\w.]*(?:Error|Exception|Exit)\b.*|==\d+== ERROR.*)$", re.MULTILINE)


@attrs.frozen
class Outcome:
    """What became of one target.

    :ivar executions: inputs. :ivar coverage: edges of the parsers' code that they reached.
    :ivar finding: the file of the input that failed; None where none did. :ivar error: what it raised.
    """

    name: str
    executions: int
    seconds: float
    coverage: int
    finding: Path | None = None
    error: str = ""


def fuzz(name: str, findings: Path, *, runs: int = -1, seconds: float = 0.0, seed: int = 0) -> Outcome:
    """Run one target in a process of its own until it fails, or for so many inputs or seconds."""
    target = TARGETS[name]
    findings.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="fuzz-") as scratch:
        corpus = Path(scratch, "corpus")
        corpus.mkdir()
        words = Path(scratch, "words")
        words.write_text("".join(f'"{_escaped(word)}"\n' for word in target.words))
        before = set(findings.iterdir())
        command = [
            *(sys.executable, "-m", "tests.fuzz.one", name),
            *(f"-runs={runs}", f"-max_total_time={round(seconds)}", f"-max_len={target.max_length}"),
            *([f"-dict={words}"] if target.words else []),
            *(f"-timeout={INPUT_S}", f"-rss_limit_mb={MEMORY_MB}", "-print_final_stats=1", f"-seed={seed}"),
            *(f"-artifact_prefix={findings}/{name}-", str(corpus), str(FOLDER / name)),
        ]
        began = time.monotonic()
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        took = time.monotonic() - began
    found = sorted(set(findings.iterdir()) - before)
    executions = re.findall(r"stat::number_of_executed_units:\s*(\d+)", done.stderr)
    coverage = re.findall(r"cov: (\d+)", done.stderr)
    error = ""
    if done.returncode:
        raised = RAISED.findall(done.stdout + done.stderr)
        error = raised[0] if raised else (done.stderr.strip().splitlines() or ["it could not be run"])[-1]
    return Outcome(
        name,
        int(executions[-1]) if executions else 0,
        took,
        int(coverage[-1]) if coverage else 0,
        found[-1] if found else None,
        error,
    )


def _escaped(word: str) -> str:
    return "".join(
        character if character.isalnum() else "".join(f"\\x{byte:02X}" for byte in character.encode())
        for character in word
    )


def main(arguments: list[str]) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="fuzz the parsers")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(TARGETS)}; all by default")
    parser.add_argument("--seconds", type=float, default=60.0, help="for all targets together (60)")
    parser.add_argument("--runs", type=int, help="inputs for each target, instead of a time")
    parser.add_argument("--seed", type=int, default=0, help="of the fuzzer's chance; 0 takes another each time")
    parser.add_argument("--findings", type=Path, default=Path("fuzz-findings"), help="the folder for what fails")
    parser.add_argument("--seeds", action="store_true", help="write the seeds anew, and do nothing else")
    chosen = parser.parse_args(arguments)
    if chosen.seeds:
        write_seeds()
        return 0
    names = chosen.targets or list(TARGETS)
    unknown = [name for name in names if name not in TARGETS]
    if unknown:
        parser.error(f"there is no target {unknown[0]}")
    print(f"{'target':<15} {'inputs':>10} {'seconds':>8} {'a second':>9} {'edges':>6}")
    status = 0
    for name in names:
        limit = {"runs": chosen.runs} if chosen.runs else {"seconds": max(1.0, chosen.seconds / len(names))}
        outcome = fuzz(name, chosen.findings, seed=chosen.seed, **limit)
        rate = outcome.executions / outcome.seconds
        print(
            f"{name:<15} {outcome.executions:>10,} {outcome.seconds:>8.1f} {rate:>9,.0f} {outcome.coverage:>6}",
            flush=True,
        )
        if outcome.error:
            status = 1
            print(f"  failed: {outcome.error}")
            if outcome.finding is not None:
                print(f"  again:  python -m tests.fuzz.one {name} {outcome.finding}", flush=True)
    if not any(chosen.findings.iterdir()):
        chosen.findings.rmdir()
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
