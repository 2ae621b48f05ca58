"""Runs in several processes: every test is in a group, lanes keep their priority, and the report is one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import overlap
from tests.interop.peers import programs, report

HERE = Path(__file__).parent


def test_every_file_that_a_lane_names_is_there() -> None:
    for lane, places in overlap.LANES.items():
        for place in places:
            file, _, test = place.partition("::")
            assert (HERE.parent / file).exists(), place
            assert not test or f"def {test}(" in (HERE.parent / file).read_text(), place
            assert overlap.group_of(place if test else f"{file}::test_x[tests/else::y]") == lane
    assert overlap.group_of("tests/interop/test_torture.py::test_x") == "calls"
    assert overlap.group_of("tests/sip/test_parser.py::test_x") == "tests/sip/test_parser.py"


def test_lanes_are_first_and_then_what_takes_minutes() -> None:
    groups = ["tests/audio/test_g711.py", "tests/packaging/test_installs.py", "waits", "calls", "measured"]
    in_order = ["measured", "calls", "waits", "tests/packaging/test_installs.py", "tests/audio/test_g711.py"]
    assert sorted(groups, key=overlap.place_of) == in_order


def test_ports_that_are_held_are_given_to_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    first = programs.free_udp_block(6)
    monkeypatch.setattr(programs, "_next_block", first)
    assert programs.free_udp_block(6) == first
    monkeypatch.setattr(programs, "_next_block", first)
    with programs.held(first, 6):
        assert not set(range(first, first + 6)) & {programs.free_udp_block(2), programs.free_tcp_port()}
    monkeypatch.setattr(programs, "_next_block", first)
    assert programs.free_udp_block(2) == first


def test_counts_of_a_peer_are_added_up() -> None:
    said: list[report.Said] = [([("SIPp", "3", 2)], ["one"]), ([("SIPp", "3", 3), ("baresip", "1", 1)], ["two"])]
    assert report.lines(said) == ["SIPp 3: 5 calls completed", "baresip 1: 1 calls completed", "one", "two"]


TEST = """
import os
from tests.interop.peers import report

def test_it():
    assert os.getpriority(os.PRIO_PROCESS, 0) == {priority}
    report.calls_completed("a peer", "1.2", {calls})
"""


@pytest.mark.slow
def test_a_run_of_two_processes(tmp_path: Path) -> None:
    """Takes three seconds: it is a pytest run of two processes inside a pytest run."""
    began = os.getpriority(os.PRIO_PROCESS, 0)
    (tmp_path / "conftest.py").write_text((HERE / "conftest.py").read_text())
    lane = tmp_path / "tests" / "interop"
    lane.mkdir(parents=True)
    (lane / "test_call.py").write_text(TEST.format(priority=began, calls=2))
    (tmp_path / "test_sum.py").write_text(TEST.format(priority=min(19, began + overlap.LOWERED), calls=5))
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-c", HERE.parent / "setup.cfg", "--rootdir", tmp_path, "-q", "-n", "2", "."],
        cwd=tmp_path,
        env={**os.environ, "PYTEST_ADDOPTS": "", "PYTHONPATH": str(HERE.parent)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout.count("real peers") == 1 and "a peer 1.2: 7 calls completed" in run.stdout
